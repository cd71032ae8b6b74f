"""The list of failed images as a user sees it."""

import json
from pathlib import Path

import pytest

from c3l_ray.errors import PreflightError
from c3l_ray.runs.commit import commit_unit
from c3l_ray.runs.folder import RunFolder
from jobs.failed import FailedConfig, run
from tests.runs.tables import make_report, stage_three_images


@pytest.fixture
def output(tmp_path: Path) -> str:
    folder = RunFolder.open(str(tmp_path))
    folder.write_json("run.json", make_report())
    commit_unit(folder, "u", "a.tar", stage_three_images(), "o")
    return str(tmp_path)


def test_a_line_of_a_table_or_of_json_for_each(
    output: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run(FailedConfig(run=output))
    assert capsys.readouterr().out.splitlines() == [
        "source  key  error",
        "a.tar   2    undecodable: bad",
        "a.tar   3    no_image: none",
    ]
    run(FailedConfig(run=output, json=True, reason=("no_image",)))
    assert json.loads(capsys.readouterr().out) == {
        "source": "a.tar",
        "key": "3",
        "image_id": "c",
        "reason": "no_image",
        "error": "no_image: none",
    }


def test_a_folder_that_is_no_run_of_records_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PreflightError, match=r"RUN .*it has no run\.json"):
        run(FailedConfig(run=str(tmp_path)))
    RunFolder.open(str(tmp_path)).write_json("run.json", make_report(job="train"))
    with pytest.raises(PreflightError, match=r"is the output of jobs\.train and holds no records"):
        run(FailedConfig(run=str(tmp_path)))
