"""Tunes a vision-language model on scored turns: records in, a checkpoint that vLLM loads out.

    python -m jobs.train --input s3://bucket/run --output s3://bucket/tuned \\
        --model.name llava-hf/llava-1.5-7b-hf --workers.num 8 --workers.sharding fsdp

--objective c3l contrasts each image's turns: the best by --positive-by is raised, the others are
lowered, and the best one's likelihood is learnt. --objective cgvlm aligns the vision adapter's
patches with captions. The tuned model is in model/ of the output, under the names of the model it
was tuned from; measurements.json and tensorboard/ hold how it went. Stopped at any time, the same
command goes on from the latest checkpoint, with the workers that it is given then. Runs on the
cluster that RAY_ADDRESS names, else on this machine.

Exit status: 0 finished, 2 refused before the start, 1 anything else.
"""

import dataclasses
import datetime
import functools
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from c3l_ray import schema
from c3l_ray.config import digest
from c3l_ray.data import cluster, learnable, storage
from c3l_ray.data.commit import Manifest, Output
from c3l_ray.errors import C3LError, Refused
from c3l_ray.inference.checkpoint import check_vlm
from c3l_ray.methods import cgvlm
from c3l_ray.train import examples, export, order
from c3l_ray.train.config import TrainConfig
from jobs._main import main
from jobs._verify import verified


def train(config: TrainConfig) -> None:
    """The job. Raises C3LError, whose exit status says which kind of end it was."""
    started = time.monotonic()
    if Path(config.model.name).is_dir():  # workers stand elsewhere
        full = str(Path(config.model.name).absolute())
        config = dataclasses.replace(config, model=dataclasses.replace(config.model, name=full))
    source = Output(config.input, "--input")
    records_run = _run_of(source)
    output = Output(config.output)
    identity = check_vlm("--model.name", config.model.name)
    export.check(config.model.name)
    manifests = [manifest for manifest in source.manifests() if manifest.file]
    about = facts(config, records_run, identity, manifests)
    output.claim(digest(about), about)
    tuned = os.path.join(config.output, "model")
    before = output.read_json("run.json")
    if before and before["finished"]:
        print(f"this run was finished on {before['finished']}; the tuned model is in {tuned}")
        return

    from ray.exceptions import RayError
    from ray.train import TrainingFailedError

    from c3l_ray.train import fit

    data = learnt_from(source, manifests, config)
    cluster.connect(config.workers.num + config.workers.readers)
    config = dataclasses.replace(config, workers=placed(config))
    run = fit.Run(config=config, data=data, put=output.put)
    report: dict[str, Any] = {
        "images": order.num_images(data.parts),
        "held_out": order.num_images(data.held_out),
        "steps": run.num_steps,
        "objective": config.objective,
        "tuned": config.tune,
        "model": {"trained_from": identity},
        "origin": digest(about),
        "facts": about,
        "config": dataclasses.asdict(config),
        "finished": None,
    }
    output.write_json("run.json", report)
    print(
        f"{report['images']} images to learn from, {report['held_out']} held out; "
        f"{run.num_steps} steps of {config.optim.batch_size} on {config.workers.num} workers",
        flush=True,
    )
    try:
        fit.fit(run, output.storage_path)
        trained_s = time.monotonic() - started
        reply = verified(config, output, source, data) if config.verify else None
    except (RayError, TrainingFailedError) as error:
        raise C3LError(
            f"the training stopped: {_cause(error)}\n"
            f"what its processes said is in {cluster.logs()}\n"
            "the same command goes on from the latest checkpoint"
        ) from error
    measured = {k: v for line in output.read_json(fit.MEASUREMENTS) or [] for k, v in line.items()}
    report |= {
        "measured": measured,
        "verified_reply": reply,
        "seconds": {"train": round(trained_s, 3), "wall": round(time.monotonic() - started, 3)},
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    report["model"]["tuned"] = output.digest_of("model")
    output.write_json("run.json", report)
    print(closing_summary(report, config.output))
