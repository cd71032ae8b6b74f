"""How fast a run was, as its run.json says."""

from pathlib import Path
from typing import Any

import pytest

from c3l_ray.report.gather import find_outputs
from c3l_ray.report.overview import make_pace_table
from tests.report.runs import make_records, write_run

SECONDS = {"generate": 90.0, "score": 30.0, "wall": 100.0, "boot": 40.0}


def read_pace(path: Path, **report: Any) -> dict[str, str]:
    write_run(path, make_records(3), **report)
    table = make_pace_table(find_outputs([str(path)]).runs)
    return {name: value for name, value in table.rows}


def test_the_boot_is_told_apart_from_the_work(tmp_path: Path) -> None:
    pace = read_pace(tmp_path / "a", seconds=SECONDS)
    assert pace["seconds of the latest command"] == "100.0"
    assert pace["of these to its first unit (boot)"] == "40.0"
    assert pace["of these at work"] == "60.0"
    stopped = read_pace(tmp_path / "b", seconds={"wall": 5.0})
    assert stopped["seconds of the latest command"] == "5.0"
    assert "of these at work" not in stopped


@pytest.mark.parametrize(
    ("pools", "score", "told"),
    [
        (
            {"generators": 2, "generator_gpus": 2.0, "scorers": 2, "scorer_gpus": 0.5},
            *(True, ("5", "images for an hour of a GPU", "1,440")),
        ),
        (
            {"generators": 2, "generator_gpus": 1.0, "scorers": 2, "scorer_gpus": None},
            *(False, ("2", "images for an hour of a GPU", "3,600")),
        ),
        ({"scorers": 4, "scorer_gpus": 1.0}, True, ("4", "images for an hour of a GPU", "1,800")),
        (
            {"generators": 1, "generator_gpus": 0.0, "scorers": 1, "scorer_gpus": 0.0},
            *(True, ("0", "images an hour, of all nodes together", "7,200")),
        ),
    ],
)
def test_images_are_told_for_an_hour_of_a_gpu(
    tmp_path: Path, pools: dict[str, Any], score: bool, told: tuple[str, str, str]
) -> None:
    config = {"pools": pools, "score": score}
    pace = read_pace(tmp_path, config=config, images_per_s=2.0, seconds=SECONDS)
    gpus, name, images = told
    assert (pace["GPUs"], pace[name]) == (gpus, images)


@pytest.mark.parametrize(
    "config", [{}, {"pools": {"generators": None, "generator_gpus": None, "scorer_gpus": 0.0}}]
)
def test_gpus_that_are_not_known_are_not_told(tmp_path: Path, config: dict[str, Any]) -> None:
    pace = read_pace(tmp_path, config=config, images_per_s=2.0)
    assert "GPUs" not in pace and not [name for name in pace if "hour" in name]
