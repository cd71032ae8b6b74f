"""What is refused because it cannot fit, and the sum that says so."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from transformers import LlavaConfig

from c3l_ray.errors import PreflightError
from c3l_ray.train.learning import memory
from c3l_ray.train.learning.memory import GIB, check_memory, estimate_memory
from c3l_ray.train.reading.batches import MicroBatch
from c3l_ray.train.training_config import ModelToTune, Optimization, TrainConfig, Workers
from tests.train.learning.builders import encode_scenes
from tests.train.records import MakeTrainConfig


@pytest.fixture(scope="module")
def seven_billion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The config of LLaVA-1.5-7B, without its weights."""
    folder = tmp_path_factory.mktemp("7b")
    text = {
        "model_type": "llama",
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "vocab_size": 32064,
    }
    vision = {
        "model_type": "clip_vision_model",
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "image_size": 336,
        "patch_size": 14,
    }
    LlavaConfig(vision_config=vision, text_config=text).save_pretrained(folder)
    return folder


def make_config(make: MakeTrainConfig, folder: Path, *, tune: Any = "lora", **model: Any) -> Any:
    return make(model=ModelToTune(name=str(folder), tune=tune, **model))


@pytest.fixture
def image(train_config: MakeTrainConfig) -> MicroBatch:
    return encode_scenes(train_config(), 0)


def test_the_weights_are_counted_as_they_are_held(
    train_config: MakeTrainConfig, seven_billion: Path, image: MicroBatch
) -> None:
    estimate = estimate_memory(make_config(train_config, seven_billion), [image])
    assert estimate.weights / GIB == pytest.approx(13.3, abs=0.2)  # 7.06e9 in bfloat16, and LoRA
    assert estimate.gradients / GIB == pytest.approx(3 * 40e6 * 4 / GIB, rel=0.05)
    full = estimate_memory(make_config(train_config, seven_billion, tune="full"), [image])
    assert (full.weights + full.gradients) / GIB == pytest.approx(
        (16 * 6.74e9 + 4 * 0.33e9) / GIB, rel=0.01
    )


def test_activations_are_those_of_the_tokens_that_texts_share(
    train_config: MakeTrainConfig, seven_billion: Path, image: MicroBatch
) -> None:
    twice, once = (
        estimate_memory(
            make_config(train_config, seven_billion, activation_checkpointing=choice), [image]
        )
        for choice in ("auto", "off")
    )
    plain_tokens = 4 * image["input_ids"].numel()
    assert twice.tokens == once.tokens < 0.6 * plain_tokens
    assert once.activations == pytest.approx(52 * once.tokens * 4096 * 32)
    assert twice.activations == pytest.approx((2 * 32 + 52) * once.tokens * 4096)


def test_workers_share_weights_and_no_activations(
    train_config: MakeTrainConfig, seven_billion: Path, image: MicroBatch
) -> None:
    config = make_config(train_config, seven_billion)
    whole = estimate_memory(config, [image])
    shared = estimate_memory(
        dataclasses.replace(
            config,
            workers=Workers(num=8, sharding="fsdp"),
            optim=Optimization(batch_size=32, micro_batch=4),
        ),
        [image],
    )
    assert shared.weights * 8 == pytest.approx(whole.weights)
    assert shared.activations == whole.activations


def test_what_cannot_fit_is_refused_with_the_sum(
    train_config: MakeTrainConfig, seven_billion: Path, image: MicroBatch
) -> None:
    config: TrainConfig = make_config(train_config, seven_billion, tune="full")
    with pytest.raises(PreflightError) as refusal:
        check_memory(config, [image], 80 * GIB)
    message = str(refusal.value)
    assert "GiB of weights + 75." in message and "and its GPU has 80.0" in message
    assert "--workers.sharding fsdp" in message and "--model.tune lora" in message
    assert check_memory(config, [image], None) is None, "a CPU is not checked"
    lora = make_config(train_config, seven_billion)
    assert check_memory(lora, [image], 80 * GIB) is not None
    with pytest.raises(PreflightError, match=r"lower --optim\.micro-batch 4"):
        check_memory(
            make_config(train_config, seven_billion, activation_checkpointing="off"),
            [{**image, **_repeat(image, 12)}],
            24 * GIB,
        )


def test_longest_images_that_do_not_fit_are_warned_of(
    train_config: MakeTrainConfig,
    seven_billion: Path,
    image: MicroBatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = make_config(train_config, seven_billion, activation_checkpointing="off")
    images = [image] * 7
    assert check_memory(config, images, 40 * GIB) is not None and not caplog.messages
    long = {**image, **_repeat(image, 12)}
    assert check_memory(config, [*images, long], 40 * GIB) is not None
    (message,) = caplog.messages
    assert "like the longest of the first 8 needs" in message and "GPU has 40.0" in message
    assert "lower --optim.micro-batch 4" in message


def _repeat(image: MicroBatch, times: int) -> MicroBatch:
    """Longer texts."""
    return {name: image[name].repeat(1, times) for name in ("input_ids", "attention_mask")}


@pytest.mark.parametrize(
    ("gigabytes", "max_gpus", "expected"),
    [
        (80, 1, 1),
        (15, 8, 2),  # 12.55 GiB of weights in four fifths of 15 are none on one
        (4, 8, 4),
        (3, 8, 8),  # 6 would hold it, and do not divide 32 heads
        (3, 7, None),
        (1, 8, None),
    ],
)
def test_an_engine_is_given_as_few_gpus_as_hold_the_weights(
    monkeypatch: pytest.MonkeyPatch,
    seven_billion: Path,
    gigabytes: int,
    max_gpus: int,
    expected: int | None,
) -> None:
    shapes = {"big": [6_738_000_000 // 4096, 4096]}
    monkeypatch.setattr(memory, "read_shapes", lambda _: shapes)
    model = ModelToTune(name=str(seven_billion))
    assert memory.count_engine_bytes(model) / GIB == pytest.approx(12.55, abs=0.01)
    found = memory.count_engine_gpus(model, gigabytes * GIB, max_gpus)
    assert found == expected
