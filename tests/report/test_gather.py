import json
from pathlib import Path

import pytest

from c3l_ray.errors import PreflightError
from c3l_ray.report.gather import MEASUREMENTS, Findings, find_outputs
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


def name_datasets(found: Findings) -> dict[str, list[str]]:
    return {run.name: [dataset.name for dataset in found.datasets_of(run)] for run in found.runs}


@pytest.mark.parametrize("is_relative", [False, True])
def test_a_selection_is_of_the_run_it_names_and_not_of_all_of_the_origin(
    tmp_path: Path, is_relative: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        write_run(tmp_path / name, make_records(2))
    path = "a/" if is_relative else str(tmp_path / "a")
    write_json(tmp_path / "a-best" / "selection.json", {"origin": "o", "input": path})
    (tmp_path / "link").symlink_to(tmp_path / "a")
    assert name_datasets(find_outputs(["a", "b", "a-best"])) == {"a": ["a-best"], "b": []}
    assert name_datasets(find_outputs(["b", "link", "a-best"])) == {"b": [], "link": ["a-best"]}


def test_a_selection_of_a_run_that_was_moved_is_of_the_only_one_of_its_origin(
    tmp_path: Path,
) -> None:
    write_run(tmp_path / "a", make_records(2))
    write_run(tmp_path / "b", make_records(2), origin="p")
    write_run(tmp_path / "c", make_records(2))
    for number, path in enumerate(("/gone/a", "s3://bucket/a", "gs://bucket/a", 3)):
        selection = tmp_path / f"best-{number}" / "selection.json"
        write_json(selection, {"origin": "o", "input": path})
        best = str(selection.parent)
        found = find_outputs([str(tmp_path / "a"), str(tmp_path / "b"), best])
        assert name_datasets(found) == {"a": [f"best-{number}"], "b": []}
        assert not found.explain_strangers()
        found = find_outputs([str(tmp_path / "a"), str(tmp_path / "c"), best])
        assert name_datasets(found) == {"a": [], "c": []}
        (sentence,) = found.explain_strangers()
        assert sentence == (
            f"best-{number} was selected from the run {path}, and several of these have its origin "
            "(a, c), so that the page does not show it."
        )


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
