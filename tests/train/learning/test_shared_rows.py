"""Texts of an image that share what they begin with, against each in a row of its own."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from c3l_ray.inference.pack_attention import PackAttention
from c3l_ray.inference.packing import PackingError
from c3l_ray.scenes import world
from c3l_ray.train.learning.learner import Learner
from c3l_ray.train.learning.loading import load_learner, trainable_parameters
from c3l_ray.train.learning.shared_rows import select_images, select_texts, share_prefixes
from c3l_ray.train.learning.trainer import Trainer
from c3l_ray.train.objectives import Answers, Contrast
from c3l_ray.train.reading.batches import MicroBatch
from c3l_ray.train.training_config import ModelToTune
from tests.families.checkpoints import FAMILIES, Family, write_checkpoint
from tests.train.learning.builders import CPU, encode_scenes, make_batch
from tests.train.records import MakeTrainConfig

NEEDS_LORA = ("pairs", "full")
ALWAYS = {"Qwen2.5-VL", "Gemma 3"}  # the rest take the marker `families`
# Layers of linear attention, and image features that are added to several layers' tokens.
NOT_SHARED = [
    family for family in FAMILIES if not family.packs or family.slug.startswith("granite")
]


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(None, id="shipped"),
        *(
            pytest.param(
                family, marks=[] if family.name in ALWAYS else pytest.mark.families, id=family.slug
            )
            for family in FAMILIES
            if family not in NOT_SHARED
        ),
    ],
)
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if request.param is None:
        return world.LLAVA
    return write_checkpoint(request.param, tmp_path_factory.mktemp(request.param.slug))


def compute(learner: Learner, micro_batch: MicroBatch) -> tuple[dict[str, float], Tensor]:
    """The sums, and the gradients in one vector."""
    learner.zero_grad()
    sums = learner(micro_batch)
    sums["loss"].backward()
    gradients = [weight.grad for _, weight in trainable_parameters(learner)]
    gradient = torch.cat([grad.flatten() for grad in gradients if grad is not None])
    return {name: value.item() for name, value in sums.items()}, gradient


LOSSES: dict[str, dict[str, Any]] = {
    "hidden": {"contrast": Contrast()},
    "embedding": {"contrast": Contrast(representation="embedding")},
    "description": {"contrast": Contrast(anchor="description", in_batch_negatives=True)},
    "likelihood": {"contrast": Contrast(similarity="likelihood")},
    "pairs": {"objective": "answers", "answers": Answers(pair_weight=1.0)},
}


@pytest.mark.parametrize(
    ("loss", "tune"),
    [(loss, tune) for loss in LOSSES for tune in ("lora", "full") if (loss, tune) != NEEDS_LORA],
)
def test_losses_and_gradients_are_those_of_rows_of_their_own(
    train_config: MakeTrainConfig, checkpoint: Path, loss: str, tune: Any
) -> None:
    model = ModelToTune(name=str(checkpoint), tune=tune)
    config = train_config(model=model, **LOSSES[loss])
    learner = load_learner(config, torch.float32, CPU).train()
    micro_batch = encode_scenes(config, 0, 1)
    expected_sums, expected_gradient = compute(learner, micro_batch)
    learner.attention = PackAttention(learner.head.vlm.config)
    lengths: list[int] = []
    learner.head.vlm.base_model.register_forward_pre_hook(
        lambda _model, _args, inputs: lengths.append(inputs["input_ids"].numel()), with_kwargs=True
    )
    sums, gradient = compute(learner, micro_batch)
    assert lengths[-1] < 0.8 * micro_batch["input_ids"].numel()
    assert sums == pytest.approx(expected_sums, rel=1e-5, abs=1e-5)
    assert (gradient - expected_gradient).norm() < 1e-5 * expected_gradient.norm()
    learner.attention.make_masks = lambda ends_BL, *_: torch.ones(  # type: ignore[method-assign]
        len(ends_BL), 1, ends_BL.shape[1], ends_BL.shape[1], dtype=torch.bool
    ).tril()
    wrong_sums, wrong_gradient = compute(learner, micro_batch)
    if loss != "embedding":  # no mask changes those
        assert wrong_sums != pytest.approx(expected_sums, rel=1e-3)
    assert (wrong_gradient - expected_gradient).norm() > 1e-3 * expected_gradient.norm()


@pytest.mark.families
@pytest.mark.parametrize("family", NOT_SHARED, ids=lambda family: family.slug)
def test_a_family_that_cannot_share_says_so(
    train_config: MakeTrainConfig, tmp_path: Path, family: Family
) -> None:
    name = str(write_checkpoint(family, tmp_path / "model"))
    config = train_config(model=ModelToTune(name=name))
    trainer = Trainer(config, 10, CPU)
    (note,) = trainer.share_prefixes(make_batch(config, 0)[0])
    assert "computes an image once for each of its texts" in note
    assert trainer.learner.attention is None


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_what_is_proved_at_the_start_changes_nothing_but_the_rows(
    train_config: MakeTrainConfig, precision: Any
) -> None:
    model = ModelToTune(name=str(world.LLAVA), precision=precision, lora_dropout=0.1)
    config = train_config(model=model)
    trainer = Trainer(config, 10, CPU)
    state = torch.random.get_rng_state()
    assert trainer.share_prefixes(make_batch(config, 0)[0]) == []
    assert trainer.learner.attention is not None
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(weight.grad is None for weight in trainer.parameters)
    assert all(module.training for module in trainer.learner.modules())


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_prefixes_that_give_other_numbers_are_not_shared(
    train_config: MakeTrainConfig, monkeypatch: pytest.MonkeyPatch, precision: Any
) -> None:
    def see_all_before(_: PackAttention, ends_BL: Tensor, *__: Any) -> Tensor:
        length = ends_BL.shape[1]
        return torch.ones(len(ends_BL), 1, length, length, dtype=torch.bool).tril()

    monkeypatch.setattr(PackAttention, "make_masks", see_all_before)
    config = train_config(model=ModelToTune(name=str(world.LLAVA), precision=precision))
    trainer = Trainer(config, 10, CPU)
    (note,) = trainer.share_prefixes(make_batch(config, 0)[0])
    assert note.startswith(f"{world.LLAVA} computes an image once for each of its texts") and (
        "would differ by" in note
    )
    assert trainer.learner.attention is None


def test_a_model_whose_layers_are_not_known_shares_nothing(train_config: MakeTrainConfig) -> None:
    config = train_config()
    trainer = Trainer(config, 10, CPU)
    trainer.learner.head.vlm.config.get_text_config().layer_types = ["linear_attention"]
    (note,) = trainer.share_prefixes(make_batch(config, 0)[0])
    assert note.endswith("it has layers of linear_attention")


def test_one_text_an_image_is_nothing_to_share(train_config: MakeTrainConfig) -> None:
    config = train_config(objective="cgvlm")
    trainer = Trainer(config, 10, CPU)
    assert trainer.share_prefixes(make_batch(config, 0)[0]) == []
    assert trainer.learner.attention is None


def make_inputs(num_tokens: list[int], pixels: Tensor) -> MicroBatch:
    length = max(num_tokens) + 1
    ids_RT = torch.zeros(len(num_tokens), length, dtype=torch.long)
    for row, count in enumerate(num_tokens):
        ids_RT[row, :count] = 9
    return {"input_ids": ids_RT, "pixel_values": pixels}


@pytest.mark.parametrize(
    ("num_tokens", "num_parts", "expected"),
    [
        ([4, 4, 6], 3, [1]),  # one of each text
        ([4, 4, 6], 7, [2, 3]),  # two, two and three crops
        ([1, 1, 3], 20, [4, 5, 6, 7]),  # patches
    ],
)
def test_the_parts_of_an_image_are_found_by_the_number_of_its_tokens(
    num_tokens: list[int], num_parts: int, expected: list[int]
) -> None:
    micro_batch = make_inputs(num_tokens, torch.arange(num_parts))
    selected = select_images(micro_batch, torch.tensor([1]), 9)
    assert selected["pixel_values"].tolist() == expected


def test_parts_that_belong_to_no_image_for_certain_are_refused() -> None:
    with pytest.raises(PackingError, match="which part of pixel_values"):
        select_images(make_inputs([4, 4, 5], torch.arange(7)), torch.tensor([0]), 9)


def test_a_micro_batch_of_one_of_its_images_has_that_ones_losses(
    train_config: MakeTrainConfig,
) -> None:
    config = train_config()
    learner = load_learner(config, torch.float32, CPU)
    both = encode_scenes(config, 0, 1)
    second = select_texts(both, 1, learner.image_token)
    sums = {name: value.item() for name, value in learner(second).items()}
    expected = {name: value.item() for name, value in learner(encode_scenes(config, 1)).items()}
    assert sums == pytest.approx(expected, abs=1e-5)


def test_shared_rows_hold_each_token_once(train_config: MakeTrainConfig) -> None:
    config = train_config()
    learner = load_learner(config, torch.float32, CPU)
    micro_batch = encode_scenes(config, 0, 1)
    vlm = learner.head.vlm
    inputs, rows = share_prefixes(micro_batch, vlm, PackAttention(vlm.config), learner.image_token)
    is_token_RT = micro_batch["attention_mask"] > 0
    shared_RT = inputs["input_ids"][rows.row_R[:, None], rows.place_RT]
    assert torch.equal(shared_RT[is_token_RT], micro_batch["input_ids"][is_token_RT])
    num_image_tokens = (inputs["input_ids"] == learner.image_token).sum(dim=1)
    assert num_image_tokens.tolist() == [36, 36] and len(inputs["pixel_values"]) == 2


def test_tokens_are_counted_as_often_as_they_are_read(train_config: MakeTrainConfig) -> None:
    config = train_config()
    trainer = Trainer(config, 10, CPU)
    batch = make_batch(config, 0)
    num_read: list[int] = []

    def count(_model: Any, _args: Any, inputs: dict[str, Any]) -> None:
        mask_BLL = inputs["attention_mask"][:, 0]
        # A place of padding sees itself alone and is seen by no other.
        num_read.append(int((mask_BLL.sum(dim=1) + mask_BLL.sum(dim=2) > 2).sum()))

    plain = trainer.count_tokens(batch)
    trainer.share_prefixes(batch[0])
    trainer.learner.head.vlm.base_model.register_forward_pre_hook(count, with_kwargs=True)
    trainer.backward(batch)
    assert trainer.count_tokens(batch) == sum(num_read) < 0.6 * plain
