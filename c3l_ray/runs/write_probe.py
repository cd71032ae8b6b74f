"""Whether an output can be written, and whether two commits on it exclude each other: tried out."""

import contextlib
import tempfile
import uuid
from pathlib import Path

from c3l_ray import storage
from c3l_ray.errors import PreflightError
from c3l_ray.storage import Location


def check_writable(location: Location, flag: str, path: str, *, exclusive: bool = True) -> None:
    """Writes, reads, lists and deletes a small file in a folder, which need not exist.

    Args:
        location: of the folder.
        flag: that named it.
        path: as the user named it.
        exclusive: whether also a file that is there must stand against a second writer, as a
            manifest must (`runs.commit`).

    Raises:
        PreflightError: one of these is refused, or a second writer is not.
        C3LError: the storage does not answer.
    """
    if not location.is_local:
        _try_file(location / f".probe-{uuid.uuid4().hex}", flag, path, exclusive=exclusive)
        return
    there = Path(location.path)
    while not there.exists():
        there = there.parent
    try:
        with tempfile.TemporaryDirectory(prefix=".c3l-ray-", dir=there) as folder:
            _try_file(Location.connect(folder) / "probe", flag, path, exclusive=exclusive)
    except OSError as error:
        raise PreflightError(
            f"{flag} {path}: {there} cannot be written to: {error.strerror}"
        ) from error


def _try_file(file: Location, flag: str, path: str, *, exclusive: bool) -> None:
    """Tries what a job does with files on one that is not there.

    Raises:
        OSError: the file is local, and cannot be written.
        PreflightError, C3LError: as `check_writable`.
    """
    try:
        try:
            file.write(b"first")
            if file.read() != b"first" or file.name not in {
                child.name for child in file.parent.list_children()
            }:
                raise PreflightError(
                    f"{flag} {path}: what is written there is not there to read; choose another "
                    "folder, on a storage that is consistent"
                )
            if exclusive:
                _try_exclusion(file, flag, path)
        except BaseException:
            with contextlib.suppress(*storage.ERRORS):
                file.remove()
            raise
        file.remove()
    except storage.ERRORS as error:
        if file.is_local:
            raise
        raise storage.refuse(flag, path, file, error, need="used") from error


def _try_exclusion(file: Location, flag: str, path: str) -> None:
    """Makes sure that a file that is there refuses another writer, and takes a first one.

    Raises:
        PreflightError: it does not.
        C3LError: the storage does not answer.
    """
    means = "hard links" if file.is_local else "conditional writes (If-None-Match)"
    advice = (
        "choose a folder on another file system"
        if file.is_local
        else "choose a bucket on a store that has them, such as AWS S3 or MinIO, or a folder that "
        "all nodes mount"
    )
    other = file.parent / f"{file.name}-2"
    try:
        if file.write_if_absent(b"second") or file.read() != b"first":
            raise PreflightError(
                f"{flag} {path}: the storage ignores {means}, so that two commits of one unit "
                f"would both count; {advice}"
            )
        other.write_if_absent(b"first")
        other.remove()
    except storage.ERRORS as error:
        if storage.is_transient(error):
            raise
        raise PreflightError(
            f"{flag} {path}: the storage does not take {means}, on which commits rely: {error}; "
            f"{advice}"
        ) from error
