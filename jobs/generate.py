"""Writes scored question-answer turns for images: shards in, records out.

    python -m jobs.generate --input s3://bucket/shards --output s3://bucket/run \\
        --model.name llava-hf/llava-1.5-7b-hf --pools.generators 8

Each image gets M turns from the model, and each turn its scores: how likely its answer is with
the image and without it, how far the two beliefs lie apart (I2C), and CLIP's cosine. Records are
Parquet, one row an image; a bad image is a row that says why. Stopped at any time, the same
command goes on where it was. Runs on the cluster that RAY_ADDRESS names, else on this machine.

Exit status: 0 finished, 2 refused before the start, 4 more failed images than --max-failed-share,
1 anything else.
"""

import dataclasses
import os

from c3l_ray.config import GenerateConfig, absolute, digest, facts
from c3l_ray.data.commit import Output
from c3l_ray.data.run import Run
from c3l_ray.data.shards import find_shards
from c3l_ray.errors import C3LError, TooManyFailures
from c3l_ray.inference.checkpoint import check_clip, check_vlm, reply_format
from jobs._main import main


def generate(config: GenerateConfig) -> None:
    """The job. Raises C3LError, whose exit status says which kind of end it was."""
    config = absolute(config)
    found = find_shards(config.input, config.layout)
    output = Output(config.output)
    if config.scorer.name is None:
        print(f"scorer: {config.scorer_name}, the generator itself (--scorer.name)")
    model = check_vlm("--model.name", config.model.name)
    own = config.scorer_name == config.model.name
    identities = {
        "model": model,
        "scorer": model if own else check_vlm("--scorer.name", config.scorer_name),
        "clip": check_clip(config.clip.name, config.clip.weights),
    }
    if config.reply_format == "auto":
        config = dataclasses.replace(config, reply_format=reply_format(config.model.name))
    made_by = facts(config, **identities)
    origin = digest(made_by)
    output.claim(origin, made_by)
    from ray.exceptions import RayError

    from c3l_ray.data import cluster, pipeline

    cluster.connect(config)
    config = cluster.placed(config)
    state = Run(output, config, made_by, origin)
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
        state.follow(pipeline.run(config, output, todo, origin))
    except RayError as error:
        state.write()
        raise C3LError(
            f"the job stopped: {_cause(error)}\n"
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


def closing_summary(run: dict[str, object], output: str) -> str:
    """What a finished run made, what failed and why, and where it lies."""

    def listed(counts: object) -> str:
        assert isinstance(counts, dict)
        largest = sorted(counts.items(), key=lambda item: -item[1])
        return ", ".join(f"{name} {count}" for name, count in largest) or "none"

    corrected = []
    if run["corrections"]:
        counts = run["correction_tokens"]
        assert isinstance(counts, dict)
        corrected = [
            f"  answers  corrected: {listed(run['corrections'])}; "
            f"{counts['kept']} of {counts['generated']} tokens kept"
        ]
    seconds, examples = run["seconds"], run["examples"]
    assert isinstance(seconds, dict) and isinstance(examples, dict)
    lines = [
        f"finished in {seconds['wall']:.0f} s",
        f"  images   {run['images']}: {listed(run['status'])}",
        f"  turns    {run['turns']}: {listed(run['turn_status'])}",
        f"  tokens   {run['tokens']}",
        *corrected,
        f"  failed   {listed(run['reasons'])}",
        *(f"           for example {example}" for example in examples.values()),
        f"  records  {os.path.join(output, 'records')}",
        f"  report   {os.path.join(output, 'run.json')}",
        *_lengths(run["length_correlation"]),
        f"  next     python -m jobs.select --input {output} --output DATASET --top 0.1 --by i2c",
    ]
    return "\n".join(lines)


def _lengths(correlation: object) -> list[str]:
    """A note where a score follows the answer's length, so that ranking by it ranks lengths."""
    assert isinstance(correlation, dict)
    following = [
        f"{name} {value:+.2f}"
        for name, value in correlation.items()
        if value is not None and abs(value) >= 0.5
    ]
    if not following:
        return []
    return [f"  note     rank correlation with answer length: {', '.join(following)}; see --within"]


def _cause(error: Exception) -> str:
    """The last line that says something: Ray wraps the cause in the traces of its processes."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


if __name__ == "__main__":
    main(GenerateConfig, generate, __doc__ or "")
