"""What was said elsewhere, as turns with a status each: nothing of it is lost."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from c3l_ray.inputs.formats import given_turns
from c3l_ray.schema import FOLLOW_UP, GIVEN, TURN_STATUSES
from tests.test_schema import RECORD

Said = list[dict[str, Any]]


def llava(*said: tuple[str, Any]) -> Said:
    return [{"from": role, "value": value} for role, value in said]


def chat(*said: tuple[str, Any]) -> Said:
    return [{"role": role, "content": content} for role, content in said]


def read(said: Any, history: str = "auto") -> list[tuple[str, str | None, str | None, str]]:
    found = given_turns.read(said, history)
    return [(turn["kind"], turn["question"], turn["answer"], turn["status"]) for turn in found]


PARTS = [{"type": "image", "text": None}, {"type": "text", "text": "Q"}]

MESSAGES: dict[str, tuple[Said, list[tuple[str, str | None, str | None, str]]]] = {
    "one turn": (
        llava(("human", "<image>\nQ"), ("gpt", "A")),
        [(GIVEN, "Q", "A", "ok")],
    ),
    "two turns": (
        llava(("human", "<image>\nQ"), ("gpt", "A"), ("human", "R"), ("gpt", "B")),
        [(GIVEN, "Q", "A", "ok"), (FOLLOW_UP, "R", "B", "ok")],
    ),
    "the marker at the end": (
        llava(("human", "Q\n<image>"), ("gpt", "A")),
        [(GIVEN, "Q", "A", "ok")],
    ),
    "the marker in the middle": (
        llava(("human", "What is <image> here,\n<image>\nand here?"), ("gpt", "A")),
        [(GIVEN, "What is here,\nand here?", "A", "ok")],
    ),
    "the marker in a later question": (
        llava(("human", "Q"), ("gpt", "A"), ("human", "<image>R"), ("gpt", "B")),
        [(GIVEN, "Q", "A", "ok"), (FOLLOW_UP, "R", "B", "ok")],
    ),
    "the marker alone": (
        llava(("human", "<image>"), ("gpt", "A")),
        [(GIVEN, "", "A", "ok")],
    ),
    "an answer between blanks": (
        llava(("human", "Q"), ("gpt", "\n A\nB \n")),
        [(GIVEN, "Q", "A\nB", "ok")],
    ),
    "an empty answer ends what can be measured": (
        llava(("human", "Q"), ("gpt", " "), ("human", "R"), ("gpt", "B")),
        [(GIVEN, "Q", "", "empty"), (FOLLOW_UP, "R", "B", "stranded")],
    ),
    "no answer": (llava(("human", "Q")), [(GIVEN, "Q", None, "unanswered")]),
    "two questions in a row": (
        llava(("human", "Q"), ("human", "R"), ("gpt", "B")),
        [(GIVEN, "Q", None, "unanswered"), (FOLLOW_UP, "R", "B", "stranded")],
    ),
    "two answers in a row": (
        llava(("human", "Q"), ("gpt", "A"), ("gpt", "B"), ("human", "R"), ("gpt", "C")),
        [
            (GIVEN, "Q", "A", "ok"),
            (FOLLOW_UP, None, "B", "unasked"),
            (FOLLOW_UP, "R", "C", "stranded"),
        ],
    ),
    "an answer to begin with strands nothing": (
        llava(("gpt", "Hello"), ("human", "Q"), ("gpt", "A")),
        [(GIVEN, None, "Hello", "unasked"), (FOLLOW_UP, "Q", "A", "ok")],
    ),
    "a number as an answer": (
        llava(("human", "How many?"), ("gpt", 3)),
        [(GIVEN, "How many?", "3", "ok")],
    ),
    "a null": (
        llava(("human", None), ("gpt", None)),
        [(GIVEN, "", "", "empty")],
    ),
    "chat templates' words": (
        chat(("system", "Be brief."), ("user", "Q"), ("assistant", "A")),
        [(GIVEN, "Q", "A", "ok")],
    ),
    "parts": (
        chat(("user", PARTS), ("assistant", [{"type": "text", "text": "A"}])),
        [(GIVEN, "Q", "A", "ok")],
    ),
    "a role that is none": (
        chat(("user", "Q"), ("assistant", "A"), ("tool", "T"), ("user", "R"), ("assistant", "B")),
        [
            (GIVEN, "Q", "A", "ok"),
            (FOLLOW_UP, None, None, "unparsable"),
            (FOLLOW_UP, "R", "B", "stranded"),
        ],
    ),
    "no message": ([1], [(GIVEN, None, None, "unparsable")]),  # type: ignore[list-item]
}


@pytest.mark.parametrize("case", MESSAGES)
def test_messages_are_turns_that_follow_one_another(case: str) -> None:
    said, expected = MESSAGES[case]
    assert read(said) == expected


def test_what_was_not_understood_and_the_system_message_stay() -> None:
    found = given_turns.read(chat(("system", "Be brief."), ("tool", "T")), "auto")
    assert found[0]["reply"] == '{"role": "tool", "content": "T"}'
    assert found[0]["instruction"] == "Be brief."


def paired(*said: tuple[Any, Any], **more: Any) -> Said:
    return [{"question": question, "answer": answer, **more} for question, answer in said]


def test_turns_stand_alone_unless_they_are_said_to_follow() -> None:
    said = paired(("<image>\nQ", "A"), ("R", " "), ("S", "C"), ("T", None), (None, "E"))
    statuses = ["ok", "empty", "ok", "unanswered", "unasked"]
    assert [turn[3] for turn in read(said)] == statuses
    assert {turn[0] for turn in read(said)} == {GIVEN}
    assert [turn[3] for turn in read(said, "yes")] == [
        "ok",
        "empty",
        "stranded",
        "unanswered",
        "unasked",
    ]
    assert [turn[0] for turn in read(said, "yes")] == [GIVEN, *[FOLLOW_UP] * 4]


def test_messages_stand_alone_where_the_user_says_so() -> None:
    said = llava(("human", "Q"), ("gpt", ""), ("human", "R"), ("gpt", "B"))
    assert read(said, "no") == [(GIVEN, "Q", "", "empty"), (GIVEN, "R", "B", "ok")]


def test_our_own_turns_come_back_without_their_scores() -> None:
    ours = RECORD["turns"]
    for turn, before in zip(given_turns.read(ours, "auto"), ours, strict=True):
        assert "scores" not in turn
        assert all(turn.get(name) == before[name] for name in before if "scores" not in name)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"question": "Q", "answer": "A", "status": "refused"}, "ok"),  # by another scorer
        ({"question": None, "answer": None, "status": "refused"}, "refused"),  # by the engine
        ({"question": "Q", "answer": "A", "status": "duplicate"}, "duplicate"),
        ({"question": "Q", "answer": "A", "status": "stranded"}, "ok"),  # nothing before it
        ({"question": None, "answer": "A", "status": "ok"}, "unasked"),
        ({"question": "Q", "answer": "A", "status": "somebody else's word"}, "ok"),
        ({"question": "Q", "answer": "A", "status": 3, "kind": 4, "num_tokens": "x"}, "ok"),
    ],
)
def test_a_status_that_may_be_otherwise_now_is_found_anew(
    before: dict[str, Any], after: str
) -> None:
    (turn,) = given_turns.read([before], "auto")
    assert turn["status"] == after
    assert isinstance(turn["kind"], str) and isinstance(turn.get("num_tokens"), int | None)


@given(
    st.lists(st.tuples(st.sampled_from(["human", "gpt"]), st.sampled_from(["", " ", "x", "y"]))),
    st.sampled_from(["auto", "yes", "no"]),
)
def test_everything_that_was_said_is_in_a_turn(said: list[tuple[str, str]], history: str) -> None:
    found = given_turns.read(llava(*said), history)
    questions = [turn["question"] for turn in found if turn["question"] is not None]
    answers = [turn["answer"] for turn in found if turn["answer"] is not None]
    assert questions == [text.strip() for role, text in said if role == "human"]
    assert answers == [text.strip() for role, text in said if role == "gpt"]
    assert {turn["status"] for turn in found} <= set(TURN_STATUSES)
    for turn in found:
        if turn["status"] == "ok":
            assert turn["question"] is not None and turn["answer"]


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (llava(("human", "Q"), ("gpt", "A")), None),
        (llava(("human", "Q"), ("gpt", "")), "no_turn: empty"),
        ([], "no_turn: the sample has no question and answer"),
        ({"not": "a list"}, "no_turn: the sample has no question and answer"),
        (None, "no_turn: the sample has no question and answer"),
    ],
)
def test_a_row_without_a_usable_turn_says_why(said: Any, why: str | None) -> None:
    assert given_turns.failure(given_turns.read(said, "auto")) == why
