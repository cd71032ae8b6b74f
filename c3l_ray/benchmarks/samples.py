"""Questions as the samples that jobs read: an image each, with its questions as turns.

They lie in the run's folder as LLaVA's JSON Lines, so that they are read, retried and committed as
any other input. The label stands where the answer of a turn does. Questions about one image that
are the same are asked once.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field

from c3l_ray.benchmarks.questions import BenchmarkData, BenchmarkQuestion
from c3l_ray.runs.folder import RunFolder
from c3l_ray.storage import Location

FOLDER = "questions"
IMAGES = "images"
IMAGES_PER_SHARD = 32
"""Images of a file, which is a unit: small, so that many processes share a small benchmark."""
_NOTE = "questions.json"


@dataclass(frozen=True, kw_only=True)
class ImageSample:
    """The questions about an image.

    Attributes:
        image: its file, which is also the key of its row.
        prompts: by what is asked, suffix included, the label and the place of its turn.
    """

    image: str
    prompts: dict[str, tuple[str, int]] = field(default_factory=dict)

    def to_json(self) -> str:
        turns = [
            {"question": prompt, "answer": label} for prompt, (label, _) in self.prompts.items()
        ]
        return json.dumps({"id": self.image, "image": self.image, "turns": turns})


def add_suffix(question: BenchmarkQuestion, suffix: str) -> str:
    """What the model is asked: the prompt, and the suffix on a line of its own where there is one.

    Args:
        question: of the benchmark.
        suffix: empty for none.
    """
    return f"{question.prompt}\n{suffix}" if suffix else question.prompt


def group_by_image(data: BenchmarkData, suffix: str) -> list[ImageSample]:
    """The samples of all questions, in the order in which their images come first."""
    samples: dict[str, ImageSample] = {}
    for question in data.questions:
        sample = samples.setdefault(question.image, ImageSample(image=question.image))
        place = len(sample.prompts)
        sample.prompts.setdefault(add_suffix(question, suffix), (question.label, place))
    return list(samples.values())


def write_samples(folder: RunFolder, data: BenchmarkData, suffix: str) -> tuple[str, Location]:
    """Writes the samples into the run's folder, and where the files hold images, these too.

    Args:
        folder: of the run, claimed for these questions and this suffix.
        data: of the benchmark.
        suffix: of the prompts.

    Returns:
        The pattern of the files, and the folder that their images are relative to.

    Raises:
        OSError: the storage failed.
    """
    samples = group_by_image(data, suffix)
    place = folder.location / FOLDER
    pattern = f"{place.address}/*.jsonl"
    images = data.image_root or folder.location / IMAGES
    note = {"digest": data.digest, "suffix": suffix, "images": len(samples)}
    if folder.read_json(_NOTE) == note:  # which is written last
        return pattern, images
    for child in place.list_children():
        child.remove(recursive=True)
    for name, content in data.read_images():
        (images / name).write(content)
    for number, shard in enumerate(_cut(samples)):
        text = "".join(f"{sample.to_json()}\n" for sample in shard)
        (place / f"{number:05d}.jsonl").write(text.encode())
    folder.write_json(_NOTE, note)
    return pattern, images


def _cut(samples: list[ImageSample]) -> Iterator[list[ImageSample]]:
    for start in range(0, len(samples), IMAGES_PER_SHARD):
        yield samples[start : start + IMAGES_PER_SHARD]
