from pathlib import Path

import numpy as np
import pytest

from c3l_ray.methods import labels
from c3l_ray.runs.folder import RunFolder
from c3l_ray.train.reading import scan
from c3l_ray.train.reading.order import FileRows
from c3l_ray.train.reading.sources import RecordsSource
from tests.train.records import make_record, write_run

SCORE_FIELDS = ("kind", "status", "scores.i2c")


@pytest.fixture
def source(tmp_path: Path) -> RecordsSource:
    write_run(tmp_path / "run", num_scenes=20, scenes_per_file=8)
    return RecordsSource(RunFolder.open(str(tmp_path / "run")), "test")


def list_image_ids(source: RecordsSource, files: tuple[FileRows, ...]) -> list[str]:
    return [record["image_id"] for file in files for record in source.read(file.address, file.rows)]


def test_images_are_learnt_from_or_held_out(source: RecordsSource) -> None:
    files, held_out = scan.find_usable_rows(
        source.texts(),
        lambda record: record["image_id"] != "scene-0003",
        held_out_share=0.3,
        max_held_out=100,
    )
    learnt_ids, held_out_ids = list_image_ids(source, files), list_image_ids(source, held_out)
    assert 0 < len(held_out_ids) < len(learnt_ids)
    expected = {f"scene-{number:04d}" for number in range(20)} - {"scene-0003"}
    assert sorted([*learnt_ids, *held_out_ids]) == sorted(expected)

    files, first_held_out = scan.find_usable_rows(
        source.texts(), lambda _: True, held_out_share=0.3, max_held_out=2
    )
    assert len(list_image_ids(source, first_held_out)) == 2
    assert not set(list_image_ids(source, files)) & set(held_out_ids)


def test_quantiles_are_the_sorted_values_of_each_kind(
    source: RecordsSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    quantiles = scan.collect_score_quantiles(source.read_columns((), SCORE_FIELDS), "i2c")
    values: dict[str, list[float]] = {}
    for turn in (turn for number in range(20) for turn in make_record(number)["turns"]):
        values.setdefault(turn["kind"], []).append(labels.ranking_value(turn, "i2c") or 0.0)
    assert quantiles.keys() == values.keys()
    for kind, kind_values in values.items():
        assert np.allclose(quantiles[kind], np.sort(kind_values), atol=1e-6)
    monkeypatch.setattr(scan, "MAX_QUANTILES", 5)
    thinned = scan.collect_score_quantiles(source.read_columns((), SCORE_FIELDS), "i2c")
    for kind, kind_values in values.items():
        assert len(thinned[kind]) == 5
        assert np.isclose(thinned[kind][0], min(kind_values))
        assert np.isclose(thinned[kind][-1], max(kind_values))
