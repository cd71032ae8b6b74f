"""The failed images of a run, without reading those that did not fail."""

from pathlib import Path

import pytest

from c3l_ray.errors import PreflightError
from c3l_ray.runs import failures
from c3l_ray.runs.commit import Manifest, commit_unit, read_records
from c3l_ray.runs.failures import Failure, find_failures
from c3l_ray.runs.folder import RunFolder
from tests.examples import RECORD
from tests.runs.tables import stage_three_images, stage_turns


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """Two units with two failed images each, and one without."""
    folder = RunFolder.open(str(tmp_path))
    for unit in ("u-0", "u-2"):
        commit_unit(folder, unit, "a.tar", stage_three_images(unit), "o")
    commit_unit(folder, "u-1", "a.tar", stage_turns(RECORD["turns"], "u-1"), "o")
    commit_unit(folder, "u-3", "a.tar", None, "o")
    return folder


def test_every_failed_image_is_listed_with_its_reason(folder: RunFolder) -> None:
    two = [
        Failure(
            source="a.tar", key="2", image_id="b", reason="undecodable", error="undecodable: bad"
        ),
        Failure(source="a.tar", key="3", image_id="c", reason="no_image", error="no_image: none"),
    ]
    assert list(find_failures(folder)) == [*two, *two]
    assert list(find_failures(folder, ["no_image"])) == [two[1], two[1]]
    assert list(find_failures(folder, ["no_image", "undecodable"])) == [*two, *two]


def test_a_reason_that_no_image_has_is_refused_with_those_that_there_are(
    folder: RunFolder, tmp_path: Path
) -> None:
    with pytest.raises(PreflightError, match=r"--reason empty: .*are no_image, undecodable$"):
        list(find_failures(folder, ["no_image", "empty"]))
    empty = RunFolder.open(str(tmp_path / "other"))
    assert list(find_failures(empty)) == []
    with pytest.raises(PreflightError, match="no image failed for it, or for any reason"):
        list(find_failures(empty, ["empty"]))


def test_files_without_failures_are_not_read(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def note(folder: RunFolder, manifest: Manifest, columns: list[str]) -> object:
        read.append(manifest.unit)
        assert "image" not in columns and "turns" not in columns
        return read_records(folder, manifest, columns)

    monkeypatch.setattr(failures, "read_records", note)
    list(find_failures(folder))
    assert sorted(read) == ["u-0", "u-2"]
