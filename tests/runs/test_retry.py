"""Failed rows done again: only they, and their unit stays whole."""

from pathlib import Path

import pyarrow as pa
import pytest

from c3l_ray.errors import C3LError, PreflightError
from c3l_ray.runs.commit import (
    Manifest,
    commit_unit,
    read_manifests,
    read_records,
)
from c3l_ray.runs.failures import name_unread_row
from c3l_ray.runs.folder import RunFolder
from c3l_ray.runs.lost_files import delete_lost_files
from c3l_ray.runs.retry import count_failed, heal_unit, plan_retry, take_failed
from c3l_ray.schema import replace_columns
from tests.examples import RECORD
from tests.runs.tables import stage_three_images

UNDECODABLE = frozenset({"undecodable"})


@pytest.fixture(params=["local", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> RunFolder:
    """An empty run folder: every test that uses it runs on both."""
    if request.param == "local":
        return RunFolder.open(str(tmp_path / "run"))
    return RunFolder.open(f"{request.getfixturevalue('s3')}/run")


@pytest.fixture
def earlier(folder: RunFolder) -> Manifest:
    """A unit whose second image is undecodable, and whose third has no bytes."""
    staged = replace_columns(stage_three_images(), faults=[["KeyError: x"], None, None])
    return commit_unit(folder, "u-00000", "a.tar", staged, "origin")


def stage_mended() -> pa.Table:
    """The same images, the first two with other bytes, and both without an error."""
    staged = stage_three_images(notes=[["slow"]] * 3)
    return replace_columns(staged, image=[b"X", b"Y", None], error=[None, None, "no_image: none"])


def heal(folder: RunFolder, manifest: Manifest) -> Manifest:
    """Heals a unit as the pipeline does, where every row that is read gets turns."""
    taken = take_failed(folder, manifest, UNDECODABLE, stage_mended())
    done = replace_columns(taken, turns=[RECORD["turns"]] * taken.num_rows)
    return heal_unit(folder, manifest, UNDECODABLE, done)


def list_names(folder: RunFolder, name: str) -> set[str]:
    return {child.name for child in (folder.location / name).list_children()}


def test_only_the_failed_rows_of_a_reason_are_read_again(
    folder: RunFolder, earlier: Manifest
) -> None:
    taken = take_failed(folder, earlier, UNDECODABLE, stage_mended())
    assert taken["image_id"].to_pylist() == ["b"]
    assert (taken["unit_rows"].to_pylist(), taken["error"].to_pylist()) == ([1], [None])
    both = take_failed(folder, earlier, {"undecodable", "no_image"}, stage_mended())
    assert both["image_id"].to_pylist() == ["b", "c"]
    renamed = replace_columns(stage_mended(), image_id=["a", "other", "c"])
    assert take_failed(folder, earlier, UNDECODABLE, renamed).num_rows == 0
    assert take_failed(folder, earlier, UNDECODABLE, stage_mended()[:1]).num_rows == 0


def test_a_healed_unit_has_new_rows_in_place_of_the_failed_ones(
    folder: RunFolder, earlier: Manifest
) -> None:
    before = read_records(folder, earlier).to_pylist()
    healed = heal(folder, earlier)
    assert list(read_manifests(folder)) == [healed]
    assert (healed.unit, healed.edition) == ("u-00000", 1)
    assert str(healed.file).startswith("records/u-00000.1-")
    first, second, third = read_records(folder, healed).to_pylist()
    assert [first, third] == [before[0], before[2]]  # its bytes are those that were scored
    assert (second["image"], second["status"], second["turns"]) == (b"Y", "ok", RECORD["turns"])
    counts = healed.counts
    assert (counts.images, counts.status) == (3, {"ok": 2, "failed": 1})
    assert counts.reasons == {"no_image": 1}
    assert (counts.turns, counts.tokens) == (4, 50)
    assert counts.seconds == {"generate": 3.0, "score": 1.0}
    assert (counts.notes, counts.faults) == ({"slow": 1}, {"KeyError": 1})


def stage_unread(reason: str) -> pa.Table:
    """The three images of a unit that could not be read."""
    keys = [name_unread_row("u-00000", row) for row in range(3)]
    return replace_columns(
        stage_three_images(),
        image_id=["p", "q", "r"],
        key=keys,
        image=[None] * 3,
        turns=[None] * 3,
        error=[f"{reason}: 8 processes died while they read it"] * 3,
    )


@pytest.mark.parametrize("reason", ["fatal", "exception"])
def test_rows_that_could_not_be_read_become_the_images_at_their_places(
    folder: RunFolder, reason: str
) -> None:
    unread = commit_unit(folder, "u-00000", "a.tar", stage_unread(reason), "origin")
    taken = take_failed(folder, unread, {reason}, stage_mended())
    assert taken["image_id"].to_pylist() == ["a", "b", "c"]
    healed = heal_unit(folder, unread, {reason}, taken)
    records = read_records(folder, healed).to_pylist()
    assert [row["image_id"] for row in records] == ["a", "b", "c"]
    assert healed.counts.status == {"ok": 2, "failed": 1}
    assert healed.counts.reasons == {"no_image": 1}


def test_a_row_that_could_not_be_read_becomes_no_image_that_another_row_has(
    folder: RunFolder,
) -> None:
    """As where a file of a joined unit is gone, or images of a shard have changed places."""
    partly = replace_columns(
        pa.concat_tables([stage_mended()[:1], stage_unread("fatal")[1:]]), unit_rows=[3] * 3
    )
    manifest = commit_unit(folder, "u-00000", "a.tar", partly, "origin")
    assert take_failed(folder, manifest, {"fatal"}, stage_mended()[:2]).num_rows == 0
    shifted = replace_columns(stage_mended(), image_id=["b", "a", "c"])
    taken = take_failed(folder, manifest, {"fatal"}, shifted)
    assert taken["image_id"].to_pylist() == ["c"]
    healed = heal_unit(folder, manifest, {"fatal"}, taken)
    ids = read_records(folder, healed)["image_id"].to_pylist()
    assert sorted(ids) == ["a", "c", "r"]


def test_what_is_healed_is_deleted_and_what_may_still_be_committed_stays(
    folder: RunFolder, earlier: Manifest
) -> None:
    healed = heal(folder, earlier)
    folder.write("records/u-00000.2-abcdef.parquet", b"its manifest is still to come")
    assert delete_lost_files(folder) == 1
    assert list_names(folder, "records") == {
        *(Path(str(healed.file)).name, "u-00000.2-abcdef.parquet")
    }
    assert list_names(folder, "manifests") == {"u-00000.json", "u-00000.1.json"}


def test_of_two_that_heal_one_unit_one_wins_and_both_agree(
    folder: RunFolder, earlier: Manifest
) -> None:
    first, second = heal(folder, earlier), heal(folder, earlier)
    assert first == second and list(read_manifests(folder)) == [first]
    taken = take_failed(folder, earlier, UNDECODABLE, stage_mended())
    assert delete_lost_files(folder) == 2  # the earlier edition, and the second healer's file
    assert heal_unit(folder, earlier, UNDECODABLE, taken) == first  # it came late


def test_a_row_that_had_not_failed_is_not_replaced(folder: RunFolder, earlier: Manifest) -> None:
    with pytest.raises(C3LError, match="rows came back that had not failed"):
        heal_unit(folder, earlier, UNDECODABLE, stage_mended()[:1])


def test_a_late_writer_of_the_first_edition_changes_nothing(
    folder: RunFolder, earlier: Manifest
) -> None:
    healed = heal(folder, earlier)
    commit_unit(folder, "u-00000", "a.tar", stage_three_images(), "origin")
    assert list(read_manifests(folder)) == [healed]


def test_the_units_with_failed_rows_of_a_reason_are_done_again(
    folder: RunFolder, earlier: Manifest
) -> None:
    good = commit_unit(folder, "u-00001", "b.tar", None, "origin")
    assert count_failed(earlier, {"no_image", "undecodable"}) == 2
    retry = plan_retry([earlier, good], ())
    assert (retry.reasons, retry.manifests) == (
        frozenset({"undecodable", "no_image"}),
        {"u-00000": earlier},
    )
    assert plan_retry([earlier, good], ("no_image",)).reasons == {"no_image"}
    assert not plan_retry([good], ()).manifests
    with pytest.raises(PreflightError, match="--retry-failed emtpy: no image failed for it; the"):
        plan_retry([earlier, good], ("emtpy",))
