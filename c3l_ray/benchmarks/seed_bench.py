"""SEED-Bench (Li et al., arXiv 2307.16125), the questions about images.

The official file is SEED-Bench.json: `questions`, of which those of data_type "image" have
question, choice_a to choice_d, answer, question_id, question_type_id and data_id, the image's file;
and `question_type`, the numbers of the types by their names.

The paper ranks options by their likelihood. Here the model is asked for the letter, as LLaVA-1.5
and the harnesses do.
"""

from c3l_ray.benchmarks.official_files import (
    DATA,
    JsonObject,
    check_text,
    find_file,
    parse_json,
    read_text,
    take_text,
    take_value,
)
from c3l_ray.benchmarks.options import ask_with_options, letter_options
from c3l_ray.benchmarks.questions import BenchmarkData, BenchmarkQuestion, refuse_doubled_keys
from c3l_ray.errors import PreflightError
from c3l_ray.storage import Location

FILE = "SEED-Bench.json"
IMAGE = "image"
CHOICES = ("choice_a", "choice_b", "choice_c", "choice_d")
FIELDS = ("question_id", "question", "answer", "data_id", "question_type_id", *CHOICES)


def read_questions(data: Location) -> BenchmarkData:
    """The questions of SEED-Bench.json, or of the file of this name in a folder, by their type.

    Raises:
        PreflightError: it is no such file, or a question is faulty.
    """
    file = find_file(data, FILE)
    source = f"{DATA} {file.address}"
    content = parse_json(read_text(file), source)
    listed, numbers = (
        content.get(name) if isinstance(content, dict) else None
        for name in ("questions", "question_type")
    )
    if not isinstance(listed, list) or not isinstance(numbers, dict):
        raise PreflightError(
            f"{source}: is not {FILE}, which has a list of questions and an object of question_type"
        )
    types = {
        str(number): check_text(name, "name", f"{source}: question_type")
        for name, number in numbers.items()
    }
    questions = []
    for number, entry in enumerate(listed, start=1):
        place = f"{source}: question number {number}"
        if not isinstance(entry, dict):
            raise PreflightError(f"{place}: is {type(entry).__name__}, not an object")
        if check_text(entry.get("data_type", IMAGE), "data_type", place) == IMAGE:
            questions.append(_make_question(entry, types, place))
    if not questions:
        raise PreflightError(f"{source}: holds no question about an image")
    refuse_doubled_keys(questions, file.address)
    return BenchmarkData(questions=questions, image_root=file.parent)


def _make_question(entry: JsonObject, types: dict[str, str], place: str) -> BenchmarkQuestion:
    if missing := [name for name in FIELDS if entry.get(name) is None]:
        raise PreflightError(f"{place}: lacks {', '.join(missing)}")
    options = letter_options([take_value(entry, name, place) for name in CHOICES])
    label = take_text(entry, "answer", place)
    if label not in options:
        raise PreflightError(f"{place}: the answer {label!r} is not A, B, C or D")
    key = take_value(entry, "question_id", place)
    type_ = take_value(entry, "question_type_id", place)
    return BenchmarkQuestion(
        key=key,
        group=check_text(types.get(type_, f"type {type_}"), "question_type", place),
        item=key,
        image=take_value(entry, "data_id", place),
        prompt=ask_with_options(take_text(entry, "question", place), options),
        label=label,
        options=options,
    )
