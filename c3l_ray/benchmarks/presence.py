"""Presence questions as POPE makes them, for any images whose objects are known.

Of each image with enough objects the first ones are asked for, answer yes, and after each of them
an object that the image does not have, answer no: a random one, the most frequent one, or the one
that comes most often with the object asked for before (adversarial).

Source: main.py and utils.py of github.com/AoiDragon/POPE, in words. Other than there, images come
in the order of their file, an article is replaced without touching other words, and an image that
has no object left to ask for gets fewer questions.
"""

import json
import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from c3l_ray.benchmarks.official_files import parse_json_objects, read_text
from c3l_ray.benchmarks.pope import STRATEGIES
from c3l_ray.benchmarks.verdicts import NO, YES
from c3l_ray.errors import PreflightError
from c3l_ray.storage import Location

ANNOTATIONS = "--annotations"
TEMPLATE = "Is there {a object} in the image?"
OBJECT, ARTICLED = "{object}", "{a object}"
_VOWEL = re.compile(
    r"[aeiou]|hour|honest|honou?r|heir"  # a silent h
    r"|[fhlmnrsx](?![a-z0-9'’])"  # read as letters: "an x-ray"
    r"|8|1[18](?!\d)"
)
"""Begins of names, in small letters, that sound as a vowel."""
_CONSONANT = re.compile(
    r"one(?![a-rt-z])|once|ouija|eu|ewe"
    r"|u(?![a-z0-9])|uni(?!n|m[a-z]|dentif)|us(?:[aeu]|b\b)|ut[ei][nl]|ukul|ufo|ur[ia]n|uter"
)
"""Begins of names with a vowel's letter that sound as a consonant: "one-way sign", "uniform"."""


@dataclass(frozen=True, kw_only=True)
class LabelledImage:
    """An image and the objects that it shows, each once.

    Attributes:
        image: its file.
        objects: by name.
        tempting: of each object, those that a model may be tempted to see in its place, the most
            tempting first; they come before those that co-occur with it.
    """

    image: str
    objects: tuple[str, ...]
    tempting: Mapping[str, Sequence[str]] | None = None


@dataclass(frozen=True, kw_only=True)
class PresenceQuestion:
    """A line of a file of POPE."""

    question_id: int
    image: str
    text: str
    label: str

    def to_json(self) -> str:
        return json.dumps(vars(self), ensure_ascii=False)


def read_annotations(path: str) -> list[LabelledImage]:
    """The images of entries {"image": ..., "objects": [...]}, or of an object of lists by image.

    The entries are JSON Lines, or a JSON array.

    Raises:
        PreflightError: the file is none of these; the message names the line or entry.
    """
    text = read_text(Location.parse(path, ANNOTATIONS), ANNOTATIONS)
    images = [
        LabelledImage(image=image, objects=tuple(dict.fromkeys(objects)))
        for image, objects in _list_entries(text, path)
    ]
    doubled = [
        name for name, count in Counter(image.image for image in images).items() if count > 1
    ]
    if doubled:
        raise PreflightError(f"{ANNOTATIONS} {path}: names {doubled[0]} twice")
    return images


def _list_entries(text: str, path: str) -> Iterator[tuple[str, list[str]]]:
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        whole = None
    if isinstance(whole, dict) and not {"image", "objects"} <= {*whole}:
        for image, objects in whole.items():
            yield _check_entry(image, objects, f"{ANNOTATIONS} {path}: image {image}")
        return
    for place, entry in parse_json_objects(text, f"{ANNOTATIONS} {path}"):
        yield _check_entry(entry.get("image"), entry.get("objects"), place)


def _check_entry(image: object, objects: object, place: str) -> tuple[str, list[str]]:
    if (
        not isinstance(image, str)
        or not isinstance(objects, list)
        or not all(isinstance(name, str) and name.strip() for name in objects)
    ):
        raise PreflightError(f"{place}: is not the name of an image with a list of objects' names")
    return image, [name.strip() for name in objects]


def make_questions(
    images: Sequence[LabelledImage], *, objects_per_image: int, template: str, seed: int
) -> dict[str, list[PresenceQuestion]]:
    """The questions of each strategy.

    Args:
        images: of which those with at least `objects_per_image` objects are asked about.
        objects_per_image: that are asked for, and as many that the image has not.
        template: of a question, with {object}, or {a object} for the object with its article.
        seed: of random choices.

    Raises:
        PreflightError: no image has enough objects, or the template names no object.
    """
    if OBJECT not in template and ARTICLED not in template:
        raise PreflightError(f"--template {template}: has neither {OBJECT} nor {ARTICLED}")
    asked = [image for image in images if len(image.objects) >= objects_per_image]
    if not asked:
        raise PreflightError(
            f"--objects-per-image {objects_per_image}: none of {len(images)} images has so many"
        )
    frequencies = Counter(name for image in asked for name in image.objects)
    by_frequency = [name for name, _ in frequencies.most_common()]
    companions = _count_companions(asked)
    rng = random.Random(f"presence {seed}")

    def rank_random(*_: object) -> list[str]:
        return rng.sample(by_frequency, len(by_frequency))

    def rank_popular(*_: object) -> list[str]:
        return by_frequency

    def rank_adversarial(image: LabelledImage, present: str) -> list[str]:
        tempting = (image.tempting or {}).get(present, ())
        with_it = [name for name, _ in companions[present].most_common()]
        return [*tempting, *with_it, *rank_random()]

    rankings: tuple[Ranking, ...] = (rank_random, rank_popular, rank_adversarial)
    return {
        strategy: list(_ask(asked, ranking, objects_per_image, template))
        for strategy, ranking in zip(STRATEGIES, rankings, strict=True)
    }


Ranking = Callable[[LabelledImage, str], Sequence[str]]
"""Objects to ask for beside one that an image has, the first that it does not have first."""


def _ask(
    images: Sequence[LabelledImage], ranking: Ranking, objects_per_image: int, template: str
) -> Iterator[PresenceQuestion]:
    number = 0
    for image in images:
        used = {*image.objects}
        for present in image.objects[:objects_per_image]:
            absent = next((name for name in ranking(image, present) if name not in used), None)
            if absent is None:  # the label would not be balanced
                continue
            used.add(absent)
            for name, label in ((present, YES), (absent, NO)):
                number += 1
                text = fill_template(template, name)
                yield PresenceQuestion(
                    question_id=number, image=image.image, text=text, label=label
                )


def _count_companions(images: Sequence[LabelledImage]) -> dict[str, Counter[str]]:
    """Of each object, the others of its images by how often they come with it."""
    companions: dict[str, Counter[str]] = defaultdict(Counter)
    for image in images:
        for name in image.objects:
            companions[name].update(other for other in image.objects if other != name)
    return companions


def fill_template(template: str, name: str) -> str:
    """A question about an object, with the article that its sound takes."""
    return template.replace(ARTICLED, f"{_find_article(name)} {name}").replace(OBJECT, name)


def _find_article(name: str) -> str:
    sound = name.casefold()
    return "an" if not _CONSONANT.match(sound) and _VOWEL.match(sound) else "a"
