"""A cluster of this machine for the workflows that train."""

from collections.abc import Iterator

import pytest
import ray

from c3l_ray.distributed import cluster


@pytest.fixture(scope="module")
def local_cluster() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        # Ray Train looks at a worker every so many seconds; here steps are short.
        patch.setenv("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
        cluster.connect(2)
        yield
        ray.shutdown()
