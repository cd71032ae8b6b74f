"""Joining a cluster, and the GPUs that each actor is given on one that has a GPU."""

import os
from pathlib import Path
from typing import Any

import pytest
import ray

from c3l_ray.distributed import cluster
from c3l_ray.errors import C3LError, PreflightError, Stopped
from c3l_ray.model_config import ClipModel, GeneratorModel, Pools
from tests.distributed.configs import make_score_config
from tests.examples import MakeConfig


@pytest.mark.parametrize(
    ("address", "error", "kind", "message"),
    [
        (
            "10.0.0.9:6379",
            ConnectionError("late"),
            C3LError,  # its head may be on its way
            "RAY_ADDRESS 10.0.0.9:6379: no cluster answers there: late. Run the same command again",
        ),
        (
            "10.0.0.9:6379",
            RuntimeError("Version mismatch: The cluster was started with: Ray: 2.9.0"),
            PreflightError,
            "RAY_ADDRESS 10.0.0.9:6379: cannot be joined: Version mismatch: The cluster",
        ),
        ("nonsense", ValueError("bad"), PreflightError, "RAY_ADDRESS nonsense: cannot be joined"),
        (
            "local",
            Exception("late"),
            C3LError,
            "Ray did not start on this machine: late. Run the same command again",
        ),
    ],
)
def test_a_cluster_that_does_not_come_is_one_message(
    monkeypatch: pytest.MonkeyPatch,
    address: str,
    error: Exception,
    kind: type[C3LError],
    message: str,
) -> None:
    def fail(**_: Any) -> None:
        raise error

    monkeypatch.setenv("RAY_ADDRESS", address)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", fail)
    with pytest.raises(C3LError, match=message) as raised:
        cluster.connect(2)
    assert type(raised.value) is kind


@pytest.mark.parametrize("verbose", [False, True])
def test_what_rays_core_says_of_its_logging_is_shown_on_demand(
    verbose: bool, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    line = b"[2030-01-01 00:00:00,000 I 1 1] logging.cc:303: Set ray log level from environment\n"

    def write_and_fail(**_: Any) -> None:
        os.write(2, line + b"a warning that matters\n")
        raise Exception("late")

    monkeypatch.setenv("RAY_ADDRESS", "local")
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", write_and_fail)
    with pytest.raises(C3LError):
        cluster.connect(2, verbose=verbose)
    shown = capfd.readouterr().err
    assert "a warning that matters\n" in shown
    assert ("logging.cc" in shown) == verbose


def test_a_signal_while_ray_starts_stops_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    def end(**_: Any) -> None:
        raise SystemExit(15)  # as Ray's handler does

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", end)
    with pytest.raises(Stopped, match="stopped by SIGTERM"):
        cluster.connect(2)


def test_a_scorer_without_generators_has_a_gpu_of_its_own(tmp_path: Path) -> None:
    alone = cluster.with_scorer_gpus(make_score_config(tmp_path))
    assert alone.pools.scorer_gpus == 1
    both = make_score_config(tmp_path, scorers=2)
    message = r"2 scorers with 1 GPUs each need 2 GPUs, and this machine"
    with pytest.raises(PreflightError, match=message):
        cluster.with_scorer_gpus(both)
    shared = make_score_config(tmp_path, scorers=2, scorer_gpus=0.5)
    assert cluster.with_scorer_gpus(shared) == shared


def test_the_pools_share_a_gpu_where_there_is_one(config: MakeConfig) -> None:
    shared = cluster.with_gpu_shares(config())
    assert (shared.pools.generator_gpus, shared.pools.scorer_gpus) == (0.7, 0.3)
    assert shared.model.gpu_memory == pytest.approx(0.63)


def test_gpus_that_stay_idle_are_named(
    config: MakeConfig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"GPU": 8.0, "CPU": 64.0})
    cluster.with_gpu_shares(config())
    assert caplog.text == ""
    filled = cluster.with_gpu_shares(config())
    assert (filled.pools.generators, filled.pools.scorers) == (5, 6)
    cluster.with_gpu_shares(config(pools=Pools(generators=2, scorers=2)))
    assert "5 of 8 GPUs stay idle; --pools.generators and --pools.scorers fill them" in caplog.text


def test_scorers_fill_the_gpus_where_nothing_is_generated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"GPU": 8.0, "CPU": 64.0})
    for pools, scorers in (({}, 8), ({"scorer_gpus": 2}, 4), ({"scorer_gpus": 0}, 1)):
        config = cluster.with_scorer_gpus(make_score_config(tmp_path, **pools))
        assert config.pools.scorers == scorers
    cluster.with_scorer_gpus(make_score_config(tmp_path, scorers=3))
    assert "5 of 8 GPUs stay idle; --pools.scorers fill them" in caplog.text


def test_generators_fill_the_gpus_where_nothing_is_scored(
    config: MakeConfig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"GPU": 8.0, "CPU": 64.0})
    two = GeneratorModel(name="m", tensor_parallel=2)
    for fields, generators, gpus, memory in (
        ({}, 8, 1, 0.9),
        ({"pools": Pools(generator_gpus=0.5)}, 16, 0.5, 0.45),
        ({"model": two}, 4, 2, 0.9),
    ):
        filled = cluster.with_gpu_shares(config(score=False, clip=ClipModel(), **fields))
        assert (filled.pools.generators, filled.pools.generator_gpus) == (generators, gpus)
        assert filled.model.gpu_memory == pytest.approx(memory)
    assert caplog.text == ""
    cluster.with_gpu_shares(config(score=False, clip=ClipModel(), pools=Pools(generators=3)))
    assert "5 of 8 GPUs stay idle; --pools.generators fill them" in caplog.text
    with pytest.raises(PreflightError, match="needs at least 2 GPUs per generator"):
        cluster.with_gpu_shares(
            config(score=False, clip=ClipModel(), model=two, pools=Pools(generator_gpus=1))
        )
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 4.0})
    on_cpu = cluster.with_gpu_shares(config(score=False, clip=ClipModel()))
    assert (on_cpu.pools.generators, on_cpu.pools.generator_gpus) == (1, 0)


def test_the_gpus_that_a_user_chooses_stay(config: MakeConfig) -> None:
    chosen = cluster.with_gpu_shares(config(pools=Pools(generator_gpus=0.25, scorer_gpus=0)))
    assert (chosen.pools.generator_gpus, chosen.pools.scorer_gpus) == (0.25, 0)


def test_pools_that_this_machine_cannot_place_are_refused(config: MakeConfig) -> None:
    with pytest.raises(PreflightError, match=r"need 2\.5 GPUs, and this machine has 1"):
        cluster.with_gpu_shares(config(pools=Pools(generators=2, generator_gpus=1)))
    message = r"--pools\.generator-gpus 1\.5: must be at most 1, or a whole number"
    with pytest.raises(PreflightError, match=message):
        cluster.with_gpu_shares(config(pools=Pools(generator_gpus=1.5)))
    model = GeneratorModel(name="m", tensor_parallel=2)
    message = r"--model\.tensor-parallel 2 needs at least 2 GPUs per generator"
    with pytest.raises(PreflightError, match=message):
        cluster.with_gpu_shares(config(model=model, pools=Pools(generator_gpus=1)))


def test_gpus_that_a_training_does_not_use_are_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"GPU": 8.0, "CPU": 64.0})
    for num_workers, gpus in ((8, None), (1, 0.0), (16, 0.5)):
        cluster.choose_worker_gpus(num_workers, gpus)
    assert caplog.text == ""
    assert cluster.choose_worker_gpus(1, None) == 1
    assert "7 of 8 GPUs stay idle; --workers.num 8 uses them" in caplog.text


def test_training_workers_are_placed_as_the_pools_are() -> None:
    assert [cluster.choose_worker_gpus(1, gpus) for gpus in (None, 0, 0.5)] == [1, 0, 0.5]
    message = r"--workers: 2 workers with 1 GPUs each need 2 GPUs, and this machine has 1"
    with pytest.raises(PreflightError, match=message):
        cluster.choose_worker_gpus(2, None)
    message = r"--workers\.gpus 1\.5: must be at most 1, or a whole number"
    with pytest.raises(PreflightError, match=message):
        cluster.choose_worker_gpus(1, 1.5)


def test_a_cluster_that_may_grow_is_asked_for_whole_gpus(
    config: MakeConfig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "somewhere")
    shares = cluster.with_gpu_shares(config(pools=Pools(generators=8)))
    assert (shares.pools.generator_gpus, shares.pools.scorer_gpus) == (1, 0.5)
    assert "need 8.5 GPUs, and the cluster has 1 now: waiting for nodes" in caplog.text


def test_a_sample_for_more_gpus_than_there_are_runs_on_what_there_is(config: MakeConfig) -> None:
    asked = config(pools=Pools(generators=8, scorers=4))
    planned = cluster.choose_pools(asked)
    assert (planned.generators, planned.scorers, planned.gpus) == (8, 4, 10.0)
    alone = cluster.with_one_of_each(asked)
    assert alone.pools == Pools(generators=1, scorers=1, generator_gpus=0.7, scorer_gpus=0.3)
    assert alone.model.gpu_memory == pytest.approx(0.63)
    wide = config(model=GeneratorModel(name="m", tensor_parallel=2))
    with pytest.raises(PreflightError, match=r"need 2\.5 GPUs, and this machine has 1"):
        cluster.with_one_of_each(wide)


def test_a_sample_has_the_shares_of_a_run_that_the_cluster_can_hold(
    config: MakeConfig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"GPU": 8.0, "CPU": 64.0})
    alone = cluster.with_one_of_each(config())
    assert alone.pools == Pools(generators=1, scorers=1, generator_gpus=1.0, scorer_gpus=0.5)
    assert cluster.choose_pools(config()).gpus == 8.0
    assert not caplog.records  # that GPUs stay idle is true of the sample, and not of the run


def test_what_is_paid_for_are_whole_gpus_or_nodes() -> None:
    assert cluster.count_devices(7.5) == ("GPU", 8)
    assert cluster.count_devices(10 * 0.3 + 10 * 0.7) == ("GPU", 10)
    assert cluster.count_devices(0.0) == ("node", 1)
    assert cluster.count_cores() == os.cpu_count()
