"""What is proved at the start: the logits are the model's own, packs err no more than rounding."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from c3l_ray.errors import PreflightError
from c3l_ray.inference.logit_transform import LogitTransform
from c3l_ray.inference.model_inputs import ModelInputs
from c3l_ray.inference.packed_scorer import PackedScorer
from c3l_ray.inference.packing import PackingError
from c3l_ray.inference.plain_scorer import PlainScorer
from c3l_ray.inference.rounding import perturb_rounding
from c3l_ray.inference.scorer_checks import (
    TRIAL_TURNS,
    check_causality,
    check_packing,
    compare_prompts,
    find_logit_transform,
    find_trial_turns,
)
from c3l_ray.inference.scoring_model import ScoringModel
from c3l_ray.inference.turn_scorer import TurnScorer, choose_scorer
from c3l_ray.methods.i2c import AnswerEvidence
from c3l_ray.model_config import ScorerModel
from c3l_ray.scenes import world
from tests.inference.builders import MakeConfig


@pytest.fixture(params=["float32", "bfloat16"])
def model(request: pytest.FixtureRequest) -> ScoringModel:
    return ScoringModel(ScorerModel(dtype=request.param), str(world.LLAVA))


def change_own_logits(model: ScoringModel, change: Callable[[Tensor], Tensor]) -> None:
    """Makes the model's own forward pass end with this; like older classes, it keeps all places."""
    forward = model.vlm.forward

    def forward_and_change(**inputs: Any) -> Any:
        output = forward(**inputs)
        output.logits = change(output.logits)
        return output

    model.vlm.forward = forward_and_change


def test_a_model_whose_logits_are_its_heads_keeps_them(model: ScoringModel) -> None:
    assert find_logit_transform(model) == LogitTransform()


@pytest.mark.parametrize(
    ("declared", "transform"),
    [
        ({"final_logit_softcapping": 30.0}, LogitTransform(cap=30.0)),
        ({"logits_scaling": 8.0}, LogitTransform(scale=1 / 8)),  # Granite
        ({"logits_scaling": 0.25}, LogitTransform(scale=0.25)),  # HyperCLOVA X
        ({"logit_scale": 0.0625}, LogitTransform(scale=0.0625)),  # Cohere
        (
            {"output_multiplier": 0.5, "final_logit_softcapping": 20.0},  # Muse Glimmer
            LogitTransform(scale=0.5, cap=20.0),
        ),
    ],
)
def test_the_declared_transform_that_the_model_applies_is_taken(
    model: ScoringModel, declared: dict[str, float], transform: LogitTransform
) -> None:
    for name, value in declared.items():
        setattr(model.vlm.config.text_config, name, value)
    change_own_logits(model, transform.apply)
    assert find_logit_transform(model) == transform


def test_a_declared_transform_that_the_model_does_not_apply_is_not_taken(
    model: ScoringModel,
) -> None:
    """Gemma 3's class for images leaves out the cap that its class for text has."""
    model.vlm.config.text_config.final_logit_softcapping = 30.0
    assert find_logit_transform(model) == LogitTransform()


def test_an_unknown_transform_is_refused_in_one_line(model: ScoringModel) -> None:
    change_own_logits(model, lambda logits: logits.clamp(max=5))
    with pytest.raises(PreflightError) as refusal:
        find_logit_transform(model)
    line = str(refusal.value)
    assert line.startswith(
        f"{world.LLAVA} cannot be scored with: it changes its logits after the output head in a "
        f"way that its config does not declare (they are up to "
    )
    assert "\n" not in line


def test_another_number_of_logits_is_refused(model: ScoringModel) -> None:
    change_own_logits(model, lambda logits: logits[..., :-3])
    num_logits = len(model.head.weight)
    message = f"it computes {num_logits - 3} logits a token, and its output head {num_logits}"
    with pytest.raises(PreflightError, match=message):
        find_logit_transform(model)


def test_a_model_that_cannot_compute_is_refused_by_its_own_words(model: ScoringModel) -> None:
    def fail(logits: Tensor) -> Tensor:
        raise NotImplementedError("no image without its video\nand more")

    change_own_logits(model, fail)
    message = rf"^{world.LLAVA} cannot be scored with: no image without its video$"
    with pytest.raises(PreflightError, match=message):
        find_logit_transform(model)


def test_the_scoring_actor_does_not_start_with_an_unproved_model(
    config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = ScoringModel.__init__

    def load_with_clamped_logits(self: ScoringModel, *args: Any) -> None:
        load(self, *args)
        change_own_logits(self, lambda logits: logits.clamp(max=5))

    monkeypatch.setattr(ScoringModel, "__init__", load_with_clamped_logits)
    with pytest.raises(PreflightError, match="cannot be scored with"):
        TurnScorer(config())


def test_a_blank_before_the_answer_is_no_other_prompt(model: ScoringModel) -> None:
    assert compare_prompts(model) == []


def test_another_prompt_for_posed_questions_is_noted(
    model: ScoringModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply_template = model.processor.apply_chat_template

    def ask_for_turns_otherwise(messages: Any, **options: Any) -> str:
        text: str = apply_template(messages, **options)
        asks_for_turn = "Write it as" in text and options["add_generation_prompt"]
        return text.replace("ASSISTANT:", "ANSWERER:") if asks_for_turn else text

    monkeypatch.setattr(model.processor, "apply_chat_template", ask_for_turns_otherwise)
    (note,) = compare_prompts(model)
    assert note.startswith(f"{world.LLAVA} poses a question after ")
    assert note.endswith("posed_logprob and grounding are of another prompt")


@pytest.mark.parametrize("fault", ["shifted", "missing", "nan"])
def test_packs_whose_posed_side_is_another_are_noticed(
    monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    model = ScoringModel(ScorerModel(dtype="float32"), str(world.LLAVA))
    measure = PackedScorer.measure

    def measure_otherwise(self: PackedScorer, turns: Any) -> list[AnswerEvidence]:
        first, *others = measure(self, turns)
        assert first.posed_logprobs is not None
        posed = {
            "shifted": first.posed_logprobs + 0.01,
            "missing": None,
            "nan": first.posed_logprobs * np.nan,
        }[fault]
        return [replace(first, posed_logprobs=posed), *others]

    check_packing(model, PackedScorer(model), PlainScorer(model))
    monkeypatch.setattr(PackedScorer, "measure", measure_otherwise)
    with pytest.raises(PackingError, match="its scores would differ by"):
        check_packing(model, PackedScorer(model), PlainScorer(model))


def test_trial_turns_that_cannot_be_replies_are_scored_after_their_questions_alone(
    model: ScoringModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a chat template reads JSON as a call of a tool."""
    apply_template = model.processor.apply_chat_template

    def drop_objects(messages: Any, **options: Any) -> str:
        text: str = apply_template(messages, **options)
        return text.replace('{"question"', "{")

    monkeypatch.setattr(model.processor, "apply_chat_template", drop_objects)
    has_instruction = [bool(turn.instruction) for turn in find_trial_turns(model)]
    assert has_instruction == [True, False, False]
    scorer, notes = choose_scorer(model, pack=True)
    assert isinstance(scorer, PackedScorer) and notes == []
    assert compare_prompts(model) == []


def test_the_shipped_model_packs_in_every_precision(model: ScoringModel) -> None:
    check_packing(model, PackedScorer(model), PlainScorer(model))


def test_perturbed_rounding_is_small_repeats_and_ends() -> None:
    model = ScoringModel(ScorerModel(dtype="bfloat16"), str(world.LLAVA))
    scorer = PlainScorer(model)

    def measure() -> list[np.ndarray[Any, Any]]:
        return [answer.image_logprobs for answer in scorer.measure(TRIAL_TURNS)]

    before = measure()
    random_state = torch.random.get_rng_state()
    with perturb_rounding(model.vlm, 0):
        perturbed = measure()
    with perturb_rounding(model.vlm, 0):
        again = measure()
    for left, right, other in zip(before, perturbed, again, strict=True):
        assert 0 < np.abs(left - right).max() < 0.5
        assert np.array_equal(right, other)
    assert all(map(np.array_equal, before, measure()))
    assert torch.equal(torch.random.get_rng_state(), random_state)


def test_a_model_whose_tokens_see_later_ones_is_refused(
    model: ScoringModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the prompt's tokens of PaliGemma do, to which an answer that is given would belong."""
    compute = model.hidden_states
    check_causality(model, PlainScorer(model))

    def see_all(inputs: ModelInputs) -> Tensor:
        hidden_BTD = compute(inputs)
        return hidden_BTD + hidden_BTD.mean(dim=1, keepdim=True)

    monkeypatch.setattr(model, "hidden_states", see_all)
    with pytest.raises(PreflightError, match="its tokens see those that come after them"):
        choose_scorer(model, pack=False)


def test_a_model_that_fails_on_the_trial_turns_is_refused_in_one_line(
    model: ScoringModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_inputs: ModelInputs) -> Tensor:
        raise AssertionError("these are\nnot my inputs")

    monkeypatch.setattr(model, "hidden_states", fail)
    with pytest.raises(PreflightError, match=r"cannot be scored with: these are$"):
        choose_scorer(model, pack=True)


def test_images_that_cannot_share_a_batch_are_scored_one_by_one(
    model: ScoringModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MiniCPM-V's class takes the patches of the first row for those of all rows."""
    expected = PlainScorer(model).measure(TRIAL_TURNS)
    compute = model.hidden_states

    def see_first_image(inputs: ModelInputs) -> Tensor:
        if "pixel_values" in inputs:
            pixels = inputs["pixel_values"]
            inputs = {**inputs, "pixel_values": pixels[:1].expand_as(pixels)}
        return compute(inputs)

    monkeypatch.setattr(model, "hidden_states", see_first_image)
    scorer, (note,) = choose_scorer(model, pack=False)
    assert "scores one turn at a time, which is slower: its scores would differ by" in note
    for found, answer in zip(scorer.measure(TRIAL_TURNS), expected, strict=True):
        assert np.allclose(found.image_logprobs, answer.image_logprobs, atol=0.2)
    scorer, notes = choose_scorer(model, pack=True)
    assert isinstance(scorer, PlainScorer) and len(notes) == 2
