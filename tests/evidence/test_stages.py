"""Stages: what is done is not done again, what is of other settings is, and failures are told."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from c3l_ray.errors import C3LError, PreflightError
from tests.evidence.__main__ import choose_stages
from tests.evidence.plan import SCALES, plan_stages
from tests.evidence.report import write_report
from tests.evidence.stages import Stage, Workplace, run_stages

Run = Callable[[Path], dict[str, Any]]


def make_stage(arm: str, run: Run | None, *, size: int = 1, needs: tuple[Stage, ...] = ()) -> Stage:
    return Stage(question="tuning", arm=arm, seed=0, settings={"size": size}, run=run, needs=needs)


def test_a_stage_that_is_done_is_not_done_again_unless_its_settings_are_others(
    tmp_path: Path,
) -> None:
    runs: list[Path] = []

    def run(folder: Path) -> dict[str, Any]:
        runs.append(folder)
        return {"number": len(runs)}

    workplace = Workplace(tmp_path)
    first = make_stage("first", run)
    second = make_stage("second", run, needs=(first,))
    assert run_stages(workplace, [first, second], [second]) == {}  # what it needs is run too
    run_stages(workplace, [first, second], [first, second])
    assert len(runs) == 2
    loaded = workplace.load(second)
    assert loaded is not None and loaded.content == {"number": 2}

    larger = make_stage("first", run, size=2)
    after_larger = make_stage("second", run, needs=(larger,))
    assert workplace.load(larger) is None and workplace.load(after_larger) is None
    run_stages(workplace, [larger, after_larger], [after_larger])
    assert len(runs) == 4 and len({*runs}) == 4  # other settings work in another folder


def test_a_stage_that_fails_is_told_and_leaves_no_result(tmp_path: Path) -> None:
    def fail(folder: Path) -> dict[str, Any]:
        raise C3LError("no space")

    workplace = Workplace(tmp_path)
    failing = make_stage("failing", fail)
    behind = make_stage("behind", lambda _: {}, needs=(failing,))
    other = make_stage("other", lambda _: {})
    stages = [failing, behind, other]
    failures = run_stages(workplace, stages, stages)
    assert failures[failing.name] == "no space"
    assert "it needs the stage tuning-failing-0" in failures[behind.name]
    assert workplace.load(failing) is None and workplace.load(other) is not None


def test_a_damaged_result_is_named(tmp_path: Path) -> None:
    workplace = Workplace(tmp_path)
    stage = make_stage("first", lambda _: {})
    workplace.run(stage)
    path = tmp_path / "stages" / f"{stage.name}.json"
    path.write_text(path.read_text()[:20])
    with pytest.raises(C3LError, match=r"tuning-first-0\.json is no result of a stage"):
        workplace.load(stage)


def test_three_repetitions_have_a_budget_of_five_hours(tmp_path: Path) -> None:
    stages = plan_stages(Workplace(tmp_path), [0, 1, 2], SCALES["full"])
    assert all(stage.budget_s > 0 for stage in stages)
    assert sum(stage.budget_s for stage in stages) <= 5 * 3600


@pytest.mark.parametrize("scale", SCALES)
def test_a_plan_has_what_its_stages_need(tmp_path: Path, scale: str) -> None:
    stages = plan_stages(Workplace(tmp_path), [0], SCALES[scale])
    before: set[str] = set()
    for stage in stages:
        assert {needed.name for needed in stage.needs} <= before, stage.name
        before.add(stage.name)
    for question, arms in SCALES[scale].arms.items():
        assert {*arms} <= {stage.arm for stage in stages if stage.question == question}


def test_the_page_lists_what_was_not_run(tmp_path: Path) -> None:
    workplace = Workplace(tmp_path / "output")
    stages = plan_stages(workplace, [0, 1], SCALES["full"])
    assert len({stage.name for stage in stages}) == len(stages)
    missing = write_report(workplace, stages, {stages[0].name: "a full disk"}, tmp_path)
    assert missing == stages
    page = (tmp_path / "README.md").read_text()
    assert "| scores, turns | a full disk | 0 |" in page
    assert "| scores, turns | not run yet | 1 |" in page
    assert "| alignment, 10_percent_plain | not run yet | 0, 1 |" in page
    assert (tmp_path / "results.json").read_text() == "[\n\n]\n"


def test_the_stages_that_are_run_are_those_of_the_seeds_questions_and_arms(tmp_path: Path) -> None:
    stages = plan_stages(Workplace(tmp_path), [0, 1], SCALES["full"])
    options = argparse.Namespace(only=["tuning", "students"], arms=["none"], seeds=[1])
    names = [stage.name for stage in choose_stages(options, stages)]
    assert names == ["tuning-none-1", "students-none-1"]
    options = argparse.Namespace(only=["scores"], arms=["none", "turns"], seeds=[1])
    with pytest.raises(PreflightError, match="--arms none: no arm of these questions; they have"):
        choose_stages(options, stages)
