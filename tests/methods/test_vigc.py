from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from c3l_ray.errors import PreflightError
from c3l_ray.methods import c3l, vigc
from c3l_ray.methods.sentences import join_pieces, split_sentences
from c3l_ray.methods.vigc import CorrectionRules, ContinuationRequest, CorrectionState

TURN = c3l.plan_requests("image", 1, instructions=vigc.INSTRUCTIONS)[0]
DIALOGUE = c3l.TurnRequest(kind="dialogue", instruction="Ask. " + c3l.FORMAT_REQUESTS["json"], seed=7)
DETAIL = c3l.TurnRequest(kind="detail", instruction="Ask. " + c3l.FORMAT_REQUESTS["text"], seed=2**31 - 2)
STOP, STRING, LENGTH = "stop", "stop_string", "length"

Model = Callable[[ContinuationRequest], tuple[str, str]]


def corrected(
    model: Model, turn: c3l.TurnRequest = DIALOGUE, **rules: Any
) -> tuple[CorrectionState, list[ContinuationRequest]]:
    """The loop as the engine's side runs it."""
    state = CorrectionState(rules=CorrectionRules(**rules), turn=turn, question="What is it?")
    asked: list[ContinuationRequest] = []
    while (request := vigc.next_request(state)) is not None:
        asked.append(request)
        state = vigc.accept_reply(state, *model(request))
    assert len(asked) == state.num_requests
    return state, asked


def scripted(*replies: tuple[str, str]) -> Model:
    left = iter(replies)
    return lambda _: next(left)


def saying(text: str) -> Model:
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
    asked = c3l.plan_requests("a", 33, instructions=vigc.INSTRUCTIONS)
    assert [sum(r.kind == kind for r in asked) for kind in vigc.INSTRUCTIONS] == [11, 11, 11]
    assert len({request.instruction for request in asked}) == 33
    assert asked[:5] == c3l.plan_requests("a", 5, instructions=vigc.INSTRUCTIONS)


REPLY: dict[str, Any] = {"context": "reply"}
FRESH: dict[str, Any] = {"context": "fresh"}
VIG: dict[str, Any] = {"style": "vig"}


@pytest.mark.parametrize(
    ("rules", "replies", "answer", "ended"),
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
        ({"rounds": 2}, [("A is. ", STRING), ("B is. ", STRING)], "A is. B is.", "limit"),
        ({"rounds": 1, **FRESH}, [("A is.", STOP)], "A is.", "limit"),
        (
            {"rounds": 2, "last_whole": True},
            [("A is. ", STRING), ("B is. C is.", STOP)],
            "A is. B is. C is.",
            "complete",
        ),
        (
            {"rounds": 2, "last_whole": True},
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
        (REPLY, [("e.g. ", STRING)] * 16, "", "nothing"),
        # Nothing at all: the draft stays.
        (REPLY, [("", STOP)], "", "nothing"),
        (REPLY, [(" \n", STOP)], "", "nothing"),
        (REPLY, [("It goes on and", LENGTH)], "", "nothing"),
        (FRESH, [("END", STOP)], "", "nothing"),
        # A next question that the model goes on to write is none of the answer.
        (VIG, [(" It is. ", STRING), (" Question:", STRING)], "It is.", "complete"),
        (VIG, [(" red Question:", STRING)], "red", "complete"),
        # Paragraphs.
        (
            {"unit": "paragraph"},
            [("A is. B is.\n\n", STRING), ("C is.", STOP)],
            "A is. B is.\n\nC is.",
            "complete",
        ),
        ({"unit": "paragraph"}, [("A is.\n\n", STRING), ("\n\n", STRING)], "A is.", "complete"),
    ],
)
def test_every_way_to_end(
    rules: dict[str, Any], replies: list[tuple[str, str]], answer: str, ended: str
) -> None:
    state, asked = corrected(scripted(*replies), **rules)
    assert (state.answer, state.ended) == (answer, ended)
    assert len(asked) == len(replies)


def test_a_refused_request_ends_with_what_was_accepted() -> None:
    state = CorrectionState(rules=CorrectionRules(), turn=DIALOGUE, question="What is it?")
    assert vigc.end_refused(state).ended == "nothing"
    some = vigc.end_refused(vigc.accept_reply(state, "It is red. ", STRING))
    assert (some.ended, some.answer, some.num_requests) == ("refused", "It is red.", 2)
    assert vigc.next_request(some) is None


def test_detail_has_a_limit_of_its_own() -> None:
    text = " ".join(f"Thing {i} is red." for i in range(20))
    assert len(corrected(saying(text))[0].accepted) == 4
    assert len(corrected(saying(text), turn=DETAIL)[0].accepted) == 8


TWO = [("It is red. ", STRING), ("It is big.", STOP), ("END", STOP)]


def test_the_bare_question_is_asked_and_the_answer_stands_in_the_reply() -> None:
    _, asked = corrected(scripted(*TWO))
    assert [(each.message, each.reply_start) for each in asked] == [
        ("What is it?", ""),
        ("What is it?", "It is red."),
    ]


def test_vig_style_goes_on_after_its_own_instruction() -> None:
    _, asked = corrected(scripted(*TWO), style="vig")
    instruction = "Ask. " + c3l.FORMAT_REQUESTS["text"]  # also where the turn was asked for as JSON
    assert [(each.message, each.reply_start) for each in asked] == [
        (instruction, "Question: What is it? Answer:"),
        (instruction, "Question: What is it? Answer: It is red."),
    ]


@pytest.mark.parametrize("style", ["vic", "vig"])
def test_a_fresh_context_says_the_answer_so_far(style: str) -> None:
    _, (first, second, third) = corrected(scripted(*TWO), style=style, context="fresh")
    assert first.reply_start == second.reply_start == third.reply_start == ""
    assert "What is it?" in first.message and "Look at" not in first.message
    assert "It is red.\n" in second.message and "sentence that comes next" in second.message
    assert "It is red. It is big.\n" in third.message
    assert ("Ask. " in first.message) == (style == "vig")


def test_an_unfinished_sentence_is_gone_on_with_in_the_reply() -> None:
    pieces = [("A is. ", STRING), ("Fruit, e.g. ", STRING), ("pears.", STOP)]
    assert corrected(scripted(*pieces))[1][2].reply_start == "A is. Fruit, e.g."
    _, asked = corrected(scripted(*pieces, ("END", STOP)), context="fresh")
    assert asked[2].reply_start == "Fruit, e.g."
    assert asked[2].message == asked[1].message


def test_every_request_has_a_seed_of_its_own_and_the_same_in_every_run() -> None:
    text = "A is. B is. C is."
    seeds = [request.seed for request in corrected(saying(text))[1]]
    assert seeds == [8, 9, 10]
    late = [request.seed for request in corrected(saying(text), turn=DETAIL)[1]]
    assert late == [2**31 - 1, 0, 1]


WORDS = st.sampled_from(["red", "e.g. pears", "3.5 kg", '"Go. Now."', "(i.e. blue. Big.)", "No. 5"])
MARKS = st.sampled_from([".", "!", "?", "..."])
SENTENCES = st.lists(
    st.tuples(st.integers(0, 99), WORDS, MARKS), min_size=1, max_size=8, unique_by=lambda s: s[0]
)


@settings(deadline=None)
@given(SENTENCES, st.sampled_from(["vic", "vig"]))
def test_a_model_that_says_the_same_again_gives_the_draft_back(
    parts: list[tuple[int, str, str]], style: str
) -> None:
    draft = " ".join(f"Thing {i} is {word} here{mark}" for i, word, mark in parts)
    before = "Question: What is it? Answer: " if style == "vig" else ""
    state, asked = corrected(saying(before + draft), turn=DETAIL, style=style)
    assert state.answer == draft
    assert state.ended == "complete"
    assert len(asked) >= len(split_sentences(draft))


@settings(deadline=None)
@given(SENTENCES, st.integers(1, 4))
def test_the_limit_keeps_the_first_sentences(
    parts: list[tuple[int, str, str]], rounds: int
) -> None:
    said = [f"Thing {i} is {word} here{mark}" for i, word, mark in parts]
    state, _ = corrected(saying(" ".join(said)), rounds=rounds)
    assert state.answer == join_pieces(said[:rounds])


def test_lists_and_chinese_keep_their_shape() -> None:
    for text in ("Things:\n- a dog\n- a cat", "图片里有一只猫。它在睡觉。", "One.\n\nTwo. Three."):
        assert corrected(saying(text), turn=DETAIL)[0].answer == text


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("rounds", 0),
        ("detail_rounds", 0),
        ("max_tokens", 0),
        ("beams", 0),
        ("beams", 11),
        ("temperature", -1.0),
        ("repetition_penalty", 0.0),
    ],
)
def test_a_wrong_value_of_the_correction_names_its_flag(field: str, value: float) -> None:
    with pytest.raises(PreflightError, match=f"--correction.{field.replace('_', '-')} {value}"):
        CorrectionRules(**{field: value})


@pytest.mark.parametrize("other", [{"temperature": 0.5}, {"repetition_penalty": 1.5}])
def test_beams_go_with_no_other_decoding(other: dict[str, float]) -> None:
    with pytest.raises(PreflightError, match=r"--correction\.beams 5: a beam search neither"):
        CorrectionRules(beams=5, **other)
