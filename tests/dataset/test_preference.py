"""Pairs of a better and a worse answer, as TRL and ms-swift read them."""

from pathlib import Path
from typing import Any, cast

import pyarrow.parquet as pq
import pytest

from c3l_ray.dataset.preference import PreferencePair, find_pair
from c3l_ray.dataset.select import select_turns
from c3l_ray.errors import PreflightError
from c3l_ray.methods.scores import SCORE_NAMES, RankedBy
from c3l_ray.schema import Turn
from c3l_ray.select_config import SelectConfig
from tests.dataset.runs import ALL_TURNS, WriteRun, make_turn, read_rows
from tests.dataset.test_image_export import DIFFERENT


def make_scores(value: float | None) -> dict[str, float | None]:
    return dict.fromkeys(SCORE_NAMES, value)


def make_alternative(answer: str, value: float | None, status: str = "ok") -> dict[str, Any]:
    return {"answer": answer, "num_samples": 1, "status": status, "scores": make_scores(value)}


def make_answered_turn(
    value: float | None,
    *alternatives: dict[str, Any],
    draft: str | None = None,
    draft_value: float | None = None,
) -> dict[str, Any]:
    return {
        **make_turn(0.5),
        "answer": "own",
        "scores": make_scores(value),
        "alternatives": list(alternatives) or None,
        "draft": draft,
        "draft_scores": None if draft_value is None else make_scores(draft_value),
    }


WORSE, BETTER = make_alternative("worse", 0.1), make_alternative("better", 0.9)


@pytest.mark.parametrize(
    ("turn", "by", "pair"),
    [
        (make_answered_turn(0.5, WORSE, BETTER), "i2c", ("alternatives", "better", "worse")),
        (make_answered_turn(0.5, WORSE, BETTER), "visual_ifd", ("alternatives", "worse", "better")),
        (make_answered_turn(0.5, WORSE), "i2c", ("alternatives", "own", "worse")),
        (make_answered_turn(0.5, BETTER), "i2c", ("alternatives", "better", "own")),
        (make_answered_turn(None, WORSE, BETTER), "i2c", ("alternatives", "better", "worse")),
        (make_answered_turn(0.5, make_alternative("own", 0.1)), "i2c", "one_answer"),
        (make_answered_turn(0.5, make_alternative("x", 0.1, "too_long")), "i2c", "one_answer"),
        (make_answered_turn(0.5, make_alternative("x", None)), "i2c", "unscored"),
        (make_answered_turn(0.5, make_alternative("x", float("nan"))), "i2c", "unscored"),
        (make_answered_turn(0.5, make_alternative("x", 0.5)), "i2c", "no_better"),
        (make_answered_turn(0.5), "i2c", "one_answer"),
        (make_answered_turn(0.5, draft="own", draft_value=0.1), "i2c", "one_answer"),
        (make_answered_turn(0.5, draft="draft"), "i2c", "unscored"),
        (make_answered_turn(0.5, draft="draft", draft_value=0.6), "i2c", "no_better"),
        (make_answered_turn(0.5, draft="draft", draft_value=0.5), "i2c", "no_better"),
        (make_answered_turn(0.5, draft="d", draft_value=0.1), "i2c", ("correction", "own", "d")),
        (
            make_answered_turn(0.5, draft="d", draft_value=0.6),
            *("visual_ifd", ("correction", "own", "d")),
        ),
    ],
)
def test_the_better_answer_is_the_one_of_the_better_score(
    turn: dict[str, Any], by: RankedBy, pair: Any
) -> None:
    found = find_pair(cast(Turn, turn), by)
    assert (found if isinstance(found, str) else found[:3]) == pair
    if isinstance(found, PreferencePair):
        is_higher = found.chosen_score > found.rejected_score
        assert is_higher == (by == "i2c")


@pytest.mark.parametrize("places", [{0, 1}, {1, 2}, {0, 2}])
def test_grounding_is_compared_among_answers_after_the_posing_prompt(places: set[int]) -> None:
    turn = make_answered_turn(0.5, make_alternative("worse", 0.1), make_alternative("better", 0.9))
    answered = [turn, *turn["alternatives"]]
    for place, one in enumerate(answered):
        one["scores"] = {"grounding": one["scores"]["grounding"], "posed_logprob": None}
        if place in places:
            one["scores"]["posed_logprob"] = -1.0
    values = {one["answer"]: one["scores"]["grounding"] for one in answered}
    posed = [answered[place]["answer"] for place in places]
    found = find_pair(cast(Turn, turn), "grounding")
    assert isinstance(found, PreferencePair)
    assert found.chosen == max(posed, key=values.__getitem__)
    assert found.rejected == min(posed, key=values.__getitem__)


def test_pairs_are_written_and_what_makes_none_is_counted(write_run: WriteRun) -> None:
    given = {
        **make_answered_turn(0.8, WORSE),
        "kind": "given",
        "instruction": "Be brief.",
    }
    turns = [
        [make_answered_turn(0.5, WORSE, BETTER), make_answered_turn(0.5)],
        [make_answered_turn(0.5, draft="draft", draft_value=0.25), given],
        [make_answered_turn(0.5, draft="draft", draft_value=0.75)],
    ]
    path = write_run(turns)
    config = SelectConfig(input=str(path), top=ALL_TURNS, export="preference")
    report = select_turns(config)
    rows = read_rows(path / "dataset")
    assert report.pairs == {"alternatives": 2, "correction": 1}
    assert report.unpaired_turns == {"one_answer": 1, "no_better": 1}
    assert (report.turns, report.samples, report.images) == (3, 3, 2)
    assert report.kinds == {"dialogue": 2, "given": 1}
    assert [(row["pair"], row["chosen_score"], row["rejected_score"]) for row in rows] == [
        ("alternatives", pytest.approx(0.9), pytest.approx(0.1)),
        ("correction", 0.5, 0.25),
        ("alternatives", pytest.approx(0.8), pytest.approx(0.1)),
    ]
    first, _, last = rows
    question = [{"role": "user", "content": "q 0.5"}]
    assert first["prompt"] == question
    assert first["chosen"] == [{"role": "assistant", "content": "better"}]
    assert first["rejected"] == [{"role": "assistant", "content": "worse"}]
    assert first["messages"] == question + first["chosen"]
    assert first["rejected_response"] == "worse"
    assert last["prompt"] == [{"role": "system", "content": "Be brief."}, *question]
    card = (path / "dataset" / "README.md").read_text()
    assert "| pairs | alternatives 2, correction 1 |" in card


def test_an_image_without_a_pair_is_not_counted_as_written(write_run: WriteRun) -> None:
    image = DIFFERENT["a rotated JPEG"]
    turns = [[make_answered_turn(0.5, WORSE)], [make_answered_turn(0.5)]]
    path = write_run(turns, images=[image, image])
    report = select_turns(SelectConfig(input=str(path), top=ALL_TURNS, export="preference"))
    assert (report.images, report.rewritten_images) == (1, 1)


def test_pairs_load_with_their_images(write_run: WriteRun, tmp_path: Path) -> None:
    from datasets import load_dataset

    path = write_run([[make_answered_turn(0.5, WORSE)]])
    select_turns(SelectConfig(input=str(path), top=ALL_TURNS, export="preference"))
    (row,) = load_dataset(str(path / "dataset"), split="train", cache_dir=str(tmp_path / "cache"))
    assert row["images"][0].size == (40, 30) and row["rejected"][0]["content"] == "worse"


def test_a_selection_without_a_pair_is_refused_and_the_earlier_one_stays(
    write_run: WriteRun,
) -> None:
    path = write_run([[make_answered_turn(0.5)], [make_answered_turn(0.4, draft="draft")]])
    select_turns(SelectConfig(input=str(path), top=ALL_TURNS))
    message = r"no chosen turn makes a pair \(one_answer 1, unscored 1\)"
    with pytest.raises(PreflightError, match=message):
        select_turns(SelectConfig(input=str(path), top=ALL_TURNS, export="preference"))
    assert pq.read_table(path / "dataset" / "data" / "part-00000.parquet").num_rows == 2


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"by": "random"}, "--by random has no score"),
        ({"group": "image"}, "drop --group image"),
        ({"llava": "json"}, "drop --llava"),
    ],
)
def test_flags_that_no_pair_goes_with_are_refused(flags: dict[str, Any], message: str) -> None:
    with pytest.raises(PreflightError, match=f"--export preference: .*{message}"):
        SelectConfig(input="i", export="preference", **flags)
