from c3l_ray.train.devices import find_device_bytes


def test_the_memory_of_a_worker_without_a_gpu_is_not_asked_for() -> None:
    assert find_device_bytes(0) is None
