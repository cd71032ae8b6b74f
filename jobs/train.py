"""Tunes a vision-language model on scored turns: records in, a checkpoint that vLLM loads out.

    python -m jobs.train --input s3://bucket/run --output s3://bucket/tuned \\
        --model.name llava-hf/llava-1.5-7b-hf --workers.num 8 --workers.sharding fsdp

--objective c3l contrasts each image's turns: the best by --positive-by is raised, the others are
lowered, and the best one's likelihood is learnt. --objective cgvlm aligns the vision adapter's
patches with captions. The tuned model is in model/ of the output, under the names of the model it
was tuned from; measurements.json and tensorboard/ hold how it went. Stopped at any time, the same
command goes on from the latest checkpoint, with the workers that it is given then. Runs on the
cluster that RAY_ADDRESS names, else on this machine.

Where defaults come from: [C-com] a community reproduction of C3L, whose own values are not public;
[L] the recipes of LLaVA-1.5; [CG] our reading of CG-VLM.

Exit status: 0 finished, 2 refused before the start, 1 anything else.
"""

import dataclasses
import datetime
import functools
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from c3l_ray import schema
from c3l_ray.data import cluster, learnable, storage
from c3l_ray.data.commit import Manifest, Output
from c3l_ray.errors import C3LError, Refused
from c3l_ray.inference.checkpoint import check_vlm
from c3l_ray.origin import digest
from c3l_ray.train import examples, export, order
from c3l_ray.train.config import TrainConfig
from jobs import _tuned
from jobs._main import cause, main

MODEL = "model"  # folder in the output


def train(config: TrainConfig) -> None:
    """The job. Raises C3LError, whose exit status says which kind of end it was."""
    started = time.monotonic()
    if Path(config.model.name).is_dir():  # workers stand in other folders
        full = str(Path(config.model.name).absolute())
        config = dataclasses.replace(config, model=dataclasses.replace(config.model, name=full))
    source = Output(config.input, "--input")
    records_run = _run_of(source)
    output = Output(config.output)
    trained_from = check_vlm("--model.name", config.model.name)
    export.check(config.model.name)
    manifests = [manifest for manifest in source.manifests() if manifest.file]
    about = facts(config, records_run.get("origin", ""), trained_from, manifests)
    before = output.read_json("run.json")
    if before and before.get("origin") == digest(about) and before["finished"]:
        print(
            f"finished on {before['finished']}, nothing is left to do\n"
            f"  model    {os.path.join(config.output, MODEL)}"
        )
        return

    from ray.exceptions import RayError
    from ray.train import TrainingFailedError

    from c3l_ray.train import fit, stream

    parts, held_out, standings = learnt_from(source, manifests, config)
    output.claim(digest(about), about)
    cluster.connect(config.workers.num + config.workers.readers)
    gpus = cluster.worker_gpus(config.workers.num, config.workers.gpus)
    config = dataclasses.replace(config, workers=dataclasses.replace(config.workers, gpus=gpus))
    data = stream.Data(
        parts=parts,
        held_out=held_out,
        standings=standings,
        read=functools.partial(learnable.read, source),
    )
    run = fit.Run(config=config, data=data, put=output.put)
    report: dict[str, Any] = {
        "images": order.num_images(parts),
        "held_out": order.num_images(held_out),
        "steps": run.num_steps,
        "objective": config.objective,
        "tuned": config.tune,
        "model": {"trained_from": trained_from, "tuned": None},
        "origin": digest(about),
        "facts": about,
        "config": dataclasses.asdict(config),
        "finished": None,
    }
    output.write_json("run.json", report)
    print(
        f"{report['images']} images to learn from, {report['held_out']} held out; "
        f"{run.num_steps} steps of {config.optim.batch_size} images",
        flush=True,
    )
    try:
        fit.fit(run, storage.address(output.fs, output.root))
    except (RayError, TrainingFailedError) as error:
        raise C3LError(
            f"the training stopped: {cause(error)}\n"
            f"what its processes said is in {cluster.logs()}\n"
            "the same command goes on from the latest checkpoint"
        ) from error
    tuned = storage.address(output.fs, f"{output.root}/{MODEL}")
    report["seconds"] = {"train": round(time.monotonic() - started, 3)}
    report["model"]["tuned"] = check_vlm("--output", tuned)
    report["measured"] = _last_measured(output.read_json("measurements.json") or [])
    if config.verify:
        report["verified_reply"] = _verify(config, source, parts, tuned)
    report["seconds"]["wall"] = round(time.monotonic() - started, 3)
    report["finished"] = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    output.write_json("run.json", report)
    print(closing_summary(report, config.output))


def facts(
    config: TrainConfig, records_origin: str, trained_from: str, manifests: Sequence[Manifest]
) -> dict[str, Any]:
    """What defines the tuned weights up to rounding: not how many workers, nor where."""
    optim = dataclasses.asdict(config.optim)
    return {
        "schema": schema.VERSION,
        "job": "train",
        "objective": config.objective,
        "records": records_origin,
        "records_digest": digest(sorted(learnable.named(manifest) for manifest in manifests)),
        "model": trained_from,
        "tuned": {**dataclasses.asdict(config.model), "name": None, "tune": config.tune},
        "positive_by": config.positive_by,
        "within": config.within,
        "signed_guard": config.signed_guard,
        "margin": config.margin,
        "contrast": dataclasses.asdict(config.contrast),
        "alignment": dataclasses.asdict(config.alignment),
        "optim": {**optim, "learning_rate": config.learning_rate},
        "held_out": [config.progress.held_out, config.progress.max_held_out],
        "max_pixels": config.max_pixels,
    }


def learnt_from(
    source: Output, manifests: Sequence[Manifest], config: TrainConfig
) -> tuple[tuple[order.Part, ...], tuple[order.Part, ...], examples.Standings]:
    """The rows to learn from, those held out, and the standings that they are labelled by.

    Raises:
        Refused: fewer images than a batch can be learnt from.
    """
    by = "i2c" if config.positive_by == "random" else config.positive_by
    standings = {}
    if config.objective == "c3l" and config.within == "kind":
        standings = learnable.standings(source, manifests, by)
    learn, held_out = learnable.rows(
        source,
        manifests,
        functools.partial(examples.usable, config=config, standings=standings),
        scores=sorted({by, "gain"}),
        held_out=config.progress.held_out,
        max_held_out=config.progress.max_held_out,
    )
    parts = tuple(order.Part(name=name, rows=rows) for name, rows in learn)
    images = order.num_images(parts)
    if images < config.optim.batch_size:
        needs = {
            "c3l": f"a positive turn by {config.positive_by} and a negative one",
            "cgvlm": "a caption, or a detail turn",
        }[config.objective]
        raise Refused(
            f"--input {config.input}: {images} images to learn from, fewer than "
            f"--optim.batch-size {config.optim.batch_size}; an image needs {needs}"
        )
    return parts, tuple(order.Part(name=name, rows=rows) for name, rows in held_out), standings


def _run_of(source: Output) -> dict[str, Any]:
    """run.json of the records.

    Raises:
        Refused: there is none, or its records hold no images.
    """
    try:
        run: dict[str, Any] | None = source.read_json("run.json")
    except storage.ERRORS as error:
        raise Refused(f"--input {source.path}: cannot be read: {error}") from error
    if run is None:
        raise Refused(f"--input {source.path}: not the output of a run: it has no run.json")
    if not run.get("facts", {}).get("images", True):
        raise Refused(
            f"--input {source.path}: its records hold no images (they were made with --no-images), "
            "and training needs them"
        )
    if run.get("finished") is None:
        print(f"note: the run in {source.path} is not finished; this learns from what it has now")
    return run


def _verify(config: TrainConfig, source: Output, parts: Sequence[order.Part], tuned: str) -> str:
    (record,) = learnable.read(source, parts[0].name, parts[0].rows[:1])
    turn = next(turn for turn in record["turns"] if turn["status"] == "ok")
    return _tuned.verified(
        tuned,
        image=record["image"],
        instruction=turn["instruction"],
        max_pixels=config.max_pixels,
        gpus=config.workers.gpus or 0,
    )


def closing_summary(run: dict[str, Any], output: str) -> str:
    """What was trained, how it went, and where it lies."""
    measured = run["measured"]

    def shown(*names: str) -> str:
        return ", ".join(
            f"{name} {measured[name]:.4g}" for name in names if measured.get(name) is not None
        )

    lines = [
        f"finished in {run['seconds']['wall']:.0f} s",
        f"  learnt     {run['objective']} ({run['tuned']}) from {run['images']} images, "
        f"{run['steps']} steps",
        f"  at the end {shown('loss', 'contrastive', 'nll')}",
        f"             {shown('positive_similarity', 'negative_similarity')}",
        f"  held out   {shown('held_out_loss', 'held_out_contrastive', 'held_out_nll') or 'none'}",
        f"  speed      {shown('tokens_per_s', 'seconds_per_step', 'data_wait_share', 'mfu')}",
    ]
    if "verified_reply" in run:
        lines.append(f"  in vLLM    {run['verified_reply']!r}")
    lines += [
        f"  model      {os.path.join(output, MODEL)}",
        f"  report     {os.path.join(output, 'run.json')}",
        f"  next       python -m jobs.generate --model.name {os.path.join(output, MODEL)} "
        f"--scorer.name {run['config']['model']['name']} ...",
    ]
    return "\n".join(lines)


def _last_measured(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """The last of every measurement; some stand in some lines only."""
    last: dict[str, Any] = {}
    for line in lines:
        last |= {name: value for name, value in line.items() if value is not None}
    return last


if __name__ == "__main__":
    main(TrainConfig, train, __doc__ or "")
