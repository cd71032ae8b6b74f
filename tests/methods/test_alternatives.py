import math
import re
from typing import Any

import pytest

from c3l_ray.methods import alternatives, c3l
from c3l_ray.schema import Alternative, Turn, TurnStatus

INSTRUCTIONS = {name: c3l.format_instruction("Ask.", name) for name in c3l.FORMAT_REQUESTS}
QUESTION = 'What does the "sign" say?'


def make_turn(answer: str, score: float | None, *others: Alternative, **fields: Any) -> Turn:
    turn: Turn = {
        "kind": "detail",
        "instruction": "",
        "status": "ok",
        "answer": answer,
        "draft": None,
        "scores": make_scores(score),
        "alternatives": list(others) or None,
    }
    return {**turn, **fields}  # type: ignore[typeddict-item]


def make_scores(score: float | None) -> Any:
    return {"grounding": score, "visual_ifd": score}


def alternative(answer: str, score: float | None, status: TurnStatus = "ok") -> Alternative:
    return {"answer": answer, "num_samples": 1, "status": status, "scores": make_scores(score)}


POSED: Alternative = {
    **alternative("posed", 0.5),
    "scores": make_scores(0.5) | {"posed_logprob": -1.0},
}


@pytest.mark.parametrize("reply_format", INSTRUCTIONS)
def test_a_reply_begins_as_a_whole_one_and_ends_before_a_blank(reply_format: str) -> None:
    instruction = INSTRUCTIONS[reply_format]
    start = c3l.begin_reply(QUESTION, instruction)
    whole = c3l.format_reply(QUESTION, 'It says "stop".', instruction)
    assert whole.startswith(f"{start} ") and "sign" in start and "stop" not in start
    assert c3l.parse_reply(whole) == (QUESTION, 'It says "stop".')


def test_json_is_held_to_what_ends_the_object_and_text_to_one_question() -> None:
    start = c3l.begin_reply(QUESTION, INSTRUCTIONS["json"])
    pattern, stops = alternatives.limit_answer(start)
    assert pattern is not None and not stops
    for answer in ("", "Yes.", 'say "x"', "two\nlines\t\x01", "Äpfel, 猫", "a \\ b", "}"):
        whole = c3l.format_reply(QUESTION, answer, INSTRUCTIONS["json"])
        assert re.fullmatch(pattern, whole.removeprefix(start))
    for wrong in (' "a', ' "a"} b', ' "a\nb"}', '"a"}', ' "\\q"}', ' "a", "b": ""}'):
        assert not re.fullmatch(pattern, wrong)
    assert alternatives.limit_answer("Question: Is it {? Answer:") == (None, ("Question:",))
    assert alternatives.limit_answer("") == (None, ())


def test_an_answer_has_a_seed_of_its_own_that_depends_on_its_turn() -> None:
    seeds = [alternatives.draw_answer_seed(turn, number) for turn in (7, 8) for number in range(50)]
    assert len(set(seeds)) == 100 and all(0 <= seed < 2**31 for seed in seeds)
    of_turns = {
        alternatives.draw_turn_seed(image_id, place, seed=seed)
        for image_id in ("a", "b")
        for place in range(3)
        for seed in range(3)
    }
    assert len(of_turns) == 18 and max(of_turns) < 2**31
    assert alternatives.draw_answer_seed(7, 0) == seeds[0]


def test_equal_samples_are_one_alternative_the_most_sampled_first() -> None:
    samples: list[tuple[str, TurnStatus]] = [
        ("late", "ok"),
        ("often", "ok"),
        ("once", "ok"),
        ("often", "ok"),
        ("late", "truncated"),
        ("", "empty"),
    ]
    merged = alternatives.merge_samples(samples)
    assert [(other["answer"], other["num_samples"], other["status"]) for other in merged] == [
        ("often", 2, "ok"),
        ("late", 1, "ok"),
        ("once", 1, "ok"),
        ("late", 1, "truncated"),
        ("", 1, "empty"),
    ]
    assert all(other["scores"] is None for other in merged)


@pytest.mark.parametrize(
    ("turn", "differs"),
    [
        (make_turn("Red.", 1, alternative("Red.", 1)), False),
        (make_turn("Red.", 1, alternative("Blue.", 1)), True),
        (make_turn("Red.", 1, alternative("Blue.", 1, "truncated")), False),
        (make_turn("Red.", 1, alternative("Red.", 1), draft="Blue."), True),
        (make_turn("Red.", 1, draft="Blue."), False),
        (make_turn("Red.", 1, alternative("Blue.", 1), status="duplicate"), False),
    ],
)
def test_answers_differ_where_two_usable_texts_do(turn: Turn, differs: bool) -> None:
    assert alternatives.has_differing_answers(turn) is differs


def test_the_best_answer_takes_the_place_of_the_turns_own() -> None:
    others = [alternative("worse", 0.0), alternative("best", 2.0), alternative("better", 1.5)]
    turn = make_turn("own", 1.0, *others)
    alternatives.keep_best_answers([turn], "grounding")
    assert (turn["answer"], turn["scores"]) == ("best", make_scores(2.0))
    assert (turn["draft"], turn["draft_scores"]) == ("own", make_scores(1.0))
    assert turn["alternatives"] == others and alternatives.is_replaced(turn)
    assert turn.get("correction") is None


def test_the_best_is_the_lowest_where_lower_is_better() -> None:
    turn = make_turn("own", 1.0, alternative("lowest", 0.5), alternative("highest", 2.0))
    alternatives.keep_best_answers([turn], "visual_ifd")
    assert turn["answer"] == "lowest"


def test_of_equals_the_first_sampled_is_kept() -> None:
    turn = make_turn("own", 1.0, alternative("first", 2.0), alternative("second", 2.0))
    alternatives.keep_best_answers([turn], "grounding")
    assert turn["answer"] == "first"


@pytest.mark.parametrize(
    "turn",
    [
        make_turn("own", 1.0),
        make_turn("own", 1.0, alternative("equal", 1.0)),
        make_turn("own", 1.0, alternative("own", 1.0 + 1e-6)),
        make_turn("own", 1.0, alternative("cut", 2.0, "truncated")),
        make_turn("own", 1.0, alternative("not scored", None)),
        make_turn("own", 1.0, alternative("no number", math.nan)),
        make_turn("own", 1.0, {**alternative("unscored", None), "scores": None}),
        make_turn("own", None, alternative("cannot be compared", 2.0)),
        make_turn("own", 1.0, POSED, alternative("scored without the posing prompt", 2.0)),
        make_turn("own", 1.0, alternative("of an unusable turn", 2.0), status="too_long"),
    ],
)
def test_the_turns_own_answer_stays_where_none_is_known_to_be_better(turn: Turn) -> None:
    before = dict(turn)
    alternatives.keep_best_answers([turn], "grounding")
    assert dict(turn) == before and not alternatives.is_replaced(turn)


def test_nothing_is_replaced_where_it_was_not_asked_for() -> None:
    turn = make_turn("own", 1.0, alternative("best", 2.0))
    alternatives.keep_best_answers([turn], None)
    assert turn["answer"] == "own"
