from collections.abc import Callable
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from c3l_ray.errors import PreflightError
from c3l_ray.methods import c3l, vigc
from c3l_ray.methods.sentences import join_pieces, split_sentences
from c3l_ray.methods.vigc import ContinuationRequest, CorrectionRules, CorrectionState
from tests.examples import MakeConfig

DIALOGUE = c3l.TurnRequest(
    kind="dialogue", instruction="Ask. " + c3l.FORMAT_REQUESTS["json"], seed=7
)
DETAIL = c3l.TurnRequest(
    kind="detail", instruction="Ask. " + c3l.FORMAT_REQUESTS["text"], seed=2**31 - 2
)
STOP, STRING, LENGTH = "stop", "stop_string", "length"

Reply = Callable[[ContinuationRequest], tuple[str, str]]
"""A model: the text that it replies to a request, and why it ended."""


def correct(
    model: Reply, turn: c3l.TurnRequest = DIALOGUE, **rules: Any
) -> tuple[CorrectionState, list[ContinuationRequest]]:
    """The loop as the engine's side runs it."""
    state = CorrectionState(rules=CorrectionRules(**rules), turn=turn, question="What is it?")
    requests: list[ContinuationRequest] = []
    while (request := vigc.next_request(state)) is not None:
        requests.append(request)
        state = vigc.accept_reply(state, *model(request))
    assert len(requests) == state.num_requests
    return state, requests


def reply_in_turn(*replies: tuple[str, str]) -> Reply:
    remaining = iter(replies)
    return lambda _: next(remaining)


def continue_text(text: str) -> Reply:
    """A model that goes on with this text from where its reply stands, and is cut at stops."""

    def reply(request: ContinuationRequest) -> tuple[str, str]:
        assert text.startswith(request.reply_start), request.reply_start
        rest = text[len(request.reply_start) :]
        ends = [rest.find(stop) + len(stop) for stop in request.stops if stop in rest]
        return (rest[: min(ends)], STRING) if ends else (rest, STOP)

    return reply


def test_three_kinds_have_ten_wordings_each_and_none_twice() -> None:
    assert set(vigc.INSTRUCTIONS) == {"dialogue", "detail", "reasoning"}
    for wordings in vigc.INSTRUCTIONS.values():
        assert len(set(wordings)) == len(wordings) >= 10


def test_requests_are_of_the_three_kinds_evenly() -> None:
    requests = c3l.plan_requests("a", 33, instructions=vigc.INSTRUCTIONS)
    kinds = [request.kind for request in requests]
    assert [kinds.count(kind) for kind in vigc.INSTRUCTIONS] == [11, 11, 11]
    assert len({request.instruction for request in requests}) == 33
    assert requests[:5] == c3l.plan_requests("a", 5, instructions=vigc.INSTRUCTIONS)


REPLY: dict[str, Any] = {"context": "reply"}
FRESH: dict[str, Any] = {"context": "fresh"}
VIG: dict[str, Any] = {"style": "vig"}


@pytest.mark.parametrize(
    ("rules", "replies", "answer", "outcome"),
    [
        # It ends by itself: nothing new, or nothing after the sentence in the reply itself.
        (REPLY, [("It is red.", STOP)], "It is red.", "complete"),
        (REPLY, [("It is red. ", STRING), ("", STOP)], "It is red.", "complete"),
        (REPLY, [("It is. ", STRING), (" It is big.", STOP)], "It is. It is big.", "complete"),
        (REPLY, [("red", STOP)], "red", "complete"),
        (FRESH, [("It is red.", STOP), ("", STOP)], "It is red.", "complete"),
        (FRESH, [("It is red.", STOP), ("END", STOP)], "It is red.", "complete"),
        (FRESH, [("It is red.", STOP), (" end. ", STRING)], "It is red.", "complete"),
        (FRESH, [("red", STOP)], "red", "complete"),
        # A sentence comes again.
        (REPLY, [("It is. ", STRING), ("it  is! ", STRING)], "It is.", "repeat"),
        (FRESH, [("A is. ", STRING), ("B is. ", STRING), ("A is.", STOP)], "A is. B is.", "repeat"),
        # Enough of them.
        ({"max_steps": 2}, [("A is. ", STRING), ("B is. ", STRING)], "A is. B is.", "limit"),
        ({"max_steps": 1, **FRESH}, [("A is.", STOP)], "A is.", "limit"),
        (
            {"max_steps": 2, "last_reply_whole": True},
            [("A is. ", STRING), ("B is. C is.", STOP)],
            "A is. B is. C is.",
            "complete",
        ),
        (
            {"max_steps": 2, "last_reply_whole": True},
            [("A is. ", STRING), ("B is. C i", LENGTH)],
            "A is. B is.",
            "limit",
        ),
        # Cut within a sentence.
        (REPLY, [("A is. ", STRING), ("B i", LENGTH)], "A is.", "truncated"),
        (REPLY, [("A is. B i", LENGTH), ("B is.", STOP)], "A is. B is.", "complete"),
        # A mark that ends nothing: the rest is asked for.
        (
            REPLY,
            [("Fruit, e.g. ", STRING), (" pears. ", STRING), ("", STOP)],
            "Fruit, e.g. pears.",
            "complete",
        ),
        (FRESH, [("Fruit, e.g. ", STRING), ("pears", STOP)], "Fruit, e.g. pears", "complete"),
        (
            REPLY,
            [("It is 3 p.m. ", STRING), (" It is late. ", STRING), (" It is late.", STOP)],
            "It is 3 p.m. It is late.",
            "complete",
        ),
        (
            REPLY,
            [("他说：“走吧。", STRING), ("”然后离开。", STRING), ("", STOP)],
            "他说：“走吧。”然后离开。",
            "complete",
        ),
        (REPLY, [("e.g. ", STRING)] * 16, "", "no_sentence"),
        # Nothing at all: the draft stays.
        (REPLY, [("", STOP)], "", "no_sentence"),
        (REPLY, [(" \n", STOP)], "", "no_sentence"),
        (REPLY, [("It goes on and", LENGTH)], "", "no_sentence"),
        (FRESH, [("END", STOP)], "", "no_sentence"),
        # A next question that the model goes on to write is none of the answer.
        (VIG, [(" It is. ", STRING), (" Question:", STRING)], "It is.", "complete"),
        (VIG, [(" red Question:", STRING)], "red", "complete"),
        # Paragraphs.
        (
            {"step": "paragraph"},
            [("A is. B is.\n\n", STRING), ("C is.", STOP)],
            "A is. B is.\n\nC is.",
            "complete",
        ),
        ({"step": "paragraph"}, [("A is.\n\n", STRING), ("\n\n", STRING)], "A is.", "complete"),
    ],
)
def test_every_way_to_end(
    rules: dict[str, Any], replies: list[tuple[str, str]], answer: str, outcome: str
) -> None:
    state, requests = correct(reply_in_turn(*replies), **rules)
    assert (state.answer, state.outcome) == (answer, outcome)
    assert len(requests) == len(replies)


@pytest.mark.parametrize("outcome", ["refused", "special_tokens"])
def test_a_failed_request_ends_with_what_was_accepted(
    outcome: Literal["refused", "special_tokens"],
) -> None:
    state = CorrectionState(rules=CorrectionRules(), turn=DIALOGUE, question="What is it?")
    assert vigc.fail_request(state, outcome).outcome == "no_sentence"
    state = vigc.fail_request(vigc.accept_reply(state, "It is red. ", STRING), outcome)
    assert (state.outcome, state.answer, state.num_requests) == (outcome, "It is red.", 2)
    assert vigc.next_request(state) is None


def test_detail_has_a_limit_of_its_own() -> None:
    text = " ".join(f"Thing {i} is red." for i in range(20))
    assert len(correct(continue_text(text))[0].accepted) == 4
    assert len(correct(continue_text(text), turn=DETAIL)[0].accepted) == 8


TWO = [("It is red. ", STRING), ("It is big.", STOP), ("END", STOP)]


def test_the_bare_question_is_asked_and_the_answer_stands_in_the_reply() -> None:
    _, requests = correct(reply_in_turn(*TWO))
    assert [(request.message, request.reply_start) for request in requests] == [
        ("What is it?", ""),
        ("What is it?", "It is red."),
    ]


def test_vig_style_continues_after_its_own_instruction() -> None:
    _, requests = correct(reply_in_turn(*TWO), style="vig")
    # Also where the turn was asked for as JSON.
    instruction = "Ask. " + c3l.FORMAT_REQUESTS["text"]
    assert [(request.message, request.reply_start) for request in requests] == [
        (instruction, "Question: What is it? Answer:"),
        (instruction, "Question: What is it? Answer: It is red."),
    ]


@pytest.mark.parametrize("style", ["vic", "vig"])
def test_a_fresh_context_says_the_answer_so_far(style: str) -> None:
    _, (first, second, third) = correct(reply_in_turn(*TWO), style=style, context="fresh")
    assert first.reply_start == second.reply_start == third.reply_start == ""
    assert "What is it?" in first.message and "Look at" not in first.message
    assert "It is red.\n" in second.message and "sentence that comes next" in second.message
    assert "It is red. It is big.\n" in third.message
    assert ("Ask. " in first.message) == (style == "vig")


def test_the_reply_goes_on_with_an_unfinished_sentence() -> None:
    pieces = [("A is. ", STRING), ("Fruit, e.g. ", STRING), ("pears.", STOP)]
    assert correct(reply_in_turn(*pieces))[1][2].reply_start == "A is. Fruit, e.g."
    _, requests = correct(reply_in_turn(*pieces, ("END", STOP)), context="fresh")
    assert requests[2].reply_start == "Fruit, e.g."
    assert requests[2].message == requests[1].message


def test_every_request_has_a_seed_of_its_own_and_the_same_in_every_run() -> None:
    text = "A is. B is. C is."
    seeds = [request.seed for request in correct(continue_text(text))[1]]
    assert seeds == [8, 9, 10]
    late = [request.seed for request in correct(continue_text(text), turn=DETAIL)[1]]
    assert late == [2**31 - 1, 0, 1]


WORDS = st.sampled_from(["red", "e.g. pears", "3.5 kg", '"Go. Now."', "(i.e. blue. Big.)", "No. 5"])
MARKS = st.sampled_from([".", "!", "?", "..."])
SENTENCES = st.lists(
    st.tuples(st.integers(0, 99), WORDS, MARKS), min_size=1, max_size=8, unique_by=lambda s: s[0]
)


@settings(deadline=None)
@given(SENTENCES, st.sampled_from(["vic", "vig"]))
def test_a_model_that_says_the_same_again_gives_back_the_draft(
    parts: list[tuple[int, str, str]], style: str
) -> None:
    draft = " ".join(f"Thing {i} is {word} here{mark}" for i, word, mark in parts)
    before = "Question: What is it? Answer: " if style == "vig" else ""
    state, requests = correct(continue_text(before + draft), turn=DETAIL, style=style)
    assert state.answer == draft
    assert state.outcome == "complete"
    assert len(requests) >= len(split_sentences(draft))


@settings(deadline=None)
@given(SENTENCES, st.integers(1, 4))
def test_the_limit_keeps_the_first_sentences(
    parts: list[tuple[int, str, str]], max_steps: int
) -> None:
    sentences = [f"Thing {i} is {word} here{mark}" for i, word, mark in parts]
    state, _ = correct(continue_text(" ".join(sentences)), max_steps=max_steps)
    assert state.answer == join_pieces(sentences[:max_steps])


def test_lists_and_chinese_keep_their_shape() -> None:
    for text in ("Things:\n- a dog\n- a cat", "图片里有一只猫。它在睡觉。", "One.\n\nTwo. Three."):
        assert correct(continue_text(text), turn=DETAIL)[0].answer == text


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_steps", 0),
        ("max_detail_steps", 0),
        ("max_tokens", 0),
        ("beams", 0),
        ("beams", 11),
        ("temperature", -1.0),
        ("repetition_penalty", 0.0),
    ],
)
def test_a_wrong_value_of_the_correction_names_its_flag(
    config: MakeConfig, field: str, value: Any
) -> None:
    with pytest.raises(PreflightError, match=f"--correction.{field.replace('_', '-')} {value}"):
        config(correction=CorrectionRules(**{field: value}))


@pytest.mark.parametrize("rules", [{"temperature": 0.5}, {"repetition_penalty": 1.5}])
def test_beams_go_with_no_other_decoding(config: MakeConfig, rules: dict[str, Any]) -> None:
    with pytest.raises(PreflightError, match=r"--correction\.beams 5: a beam search neither"):
        config(correction=CorrectionRules(beams=5, **rules))
