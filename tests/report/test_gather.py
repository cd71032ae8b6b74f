import json
from pathlib import Path

import pytest

from c3l_ray.errors import PreflightError
from c3l_ray.report.gather import MEASUREMENTS, find_outputs
from c3l_ray.train.learning import metrics
from tests.report.runs import make_records, write_run
from tests.runs.tables import make_report


def write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def test_the_stages_of_c3l_are_found_in_their_order(tmp_path: Path) -> None:
    write_json(tmp_path / "run.json", {"job": "c3l"})
    for number in (0, 2, 10):
        write_run(tmp_path / f"round-{number}", make_records(1), origin=f"o{number}")
    write_json(tmp_path / "train-2" / "run.json", {"job": "train"})
    write_json(tmp_path / "train-2" / "measurements.json", [{"step": 1, "loss": 2.0}])
    write_json(tmp_path / "dataset" / "selection.json", {"origin": "o10"})
    (tmp_path / "round-11").mkdir()
    (tmp_path / "round-x").mkdir()
    found = find_outputs([str(tmp_path)])
    assert [run.name for run in found.runs] == ["round-0", "round-2", "round-10"]
    assert [training.name for training in found.trainings] == ["train-2"]
    assert found.trainings[0].measurements == [{"step": 1, "loss": 2.0}]
    assert found.datasets_of(found.runs[-1]) == found.datasets
    assert not found.datasets_of(found.runs[0])


def test_a_run_that_has_just_been_claimed_is_one_without_images(tmp_path: Path) -> None:
    write_run(tmp_path, finished=None)
    (run,) = find_outputs([str(tmp_path)]).runs
    assert (run.counts.images, run.manifests) == (0, [])


def test_an_output_that_is_named_twice_is_there_once(tmp_path: Path) -> None:
    write_run(tmp_path / "run", make_records(2))
    write_json(tmp_path / "run" / "dataset" / "selection.json", {"origin": "o"})
    paths = [str(tmp_path / "run"), f"{tmp_path}/run/", str(tmp_path / "run" / "dataset")]
    found = find_outputs(paths)
    assert (len(found.runs), len(found.datasets)) == (1, 1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "not the output of a run: it has no run.json"),
        ("[]", "its run.json is not that of a job"),
        ('{"job":', "run.json cannot be read"),
        (json.dumps(make_report(identity={"schema": 1})), "written by another version"),
    ],
)
def test_what_is_no_output_is_refused(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    with pytest.raises(PreflightError, match=message):
        find_outputs([str(tmp_path)])


def test_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PreflightError, match="is a file, not the output folder of a job"):
        find_outputs([str(tmp_path / "file")])


def test_measurements_lie_where_training_writes_them() -> None:
    assert MEASUREMENTS == metrics.MEASUREMENTS
