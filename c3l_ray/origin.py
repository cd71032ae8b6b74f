"""What defines a row's content, and the name of it: the row's `origin`.

How many processes do the work, and where they, the data and the models lie, is not part of it.
"""

import dataclasses
import hashlib
import json
from typing import Any

from c3l_ray import schema
from c3l_ray.config import INSTRUCTIONS, GenerateConfig, RecordsConfig, ScoreConfig
from c3l_ray.methods import c3l, vigc


def facts(config: GenerateConfig, *, model: str, scorer: str, clip: str) -> dict[str, Any]:
    """What defines the content of a row, given the identities of the three models' weights."""
    prompts: list[Any] = [INSTRUCTIONS[config.method], c3l.FORMATS]
    if config.corrects:
        prompts += [vigc.GO_ON, vigc.GO_ON_ASKS, vigc.STOPS]
    return {
        **_measured(config, scorer, clip),
        "method": config.method,
        "prompts": digest(prompts),
        "correction": dataclasses.asdict(config.correction) if config.corrects else None,
        "reply_format": config.reply_format,
        "turns": config.turns,
        "model": model,
        "model_dtype": config.model.dtype,
        "model_max_len": config.model.max_len,
        "sampling": dataclasses.asdict(config.sampling),
    }


def score_facts(config: ScoreConfig, *, scorer: str, clip: str) -> dict[str, Any]:
    """What defines the content of a row whose turns were given."""
    return {**_measured(config, scorer, clip), "method": "given"}


def _measured(config: RecordsConfig, scorer: str, clip: str) -> dict[str, Any]:
    layout = dataclasses.asdict(config.layout)
    del layout["image_root"]  # where the data lies is not what it says
    return {
        "schema": schema.VERSION,
        "scorer": scorer,
        "scorer_dtype": config.scorer.dtype,
        "scorer_without": config.scorer.without,
        "token_gain": config.token_gain,
        "clip": clip,
        "layout": layout,
        "max_pixels": config.max_pixels,
        "images": config.images,
    }


def digest(content: Any) -> str:
    """A name for JSON content: 16 hex digits that change when the content does."""
    text = json.dumps(content, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
