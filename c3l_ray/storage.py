"""Local paths and s3:// alike: a place in storage, and writing whole files or none."""

import contextlib
import functools
import json
import os
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeVar, cast

import botocore.exceptions
import fsspec
from fsspec.implementations.local import LocalFileSystem

from c3l_ray import storage_faults
from c3l_ray.errors import C3LError, PreflightError

ATTEMPTS = 16
"""Times that a request to S3 is sent anew, with waits that grow to 15 s: four minutes in all."""
ATTEMPTS_AT_ONCE = 5
"""Times that each of these is sent, with random waits that grow to 8 s."""

ERRORS = (OSError, ValueError, botocore.exceptions.BotoCoreError)
"""What a file system raises for a path that cannot be used, whoever's fault that is."""

FAULTS = (OSError, botocore.exceptions.BotoCoreError)
"""What a file system raises where the storage fails, or a file is not there."""

NUM_AT_ONCE = 16
"""Requests of one process that wait for the storage."""

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Location:
    """A file or folder, local or on S3, that need not exist.

    S3 endpoint and credentials come from the usual AWS environment.

    Attributes:
        fs: the fsspec file system.
        path: on that file system, without a slash at its end; absolute where it is local.
    """

    fs: Any
    path: str

    @classmethod
    def parse(cls, address: str, flag: str) -> "Location":
        """The location that a user names.

        Args:
            address: a local path or s3://.
            flag: that named it, for the message.

        Raises:
            PreflightError: the address is neither local nor on S3.
        """
        if _protocol_of(address) not in ("file", "local", "s3", "s3a"):
            raise PreflightError(f"{flag} {address}: only local paths and s3:// are supported")
        return cls.connect(address)

    @classmethod
    def connect(cls, address: str) -> "Location":
        """The location of an address that is known to be local or on S3, listed afresh."""
        if _protocol_of(address) in ("file", "local"):
            # In a local name "::" is two letters; fsspec would take it for a chain of addresses.
            fs, path = LocalFileSystem(), LocalFileSystem._strip_protocol(address)
        else:
            fs, path = _connect_to_s3(address)
        fs.invalidate_cache()
        return cls(fs, path.rstrip("/"))

    def __truediv__(self, name: str) -> "Location":
        return Location(self.fs, f"{self.path}/{name}")

    def __reduce__(self) -> tuple[Any, ...]:
        return Location.connect, (self.url,)  # another process makes a connection of its own

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    @property
    def parent(self) -> "Location":
        return Location(self.fs, self.path.rpartition("/")[0])

    @property
    def url(self) -> str:
        """With its protocol: file:// or s3://."""
        return cast(str, self.fs.unstrip_protocol(self.path))

    @property
    def address(self) -> str:
        """What a user or another process names it by: an absolute path, or s3://."""
        return self.url.removeprefix("file://")

    @property
    def is_local(self) -> bool:
        return isinstance(self.fs, LocalFileSystem)

    def exists(self) -> bool:
        if not self.is_local and "/" not in self.path:  # s3fs finds no bucket where all is refused
            try:
                self.fs.ls(self.path)
            except FileNotFoundError:
                return False
            return True
        return cast(bool, self.fs.exists(self.path))

    def open(self) -> BinaryIO:
        """The file, for reading.

        Raises:
            OSError: it is not there, or the storage failed.
        """
        return cast(BinaryIO, self.fs.open(self.path, "rb"))

    def read(self, start: int | None = None, end: int | None = None) -> bytes:
        """The file's bytes [start, end), by default all of them.

        Raises:
            OSError: it is not there, or the storage failed.
        """
        return cast(bytes, self.fs.cat_file(self.path, start=start, end=end))

    def read_json(self) -> Any | None:
        """The file's JSON, or None where there is no file."""
        try:
            return json.loads(self.read())
        except FileNotFoundError:
            return None

    def list_children(self) -> list["Location"]:
        """What lies in the folder, as it is now; nothing where there is no folder."""
        self.fs.invalidate_cache()
        try:
            paths: list[str] = self.fs.ls(self.path, detail=False)
        except FileNotFoundError:
            return []
        children = (path.rstrip("/") for path in paths)
        # An empty folder of S3 is listed as its own content.
        return [Location(self.fs, path) for path in children if path != self.path]

    def write(self, content: bytes) -> None:
        """Writes the whole file or nothing, replacing what was there.

        Raises:
            OSError: the storage failed.
        """
        if self.is_local:
            os.replace(_write_temporary(self.path, content), self.path)
            _sync_folder(self.path)
        else:
            self.fs.pipe_file(self.path, content)

    def write_json(self, content: Any) -> None:
        self.write(json.dumps(content, indent=2).encode())

    def write_if_absent(self, content: bytes) -> bool:
        """Writes the whole file where there is none. False where another writer's came first.

        Raises:
            OSError: the storage failed.
        """
        try:
            if self.is_local:
                temporary = _write_temporary(self.path, content)
                try:
                    os.link(temporary, self.path)  # fails where the path exists, unlike a rename
                finally:
                    os.unlink(temporary)
                _sync_folder(self.path)
            else:
                self.fs.pipe_file(self.path, content, mode="create")
        except ERRORS:
            # An S3 put whose response was lost is repeated and then refused: it may be our own.
            self.fs.invalidate_cache()
            try:
                present = self.read()
            except FileNotFoundError:
                present = b""
            if not present:
                raise
            return present == content
        return True

    def remove(self, *, recursive: bool = False) -> None:
        self.fs.rm(self.path, recursive=recursive)


def is_transient(error: Exception) -> bool:
    """Whether the same request to S3 may succeed later."""
    return storage_faults.is_transient(error)


def is_fault(error: Exception) -> bool:
    """Whether an exception means that the storage failed, and not what was read."""
    return isinstance(error, FAULTS) or storage_faults.is_of_s3(error)


def describe_fault(error: Exception) -> str:
    """What an error of the storage says, without passwords."""
    return f"the storage failed: {storage_faults.hide_passwords(error)}"


def refuse(
    flag: str, path: str, location: Location, error: Exception, *, need: str = "read"
) -> C3LError:
    """The error to raise where a place cannot be used: what is wrong, and what to do.

    Args:
        flag: that named the place.
        path: as the user named it.
        location: of the place.
        error: of the storage.
        need: what cannot be done with the place, where the error does not tell: "read" or "used".

    Returns:
        A PreflightError, or another C3LError where the same command may succeed later.
    """
    if location.is_local or not is_fault(error):
        return PreflightError(f"{flag} {path}: cannot be {need}: {error}")
    bucket, endpoint = location.path.partition("/")[0], _find_endpoint(location.fs)
    message = f"{flag} {path}: {storage_faults.explain(error, bucket, endpoint)}"
    kind = C3LError if storage_faults.is_transient(error) else PreflightError
    return kind(message)


def _find_endpoint(fs: Any) -> str | None:
    try:
        return cast(str, fs.s3.meta.endpoint_url)
    except ERRORS:
        return None


@functools.cache
def _prepare_s3fs() -> None:
    from s3fs.core import set_custom_error_handler

    set_custom_error_handler(storage_faults.RetryNotice())


def _connect_to_s3(address: str) -> tuple[Any, str]:
    """The file system of S3, which sends requests again where that may help."""
    _prepare_s3fs()
    retries = {"mode": "legacy", "total_max_attempts": ATTEMPTS_AT_ONCE}
    fs, path = fsspec.core.url_to_fs(address, config_kwargs={"retries": retries})
    fs.retries = ATTEMPTS
    return fs, path


def map_at_once(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """The results of work that waits for the storage, in the order of the items."""
    if len(items) < 2:
        return [work(item) for item in items]
    threads = ThreadPoolExecutor(NUM_AT_ONCE)
    try:
        return list(threads.map(work, items))
    finally:
        threads.shutdown(wait=False, cancel_futures=True)  # a signal does not wait for the rest


def _protocol_of(address: str) -> str:
    protocol, mark, _ = address.partition("://")
    return protocol if mark else "file"


def _write_temporary(path: str, content: bytes) -> str:
    folder, name = os.path.split(path)
    os.makedirs(folder, exist_ok=True)
    temporary = f"{folder}/.{name}-{uuid.uuid4().hex[:12]}"
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    return temporary


def _sync_folder(path: str) -> None:
    descriptor = os.open(os.path.dirname(path), os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
