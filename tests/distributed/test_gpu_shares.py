"""The arithmetic of GPUs, generators and scorers; no cluster is needed for it."""

from typing import Any

import pytest

from c3l_ray.distributed.gpu_shares import GpuShares, choose_shares, fit_scorer
from c3l_ray.model_config import Pools


def shares_of(num_gpus: int, tensor_parallel: int = 1, num_cpus: int = 100, **pools: Any) -> Any:
    shares = choose_shares(num_gpus, num_cpus, Pools(**pools), tensor_parallel)
    return (shares.generators, shares.generator_gpus, shares.scorers, shares.scorer_gpus)


@pytest.mark.parametrize(
    ("num_gpus", "tensor_parallel", "expected"),
    [
        (0, 1, (1, 0, 1, 0)),
        (1, 1, (1, 0.7, 1, 0.3)),
        (2, 1, (1, 1, 2, 0.5)),
        (3, 1, (2, 1, 2, 0.5)),
        (4, 1, (2, 1, 4, 0.5)),
        (8, 1, (5, 1, 6, 0.5)),
        (8, 2, (3, 2, 4, 0.5)),
        (8, 4, (1, 4, 8, 0.5)),
        (16, 8, (1, 8, 16, 0.5)),
    ],
)
def test_the_defaults_fill_the_gpus(
    num_gpus: int, tensor_parallel: int, expected: tuple[int, float, int, float]
) -> None:
    shares = shares_of(num_gpus, tensor_parallel)
    assert shares == expected
    generators, generator_gpus, scorers, scorer_gpus = shares
    assert generators * generator_gpus + scorers * scorer_gpus == num_gpus


@pytest.mark.parametrize(
    ("pools", "expected"),
    [
        ({"generators": 4}, (4, 1, 8, 0.5)),
        ({"scorers": 2}, (7, 1, 2, 0.5)),
        ({"generators": 7, "scorers": 1}, (7, 1, 1, 0.5)),
        ({"generators": 6, "scorer_gpus": 1}, (6, 1, 2, 1)),
        ({"scorer_gpus": 1}, (4, 1, 4, 1)),
        ({"generator_gpus": 0.5}, (8, 0.5, 8, 0.5)),
        ({"scorer_gpus": 0}, (8, 1, 1, 0)),
        ({"generators": 8}, (8, 1, 1, 0.5)),  # too many: the caller refuses them
    ],
)
def test_what_a_user_asks_for_stays_and_the_rest_is_filled(
    pools: dict[str, Any], expected: tuple[int, float, int, float]
) -> None:
    assert shares_of(8, **pools) == expected


def test_each_process_has_a_cpu() -> None:
    assert shares_of(8, num_cpus=6) == (3, 1, 3, 0.5)
    assert shares_of(8, num_cpus=0) == (1, 1, 1, 0.5)
    assert shares_of(1, num_cpus=0) == (1, 0.7, 1, 0.3)


def test_more_processes_than_one_each_do_not_share_one_gpu() -> None:
    assert choose_shares(1, 100, Pools(scorers=2), 1) == GpuShares(
        generators=1, scorers=2, generator_gpus=1, scorer_gpus=0.5
    )


@pytest.mark.parametrize(
    ("num_gpus", "num_cpus", "pools", "tensor_parallel", "generators", "gpus"),
    [
        (0, 6, {}, 1, 1, 0.0),
        (1, 6, {}, 1, 1, 1.0),
        (8, 30, {}, 1, 8, 1.0),
        (8, 5, {}, 1, 5, 1.0),
        (8, 30, {}, 4, 2, 4.0),
        (8, 30, {"generators": 3}, 1, 3, 1.0),
        (2, 30, {"generator_gpus": 0.5}, 1, 4, 0.5),
    ],
)
def test_where_nothing_is_scored_generators_take_all(
    num_gpus: int,
    num_cpus: int,
    pools: dict[str, Any],
    tensor_parallel: int,
    generators: int,
    gpus: float,
) -> None:
    shares = choose_shares(num_gpus, num_cpus, Pools(**pools), tensor_parallel, scores=False)
    assert shares == GpuShares(
        generators=generators, scorers=0, generator_gpus=gpus, scorer_gpus=0.0
    )


@pytest.mark.parametrize(
    ("weights_gb", "card_gb", "gpus"),
    [
        (15, 80, 0.5),  # 7B in bfloat16
        (34, 80, 0.5),  # two of them are 68 GB, 85 %
        (34.1, 80, 1),
        (65, 80, 1),  # 32B
        (68.1, 80, 2),
        (144, 80, 3),  # 72B
        (144, 141, 2),
        (15, 24, 1),
        (15, 16, 2),
    ],
)
def test_a_scorer_has_the_gpus_that_its_weights_need(
    weights_gb: float, card_gb: int, gpus: float
) -> None:
    assert fit_scorer(int(weights_gb * 1e9), int(card_gb * 1e9)) == gpus


@pytest.mark.parametrize(
    ("num_gpus", "tensor_parallel", "scorer_gpus", "expected"),
    [
        (8, 4, 3, (1, 4, 1, 3)),  # 72B on cards of 80 GB: a GPU is idle
        (8, 1, 1, (4, 1, 4, 1)),
        (8, 2, 1, (2, 2, 4, 1)),
        (16, 4, 3, (2, 4, 2, 3)),
        (8, 8, 3, (1, 8, 1, 3)),  # too many: the caller refuses them
        (1, 1, 1, (1, 0.7, 1, 0.3)),  # which the caller has checked
        (0, 1, 3, (1, 0, 1, 0)),
    ],
)
def test_large_scorers_leave_fewer_processes(
    num_gpus: int, tensor_parallel: int, scorer_gpus: float, expected: tuple[float, ...]
) -> None:
    shares = choose_shares(num_gpus, 96, Pools(), tensor_parallel, scorer_gpus=scorer_gpus)
    found = (shares.generators, shares.generator_gpus, shares.scorers, shares.scorer_gpus)
    assert found == expected
