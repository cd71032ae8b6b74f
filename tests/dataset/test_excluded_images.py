"""Images that a benchmark has too, or that come twice, are left out before turns are ranked."""

import builtins
import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from c3l_ray.dataset.select import select_turns
from c3l_ray.errors import PreflightError
from c3l_ray.scenes.draw import draw_scene
from c3l_ray.select_config import SelectConfig
from tests.dataset.runs import ALL_TURNS, WriteRun, make_turn, read_questions
from tests.train.records import encode_png


def encode_anew(data: bytes, *, scale: float) -> bytes:
    """The image in another size, as a JPEG of low quality."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    image = image.resize((round(image.width * scale), round(image.height * scale)))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=60)
    return buffer.getvalue()


SCENES = [encode_png(draw_scene(number)) for number in range(4)]


def test_an_image_of_a_benchmark_is_left_out_in_any_size(
    write_run: WriteRun, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("pdqhash", reason="the extra dedup is not installed")
    (tmp_path / "benchmark").mkdir()
    (tmp_path / "benchmark" / "1.jpg").write_bytes(encode_anew(SCENES[1], scale=1.5))
    (tmp_path / "benchmark" / "2.jpg").write_bytes(b"damaged")
    plain = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(plain, "PNG")
    images = [SCENES[0], encode_anew(SCENES[1], scale=0.75), SCENES[2], plain.getvalue()]
    turns = [[make_turn(0.1)], [make_turn(0.9), make_turn(0.8)], [make_turn(0.7)], [make_turn(0.6)]]
    path = write_run(turns, images=images)
    config = SelectConfig(input=str(path), top=2, exclude_benchmark=(str(tmp_path / "benchmark"),))
    report = select_turns(config)
    # The next ones take the places of those that are left out.
    assert read_questions(path / "dataset") == ["q 0.7", "q 0.6"]
    assert (report.benchmark_images, report.excluded_images, report.excluded_turns) == (1, 1, 2)
    assert (report.not_compared_images, report.scored_turns) == (1, 5)
    assert "1 of 2 images of the benchmark cannot be compared" in caplog.text
    card = (path / "dataset" / "README.md").read_text()
    assert "| images that a benchmark has too, left out | 1 |" in card
    assert "| images of benchmarks (benchmark) that were compared | 1 |" in card


def test_of_images_that_look_alike_the_first_stays(write_run: WriteRun, tmp_path: Path) -> None:
    pytest.importorskip("pdqhash", reason="the extra dedup is not installed")
    (tmp_path / "benchmark.jpg").write_bytes(encode_anew(SCENES[3], scale=1.5))
    again = encode_anew(SCENES[0], scale=0.75)
    images = [SCENES[0], SCENES[3], b"damaged", again]  # of both units
    scores = [[0.1, 0.9, 0.2, 0.8], [0.7, 0.6, 0.3, 0.5]]
    path = write_run(*([[make_turn(score)] for score in unit] for unit in scores), images=images)
    config = SelectConfig(
        input=str(path),
        top=3,
        drop_near_duplicates=True,
        exclude_benchmark=(str(tmp_path / "benchmark.jpg"),),
    )
    report = select_turns(config)
    assert (report.near_duplicate_images, report.excluded_images) == (3, 2)
    assert (report.excluded_turns, report.not_compared_images) == (5, 2)
    assert report.unusable_images == 2 and report.turns == 1
    assert read_questions(path / "dataset") == ["q 0.1"]  # all that is left and can be decoded
    card = (path / "dataset" / "README.md").read_text()
    assert "| images that look like an earlier one, left out | 3 |" in card


def test_what_cannot_be_compared_is_refused(write_run: WriteRun, tmp_path: Path) -> None:
    pytest.importorskip("pdqhash", reason="the extra dedup is not installed")
    path = write_run([[make_turn(0.1)]], images=[SCENES[1]])
    benchmark = tmp_path / "benchmark"

    def select() -> Any:
        return select_turns(
            SelectConfig(input=str(path), top=ALL_TURNS, exclude_benchmark=(str(benchmark),))
        )

    with pytest.raises(PreflightError, match=r"^--exclude-benchmark .*: does not exist"):
        select()
    benchmark.mkdir()
    (benchmark / "1.jpg").write_bytes(b"damaged")
    with pytest.raises(PreflightError, match="none of its 1 images can be compared"):
        select()
    (benchmark / "1.jpg").write_bytes(SCENES[1])
    with pytest.raises(PreflightError, match=r"1 of 1 scored turns in .* are left out"):
        select()


def test_a_missing_library_is_named(
    write_run: WriteRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_run([[make_turn(0.1)]])
    (tmp_path / "1.png").write_bytes(SCENES[1])
    import_module = builtins.__import__

    def import_others(name: str, *args: Any) -> Any:
        if name == "pdqhash":
            raise ImportError(name)
        return import_module(name, *args)

    monkeypatch.setattr(builtins, "__import__", import_others)
    config = SelectConfig(input=str(path), exclude_benchmark=(str(tmp_path / "1.png"),))
    with pytest.raises(PreflightError, match=r"^--exclude-benchmark: needs the library pdqhash"):
        select_turns(config)
    config = SelectConfig(input=str(path), drop_near_duplicates=True)
    with pytest.raises(PreflightError, match=r"^--drop-near-duplicates: needs .*; pip install"):
        select_turns(config)
