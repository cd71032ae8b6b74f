from pathlib import Path

import numpy as np
import pytest

from c3l_ray.train.reading import scan
from c3l_ray.runs.folder import Output
from c3l_ray.errors import C3LError
from c3l_ray.methods import labels
from tests.train.records import record, write_run


@pytest.fixture
def source(tmp_path: Path) -> Output:
    write_run(tmp_path / "run", num_scenes=20, scenes_per_file=8)
    return Output(str(tmp_path / "run"))


def ids(source: Output, rows: scan.Rows) -> list[str]:
    return [each["image_id"] for name, its in rows for each in scan.read(source, name, its)]


def test_images_are_learnt_from_or_held_out(source: Output) -> None:
    learn, held_out = scan.rows(
        source,
        source.manifests(),
        lambda each: each["image_id"] != "scene-0003",
        scores=["gain"],
        held_out=0.3,
        max_held_out=100,
    )
    learnt, apart = ids(source, learn), ids(source, held_out)
    assert 0 < len(apart) < len(learnt)
    expected = {f"scene-{i:04d}" for i in range(20)} - {"scene-0003"}
    assert sorted([*learnt, *apart]) == sorted(expected)

    fewer, first = scan.rows(
        source, source.manifests(), lambda _: True, scores=[], held_out=0.3, max_held_out=2
    )
    assert len(ids(source, first)) == 2 and not set(ids(source, fewer)) & set(apart)


def test_standings_are_the_sorted_values_of_each_kind(
    source: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = scan.standings(source, source.manifests(), "i2c")
    values: dict[str, list[float]] = {}
    for turn in (turn for i in range(20) for turn in record(i)["turns"]):
        values.setdefault(turn["kind"], []).append(labels.ranking_value(turn, "i2c") or 0.0)
    assert found.keys() == values.keys()
    for kind, its in values.items():
        assert np.allclose(found[kind], np.sort(its), atol=1e-6)
    monkeypatch.setattr(learnable, "MOST_STANDINGS", 5)
    thinned = scan.standings(source, source.manifests(), "i2c")
    for kind, its in values.items():
        assert len(thinned[kind]) == 5
        assert np.isclose(thinned[kind][0], min(its)) and np.isclose(thinned[kind][-1], max(its))


def test_a_damaged_file_is_not_learnt_from(source: Output) -> None:
    manifest = next(source.manifests())
    path = Path(source.root) / str(manifest.file)
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(C3LError, match="is damaged"):
        scan.read(source, scan.named(manifest), [0])
