"""SEED-Bench (Li et al., arXiv 2307.16125), the questions about images.

The official file is SEED-Bench.json: `questions`, of which those of data_type "image" have
question, choice_a to choice_d, answer, question_id, question_type_id and data_id, the image's file;
and `question_type`, the numbers of the types by their names.

The paper ranks options by their likelihood. Here the model is asked for the letter, as LLaVA-1.5
and the harnesses do.
"""

import json
from typing import Any

from c3l_ray.benchmarks.options import ask_with_options, letter_options
from c3l_ray.benchmarks.questions import (
    DATA,
    BenchmarkData,
    BenchmarkQuestion,
    read_text,
    refuse_doubled_keys,
)
from c3l_ray.errors import PreflightError
from c3l_ray.storage import Location

FILE = "SEED-Bench.json"
CHOICES = ("choice_a", "choice_b", "choice_c", "choice_d")
FIELDS = ("question_id", "question", "answer", "data_id", "question_type_id", *CHOICES)


def read_questions(data: Location) -> BenchmarkData:
    """The questions of SEED-Bench.json, or of the file of this name in a folder, by their type.

    Raises:
        PreflightError: it is no such file, or a question is faulty.
    """
    file = data / FILE if data.list_children() else data
    try:
        content = json.loads(read_text(file))
        listed = content["questions"]
        types = {str(number): name for name, number in content["question_type"].items()}
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise PreflightError(
            f"{DATA} {file.address}: is not SEED-Bench.json, which has questions and "
            f"question_type: {error!r}"
        ) from error
    questions = [
        _make_question(entry, types, f"{DATA} {file.address}: question number {number}")
        for number, entry in enumerate(listed, start=1)
        if isinstance(entry, dict) and entry.get("data_type", "image") == "image"
    ]
    if not questions:
        raise PreflightError(f"{DATA} {file.address}: holds no question about an image")
    refuse_doubled_keys(questions, file.address)
    return BenchmarkData(questions=questions, image_root=file.parent)


def _make_question(entry: dict[str, Any], types: dict[str, str], place: str) -> BenchmarkQuestion:
    if missing := [name for name in FIELDS if entry.get(name) is None]:
        raise PreflightError(f"{place}: lacks {', '.join(missing)}")
    options = letter_options([str(entry[name]) for name in CHOICES])
    if entry["answer"] not in options:
        raise PreflightError(f"{place}: the answer {entry['answer']!r} is not A, B, C or D")
    key = str(entry["question_id"])
    type_ = str(entry["question_type_id"])
    return BenchmarkQuestion(
        key=key,
        group=types.get(type_, f"type {type_}"),
        item=key,
        image=str(entry["data_id"]),
        prompt=ask_with_options(entry["question"], options),
        label=entry["answer"],
        options=options,
    )
