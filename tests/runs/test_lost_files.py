"""Temporary files of writers that were killed: those of some age, in every folder."""

import os
import time
from pathlib import Path

import pytest

from c3l_ray import storage
from c3l_ray.runs.folder import RunFolder
from c3l_ray.runs.lost_files import TEMPORARY_AGE_S, WRITTEN_FOLDERS, delete_lost_files


class Killed(BaseException):
    """In place of a signal that leaves no time to clean up."""


def leave_temporary(path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that a writer leaves which is killed before it renames it."""
    with monkeypatch.context() as patch, pytest.raises(Killed):

        def be_killed(*_: object) -> None:
            raise Killed

        patch.setattr(os, "replace", be_killed)
        storage.Location.connect(str(path)).write(b"half of it")
    (left,) = path.parent.glob(f".{path.name}-*")
    return left


def test_old_temporary_files_of_every_folder_are_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder.open(str(tmp_path))
    files = [f"{name}/u-00000.json" for name in WRITTEN_FOLDERS] + ["run.json"]
    old = [leave_temporary(tmp_path / name, monkeypatch) for name in files]
    for path in old:
        os.utime(path, (0, time.time() - TEMPORARY_AGE_S - 1))
    fresh = [leave_temporary(tmp_path / f"{name}-2", monkeypatch) for name in files]
    (tmp_path / ".hidden").touch()  # somebody else's
    os.utime(tmp_path / ".hidden", (0, 0))
    assert delete_lost_files(folder) == len(files)
    assert not any(path.exists() for path in old)
    assert all(path.exists() for path in (*fresh, tmp_path / ".hidden"))
