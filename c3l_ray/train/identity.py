"""What defines the weights that a training makes."""

import dataclasses
from typing import Any

from c3l_ray import schema
from c3l_ray.identity import Identity, digest_json
from c3l_ray.train.reading.sources import Source
from c3l_ray.train.training_config import TrainConfig


def training_identity(config: TrainConfig, source: Source, initial_model: str) -> Identity:
    """What defines the tuned weights up to rounding: not how many workers, nor where.

    Args:
        config: of the run.
        source: of the records.
        initial_model: the identity of the model that is tuned.
    """
    content: dict[str, Any] = {
        "schema": schema.VERSION,
        "job": "train",
        "objective": config.objective,
        "input_origin": source.origin,
        "input_digest": digest_json(sorted(source.digests())),
        "model": initial_model,
        "tuning": {**dataclasses.asdict(config.model), "name": None, "tune": config.tune_mode},
        "labels": dataclasses.asdict(config.labels),
        "contrast": dataclasses.asdict(config.contrast),
        "alignment": dataclasses.asdict(config.alignment),
        "optim": {
            **dataclasses.asdict(config.optim),
            "learning_rate": config.peak_learning_rate,
        },
        "held_out": [config.progress.held_out, config.progress.max_held_out],
        "max_pixels": config.image_pixels,
    }
    if config.objective_spec.draws_single_turns:
        content["mixture"] = dataclasses.asdict(config.mixture)
        content["history"] = config.layout.history
    return Identity(content)
