"""The GPUs of scorers of published sizes on the GPUs of a cluster, and those that no node holds."""

from pathlib import Path

import pytest
import ray

from c3l_ray.distributed import cluster, scorer_gpus
from c3l_ray.errors import PreflightError
from c3l_ray.model_config import GeneratorModel, Pools
from tests.distributed.configs import make_score_config
from tests.examples import MakeConfig

GIB = 2**30


@pytest.fixture
def eight_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node of eight GPUs of 80 GiB, and a scorer of 72B in bfloat16."""
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"GPU": 8.0, "CPU": 96.0})
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": {"GPU": 8.0}}])
    set_sizes(monkeypatch, 135 * GIB, 80 * GIB)


def set_sizes(monkeypatch: pytest.MonkeyPatch, weights: int | None, card: int | None) -> None:
    monkeypatch.setattr(scorer_gpus, "count_weight_bytes", lambda *_: weights)
    monkeypatch.setattr(scorer_gpus, "_find_card_bytes", lambda: card)


@pytest.mark.usefixtures("eight_gpus")
def test_a_large_scorer_lies_on_as_many_gpus_as_hold_it(config: MakeConfig, tmp_path: Path) -> None:
    wide = config(model=GeneratorModel(name="m", tensor_parallel=4))
    chosen = cluster.with_gpu_shares(wide)
    assert chosen.pools == Pools(generators=1, scorers=2, generator_gpus=4.0, scorer_gpus=2.0)
    alone = cluster.with_scorer_gpus(make_score_config(tmp_path))
    assert (alone.pools.scorers, alone.pools.scorer_gpus) == (4, 2.0)


@pytest.mark.usefixtures("eight_gpus")
def test_an_engine_on_all_gpus_is_refused_with_a_way_out(config: MakeConfig) -> None:
    wide = config(model=GeneratorModel(name="m", tensor_parallel=8))
    message = r"need 10 GPUs, and this machine has 8; jobs\.generate --no-score takes no scorers"
    with pytest.raises(PreflightError, match=message):
        cluster.with_gpu_shares(wide)


@pytest.mark.usefixtures("eight_gpus")
def test_a_scorer_that_no_node_holds_is_refused(
    config: MakeConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": {"GPU": 1.0}}] * 8)
    message = r"weights take 135\.0 GiB, which is 2 GPUs of 80\.0 GiB, and a node has 1; name a"
    with pytest.raises(PreflightError, match=message):
        cluster.with_gpu_shares(config())
    with pytest.raises(PreflightError, match=message):
        cluster.with_scorer_gpus(make_score_config(tmp_path))
    monkeypatch.setenv("RAY_ADDRESS", "somewhere")
    assert cluster.choose_pools(config()).scorer_gpus == 2.0
    assert "and a node has 1 now: waiting for larger nodes" in caplog.text


def test_one_gpu_is_shared_where_both_models_fit(
    config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"GPU": 1.0, "CPU": 16.0})
    set_sizes(monkeypatch, 15 * GIB, 80 * GIB)
    assert cluster.with_gpu_shares(config()).pools.scorer_gpus == 0.3
    set_sizes(monkeypatch, 15 * GIB, 24 * GIB)
    message = (
        r"--pools: the engine takes 63% of the 24\.0 GiB of the GPU, and the weights of the "
        r"scorer .* 15\.0 GiB, .*--no-score and score with jobs\.score"
    )
    with pytest.raises(PreflightError, match=message):
        cluster.with_gpu_shares(config())
    less = GeneratorModel(name="m", gpu_memory=0.3)
    assert cluster.with_gpu_shares(config(model=less)).pools.scorer_gpus == 0.3


@pytest.mark.parametrize(
    ("weights", "card"), [(None, 80 * GIB), (15 * GIB, None), (2 * GIB, 4 * GIB)]
)
def test_what_is_not_known_leaves_the_share_as_it_was(
    config: MakeConfig, monkeypatch: pytest.MonkeyPatch, weights: int | None, card: int | None
) -> None:
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"GPU": 8.0, "CPU": 96.0})
    set_sizes(monkeypatch, weights, card)
    assert cluster.with_gpu_shares(config()).pools.scorer_gpus == 0.5
