"""Chosen rows, found in whatever batches a unit is read in."""

import pytest

from c3l_ray.dataset.chosen_records import read_chosen
from c3l_ray.runs import commit
from c3l_ray.runs.commit import read_manifests
from c3l_ray.runs.folder import RunFolder
from tests.dataset.runs import WriteRun, make_turn


@pytest.mark.parametrize("batch_rows", [1, 2, 3, 100])
def test_rows_are_taken_batch_by_batch(
    write_run: WriteRun, monkeypatch: pytest.MonkeyPatch, batch_rows: int
) -> None:
    path = write_run([[make_turn(row), make_turn(row + 0.5)] for row in range(7)])
    source = RunFolder.open(str(path))
    manifests = {manifest.unit: manifest for manifest in read_manifests(source)}
    monkeypatch.setattr(commit, "BATCH_ROWS", batch_rows)
    choice = {"u-00000": {5: [1, 0], 2: [1], 6: [0]}}
    found = list(read_chosen(source, manifests, choice))
    ids = [image_id for chosen in found for image_id in chosen.table["image_id"].to_pylist()]
    assert ids == ["u-00000-2", "u-00000-5", "u-00000-6"]
    turns = [turns for chosen in found for turns in chosen.table["turns"].to_pylist()]
    questions = [[turn["question"] for turn in of_record] for of_record in turns]
    assert questions == [["q 2.5"], ["q 5", "q 5.5"], ["q 6"]]
    assert [places for chosen in found for places in chosen.places] == [[1], [0, 1], [0]]
    assert [number for chosen in found for number in chosen.num_turns] == [2, 2, 2]
    assert all(chosen.table["image"].num_chunks == 1 for chosen in found)
