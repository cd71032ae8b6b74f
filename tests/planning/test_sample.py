"""Images drawn from an input, and the file and the unit that they become."""

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from c3l_ray.inputs.find import find_shards
from c3l_ray.inputs.index import read_units
from c3l_ray.inputs.joins import join_small_units
from c3l_ray.inputs.layout import Layout
from c3l_ray.inputs.read import index_shard, read_unit
from c3l_ray.inputs.units import Unit
from c3l_ray.planning.sample import LAYOUT, choose_places, draw_sample, write_sample
from c3l_ray.runs.folder import RunFolder
from c3l_ray.scenes import world


def index(folder: Path) -> list[Unit]:
    shards = find_shards((str(folder),), Layout())
    return [unit for shard in shards for unit in index_shard(shard, Layout())]


def test_every_place_is_as_likely_and_places_are_spread() -> None:
    drawn = Counter(place for seed in range(6_000) for place in choose_places(10, 4, seed))
    assert all(drawn[place] / 6_000 == pytest.approx(0.4, abs=0.03) for place in range(10))
    for seed in range(50):
        places = choose_places(1_000, 16, seed)
        assert len({*places}) == 16 and {int(gap) for gap in np.diff(places)} <= {62, 63}


def test_of_a_small_input_all_images_are_drawn() -> None:
    assert choose_places(5, 16, 0) == [0, 1, 2, 3, 4]
    assert choose_places(5, 5, 3) == [0, 1, 2, 3, 4]


def test_a_sample_is_spread_over_the_shards_and_has_the_inputs_own_bytes(tmp_path: Path) -> None:
    world.write_scenes(tmp_path / "in", num_scenes=12, scenes_per_shard=3)
    units = index(tmp_path / "in")
    sample = draw_sample(units, Layout(), 4, seed=1)
    assert sample.shards == [f"scenes-0000{number}.tar" for number in range(4)]
    all_rows = [row for unit in units for row in read_unit(unit, Layout()).to_pylist()]
    images = {row["image_id"]: row["image"] for row in all_rows}
    drawn = {row["image_id"]: row["image"] for row in sample.rows.to_pylist()}
    assert len(drawn) == 4 and drawn.items() <= images.items()
    assert draw_sample(units, Layout(), 4, seed=1).rows.equals(sample.rows)
    others = draw_sample(units, Layout(), 4, seed=2).rows
    assert not others.equals(sample.rows)


def test_the_row_of_a_damage_is_no_image(tmp_path: Path) -> None:
    world.write_scenes(tmp_path / "in", num_scenes=6, scenes_per_shard=6)
    (shard,) = (tmp_path / "in").iterdir()
    shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2])
    (unit,) = index(tmp_path / "in")
    assert unit.damage is not None
    sample = draw_sample([unit], Layout(), 16, seed=0)
    assert sample.rows.num_rows == unit.rows - 1 and "damaged_shard" not in sample.reasons


def test_readable_images_become_one_unit_of_a_run(tmp_path: Path) -> None:
    world.write_scenes(tmp_path / "in", num_scenes=6, scenes_per_shard=3)
    world.write_shard(tmp_path / "in" / "bad.tar", [("lonely.txt", b"no image")])
    sample = draw_sample(index(tmp_path / "in"), Layout(), 16, seed=0)
    assert sample.reasons == {"no_image": 1} and sample.readable == [1, 2, 3, 4, 5, 6]
    run = RunFolder.open(str(tmp_path / "run"))
    shard = write_sample(sample, RunFolder.open(str(tmp_path / "sample")), run)
    units = read_units(run, shard)
    assert units is not None
    (unit,) = join_small_units(units, run)
    read = read_unit(unit, LAYOUT)
    assert unit.rows == read.num_rows == 6
    for name in ("image", "caption", "meta"):
        assert read[name].to_pylist() == sample.rows[name].take(sample.readable).to_pylist()
    assert [int(key) for key in read["key"].to_pylist()] == sample.readable
    assert pq.ParquetFile(tmp_path / "sample" / "sample.parquet").num_row_groups == 1
    assert find_shards((shard.address,), LAYOUT)[0].size == shard.size
