"""Where a model's files lie on this node: whoever loads a model by its name asks here first."""

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

from c3l_ray.storage import Location, is_transient

WEIGHTS = ("*.safetensors", "*.bin", "*.pt", "*.pth")
OTHER_FILES = ("*.json", "*.jinja", "*.txt", "*.model", "*.tiktoken", "*.py")
"""What defines a model beside its weights: settings, templates, vocabularies, code of its own."""
NOT_LOADED = ("original/*", "consolidated*", "params.json", "onnx/*", "*.gguf")
"""The same weights and settings once more, in forms that transformers does not load.

Where Mistral's own, consolidated* and params.json, lie beside the others, vLLM prefers them.
"""


def resolve_model(name: str, revision: str | None = None) -> str:
    """The name or path that loads a model on this node.

    A hub name and a path of this node stay as they are; a hub name with a revision is downloaded,
    if it is not there, and its folder returned. An s3:// folder is copied to this node, once: its
    copy's path is returned. A folder that has changed since is copied anew, to another path.

    Raises:
        OSError: there is no such folder, or the storage fails.
    """
    if "://" not in name:
        if revision is None or Path(name).is_dir():
            return name
        return _download_snapshot(name, revision)
    location = Location.connect(name)  # listed afresh: a training may have filled it since
    fs, root = location.fs, location.path
    files = fs.find(root, detail=True)
    if not files:
        raise FileNotFoundError(f"{name}: no such folder")
    versions = sorted((path, info["size"], str(info.get("ETag"))) for path, info in files.items())
    digest = hashlib.sha256(json.dumps(versions).encode()).hexdigest()
    folder = Path(tempfile.gettempdir()) / "c3l_ray" / digest[:16] / Path(root).name
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        # A node's workers start together: one copies, the others wait for it.
        with (folder.parent / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.is_dir():
                partial = folder.parent / "copy"
                shutil.rmtree(partial, ignore_errors=True)  # of a process that died while copying
                fs.get(f"{root}/", f"{partial}/", recursive=True)
                os.rename(partial, folder)
    return str(folder)


def is_storage_away(error: Exception) -> bool:
    """Whether `resolve_model` may succeed later: S3 throttles, fails, or does not answer."""
    return is_transient(error)


def looks_like_path(name: str) -> bool:
    """Whether a name cannot be of the hub, so that nobody asks it: offline that takes long."""
    return name.startswith(("/", "./", "../", "~"))


def is_loaded(file: str) -> bool:
    """Whether a file of a model, by its path in the model's folder, is of the form we load."""
    return not any(fnmatch(file, pattern) for pattern in NOT_LOADED)


def find_model_folder(name: str, revision: str | None = None) -> Path:
    """Where a model's files lie on this node, those of the hub and of S3 copied to it.

    Raises:
        OSError: as `resolve_model`.
    """
    return Path(resolve_model(name, revision or "main"))


def read_weight_shapes(files: Iterable[Path]) -> dict[str, list[int]]:
    """The shapes of the weights in safetensors files, by name, from the heads of the files."""
    from safetensors import safe_open

    shapes: dict[str, list[int]] = {}
    for file in files:
        with safe_open(file, framework="pt") as weights:
            shapes |= {name: weights.get_slice(name).get_shape() for name in weights.keys()}  # noqa: SIM118
    return shapes


def find_weight_files(folder: str) -> list[Path]:
    """The files of weights at the top of a folder."""
    return [file for pattern in WEIGHTS for file in Path(folder).glob(pattern)]


@cache
def digest_model(path: str) -> str:
    """Digest of a local model: of every file that its computations may depend on."""
    root = Path(path)
    total = hashlib.blake2b(digest_size=16)
    for name, file in sorted(_list_defining_files(root)):
        with file.open("rb") as opened:
            content = hashlib.file_digest(opened, lambda: hashlib.blake2b(digest_size=16))
        total.update(json.dumps([name, content.hexdigest()]).encode())
    return total.hexdigest()


def _list_defining_files(root: Path) -> Iterator[tuple[str, Path]]:
    """Those of a model with their names in it, those of its folders included."""
    if root.is_file():
        yield root.name, root
        return
    # Chat templates and code may lie one folder deeper, weights of other things too.
    for pattern in (*WEIGHTS, *OTHER_FILES, *(f"*/{pattern}" for pattern in OTHER_FILES)):
        for file in root.glob(pattern):
            yield str(file.relative_to(root)), file


def _download_snapshot(name: str, revision: str) -> str:
    """The folder of a hub's model at a revision, in this node's cache."""
    from huggingface_hub import snapshot_download

    folder = snapshot_download(
        name,
        revision=revision,
        allow_patterns=[*OTHER_FILES, "*.safetensors"],
        ignore_patterns=list(NOT_LOADED),
    )
    if not find_weight_files(folder):
        snapshot_download(name, revision=revision, allow_patterns="*.bin")
    return folder
