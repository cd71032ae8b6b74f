"""Which weights a name stands for, and whether a job can use them, before anything starts."""

import hashlib
import json
from functools import cache
from pathlib import Path

from c3l_ray.config import ReplyFormat
from c3l_ray.errors import PreflightError
from c3l_ray.model_files import local

_WEIGHTS = ("*.safetensors", "*.bin", "*.pt", "*.pth")


def check_vlm(flag: str, name: str) -> str:
    """The identity of a vision-language model's weights: their digest, or the hub's commit.

    Raises:
        PreflightError: there is no such model, it is not one, or it does not take images.
    """
    from transformers import AutoConfig, AutoProcessor

    try:
        name = local(name)
    except Exception as error:  # botocore's errors are no OSErrors
        raise PreflightError(f"{flag} {name}: cannot be read: {_first_line(error)}") from error
    if _is_path(name) and not Path(name).is_dir():
        raise PreflightError(f"{flag} {name}: no such folder")
    if Path(name).is_dir() and not (Path(name) / "config.json").is_file():
        raise PreflightError(f"{flag} {name}: not a model: the folder has no config.json")
    try:
        config = AutoConfig.from_pretrained(name)
    except Exception as error:  # the hub's client, the network and a bad file raise a dozen kinds
        raise PreflightError(f"{flag} {name}: cannot be read as a model: {_first_line(error)}") from error
    if not hasattr(config, "vision_config"):
        raise PreflightError(
            f"{flag} {name}: a text-only model ({config.model_type}); this job needs one that "
            f"takes images, such as LLaVA or Qwen-VL"
        )
    if Path(name).is_dir() and not _weight_files(name):
        raise PreflightError(f"{flag} {name}: not a model: the folder has no weights ({_WEIGHTS[0]})")
    try:
        processor = AutoProcessor.from_pretrained(name)
    except Exception as error:
        raise PreflightError(
            f"{flag} {name}: its processor does not load: {_first_line(error)}"
        ) from error
    if getattr(processor, "chat_template", None) is None:
        raise PreflightError(f"{flag} {name}: the model has no chat template, so it cannot be asked")
    if Path(name).is_dir():
        return _digest(name)
    return f"{name}@{config._commit_hash}"


# Families whose instruction-tuned models keep to a JSON schema without losing quality; others are
# asked for labelled text, which LLaVA-1.5 and its kin were tuned on.
_JSON_FAMILIES = ("gemma", "glm", "idefics3", "internvl", "llama4", "mistral3", "qwen", "smolvlm")


def reply_format(name: str) -> ReplyFormat:
    """The format in which models of this family reply best: "json" or "text"."""
    from transformers import AutoConfig

    family = AutoConfig.from_pretrained(local(name)).model_type
    return "json" if family.startswith(_JSON_FAMILIES) else "text"


def check_clip(name: str, weights: str | None) -> str:
    """The identity of an open_clip model.

    Raises:
        PreflightError: open_clip has no such model or weights.
    """
    import open_clip

    if Path(name).is_dir() or _is_path(name):
        if not (Path(name) / "open_clip_config.json").is_file():
            raise PreflightError(f"--clip.name {name}: not a model: no open_clip_config.json there")
        if not _weight_files(name):
            raise PreflightError(f"--clip.name {name}: not a model: the folder has no weights")
        return _digest(name)
    if name.startswith("hf-hub:"):
        return name
    if name not in open_clip.list_models():
        raise PreflightError(f"--clip.name {name}: open_clip has no such architecture, nor is it a path")
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


def _weight_files(name: str) -> list[Path]:
    return [file for pattern in _WEIGHTS for file in Path(name).glob(pattern)]


def _is_path(name: str) -> bool:
    return name.startswith(("/", "./", "../", "~"))


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0] or type(error).__name__
