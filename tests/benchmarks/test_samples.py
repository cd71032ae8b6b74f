"""Samples as the reader of LLaVA's JSON reads them: every question a turn of its own."""

from collections.abc import Iterable
from pathlib import Path

import pytest

from c3l_ray.benchmarks import samples
from c3l_ray.benchmarks.questions import BenchmarkData, BenchmarkQuestion
from c3l_ray.inputs.find import find_shards
from c3l_ray.inputs.layout import TurnsLayout
from c3l_ray.inputs.read import index_shard, read_unit
from c3l_ray.runs.folder import RunFolder
from c3l_ray.schema import GIVEN
from c3l_ray.storage import Location
from tests.benchmarks.builders import make_question


def make_data(path: Path, *questions: BenchmarkQuestion) -> BenchmarkData:
    for question in questions:
        (path / question.image).write_bytes(question.image.encode())
    return BenchmarkData(questions=[*questions], image_root=Location.connect(str(path)))


def read_rows(folder: RunFolder, data: BenchmarkData, suffix: str) -> list[dict[str, object]]:
    pattern, images = samples.write_samples(folder, data, suffix)
    layout = TurnsLayout(image_root=images.address)
    return [
        row
        for shard in find_shards((pattern,), layout)
        for unit in index_shard(shard, layout)
        for row in read_unit(unit, layout).to_pylist()
    ]


def test_questions_about_an_image_are_the_turns_of_its_row(tmp_path: Path) -> None:
    data = make_data(
        tmp_path,
        make_question("1", image="b.jpg", prompt="Is there a dog?", label="no"),
        make_question("2", image="a.jpg", prompt="Is there a cat?"),
        make_question("3", image="b.jpg", prompt="Is there a cat?\nSay it."),
        make_question("4", image="b.jpg", prompt="Is there a dog?", label="no", group="popular"),
    )
    rows = read_rows(RunFolder.open(str(tmp_path / "run")), data, "In a word.")
    assert [(row["key"], row["image"], row["error"]) for row in rows] == [
        ("b.jpg", b"b.jpg", None),
        ("a.jpg", b"a.jpg", None),
    ]
    turns = [[(t["question"], t["answer"]) for t in row["turns"]] for row in rows]  # type: ignore[attr-defined]
    assert turns == [
        [("Is there a dog?\nIn a word.", "no"), ("Is there a cat?\nSay it.\nIn a word.", "yes")],
        [("Is there a cat?\nIn a word.", "yes")],
    ]
    kinds = {turn["kind"] for row in rows for turn in row["turns"]}  # type: ignore[attr-defined]
    assert kinds == {GIVEN}  # each asked without those before it


def test_an_image_that_is_not_there_is_a_row_that_says_so(tmp_path: Path) -> None:
    data = make_data(tmp_path, make_question("1"), make_question("2", image="gone.jpg"))
    (tmp_path / "gone.jpg").unlink()
    rows = read_rows(RunFolder.open(str(tmp_path / "run")), data, "")
    assert [row["error"] for row in rows] == [None, "unreadable: gone.jpg: FileNotFoundError"]


def test_a_few_images_are_a_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "IMAGES_PER_SHARD", 2)
    data = make_data(tmp_path, *(make_question(f"{n}", image=f"{n}.jpg") for n in range(5)))
    pattern, _ = samples.write_samples(RunFolder.open(str(tmp_path / "run")), data, "")
    assert [
        shard.source for shard in find_shards((pattern,), TurnsLayout(image_root=str(tmp_path)))
    ] == ["00000.jsonl", "00001.jsonl", "00002.jsonl"]


def test_samples_are_written_once_and_anew_for_another_suffix(tmp_path: Path) -> None:
    folder = RunFolder.open(str(tmp_path / "run"))
    data = make_data(tmp_path, *(make_question(f"{n}", image=f"{n}.jpg") for n in range(33)))
    samples.write_samples(folder, data, "")
    first, second = (tmp_path / "run" / "questions" / f"0000{n}.jsonl" for n in range(2))
    first.write_text("kept")
    samples.write_samples(folder, data, "")
    assert first.read_text() == "kept" and second.exists()
    fewer = BenchmarkData(questions=data.questions[:3], image_root=data.image_root)
    samples.write_samples(folder, fewer, "In a word.")
    assert "In a word." in first.read_text() and not second.exists()


def test_images_that_the_files_hold_are_written_beside_the_samples(tmp_path: Path) -> None:
    def read_images() -> Iterable[tuple[str, bytes]]:
        return [("x.jpg", b"image")]

    data = BenchmarkData(
        questions=[make_question("1", image="x.jpg")], image_root=None, read_images=read_images
    )
    (row,) = read_rows(RunFolder.open(str(tmp_path / "run")), data, "")
    assert row["image"] == b"image" and row["error"] is None
