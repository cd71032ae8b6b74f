import gc
from collections.abc import Iterator

import pytest
import ray

from c3l_ray.distributed import cluster


@pytest.fixture(scope="package", autouse=True)
def ray_cluster() -> Iterator[None]:
    """A local cluster that believes to have a GPU, so that GPU pools are placed too."""
    ray.init(address="local", num_cpus=8, num_gpus=1, include_dashboard=False, log_to_driver=False)
    cluster.configure_ray_data()
    yield
    ray.shutdown()


@pytest.fixture(autouse=True)
def no_actors_are_left() -> Iterator[None]:
    """What a failed run held ends with the last reference to it, in a cycle of references."""
    yield
    gc.collect()
