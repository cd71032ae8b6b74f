"""The models of a run as they are found before it starts: checked, and pinned for every process.

A hub's latest commit, a precision `auto` and the date in a prompt may be others tomorrow, or on
another node. They become settings here, so that a resumed run and all nodes work with the same.
"""

import dataclasses
import datetime
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from c3l_ray.config import GeneratingConfig, RecordsConfig, ScoreConfig
from c3l_ray.errors import PreflightError
from c3l_ray.model_config import ClipModel, Dtype, GeneratorModel, ScorerModel
from c3l_ray.runs.folder import REPORT, RunFolder
from c3l_ray.train.training_config import TrainConfig

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
    noted = _read_noted(folder)
    revision = choose_revision(config.model.name, config.model.revision, noted.get("model"))
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, revision=revision))
    model, identity, uses_date = _pin_model(config.model)
    pinned, identities = dataclasses.replace(config, model=model), {"model": identity}
    if config.is_scored:
        flag = "--model.name" if config.scorer.name is None else "--scorer.name"
        named = _take_noted(name_scorer(config), noted)
        scorer, identities["scorer"], dates_scorer = _pin_scorer(flag, named)
        clip, identities["clip"] = _pin_clip(config.clip, noted)
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
    noted = _read_noted(folder)
    named = _take_noted(config.scorer, noted)
    scorer, scorer_identity, uses_date = _pin_scorer("--scorer.name", named)
    clip, clip_identity = _pin_clip(config.clip, noted)
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


def pin_training(
    config: TrainConfig, folder: RunFolder, date_of_input: str | None
) -> tuple[TrainConfig, str]:
    """The training with its model and its date pinned, and the model's identity.

    A precision `auto` is taken from the folder where that notes one; else the workers' GPUs decide.

    Args:
        config: of the job.
        folder: of its output; an earlier command may have noted commit, precision and date there.
        date_of_input: that the prompts of the records were given.

    Raises:
        PreflightError: the model is not there, or takes no images.
    """
    from c3l_ray.inference.model_check import inspect_model

    noted = _read_noted(folder)
    revision = choose_revision(config.model.name, config.model.revision, noted.get("model"))
    checked = inspect_model(
        "--model.name", config.model.name, revision=revision, runs_own_code=False
    )
    date = config.prompt_date or date_of_input
    if date is None and checked.uses_date:
        date = choose_date(config, folder)
    model = dataclasses.replace(config.model, revision=checked.commit)
    config = dataclasses.replace(config, model=model, prompt_date=date)
    return take_noted_precision(config, folder), checked.identity


def take_noted_precision(config: TrainConfig, folder: RunFolder) -> TrainConfig:
    """The config with the precision that an earlier command of its folder decided, if one did."""
    noted = _read_noted(folder).get("tuning", {}).get("precision")
    if config.model.precision != "auto" or noted is None:
        return config
    return dataclasses.replace(config, model=dataclasses.replace(config.model, precision=noted))


def choose_revision(name: str, asked: str | None, noted: str | None) -> str | None:
    """The revision of a model: as asked for, else the commit that a folder notes of this name.

    Args:
        name: of the model.
        asked: by the user.
        noted: the identity that an earlier command noted.
    """
    known, at, commit = (noted or "").rpartition("@")
    return commit if asked is None and at and known == name else asked


def choose_date(config: RecordsConfig | TrainConfig, folder: RunFolder) -> str:
    """The day that prompts are given: as asked for, as noted in the folder, or today."""
    noted: str | None = _read_noted(folder).get("prompt_date")
    return config.prompt_date or noted or datetime.date.today().isoformat()


def _read_noted(folder: RunFolder) -> dict[str, Any]:
    """What an earlier command noted of the models and the date, or nothing."""
    identity: dict[str, Any] = (folder.read_json(REPORT) or {}).get("identity", {})
    noted: dict[str, Any] = identity.get("generation", identity)
    return noted


def _take_noted(scorer: Scorer, noted: Mapping[str, Any]) -> Scorer:
    assert scorer.name is not None
    revision = choose_revision(scorer.name, scorer.revision, noted.get("scorer"))
    return dataclasses.replace(scorer, revision=revision)


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


def _pin_clip(clip: ClipModel, noted: Mapping[str, Any]) -> tuple[ClipModel, str]:
    from c3l_ray.inference.clip_check import check_clip
    from c3l_ray.inference.hub import CLIP_HUB

    revision = choose_revision(clip.name, None, noted.get("clip"))
    asked = clip.name if revision is None else f"{clip.name}@{revision}"
    identity = check_clip(asked, clip.weights)
    name = identity if identity.startswith(CLIP_HUB) else clip.name
    return dataclasses.replace(clip, name=name), identity


def _auto_dtype(declared: str | None) -> Dtype:
    """The precision that a checkpoint declares; `auto` where that is none of ours, or nothing."""
    match declared:
        case "float32" | "bfloat16" | "float16":
            return declared
    return "auto"
