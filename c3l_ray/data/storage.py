"""Local paths and s3:// alike."""

from typing import Any

import botocore.exceptions
import fsspec
from fsspec.utils import get_protocol

from c3l_ray.errors import Refused

ERRORS = (OSError, ValueError, botocore.exceptions.BotoCoreError)
"""What a file system raises for a path that cannot be used, whoever's fault that is."""


def connect(flag: str, path: str) -> tuple[Any, str]:
    """The file system of a path, and the path on it.

    S3 endpoint and credentials come from the usual AWS environment.

    Raises:
        Refused: the path is neither local nor on S3.
    """
    if get_protocol(path) not in ("file", "local", "s3", "s3a"):
        raise Refused(f"{flag} {path}: only local paths and s3:// are supported")
    fs, root = fsspec.core.url_to_fs(path)
    fs.invalidate_cache()
    return fs, root.rstrip("/")
