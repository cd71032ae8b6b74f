"""MME (Fu et al., arXiv 2306.13394): two questions about each image, one whose answer is yes.

The official release is a folder for each subtask. A subtask has a .txt for each image, of lines
"question <tab> answer", beside the images or in `questions_answers_YN` with the images in `images`.
Questions end with "Please answer yes or no.", so that there is no suffix.
"""

from collections.abc import Mapping

from c3l_ray.benchmarks.official_files import DATA, read_text
from c3l_ray.benchmarks.questions import BenchmarkData, BenchmarkQuestion, read_verdict
from c3l_ray.errors import PreflightError
from c3l_ray.inputs.formats.members import is_image_name, split_file_name
from c3l_ray.storage import Location

PERCEPTION = (
    *("existence", "count", "position", "color", "posters", "celebrity", "scene", "landmark"),
    *("artwork", "OCR"),
)
COGNITION = (
    *("commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning"),
)
HALVES: Mapping[str, tuple[str, ...]] = {"perception": PERCEPTION, "cognition": COGNITION}
"""The subtasks whose scores the official script adds up."""
QUESTIONS, IMAGES = "questions_answers_YN", "images"
QUESTIONS_OF_AN_IMAGE = 2
NO_QUESTIONS = ("readme", "license", "licence")
"""Names of texts, in small letters, that are of no image."""


def read_questions(data: Location) -> BenchmarkData:
    """The questions of the subtasks that lie in a folder, in the order of the official script.

    Raises:
        PreflightError: the folder has no subtask, or a text is not two questions and their labels.
    """
    subtasks = [*PERCEPTION, *COGNITION]
    folders = {child.name: child for child in data.list_children()}
    questions = []
    for subtask in (name for name in subtasks if name in folders):
        questions += _read_subtask(subtask, folders[subtask])
    if not questions:
        raise PreflightError(
            f"{DATA} {data.address}: holds none of MME's folders, such as existence and color"
        )
    return BenchmarkData(questions=questions, image_root=data)


def _read_subtask(subtask: str, folder: Location) -> list[BenchmarkQuestion]:
    children = {child.name: child for child in folder.list_children()}
    texts, images, prefix = folder, folder, subtask
    if QUESTIONS in children:
        texts, images = folder / QUESTIONS, folder / IMAGES
        prefix = f"{subtask}/{IMAGES}"
    names = {
        split_file_name(file.name)[0]: file.name
        for file in images.list_children()
        if is_image_name(file.name)
    }
    questions = []
    for file in sorted(texts.list_children(), key=lambda file: file.name):
        stem, ending = split_file_name(file.name)
        if ending == "txt" and stem.casefold() not in NO_QUESTIONS and not stem.startswith("."):
            # Where there is no image, the row fails and says so.
            image = f"{prefix}/{names.get(stem, f'{stem}.jpg')}"
            questions += _read_text(subtask, file, image)
    return questions


def _read_text(subtask: str, file: Location, image: str) -> list[BenchmarkQuestion]:
    questions = []
    for number, line in enumerate(read_text(file).split("\n"), start=1):
        if not line.strip():
            continue
        place = f"{DATA} {file.address}: line {number}"
        prompt, _, label = line.strip().rpartition("\t")  # some lines end with a tab
        if not prompt.strip():
            raise PreflightError(f"{place}: is not a question, a tab and an answer")
        item = f"{subtask} {split_file_name(file.name)[0]}"
        question = BenchmarkQuestion(
            key=f"{item} {number}",
            group=subtask,
            item=item,
            image=image,
            prompt=prompt.strip(),
            label=read_verdict(label, place),
        )
        questions.append(question)
    if len(questions) != QUESTIONS_OF_AN_IMAGE:
        raise PreflightError(
            f"{DATA} {file.address}: holds {len(questions)} questions, and MME asks "
            f"{QUESTIONS_OF_AN_IMAGE} about an image"
        )
    return questions
