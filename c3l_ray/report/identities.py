"""What defines runs, trainings and benchmarks, side by side."""

from collections.abc import Mapping, Sequence
from typing import Any

from c3l_ray.no_score import lacks_scores
from c3l_ray.report.gather import Benchmark, Findings, Run, Training
from c3l_ray.report.tables import Table, count_up, tabulate

DIGEST_DIGITS = 12


def make_identity_table(findings: Findings) -> Table:
    """What defines each run, side by side."""
    return tabulate([run.name for run in findings.runs], [_identify(run) for run in findings.runs])


def make_training_table(trainings: Sequence[Training]) -> Table:
    """What defines each training, and what came of it."""
    return tabulate(
        [training.name for training in trainings], [_identify_training(one) for one in trainings]
    )


def make_benchmark_table(benchmarks: Sequence[Benchmark]) -> Table:
    """What defines each benchmark's answers."""
    return tabulate([one.name for one in benchmarks], [_identify_benchmark(o) for o in benchmarks])


def _describe_state(report: Mapping[str, Any], images: int | None = None) -> str:
    """Whether a job has finished, and how far it is where it has not."""
    if report.get("finished"):
        return f"finished {_format_time(report['finished'])}"
    total = report.get("total_images")
    state = report.get("state") or "not finished"
    if images is None:
        return str(state)
    return f"{state}: {count_up(images)} of {count_up(total) if total is not None else '?'} images"


def _identify(run: Run) -> dict[str, str]:
    report = run.report
    identity, config = report.get("identity") or {}, report.get("config") or {}
    sampling = identity.get("sampling") or {}
    versions = [identity.get("versions") or {}, *(report.get("versions") or [])]
    return {
        "job": str(report.get("job", "-")),
        "state": _describe_state(report, run.counts.images),
        "error": str(report.get("error") or "-"),
        "started": _format_time(str(report.get("started") or "-")),
        "latest command": _describe_command(report),
        "folder": run.folder.location.address,
        "input": ", ".join(map(str, config.get("input") or ["-"])),
        "generator": _describe_model(config.get("model"), identity.get("model"), identity, "model"),
        "scoring model": _describe_model(
            config.get("scorer"), identity.get("scorer"), identity, "scorer"
        ),
        "without the image": str(identity.get("scorer_baseline") or "-"),
        "CLIP": "-"
        if lacks_scores(report)
        else _describe_model(config.get("clip"), identity.get("clip"), {}, "clip"),
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
        "state": _describe_state(report),
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


def _identify_benchmark(benchmark: Benchmark) -> dict[str, str]:
    report, result = benchmark.report, benchmark.result or {}
    identity, config = report.get("identity") or {}, report.get("config") or {}
    suffix = identity.get("suffix")
    return {
        "benchmark": str(result.get("source") or identity.get("benchmark", "-")),
        "state": _describe_state(report, benchmark.counts.images),
        "error": str(report.get("error") or "-"),
        "latest command": _describe_command(report),
        "folder": benchmark.folder.location.address,
        "questions": f"{config.get('data', '-')}, digest {identity.get('questions', '-')}",
        "model": _describe_model(config.get("model"), identity.get("model"), identity, "model"),
        "after each question": "nothing" if suffix == "" else str(suffix or "-"),
        "longest answer, in tokens": str(identity.get("max_tokens", "-")),
        "versions": _list_versions(identity.get("versions") or {}) or "-",
        "origin": str(report.get("origin", "-")),
    }


def _describe_command(report: Mapping[str, Any]) -> str:
    """The latest command as it was typed, and its machine, where run.json has them."""
    commands = report.get("commands")
    if not isinstance(commands, list) or not commands:
        return "-"
    command = commands[-1]
    host = f" (on {command['host']})" if command.get("host") else ""
    return f"{command.get('command', '-')}{host}"


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


def _format_time(time: str) -> str:
    return time.replace("T", " ").replace("+00:00", " UTC")
