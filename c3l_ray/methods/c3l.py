"""C3L's generation (arXiv 2405.12752, stage 1): what an image is asked, and how replies are read.

The paper's prompts are not public. The five kinds follow the groups seen in a community
reproduction; the wordings are ours. An image gets M independent requests instead of one reply with
M pairs, so that one bad reply costs one turn and not the image.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

KINDS = ("dialogue", "detail", "reasoning", "short", "yes_no")

FORMAT_REQUESTS = {
    "text": "Write it as Question: and then Answer:",
    "json": 'Reply with a JSON object that has the keys "question" and "answer".',
}
REPLY_JSON_SCHEMA = {
    "type": "object",
    "properties": {"question": {"type": "string"}, "answer": {"type": "string"}},
    "required": ["question", "answer"],
    "additionalProperties": False,
}
QUESTION_LABEL = "Question:"

INSTRUCTIONS: dict[str, tuple[str, ...]] = {
    "dialogue": (
        "Ask a question about something in this image, then answer it in a full sentence.",
        "Pose a question that a person looking at this image might ask, and reply to it.",
        "Write one question about what is visible here, followed by its answer.",
        "Think of a question about the content of the image and answer it in a sentence.",
        "Start a dialogue about this picture: one question and one answer.",
        "Invent a question on an object in the picture, and give the answer in a sentence.",
        "What could somebody ask about this image? Give the question and your answer.",
        "Choose something in the picture, ask about it, and answer.",
    ),
    "detail": (
        "Ask for a detailed description of this image, then give that description.",
        "Pose a question that calls for everything in the image, and answer it in detail.",
        "Write a request to describe the picture, followed by a thorough description.",
        "Ask what the whole image shows, and answer with all that is visible.",
        "Think of a question whose answer describes the image in detail, and answer it.",
        "Invent a request for a full account of this picture, and give the account.",
        "What would someone ask to hear the whole scene described? Ask it and answer it.",
        "Request a careful description of the picture, then write it.",
    ),
    "reasoning": (
        "Ask a question that needs reasoning about this image, then answer it with the reason.",
        "Pose a question that cannot be answered at a glance, and answer it step by step.",
        "Write a question that compares or counts things in the picture, and its answer.",
        "Think of a question that takes some thought about the image, and explain the answer.",
        "Invent a question on how the things in this picture relate, and answer it.",
        "Ask something about the image that must be worked out, then work it out.",
        "What question would test whether someone understands this picture? Ask and answer it.",
        "Find a question about the image with an answer that needs evidence, and give both.",
    ),
    "short": (
        "Ask a question about this image that a word or two can answer, and answer it so.",
        "Pose a question with a short answer about the picture, and give the short answer.",
        "Write a question on the image and answer it with a single word or phrase.",
        "Think of a question with a brief answer, and answer it in as few words as you can.",
        "Invent a short question on the content of this image, with a one word answer.",
        "Ask for a single fact about the picture, and state just that fact.",
        "What can be asked of this image and answered in a word? Ask and answer it.",
        "Find a question whose answer is a word or a phrase, and give both.",
    ),
    "yes_no": (
        "Ask a yes or no question about this image, then answer it.",
        "Pose a question on the picture that begins its answer with yes or no, and answer it.",
        "Write a question to be answered with yes or no, followed by the answer.",
        "Think of something that may or may not be in the image, ask about it, and answer.",
        "Invent a question that checks a fact about this picture, and answer yes or no.",
        "Ask whether something is true of the image, and say yes or no with the fact.",
        "What could be confirmed or denied about this picture? Ask it, then answer yes or no.",
        "Find a yes or no question about the content of the image, and answer it.",
    ),
}


@dataclass(frozen=True, kw_only=True)
class TurnRequest:
    """One of an image's M requests.

    Attributes:
        kind: of turn, one of KINDS.
        instruction: the text that goes to the model beside the image.
        seed: the sampling seed, below 2**31.
    """

    kind: str
    instruction: str
    seed: int


def plan_requests(
    image_id: str,
    num_turns: int,
    reply_format: str = "text",
    instructions: Mapping[str, tuple[str, ...]] = INSTRUCTIONS,
    *,
    seed: int = 0,
) -> list[TurnRequest]:
    """The M requests of an image: a function of its id, the format and the seed.

    The kinds and their wordings are C3L's, or those of another method's instructions.

    Kinds are spread evenly: over an image when M is a multiple of their number, and over the images
    otherwise. Two turns of one kind never share an instruction while wordings last.
    """
    kinds = tuple(instructions)
    drawn_from = f"{image_id} seed {seed}" if seed else image_id
    first = draw_number(drawn_from, "kind") % len(kinds)
    requests = []
    for number in range(num_turns):
        kind = kinds[(first + number) % len(kinds)]
        wordings = instructions[kind]
        wording = wordings[(draw_number(drawn_from, kind) + number // len(kinds)) % len(wordings)]
        requests.append(
            TurnRequest(
                kind=kind,
                instruction=format_instruction(wording, reply_format),
                seed=draw_number(drawn_from, f"turn {number}") % 2**31,
            )
        )
    return requests


def format_instruction(wording: str, reply_format: str = "text") -> str:
    """The instruction that a request makes of one of the wordings."""
    return f"{wording} {FORMAT_REQUESTS[reply_format]}"


def system_message(kind: str, instruction: str) -> str:
    """The system message under which a turn was written, or nothing.

    The instruction of a turn that was made elsewhere is its system message; that of a turn of our
    own kinds asked for the turn, and is no part of the conversation.

    Args:
        kind: of the turn.
        instruction: of the turn.
    """
    return "" if kind in KINDS else instruction


def asking_instruction(kind: str, instruction: str) -> str:
    """The instruction that asked for a turn of our own kinds; of a turn made elsewhere nothing.

    Args:
        kind: of the turn.
        instruction: of the turn.
    """
    return instruction if kind in KINDS else ""


def draw_number(drawn_from: str, purpose: str) -> int:
    """A number below 2**64 that is always the same for what it is drawn from, and its purpose."""
    digest = hashlib.blake2b(f"{drawn_from} {purpose}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")


# The labels that models write, also unasked in the language of a sign in the picture.
_QUESTION_WORDS = "question|frage|pregunta|pergunta|domanda|вопрос|问题|問題|質問|질문"
_ANSWER_WORDS = "answer|antwort|respuesta|resposta|réponse|risposta|ответ|答案|回答|答え|답변|답"
# A label stands at the beginning of a line, where Q and A do too, or anywhere with a capital
# letter: "to answer your question: ..." is text. Nothing here can backtrack over a run of blanks.
_LABEL = re.compile(
    r"(?:(?m:^)[ \t]{0,8}(?:[-#>*]{1,3}[ \t]?)?(?:\d{1,2}[.)][ \t])?\*{0,2}"
    rf"(?i:(?P<q>{_QUESTION_WORDS}|q)|(?P<a>{_ANSWER_WORDS}|a))(?:[ \t]?\d{{1,2}})?"
    r"|\b(?:(?P<Q>Question)|(?P<A>Answer))(?:[ \t]?\d{1,2})?)"
    r"\*{0,2}[ \t]?[:：]\*{0,2}"
)
_UNLABELLED_PAIR = re.compile(r"\s{0,8}(?P<q>[^?？\n]{3,400}[?？])\**\s{1,8}(?P<a>\S.*)", re.DOTALL)
_FENCED_JSON = re.compile(r"\s{0,8}```(?:json)?\s{0,8}(?P<json>\{.*\})\s{0,8}```", re.DOTALL)


def parse_reply(reply: str) -> tuple[str, str] | None:
    """The question and the answer in a reply, or None where it holds none that can be told apart.

    Reads JSON, bare or fenced; labelled text, of which the first question and its answer count, and
    what stands before the question ("Here is one:") is passed over; and a question up to its mark
    with the answer after it. The answer may be empty: that is a turn of its own status.
    """
    fenced = _FENCED_JSON.match(reply)
    text = fenced["json"] if fenced else reply.strip()
    if text.startswith("{"):
        return _parse_json(text)
    labels = list(_LABEL.finditer(reply))
    names = "".join("q" if label["q"] or label["Q"] else "a" for label in labels)
    if names.startswith("qa") and "aa" not in names and "qq" not in names:
        answer_ends = labels[2].start() if len(labels) > 2 else len(reply)
        question = reply[labels[0].end() : labels[1].start()]
        answer = reply[labels[1].end() : answer_ends]
        return _strip_pair(question, answer)
    if names in ("", "q"):
        pair = _UNLABELLED_PAIR.match(reply[labels[0].end() :] if labels else reply)
        return _strip_pair(pair["q"], pair["a"]) if pair else None
    return None


def _parse_json(text: str) -> tuple[str, str] | None:
    try:
        content = json.loads(text)
    except ValueError:
        return None
    question, answer = (content.get(name) for name in ("question", "answer"))
    if not isinstance(question, str) or not isinstance(answer, str):
        return None
    return _strip_pair(question, answer)


def begin_reply(question: str, instruction: str) -> str:
    """The beginning of the reply that an instruction asks for, with the question, up to the answer.

    It ends before the blank that stands before the answer, or before its quotation mark in JSON:
    there every tokenizer begins a token, so that a model goes on as in a reply all of its own.
    """
    return format_reply(question, "", instruction).removesuffix(' ""}').rstrip()


def format_reply(question: str, answer: str, instruction: str) -> str:
    """A turn as the reply that its instruction asks for; `parse_reply` reads it back.

    This is the text that a tuned generator is taught to write.
    """
    if _asks_for_json(instruction):
        return json.dumps({"question": question, "answer": answer}, ensure_ascii=False)
    return f"Question: {question} Answer: {answer}"


def find_answer_start(question: str, instruction: str) -> int:
    """Where the answer begins in `format_reply`'s text, in characters; it goes on to the end.

    In JSON it begins after its quotation mark, is escaped, and the end of the object follows it.
    """
    without_answer = format_reply(question, "", instruction)
    return len(without_answer) - (len('"}') if _asks_for_json(instruction) else 0)


def _asks_for_json(instruction: str) -> bool:
    return instruction.endswith(FORMAT_REQUESTS["json"])


def _strip_pair(question: str, answer: str) -> tuple[str, str] | None:
    """Both without the blanks and stars around them; None for an empty question."""
    question = question.strip().strip("*").strip()
    return (question, answer.strip().strip("*").strip()) if question else None
