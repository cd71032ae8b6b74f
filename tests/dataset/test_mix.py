"""Shares of kinds beside the score."""

from collections import Counter
from typing import Any

import pytest

from c3l_ray.dataset.select import select_turns
from c3l_ray.errors import PreflightError
from c3l_ray.select_config import SelectConfig
from tests.dataset.runs import WriteRun, make_turn, read_questions


def make_turns(kind: str, best: float, num_turns: int) -> list[dict[str, Any]]:
    return [{**make_turn(best - place / 100), "kind": kind} for place in range(num_turns)]


def test_kinds_come_in_their_shares_each_with_its_best(write_run: WriteRun) -> None:
    turns = [*make_turns("short", 0.9, 6), *make_turns("detail", 0.5, 6)]
    path = write_run([[turn] for turn in turns])
    report = select_turns(SelectConfig(input=str(path), top=5, mix=("short=0.5", "detail=0.5")))
    kept = Counter(read_questions(path / "dataset"))
    assert kept == Counter(["q 0.9", "q 0.89", "q 0.88", "q 0.5", "q 0.49"])
    assert (report.kinds, report.mix) == ({"short": 3, "detail": 2}, {"short": 0.5, "detail": 0.5})
    assert report.threshold == pytest.approx(0.49)
    # By a share of the scored turns, too; and a kind that is not named has no turn.
    report = select_turns(SelectConfig(input=str(path), top=0.25, mix=("detail=1",)))
    assert report.kinds == {"detail": 3}
    assert select_turns(SelectConfig(input=str(path), top=5)).kinds == {"short": 5}


def test_a_kind_of_too_few_turns_is_refused_with_what_there_is(write_run: WriteRun) -> None:
    refuted = {**make_turn(0.95, gain=-1.0), "kind": "detail"}
    turns = [*make_turns("short", 0.9, 6), *make_turns("detail", 0.5, 2), refuted]
    path = write_run([[turn] for turn in turns])
    message = (
        r"--mix short=0.5 detail=0.5: asks for 3 of kind detail among 6 turns; the turns that can "
        r"be kept are short 6, detail 2; --top 5 is the most that has these shares"
    )
    with pytest.raises(PreflightError, match=message):
        select_turns(SelectConfig(input=str(path), top=6, mix=("short=0.5", "detail=0.5")))
    assert not (path / "dataset").exists()
    report = select_turns(SelectConfig(input=str(path), top=5, mix=("short=0.5", "detail=0.5")))
    assert report.kinds == {"short": 3, "detail": 2}
    message = "asks for 1 of kind vqa among 2 turns; .* are short 6, detail 2$"
    with pytest.raises(PreflightError, match=message):
        select_turns(SelectConfig(input=str(path), top=2, mix=("short=0.5", "vqa=0.5")))
    with pytest.raises(PreflightError, match=r"are short 6, detail 2$"):
        select_turns(SelectConfig(input=str(path), top=2, mix=("vqa=1",)))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"mix": ("short=0.5",)}, "--mix short=0.5: the shares must add up to 1, and they add up"),
        ({"mix": ("short",)}, "--mix short: must be KIND=SHARE"),
        ({"mix": ("short=1",), "per": "image"}, "--mix short=1: is of the whole dataset"),
        ({"mix": ("short=1",), "at_least": 0.5}, "--mix short=1: divides a number of turns"),
    ],
)
def test_a_mix_that_means_nothing_is_refused(flags: dict[str, Any], message: str) -> None:
    with pytest.raises(PreflightError, match=message):
        SelectConfig(input="i", **flags)
