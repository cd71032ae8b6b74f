"""Which answers to a question are its best and its worst."""

from collections import Counter
from typing import Any, cast

import pytest

from c3l_ray.errors import PreflightError
from c3l_ray.methods.answers import AnswerPair, AnswerRules, choose_pair
from c3l_ray.methods.scores import SCORE_NAMES
from c3l_ray.ranges import check_config
from c3l_ray.schema import Scores, Turn


def make_scores(**values: float) -> Scores:
    scores: dict[str, float | None] = dict.fromkeys(SCORE_NAMES)
    return cast(Scores, {**scores, **values})


def make_turn(own: float | None, *others: tuple[str, float | None], **changes: Any) -> Turn:
    """A turn with the answer "own" and others, with these values of grounding; gain is opposite."""

    def scores(value: float | None) -> Scores | None:
        return (
            None if value is None else make_scores(grounding=value, gain=-value, visual_ifd=-value)
        )

    turn: Any = {
        "kind": "short",
        "instruction": "Ask.",
        "status": "ok",
        "question": "What is it?",
        "answer": "own",
        "draft": "draft",
        "correction": {"outcome": "complete"},
        "scores": scores(own),
        "draft_scores": scores(9.0),
        "alternatives": [
            {"answer": answer, "num_samples": 1, "status": "ok", "scores": scores(value)}
            for answer, value in others
        ],
        **changes,
    }
    return cast(Turn, turn)


CASES: dict[str, tuple[dict[str, Any], Turn, Any]] = {
    "three": ({}, make_turn(0.5, ("a", 2.0), ("b", -1.0)), AnswerPair(best="a", worst="b")),
    "own is best": ({}, make_turn(3.0, ("a", 2.0)), AnswerPair(best="own", worst="a")),
    "another score": (
        {"by": "gain"},
        make_turn(3.0, ("a", 2.0)),
        AnswerPair(best="a", worst="own"),
    ),
    "lower is better": (
        {"by": "visual_ifd"},
        make_turn(3.0, ("a", 2.0)),
        AnswerPair(best="own", worst="a"),
    ),
    "the answer that another took the place of": (
        {},
        make_turn(1.0, ("a", 0.0), correction=None),
        AnswerPair(best="draft", worst="a"),
    ),
    "the draft too": ({"drafts": True}, make_turn(1.0), AnswerPair(best="draft", worst="own")),
    "its own answer again has no score": (
        {},
        make_turn(1.0, ("own", None), ("a", 0.0)),
        AnswerPair(best="own", worst="a"),
    ),
    "scored only where it is sampled again": (
        {},
        make_turn(None, ("own", 1.0), ("a", 0.0)),
        AnswerPair(best="own", worst="a"),
    ),
    "none": ({}, make_turn(1.0, alternatives=None), "no_alternatives"),
    "an empty list": ({}, make_turn(1.0), "no_alternatives"),
    "all agree": ({}, make_turn(1.0, ("own", 1.0)), "answers_agree"),
    "unscored": ({}, make_turn(1.0, ("a", None)), "unscored_answers"),
    "not a number": ({}, make_turn(1.0, ("a", float("nan"))), "unscored_answers"),
    "alike": ({}, make_turn(1.0, ("a", 1.0)), "small_spread"),
    "too close": ({"min_spread": 0.5}, make_turn(1.0, ("a", 0.6)), "small_spread"),
    "far enough": (
        {"min_spread": 0.5},
        make_turn(1.0, ("a", 0.5)),
        AnswerPair(best="own", worst="a"),
    ),
    "too far": ({"max_spread": 2.0}, make_turn(1.0, ("a", -1.5)), "large_spread"),
    "random has the spread of grounding": (
        {"by": "random", "min_spread": 0.5},
        make_turn(1.0, ("a", 0.6)),
        "small_spread",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_best_and_the_worst_answer_by_a_score(name: str) -> None:
    rules, turn, expected = CASES[name]
    assert choose_pair(turn, AnswerRules(**rules)) == expected


def test_grounding_without_the_posing_prompt_is_not_compared_with_grounding_after_it() -> None:
    turn = make_turn(1.0, ("a", 0.0), ("b", -1.0))
    unposed = make_turn(1.0, ("a", 0.0), ("b", -1.0))
    assert turn["alternatives"] and turn["scores"]
    for answered in (turn, turn["alternatives"][0]):
        assert answered["scores"]
        answered["scores"]["posed_logprob"] = -1.0
    assert choose_pair(turn, AnswerRules()) == AnswerPair(best="own", worst="a")
    gain = AnswerRules(by="gain")
    assert (
        choose_pair(turn, gain) == choose_pair(unposed, gain) == AnswerPair(best="b", worst="own")
    )
    assert choose_pair(unposed, AnswerRules()) == AnswerPair(best="own", worst="b")
    turn["alternatives"][0]["scores"] = make_scores(grounding=0.0)
    assert choose_pair(turn, AnswerRules()) == "unscored_answers"


def test_an_answer_of_no_use_is_none() -> None:
    turn = make_turn(1.0, ("a", 0.0), ("cut", 5.0))
    assert turn["alternatives"]
    turn["alternatives"][1]["status"] = "truncated"
    assert choose_pair(turn, AnswerRules()) == AnswerPair(best="own", worst="a")


def test_random_is_drawn_from_the_turn_and_knows_no_score() -> None:
    turn = make_turn(1.0, ("a", 0.0), ("b", -1.0))
    rules = AnswerRules(by="random")
    pairs = [choose_pair(turn, rules, drawn_from=f"image {number}") for number in range(600)]
    assert pairs[:9] == [
        choose_pair(turn, rules, drawn_from=f"image {number}") for number in range(9)
    ]
    counts = Counter(pairs)
    assert len(counts) == 6 and all(70 < count < 135 for count in counts.values())


def test_random_draws_a_text_as_often_as_the_model_wrote_it() -> None:
    turn = make_turn(1.0, ("own", 1.0), ("a", 0.0), ("b", -1.0))
    assert turn["alternatives"]
    turn["alternatives"][1]["num_samples"] = 5
    rules = AnswerRules(by="random")
    pairs = [choose_pair(turn, rules, drawn_from=f"image {number}") for number in range(800)]
    best = Counter(pair.best for pair in pairs if isinstance(pair, AnswerPair))
    assert best["own"] == pytest.approx(200, abs=45)  # its own and one sample, of eight
    assert best["a"] == pytest.approx(500, abs=50) and best["b"] == pytest.approx(100, abs=35)
    after_a = Counter(
        pair.worst for pair in pairs if isinstance(pair, AnswerPair) and pair.best == "a"
    )
    assert after_a["own"] > 1.5 * after_a["b"]


def test_a_spread_that_no_turn_can_have_is_refused() -> None:
    with pytest.raises(PreflightError, match=r"--max-spread 1\.0: must be at least the smallest"):
        check_config(AnswerRules(min_spread=2.0, max_spread=1.0))
