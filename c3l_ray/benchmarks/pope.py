"""POPE (Li et al., arXiv 2305.10355): is there an object in the image?

The official files are JSON Lines with question_id, image, text and label, one file for each way of
choosing what is asked for and is not there: random, popular, adversarial.
"""

import re

from c3l_ray.benchmarks.questions import (
    DATA,
    BenchmarkData,
    BenchmarkQuestion,
    read_json_lines,
    read_verdict,
    refuse_doubled_keys,
)
from c3l_ray.errors import PreflightError
from c3l_ray.storage import Location

STRATEGIES = ("random", "popular", "adversarial")
FIELDS = ("question_id", "image", "text", "label")
_FILE = re.compile(rf".*pope_({'|'.join(STRATEGIES)})\.jsonl?")


def read_questions(data: Location) -> BenchmarkData:
    """The questions of a file, or of the files in a folder whose names say the strategy.

    A question's group is the strategy, or the file's name where that names none.

    Raises:
        PreflightError: there are none, two files are of one strategy, or a line is faulty.
    """
    files = _find_files(data)
    questions = []
    for group, file in files.items():
        for place, line in read_json_lines(file, FIELDS):
            key = f"{group} {line['question_id']}"
            question = BenchmarkQuestion(
                key=key,
                group=group,
                item=key,
                image=str(line["image"]),
                prompt=str(line["text"]).strip(),
                label=read_verdict(line["label"], place),
            )
            questions.append(question)
    refuse_doubled_keys(questions, data.address)
    folder = next(iter(files.values())).parent
    return BenchmarkData(questions=questions, image_root=folder)


def _find_files(data: Location) -> dict[str, Location]:
    """The files by their groups, in the order of STRATEGIES."""
    children = data.list_children()
    if not children:
        match = _FILE.fullmatch(data.name)
        return {match[1] if match else data.name.rpartition(".")[0] or data.name: data}
    found: dict[str, Location] = {}
    for file in sorted(children, key=lambda file: file.name):
        if match := _FILE.fullmatch(file.name):
            if match[1] in found:
                raise PreflightError(
                    f"{DATA} {data.address}: holds {found[match[1]].name} and {file.name}; name "
                    "a folder with one file of each strategy, or one file"
                )
            found[match[1]] = file
    if not found:
        raise PreflightError(
            f"{DATA} {data.address}: holds no file of POPE, whose names end in pope_random.json, "
            "pope_popular.json and pope_adversarial.json; name a file of questions itself"
        )
    return {strategy: found[strategy] for strategy in STRATEGIES if strategy in found}
