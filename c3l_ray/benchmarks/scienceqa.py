"""ScienceQA (Lu et al., arXiv 2209.09513), the questions of its test split that have an image.

The official release is problems.json, an object of questions by their ids, and a folder of images
with a folder for each id. Its script for downloads puts that into `images/test`; others have
`test`, or the ids beside the file.
"""

from typing import Any

from c3l_ray.benchmarks.official_files import (
    DATA,
    JsonObject,
    check_text,
    check_value,
    find_file,
    parse_json,
    read_text,
    take_optional,
    take_text,
)
from c3l_ray.benchmarks.options import MAX_OPTIONS, ask_with_options, letter_options
from c3l_ray.benchmarks.questions import BenchmarkData, BenchmarkQuestion
from c3l_ray.errors import PreflightError
from c3l_ray.storage import Location

SPLIT = "test"
FILE = "problems.json"
IMAGE_FOLDERS = (f"images/{SPLIT}", SPLIT)
"""Beside problems.json, the first that is there has a folder of images for each id; else the file's
own folder does."""


def read_questions(data: Location) -> BenchmarkData:
    """The questions of problems.json, or of the file of this name in a folder, by their subject.

    Raises:
        PreflightError: it is no such file, or a question is faulty.
    """
    file = find_file(data, FILE)
    problems = parse_json(read_text(file), f"{DATA} {file.address}")
    if not isinstance(problems, dict):
        raise PreflightError(f"{DATA} {file.address}: is not an object of questions by their ids")
    questions = []
    for name, problem in problems.items():
        place = f"{DATA} {file.address}: question {name}"
        if not isinstance(problem, dict):
            raise PreflightError(f"{place}: is {type(problem).__name__}, not an object")
        if take_text(problem, "split", place) == SPLIT and problem.get("image") not in (None, ""):
            questions.append(_make_question(name, problem, place))
    if not questions:
        raise PreflightError(
            f"{DATA} {file.address}: holds no question of the split {SPLIT} with an image"
        )
    folders = (file.parent / folder for folder in IMAGE_FOLDERS)
    root = next((folder for folder in folders if folder.exists()), file.parent)
    return BenchmarkData(questions=questions, image_root=root)


def _make_question(name: str, problem: JsonObject, place: str) -> BenchmarkQuestion:
    options = letter_options(_take_choices(problem, place))
    answer = problem.get("answer")
    if type(answer) is not int or not 0 <= answer < len(options):  # true is an int too
        raise PreflightError(f"{place}: the answer {answer!r} is none of its choices")
    question, image = take_text(problem, "question", place), take_text(problem, "image", place)
    return BenchmarkQuestion(
        key=name,
        group=take_optional(problem, "subject", place) or "all questions",
        item=name,
        image=f"{check_text(name, 'id', place)}/{image}",
        prompt=ask_with_options(question, options, take_optional(problem, "hint", place)),
        label=[*options][answer],
        options=options,
    )


def _take_choices(problem: JsonObject, place: str) -> list[str]:
    choices: Any = problem.get("choices")
    if not isinstance(choices, list) or not 2 <= len(choices) <= MAX_OPTIONS:
        raise PreflightError(f"{place}: has no list of 2 to {MAX_OPTIONS} choices")
    return [check_value(choice, "choice", place) for choice in choices]
