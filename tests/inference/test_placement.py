"""A scoring model in several places, against the same in one."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from c3l_ray.errors import PreflightError
from c3l_ray.inference.packed_scorer import PackedScorer
from c3l_ray.inference.placement import check_placement, choose_device_map
from c3l_ray.inference.plain_scorer import PlainScorer
from c3l_ray.inference.scorer_checks import TRIAL_TURNS, check_packing, find_logit_transform
from c3l_ray.inference.scoring_model import ScoringModel
from c3l_ray.model_config import ScorerModel
from c3l_ray.scenes import world
from tests.families.checkpoints import FAMILIES, write_checkpoint


def split_in_two(model: Any, elsewhere: str) -> dict[str, str]:
    """The first layer in the one place, the others in the other, as GPUs would have them."""
    layers = [name for name, _ in model.named_modules() if name.endswith("language_model.layers")]
    (prefix,) = layers
    parts = [name for name, _ in model.named_modules() if name.rpartition(".")[0] == prefix]
    decoder = prefix.rpartition(".")[0]
    others = [
        f"{decoder}.{name}" for name, _ in model.get_decoder().named_children() if name != "layers"
    ]
    base = [
        f"model.{name}"
        for name, _ in model.base_model.named_children()
        if f"model.{name}" != decoder
    ]
    here = [*base, *others, "lm_head", parts[0]]
    return {**dict.fromkeys(here, "cpu"), **dict.fromkeys(parts[1:], elsewhere)}


@pytest.mark.parametrize("family", ["shipped", "Qwen2.5-VL"])
@pytest.mark.parametrize("scorer", [PlainScorer, PackedScorer])
def test_a_model_in_several_places_scores_as_in_one(
    tmp_path: Path, family: str, scorer: Any
) -> None:
    """A part lies on disk: what moves inputs and weights between GPUs does it here."""
    name = str(world.LLAVA)
    if family != "shipped":
        (chosen,) = [candidate for candidate in FAMILIES if candidate.name == family]
        name = str(write_checkpoint(chosen, tmp_path / "model"))
    config = ScorerModel(dtype="float32")
    whole = ScoringModel(config, name)
    split = ScoringModel(config, name, device_map=split_in_two(whole.vlm, "disk"))
    assert any(weight.is_meta for weight in split.vlm.parameters()), "nothing lies elsewhere"
    assert find_logit_transform(split) == find_logit_transform(whole)
    check_packing(split, PackedScorer(split), PlainScorer(split))
    for left, right in zip(
        scorer(split).measure(TRIAL_TURNS), scorer(whole).measure(TRIAL_TURNS), strict=True
    ):
        for side in ("image_logprobs", "text_logprobs"):
            assert np.array_equal(getattr(left, side), getattr(right, side))


@pytest.mark.parametrize(("num_gpus", "expected"), [(0, None), (1, None), (2, "auto")])
def test_several_gpus_share_a_model(
    monkeypatch: pytest.MonkeyPatch, num_gpus: int, expected: str | None
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: num_gpus)
    assert choose_device_map() == expected


def test_a_model_that_the_gpus_do_not_hold_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    check_placement("NAME", {"a": 0, "b": 1})
    with pytest.raises(PreflightError, match=r"1 of its 3 parts .* 2 GPUs .* --pools\.scorer-gpus"):
        check_placement("NAME", {"a": 0, "b": 1, "c": "cpu"})
