"""Which weights a name stands for, and whether a job can use them, before anything starts."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from c3l_ray.config import ReplyFormat
from c3l_ray.errors import PreflightError, first_line
from c3l_ray.inference.hub import (
    choose_error,
    explain_hub_error,
    find_commit,
    is_adapter_on_hub,
    is_hub_away,
)
from c3l_ray.inference.large_imports import without_collection
from c3l_ray.inference.quantization import find_quantization, suggest_unquantized
from c3l_ray.model_files import (
    WEIGHTS,
    digest_model,
    find_weight_files,
    looks_like_path,
    resolve_model,
)
from c3l_ray.processors import inspect_processor
from c3l_ray.template_date import uses_date

TESTED_FAMILIES = frozenset(
    {
        "aya_vision",
        "cohere2_vision",
        "gemma3",
        "gemma3n",
        "gemma4",
        "glm46v",
        "glm4v",
        "granite4_vision",
        "idefics3",
        "internvl",
        "llava",
        "llava_next",
        "llava_onevision",
        "minicpmv4_6",
        "qwen2_5_vl",
        "qwen2_vl",
        "qwen3_5",
        "qwen3_vl",
        "smolvlm",
    }
)
"""The `model_type` of every family that tests/families generates and scores with."""

# Families whose instruction-tuned models keep to a JSON schema without losing quality; others are
# asked for labelled text, which LLaVA-1.5 and its kin were tuned on.
_JSON_FAMILIES = ("gemma", "glm", "idefics3", "internvl", "llama4", "mistral3", "qwen", "smolvlm")
_PARTS = ("tokenizer", "image_processor")
"""Of a processor. For a model without a class of one, transformers gives the tokenizer alone."""
_ADAPTER = (
    "is an adapter of peft, not a model. Merge it into its base model and name the merged "
    "checkpoint; of jobs.train that is the folder `model`, which is merged"
)


@dataclass(frozen=True, kw_only=True)
class CheckedModel:
    """What is known of a vision-language model before anything starts.

    Attributes:
        name: as the user gave it.
        identity: of its weights: their digest, or the hub's commit.
        commit: of the hub; None for a folder.
        dtype: that its config declares, such as "bfloat16", or None.
        quantization: how its weights are quantized, such as "awq", or None.
        uses_date: whether its chat template writes the date.
        can_score: whether transformers loads it as a model of images and text.
    """

    name: str
    identity: str
    commit: str | None
    dtype: str | None
    quantization: str | None
    uses_date: bool
    can_score: bool


def check_model(flag: str, name: str) -> str:
    """The identity of a model's weights: `inspect_model`'s.

    Raises:
        C3LError: as there.
    """
    return inspect_model(flag, name).identity


@without_collection()
def inspect_model(
    flag: str,
    name: str,
    *,
    revision: str | None = None,
    trust_remote_code: bool = False,
    runs_own_code: bool = True,
) -> CheckedModel:
    """What is known of a vision-language model, without its weights.

    Args:
        flag: that named it.
        name: hub name, path or s3:// folder.
        revision: of a hub name; None takes the latest.
        trust_remote_code: whether code of the model's own may run.
        runs_own_code: whether the job has a flag that allows that.

    Raises:
        PreflightError: there is no such model, it is not one, or it does not take images.
        C3LError: the hub or the storage does not answer.
    """
    try:
        path = resolve_model(name)
    except Exception as error:  # botocore's errors are no OSErrors
        raise choose_error(error, f"{flag} {name}: cannot be read: {first_line(error)}") from error
    is_folder = Path(path).is_dir()
    if not is_folder:
        _check_hub_name(flag, path)
    elif revision is not None:
        raise PreflightError(
            f"{flag} {name}: a folder has no revisions; leave out "
            f"{flag.removesuffix('name')}revision {revision}"
        )
    elif (Path(path) / "adapter_config.json").is_file():
        raise PreflightError(f"{flag} {name}: {_ADAPTER}")
    elif not (Path(path) / "config.json").is_file():
        raise PreflightError(f"{flag} {name}: not a model: the folder has no config.json")
    try:
        commit = None if is_folder else find_commit(path, "config.json", revision)
        config = _read_config(path, commit, trust_remote_code)
    except Exception as error:  # the hub's client, the network and a bad file raise a dozen kinds
        raise choose_error(
            error,
            f"{flag} {name}: {_explain_config_error(error, flag, path, revision, runs_own_code)}",
        ) from error
    has_own_code = type(config).__module__.startswith("transformers_modules")
    if not has_own_code and not hasattr(config, "vision_config"):
        raise PreflightError(
            f"{flag} {name}: a text-only model ({config.model_type}); this job needs one that "
            f"takes images, such as LLaVA or Qwen-VL"
        )
    if is_folder and not find_weight_files(path):
        raise PreflightError(
            f"{flag} {name}: not a model: the folder has no weights ({WEIGHTS[0]})"
        )
    try:  # it takes seconds, without which a wrong name is refused
        processor = inspect_processor(path, commit, trust_remote_code)
    except Exception as error:
        raise choose_error(
            error, f"{flag} {name}: its processor does not load: {explain_hub_error(error, name)}"
        ) from error
    if missing := [part for part in _PARTS if getattr(processor, part, None) is None]:
        raise PreflightError(
            f"{flag} {name}: its processor ({type(processor).__name__}) has no {missing[0]}: it "
            "does not take images with texts as those of transformers do. Name the checkpoint "
            "that transformers has the code of, which many publish with -hf in its name"
        )
    if getattr(processor, "chat_template", None) is None:
        raise PreflightError(
            f"{flag} {name}: the model has no chat template, so it cannot be asked"
        )
    dtype = getattr(config, "dtype", None)
    return CheckedModel(
        name=name,
        identity=digest_model(path) if is_folder else f"{name}@{commit}",
        commit=commit,
        dtype=None if dtype is None else str(dtype).removeprefix("torch."),
        quantization=find_quantization(config, path, commit),
        uses_date=uses_date(processor),
        can_score=_loads_in_transformers(config),
    )


def check_scorable(flag: str, model: CheckedModel) -> None:
    """Refuses a model whose answers' probabilities cannot be computed.

    Raises:
        PreflightError: it is quantized, or transformers has no class for it.
    """
    if model.quantization is not None:
        example = suggest_unquantized(model.name)
        raise PreflightError(
            f"{flag} {model.name}: is quantized ({model.quantization}): it generates, but does not "
            f"score. Name the unquantized checkpoint as --scorer.name{example}"
        )
    if not model.can_score:
        raise PreflightError(
            f"{flag} {model.name}: transformers has no class of images and text for this model, so "
            "it does not score. Name another one as --scorer.name"
        )


def check_tunable(flag: str, name: str, revision: str | None = None) -> None:
    """Refuses a quantized model, whose weights cannot be tuned and written back.

    Raises:
        PreflightError: it is one.
    """
    path = resolve_model(name, revision)
    quantization = find_quantization(_read_config(path), path)
    if quantization is not None:
        example = suggest_unquantized(name)
        raise PreflightError(
            f"{flag} {name}: is quantized ({quantization}) and cannot be tuned. Name the "
            f"unquantized checkpoint{example}, and quantize the tuned one"
        )


def choose_reply_format(
    name: str, revision: str | None = None, trust_remote_code: bool = False
) -> ReplyFormat:
    """The format in which models of this family reply best: "json" or "text"."""
    family = model_family(name, revision, trust_remote_code)
    return "json" if family.startswith(_JSON_FAMILIES) else "text"


def model_family(name: str, revision: str | None = None, trust_remote_code: bool = False) -> str:
    """The `model_type` of a model's config, such as "qwen2_5_vl"."""
    family: str = _read_config(resolve_model(name), revision, trust_remote_code).model_type
    return family


def has_linear_attention(path: str, *, trust_remote_code: bool = False) -> bool:
    """Whether some of a model's text layers carry a state from token to token, as Qwen 3.5's do.

    Args:
        path: of the model's folder, or its name.
        trust_remote_code: whether code of the model's own may run.
    """
    text_config = _read_config(path, None, trust_remote_code).get_text_config()
    return "linear_attention" in (getattr(text_config, "layer_types", None) or ())


def untested_family_notes(name: str, family: str) -> list[str]:
    """What the user should know of a model whose family no test covers: a sentence, or nothing."""
    if family in TESTED_FAMILIES:
        return []
    return [f"{name} is of family {family}, which is untested; compare a few answers by eye"]


def _check_hub_name(flag: str, name: str) -> None:
    """Refuses what cannot be a hub name, without asking the hub: offline it retries for long."""
    if looks_like_path(name):
        raise PreflightError(f"{flag} {name}: no such folder")
    if name.count("/") != 1:
        raise PreflightError(
            f"{flag}: no local folder {name!r}, and hub names have the form OWNER/NAME"
        )


def _read_config(path: str, revision: str | None = None, trust_remote_code: bool = False) -> Any:
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(
        path, revision=revision or "main", trust_remote_code=trust_remote_code
    )


def _explain_config_error(
    error: Exception, flag: str, path: str, revision: str | None, runs_own_code: bool
) -> str:
    """Why a model's config does not load, and the way out."""
    if "trust_remote_code" in str(error) and not runs_own_code:
        return (
            "comes with code of its own, which this job does not run; name a checkpoint that "
            "transformers has the code of"
        )
    if "trust_remote_code" in str(error):
        return (
            f"comes with code of its own: {flag.removesuffix('name')}trust-remote-code runs it. "
            "Read it first, or name a checkpoint that transformers has the code of"
        )
    is_asked = not Path(path).is_dir() and not is_hub_away(error)
    if is_asked and is_adapter_on_hub(path, revision):
        return _ADAPTER
    return f"cannot be read as a model: {explain_hub_error(error, path)}"


def _loads_in_transformers(config: Any) -> bool:
    """Whether there is a class of images and text for a config, of transformers or its own."""
    from transformers import AutoModelForImageTextToText

    own_classes = getattr(config, "auto_map", None) or {}
    return (
        type(config) in AutoModelForImageTextToText._model_mapping
        or "AutoModelForImageTextToText" in own_classes
    )
