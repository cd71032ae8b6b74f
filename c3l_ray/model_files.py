"""Where a model's files lie on this node: whoever loads a model by its name asks here first."""

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path

import fsspec


def resolve_model(name: str) -> str:
    """The name or path that loads a model on this node.

    A hub name and a path of this node stay as they are. An s3:// folder is copied to this node,
    once: its copy's path is returned. A folder that has changed since is copied anew, to another
    path.

    Raises:
        OSError: there is no such folder, or the storage fails.
    """
    if "://" not in name:
        return name
    fs, root = fsspec.core.url_to_fs(name)
    fs.invalidate_cache()  # this process may have listed the folder before a training filled it
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
