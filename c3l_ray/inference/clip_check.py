"""Which open_clip weights a name stands for, before anything starts."""

from pathlib import Path

from c3l_ray.errors import PreflightError
from c3l_ray.inference.hub import CLIP_HUB, choose_error, explain_hub_error, find_commit
from c3l_ray.model_files import digest_model, find_weight_files, looks_like_path

_WEIGHTS_ON_HUB = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
"""Files that open_clip asks of a repository, the first that is there."""


def check_clip(name: str, weights: str | None) -> str:
    """The identity of an open_clip model; of one on the hub, the name that loads this commit.

    Raises:
        PreflightError: open_clip has no such model or weights.
        C3LError: the hub does not answer.
    """
    if Path(name).is_dir() or looks_like_path(name):
        if not Path(name).is_dir():
            raise PreflightError(f"--clip.name {name}: no such folder")
        if not (Path(name) / "open_clip_config.json").is_file():
            raise PreflightError(
                f"--clip.name {name}: not a model: the folder has no open_clip_config.json"
            )
        if not find_weight_files(name):
            raise PreflightError(f"--clip.name {name}: not a model: the folder has no weights")
        return digest_model(name)
    if name.startswith(CLIP_HUB):
        if name.count("/") != 1:
            raise PreflightError(
                f"--clip.name {name}: hub names have the form {CLIP_HUB}OWNER/NAME"
            )
        repo, _, revision = name.removeprefix(CLIP_HUB).partition("@")
        try:
            return (
                f"{CLIP_HUB}{repo}@{find_commit(repo, 'open_clip_config.json', revision or None)}"
            )
        except Exception as error:  # as of a model's config
            raise choose_error(
                error, f"--clip.name {name}: {explain_hub_error(error, repo)}"
            ) from error
    import open_clip  # seconds, which a folder and a name on the hub do without

    if name not in open_clip.list_models():
        raise PreflightError(
            f"--clip.name {name}: neither a local folder nor an architecture of open_clip; hub "
            f"names have the form {CLIP_HUB}OWNER/NAME"
        )
    if weights is None:
        raise PreflightError(f"--clip.weights: {name} needs weights, a tag or a file")
    if Path(weights).is_file():
        return f"{name}:{digest_model(weights)}"
    if weights not in open_clip.list_pretrained_tags_by_model(name):
        raise PreflightError(
            f"--clip.weights {weights}: not a file, nor a tag that open_clip has for {name}"
        )
    _check_weights_can_be_had(name, weights)
    return f"{name}:{weights}"


def _check_weights_can_be_had(name: str, tag: str) -> None:
    """Makes sure that the weights of a tag are on this machine, or that the hub has them.

    Raises:
        PreflightError: the hub does not have them, or cannot be reached from here.
        C3LError: the hub does not answer now.
    """
    import open_clip
    from huggingface_hub import HfApi, try_to_load_from_cache

    repo, _, file = open_clip.get_pretrained_cfg(name, tag).get("hf_hub", "").rpartition("/")
    if not repo:  # of a tag that lies elsewhere; open_clip downloads it when it loads
        return
    files = (file,) if file else _WEIGHTS_ON_HUB
    if any(isinstance(try_to_load_from_cache(repo, one), str) for one in files):
        return
    try:
        HfApi().model_info(repo)
    except Exception as error:  # as of a model's config
        raise choose_error(
            error,
            f"--clip.weights {tag}: {repo} {explain_hub_error(error, repo)}; --clip.name none does "
            "without CLIP",
        ) from error
