import os
import threading
from pathlib import Path

import pyarrow as pa
import pytest

from c3l_ray.errors import C3LError
from c3l_ray.runs.commit import (
    Manifest,
    commit_unit,
    make_records,
    read_manifests,
    read_records,
)
from c3l_ray.runs.folder import RunFolder
from c3l_ray.runs.lost_files import delete_lost_files
from c3l_ray.schema import RECORDS
from c3l_ray.storage import Location
from tests.examples import RECORD
from tests.runs.tables import stage_three_images


@pytest.fixture(params=["local", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> RunFolder:
    """An empty run folder: every test here runs on both."""
    if request.param == "local":
        return RunFolder.open(str(tmp_path / "run"))
    return RunFolder.open(f"{request.getfixturevalue('s3')}/run")


def commit(folder: RunFolder) -> Manifest:
    return commit_unit(folder, "u-00000", "a.tar", stage_three_images(), "origin")


def list_names(folder: RunFolder, name: str) -> set[str]:
    return {child.name for child in (folder.location / name).list_children()}


def test_a_commit_is_a_file_and_a_manifest_that_counts_it(folder: RunFolder) -> None:
    manifest = commit(folder)
    assert list(read_manifests(folder)) == [manifest]
    counts = manifest.counts
    assert counts.images == 3
    assert counts.status == {"ok": 1, "failed": 2}
    assert counts.reasons == {"undecodable": 1, "no_image": 1}
    assert counts.failure_examples["undecodable"] == "a.tar 2: undecodable: bad"
    assert (counts.turns, counts.turn_status) == (2, {"ok": 1, "unparsable": 1})
    assert counts.tokens == 25
    assert counts.correction_outcomes == {"complete": 1}
    assert counts.correction_tokens == {"generated": 8, "kept": 5}
    assert counts.seconds == {"generate": 1.5, "score": 0.5}
    records = read_records(folder, manifest)
    assert records.schema.equals(RECORDS)
    assert records["status"].to_pylist() == ["ok", "failed", "failed"]
    assert records["turns"].to_pylist() == [RECORD["turns"], [], []]
    assert set(records["origin"].to_pylist()) == {"origin"}


def test_the_first_commit_counts_and_the_second_learns_it(folder: RunFolder) -> None:
    first, second = commit(folder), commit(folder)
    assert second == first
    assert list(read_manifests(folder)) == [first]
    assert len(list_names(folder, "records")) == 2


def test_one_of_many_racers_wins_and_all_agree(folder: RunFolder) -> None:
    manifests: list[Manifest] = []
    racers = [threading.Thread(target=lambda: manifests.append(commit(folder))) for _ in range(16)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert len(manifests) == 16 and len({manifest.attempt for manifest in manifests}) == 1


def test_lost_files_are_deleted_and_those_that_may_still_be_committed_stay(
    folder: RunFolder,
) -> None:
    kept = commit(folder)
    commit(folder)
    folder.write("records/u-00001-abcdef.parquet", b"its manifest is still to come")
    assert delete_lost_files(folder) == 1
    folder.write("records/.u-00000-123abc.parquet-def", b"half, of a writer that was killed")
    assert delete_lost_files(folder) == 1
    assert list_names(folder, "records") == {Path(str(kept.file)).name, "u-00001-abcdef.parquet"}
    assert delete_lost_files(folder) == 0


def test_a_unit_without_rows_has_a_manifest_and_no_file(folder: RunFolder) -> None:
    manifest = commit_unit(folder, "u-00000", "a.tar", None, "origin")
    assert manifest.file is None and manifest.counts.images == 0
    assert delete_lost_files(folder) == 0


def test_a_lost_response_is_not_a_lost_race(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The put went through and its client was not told: it finds its own attempt, and has won."""
    write_if_absent = Location.write_if_absent

    def write_and_lose_the_response(location: Location, content: bytes) -> bool:
        assert write_if_absent(location, content)
        return write_if_absent(location, content)

    monkeypatch.setattr(Location, "write_if_absent", write_and_lose_the_response)
    assert commit(folder) == next(read_manifests(folder))


def test_a_commit_does_not_combine_chunks(tmp_path: Path) -> None:
    """No single array holds over 2 GiB of bytes."""
    half = stage_three_images()
    records = make_records(pa.concat_tables([half, half]), "origin")
    assert records["image"].num_chunks == 2
    assert records["image"].to_pylist() == [b"x", b"y", None] * 2
    folder = RunFolder.open(str(tmp_path))
    manifest = commit_unit(folder, "u", "a.tar", pa.concat_tables([half, half]), "origin")
    assert read_records(folder, manifest)["key"].to_pylist() == ["1", "2", "3"] * 2


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder.open(str(tmp_path / "run"))

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        commit(folder)
    assert list(read_manifests(folder)) == []
    assert list((tmp_path / "run" / "records").iterdir()) == []


def test_the_notes_of_a_unit_arrive_in_its_manifest_once_each(tmp_path: Path) -> None:
    folder = RunFolder.open(str(tmp_path))
    staged = stage_three_images(notes=[["two", "one"], None, ["one"]])
    manifest = commit_unit(folder, "u-00000", "a.tar", staged, "origin")
    assert manifest.counts.notes == {"one": 1, "two": 1}
    assert next(read_manifests(folder)).counts.notes == {"one": 1, "two": 1}


@pytest.mark.parametrize("columns", [None, ["key"]])
def test_a_file_that_is_gone_is_told(tmp_path: Path, columns: list[str] | None) -> None:
    folder = RunFolder.open(str(tmp_path))
    manifest = commit(folder)
    (tmp_path / str(manifest.file)).unlink()
    with pytest.raises(C3LError, match=f"{tmp_path}/records/.*cannot be read"):
        read_records(folder, manifest, columns)


def fail_as_deleted(*_: object) -> None:
    raise FileNotFoundError("another command has deleted it")


def test_a_late_writer_whose_file_is_deleted_learns_who_was_first(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by a command that has finished on the same folder, and deletes lost files."""
    monkeypatch.setattr(RunFolder, "write", fail_as_deleted)
    with pytest.raises(FileNotFoundError):
        commit(folder)
    monkeypatch.undo()
    first = commit(folder)
    monkeypatch.setattr(RunFolder, "write", fail_as_deleted)
    assert commit(folder) == first


def test_two_commands_may_delete_lost_files_at_once(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = commit(folder)
    folder.write("records/u-00000-lost.parquet", b"x")
    monkeypatch.setattr(Location, "remove", fail_as_deleted)
    assert delete_lost_files(folder) == 1
    assert list(read_manifests(folder)) == [manifest]
