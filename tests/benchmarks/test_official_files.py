"""Whatever stands in a field, a reader makes a question of it or refuses it."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from c3l_ray.benchmarks import mmbench, mme, pope, scienceqa, seed_bench
from c3l_ray.benchmarks.presence import read_annotations
from c3l_ray.benchmarks.questions import BenchmarkData
from c3l_ray.benchmarks.samples import group_by_image
from c3l_ray.errors import PreflightError
from c3l_ray.storage import Location
from tests.benchmarks.test_mmbench import ROW
from tests.benchmarks.test_pope import LINE
from tests.benchmarks.test_scienceqa import PROBLEM
from tests.benchmarks.test_seed_bench import QUESTION

Reader = Callable[[Location], BenchmarkData]

LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters())
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)

few = settings(deadline=None, max_examples=40)
"""Each example writes and reads files."""


def check_read(read: Reader, name: str, text: str) -> None:
    """Reads the only file of a folder, by its name and by the folder's."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, newline="")
        for data in (folder, str(path)):
            try:
                found = read(Location.connect(data))
            except PreflightError:
                continue
            assert found.questions and found.digest
            root = found.image_root or Location.connect(folder)
            for sample in group_by_image(found, ""):
                sample.to_json().encode()
                (root / sample.image).exists()
            for question in found.questions:
                assert all(isinstance(text, str) for text in (question.prompt, question.group))
                assert question.label in (question.options or ("yes", "no"))


@few
@given(st.sampled_from([*LINE]), VALUES, st.booleans())
def test_any_field_of_pope(name: str, value: Any, is_array: bool) -> None:
    entry = {**LINE, name: value}
    text = json.dumps([LINE, entry]) if is_array else f"{json.dumps(LINE)}\n{json.dumps(entry)}"
    check_read(pope.read_questions, "pope_random.json", text)


@few
@given(st.sampled_from([*PROBLEM]), VALUES)
def test_any_field_of_scienceqa(name: str, value: Any) -> None:
    text = json.dumps({"4": {**PROBLEM, name: value}, "5": PROBLEM})
    check_read(scienceqa.read_questions, "problems.json", text)


@few
@given(st.sampled_from([*QUESTION]), VALUES)
def test_any_field_of_seed_bench(name: str, value: Any) -> None:
    content = {"questions": [{**QUESTION, name: value}], "question_type": {"Counting": 5}}
    check_read(seed_bench.read_questions, "SEED-Bench.json", json.dumps(content))


@pytest.mark.parametrize(
    ("read", "name"),
    [
        (pope.read_questions, "pope_random.json"),
        (scienceqa.read_questions, "problems.json"),
        (seed_bench.read_questions, "SEED-Bench.json"),
    ],
)
@few
@given(value=VALUES, wrap=st.sampled_from(["", "list", "4", "questions", "question_type"]))
def test_any_content(read: Reader, name: str, value: Any, wrap: str) -> None:
    content = [value] if wrap == "list" else {wrap: value} if wrap else value
    check_read(read, name, json.dumps(content))
    if wrap == "question_type":
        check_read(read, name, json.dumps({"questions": [QUESTION], wrap: value}))


@few
@given(st.sampled_from([*ROW]), st.text(st.characters(codec="utf-8")))
def test_any_field_of_mmbench(name: str, value: str) -> None:
    row = {**ROW, name: value}
    text = "\t".join(row) + "\n" + "\t".join(map(str, row.values()))
    check_read(mmbench.read_questions, "dev.tsv", text)


@few
@given(st.text(st.characters(codec="utf-8")), st.booleans())
def test_any_text_of_mme(text: str, is_second: bool) -> None:
    text = f"Is there a cat?\tYes\n{text}" if is_second else text
    check_read(mme.read_questions, "color/1.txt", text)


@few
@given(st.sampled_from(["image", "objects", None]), VALUES)
def test_any_field_of_annotations(name: str | None, value: Any) -> None:
    content = {"image": "1.jpg", "objects": ["cat"], name: value} if name else value
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "objects.jsonl").write_text(json.dumps(content))
        try:
            images = read_annotations(f"{folder}/objects.jsonl")
        except PreflightError:
            return
    for image in images:
        json.dumps([image.image, image.objects], ensure_ascii=False).encode()
