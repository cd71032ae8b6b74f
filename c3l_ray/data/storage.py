"""Local paths and s3:// alike: connecting, and writing whole files or none."""

import contextlib
import os
import uuid
from typing import Any

import botocore.exceptions
import fsspec
from fsspec.implementations.local import LocalFileSystem
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


def address(fs: Any, path: str) -> str:
    """What other processes know a path by: absolute, or s3://."""
    known: str = fs.unstrip_protocol(path)
    return known.removeprefix("file://")


def put(fs: Any, path: str, content: bytes) -> None:
    """A whole file or none, replacing what was there."""
    if isinstance(fs, LocalFileSystem):
        os.replace(_written_aside(path, content), path)
        _sync_folder(path)
    else:
        fs.pipe_file(path, content)


def put_first(fs: Any, path: str, content: bytes) -> bool:
    """A whole file where none was. False where another writer's came first.

    Raises:
        OSError: the storage failed.
    """
    try:
        if isinstance(fs, LocalFileSystem):
            aside = _written_aside(path, content)
            try:
                os.link(aside, path)  # fails where the path exists, unlike a rename
            finally:
                os.unlink(aside)
            _sync_folder(path)
        else:
            fs.pipe_file(path, content, mode="create")
    except ERRORS:
        # An S3 put whose response was lost is repeated and then refused: it may be our own.
        fs.invalidate_cache()
        try:
            there: bytes = fs.cat_file(path)
        except FileNotFoundError:
            there = b""
        if not there:
            raise
        return there == content
    return True


def _written_aside(path: str, content: bytes) -> str:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    aside = f"{os.path.dirname(path)}/.{os.path.basename(path)}-{uuid.uuid4().hex[:12]}"
    try:
        with open(aside, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(aside)
        raise
    return aside


def _sync_folder(path: str) -> None:
    descriptor = os.open(os.path.dirname(path), os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
