"""Files of POPE for images that are labelled, or for scenes that are drawn with them."""

import json
import shlex
from collections.abc import Mapping, Sequence

from c3l_ray import storage
from c3l_ray.benchmarks import scene_presence
from c3l_ray.benchmarks.pope import STRATEGIES
from c3l_ray.benchmarks.presence import (
    TEMPLATE,
    LabelledImage,
    PresenceQuestion,
    make_questions,
    read_annotations,
)
from c3l_ray.errors import PreflightError
from c3l_ray.storage import Location

IMAGES, ANNOTATIONS_FILE = "images", "annotations.jsonl"


def make_pope(
    output: str,
    *,
    annotations: str | None,
    scenes: int | None,
    world: str,
    objects_per_image: int,
    template: str | None,
    seed: int,
) -> str:
    """Writes the files of POPE's three strategies, and says what is in them.

    Args:
        output: folder for the files; of scenes also for their images and annotations.
        annotations: file of labelled images; None for scenes.
        scenes: how many are drawn; None for annotations.
        world: that they are drawn from.
        objects_per_image: that are asked for, and as many that the image has not.
        template: of a question; None takes POPE's own, or of scenes that of their language.
        seed: of random choices, and of the scenes.

    Raises:
        PreflightError: the output holds something else, or the annotations are of no use.
        OSError: the storage failed.
    """
    folder = Location.parse(output, "--output")
    _refuse_other_content(folder, output)
    if annotations is not None:
        images = read_annotations(annotations)
        template = template or TEMPLATE
    else:
        assert scenes is not None
        drawn_from = scene_presence.WORLDS[world]
        drawn = scene_presence.draw_scenes(drawn_from, scenes, seed)
        images = [scene_presence.label_scene(scene, drawn_from) for scene in drawn]
        template = template or scene_presence.TEMPLATE
    questions = make_questions(
        images, objects_per_image=objects_per_image, template=template, seed=seed
    )
    if annotations is None:
        for name, content in scene_presence.encode_scenes(drawn):
            (folder / IMAGES / name).write(content)
        lines = (json.dumps({"image": i.image, "objects": i.objects}) for i in images)
        (folder / ANNOTATIONS_FILE).write("".join(f"{line}\n" for line in lines).encode())
    for strategy, asked in questions.items():
        text = "".join(f"{question.to_json()}\n" for question in asked)
        (folder / _file_of(strategy)).write(text.encode())
    return _describe(images, questions, output, has_images=annotations is None)


def _file_of(strategy: str) -> str:
    return f"pope_{strategy}.json"


def _refuse_other_content(folder: Location, output: str) -> None:
    own = {IMAGES, ANNOTATIONS_FILE, *map(_file_of, STRATEGIES)}
    try:
        others = sorted({child.name for child in folder.list_children()} - own)
    except storage.ERRORS as error:
        raise PreflightError(f"--output {output}: cannot be used: {error}") from error
    if others:
        raise PreflightError(f"--output {output}: holds {others[0]}; choose another folder")


def _describe(
    images: Sequence[LabelledImage],
    questions: Mapping[str, Sequence[PresenceQuestion]],
    output: str,
    *,
    has_images: bool,
) -> str:
    asked = {question.image for of_strategy in questions.values() for question in of_strategy}
    root = shlex.quote(f"{output.rstrip('/')}/{IMAGES}") if has_images else "..."
    return "\n".join(
        [
            f"asked about {len(asked)} of {len(images)} images",
            *(f"  {strategy:<12} {len(of)} questions" for strategy, of in questions.items()),
            f"  next         python -m jobs.evaluate benchmark --benchmark pope "
            f"--data {shlex.quote(output)} --image-root {root} --model.name ...",
        ]
    )
