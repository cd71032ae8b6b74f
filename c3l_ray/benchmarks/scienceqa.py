"""ScienceQA (Lu et al., arXiv 2209.09513), the questions of its test split that have an image.

The official release is problems.json, an object of questions by their ids, and a folder of images
with a folder for each id: `test/ID/image.png`, or `ID/image.png`.
"""

import json
from typing import Any

from c3l_ray.benchmarks.options import ask_with_options, letter_options
from c3l_ray.benchmarks.questions import DATA, BenchmarkData, BenchmarkQuestion, read_text
from c3l_ray.errors import PreflightError
from c3l_ray.storage import Location

SPLIT = "test"
FILE = "problems.json"


def read_questions(data: Location) -> BenchmarkData:
    """The questions of problems.json, or of the file of this name in a folder, by their subject.

    Raises:
        PreflightError: it is no such file, or a question is faulty.
    """
    file = data / FILE if data.list_children() else data
    try:
        problems = json.loads(read_text(file))
    except (ValueError, RecursionError) as error:
        raise PreflightError(f"{DATA} {file.address}: is no JSON: {error}") from error
    if not isinstance(problems, dict):
        raise PreflightError(f"{DATA} {file.address}: is not an object of questions by their ids")
    has_splits = (file.parent / SPLIT).exists()
    questions = [
        _make_question(name, problem, f"{DATA} {file.address}: question {name}", has_splits)
        for name, problem in problems.items()
        if isinstance(problem, dict) and problem.get("split") == SPLIT and problem.get("image")
    ]
    if not questions:
        raise PreflightError(
            f"{DATA} {file.address}: holds no question of the split {SPLIT} with an image"
        )
    return BenchmarkData(questions=questions, image_root=file.parent)


def _make_question(
    name: str, problem: dict[str, Any], place: str, has_splits: bool
) -> BenchmarkQuestion:
    question, choices, answer = (problem.get(field) for field in ("question", "choices", "answer"))
    if not isinstance(question, str) or not isinstance(choices, list) or len(choices) < 2:
        raise PreflightError(f"{place}: lacks a question and two choices")
    options = letter_options([str(choice) for choice in choices])
    if not isinstance(answer, int) or not 0 <= answer < len(options):
        raise PreflightError(f"{place}: the answer {answer!r} is none of its choices")
    folder = f"{SPLIT}/" if has_splits else ""
    return BenchmarkQuestion(
        key=name,
        group=str(problem.get("subject") or "all questions"),
        item=name,
        image=f"{folder}{name}/{problem['image']}",
        prompt=ask_with_options(question, options, str(problem.get("hint") or "")),
        label=[*options][answer],
        options=options,
    )
