"""VIGC (arXiv 2308.12714): instruction generation (VIG), and correction sentence by sentence (VIC).

VIG asks for a question and its answer, as C3L does, in three kinds. VIC then throws the answer away
and asks for it anew: the question and the sentences accepted so far go back to the model with the
image, and the first sentence of the reply is accepted. The authors' code makes four rounds; that an
answer also ends when nothing new comes or a sentence comes again is our reading. Here the loop is
pure: `next_request` says what to ask, `accept` takes the reply.

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
from typing import Literal

from c3l_ray.errors import Refused
from c3l_ray.methods import c3l
from c3l_ray.methods.sentences import first_paragraph, first_sentence, join, same

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
TAUGHT = {**c3l.INSTRUCTIONS, **INSTRUCTIONS}

# What a fresh context says of the answer so far, and the word that ends the answer.
DONE = "END"
GO_ON = {
    "vic": "{question}\nThe answer so far: {answer}\n",
    "vig": "{instruction} Question: {question} Answer: {answer}\n",
}
GO_ON_ASKS = (
    "Look at the image again and write only the {unit} that comes next in this answer, "
    f"or {DONE} if nothing is left to say."
)
# Where a reply may be cut: after these a sentence is over, or the rest is asked for.
STOPS = {
    "sentence": (". ", "! ", "? ", ".\n", "!\n", "?\n", "。", "！", "？"),
    "paragraph": ("\n\n",),
}
ENDINGS = ("complete", "repeat", "limit", "truncated", "refused", "nothing")
MAX_BEAMS = 10  # the engine tells the 20 likeliest tokens, two for each beam
_QUESTION_LABEL = "Question:"
_ASKS_PER_SENTENCE = 4  # a sentence full of abbreviations is asked for in so many pieces at most


@dataclass(frozen=True, kw_only=True)
class Correction:
    """How VIC asks for an answer anew."""

    style: Literal["vic", "vig"] = "vic"
    """What the model is asked: the bare question, or VIG's instruction with the question after."""
    context: Literal["reply", "fresh"] = "reply"
    """Where the accepted sentences stand: in the reply, which goes on, or in a new message."""
    unit: Literal["sentence", "paragraph"] = "sentence"
    """What a round accepts: the reply's first sentence, or its text up to a blank line."""
    rounds: int = 4
    """Sentences, or paragraphs, that an answer has at most."""
    detail_rounds: int = 8
    """The same for answers that describe the image in detail."""
    last_whole: bool = False
    """Accept the whole reply of the last round, where it ended by itself."""
    max_tokens: int = 256
    """A request's reply is cut there."""
    temperature: float = 0.0
    """0 is greedy; the paper does not sample."""
    repetition_penalty: float = 1.0
    """Over 1 makes what prompt and reply hold less likely to come again (the paper: 1.5)."""
    beams: int = 1
    """Over 1 (the paper: 5) searches for the likeliest reply; a request for each beam and token."""

    def __post_init__(self) -> None:
        for name in ("rounds", "detail_rounds", "max_tokens", "beams"):
            if getattr(self, name) < 1:
                flag = name.replace("_", "-")
                raise Refused(f"--correction.{flag} {getattr(self, name)}: must be at least 1")
        if self.temperature < 0:
            raise Refused(f"--correction.temperature {self.temperature}: must be at least 0")
        if self.repetition_penalty <= 0:
            raise Refused(
                f"--correction.repetition-penalty {self.repetition_penalty}: must be above 0"
            )
        if self.beams > MAX_BEAMS:
            raise Refused(f"--correction.beams {self.beams}: must be at most {MAX_BEAMS}")
        if self.beams > 1 and (self.temperature > 0 or self.repetition_penalty != 1):
            raise Refused(
                f"--correction.beams {self.beams}: a beam search neither samples nor penalises; "
                "leave --correction.temperature and --correction.repetition-penalty as they are"
            )


@dataclass(frozen=True, kw_only=True)
class State:
    """An answer while it is corrected.

    Attributes:
        rules: how.
        turn: the turn's request to VIG, or C3L's.
        question: that was read from its reply.
        accepted: sentences, each with the blanks that it came with.
        partial: the beginning of a sentence whose end is still to be asked for.
        num_asked: requests made so far.
        ended: one of ENDINGS once it has.
    """

    rules: Correction
    turn: c3l.Request
    question: str
    accepted: tuple[str, ...] = ()
    partial: str = ""
    num_asked: int = 0
    ended: str | None = None

    @property
    def answer(self) -> str:
        gap = "\n\n" if self.rules.unit == "paragraph" else ""
        return join([gap + piece.lstrip() if gap else piece for piece in self.accepted])

    @property
    def limit(self) -> int:
        return self.rules.detail_rounds if self.turn.kind == "detail" else self.rules.rounds


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to ask next.

    Attributes:
        message: the user's, beside the image.
        begun: what the model's reply begins with, perhaps nothing; what comes after it is asked.
        seed: the sampling seed, below 2**31.
        stops: texts after which the reply may be cut.
    """

    message: str
    begun: str
    seed: int
    stops: tuple[str, ...]


def next_request(state: State) -> Request | None:
    """The request that the answer waits for, or None when it has ended."""
    if state.ended:
        return None
    rules = state.rules
    instruction = state.turn.instruction.replace(c3l.FORMATS["json"], c3l.FORMATS["text"])
    if rules.context == "fresh":
        message, begun = _fresh(state, instruction), ""
    elif rules.style == "vig":
        message, begun = instruction, f"{_QUESTION_LABEL} {state.question} Answer:"
    else:
        message, begun = state.question, ""
    if rules.context == "reply" and state.accepted:
        begun = f"{begun} {state.answer}".lstrip()
        begun += "\n\n" if rules.unit == "paragraph" else ""
    if state.partial.strip():
        begun = join([begun, state.partial]) if begun else state.partial.strip()
    stops = () if _takes_whole(state) else STOPS[rules.unit]
    return Request(
        message=message,
        begun=begun,
        seed=(state.turn.seed + 1 + state.num_asked) % 2**31,
        stops=(*stops, _QUESTION_LABEL) if rules.style == "vig" else stops,
    )


def accept(state: State, text: str, finish: str) -> State:
    """The state after a reply.

    Args:
        state: that `next_request` was asked of.
        text: of the reply, without what it was begun with.
        finish: "stop" where the model ended it, "stop_string" where one of the request's stops was
            met, "length" where it is cut.
    """
    rules = state.rules
    apart = state.partial[-1:].isspace()
    whole = f"{state.partial}{text.lstrip() if apart else text}"
    over = finish == "stop"
    if rules.style == "vig":  # a model in the habit writes the next question too
        whole, label, _ = whole.partition(_QUESTION_LABEL)
        over = over or bool(label)
    state = dataclasses.replace(state, num_asked=state.num_asked + 1, partial="")
    first = first_sentence if rules.unit == "sentence" else first_paragraph
    found = whole if over and _takes_whole(state) else first(whole, ended=over)
    if found is None:
        asks_left = state.num_asked < _ASKS_PER_SENTENCE * state.limit
        if finish == "length" or not asks_left:
            return _end(state, "truncated")
        if not text.strip():
            return _end(state, "complete")
        return dataclasses.replace(state, partial=whole)
    sentence, rest = found.strip(), whole[len(found) :].strip()
    if not sentence or (rules.context == "fresh" and same(sentence, DONE)):
        return _end(state, "complete")
    if any(same(sentence, earlier) for earlier in state.accepted):
        return _end(state, "repeat")
    state = dataclasses.replace(state, accepted=(*state.accepted, found))
    # Asked to go on from where it just ended, a model ends again; and after a phrase without a
    # mark, "a red square", no sentence follows in a fresh context either.
    phrase = sentence[-1].isalnum()
    if over and not rest and (rules.context == "reply" or phrase):
        return _end(state, "complete")
    return _end(state, "limit") if len(state.accepted) == state.limit else state


def refuse(state: State) -> State:
    """The state after a request that the engine or the chat template does not take, or a reply
    that could not be asked again.
    """
    return _end(dataclasses.replace(state, num_asked=state.num_asked + 1), "refused")


def _end(state: State, ended: str) -> State:
    return dataclasses.replace(state, partial="", ended=ended if state.accepted else "nothing")


def _takes_whole(state: State) -> bool:
    return state.rules.last_whole and len(state.accepted) == state.limit - 1


def _fresh(state: State, instruction: str) -> str:
    """The message of a fresh context: what the paper appends to its prompt, put into words."""
    rules = state.rules
    if state.accepted:
        return go_on(rules.style, rules.unit, instruction, state.question, state.answer)
    if rules.style == "vig":
        return f"{instruction} {_QUESTION_LABEL} {state.question} Answer:"
    return state.question


def go_on(style: str, unit: str, instruction: str, question: str, answer: str) -> str:
    """The message of a fresh context that asks for what comes after some accepted sentences."""
    begun = GO_ON[style].format(instruction=instruction, question=question, answer=answer)
    return begun + GO_ON_ASKS.format(unit=unit)


def generation(kind: str, number: int, question: str, answer: str) -> tuple[str, str]:
    """VIG as it is taught (L_VIG of the paper): what the model is asked, and its reply.

    Args:
        kind: of the turn, one of TAUGHT.
        number: any; it picks the wording.
        question: of the turn.
        answer: to it.
    """
    wordings = TAUGHT[kind]
    instruction = c3l.asking(wordings[number % len(wordings)])
    return instruction, c3l.written(question, answer, instruction)


def correction(question: str, answer: str) -> tuple[str, str]:
    """VIC as it is taught (L_VIC of the paper): what the model is asked, and its reply.

    The bare question, as `Correction` asks by default. The later rounds of its loop begin the reply
    with sentences of it, so that learning the whole reply is learning each of them.
    """
    return question, answer
