"""POPE (Li et al., arXiv 2305.10355): is there an object in the image?

The official files have question_id, image, text and label, one file for each way of choosing what
is asked for and is not there: random, popular, adversarial. Those of COCO are JSON Lines, named
coco_pope_random.json and so on; those of A-OKVQA and GQA are JSON arrays, named
aokvqa_pope_seem_random.json.
"""

import re

from c3l_ray.benchmarks.official_files import (
    DATA,
    is_folder,
    read_json_objects,
    take_text,
    take_value,
)
from c3l_ray.benchmarks.questions import (
    BenchmarkData,
    BenchmarkQuestion,
    read_verdict,
    refuse_doubled_keys,
)
from c3l_ray.errors import PreflightError
from c3l_ray.storage import Location

STRATEGIES = ("random", "popular", "adversarial")
FIELDS = ("question_id", "image", "text", "label")
_FILE = re.compile(rf".*pope_(?:seem_)?({'|'.join(STRATEGIES)})\.jsonl?")


def read_questions(data: Location) -> BenchmarkData:
    """The questions of a file, or of the files in a folder whose names say the strategy.

    A question's group is the strategy, or the file's name where that names none.

    Raises:
        PreflightError: there are none, two files are of one strategy, or a question is faulty.
    """
    files = _find_files(data)
    questions = []
    for group, file in files.items():
        for place, entry in read_json_objects(file, FIELDS):
            key = f"{group} {take_value(entry, 'question_id', place)}"
            question = BenchmarkQuestion(
                key=key,
                group=group,
                item=key,
                image=take_text(entry, "image", place),
                prompt=take_text(entry, "text", place).strip(),
                label=read_verdict(entry["label"], place),
            )
            questions.append(question)
    refuse_doubled_keys(questions, data.address)
    folder = next(iter(files.values())).parent
    return BenchmarkData(questions=questions, image_root=folder)


def _find_files(data: Location) -> dict[str, Location]:
    """The files by their groups, in the order of STRATEGIES."""
    if not is_folder(data):
        match = _FILE.fullmatch(data.name)
        return {match[1] if match else data.name.rpartition(".")[0] or data.name: data}
    found: dict[str, Location] = {}
    for file in sorted(data.list_children(), key=lambda file: file.name):
        if match := _FILE.fullmatch(file.name):
            if match[1] in found:
                raise PreflightError(
                    f"{DATA} {data.address}: holds {found[match[1]].name} and {file.name}; name "
                    "a folder with one file of each strategy, or one file"
                )
            found[match[1]] = file
    if not found:
        raise PreflightError(
            f"{DATA} {data.address}: holds no file of POPE, whose names end in pope_random.json or "
            "pope_seem_random.json, and so on with popular and adversarial; name a file of "
            "questions itself"
        )
    return {strategy: found[strategy] for strategy in STRATEGIES if strategy in found}
