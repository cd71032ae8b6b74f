"""Turns that were made elsewhere, with a status each: nothing of them is lost."""

import json
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from c3l_ray.inputs.formats.given_turns import explain_no_turn, find_turns, read_turns
from c3l_ray.schema import FOLLOW_UP, GIVEN, TurnStatus
from tests.examples import RECORD
from tests.inputs.messages import Messages, chat_messages, llava_messages
from tests.inputs.turns import ShortTurn, list_turns


def read_short(content: Any, history: str = "auto") -> list[ShortTurn]:
    return list_turns({"turns": read_turns(content, history)})


PARTS = [{"type": "image", "text": None}, {"type": "text", "text": "Q"}]

MESSAGES: dict[str, tuple[Messages, list[ShortTurn]]] = {
    "one turn": (
        llava_messages(("human", "<image>\nQ"), ("gpt", "A")),
        [(GIVEN, "Q", "A", "ok")],
    ),
    "two turns": (
        llava_messages(("human", "<image>\nQ"), ("gpt", "A"), ("human", "R"), ("gpt", "B")),
        [(GIVEN, "Q", "A", "ok"), (FOLLOW_UP, "R", "B", "ok")],
    ),
    "the marker at the end": (
        llava_messages(("human", "Q\n<image>"), ("gpt", "A")),
        [(GIVEN, "Q", "A", "ok")],
    ),
    "the marker in the middle": (
        llava_messages(("human", "What is <image> here,\n<image>\nand here?"), ("gpt", "A")),
        [(GIVEN, "What is here,\nand here?", "A", "ok")],
    ),
    "the marker in a later question": (
        llava_messages(("human", "Q"), ("gpt", "A"), ("human", "<image>R"), ("gpt", "B")),
        [(GIVEN, "Q", "A", "ok"), (FOLLOW_UP, "R", "B", "ok")],
    ),
    "the marker alone asks nothing, and what follows was asked after it": (
        llava_messages(("human", "<image>"), ("gpt", "A"), ("human", "R"), ("gpt", "B")),
        [(GIVEN, "", "A", "missing_question"), (FOLLOW_UP, "R", "B", "broken_history")],
    ),
    "Qwen-VL's marker, with the image's name": (
        llava_messages(("user", "Picture 1: <img>a b.jpg</img>\nQ"), ("assistant", "A")),
        [(GIVEN, "Q", "A", "ok")],
    ),
    "an answer between blanks": (
        llava_messages(("human", "Q"), ("gpt", "\n A\nB \n")),
        [(GIVEN, "Q", "A\nB", "ok")],
    ),
    "an empty answer ends what can be measured": (
        llava_messages(("human", "Q"), ("gpt", " "), ("human", "R"), ("gpt", "B")),
        [(GIVEN, "Q", "", "empty"), (FOLLOW_UP, "R", "B", "broken_history")],
    ),
    "no answer": (llava_messages(("human", "Q")), [(GIVEN, "Q", None, "missing_answer")]),
    "two questions in a row": (
        llava_messages(("human", "Q"), ("human", "R"), ("gpt", "B")),
        [(GIVEN, "Q", None, "missing_answer"), (FOLLOW_UP, "R", "B", "broken_history")],
    ),
    "two answers in a row": (
        llava_messages(("human", "Q"), ("gpt", "A"), ("gpt", "B"), ("human", "R"), ("gpt", "C")),
        [
            (GIVEN, "Q", "A", "ok"),
            (FOLLOW_UP, None, "B", "missing_question"),
            (FOLLOW_UP, "R", "C", "broken_history"),
        ],
    ),
    "an answer to begin with breaks no history": (
        llava_messages(("gpt", "Hello"), ("human", "Q"), ("gpt", "A")),
        [(GIVEN, None, "Hello", "missing_question"), (FOLLOW_UP, "Q", "A", "ok")],
    ),
    "a number as an answer": (
        llava_messages(("human", "How many?"), ("gpt", 3)),
        [(GIVEN, "How many?", "3", "ok")],
    ),
    "a null": (
        llava_messages(("human", None), ("gpt", None)),
        [(GIVEN, "", "", "empty")],
    ),
    "chat templates' words": (
        chat_messages(("system", "Be brief."), ("user", "Q"), ("assistant", "A")),
        [(GIVEN, "Q", "A", "ok")],
    ),
    "parts": (
        chat_messages(("user", PARTS), ("assistant", [{"type": "text", "text": "A"}])),
        [(GIVEN, "Q", "A", "ok")],
    ),
    "an unknown role": (
        chat_messages(
            ("user", "Q"), ("assistant", "A"), ("tool", "T"), ("user", "R"), ("assistant", "B")
        ),
        [
            (GIVEN, "Q", "A", "ok"),
            (FOLLOW_UP, None, None, "unparsable"),
            (FOLLOW_UP, "R", "B", "broken_history"),
        ],
    ),
    "not a message": ([1], [(GIVEN, None, None, "unparsable")]),  # type: ignore[list-item]
}


@pytest.mark.parametrize("case", MESSAGES)
def test_messages_are_turns_that_follow_one_another(case: str) -> None:
    messages, expected = MESSAGES[case]
    assert read_short(messages) == expected


def test_a_message_of_an_unknown_role_and_the_system_message_stay() -> None:
    (turn,) = read_turns(chat_messages(("system", "Be brief."), ("tool", "T")), "auto")
    assert turn["reply"] == '{"role": "tool", "content": "T"}'
    assert turn["instruction"] == "Be brief."


def test_turns_stand_alone_unless_the_user_lets_them_follow() -> None:
    pairs = (("<image>\nQ", "A"), ("R", " "), ("S", "C"), ("T", None), (None, "E"))
    items = [{"question": question, "answer": answer} for question, answer in pairs]
    statuses = ["ok", "empty", "ok", "missing_answer", "missing_question"]
    assert [turn[3] for turn in read_short(items)] == statuses
    assert {turn[0] for turn in read_short(items)} == {GIVEN}
    assert [turn[3] for turn in read_short(items, "yes")] == [
        "ok",
        "empty",
        "broken_history",
        "missing_answer",
        "missing_question",
    ]
    assert [turn[0] for turn in read_short(items, "yes")] == [GIVEN, *[FOLLOW_UP] * 4]


FORMS: dict[str, tuple[dict[str, Any], list[ShortTurn]]] = {
    "conversations": (
        {"conversations": llava_messages(("human", "Q"), ("gpt", "A"))},
        [(GIVEN, "Q", "A", "ok")],
    ),
    "JSON text": (
        {"messages": json.dumps(chat_messages(("user", "Q"), ("assistant", "A")))},
        [(GIVEN, "Q", "A", "ok")],
    ),
    "no JSON text": ({"messages": "Q?"}, []),
    "the_cauldron": (
        {"texts": [{"user": "Q", "assistant": "A", "source": "s"}] * 2},
        [(GIVEN, "Q", "A", "ok")] * 2,
    ),
    "question": ({"question": "Q", "answer": "A", "status": "refused"}, [(GIVEN, "Q", "A", "ok")]),
    "query": ({"query": "<image>Q", "response": "A"}, [(GIVEN, "Q", "A", "ok")]),
    "query with history": (
        {"query": "R", "response": "B", "history": [["<image>Q", "A"]]},
        [(GIVEN, "Q", "A", "ok"), (FOLLOW_UP, "R", "B", "ok")],
    ),
    "instruction": ({"instruction": "Q", "response": "A"}, [(GIVEN, "Q", "A", "ok")]),
    "Alpaca": (
        {"instruction": "Q", "input": "I", "output": "A"},
        [(GIVEN, "Q\nI", "A", "ok")],
    ),
    "Alpaca without input": (
        {"instruction": "Q", "input": "", "output": "A"},
        [(GIVEN, "Q", "A", "ok")],
    ),
    "none": ({"text": "a caption"}, []),
}


@pytest.mark.parametrize("form", FORMS)
def test_turns_are_found_in_samples_of_other_tools(form: str) -> None:
    sample, expected = FORMS[form]
    assert read_short(find_turns(sample)) == expected


def test_messages_stand_alone_where_the_user_says_so() -> None:
    messages = llava_messages(("human", "Q"), ("gpt", ""), ("human", "R"), ("gpt", "B"))
    assert read_short(messages, "no") == [(GIVEN, "Q", "", "empty"), (GIVEN, "R", "B", "ok")]


def test_our_own_turns_come_back_without_their_scores() -> None:
    ours = RECORD["turns"]
    for turn, before in zip(read_turns(ours, "auto"), ours, strict=True):
        assert "scores" not in turn
        assert all(turn.get(name) == before[name] for name in before if "scores" not in name)


def test_alternatives_come_back_where_they_are_ours_and_a_scorer_decides_anew_of_them() -> None:
    theirs: list[Any] = [
        {"answer": "A", "num_samples": 2, "status": "too_long", "scores": {"gain": 1.0}},
        {"answer": "B", "num_samples": 1, "status": "truncated"},
        *({"answer": "C"}, {"answer": 3, "num_samples": 1}, "D", {"num_samples": 1}),
        *({"answer": "E", "num_samples": number} for number in (0, 2**31, "1")),
    ]
    turn = {"question": "Q", "answer": "A", "alternatives": theirs}
    assert read_turns([turn], "auto")[0]["alternatives"] == [
        {"answer": "A", "num_samples": 2, "status": "ok", "scores": None},
        {"answer": "B", "num_samples": 1, "status": "truncated", "scores": None},
    ]
    (other,) = read_turns([{**turn, "alternatives": "none"}], "auto")
    assert other["alternatives"] is None


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"question": "Q", "answer": "A", "status": "special_tokens"}, "ok"),  # another scorer's
        ({"question": "Q", "answer": "A", "status": "altered_by_template"}, "ok"),
        ({"question": "Q", "answer": "A", "status": "too_long"}, "ok"),
        ({"question": None, "answer": None, "status": "refused"}, "refused"),  # by the engine
        ({"question": "Q", "answer": "A", "status": "duplicate"}, "duplicate"),
        ({"question": "Q", "answer": "A", "status": "broken_history"}, "ok"),  # nothing before it
        ({"question": None, "answer": "A", "status": "ok"}, "missing_question"),
        ({"question": "Q", "answer": "A", "status": "somebody else's word"}, "ok"),
        ({"question": "Q", "answer": "A", "status": 3, "kind": 4, "num_tokens": "x"}, "ok"),
    ],
)
def test_a_status_that_another_scorer_may_change_is_decided_anew(
    before: dict[str, Any], after: str
) -> None:
    (turn,) = read_turns([before], "auto")
    assert turn["status"] == after
    assert isinstance(turn["kind"], str) and isinstance(turn.get("num_tokens"), int | None)


@given(
    st.lists(st.tuples(st.sampled_from(["human", "gpt"]), st.sampled_from(["", " ", "x", "y"]))),
    st.sampled_from(["auto", "yes", "no"]),
)
def test_every_message_is_in_a_turn(messages: list[tuple[str, str]], history: str) -> None:
    turns = read_turns(llava_messages(*messages), history)
    questions = [turn["question"] for turn in turns if turn["question"] is not None]
    answers = [turn["answer"] for turn in turns if turn["answer"] is not None]
    assert questions == [text.strip() for role, text in messages if role == "human"]
    assert answers == [text.strip() for role, text in messages if role == "gpt"]
    assert {turn["status"] for turn in turns} <= set(get_args(TurnStatus))
    for turn in turns:
        if turn["status"] == "ok":
            assert turn["question"] and turn["answer"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (llava_messages(("human", "Q"), ("gpt", "A")), None),
        (llava_messages(("human", "Q"), ("gpt", "")), "no_turn: empty"),
        ([], "no_turn: the sample has no question and answer"),
        ({"not": "a list"}, "no_turn: the sample has no question and answer"),
        (None, "no_turn: the sample has no question and answer"),
    ],
)
def test_a_row_without_a_usable_turn_says_why(content: Any, reason: str | None) -> None:
    assert explain_no_turn(read_turns(content, "auto")) == reason
