import dataclasses
import io
import os
import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from c3l_ray import storage
from c3l_ray.runs.folder import Manifest, Output
from c3l_ray.inputs.units import Shard, Unit
from c3l_ray.errors import PreflightError
from c3l_ray.schema import STAGED_ROWS, RECORDS, conform
from tests.test_schema import RECORD


def unit(name: str = "u-00000", rows: int = 3) -> Unit:
    return Unit(name=name, format="tar", path="a.tar", source="a.tar", start=0, end=9, rows=rows)


def table(name: str = "u-00000") -> pa.Table:
    return conform(
        {
            "image_id": ["a", "b", "c"],
            "key": ["1", "2", "3"],
            "source": ["a.tar"] * 3,
            "image": [b"x", b"y", None],
            "turns": [RECORD["turns"], [], None],
            "error": [None, "undecodable: bad", "no_image: none"],
            "unit": [name] * 3,
            "unit_rows": [3] * 3,
            "generate_s": [1.5] * 3,
            "score_s": [0.5] * 3,
        },
        STAGED_ROWS,
    )


@pytest.fixture(params=["local", "s3"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> Output:
    """An empty output: every test here runs on both."""
    if request.param == "local":
        return Output(str(tmp_path / "run"))
    return Output(f"{request.getfixturevalue('s3')}/run")


def names(output: Output, folder: str = "") -> set[str]:
    output.fs.invalidate_cache()
    return {
        path.rpartition("/")[2] for path in output.fs.ls(f"{output.root}/{folder}", detail=False)
    }


def read_records(output: Output, manifest: Manifest) -> pa.Table:
    return pq.read_table(io.BytesIO(output.fs.cat_file(f"{output.root}/{manifest.file}")))


def test_a_commit_is_a_file_and_a_manifest_that_counts_it(output: Output) -> None:
    manifest = output.commit("u-00000", "a.tar", table(), "origin")
    assert list(output.manifests()) == [manifest]
    assert manifest.rows == 3
    assert manifest.status == {"ok": 1, "failed": 2}
    assert manifest.reasons == {"undecodable": 1, "no_image": 1}
    assert manifest.examples["undecodable"] == "a.tar 2: undecodable: bad"
    assert manifest.turns == {"ok": 1, "unparsable": 1}
    assert manifest.tokens == 25
    assert manifest.corrections == {"complete": 1}
    assert manifest.correction_tokens == {"generated": 8, "kept": 5}
    assert manifest.seconds == {"generate": 1.5, "score": 0.5}
    records = read_records(output, manifest)
    assert records.schema.equals(RECORDS)
    assert records["status"].to_pylist() == ["ok", "failed", "failed"]
    assert records["turns"].to_pylist() == [RECORD["turns"], [], []]
    assert set(records["origin"].to_pylist()) == {"origin"}


def test_the_first_commit_counts_and_the_second_learns_it(output: Output) -> None:
    first = output.commit("u-00000", "a.tar", table(), "origin")
    second = output.commit("u-00000", "a.tar", table(), "origin")
    assert second == first
    assert list(output.manifests()) == [first]
    assert len(names(output, "records")) == 2


def test_of_many_racers_one_wins_and_all_agree(output: Output) -> None:
    found: list[Manifest] = []
    racers = [
        threading.Thread(
            target=lambda: found.append(output.commit("u-00000", "a.tar", table(), "origin"))
        )
        for _ in range(16)
    ]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert len(found) == 16 and len({manifest.attempt for manifest in found}) == 1


def test_the_sweep_takes_losers_and_leaves_what_may_still_be_committed(output: Output) -> None:
    kept = output.commit("u-00000", "a.tar", table(), "origin")
    output.commit("u-00000", "a.tar", table(), "origin")
    output.put("records/u-00001-abcdef.parquet", b"its manifest is still to come")
    assert output.sweep() == 1
    output.put("records/.u-00000-123abc.parquet-def", b"half, of a writer that was killed")
    assert output.sweep() == 1
    assert names(output, "records") == {Path(str(kept.file)).name, "u-00001-abcdef.parquet"}
    assert output.sweep() == 0


def test_a_unit_without_rows_has_a_manifest_and_no_file(output: Output) -> None:
    manifest = output.commit("u-00000", "a.tar", None, "origin")
    assert manifest.file is None and manifest.rows == 0
    assert output.sweep() == 0


def test_a_lost_response_is_not_a_lost_race(
    output: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The put went through and its client was not told: it finds its own attempt, and has won."""
    put_first = storage.put_first

    def told_late(fs: Any, path: str, content: bytes) -> bool:
        assert put_first(fs, path, content)
        return put_first(fs, path, content)

    monkeypatch.setattr(storage, "put_first", told_late)
    assert output.commit("u-00000", "a.tar", table(), "origin") == next(output.manifests())


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = Output(str(tmp_path / "run"))

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        output.commit("u-00000", "a.tar", table(), "origin")
    assert list(output.manifests()) == []
    assert list((Path(output.path) / "records").iterdir()) == []


def test_a_folder_belongs_to_one_origin(output: Output) -> None:
    output.claim("one", {"turns": 5, "model": "m"})
    output.claim("one", {"turns": 5, "model": "m"})
    with pytest.raises(PreflightError) as refused:
        output.claim("two", {"turns": 3, "model": "m"})
    message = str(refused.value)
    assert "origin one" in message and "origin two" in message
    assert "turns: 5 there, 3 now" in message and "model" not in message.split("differ in")[1]


def test_manifests_without_a_run_are_not_taken_over(output: Output) -> None:
    output.commit("u-00000", "a.tar", table(), "origin")
    with pytest.raises(PreflightError, match=r"has manifests but no run\.json"):
        output.claim("one", {})


def test_a_selection_is_no_place_for_a_run(output: Output) -> None:
    output.write_json("selection.json", {})
    with pytest.raises(PreflightError, match="holds a selection"):
        output.claim("one", {})


def test_s3_without_permission_is_refused(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import s3fs

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "readeraccess")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "readersecret")
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(PreflightError, match=r"--output s3://.*: cannot be used"):
        Output(f"{s3}/run").claim("one", {})


def test_an_output_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(PreflightError, match="--output"):
        Output(str(tmp_path / "file" / "run")).claim("one", {})


def test_units_are_remembered_until_the_shard_changes(output: Output) -> None:
    shard = Shard(format="tar", path="/data/a.tar", source="a.tar", size=10)
    assert output.known_units(shard) is None
    output.note_units(shard, [unit()])
    moved = dataclasses.replace(shard, path="/elsewhere/a.tar")
    assert output.known_units(moved) == [dataclasses.replace(unit(), path="/elsewhere/a.tar")]
    with pytest.raises(PreflightError, match="10 bytes then, 11 now"):
        output.known_units(dataclasses.replace(shard, size=11))
    with pytest.raises(PreflightError, match="has changed since"):
        output.known_units(dataclasses.replace(shard, etag="other content, as long"))


def test_json_is_replaced_whole(output: Output) -> None:
    assert output.read_json("run.json") is None
    content: dict[str, Any] = {"a": 1}
    for i in range(3):
        output.write_json("run.json", {**content, "i": i})
    assert output.read_json("run.json") == {"a": 1, "i": 2}
    assert names(output) == {"run.json"}
