"""VIGC (arXiv 2308.12714): instruction generation (VIG), and correction sentence by sentence (VIC).

VIG asks for a question and its answer, as C3L does, in three kinds. VIC then throws the answer away
and asks for it anew: the question and the sentences accepted so far go back to the model with the
image, and the first sentence of the reply is accepted. The authors' code makes four rounds; that an
answer also ends when nothing new comes or a sentence comes again is our reading. Here the loop is
pure: `next_request` says what to ask, `accept_reply` takes the reply.

The paper's model sees the image anew at each round, as its Q-Former also reads the text so far. In
LLaVA, Qwen-VL and their kin the image's tokens do not depend on the text. With the accepted
sentences in the model's own reply (`context` "reply") a round without sampling then continues as
one long reply would, and what corrects is that the bare question is asked; with "fresh" each
sentence is written in a new reply to a message that holds the others. Another way to look anew, to
crop or re-weight the image's tokens by attention, is not built: vLLM's kernels give no attention
weights and take none, and a second copy of the model would have to find them.

Decoding is greedy by default. The paper searches with five beams: `beams` does, at the cost of a
request for each beam and token. vLLM's repetition penalty counts the prompt's tokens, the paper's
only the reply's, so that the paper's 1.5 weighs more here; a beam search has none.
"""

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Literal

from c3l_ray.methods import c3l
from c3l_ray.methods.sentences import first_paragraph, first_sentence, join_pieces, same_text
from c3l_ray.ranges import Conflicts, Range

INSTRUCTIONS: dict[str, tuple[str, ...]] = {
    "dialogue": (
        *c3l.INSTRUCTIONS["dialogue"],
        "Write a question about the content of this image, and answer it in a full sentence.",
        "Ask what somebody might want to know about this picture, then answer it.",
        "Look at the image, ask a question about what is in it, and answer the question.",
    ),
    "detail": (
        *c3l.INSTRUCTIONS["detail"],
        "Write a question that asks for all that is visible in the image, and answer it in detail.",
        "Ask for the content of the picture in full, then describe it.",
        "Look at the image, ask for a description of it, and give a detailed description.",
    ),
    "reasoning": (
        *c3l.INSTRUCTIONS["reasoning"],
        "Write a question about the image that needs several facts in it, and answer it.",
        "Ask a question on the picture that takes reasoning, then answer it and give the reason.",
        "Look at the image, ask what can be worked out from it, and answer the question.",
    ),
}

# A model is taught to write turns of every kind: of C3L's two others under C3L's wordings.
TAUGHT_INSTRUCTIONS = {**c3l.INSTRUCTIONS, **INSTRUCTIONS}

# What a fresh context says of the answer so far, and the word that ends the answer.
END_WORD = "END"
CONTINUATIONS = {
    "vic": "{question}\nThe answer so far: {answer}\n",
    "vig": "{instruction} Question: {question} Answer: {answer}\n",
}
CONTINUATION_REQUEST = (
    "Look at the image again and write only the {step} that comes next in this answer, "
    f"or {END_WORD} if nothing is left to say."
)
# Where a reply may be cut: a step ends there, or its rest is asked for.
STOPS = {
    "sentence": (". ", "! ", "? ", ".\n", "!\n", "?\n", "。", "！", "？"),
    "paragraph": ("\n\n",),
}
OUTCOMES = (
    *("complete", "repeat", "limit", "truncated", "thought", "refused", "special_tokens"),
    "no_sentence",
)
MAX_BEAMS = 10  # the engine tells the 20 likeliest tokens, two for each beam
_QUESTION_LABEL = c3l.QUESTION_LABEL
_REQUESTS_PER_STEP = 4  # a sentence full of abbreviations is asked for in so many pieces at most


@dataclass(frozen=True, kw_only=True)
class CorrectionRules:
    """How VIC asks for an answer anew."""

    style: Literal["vic", "vig"] = "vic"
    """Ask the bare question, or VIG's instruction with the question after it."""
    context: Literal["reply", "fresh"] = "reply"
    """Put the accepted sentences into the reply, which goes on, or into a new message."""
    step: Literal["sentence", "paragraph"] = "sentence"
    """Accept the reply's first sentence at each step, or its text up to a blank line."""
    max_steps: Annotated[int, Range(min=1)] = 4
    """Most sentences, or paragraphs, of an answer (the paper's rounds)."""
    max_detail_steps: Annotated[int, Range(min=1)] = 8
    """Most sentences, or paragraphs, of an answer that describes the image in detail."""
    last_reply_whole: bool = False
    """Accept the whole reply of the last step, if it ended by itself."""
    max_tokens: Annotated[int, Range(min=1)] = 256
    """Longest reply to one request."""
    temperature: Annotated[float, Range(min=0)] = 0.0
    """Sampling temperature; 0, as in the paper, always takes the likeliest token."""
    repetition_penalty: Annotated[float, Range(above=0)] = 1.0
    """Above 1, make tokens of the prompt and the reply less likely to repeat (the paper: 1.5)."""
    beams: Annotated[int, Range(min=1, max=MAX_BEAMS)] = 1
    """Above 1, search for the likeliest reply (the paper: 5), with a request per beam and token."""

    def conflicts(self) -> Conflicts:
        if self.beams > 1 and (self.temperature > 0 or self.repetition_penalty != 1):
            yield (
                "beams",
                "a beam search neither samples nor penalises; leave the temperature at 0 and the "
                "repetition penalty at 1",
            )


@dataclass(frozen=True, kw_only=True)
class CorrectionState:
    """An answer while it is corrected.

    Attributes:
        rules: of the correction.
        turn: the turn's request to VIG, or C3L's.
        question: that was read from its reply.
        accepted: sentences, each with the blanks that it came with.
        partial: the beginning of a sentence whose end is still to be asked for.
        num_requests: requests made so far.
        outcome: one of OUTCOMES, once the answer has ended.
    """

    rules: CorrectionRules
    turn: c3l.TurnRequest
    question: str
    accepted: tuple[str, ...] = ()
    partial: str = ""
    num_requests: int = 0
    outcome: str | None = None

    @property
    def answer(self) -> str:
        gap = "\n\n" if self.rules.step == "paragraph" else ""
        return join_pieces([gap + piece.lstrip() if gap else piece for piece in self.accepted])

    @property
    def max_steps(self) -> int:
        return self.rules.max_detail_steps if self.turn.kind == "detail" else self.rules.max_steps


@dataclass(frozen=True, kw_only=True)
class ContinuationRequest:
    """What to ask next.

    Attributes:
        message: the user's, beside the image.
        reply_start: what the model's reply begins with, perhaps nothing; it is asked to go on.
        seed: the sampling seed, below 2**31.
        stops: texts after which the reply may be cut.
    """

    message: str
    reply_start: str
    seed: int
    stops: tuple[str, ...]


def next_request(state: CorrectionState) -> ContinuationRequest | None:
    """The request that the answer waits for, or None when it has ended."""
    if state.outcome:
        return None
    rules = state.rules
    instruction = state.turn.instruction.replace(
        c3l.FORMAT_REQUESTS["json"], c3l.FORMAT_REQUESTS["text"]
    )
    if rules.context == "fresh":
        message, reply_start = _fresh_message(state, instruction), ""
    elif rules.style == "vig":
        message, reply_start = instruction, f"{_QUESTION_LABEL} {state.question} Answer:"
    else:
        message, reply_start = state.question, ""
    if rules.context == "reply" and state.accepted:
        reply_start = f"{reply_start} {state.answer}".lstrip()
        reply_start += "\n\n" if rules.step == "paragraph" else ""
    if state.partial.strip():
        reply_start = (
            join_pieces([reply_start, state.partial]) if reply_start else state.partial.strip()
        )
    stops = () if _takes_whole_reply(state) else STOPS[rules.step]
    return ContinuationRequest(
        message=message,
        reply_start=reply_start,
        seed=(state.turn.seed + 1 + state.num_requests) % 2**31,
        stops=(*stops, _QUESTION_LABEL) if rules.style == "vig" else stops,
    )


def accept_reply(state: CorrectionState, text: str, finish: str) -> CorrectionState:
    """The state after a reply.

    Args:
        state: that `next_request` was asked of.
        text: of the reply, without its given start.
        finish: "stop" where the model ended it, "stop_string" where one of the request's stops was
            met, "length" where it is cut.
    """
    rules = state.rules
    has_blank = state.partial[-1:].isspace()
    whole = f"{state.partial}{text.lstrip() if has_blank else text}"
    reply_ended = finish == "stop"
    if rules.style == "vig":  # a model in the habit writes the next question too
        whole, label, _ = whole.partition(_QUESTION_LABEL)
        reply_ended = reply_ended or bool(label)
    state = dataclasses.replace(state, num_requests=state.num_requests + 1, partial="")
    take_first = first_sentence if rules.step == "sentence" else first_paragraph
    takes_whole = reply_ended and _takes_whole_reply(state)
    piece = whole if takes_whole else take_first(whole, ended=reply_ended)
    if piece is None:
        has_requests_left = state.num_requests < _REQUESTS_PER_STEP * state.max_steps
        if finish == "length" or not has_requests_left:
            return _finish(state, "truncated")
        if not text.strip():
            return _finish(state, "complete")
        return dataclasses.replace(state, partial=whole)
    sentence, rest = piece.strip(), whole[len(piece) :].strip()
    if not sentence or (rules.context == "fresh" and same_text(sentence, END_WORD)):
        return _finish(state, "complete")
    if any(same_text(sentence, earlier) for earlier in state.accepted):
        return _finish(state, "repeat")
    state = dataclasses.replace(state, accepted=(*state.accepted, piece))
    # Asked to go on from where it just ended, a model ends again; and after a phrase without a
    # mark, "a red square", no sentence follows in a fresh context either.
    is_phrase = sentence[-1].isalnum()
    if reply_ended and not rest and (rules.context == "reply" or is_phrase):
        return _finish(state, "complete")
    return _finish(state, "limit") if len(state.accepted) == state.max_steps else state


def fail_request(
    state: CorrectionState, outcome: Literal["refused", "special_tokens", "thought"]
) -> CorrectionState:
    """The state after a request without a usable reply.

    Args:
        state: that `next_request` was asked of.
        outcome: "refused" where the engine or the chat template does not take the request,
            "special_tokens" where the reply holds some, so that it cannot be sent back, "thought"
            where it ends inside a thought, or a mark of thoughts stands in it.
    """
    return _finish(dataclasses.replace(state, num_requests=state.num_requests + 1), outcome)


def _finish(state: CorrectionState, outcome: str) -> CorrectionState:
    return dataclasses.replace(
        state, partial="", outcome=outcome if state.accepted else "no_sentence"
    )


def _takes_whole_reply(state: CorrectionState) -> bool:
    return state.rules.last_reply_whole and len(state.accepted) == state.max_steps - 1


def _fresh_message(state: CorrectionState, instruction: str) -> str:
    """The message of a fresh context: what the paper appends to its prompt, put into words."""
    rules = state.rules
    if state.accepted:
        return continuation_message(
            rules.style, rules.step, instruction, state.question, state.answer
        )
    if rules.style == "vig":
        return f"{instruction} {_QUESTION_LABEL} {state.question} Answer:"
    return state.question


def continuation_message(
    style: str, step: str, instruction: str, question: str, answer: str
) -> str:
    """The message of a fresh context that asks for what comes after some accepted sentences."""
    answer_so_far = CONTINUATIONS[style].format(
        instruction=instruction, question=question, answer=answer
    )
    return answer_so_far + CONTINUATION_REQUEST.format(step=step)


def generation_example(kind: str, number: int, question: str, answer: str) -> tuple[str, str]:
    """VIG as it is taught (L_VIG of the paper): what the model is asked, and its reply.

    Args:
        kind: of the turn, one of TAUGHT_INSTRUCTIONS.
        number: any; it picks the wording.
        question: of the turn.
        answer: to it.
    """
    wordings = TAUGHT_INSTRUCTIONS[kind]
    instruction = c3l.format_instruction(wordings[number % len(wordings)])
    return instruction, c3l.format_reply(question, answer, instruction)


def correction_example(question: str, answer: str) -> tuple[str, str]:
    """VIC as it is taught (L_VIC of the paper): what the model is asked, and its reply.

    The bare question, as `CorrectionRules` ask by default. The later steps of its loop begin the
    reply with sentences of it, so that learning the whole reply is learning each of them.
    """
    return question, answer
