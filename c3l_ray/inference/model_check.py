"""Which weights a name stands for, and whether a job can use them, before anything starts."""

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

from c3l_ray.config import ReplyFormat
from c3l_ray.errors import PreflightError
from c3l_ray.model_files import resolve_model

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
_WEIGHTS = ("*.safetensors", "*.bin", "*.pt", "*.pth")
_CLIP_HUB = "hf-hub:"


def check_model(flag: str, name: str) -> str:
    """The identity of a vision-language model's weights: their digest, or the hub's commit.

    Raises:
        PreflightError: there is no such model, it is not one, or it does not take images.
    """
    try:
        path = resolve_model(name)
    except Exception as error:  # botocore's errors are no OSErrors
        raise PreflightError(f"{flag} {name}: cannot be read: {first_line(error)}") from error
    is_folder = Path(path).is_dir()
    if not is_folder:
        _check_hub_name(flag, path)
    elif not (Path(path) / "config.json").is_file():
        raise PreflightError(f"{flag} {name}: not a model: the folder has no config.json")
    try:
        config = _read_config(path)
    except Exception as error:  # the hub's client, the network and a bad file raise a dozen kinds
        raise PreflightError(
            f"{flag} {name}: cannot be read as a model: {first_line(error)}"
        ) from error
    if not hasattr(config, "vision_config"):
        raise PreflightError(
            f"{flag} {name}: a text-only model ({config.model_type}); this job needs one that "
            f"takes images, such as LLaVA or Qwen-VL"
        )
    if is_folder and not _weight_files(path):
        raise PreflightError(
            f"{flag} {name}: not a model: the folder has no weights ({_WEIGHTS[0]})"
        )
    from transformers import AutoProcessor  # seconds; a wrong name is refused without them

    try:
        processor = AutoProcessor.from_pretrained(path)
    except Exception as error:
        raise PreflightError(
            f"{flag} {name}: its processor does not load: {first_line(error)}"
        ) from error
    if getattr(processor, "chat_template", None) is None:
        raise PreflightError(
            f"{flag} {name}: the model has no chat template, so it cannot be asked"
        )
    return _digest(path) if is_folder else f"{name}@{config._commit_hash}"


def choose_reply_format(name: str) -> ReplyFormat:
    """The format in which models of this family reply best: "json" or "text"."""
    return "json" if model_family(name).startswith(_JSON_FAMILIES) else "text"


def model_family(name: str) -> str:
    """The `model_type` of a model's config, such as "qwen2_5_vl"."""
    family: str = _read_config(resolve_model(name)).model_type
    return family


def has_linear_attention(name: str) -> bool:
    """Whether some of a model's text layers carry a state from token to token, as Qwen 3.5's do."""
    text_config = _read_config(resolve_model(name)).get_text_config()
    return "linear_attention" in (getattr(text_config, "layer_types", None) or ())


def untested_family_notes(name: str, family: str) -> list[str]:
    """What the user should know of a model whose family no test covers: a sentence, or nothing."""
    if family in TESTED_FAMILIES:
        return []
    return [f"{name} is of family {family}, which is untested; compare a few answers by eye"]


def check_clip(name: str, weights: str | None) -> str:
    """The identity of an open_clip model.

    Raises:
        PreflightError: open_clip has no such model or weights.
    """
    import open_clip

    if Path(name).is_dir() or _looks_like_path(name):
        if not Path(name).is_dir():
            raise PreflightError(f"--clip.name {name}: no such folder")
        if not (Path(name) / "open_clip_config.json").is_file():
            raise PreflightError(
                f"--clip.name {name}: not a model: the folder has no open_clip_config.json"
            )
        if not _weight_files(name):
            raise PreflightError(f"--clip.name {name}: not a model: the folder has no weights")
        return _digest(name)
    if name.startswith(_CLIP_HUB):
        if name.count("/") != 1:
            raise PreflightError(
                f"--clip.name {name}: hub names have the form {_CLIP_HUB}OWNER/NAME"
            )
        return name
    if name not in open_clip.list_models():
        raise PreflightError(
            f"--clip.name {name}: neither a local folder nor an architecture of open_clip; hub "
            f"names have the form {_CLIP_HUB}OWNER/NAME"
        )
    if weights is None:
        raise PreflightError(f"--clip.weights: {name} needs weights, a tag or a file")
    if Path(weights).is_file():
        return f"{name}:{_digest(weights)}"
    if weights not in open_clip.list_pretrained_tags_by_model(name):
        raise PreflightError(
            f"--clip.weights {weights}: not a file, nor a tag that open_clip has for {name}"
        )
    return f"{name}:{weights}"


@cache
def _digest(path: str) -> str:
    """Digest of a local model: of every file in it that is JSON, a template or weights."""
    root = Path(path)
    files = [root] if root.is_file() else [*_weight_files(path), *root.glob("*.json")]
    files += root.glob("*.jinja")
    total = hashlib.blake2b(digest_size=16)
    for file in sorted(files):
        with file.open("rb") as opened:
            content = hashlib.file_digest(opened, lambda: hashlib.blake2b(digest_size=16))
        total.update(json.dumps([file.name, content.hexdigest()]).encode())
    return total.hexdigest()


def _check_hub_name(flag: str, name: str) -> None:
    """Refuses what cannot be a hub name, without asking the hub: offline it retries for long."""
    if _looks_like_path(name):
        raise PreflightError(f"{flag} {name}: no such folder")
    if name.count("/") != 1:
        raise PreflightError(
            f"{flag}: no local folder {name!r}, and hub names have the form OWNER/NAME"
        )


def _read_config(path: str) -> Any:
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(path)


def _weight_files(name: str) -> list[Path]:
    return [file for pattern in _WEIGHTS for file in Path(name).glob(pattern)]


def _looks_like_path(name: str) -> bool:
    return name.startswith(("/", "./", "../", "~"))


def first_line(error: Exception) -> str:
    """The first line of an error's message, or its type where it has none."""
    return str(error).strip().split("\n", 1)[0] or type(error).__name__
