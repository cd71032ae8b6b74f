"""What a report says of its runs without reading turns: counts, notes and speed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from c3l_ray.no_score import lacks_scores
from c3l_ray.report.gather import Findings, Run
from c3l_ray.report.tables import Table, count_up, format_share, format_value, tabulate


@dataclass(frozen=True, kw_only=True)
class Tile:
    """A figure at the head of the page, what it counts, and what belongs to it."""

    value: str
    name: str
    detail: str = ""


def make_tiles(findings: Findings) -> list[Tile]:
    """What the latest run and its selection come to."""
    if not findings.runs:
        return []
    run = findings.runs[-1]
    counts, ok = run.counts, run.counts.turn_status.get("ok", 0)
    failed = counts.status.get("failed", 0)
    tiles = [
        Tile(value=count_up(counts.images), name="images", detail=f"of {run.name}"),
        Tile(value=count_up(failed), name="failed", detail=format_share(failed, counts.images)),
        Tile(value=count_up(counts.turns), name="turns", detail=_per_image(counts.turns, run)),
        Tile(value=format_share(ok, counts.turns), name="of them usable", detail=count_up(ok)),
    ]
    for dataset in findings.datasets_of(run):
        kept = dataset.selection.get("turns", 0)
        tiles.append(
            Tile(
                value=count_up(kept), name="turns kept", detail=f"by {dataset.selection.get('by')}"
            )
        )
    return tiles


def make_image_table(runs: Sequence[Run]) -> Table:
    """Images by status and failures by reason; each sum is that of the lines above it."""
    return _count_table(
        "images",
        runs,
        [run.counts.status for run in runs],
        [run.counts.images for run in runs],
    )


def make_turn_table(runs: Sequence[Run]) -> Table:
    """Turns by status, and their sum."""
    return _count_table(
        "turns",
        runs,
        [run.counts.turn_status for run in runs],
        [run.counts.turns for run in runs],
    )


def find_miscounts(runs: Sequence[Run]) -> list[str]:
    """What does not add up in the counts of runs: nothing, unless something is broken."""
    found = []
    for run in runs:
        counts = run.counts
        failed = counts.status.get("failed", 0)
        total = run.report.get("total_images")
        if run.report.get("finished") and total is not None and total != counts.images:
            found.append(f"{run.name}: {counts.images:,} images are committed, of {total:,} found")
        for name, parts, whole in (
            ("images by status", counts.status, counts.images),
            ("failed images by reason", counts.reasons, failed),
            ("turns by status", counts.turn_status, counts.turns),
        ):
            if sum(parts.values()) != whole:
                found.append(f"{run.name}: {name} are {sum(parts.values()):,}, not {whole:,}")
    return found


def list_notes(findings: Findings) -> list[tuple[str, str, str]]:
    """What processes wanted the user to know: run, note, and how often it was said."""
    notes = [
        (run.name, note, f"{count:,} units")
        for run in findings.runs
        for note, count in run.counts.notes.items()
    ]
    notes += [
        (
            run.name,
            f"scoring failed: {run.counts.fault_examples.get(fault, fault)}",
            f"{count:,} turns",
        )
        for run in findings.runs
        for fault, count in run.counts.faults.items()
    ]
    notes += [
        (training.name, str(note), "")
        for training in findings.trainings
        for note in training.report.get("notes") or ()
    ]
    return notes


def make_speed_table(runs: Sequence[Run]) -> Table:
    """Seconds of each stage of each run, summed over its units, and for an image."""
    rows = []
    for run in runs:
        seconds, images = run.counts.seconds, run.counts.images
        for stage, spent in sorted(seconds.items()):
            for_image = f"{spent / images:.3f}" if images else "-"
            share = format_share(spent, sum(seconds.values()))
            rows.append([f"{run.name} {stage}", f"{spent:,.1f}", for_image, share])
    return Table(["", "seconds", "seconds for an image", "share of the run"], rows)


def make_pace_table(runs: Sequence[Run]) -> Table:
    """How fast each run went as a whole, as its run.json says; speeds are without the boot."""
    columns = []
    for run in runs:
        report, counts = run.report, run.counts
        seconds = report.get("seconds") or {}
        wall, boot = seconds.get("wall"), seconds.get("boot")
        column = {
            "seconds of the latest command": "-" if wall is None else f"{wall:,.1f}",
            "of these to its first unit (boot)": "-" if boot is None else f"{boot:,.1f}",
            "of these at work": "-" if wall is None or boot is None else f"{wall - boot:,.1f}",
        }
        for key, name in (("images_per_s", "images a second"), ("minutes_left", "minutes left")):
            if isinstance(report.get(key), int | float):
                column[name] = f"{report[key]:,.2f}"
        column |= _measure_cost(report)
        column["tokens generated"] = count_up(counts.tokens)
        column["tokens for an image"] = (
            f"{counts.tokens / counts.images:.1f}" if counts.images else "-"
        )
        columns.append(column)
    return tabulate([run.name for run in runs], columns)._replace(is_numeric=True)


def _measure_cost(report: Mapping[str, Any]) -> dict[str, str]:
    """Images for an hour of a GPU, or an hour of a run that uses none."""
    rate, gpus = report.get("images_per_s"), _count_gpus(report)
    if gpus is None:
        return {}
    told = {"GPUs": f"{gpus:g}"}
    if isinstance(rate, int | float):
        name = "images for an hour of a GPU" if gpus else "images an hour, of all nodes together"
        told[name] = f"{3600 * rate / (gpus or 1):,.0f}"
    return told


def _count_gpus(report: Mapping[str, Any]) -> float | None:
    """The GPUs of all processes of the latest command; None where run.json does not say it."""
    pools = (report.get("config") or {}).get("pools")
    if not isinstance(pools, Mapping):
        return None
    names = ["generator"] if lacks_scores(report) else ["generator", "scorer"]
    shares = [
        (pools.get(f"{name}s") or 1, pools[f"{name}_gpus"])
        for name in names
        if f"{name}_gpus" in pools
    ]
    if not shares or any(gpus is None for _, gpus in shares):
        return None
    return float(sum(processes * gpus for processes, gpus in shares))


def make_correction_table(runs: Sequence[Run]) -> Table | None:
    """How corrections ended, and what they cost; None where no answer was corrected."""
    corrected = [run for run in runs if run.counts.correction_outcomes]
    if not corrected:
        return None
    outcomes = sorted({name for run in corrected for name in run.counts.correction_outcomes})
    columns = []
    for run in corrected:
        counts = run.counts
        column = {name: count_up(counts.correction_outcomes.get(name, 0)) for name in outcomes}
        column["corrected turns"] = count_up(sum(counts.correction_outcomes.values()))
        effect = run.report.get("correction_effect")
        if effect:
            column["changed, of those measured"] = f"{effect['changed']:,} of {effect['turns']:,}"
            for score, means in effect["scores"].items():
                if score in ("gain", "visual_ifd", "image_logprob") and None not in means.values():
                    column[f"mean {score}, draft"] = format_value(means["drafts"])
                    column[f"mean {score}, answer"] = format_value(means["answers"])
        column["tokens generated for it"] = count_up(counts.correction_tokens.get("generated", 0))
        column["tokens kept"] = count_up(counts.correction_tokens.get("kept", 0))
        columns.append(column)
    return tabulate([run.name for run in corrected], columns)._replace(is_numeric=True)


def _count_table(
    what: str, runs: Sequence[Run], parts: Sequence[Mapping[str, int]], sums: Sequence[int]
) -> Table:
    names = sorted(
        {name for counted in parts for name in counted},
        key=lambda name: (name != "ok", -sum(counted.get(name, 0) for counted in parts), name),
    )
    rows = [[name, *(count_up(counted.get(name, 0)) for counted in parts)] for name in names]
    return Table(
        head=[what, *(run.name for run in runs)],
        rows=[*rows, [f"all {what}", *map(count_up, sums)]],
    )


def _per_image(turns: int, run: Run) -> str:
    return f"{turns / run.counts.images:.1f} for an image" if run.counts.images else ""
