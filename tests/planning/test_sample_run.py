"""What a run over a sample measured, read from the files that it committed."""

import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from c3l_ray.config import Pools
from c3l_ray.errors import C3LError, TooManyFailures
from c3l_ray.planning.sample import Sample
from c3l_ray.planning.sample_run import SampleRun, measure_sample
from c3l_ray.runs.commit import commit_unit
from c3l_ray.runs.folder import RunFolder
from c3l_ray.schema import STAGED_ROWS, conform
from tests.examples import RECORD

POOLS = Pools(generators=1, scorers=1, generator_gpus=0.7, scorer_gpus=0.3)
TURNS: list[dict[str, Any]] = RECORD["turns"]
NUM_TOKENS = sum(turn["num_tokens"] for turn in TURNS)
NUM_OK = sum(turn["status"] == "ok" for turn in TURNS)


def make_rows(**columns: list[Any]) -> pa.Table:
    num_rows = len(columns["key"])
    defaults: dict[str, Any] = {
        "image_id": columns["key"],
        "source": ["a.tar"] * num_rows,
        "unit": ["u"] * num_rows,
        "unit_rows": [num_rows] * num_rows,
    }
    names = {name: [None] * num_rows for name in STAGED_ROWS.names}
    return conform({**names, **defaults, **columns}, STAGED_ROWS)


def make_sample() -> Sample:
    """Four images, of which the second cannot be read."""
    rows = make_rows(
        key=["k0", "k1", "k2", "k3"],
        image=[b"x" * 3000, None, b"x" * 1000, b"x" * 2000],
        error=[None, "no_image: none", None, None],
    )
    return Sample(rows=rows, shards=["a.tar", "a.tar", "b.tar", "c.tar"])


def commit(tmp_path: Path, **columns: list[Any]) -> RunFolder:
    folder = RunFolder.open(str(tmp_path / "run"))
    folder.write_json("run.json", {"origin": "o"})
    num_rows = len(columns["key"])
    seconds = {"generate_s": [6.0] * num_rows, "score_s": [1.5] * num_rows}
    commit_unit(folder, "u", "sample.parquet", make_rows(**seconds, **columns), "o")
    return folder


def measure(sample: Sample, folder: RunFolder, *, keeps_images: bool = True) -> SampleRun:
    return measure_sample(sample, folder, 40.0, POOLS, keeps_images=keeps_images)


def test_each_image_has_its_turns_tokens_and_bytes(tmp_path: Path) -> None:
    folder = commit(
        tmp_path,
        key=["00000000", "00000003", "00000002"],
        image=[os.urandom(3000), os.urandom(2000), os.urandom(1000)],
        turns=[TURNS, TURNS, []],
        error=[None, None, "undecodable: no known format"],
    )
    run = measure(make_sample(), folder)
    assert run.shards == ["a.tar", "a.tar", "b.tar", "c.tar"] and run.images == 4
    assert run.turns == [len(TURNS), 0, 0, len(TURNS)]
    assert run.usable_turns == [NUM_OK, 0, 0, NUM_OK]
    assert run.tokens == [NUM_TOKENS, 0, 0, NUM_TOKENS]
    assert run.reasons == {"no_image": 1, "undecodable": 1} and run.example == "no_image: none"
    assert (run.run, run.generate_s, run.score_s, run.boot_s) == (3, 6.0, 1.5, 40.0)
    assert run.pools == POOLS
    (file,) = (tmp_path / "run" / "records").iterdir()
    of_file = [run.record_bytes[row] for row in (0, 2, 3)]
    assert sum(of_file) == pytest.approx(file.stat().st_size)
    assert of_file[0] > of_file[2] > of_file[1] > run.record_bytes[1] > 0


def test_records_without_images_have_the_bytes_of_their_texts(tmp_path: Path) -> None:
    keys = ["00000000", "00000002", "00000003"]
    folder = commit(tmp_path, key=keys, turns=[TURNS, TURNS, TURNS])
    run = measure(make_sample(), folder, keeps_images=False)
    (file,) = (tmp_path / "run" / "records").iterdir()
    of_file = [run.record_bytes[row] for row in (0, 2, 3)]
    assert of_file == pytest.approx([file.stat().st_size / 3] * 3)


def test_a_sample_of_which_no_image_gave_a_turn_plans_nothing(tmp_path: Path) -> None:
    error = "undecodable: no known format"
    keys = ["00000000", "00000002", "00000003"]
    folder = commit(tmp_path, key=keys, turns=[[], [], []], error=[error] * 3)
    message = "none of the 4 sampled images gave a turn, .*, for example undecodable: no known"
    with pytest.raises(TooManyFailures, match=message) as raised:
        measure(make_sample(), folder)
    assert raised.value.exit_status == 4


def test_a_sample_that_is_not_whole_plans_nothing(tmp_path: Path) -> None:
    folder = commit(tmp_path, key=["00000000"], turns=[TURNS])
    with pytest.raises(C3LError, match="the sample has 3 images to run, and 1 ran"):
        measure(make_sample(), folder)
