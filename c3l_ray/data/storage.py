"""Local paths and s3:// alike."""

from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from c3l_ray.errors import Refused


def connect(flag: str, path: str) -> tuple[Any, str]:
    """The file system of a path, and the path on it.

    S3 endpoint and credentials come from the usual AWS environment.

    Raises:
        Refused: the path is neither local nor on S3.
    """
    try:
        fs, root = fsspec.core.url_to_fs(path)
    except (ValueError, ImportError) as error:
        raise Refused(f"{flag} {path}: {error}") from error
    if not isinstance(fs, LocalFileSystem) and "s3" not in fs.protocol:
        raise Refused(f"{flag} {path}: only local paths and s3:// are supported")
    fs.invalidate_cache()
    return fs, root.rstrip("/")
