"""Turns that were made elsewhere, as the turns of a row, each with a status of its own.

They come as turns ({question, answer} and the other pairs below, our own records among them) or as
messages: who said what, in LLaVA's words ({from, value}) or in those of chat templates ({role,
content}).
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

from c3l_ray.schema import FOLLOW_UP, GIVEN, Alternative, Turn, TurnStatus

TURN_FIELDS = ("question", "answer")
PAIRS = (
    TURN_FIELDS,
    ("query", "response"),  # ms-swift
    ("instruction", "response"),
    ("instruction", "output"),  # Alpaca, which has an `input` beside it
    ("user", "assistant"),  # the_cauldron, FineVision
)
"""Fields of a turn; only the first pair has our own fields beside it."""
TURN_COLUMNS = ("turns", "conversations", "messages", "texts")
"""What lists of turns or of messages are called."""
MESSAGE_FIELDS = (("from", "value"), ("role", "content"))
ASKING_ROLES = ("human", "user")
ANSWERING_ROLES = ("gpt", "assistant")
# What is taken over of our own turns, and its type; scores are made anew.
OWN_FIELDS = {
    **dict.fromkeys(("kind", "instruction", "draft", "reply", "thought", "finish_reason"), str),
    "num_tokens": int,
    "correction": dict,
}
FIELDS_OF_DATASETS = ("kind", "instruction", "draft")
"""Fields of our own turns that have columns in a dataset of jobs.select, beside its messages."""
# What no scoring model changes. A text that one of them could not read, another may.
FINAL_STATUSES = ("unparsable", "truncated", "thought", "empty", "duplicate", "refused")
_MARKER = re.compile(
    r"\s*(?:<image>|(?:Picture \d+: *)?<img>.*?</img>)\s*",  # Qwen-VL's, with the file's name
    re.DOTALL,
)


def find_turns(sample: Mapping[str, Any]) -> Any:
    """What a sample has of turns: a list or its JSON text, else a turn of its own; None without."""
    # LLaVA's first: a sample of ours has them all.
    for name in ("conversations", "messages", "turns", "texts"):
        if sample.get(name):
            return sample[name]
    if (pair := find_pair(sample)) is None:
        return None
    question = sample[pair[0]]
    if pair[0] == "instruction" and (addition := sample.get("input")):
        question = join_texts(question, addition)
    earlier = sample.get("history")
    if not (isinstance(earlier, list) and earlier):
        return [dict(zip(TURN_FIELDS, (question, sample[pair[1]]), strict=True))]
    messages = []
    for item in [*earlier, (question, sample[pair[1]])]:
        said = item if isinstance(item, list | tuple) and len(item) == 2 else (item, None)
        messages += [
            {"role": role, "content": text}
            for role, text in zip(("user", "assistant"), said, strict=True)
            if text is not None
        ]
    return messages


def find_pair(fields: Iterable[str]) -> tuple[str, str] | None:
    """The first of the pairs that are all among these fields."""
    names = {*fields}
    return next((pair for pair in PAIRS if {*pair} <= names), None)


def read_turns(content: Any, history: str) -> list[Turn]:
    """The turns of a row.

    Args:
        content: a list of turns or of messages, or JSON text of one; else it holds no turn.
        history: "yes" or "no" for whether a turn follows those before it; "auto": messages do, and
            turns as their kind says.
    """
    if isinstance(content, str | bytes):
        try:
            content = json.loads(content)
        except (ValueError, RecursionError):
            content = None
    items = content if isinstance(content, list) else []
    if items and all(isinstance(item, dict) and find_pair(item) for item in items):
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


def restore_fields(content: Any, fields: Mapping[str, Any]) -> Any:
    """The messages of a row of a dataset of jobs.select as turns of ours, with these fields.

    Args:
        content: the messages.
        fields: of the only turn, or lists with an element for each turn.

    Returns:
        The content itself where it is not as jobs.select writes it.
    """
    turns = list(_turns_of_messages(content if isinstance(content, list) else []))
    values = {name: value if isinstance(value, list) else [value] for name, value in fields.items()}
    if not turns or any(len(of_turns) != len(turns) for of_turns in values.values()):
        return content
    return [
        {
            **{name: of_turns[place] for name, of_turns in values.items()},
            **{name: turn.get(name) for name in TURN_FIELDS},
        }
        for place, turn in enumerate(turns)
    ]


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
    elif not answer_text:
        status = "empty"
    else:
        status = "ok" if question_text else "missing_question"
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
    if isinstance(content, bytes):
        return content.decode("utf-8", "replace")
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        return "\n".join(part for part in parts if isinstance(part, str))
    return str(content)


def join_texts(*contents: Any) -> str:
    """What several say, each in lines of its own."""
    return "\n".join(text for content in contents if (text := text_of(content)))


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
    """A turn of a pair, with the other fields that are of our own turns."""
    pair = find_pair(item) or TURN_FIELDS
    made = make_turn(*(item[name] for name in pair))
    if pair != TURN_FIELDS:
        return made
    own = {
        name: item[name] for name, type_ in OWN_FIELDS.items() if isinstance(item.get(name), type_)
    }
    made = cast(Turn, {**made, **own, "alternatives": _read_alternatives(item.get("alternatives"))})
    status = item.get("status")
    if status in FINAL_STATUSES:
        made["status"] = status
    return made


def _read_alternatives(content: Any) -> list[Alternative] | None:
    """The alternatives of a turn of ours without their scores; None where it has none."""
    if not isinstance(content, list):
        return None
    return [
        {
            "answer": item["answer"],
            "num_samples": item["num_samples"],
            "status": item["status"] if item.get("status") in FINAL_STATUSES else "ok",
            "scores": None,
        }
        for item in content
        if isinstance(item, dict)
        and isinstance(item.get("answer"), str)
        and isinstance(item.get("num_samples"), int)
        and 0 < item["num_samples"] < 2**31
    ]


def _mark_broken_history(turns: list[Turn]) -> None:
    """Marks the turns that follow an unusable one: what came before them cannot be said.

    An answer that the conversation begins with is left out, as LLaVA's own training does.
    """
    has_begun = is_broken = False
    for turn in turns:
        if is_broken and turn["kind"] == FOLLOW_UP and turn["status"] == "ok":
            turn["status"] = "broken_history"
        has_begun = has_begun or turn["question"] is not None or turn["status"] == "unparsable"
        is_broken = is_broken or (has_begun and turn["status"] != "ok")


def _blank_for_marker(marker: re.Match[str]) -> str:
    return "\n" if "\n" in marker[0] else " "


def _has_fields(item: Any, names: tuple[str, str]) -> bool:
    return isinstance(item, dict) and all(name in item for name in names)
