import json
from pathlib import Path
from typing import Any

import pytest

from c3l_ray.benchmarks.presence import (
    TEMPLATE,
    LabelledImage,
    PresenceQuestion,
    fill_template,
    make_questions,
    read_annotations,
)
from c3l_ray.errors import PreflightError

# cat and dog come together; "person" is the most frequent.
IMAGES = [
    LabelledImage(image="1.jpg", objects=("cat", "person")),
    LabelledImage(image="2.jpg", objects=("cat", "dog", "person")),
    LabelledImage(image="3.jpg", objects=("cat", "dog")),
    LabelledImage(image="4.jpg", objects=("person", "umbrella")),
    LabelledImage(image="5.jpg", objects=("bus",)),
]


def make(
    images: list[LabelledImage], objects_per_image: int = 1, seed: int = 0
) -> dict[str, list[PresenceQuestion]]:
    return make_questions(images, objects_per_image=objects_per_image, template=TEMPLATE, seed=seed)


def list_objects(questions: list[PresenceQuestion], label: str, image: str) -> list[str]:
    asked = [q.text.split()[3] for q in questions if q.label == label and q.image == image]
    return asked


def test_an_image_is_asked_for_what_it_has_and_as_often_for_what_it_has_not() -> None:
    made = make(IMAGES, objects_per_image=2)
    shown = {image.image: image.objects for image in IMAGES}
    for questions in made.values():
        assert [q.question_id for q in questions] == [*range(1, len(questions) + 1)]
        for yes, no in zip(questions[::2], questions[1::2], strict=True):
            assert (yes.label, no.label) == ("yes", "no") and yes.image == no.image
            assert yes.text.split()[3] in shown[yes.image]
            assert no.text.split()[3] not in shown[no.image]
        texts = [(q.image, q.text) for q in questions]
        assert len(texts) == len({*texts})
    positives = [[q.text for q in asked if q.label == "yes"] for asked in made.values()]
    assert positives[0] and all(texts == positives[0] for texts in positives)
    assert all("5.jpg" not in {q.image for q in asked} for asked in made.values())


def test_popular_asks_for_the_most_frequent_object() -> None:
    popular = make(IMAGES)["popular"]
    assert list_objects(popular, "no", "3.jpg") == ["person"]
    assert list_objects(popular, "no", "4.jpg") == ["cat"]


def test_adversarial_asks_for_what_comes_with_the_object_asked_before() -> None:
    adversarial = make(IMAGES)["adversarial"]
    assert list_objects(adversarial, "no", "1.jpg") == ["dog"]  # with cat, since person is there
    assert list_objects(adversarial, "no", "4.jpg") == ["cat"]  # with person
    tempted = [LabelledImage(image="6.jpg", objects=("cat",), tempting={"cat": ["cat", "tiger"]})]
    assert list_objects(make([*IMAGES, *tempted])["adversarial"], "no", "6.jpg") == ["tiger"]


def test_random_follows_the_seed() -> None:
    images = [LabelledImage(image=f"{n}", objects=(f"thing{n}",)) for n in range(30)]
    drawn = [[q.text for q in make(images, seed=seed)["random"]] for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert make(images, seed=0)["popular"] == make(images, seed=1)["popular"]


def test_an_image_that_shows_everything_gets_no_question_of_what_is_not_there() -> None:
    everything = [LabelledImage(image="1.jpg", objects=("cat", "dog", "bus"))]
    some = [LabelledImage(image="2.jpg", objects=("cat", "dog"))]
    questions = make([*everything, *some], objects_per_image=2)["popular"]
    assert [(q.image, q.label) for q in questions] == [("2.jpg", "yes"), ("2.jpg", "no")]


@pytest.mark.parametrize(
    ("template", "name", "text"),
    [
        (TEMPLATE, "dog", "Is there a dog in the image?"),
        (TEMPLATE, "umbrella", "Is there an umbrella in the image?"),
        ("Can you see any {object} here?", "umbrella", "Can you see any umbrella here?"),
    ],
)
def test_a_template_has_the_object_with_its_article(template: str, name: str, text: str) -> None:
    assert fill_template(template, name) == text


@pytest.mark.parametrize(
    "articled",
    [
        *(
            "an hour glass",
            "an honest man",
            "an honorary plaque",
            "an honour",
            "an heirloom",
            "a house",
            "a honey jar",
        ),
        *("a one-way sign", "a one", "a onesie", "an onion", "an owl", "a ouija board"),
        *("a uniform", "a unicycle", "a union flag", "an uninhabited hut", "an umbrella"),
        *("an unidentified object", "an unimpressed cat", "a used car", "a USB stick", "an usher"),
        *("a utensil", "a utility pole", "an utterance", "a ukulele", "a urinal", "an urn"),
        *("a European flag", "an eagle", "a ewe", "an x-ray", "an X", "a xylophone", "a t-shirt"),
        *("a U-turn sign", "an upturned boat", "an 8-ball", "an 18-wheeler", "a 180 sign"),
        *("a horse", "a hot dog", "an apple", "an orange", "an ice cream", "a yacht", "a zebra"),
    ],
)
def test_the_article_follows_the_sound(articled: str) -> None:
    name = articled.partition(" ")[2]
    assert fill_template("{a object}", name) == articled


def test_what_gives_no_question_is_refused() -> None:
    with pytest.raises(PreflightError, match="--objects-per-image 4: none of 5 images has so many"):
        make(IMAGES, objects_per_image=4)
    with pytest.raises(PreflightError, match="--template What is it: has neither"):
        make_questions(IMAGES, objects_per_image=1, template="What is it", seed=0)


@pytest.mark.parametrize(
    "text",
    [
        '{"image": "1.jpg", "objects": ["cat", " dog", "cat"]}\n\n'
        '{"image": "2.jpg", "objects": []}',
        '{"1.jpg": ["cat", "dog", "cat"], "2.jpg": []}',
        '[{"image": "1.jpg", "objects": ["cat", "dog"]}, {"image": "2.jpg", "objects": []}]',
    ],
)
def test_annotations_are_lines_an_array_or_an_object(tmp_path: Path, text: str) -> None:
    (tmp_path / "objects.json").write_text(text)
    assert read_annotations(str(tmp_path / "objects.json")) == [
        LabelledImage(image="1.jpg", objects=("cat", "dog")),
        LabelledImage(image="2.jpg", objects=()),
    ]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["{"], "line 2: is no JSON"),
        ([[1]], "line 2: is list, not an object"),
        ([{"image": "2.jpg", "objects": "cat"}], "line 2: is not the name of an image with a list"),
        ([{"image": "2.jpg", "objects": [" "]}], "line 2: is not the name of an image with a list"),
        ([{"objects": ["cat"]}], "line 2: is not the name of an image with a list"),
        ([{"image": "1.jpg", "objects": ["dog"]}], "names 1.jpg twice"),
    ],
)
def test_faulty_annotations_are_refused_by_their_line(
    tmp_path: Path, lines: list[Any], message: str
) -> None:
    path = tmp_path / "objects.jsonl"
    entries = [{"image": "1.jpg", "objects": ["cat"]}, *lines]
    texts = (entry if isinstance(entry, str) else json.dumps(entry) for entry in entries)
    path.write_text("\n".join(texts))
    with pytest.raises(PreflightError) as refusal:
        read_annotations(str(path))
    assert str(refusal.value).startswith(f"--annotations {path}: {message}")


def test_annotations_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PreflightError, match="cannot be read"):
        read_annotations(str(tmp_path / "objects.jsonl"))
