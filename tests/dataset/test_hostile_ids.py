"""Ids in a stranger's files are data: they never become paths."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from c3l_ray.dataset.select import select_turns
from c3l_ray.identity import Identity
from c3l_ray.inputs.find import find_shards
from c3l_ray.inputs.layout import TurnsLayout
from c3l_ray.inputs.read import index_shard, read_unit
from c3l_ray.runs.commit import commit_unit
from c3l_ray.runs.folder import RunFolder
from c3l_ray.schema import RECORDS, VERSION, conform, replace_columns
from c3l_ray.select_config import SelectConfig
from tests.dataset.runs import ALL_TURNS
from tests.examples import RECORD, EncodeImage

HOSTILE_IDS = (
    "../../../victim/owned",
    "/victim/owned",
    "..",
    "a\0b",
    "..\\..\\victim\\owned",
    "CON",
    "x" * 5000,
    "",
    "s3://bucket/owned",
)


def write_stranger_records(path: Path, ids: list[str], image: bytes) -> None:
    """A Parquet file with the columns of our records, and ids of a stranger's choice."""
    columns = {name: [RECORD[name]] * len(ids) for name in RECORDS.names}
    columns |= {
        "image_id": ids,
        "image": [image] * len(ids),
        "key": ids,
        "error": [None] * len(ids),
    }
    path.parent.mkdir(parents=True)
    pq.write_table(conform(columns, RECORDS), path)


def commit_and_select(folder: Path, staged: pa.Table) -> Path:
    """A dataset of all turns of a run that has these rows."""
    run = RunFolder.open(str(folder / "run"))
    identity = Identity({"schema": VERSION})
    run.claim(identity, "score")
    scored = replace_columns(staged, turns=[RECORD["turns"]] * staged.num_rows)
    commit_unit(run, "u-00000", "a.parquet", scored, identity.origin)
    select_turns(
        SelectConfig(
            input=str(folder / "run"),
            output=str(folder / "dataset"),
            top=ALL_TURNS,
            llava="images",
        )
    )
    return folder / "dataset"


@pytest.mark.parametrize("is_stranger_run", [False, True])
@pytest.mark.parametrize("hostile", HOSTILE_IDS)
def test_a_hostile_id_writes_nothing_outside_the_dataset(
    tmp_path: Path, encoded: EncodeImage, hostile: str, is_stranger_run: bool
) -> None:
    write_stranger_records(tmp_path / "in" / "a.parquet", [hostile], encoded())
    (shard,) = find_shards((str(tmp_path / "in"),), TurnsLayout())
    (unit,) = index_shard(shard, TurnsLayout())
    staged = read_unit(unit, TurnsLayout())
    if is_stranger_run:  # whose records were not made by us
        staged = replace_columns(staged, image_id=[hostile])
    before = {path for path in tmp_path.rglob("*")}
    dataset = commit_and_select(tmp_path, staged)
    written = {path for path in tmp_path.rglob("*") if path.is_file()} - before
    assert all(path.is_relative_to(dataset) or "run" in path.parts for path in written)
    (image,) = (dataset / "images").iterdir()
    assert image.read_bytes() == encoded()


def test_two_rows_of_one_id_stay_two_images(tmp_path: Path, encoded: EncodeImage) -> None:
    write_stranger_records(tmp_path / "in" / "a.parquet", ["0" * 16] * 2, encoded())
    (shard,) = find_shards((str(tmp_path / "in"),), TurnsLayout())
    (unit,) = index_shard(shard, TurnsLayout())
    dataset = commit_and_select(tmp_path, read_unit(unit, TurnsLayout()))
    assert len(list((dataset / "images").iterdir())) == 2
