"""Turns that were made elsewhere, as the turns of a row, each with a status of its own.

They come as turns ({question, answer}, our own records among them) or as messages: who said what,
in LLaVA's words ({from, value}) or in those of chat templates ({role, content}).
"""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from c3l_ray.schema import FOLLOW_UP, GIVEN

PAIRED = ("question", "answer")
SPOKEN = (("from", "value"), ("role", "content"))
ASKING = ("human", "user")
ANSWERING = ("gpt", "assistant")
# Of our own turns; the scores are what is made anew.
KEPT = {
    **dict.fromkeys(("kind", "instruction", "draft", "reply", "finish"), str),
    "num_tokens": int,
    "correction": dict,
}
FINAL = ("unparsable", "truncated", "empty", "duplicate", "refused")
_MARKER = re.compile(r"\s*<image>\s*")

Turn = dict[str, Any]


def read(content: Any, history: str) -> list[Turn]:
    """The turns of a row.

    Args:
        content: a list of turns or of messages; anything else holds no turn.
        history: "yes" or "no" for whether a turn follows those before it; "auto": messages do, and
            turns as their kind says.
    """
    items = content if isinstance(content, list) else []
    if items and all(_has(item, PAIRED) for item in items):
        turns = [_kept(item) for item in items]
    else:
        turns = list(_of_messages(items))
        for each in turns[1:]:
            each["kind"] = FOLLOW_UP
    if history != "auto":
        for each in turns[1:]:
            follows = each["kind"] == FOLLOW_UP
            if follows != (history == "yes"):
                each["kind"] = GIVEN if follows else FOLLOW_UP
    _strand(turns)
    return turns


def failure(turns: Sequence[Turn]) -> str | None:
    """Why a row with these turns has nothing to score, or None."""
    statuses = sorted({turn["status"] for turn in turns})
    if "ok" in statuses:
        return None
    return f"no_turn: {', '.join(statuses) or 'the sample has no question and answer'}"


def turn(question: Any, answer: Any, instruction: str = "") -> Turn:
    """A turn, its question without the marker of the image; None for what was never said."""
    asked, said = text(question), text(answer)
    if asked is not None:
        asked = _MARKER.sub(lambda marker: "\n" if "\n" in marker[0] else " ", asked).strip()
    if said is not None:
        said = said.strip()  # chat templates strip an answer too
    if asked is None:
        status = "unasked"
    elif said is None:
        status = "unanswered"
    else:
        status = "ok" if said else "empty"
    made = {"kind": GIVEN, "instruction": instruction, "question": asked, "answer": said}
    return {**made, "status": status}


def text(content: Any) -> str | None:
    """What a message says: text, a list of parts of which some are text, or a number."""
    if content is None or isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        return "\n".join(part for part in parts if isinstance(part, str))
    return str(content)


def _of_messages(messages: list[Any]) -> Iterator[Turn]:
    """A turn for each question with the answer after it, and for each of them alone."""
    system, question = "", None
    for message in messages:
        names = next((names for names in SPOKEN if _has(message, names)), None)
        role, said = (message[name] for name in names) if names else (None, None)
        if role in ASKING:
            if question is not None:
                yield turn(question, None, system)
            question = text(said) or ""
        elif role in ANSWERING:
            yield turn(question, text(said) or "", system)
            question = None
        elif role == "system":
            system = text(said) or ""
        else:
            reply = json.dumps(message, ensure_ascii=False, default=str)
            yield {**turn(None, None, system), "reply": reply, "status": "unparsable"}
    if question is not None:
        yield turn(question, None, system)


def _kept(item: Turn) -> Turn:
    """A turn of {question, answer}, with what else of it is ours."""
    made = turn(*(item[name] for name in PAIRED))
    made |= {name: item[name] for name, type_ in KEPT.items() if isinstance(item.get(name), type_)}
    status = item.get("status")
    # A text that one scorer could not read, another may; what an engine refused has no text.
    if status in FINAL and not (status == "refused" and made["status"] == "ok"):
        made["status"] = status
    return made


def _strand(turns: list[Turn]) -> None:
    """Marks the turns that follow an unusable one: what came before them cannot be said.

    An answer that the conversation begins with is left out, as LLaVA's own training does.
    """
    begun = broken = False
    for each in turns:
        if broken and each["kind"] == FOLLOW_UP and each["status"] == "ok":
            each["status"] = "stranded"
        begun = begun or each["status"] != "unasked"
        broken = broken or (begun and each["status"] != "ok")


def _has(item: Any, names: tuple[str, str]) -> bool:
    return isinstance(item, dict) and all(name in item for name in names)
