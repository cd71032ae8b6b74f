"""Tunes a vision-language model on turns: records in, a checkpoint that vLLM loads out.

    python -m jobs.train --input s3://bucket/run --output s3://bucket/tuned \\
        --model.name llava-hf/llava-1.5-7b-hf --workers.num 8 --workers.sharding fsdp

--objective c3l contrasts each image's turns: the best by --positive-by is raised, the others are
lowered, and the best one's likelihood is learnt. --objective cgvlm aligns the vision adapter's
patches with captions. --objective vigc teaches to write turns and to answer a question anew, from
the turns that are ok; it also reads LLaVA's JSON as it lies:

    python -m jobs.train --objective vigc --output s3://bucket/tuned \\
        --input conversation_58k.json detail_23k.json --layout.image-root coco/train2017 \\
        --mixture.kinds detail_23k.json=detail --model.name llava-hf/llava-1.5-7b-hf

The tuned model is in model/ of the output, under the names of the model it was tuned from;
measurements.json and tensorboard/ hold how it went. Stopped at any time, the same command goes on
from the latest checkpoint, with the workers that it is given then. Runs on the cluster that
RAY_ADDRESS names, else on this machine.

Where defaults come from: [C-com] a community reproduction of C3L, whose own values are not public;
[L] the recipes of LLaVA-1.5; [CG] our reading of CG-VLM; [V-cfg] the configs of VIGC's authors.

Exit status: 0 finished, 2 refused before the start, 1 anything else.
"""

import dataclasses
import datetime
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from c3l_ray import schema
from c3l_ray.distributed import cluster
from c3l_ray import storage
from c3l_ray.runs.folder import Output
from c3l_ray.errors import C3LError
from c3l_ray.inference.model_check import check_vlm
from c3l_ray.identity import digest
from c3l_ray.train.learning import export
from c3l_ray.train.reading import order
from c3l_ray.train.training_config import TrainConfig
from c3l_ray.workflows import verify
from c3l_ray.train.reading.sources import Source, learnt_from, mixed, source_of
from jobs.command_line import cause, main

MODEL = "model"  # folder in the output
SIMILARITIES = ("positive_similarity", "negative_similarity")


def train(config: TrainConfig) -> None:
    """The job. Raises C3LError, whose exit status says which kind of end it was."""
    started = time.monotonic()
    if Path(config.model.name).is_dir():  # workers stand in other folders
        full = str(Path(config.model.name).absolute())
        config = dataclasses.replace(config, model=dataclasses.replace(config.model, name=full))
    source = source_of(config)
    output = Output(config.output)
    trained_from = check_vlm("--model.name", config.model.name)
    export.check(config.model.name)
    about = facts(config, source, trained_from)
    before = output.read_json("run.json")
    if before and before.get("origin") == digest(about) and before["finished"]:
        print(
            f"finished on {before['finished']}, nothing is left to do\n"
            f"  model    {os.path.join(config.output, MODEL)}"
        )
        return

    from ray.exceptions import RayError
    from ray.train import TrainingFailedError

    from c3l_ray.train import fit
    from c3l_ray.train.reading import stream

    learnt = learnt_from(source, config)
    output.claim(digest(about), about)
    cluster.connect(config.workers.num + config.workers.readers)
    gpus = cluster.worker_gpus(config.workers.num, config.workers.gpus)
    config = dataclasses.replace(config, workers=dataclasses.replace(config.workers, gpus=gpus))
    data = stream.Data(**vars(learnt), read=source.read)
    run = fit.Run(config=config, data=data, put=output.put)
    report: dict[str, Any] = {
        "images": order.num_images(learnt.parts),
        "held_out": order.num_images(learnt.held_out),
        "sets": mixed(learnt, config),
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
        report["verified_reply"] = _verify(config, source, learnt.parts, tuned)
    report["seconds"]["wall"] = round(time.monotonic() - started, 3)
    report["finished"] = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    output.write_json("run.json", report)
    print(closing_summary(report, config.output))


def facts(config: TrainConfig, source: Source, trained_from: str) -> dict[str, Any]:
    """What defines the tuned weights up to rounding: not how many workers, nor where."""
    optim = dataclasses.asdict(config.optim)
    about = {
        "schema": schema.VERSION,
        "job": "train",
        "objective": config.objective,
        "records": source.origin,
        "records_digest": digest(sorted(source.digests)),
        "model": trained_from,
        "tuned": {**dataclasses.asdict(config.model), "name": None, "tune": config.tune},
        "positive_by": config.positive_by,
        "within": config.within,
        "signed_guard": config.signed_guard,
        "margin": config.margin,
        "negatives": config.negatives,
        "contrast": dataclasses.asdict(config.contrast),
        "alignment": dataclasses.asdict(config.alignment),
        "optim": {**optim, "learning_rate": config.learning_rate},
        "held_out": [config.progress.held_out, config.progress.max_held_out],
        "max_pixels": config.max_pixels,
    }
    if config.traits.mixes:
        about["mixture"] = dataclasses.asdict(config.mixture)
        about["history"] = config.layout.history
    return about


def _verify(config: TrainConfig, source: Source, parts: Sequence[order.Part], tuned: str) -> str:
    (record,) = source.read(parts[0].name, parts[0].rows[:1])
    turn = next(turn for turn in record["turns"] if turn["status"] == "ok")
    return verify.verified(
        tuned,
        image=record["image"],
        instruction=turn["instruction"] or turn["question"],
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
        *_mixture(run["sets"]),
        f"  at the end {shown('loss', 'contrastive', 'nll')}",
        *(f"             {each}" for each in [shown(*SIMILARITIES)] if each),
        f"  held out   {shown('held_out_loss', 'held_out_contrastive', 'held_out_nll') or 'none'}",
        f"  speed      {shown('tokens_per_s', 'seconds_per_step', 'data_wait_share', 'mfu')}",
    ]
    if "verified_reply" in run:
        lines.append(f"  in vLLM    {run['verified_reply']!r}")
    lines += [
        f"  model      {os.path.join(output, MODEL)}",
        f"  report     {os.path.join(output, 'run.json')}",
        f"  next       python -m jobs.generate --model.name {os.path.join(output, MODEL)} "
        f"--scorer.name {run['config']['model']['name']}"
        + (" --method vigc --reply-format text ..." if run["objective"] == "vigc" else " ..."),
    ]
    return "\n".join(lines)


def _mixture(sets: dict[str, dict[str, Any]]) -> list[str]:
    listed = (f"{name} {each['share']:.1%} ({each['turns']} turns)" for name, each in sets.items())
    return [f"  mixture    {', '.join(listed)}"] if sets else []


def _last_measured(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """The last of every measurement; some stand in some lines only."""
    last: dict[str, Any] = {}
    for line in lines:
        last |= {name: value for name, value in line.items() if value is not None}
    return last


if __name__ == "__main__":
    main(TrainConfig, train, __doc__ or "")
