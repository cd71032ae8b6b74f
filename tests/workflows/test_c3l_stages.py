"""The stages of C3L at a second command: what is done stays, and is held to the same bounds."""

from pathlib import Path
from typing import Any

import pytest

from c3l_ray.dataset import finished
from c3l_ray.dataset.report import SelectionReport
from c3l_ray.errors import TooManyFailures
from c3l_ray.identity import Identity
from c3l_ray.model_config import GeneratorModel
from c3l_ray.runs.folder import RunFolder
from c3l_ray.runs.state import CommandLog
from c3l_ray.select_config import SelectConfig
from c3l_ray.workflows import c3l
from c3l_ray.workflows.c3l_config import C3LConfig
from tests.workflows.reports import make_records_report, make_selection_report


def write_round(output: Path, **counts: Any) -> None:
    """A round that an earlier command has finished."""
    report = make_records_report(**{"finished": "today", **counts})
    RunFolder.open(str(output / "round-0")).write_json("run.json", vars(report))


@pytest.fixture
def run_stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs the stages of a job without trainings, and returns the selections that were made."""
    monkeypatch.setattr(c3l, "generate_records", lambda _: pytest.fail("a round was made again"))
    monkeypatch.setattr(c3l, "describe_turns", lambda _: {})

    def run(**changes: Any) -> list[SelectConfig]:
        made = []

        def select(config: SelectConfig) -> SelectionReport:
            made.append(config)
            folder = RunFolder.open(str(config.output))
            folder.write("part-00000.parquet", b"")
            report = make_selection_report(
                input_finished="today",
                by=config.by,
                within=config.within,
                top=config.kept,
                files=1,
                finished="now",
            )
            folder.write_json("selection.json", vars(report))
            return report

        monkeypatch.setattr(finished, "select_turns", select)
        config = C3LConfig(
            input=("in",),
            output=str(tmp_path),
            model=GeneratorModel(name="m"),
            rounds=0,
            **changes,
        )
        folder = RunFolder.open(config.output)
        identity = Identity({})
        report = c3l._run_stages(config, folder, identity, CommandLog(folder, "o"), None)
        assert report.stages["dataset"]["by"] == config.by
        return made

    return run


def test_a_finished_dataset_is_not_made_again(run_stages: Any, tmp_path: Path) -> None:
    write_round(tmp_path, origin="o", images=1)
    assert len(run_stages()) == 1
    assert run_stages() == []
    (again,) = run_stages(top=7)
    assert again.top == 7
    (tmp_path / "dataset" / "part-00000.parquet").unlink()
    assert len(run_stages(top=7)) == 1
    write_round(tmp_path, origin="o", images=1, finished="since")  # it was healed
    assert len(run_stages(top=7)) == 1


def test_a_round_that_failed_too_much_stops_the_next_command_too(
    run_stages: Any, tmp_path: Path
) -> None:
    write_round(tmp_path, origin="o", images=10, status={"ok": 8, "failed": 2})
    for _ in range(2):
        with pytest.raises(TooManyFailures, match="2 of 10 images failed"):
            run_stages()
    assert len(run_stages(max_failed_share=0.2)) == 1
