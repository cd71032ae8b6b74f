"""What defines the weights that a training makes."""

import dataclasses
from typing import Any

from c3l_ray import schema
from c3l_ray.identity import Identity, digest_json, installed_versions
from c3l_ray.train.reading.sources import Source
from c3l_ray.train.training_config import TrainConfig


def training_identity(config: TrainConfig, source: Source, initial_model: str) -> Identity:
    """What defines the tuned weights up to rounding and what dropout draws.

    How many workers there are, where the data lies, how many images are computed at once, what is
    kept in memory, and how many held-out images are evaluated on is no part of it. The share that
    is held out is: what is held out is not learnt.

    Args:
        config: of the run, with the precision and the date decided
            (`workflows.models.pin_training`).
        source: of the records.
        initial_model: the identity of the model that is tuned.
    """
    spec = config.objective_spec
    content: dict[str, Any] = {
        "schema": schema.VERSION,
        "job": "train",
        "objective": config.objective,
        "input_origin": source.origin,
        "input_digest": digest_json(sorted(source.digests())),
        "model": initial_model,
        "tuning": _list_tuning(config),
        **{name: _list_settings(config, name) for name in spec.settings},
        "optim": _list_optimization(config),
        "held_out": config.progress.held_out,
        "max_pixels": config.image_pixels,
        "prompt_date": config.prompt_date,
        "versions": installed_versions("torch", "transformers"),
    }
    if source.layout is not None:
        layout = dataclasses.asdict(source.layout)
        del layout["image_root"]  # where the data lies is not what it says
        content["layout"] = layout
    return Identity(content)


def _list_settings(config: TrainConfig, name: str) -> dict[str, Any]:
    """The settings of an objective that define the weights."""
    settings = dataclasses.asdict(getattr(config, name))
    if name == "answers":  # when to stop is no part of what is learnt up to there
        del settings["min_readable"], settings["readable_replies"]
    return settings


def _list_tuning(config: TrainConfig) -> dict[str, Any]:
    """The settings of the tuning that define the weights."""
    tuning = {**dataclasses.asdict(config.model), "tune": config.tune_mode}
    del tuning["name"], tuning["revision"], tuning["activation_checkpointing"]
    if config.tune_mode != "lora":
        tuning = {name: value for name, value in tuning.items() if not name.startswith("lora_")}
    return tuning


def _list_optimization(config: TrainConfig) -> dict[str, Any]:
    """The settings of the optimization that define the weights."""
    optim = {**dataclasses.asdict(config.optim), "learning_rate": config.peak_learning_rate}
    if not _contrasts_micro_batches(config):
        del optim["micro_batch"]
    return optim


def _contrasts_micro_batches(config: TrainConfig) -> bool:
    """Whether the images that a worker computes at once are each other's negatives."""
    match config.objective:
        case "c3l":
            return config.contrast.in_batch_negatives
        case "cgvlm":
            return config.alignment.negatives == "micro-batch"
        case _:
            return False
