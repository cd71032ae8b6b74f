"""On what a tuned model is loaded to be asked; `tests/jobs/test_train.py` asks one."""

import dataclasses
from typing import Any

import pytest

from c3l_ray.distributed.devices import Device
from c3l_ray.model_config import GeneratorModel
from c3l_ray.scenes import world
from c3l_ray.train.learning.memory import count_engine_bytes
from c3l_ray.train.training_config import ModelToTune, TrainConfig, Workers
from c3l_ray.workflows import verify
from c3l_ray.workflows.verify import plan_engine

LLAVA = ModelToTune(name=str(world.LLAVA), template_args=("a=1",))
LLAVA_BYTES = count_engine_bytes(LLAVA)


def make_config(**workers: Any) -> TrainConfig:
    return TrainConfig(input=("in",), output="out", model=LLAVA, workers=Workers(**workers))


@pytest.fixture
def set_card(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Gives the cluster GPUs of so many times the weights, so many to a node."""

    def set_(times: float, gpus_of_node: int = 8) -> None:
        def find(gpus: float) -> Device | None:
            memory = round(times * LLAVA_BYTES * min(1.0, gpus))
            return Device(memory=memory, has_bfloat16=True) if gpus else None

        monkeypatch.setattr(verify, "find_device", find)
        monkeypatch.setattr(verify, "count_gpus_of_largest_node", lambda: gpus_of_node)

    return set_


@pytest.mark.parametrize(
    ("times", "gpus_of_node", "workers", "expected"),
    [
        (2.0, 8, {"num": 8, "gpus": 1.0}, (1, 1.0, 0.9)),
        (0.9, 8, {"num": 8, "gpus": 1.0}, (2, 2.0, 0.9)),  # what was trained sharded
        (2.6, 8, {"num": 8, "gpus": 0.5}, (1, 0.5, 0.45)),
        (2.0, 8, {"num": 2, "gpus": 0.0}, (1, 0.0, 0.9)),
    ],
)
def test_a_tuned_model_is_loaded_where_it_fits(
    set_card: Any, times: float, gpus_of_node: int, workers: Any, expected: Any
) -> None:
    set_card(times, gpus_of_node)
    plan, note = plan_engine(make_config(**workers), "tuned")
    assert plan is not None and note is None
    model = plan.model
    assert (model.name, model.template_args, model.max_seqs) == ("tuned", ("a=1",), 1)
    assert (model.tensor_parallel, plan.gpus, model.gpu_memory) == expected


@pytest.mark.parametrize(
    ("times", "gpus_of_node", "workers"),
    [
        (0.9, 1, {"num": 8, "gpus": 1.0}),
        (0.9, 8, {"num": 1, "gpus": 1.0}),
        (2.0, 8, {"num": 8, "gpus": 0.5}),
    ],
)
def test_a_tuned_model_that_fits_nowhere_is_a_note(
    set_card: Any, times: float, gpus_of_node: int, workers: Any
) -> None:
    set_card(times, gpus_of_node)
    plan, note = plan_engine(make_config(**workers), "tuned")
    assert plan is None
    assert note is not None and "its weights, 0.0 GiB, fit on no " in note


def test_the_rounds_of_c3l_say_how_their_model_is_loaded(set_card: Any) -> None:
    set_card(0.01)
    like = GeneratorModel(name="m", revision="r", tensor_parallel=4, max_len=99, dtype="float16")
    plan, note = plan_engine(make_config(num=8, gpus=1.0), "tuned", like)
    assert plan is not None and note is None
    asked = dataclasses.replace(
        like, name="tuned", revision=None, max_seqs=1, gpu_memory=0.9, template_args=("a=1",)
    )
    assert (plan.model, plan.gpus) == (asked, 4)
    plan, _ = plan_engine(make_config(num=2, gpus=0.0), "tuned", like)
    assert plan is not None and plan.gpus == 0
