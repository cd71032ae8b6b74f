"""Joining a cluster that is not there, or does not start."""

from typing import Any

import pytest
import ray

from c3l_ray.distributed import cluster
from c3l_ray.errors import C3LError, PreflightError


@pytest.mark.parametrize(
    ("address", "kind", "says"),
    [
        ("10.0.0.9:6379", PreflightError, "RAY_ADDRESS 10.0.0.9:6379: no cluster to join there: late"),
        ("local", C3LError, "Ray did not start on this machine: late; the same command tries"),
    ],
)
def test_a_cluster_that_does_not_come_is_one_message(
    monkeypatch: pytest.MonkeyPatch, address: str, kind: type[C3LError], says: str
) -> None:
    def fails(**_: Any) -> None:
        raise Exception("late")

    monkeypatch.setenv("RAY_ADDRESS", address)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", fails)
    with pytest.raises(C3LError, match=says) as raised:
        cluster.connect(2)
    assert type(raised.value) is kind
