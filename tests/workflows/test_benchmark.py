"""What is checked of a benchmark before its job starts, and what binds its output."""

import dataclasses
import json
import signal
from pathlib import Path
from typing import Any

import pytest

from c3l_ray import stopping
from c3l_ray.benchmark_config import BenchmarkConfig, BenchmarkName
from c3l_ray.benchmarks.catalogue import CATALOGUE
from c3l_ray.benchmarks.questions import BenchmarkData
from c3l_ray.distributed import cluster
from c3l_ray.errors import PreflightError, Stopped, TooManyFailures
from c3l_ray.model_config import GeneratorModel
from c3l_ray.scenes.world import LLAVA
from c3l_ray.schema import VERSION
from c3l_ray.workflows import benchmark as workflow
from c3l_ray.workflows.benchmark import (
    check_failed_questions,
    describe_identity,
    read_data,
    run_benchmark,
)
from tests.benchmarks.builders import make_question
from tests.benchmarks.test_mmbench import ROW, write_tsv
from tests.benchmarks.test_tables import make_result


def make_config(
    tmp_path: Path, benchmark: BenchmarkName = "pope", **fields: Any
) -> BenchmarkConfig:
    defaults = {"model": GeneratorModel(name=str(LLAVA)), "data": str(tmp_path / "pope.json")}
    return BenchmarkConfig(
        output=str(tmp_path / "run"), benchmark=benchmark, **{**defaults, **fields}
    )


def write_pope(tmp_path: Path, *images: str) -> None:
    lines = [
        {"question_id": n, "image": image, "text": "Is there a dog?", "label": "yes"}
        for n, image in enumerate(images)
    ]
    (tmp_path / "pope.json").write_text("\n".join(map(json.dumps, lines)))


def test_images_lie_beside_the_file_or_where_the_user_says(tmp_path: Path) -> None:
    write_pope(tmp_path, "a.jpg", "gone.jpg")
    (tmp_path / "a.jpg").touch()
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "gone.jpg").touch()
    for root, address in ((None, tmp_path), (tmp_path / "images", tmp_path / "images")):
        config = make_config(tmp_path, image_root=None if root is None else str(root))
        data = read_data(config, CATALOGUE["pope"])
        assert data.image_root is not None and data.image_root.address == str(address)


def test_a_folder_without_the_images_is_refused_before_the_model_is_looked_at(
    tmp_path: Path,
) -> None:
    write_pope(tmp_path, "a.jpg", "b.jpg")
    config = make_config(tmp_path, model=GeneratorModel(name="no/such-model"))
    with pytest.raises(PreflightError) as refusal:
        run_benchmark(config)
    assert str(refusal.value) == (
        f"--image-root {tmp_path}: the first 2 images are not there, such as a.jpg; name the "
        "folder that the images of pope lie in"
    )
    assert not (tmp_path / "run").exists()


def test_a_file_that_holds_its_images_takes_no_folder_of_them(tmp_path: Path) -> None:
    write_tsv(tmp_path / "dev.tsv", ROW)
    config = make_config(tmp_path, "mmbench", data=str(tmp_path / "dev.tsv"))
    assert read_data(config, CATALOGUE["mmbench"]).image_root is None
    config = dataclasses.replace(config, image_root=str(tmp_path))
    with pytest.raises(PreflightError, match="the files of mmbench hold their images themselves"):
        read_data(config, CATALOGUE["mmbench"])


def test_another_result_is_looked_at_before_the_model_is(tmp_path: Path) -> None:
    write_pope(tmp_path, "a.jpg")
    (tmp_path / "a.jpg").touch()
    config = make_config(
        tmp_path, model=GeneratorModel(name="no/such-model"), against=str(tmp_path / "other")
    )
    with pytest.raises(PreflightError, match=r"--against .*other: holds no result\.json"):
        run_benchmark(config)
    other = {**dataclasses.asdict(make_result()), "questions_digest": "of other questions"}
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "result.json").write_text(json.dumps(other))
    with pytest.raises(PreflightError, match="answers other questions of pope than --data has"):
        run_benchmark(config)


def test_the_time_of_a_command_is_bounded(tmp_path: Path) -> None:
    write_pope(tmp_path, "a.jpg")
    (tmp_path / "a.jpg").touch()
    with pytest.raises(Stopped) as stop, stopping.handled():
        run_benchmark(make_config(tmp_path, max_hours=1e-9))
    assert stop.value.bound == "--max-hours 1e-09"


def test_workers_know_the_model_by_an_absolute_path_and_a_price_bounds_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pope(tmp_path, "a.jpg")
    (tmp_path / "a.jpg").touch()
    (tmp_path / "llava").symlink_to(LLAVA)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cluster, "connect", lambda num_actors, verbose: None)
    monkeypatch.setattr(cluster, "with_gpu_shares", lambda config: config)
    monkeypatch.setattr(cluster, "count_devices", lambda gpus: ("GPU", 2))
    begun: list[tuple[BenchmarkConfig, float]] = []

    def write_records(config: BenchmarkConfig, *_: Any, **__: Any) -> None:
        begun.append((config, signal.getitimer(signal.ITIMER_REAL)[0]))
        raise PreflightError("no cluster here")

    monkeypatch.setattr(workflow, "write_records", write_records)
    model = GeneratorModel(name="llava")
    with pytest.raises(PreflightError, match="no cluster here"), stopping.handled():
        run_benchmark(make_config(tmp_path, model=model, max_price=10.0, price_per_hour=2.5))
    ((config, seconds),) = begun
    assert config.model.name == str(tmp_path / "llava")
    assert 7_000 < seconds <= 7_200  # two hours of two GPUs


def test_questions_suffix_and_model_bind_an_output_and_places_do_not(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    data = BenchmarkData(questions=[make_question()], image_root=None)

    def origin_of(
        config: BenchmarkConfig = config, data: BenchmarkData = data, suffix: str = ""
    ) -> str:
        return describe_identity(config, data, suffix, "model").origin

    first = origin_of()
    moved = dataclasses.replace(config, data="elsewhere", image_root="s3://b", against="other")
    assert origin_of(moved) == first
    other = BenchmarkData(questions=[make_question(label="no")], image_root=None)
    longer = dataclasses.replace(config.sampling, max_tokens=8)
    others = (
        origin_of(data=other),
        origin_of(suffix="In a word."),
        origin_of(dataclasses.replace(config, sampling=longer)),
        origin_of(dataclasses.replace(config, max_pixels=100)),
        describe_identity(config, data, "", "another model").origin,
    )
    assert len({first, *others}) == 6
    assert describe_identity(config, data, "", "model").content["schema"] == VERSION


def test_too_many_questions_that_could_not_be_asked_end_with_a_status() -> None:
    result = make_result(questions=40, not_asked=20, failed={"unreadable": 1})
    check_failed_questions(result, 0.05)
    with pytest.raises(TooManyFailures, match="2 of 20 questions could not be asked"):
        check_failed_questions(dataclasses.replace(result, failed={"a": 1, "b": 1}), 0.05)
