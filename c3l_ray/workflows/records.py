"""What the jobs share that write records: their end, their summary, and the way between."""

import dataclasses
import os
from pathlib import Path
from typing import Any, TypeVar

from c3l_ray.config import RecordsConfig
from c3l_ray.runs.folder import Output
from c3l_ray.runs.report import Run
from c3l_ray.inputs.units import Shard
from c3l_ray.errors import C3LError, TooManyFailures
from c3l_ray.identity import digest
from jobs.command_line import cause

Config = TypeVar("Config", bound=RecordsConfig)


def absolute(config: Config) -> Config:
    """The config with absolute local paths, for processes that stand elsewhere."""

    def full(concern: Any, name: str) -> Any:
        path = getattr(concern, name)
        if path is None or not Path(path).is_dir():
            return concern
        return dataclasses.replace(concern, **{name: str(Path(path).absolute())})

    names = {"layout": "image_root", "scorer": "name", "clip": "name", "model": "name"}
    concerns = {field.name for field in dataclasses.fields(config)} & set(names)
    changed = {each: full(getattr(config, each), names[each]) for each in concerns}
    return dataclasses.replace(config, **changed)


def write_records(
    config: RecordsConfig,
    found: list[Shard],
    facts: dict[str, Any],
    output: Output,
    *,
    generate: type | None,
) -> None:
    """Makes the records of these shards that are not there yet, on the cluster we have joined.

    Args:
        config: with its GPUs placed.
        found: the whole input.
        facts: what defines a row's content.
        output: claimed for their digest.
        generate: the generating actor's class; None where the input has the turns.

    Raises:
        C3LError: the job cannot go on, or more images failed than the user allows.
    """
    from ray.exceptions import RayError

    from c3l_ray.distributed import cluster, pipeline

    origin = digest(facts)
    state = Run(output, config, facts, origin)
    try:
        units = pipeline.plan(found, config.layout, output)
        state.total_images = sum(unit.rows for unit in units)
        done = set()
        for manifest in output.manifests():
            state.add(manifest, new=False)
            done.add(manifest.unit)
        todo = [unit for unit in units if unit.name not in done]
        print(
            f"{state.total_images} images in {len(found)} shards, {len(units)} units; "
            f"{len(units) - len(todo)} of these are done",
            flush=True,
        )
        state.write()
        state.follow(pipeline.run(config, output, todo, origin, generate=generate))
    except RayError as error:
        state.write()
        raise C3LError(
            f"the job stopped: {cause(error)}\n"
            f"what its processes said is in {cluster.logs()}\n"
            f"{state.images} of {state.total_images} images are committed in {config.output}; "
            "the same command goes on from there"
        ) from error
    output.sweep()
    ended = state.write(finished=True)
    print(closing_summary(ended, config.output))
    failed = state.status["failed"]
    if failed > config.max_failed_share * state.images:
        raise TooManyFailures(
            f"{failed} of {state.images} images failed, over the share of "
            f"{config.max_failed_share} that --max-failed-share allows; what was written stays"
        )


def closing_summary(run: dict[str, Any], output: str) -> str:
    """What a finished run made, what failed and why, and where it lies."""
    lines = [
        f"finished in {run['seconds']['wall']:.0f} s",
        f"  images   {run['images']}: {_listed(run['status'])}",
        f"  turns    {run['turns']}: {_listed(run['turn_status'])}",
        *([f"  tokens   {run['tokens']}"] if run["tokens"] else []),
        *_corrected(run),
        f"  failed   {_listed(run['reasons'])}",
        *(f"           for example {example}" for example in run["examples"].values()),
        f"  records  {os.path.join(output, 'records')}",
        f"  report   {os.path.join(output, 'run.json')}",
        *_lengths(run["length_correlation"]),
        f"  next     python -m jobs.select --input {output} --output DATASET --top 0.1 --by i2c",
    ]
    return "\n".join(lines)


def _listed(counts: dict[str, int]) -> str:
    largest = sorted(counts.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {count}" for name, count in largest) or "none"


def _corrected(run: dict[str, Any]) -> list[str]:
    """How corrections ended, what they cost and did, and one that changed its answer."""
    if not run["corrections"]:
        return []
    counts = run["correction_tokens"]
    lines = [
        f"  answers  corrected: {_listed(run['corrections'])}; "
        f"{counts['kept']} of {counts['generated']} tokens kept"
    ]
    effect = run["corrected"]
    if effect is None or not effect["changed"]:
        return lines
    moved = [
        f"mean {name} {means['drafts']:.3f} before, {means['answers']:.3f} after"
        for name, means in effect["scores"].items()
        if name in ("gain", "visual_ifd") and None not in means.values()
    ]
    example = effect["examples"][0]
    return [
        *lines,
        f"           {effect['changed']} of {effect['turns']} changed; " + "; ".join(moved),
        f"           asked   {example['question']}",
        f"           before  {example['draft']}",
        f"           after   {example['answer']}",
    ]


def _lengths(correlation: dict[str, float | None]) -> list[str]:
    """A note where a score follows the answer's length, so that ranking by it ranks lengths."""
    following = [
        f"{name} {value:+.2f}"
        for name, value in correlation.items()
        if value is not None and abs(value) >= 0.5
    ]
    if not following:
        return []
    return [f"  note     rank correlation with answer length: {', '.join(following)}; see --within"]
