"""The models of a run as they are found before it starts: checked, and pinned for every process.

A hub's latest commit, a precision `auto` and the date in a prompt may be others tomorrow, or on
another node. They become settings here, so that a resumed run and all nodes work with the same.
"""

import dataclasses
import datetime
import logging
from dataclasses import dataclass
from typing import Generic, TypeVar

from c3l_ray.config import GeneratingConfig, RecordsConfig, ScoreConfig
from c3l_ray.errors import PreflightError
from c3l_ray.model_config import ClipModel, Dtype, GeneratorModel, ScorerModel
from c3l_ray.runs.folder import REPORT, RunFolder

Config = TypeVar("Config", bound=RecordsConfig)
Generating = TypeVar("Generating", bound=GeneratingConfig)
Scorer = TypeVar("Scorer", bound=ScorerModel)

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class PinnedRun(Generic[Config]):
    """A config whose models are pinned, and their identities.

    Attributes:
        config: with the scorer named, and revisions, precisions and the date decided.
        identities: of the "model" where one generates, the "scorer" and "clip".
    """

    config: Config
    identities: dict[str, str]


def pin_generation(config: Generating, folder: RunFolder) -> PinnedRun[Generating]:
    """The run with its models pinned: three, or the generator alone where nothing is scored.

    Args:
        config: of the job.
        folder: of the run; an earlier command may have noted the date there.

    Raises:
        PreflightError: a model is not there, or cannot do its part.
    """
    model, identity, uses_date = _pin_model(config.model)
    pinned, identities = dataclasses.replace(config, model=model), {"model": identity}
    if config.is_scored:
        flag = "--model.name" if config.scorer.name is None else "--scorer.name"
        scorer, identities["scorer"], dates_scorer = _pin_scorer(flag, name_scorer(config))
        clip, identities["clip"] = _pin_clip(config.clip)
        pinned = dataclasses.replace(pinned, scorer=scorer, clip=clip)
        uses_date = uses_date or dates_scorer
    date = choose_date(config, folder) if uses_date else None
    return PinnedRun(config=dataclasses.replace(pinned, prompt_date=date), identities=identities)


def pin_scoring(config: ScoreConfig, folder: RunFolder) -> PinnedRun[ScoreConfig]:
    """The run with its two models pinned.

    Args:
        config: of the job.
        folder: as for `pin_generation`.

    Raises:
        PreflightError: as `pin_generation`.
    """
    scorer, scorer_identity, uses_date = _pin_scorer("--scorer.name", config.scorer)
    clip, clip_identity = _pin_clip(config.clip)
    date = choose_date(config, folder) if uses_date else None
    return PinnedRun(
        config=dataclasses.replace(config, scorer=scorer, clip=clip, prompt_date=date),
        identities={"scorer": scorer_identity, "clip": clip_identity},
    )


def name_scorer(config: GeneratingConfig) -> ScorerModel:
    """The scorer by its name, which is the generator where the user named none.

    Raises:
        PreflightError: settings of a scorer that is not named.
    """
    model, scorer = config.model, config.scorer
    if scorer.name is not None:
        return scorer
    if scorer.revision is not None:
        raise PreflightError(
            f"--scorer.revision {scorer.revision}: belongs to --scorer.name, which is not given; "
            "the scorer is the generator itself (--model.revision)"
        )
    if scorer.trust_remote_code:
        raise PreflightError(
            "--scorer.trust-remote-code: belongs to --scorer.name, which is not given; the scorer "
            "is the generator itself (--model.trust-remote-code)"
        )
    return dataclasses.replace(
        scorer,
        name=model.name,
        revision=model.revision,
        trust_remote_code=model.trust_remote_code,
    )


def engine_dtype(dtype: Dtype, declared: str | None) -> Dtype:
    """What `auto` becomes in the engine: vLLM computes with no checkpoint in float32 by itself."""
    if dtype != "auto":
        return dtype
    return "bfloat16" if declared == "float32" else _auto_dtype(declared)


def choose_date(config: RecordsConfig, folder: RunFolder) -> str:
    """The day that prompts are given: as asked for, as noted in the folder, or today."""
    if config.prompt_date is not None:
        return config.prompt_date
    report = folder.read_json(REPORT) or {}
    identity = report.get("identity", {})
    noted: str | None = identity.get("generation", identity).get("prompt_date")
    return noted or datetime.date.today().isoformat()


def _pin_model(model: GeneratorModel) -> tuple[GeneratorModel, str, bool]:
    """The generator with its settings decided, its identity, and whether prompts have a date."""
    from c3l_ray.inference.model_check import inspect_model

    checked = inspect_model(
        "--model.name",
        model.name,
        revision=model.revision,
        trust_remote_code=model.trust_remote_code,
    )
    dtype = engine_dtype(model.dtype, checked.dtype)
    pinned = dataclasses.replace(model, revision=checked.commit, dtype=dtype)
    return pinned, checked.identity, checked.uses_date


def _pin_scorer(flag: str, scorer: Scorer) -> tuple[Scorer, str, bool]:
    """The scorer with its settings decided, its identity, and whether its prompts have a date."""
    from c3l_ray.inference.model_check import check_scorable, inspect_model

    assert scorer.name is not None
    checked = inspect_model(
        flag,
        scorer.name,
        revision=scorer.revision,
        trust_remote_code=scorer.trust_remote_code,
    )
    check_scorable(flag, checked)
    dtype = _auto_dtype(checked.dtype) if scorer.dtype == "auto" else scorer.dtype
    pinned = dataclasses.replace(scorer, revision=checked.commit, dtype=dtype)
    return pinned, checked.identity, checked.uses_date


def _pin_clip(clip: ClipModel) -> tuple[ClipModel, str]:
    from c3l_ray.inference.clip_check import check_clip
    from c3l_ray.inference.hub import CLIP_HUB

    identity = check_clip(clip.name, clip.weights)
    name = identity if identity.startswith(CLIP_HUB) else clip.name
    return dataclasses.replace(clip, name=name), identity


def _auto_dtype(declared: str | None) -> Dtype:
    """The precision that a checkpoint declares; `auto` where that is none of ours, or nothing."""
    match declared:
        case "float32" | "bfloat16" | "float16":
            return declared
    return "auto"
