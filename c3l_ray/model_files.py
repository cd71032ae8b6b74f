"""Where a model's files lie on this node: whoever loads a model by its name asks here first."""

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path

import fsspec


def local(name: str) -> str:
    """A hub name or a path of this node as it is; for s3:// the folder that it is copied to, once.

    A model that has changed there since is another one, with a folder of its own.

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
    state = sorted((path, about["size"], str(about.get("ETag"))) for path, about in files.items())
    digest = hashlib.sha256(json.dumps(state).encode()).hexdigest()
    folder = Path(tempfile.gettempdir()) / "c3l_ray" / digest[:16] / Path(root).name
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        # A node's workers begin together: one copies, the others wait for it.
        with (folder.parent / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.is_dir():
                copy = folder.parent / "copy"
                shutil.rmtree(copy, ignore_errors=True)  # of a process that died at it
                fs.get(f"{root}/", f"{copy}/", recursive=True)
                os.rename(copy, folder)
    return str(folder)
