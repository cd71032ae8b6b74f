from c3l_ray.distributed.devices import find_device


def test_a_worker_without_a_gpu_is_not_asked_for_it() -> None:
    assert find_device(0) is None
