from typing import Any, cast

import pytest

from c3l_ray import chat
from c3l_ray.processors import load_processor
from c3l_ray.report.token_tints import load_splitter, split_answer
from c3l_ray.scenes.world import LLAVA
from c3l_ray.schema import Turn
from tests.report.runs import make_turn

ANSWER = "The circle is red."


@pytest.fixture(scope="module")
def processor() -> Any:
    return load_processor(str(LLAVA))


def as_turns(*turns: dict[str, Any]) -> list[Turn]:
    return cast(list[Turn], list(turns))


def count_tokens(processor: Any, question: str, **arguments: Any) -> int:
    text, span = chat.render_turn(processor, question, ANSWER, with_image=False, **arguments)
    _, start, end = chat.tokenize_with_span(processor.tokenizer, text, span)
    return end - start


def test_the_pieces_are_the_answer_and_each_token_has_its_gain(processor: Any) -> None:
    turn: dict[str, Any] = make_turn(answer=ANSWER)
    gains = [float(place) for place in range(count_tokens(processor, turn["question"]))]
    pieces = split_answer(processor, as_turns({**turn, "token_gains": gains}), 0)
    assert pieces is not None and len(gains) > 3
    assert "".join(piece.text for piece in pieces) == ANSWER
    assert [piece.gain for piece in pieces if piece.gain is not None] == gains
    assert [piece.strength for piece in pieces if piece.gain in (0, 3, 4)] == [0, 1, 1]


def test_an_answer_whose_tokens_are_not_as_many_as_its_gains_is_not_split(processor: Any) -> None:
    turn: dict[str, Any] = make_turn(answer=ANSWER)
    for gains in ([0.5], None, []):
        assert split_answer(processor, as_turns({**turn, "token_gains": gains}), 0) is None


def test_a_follow_up_is_split_after_the_turns_before_it(processor: Any) -> None:
    before = make_turn(kind="given", instruction="", question="Blue?", answer="No.")
    unusable = {**before, "status": "missing_answer", "answer": None}
    turn = make_turn(kind="follow_up", instruction="", answer=ANSWER)
    num_tokens = count_tokens(processor, turn["question"], history=[("Blue?", "No.")])
    turns = [before, unusable, {**turn, "token_gains": [1.0] * num_tokens}]
    pieces = split_answer(processor, as_turns(*turns), 2)
    assert pieces and "".join(piece.text for piece in pieces) == ANSWER


@pytest.mark.parametrize(
    ("scorer", "reason"),
    [
        (None, "does not say which model scored it"),
        ({"name": "nobody/nothing"}, "nobody/nothing is not on this machine"),
        ({"name": "s3://bucket/model"}, "s3://bucket/model is not on this machine"),
        ({"name": "/no/folder"}, "/no/folder is not on this machine"),
        ({"name": "a b/<c>"}, "a b/<c> is not on this machine"),
        ({"name": str(LLAVA), "trust_remote_code": True}, "has code of its own"),
        ({"name": str(LLAVA.parent)}, "cannot be loaded: "),
    ],
)
def test_why_nothing_is_tinted_is_said(scorer: dict[str, Any] | None, reason: str) -> None:
    split, said = load_splitter({"config": {"scorer": scorer}})
    assert split is None and reason in said


def test_what_a_template_refuses_is_not_tinted(monkeypatch: pytest.MonkeyPatch) -> None:
    split, reason = load_splitter({"config": {"scorer": {"name": str(LLAVA)}}})
    assert split is not None and reason == ""

    def refuse(*_: Any, **__: Any) -> None:
        raise ValueError("the template changes the answer")

    monkeypatch.setattr(chat, "render_turn", refuse)
    assert split(as_turns(make_turn(token_gains=[1.0])), 0) is None
