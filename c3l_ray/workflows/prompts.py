"""What a job settles of prompts before it starts: template arguments, and the format of replies."""

import dataclasses
import logging
from typing import Any, TypeVar

from c3l_ray import chat
from c3l_ray.config import INSTRUCTIONS, GenerateConfig, GeneratingConfig, ScoreConfig
from c3l_ray.errors import PreflightError
from c3l_ray.inputs.instructions import read_instructions
from c3l_ray.model_config import GeneratorModel, ScorerModel
from c3l_ray.model_files import resolve_model
from c3l_ray.processors import (
    THINKING_SWITCH,
    inspect_processor,
    is_thinking_on,
    keep_known_args,
    list_template_args,
    resolve_template_args,
    with_template_args,
)
from c3l_ray.train.training_config import TrainConfig

Generating = TypeVar("Generating", bound=GeneratingConfig)
WritingTurns = TypeVar("WritingTurns", bound=GenerateConfig)

MODEL_FLAG, SCORER_FLAG = "--model.template-args", "--scorer.template-args"

log = logging.getLogger(__name__)


def settle_template_args(config: Generating) -> Generating:
    """The config with all template arguments.

    The scorer takes those of the generator that it knows, unless it has its own.

    Raises:
        PreflightError: a template does not know one of them.
    """
    name = config.model.name
    source, scorer_source = _source_of(config.model), _source_of(config.scorer)
    args = resolve_template_args(MODEL_FLAG, name, config.model.template_args, **source)
    model = dataclasses.replace(config.model, template_args=args)
    if not config.is_scored:
        return dataclasses.replace(config, model=model)
    if config.scorer.template_args:
        scorer_args = resolve_template_args(
            SCORER_FLAG, config.scorer_name, config.scorer.template_args, **scorer_source
        )
    else:
        scorer_args = keep_known_args(config.scorer_name, args, **scorer_source)
    return dataclasses.replace(
        config,
        model=model,
        scorer=dataclasses.replace(config.scorer, template_args=scorer_args),
    )


def settle_instructions(config: WritingTurns) -> WritingTurns:
    """The config with the wordings of its file of instructions, if it names one.

    Raises:
        PreflightError: the file cannot be read, or is none of instructions.
    """
    if config.instructions is None:
        return config
    kinds = tuple(INSTRUCTIONS[config.method])
    return dataclasses.replace(config, wordings=read_instructions(config.instructions, kinds))


def settle_generation(config: WritingTurns) -> WritingTurns:
    """The config with all template arguments, and with the format of replies.

    Raises:
        PreflightError: as `settle_template_args`; a wording holds a special token; or JSON is asked
            of a model that thinks first: the engine holds a reply to JSON from its first token on.
    """
    config = settle_template_args(config)
    name, source = config.model.name, _source_of(config.model)
    processor = with_template_args(
        inspect_processor(resolve_model(name), **source), config.model.template_args
    )
    _check_special_tokens(config, processor)
    thinks = is_thinking_on(processor) or chat.opens_thought(processor)
    if config.reply_format == "auto":
        from c3l_ray.inference.model_check import choose_reply_format

        reply_format = "text" if thinks else choose_reply_format(name, **source)
        return dataclasses.replace(config, reply_format=reply_format)
    if config.reply_format == "json" and thinks:
        remedy = "--reply-format text"
        if THINKING_SWITCH in list_template_args(processor):
            remedy += f", or {MODEL_FLAG} {THINKING_SWITCH}=false"
        raise PreflightError(
            f"--reply-format json: {name} thinks before it replies, which JSON forbids; take "
            f"{remedy}"
        )
    return config


def _check_special_tokens(config: GenerateConfig, processor: Any) -> None:
    """Refuses wordings that would change the structure of the prompt.

    Raises:
        PreflightError: a wording holds a special token.
    """
    for kind, wordings in (config.wordings or {}).items():
        for wording in wordings:
            for token in sorted(chat.special_tokens(processor)):
                if token in wording:
                    raise PreflightError(
                        f"--instructions {config.instructions}: {wording!r} of {kind} holds "
                        f"{token}, a special token of {config.model.name}"
                    )


def settle_scoring(config: ScoreConfig) -> ScoreConfig:
    """The config with all template arguments.

    Raises:
        PreflightError: the template does not know one of them.
    """
    args = resolve_template_args(
        SCORER_FLAG,
        config.scorer_name,
        config.scorer.template_args,
        **_source_of(config.scorer),
    )
    return dataclasses.replace(
        config, scorer=dataclasses.replace(config.scorer, template_args=args)
    )


def settle_training(config: TrainConfig) -> TrainConfig:
    """The config with all template arguments; warns where generation has another prompt.

    Raises:
        PreflightError: the template does not know one of them.
    """
    name = config.model.name
    revision = config.model.revision
    args = resolve_template_args(MODEL_FLAG, name, config.model.template_args, revision=revision)
    prompts = chat.compare_prompts(
        with_template_args(inspect_processor(resolve_model(name), revision, False), args),
        "What is in the image?",
        "A grey ramp.",
        with_image=True,
    )
    if prompts is not None:
        asked, learnt = prompts
        log.warning(
            "%s continues after %r when it generates, but learns to reply after %r",
            *(name, asked, learnt),
        )
    return dataclasses.replace(config, model=dataclasses.replace(config.model, template_args=args))


def _source_of(model: GeneratorModel | ScorerModel) -> dict[str, Any]:
    """What else than its name says which model it is, as `load_processor` takes it."""
    return {"revision": model.revision, "trust_remote_code": model.trust_remote_code}
