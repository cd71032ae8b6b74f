import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from c3l_ray.benchmarks import pope
from c3l_ray.benchmarks.make_pope import make_pope
from c3l_ray.benchmarks.scene_presence import WORLDS, draw_scenes, label_scene
from c3l_ray.errors import PreflightError
from c3l_ray.storage import Location

DEFAULTS: dict[str, Any] = {
    "annotations": None,
    "scenes": None,
    "world": "biased",
    "objects_per_image": 2,
    "template": None,
    "seed": 0,
}


def make(output: Path, **options: Any) -> str:
    return make_pope(str(output), **{**DEFAULTS, **options})


def test_scenes_become_images_annotations_and_files_that_pope_reads(tmp_path: Path) -> None:
    said = make(tmp_path / "pope", scenes=12)
    data = pope.read_questions(Location.connect(str(tmp_path / "pope")))
    assert {question.group for question in data.questions} == {*pope.STRATEGIES}
    lines = (tmp_path / "pope" / "annotations.jsonl").read_text().splitlines()
    objects = {entry["image"]: entry["objects"] for entry in map(json.loads, lines)}
    assert len(objects) == 12 and "of 12 images" in said
    for question in data.questions:
        name = question.prompt.removeprefix("Is there a ").removesuffix("?")
        assert (name in objects[question.image]) == (question.label == "yes")
        with Image.open(tmp_path / "pope" / "images" / question.image) as image:
            assert image.width > 32


def test_adversarial_questions_follow_the_bias_of_the_world() -> None:
    """A shape of an unusual colour is asked for in its usual one."""
    world = WORLDS["biased"]
    for scene in draw_scenes(world, 60, seed=0):
        labelled = label_scene(scene, world)
        assert labelled.tempting is not None
        for name in labelled.objects:
            shape = name.split()[1]
            assert labelled.tempting[name][0] == f"{world.bias_of(shape).colour} {shape}"
    assert label_scene(scene, world) == labelled  # the same each time


def test_another_seed_draws_other_scenes() -> None:
    first, second = (draw_scenes(WORLDS["unbiased"], 5, seed) for seed in (0, 1))
    assert not {scene.seed for scene in first} & {scene.seed for scene in second}


def test_annotations_become_questions_of_their_own_images(tmp_path: Path) -> None:
    (tmp_path / "objects.json").write_text('{"1.jpg": ["cat", "dog"], "2.jpg": ["owl", "cat"]}')
    make(
        tmp_path / "pope",
        annotations=str(tmp_path / "objects.json"),
        objects_per_image=1,
        template="See {a object}?",
    )
    assert sorted(path.name for path in (tmp_path / "pope").iterdir()) == [
        f"pope_{strategy}.json" for strategy in sorted(pope.STRATEGIES)
    ]
    data = pope.read_questions(Location.connect(str(tmp_path / "pope")))
    assert [(q.image, q.prompt, q.label) for q in data.questions if q.group == "popular"] == [
        ("1.jpg", "See a cat?", "yes"),
        ("1.jpg", "See an owl?", "no"),
        ("2.jpg", "See an owl?", "yes"),
        ("2.jpg", "See a dog?", "no"),
    ]


def test_files_are_written_anew_but_not_among_others(tmp_path: Path) -> None:
    make(tmp_path / "pope", scenes=8)
    before = (tmp_path / "pope" / "pope_random.json").read_text()
    make(tmp_path / "pope", scenes=8)
    assert (tmp_path / "pope" / "pope_random.json").read_text() == before
    (tmp_path / "pope" / "mine.txt").write_text("")
    with pytest.raises(PreflightError, match=r"holds mine\.txt; choose another folder"):
        make(tmp_path / "pope", scenes=8)
