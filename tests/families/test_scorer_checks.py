"""What the checks at the scorer's start make of families: of the tested ones, and of newer ones."""

from pathlib import Path

import numpy as np
import pytest
import torch

from c3l_ray.inference.logit_transform import LogitTransform
from c3l_ray.inference.packed_scorer import PackedScorer
from c3l_ray.inference.plain_scorer import PlainScorer
from c3l_ray.inference.scorer_checks import (
    ROUNDING_IN_HALF,
    TRIAL_TURNS,
    compare_prompts,
    find_logit_transform,
)
from c3l_ray.inference.scoring_model import ScoringModel
from c3l_ray.inference.turn_scorer import TurnScorer, choose_scorer
from c3l_ray.model_config import Dtype, ScorerModel
from tests.families import chatml, templates
from tests.families.checkpoints import FAMILIES, Family, write_checkpoint
from tests.families.conftest import Checkpoint
from tests.inference.builders import MakeConfig

GEMMA_3 = next(family for family in FAMILIES if family.name == "Gemma 3")
GEMMA_4 = next(family for family in FAMILIES if family.name == "Gemma 4")
QWEN_3 = Family(name="Qwen3", model_type="qwen3_vl", build=chatml.build_qwen_3_vl, spaced=False)


@pytest.fixture(scope="module")
def gemma_4(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(GEMMA_4, tmp_path_factory.mktemp("gemma-4"))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_tested_family_passes_as_it_is(checkpoint: Checkpoint, dtype: Dtype) -> None:
    family = checkpoint.family
    model = ScoringModel(ScorerModel(dtype=dtype), str(checkpoint.folder))
    model.logit_transform = find_logit_transform(model)
    assert model.logit_transform == family.transform
    assert compare_prompts(model) == []
    scorer, notes = choose_scorer(model, pack=True)
    assert isinstance(scorer, PackedScorer if family.packs else PlainScorer)
    assert len(notes) == len(family.scorer_notes)
    assert all(part in note for part, note in zip(family.scorer_notes, notes, strict=True))


def own_logprobs(model: ScoringModel, *, with_image: bool) -> list[np.ndarray]:
    """Of each trial turn, ln p of its answer's tokens by the model's own forward pass."""
    logprobs = []
    for turn in TRIAL_TURNS:
        tokenized = model.tokenize_turn(turn, with_image=with_image)
        inputs = model.process_turn(turn, turn.image if with_image else None)
        num_added = inputs["input_ids"].shape[1] - len(tokenized.ids)
        first = tokenized.answer_start + num_added - 1
        with torch.inference_mode():
            logits_TV = model.vlm(**inputs).logits[0].log_softmax(-1)
        places = range(first, first + len(tokenized.answer_ids))
        logprobs.append(logits_TV[list(places), tokenized.answer_ids].numpy())
    return logprobs


@pytest.mark.parametrize("pack", [True, False], ids=["packed", "plain"])
def test_capped_logits_are_scored_as_the_model_computes_them(
    config: MakeConfig, gemma_4: Path, pack: bool
) -> None:
    scorer_config = ScorerModel(name=str(gemma_4), dtype="float32", pack=pack)
    turn_scorer = TurnScorer(config(scorer=scorer_config))
    model, scorer = turn_scorer.model, turn_scorer.scorer
    assert isinstance(scorer, PackedScorer if pack else PlainScorer)
    assert model.logit_transform == LogitTransform(cap=30.0)

    def largest_difference() -> float:
        evidence = scorer.measure(TRIAL_TURNS)
        return max(
            float(np.abs(getattr(answer, side) - own).max())
            for side, with_image in (("image_logprobs", True), ("text_logprobs", False))
            for answer, own in zip(
                evidence, own_logprobs(model, with_image=with_image), strict=True
            )
        )

    assert largest_difference() < 1e-4
    model.logit_transform = LogitTransform()
    assert largest_difference() > 0.1  # by the head alone


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_cap_is_found_in_half_precision(gemma_4: Path, dtype: Dtype) -> None:
    model = ScoringModel(ScorerModel(dtype=dtype), str(gemma_4))
    assert find_logit_transform(model) == LogitTransform(cap=30.0)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_packs_whose_image_tokens_do_not_see_each_other_are_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: Dtype
) -> None:
    folder = write_checkpoint(GEMMA_3, tmp_path / "gemma-3")
    model = ScoringModel(ScorerModel(dtype=dtype), str(folder))
    start = PackedScorer.__init__

    def start_blind(self: PackedScorer, model: ScoringModel) -> None:
        start(self, model)
        self.attention.image_sees_itself = False

    monkeypatch.setattr(PackedScorer, "__init__", start_blind)
    packed, plain = (kind(model).measure(TRIAL_TURNS) for kind in (PackedScorer, PlainScorer))
    differences = [
        np.abs(left.image_logprobs - right.image_logprobs)
        for left, right in zip(packed, plain, strict=True)
    ]
    assert np.concatenate(differences).max() < ROUNDING_IN_HALF  # which alone lets them pass
    scorer, (note,) = choose_scorer(model, pack=True)
    assert isinstance(scorer, PlainScorer)
    assert "scores without packing, which is slower: its scores would differ by" in note


def test_a_template_that_opens_a_thought_has_a_note(config: MakeConfig, tmp_path: Path) -> None:
    folder = write_checkpoint(QWEN_3, tmp_path / QWEN_3.slug)
    (folder / "chat_template.jinja").write_text(templates.QWEN_3_VL_THINKING)
    turn_scorer = TurnScorer(config(scorer=ScorerModel(name=str(folder), dtype="float32")))
    (note,) = (note for note in turn_scorer.notes if "continues after" in note)
    start, _, rest = note.partition(" when it generates, but is scored after ")
    assert start.startswith(f"{folder} continues after ")
    assert start.endswith(r"<|im_start|>assistant\n<think>\n'")
    scored = r"<|im_start|>assistant\n<think>\n\n</think>\n\n'"
    assert rest.endswith(f"{scored}; its scores are of another prompt")
