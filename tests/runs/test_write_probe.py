"""Outputs are tried before a job begins: here on a local disk, in `tests/faults` on S3."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from c3l_ray.errors import PreflightError
from c3l_ray.runs.write_probe import check_writable
from c3l_ray.storage import Location


def check(path: Path, *, exclusive: bool = True) -> None:
    check_writable(Location.connect(str(path)), "--output", str(path), exclusive=exclusive)


def test_a_folder_that_can_be_written_is_left_as_it_was(tmp_path: Path) -> None:
    check(tmp_path / "not" / "there")
    assert list(tmp_path.iterdir()) == []


def refuse_links(*_: Any) -> None:
    raise OSError(errno.EPERM, "Operation not permitted")


def test_a_file_system_without_hard_links_is_refused_where_commits_need_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", refuse_links)
    message = f"--output {tmp_path}: the storage does not take hard links, on which commits rely"
    with pytest.raises(PreflightError, match=message) as raised:
        check(tmp_path)
    assert str(raised.value).endswith("; choose a folder on another file system")
    check(tmp_path, exclusive=False)
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_that_lets_a_second_writer_through_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", lambda source, target: Path(target).write_bytes(b"second"))
    with pytest.raises(PreflightError, match="ignores hard links, so that two commits"):
        check(tmp_path)


def test_a_full_disk_is_refused_with_its_own_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(PreflightError, match=f"{tmp_path} cannot be written to: No space left"):
        check(tmp_path)
