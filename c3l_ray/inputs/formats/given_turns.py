"""Turns that were made elsewhere, as the turns of a row, each with a status of its own.

They come as turns ({question, answer}, our own records among them) or as messages: who said what,
in LLaVA's words ({from, value}) or in those of chat templates ({role, content}).
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from c3l_ray.schema import FOLLOW_UP, GIVEN, Turn, TurnStatus

TURN_FIELDS = ("question", "answer")
MESSAGE_FIELDS = (("from", "value"), ("role", "content"))
ASKING_ROLES = ("human", "user")
ANSWERING_ROLES = ("gpt", "assistant")
# What is taken over of our own turns, and its type; scores are made anew.
OWN_FIELDS = {
    **dict.fromkeys(("kind", "instruction", "draft", "reply", "thought", "finish_reason"), str),
    "num_tokens": int,
    "correction": dict,
}
# What no scoring model changes. A text that one of them could not read, another may.
FINAL_STATUSES = ("unparsable", "truncated", "thought", "empty", "duplicate", "refused")
_MARKER = re.compile(r"\s*<image>\s*")


def read_turns(content: Any, history: str) -> list[Turn]:
    """The turns of a row.

    Args:
        content: a list of turns or of messages; anything else holds no turn.
        history: "yes" or "no" for whether a turn follows those before it; "auto": messages do, and
            turns as their kind says.
    """
    items = content if isinstance(content, list) else []
    if items and all(_has_fields(item, TURN_FIELDS) for item in items):
        turns = [_turn_of_item(item) for item in items]
    else:
        turns = list(_turns_of_messages(items))
        for turn in turns[1:]:
            turn["kind"] = FOLLOW_UP
    if history != "auto":
        for turn in turns[1:]:
            follows = turn["kind"] == FOLLOW_UP
            if follows != (history == "yes"):
                turn["kind"] = GIVEN if follows else FOLLOW_UP
    _mark_broken_history(turns)
    return turns


def explain_no_turn(turns: Sequence[Turn]) -> str | None:
    """Why a row with these turns has nothing to score, or None."""
    statuses = sorted({turn["status"] for turn in turns})
    if "ok" in statuses:
        return None
    return f"no_turn: {', '.join(statuses) or 'the sample has no question and answer'}"


def make_turn(question: Any, answer: Any, instruction: str = "") -> Turn:
    """A turn, its question without the marker of the image; None for what was never said."""
    question_text, answer_text = text_of(question), text_of(answer)
    if question_text is not None:
        question_text = _MARKER.sub(_blank_for_marker, question_text).strip()
    if answer_text is not None:
        answer_text = answer_text.strip()  # chat templates strip an answer too
    status: TurnStatus
    if question_text is None:
        status = "missing_question"
    elif answer_text is None:
        status = "missing_answer"
    else:
        status = "ok" if answer_text else "empty"
    return {
        "kind": GIVEN,
        "instruction": instruction,
        "question": question_text,
        "answer": answer_text,
        "status": status,
    }


def text_of(content: Any) -> str | None:
    """What a message says: text, a list of parts of which some are text, or a number."""
    if content is None or isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        return "\n".join(part for part in parts if isinstance(part, str))
    return str(content)


def _turns_of_messages(messages: list[Any]) -> Iterator[Turn]:
    """A turn for each question with the answer after it, and for each of them alone."""
    system, question = "", None
    for message in messages:
        names = next((names for names in MESSAGE_FIELDS if _has_fields(message, names)), None)
        role, content = (message[name] for name in names) if names else (None, None)
        if role in ASKING_ROLES:
            if question is not None:
                yield make_turn(question, None, system)
            question = text_of(content) or ""
        elif role in ANSWERING_ROLES:
            yield make_turn(question, text_of(content) or "", system)
            question = None
        elif role == "system":
            system = text_of(content) or ""
        else:
            reply = json.dumps(message, ensure_ascii=False, default=str)
            yield {**make_turn(None, None, system), "reply": reply, "status": "unparsable"}
    if question is not None:
        yield make_turn(question, None, system)


def _turn_of_item(item: Mapping[str, Any]) -> Turn:
    """A turn of {question, answer}, with the other fields that are of our own turns."""
    made = make_turn(*(item[name] for name in TURN_FIELDS))
    own = {
        name: item[name] for name, type_ in OWN_FIELDS.items() if isinstance(item.get(name), type_)
    }
    made = cast(Turn, {**made, **own})
    status = item.get("status")
    if status in FINAL_STATUSES:
        made["status"] = status
    return made


def _mark_broken_history(turns: list[Turn]) -> None:
    """Marks the turns that follow an unusable one: what came before them cannot be said.

    An answer that the conversation begins with is left out, as LLaVA's own training does.
    """
    has_begun = is_broken = False
    for turn in turns:
        if is_broken and turn["kind"] == FOLLOW_UP and turn["status"] == "ok":
            turn["status"] = "broken_history"
        has_begun = has_begun or turn["status"] != "missing_question"
        is_broken = is_broken or (has_begun and turn["status"] != "ok")


def _blank_for_marker(marker: re.Match[str]) -> str:
    return "\n" if "\n" in marker[0] else " "


def _has_fields(item: Any, names: tuple[str, str]) -> bool:
    return isinstance(item, dict) and all(name in item for name in names)
