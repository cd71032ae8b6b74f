"""What a report says of its runs without reading turns: identity, counts, notes and speed."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from c3l_ray.report.figures import format_number
from c3l_ray.report.gather import Findings, Run, Training

SMALL = 0.01
DIGEST_DIGITS = 12


class Table(NamedTuple):
    """A table of texts: the first column names the rows.

    Attributes:
        head: of all columns.
        rows: each with a cell for every column.
        is_numeric: whether the cells after the first are numbers, which are aligned as such.
    """

    head: list[str]
    rows: list[list[str]]
    is_numeric: bool = True


@dataclass(frozen=True, kw_only=True)
class Tile:
    """A figure at the head of the page, what it counts, and what belongs to it."""

    value: str
    name: str
    detail: str = ""


def count_up(number: int) -> str:
    return f"{number:,}"


def format_share(part: float, whole: float) -> str:
    """A share in percent, or a dash where there is no whole."""
    return f"{100 * part / whole:.1f} %" if whole else "-"


def format_value(value: float | None) -> str:
    """A measured number, with three digits behind the point unless it is small; or a dash."""
    if value is None or value != value:
        return "-"
    return format_number(value) if 0 < abs(value) < SMALL else f"{value:.3f}"


def describe_state(report: Mapping[str, Any], images: int | None = None) -> str:
    """Whether a job has finished, and how far it is where it has not."""
    if report.get("finished"):
        return f"finished {_format_time(report['finished'])}"
    total = report.get("total_images")
    state = report.get("state") or "not finished"
    if images is None:
        return str(state)
    return f"{state}: {count_up(images)} of {count_up(total) if total is not None else '?'} images"


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


def make_identity_table(findings: Findings) -> Table:
    """What defines each run, side by side."""
    return _turn_columns(
        [run.name for run in findings.runs], [_identify(run) for run in findings.runs]
    )


def make_training_table(trainings: Sequence[Training]) -> Table:
    """What defines each training, and what came of it."""
    return _turn_columns(
        [training.name for training in trainings], [_identify_training(one) for one in trainings]
    )


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
    """How fast each run went as a whole, as its run.json says."""
    columns = []
    for run in runs:
        report, counts = run.report, run.counts
        wall = (report.get("seconds") or {}).get("wall")
        column = {"seconds of the latest command": "-" if wall is None else f"{wall:,.1f}"}
        for key, name in (("images_per_s", "images a second"), ("minutes_left", "minutes left")):
            if isinstance(report.get(key), int | float):
                column[name] = f"{report[key]:,.2f}"
        column["tokens generated"] = count_up(counts.tokens)
        column["tokens for an image"] = (
            f"{counts.tokens / counts.images:.1f}" if counts.images else "-"
        )
        columns.append(column)
    return _turn_columns([run.name for run in runs], columns)._replace(is_numeric=True)


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
    return _turn_columns([run.name for run in corrected], columns)._replace(is_numeric=True)


def _identify(run: Run) -> dict[str, str]:
    report = run.report
    identity, config = report.get("identity") or {}, report.get("config") or {}
    sampling = identity.get("sampling") or {}
    versions = [identity.get("versions") or {}, *(report.get("versions") or [])]
    return {
        "job": str(report.get("job", "-")),
        "state": describe_state(report, run.counts.images),
        "folder": run.folder.location.address,
        "input": ", ".join(map(str, config.get("input") or ["-"])),
        "generator": _describe_model(config.get("model"), identity.get("model"), identity, "model"),
        "scoring model": _describe_model(
            config.get("scorer"), identity.get("scorer"), identity, "scorer"
        ),
        "without the image": str(identity.get("scorer_baseline", "-")),
        "CLIP": _describe_model(config.get("clip"), identity.get("clip"), {}, "clip"),
        "method": str(identity.get("method", "-")),
        "prompts": f"digest {identity['prompts']}" if identity.get("prompts") else "-",
        "reply format": str(identity.get("reply_format", "-")),
        "turns per image": str(identity.get("turns_per_image", "-")),
        "sampling": ", ".join(f"{name} {value}" for name, value in sampling.items()) or "-",
        "scored as": ", ".join(
            f"{how} ({count} units)" for how, count in run.counts.scoring.items()
        )
        or "-",
        "versions": "; ".join(dict.fromkeys(map(_list_versions, filter(None, versions)))) or "-",
        "origin": str(report.get("origin", "-")),
    }


def _identify_training(training: Training) -> dict[str, str]:
    report = training.report
    identity, config = report.get("identity") or {}, report.get("config") or {}
    models, seconds = report.get("model") or {}, report.get("seconds") or {}
    return {
        "state": describe_state(report),
        "folder": training.folder.location.address,
        "objective": str(report.get("objective", identity.get("objective", "-"))),
        "tuned": str(report.get("tune", "-")),
        "model": _describe_model(config.get("model"), models.get("initial"), {}, "model"),
        "tuned weights": str(models.get("tuned", "-"))[:DIGEST_DIGITS],
        "images": _describe_images(report),
        "steps": str(report.get("steps", "-")),
        "learning rate": str((identity.get("optim") or {}).get("learning_rate", "-")),
        "batch size": str((identity.get("optim") or {}).get("batch_size", "-")),
        "seconds": ", ".join(f"{name} {value:,.0f}" for name, value in seconds.items()) or "-",
        "skipped": ", ".join(f"{name} {n}" for name, n in (report.get("skipped") or {}).items())
        or "none",
        "reply in vLLM": str(report.get("verified_reply") or "-").strip(),
    }


def _describe_images(report: Mapping[str, Any]) -> str:
    if "images" not in report:
        return "-"
    return (
        f"{count_up(report['images'])} to learn from, {report.get('held_out_images', 0)} held out, "
        f"{report.get('left_out_images', 0)} left out"
    )


def _describe_model(
    config: Mapping[str, Any] | None, digest: Any, identity: Mapping[str, Any], concern: str
) -> str:
    """A model's name, its precision and what identifies its weights."""
    name = (config or {}).get("name")
    if not name:
        return "-"
    facts = [identity.get(f"{concern}_dtype"), *(identity.get(f"{concern}_template_args") or ())]
    digest = str(digest)[:DIGEST_DIGITS] if digest else None
    return ", ".join(str(fact) for fact in (name, *facts, digest) if fact)


def _list_versions(versions: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items() if version)


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


def _turn_columns(names: Iterable[str], columns: Sequence[Mapping[str, str]]) -> Table:
    """A table whose columns are these; what is a dash everywhere is left out."""
    labels = list(dict.fromkeys(label for column in columns for label in column))
    rows = [[label, *(column.get(label, "-") for column in columns)] for label in labels]
    return Table(["", *names], [row for row in rows if {*row[1:]} != {"-"}], is_numeric=False)


def _per_image(turns: int, run: Run) -> str:
    return f"{turns / run.counts.images:.1f} for an image" if run.counts.images else ""


def _format_time(time: str) -> str:
    return time.replace("T", " ").replace("+00:00", " UTC")
