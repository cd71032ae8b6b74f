import math
from pathlib import Path

import numpy as np

from c3l_ray.report.gather import find_outputs
from c3l_ray.report.turn_table import TurnTable, choose_files, read_turns
from tests.report.runs import UNUSABLE, make_records, make_turn, write_run


def read(path: Path, max_turns: int = 1000) -> TurnTable:
    (run,) = find_outputs([str(path)]).runs
    return read_turns(run, max_turns)


def test_turns_become_rows_with_their_places(tmp_path: Path) -> None:
    turns = [
        make_turn(0.5, draft=None, answer="née"),
        UNUSABLE,
        make_turn(None, kind="short", alternatives=None, scores={"gain": math.inf}),
    ]
    write_run(tmp_path, [{"turns": []}, {"turns": turns}], [{"turns": turns[:1]}])
    table = read(tmp_path)
    columns = table.columns
    assert columns["unit"].to_pylist() == [0, 0, 0, 1]
    assert columns["row"].to_pylist() == [1, 1, 1, 0]
    assert columns["place"].to_pylist() == [0, 1, 2, 0]
    assert columns["length"].to_pylist() == [3, None, 18, 3]
    assert columns["is_corrected"].to_pylist() == [False, False, True, False]
    assert columns["has_alternatives"].to_pylist() == [True, False, False, True]
    np.testing.assert_equal(table.values("visual_ifd"), [0.5, np.nan, np.nan, 0.5])
    np.testing.assert_equal(table.values("gain"), [0.75, np.nan, np.nan, 0.75])
    assert table.is_ok().tolist() == [True, False, True, True]
    assert table.kinds == ["dialogue", "short", "yes_no"]
    assert sum(table.instructions.values()) == 4


def test_a_run_without_turns_has_an_empty_table(tmp_path: Path) -> None:
    write_run(tmp_path / "none")
    write_run(tmp_path / "failed", [{"turns": [], "error": "empty: none"}])
    for name in ("none", "failed"):
        table = read(tmp_path / name)
        assert table.columns.num_rows == 0 and not table.is_sample and table.kinds == []


def test_a_sample_has_of_every_shard_the_same_share(tmp_path: Path) -> None:
    units = [
        make_records(2, first=10 * number, source=f"{number // 4}.tar") for number in range(12)
    ]
    write_run(tmp_path / "one", *units)
    write_run(tmp_path / "other", *units)
    table = read(tmp_path / "one", max_turns=12)
    assert table.is_sample and table.columns.num_rows == 12
    shards = [manifest.source for manifest in table.manifests]
    assert sorted(shards) == ["0.tar", "0.tar", "1.tar", "1.tar", "2.tar", "2.tar"]
    same_units = [manifest.unit for manifest in read(tmp_path / "other", 12).manifests]
    assert [manifest.unit for manifest in table.manifests] == same_units


def test_a_file_is_read_however_large(tmp_path: Path) -> None:
    write_run(tmp_path, make_records(5), make_records(5))
    (run,) = find_outputs([str(tmp_path)]).runs
    assert len(choose_files(run.manifests, 1)) == 1
