"""Planning a run in this process, with the sample's measurements and the cluster given."""

import dataclasses
import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from c3l_ray import schema
from c3l_ray.distributed import cluster, pipeline
from c3l_ray.distributed.gpu_shares import GpuShares
from c3l_ray.errors import C3LError, PreflightError, Stopped, TooManyFailures
from c3l_ray.identity import Identity
from c3l_ray.inputs.joins import join_small_units
from c3l_ray.inputs.layout import Layout
from c3l_ray.inputs.read import index_shard
from c3l_ray.inputs.units import Shard, Unit
from c3l_ray.planning.sample import Sample
from c3l_ray.planning.sample_run import SampleRun
from c3l_ray.runs.commit import commit_unit
from c3l_ray.runs.folder import RunFolder
from c3l_ray.scenes import world
from c3l_ray.storage import Location
from c3l_ray.workflows import plan
from c3l_ray.workflows.plan import PlanConfig, count_done_images, plan_generation, run_sample
from c3l_ray.workflows.plan_summary import format_bytes, summarize_plan
from jobs.plan import run_command
from tests.examples import MakeConfig
from tests.jobs.commands import generate_flags
from tests.planning.plans import make_sample_run
from tests.planning.test_sample_run import TURNS, make_rows

EIGHT = GpuShares(generators=5, scorers=6, generator_gpus=1.0, scorer_gpus=0.5)


def index(shards: list[Shard], layout: Layout, folder: RunFolder) -> list[Unit]:
    units = [unit for shard in shards for unit in index_shard(shard, layout)]
    return join_small_units(units, folder)


@pytest.fixture(autouse=True)
def given(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A cluster of eight GPUs, and a sample of which an image takes 1.6 s; what it was asked."""
    asked: dict[str, Any] = {}

    def measure(sample: Sample, config: Any, scratch: RunFolder, *_: Any) -> SampleRun:
        scratch.write("run/records/x", b"left behind")
        asked.update(sample=sample, pools=config.pools, scratch=scratch.path)
        number = len(sample.shards)
        return make_sample_run(
            shards=sample.shards,
            turns=[5] * number,
            usable_turns=[4] * number,
            tokens=[100 + place % 3 for place in range(number)],
            record_bytes=[2_000.0] * number,
            reasons=dict(sample.reasons),
            run=len(sample.readable),
            generate_s=8.0 * number,
            score_s=4.0 * number,
        )

    monkeypatch.setattr(cluster, "connect", lambda *_, **__: None)
    monkeypatch.setattr(cluster, "with_one_of_each", lambda config: config)
    monkeypatch.setattr(cluster, "choose_pools", lambda _: EIGHT)
    monkeypatch.setattr(cluster, "count_cores", lambda: 64)
    monkeypatch.setattr(pipeline, "plan_units", index)
    monkeypatch.setattr(plan, "run_sample", measure)
    return asked


@pytest.fixture
def plan_config(config: MakeConfig) -> Callable[..., PlanConfig]:
    def make(**changes: Any) -> PlanConfig:
        plain = config()
        fields = {field.name: getattr(plain, field.name) for field in dataclasses.fields(plain)}
        return PlanConfig(**{**fields, **changes})

    return make


MakePlanConfig = Callable[..., PlanConfig]


def test_a_plan_counts_samples_and_leaves_nothing_behind(
    scenes: Path, plan_config: MakePlanConfig, given: dict[str, Any], tmp_path: Path
) -> None:
    made = plan_generation(
        plan_config(output=str(tmp_path / "new" / "run"), sample=4, price_per_hour=2.5)
    )
    assert (made.shards, made.counted_shards, made.images.value) == (2, 2, 12)
    assert made.bytes == sum(path.stat().st_size for path in scenes.iterdir())
    assert given["sample"].shards == ["scenes-00000.tar"] * 2 + ["scenes-00001.tar"] * 2
    assert given["scratch"].startswith(str(tmp_path / "new" / "run" / "plan-"))
    assert not (tmp_path / "new").exists()
    assert (made.generators, made.scorers, made.device, made.devices) == (5, 6, "GPU", 8)
    assert made.images_per_s.value == pytest.approx(5 / 8)
    assert made.hours.value == pytest.approx((12 * 8 / 5 + 36) / 3600)
    assert made.price is not None
    assert made.price.value == pytest.approx(made.hours.value * 8 * 2.5)


def test_of_many_shards_some_are_counted_and_that_is_said(
    plan_config: MakePlanConfig, given: dict[str, Any], tmp_path: Path
) -> None:
    world.write_scenes(tmp_path / "scenes", num_scenes=20, scenes_per_shard=2)
    made = plan_generation(plan_config(count_shards=4, sample=4))
    assert (made.shards, made.counted_shards) == (10, 4)
    assert made.images.value == pytest.approx(20, rel=0.2) and made.images.low is not None
    assert len({*given["sample"].shards}) == 4
    assert "counted in 4 drawn ones" in summarize_plan(made)
    drawn = given["sample"].shards
    plan_generation(plan_config(count_shards=4, sample=4, sample_seed=1))
    assert given["sample"].shards != drawn


def test_damage_and_images_that_cannot_be_read_are_said(
    scenes: Path, plan_config: MakePlanConfig, given: dict[str, Any]
) -> None:
    (scenes / "broken.tar").write_bytes((scenes / "scenes-00000.tar").read_bytes()[:700])
    world.write_shard(scenes / "bad.tar", [("lonely.txt", b"no image")])
    made = plan_generation(plan_config(sample=50))
    assert made.damaged_shards == 1 and (made.damage or "").startswith("broken.tar at byte")
    assert made.sampled_failures["no_image"] >= 1
    summary = summarize_plan(made)
    assert "1 of 4 counted shards, for example broken.tar at byte" in summary
    assert "failed no_image" in summary
    assert len(given["sample"].readable) == 12


def run_job(monkeypatch: pytest.MonkeyPatch, scenes: Path, *more: str) -> int | str | None:
    """The exit status of the job in this process; 0 where it just returns."""
    flags = generate_flags(scenes, scenes.parent / "run", *more)
    monkeypatch.setattr(sys, "argv", ["job", *flags])
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        run_command()
    except SystemExit as end:
        return end.code
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return 0


def test_a_plan_is_printed_as_text_or_as_json(
    scenes: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_job(monkeypatch, scenes, "--sample", "4", "--price-per-hour", "2") == 0
    text = capsys.readouterr().out
    assert "  images   12\n" in text and "by 5 generators and 6 scorers on 8 GPUs" in text
    assert "at 2 a GPU-hour" in text and "assumed  - " in text
    assert run_job(monkeypatch, scenes, "--sample", "4", "--json", "--max-hours", "1") == 0
    made = json.loads(capsys.readouterr().out)
    assert made["job"] == "plan" and made["images"] == {"value": 12, "low": 12, "high": 12}
    assert made["price"] is None and made["over_budget"] == []
    assert not (scenes.parent / "run").exists()


def test_a_plan_over_budget_is_printed_and_ends_with_status_3(
    scenes: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_job(monkeypatch, scenes, "--max-hours", "0.001") == 3
    captured = capsys.readouterr()
    assert "  over     " in captured.out and "Traceback" not in captured.err
    assert captured.err.splitlines()[-1] == (
        "error: the plan is over budget: 0.0153 hours, and --max-hours is 0.001"
    )
    assert run_job(monkeypatch, scenes, "--max-price", "0.1", "--price-per-hour", "2") == 3
    assert "a price of 0.2453, and --max-price is 0.1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--retry-failed",), "--retry-failed : a plan is of images that are still to do"),
        (("--sample", "0"), "--sample 0: must be in [2, 256]"),
        (("--max-price", "5"), "--max-price 5.0: needs the price of an hour"),
        (("--model.name", "/nowhere/at/all"), "--model.name /nowhere/at/all"),
        (("--input", "/nowhere/at/all"), "/nowhere/at/all: does not exist"),
    ],
)
def test_what_jobs_generate_refuses_is_refused(
    flags: tuple[str, ...],
    message: str,
    scenes: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_job(monkeypatch, scenes, *flags) == 2
    assert message in capsys.readouterr().err
    assert not (scenes.parent / "run").exists()


def test_a_sample_without_a_readable_image_plans_nothing(
    tmp_path: Path, plan_config: MakePlanConfig
) -> None:
    (tmp_path / "scenes").mkdir()
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / "scenes" / name).symlink_to(tmp_path / "nothing")
    message = "none of the 2 sampled images can be read, for example unreadable: "
    with pytest.raises(TooManyFailures, match=message):
        plan_generation(plan_config())
    assert not (tmp_path / "run").exists()


def test_what_is_committed_is_counted_and_another_origin_refused(
    plan_config: MakePlanConfig, tmp_path: Path
) -> None:
    folder = RunFolder.open(str(tmp_path / "run"))
    mine, other = (Identity({"schema": schema.VERSION, "a": number}) for number in (1, 2))
    assert count_done_images(folder, mine, mix_versions=False) == 0
    folder.claim(mine, "generate")
    assert count_done_images(folder, other, mix_versions=False) == 0  # would be begun anew
    rows = make_rows(key=["a", "b"], turns=[TURNS, TURNS])
    commit_unit(folder, "u", "a.tar", rows, mine.origin)
    before = (tmp_path / "run" / "run.json").read_bytes()
    assert count_done_images(folder, mine, mix_versions=False) == 2
    with pytest.raises(PreflightError, match="a: 1 there, 2 now"):
        count_done_images(folder, other, mix_versions=False)
    assert (tmp_path / "run" / "run.json").read_bytes() == before


@pytest.mark.parametrize(
    ("raised", "message"),
    [
        (Stopped(signal.SIGTERM, "0 of 4 images are committed in x"), "^stopped by SIGTERM$"),
        (C3LError("the engine died"), "the sample of the plan could not be run: the engine died"),
        (TooManyFailures("the job stops at 3"), "^the job stops at 3"),
    ],
)
def test_a_sample_that_cannot_be_run_says_so(
    raised: BaseException,
    message: str,
    scenes: Path,
    plan_config: MakePlanConfig,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    def fail(config: Any, shards: list[Shard], *_: Any, **__: Any) -> None:
        assert len(shards) == 1 and config.limit is None and config.max_failed_share == 1
        raise raised

    monkeypatch.setattr(plan, "run_sample", run_sample)  # the real one
    monkeypatch.setattr(plan, "write_records", fail)
    with pytest.raises(type(raised), match=message):
        plan_generation(plan_config(limit=3))
    assert not (tmp_path / "run").exists()


def test_a_run_that_has_begun_keeps_its_files(
    scenes: Path, plan_config: MakePlanConfig, tmp_path: Path
) -> None:
    (tmp_path / "run" / "shards").mkdir(parents=True)
    (tmp_path / "run" / "shards" / "a.json").write_text("{}")
    plan_generation(plan_config())
    left = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert left == [tmp_path / "run" / "shards" / "a.json"]


def test_a_folder_that_cannot_be_removed_is_named(
    scenes: Path,
    plan_config: MakePlanConfig,
    given: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    remove = Location.remove

    def refuse_folders(location: Location, *, recursive: bool = False) -> None:
        if recursive:
            raise PermissionError(13, "Permission denied")
        remove(location)

    monkeypatch.setattr(Location, "remove", refuse_folders)
    assert plan_generation(plan_config()).images.value == 12
    assert f"{given['scratch']} could not be removed" in caplog.text


def test_bytes_are_shown_in_their_largest_unit() -> None:
    assert [format_bytes(size) for size in (0, 999, 1_000, 15_300, 8.12e11, 3e18)] == [
        *("0 bytes", "999 bytes", "1 kB", "15.3 kB", "812 GB", "3e+03 PB")
    ]
