"""Layers of experts, as the published Qwen3-VL-30B-A3B has them: scored, and not tuned."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from c3l_ray.errors import PreflightError
from c3l_ray.inference.packed_scorer import PackedScorer
from c3l_ray.inference.scorer_checks import find_logit_transform
from c3l_ray.inference.scoring_model import ScoringModel
from c3l_ray.inference.turn_scorer import choose_scorer
from c3l_ray.model_config import ScorerModel
from c3l_ray.train.learning.export import check_exportable
from tests.families import chatml
from tests.families.checkpoints import Family, write_checkpoint

FAMILY = Family(
    name="Qwen3-VL-MoE", model_type="qwen3_vl_moe", build=chatml.build_qwen_3_vl_moe, spaced=False
)


def test_experts_are_scored_and_not_tuned(tmp_path: Path) -> None:
    folder = write_checkpoint(FAMILY, tmp_path / "model")
    file = folder / "model.safetensors"
    weights = load_file(file)
    experts = {name: weight for name, weight in weights.items() if ".experts." in name}
    assert len(experts) == 2 * 3
    # Published files have the two axes of each expert the other way round.
    published = {name: weight.transpose(1, 2).contiguous() for name, weight in experts.items()}
    save_file({**weights, **published}, file, metadata={"format": "pt"})
    model = ScoringModel(ScorerModel(dtype="float32"), str(folder))
    loaded = model.vlm.state_dict()
    assert all(torch.equal(loaded[name], weight) for name, weight in experts.items())
    model.logit_transform = find_logit_transform(model)
    scorer, notes = choose_scorer(model, pack=True)  # which compares packs with plain rows
    assert isinstance(scorer, PackedScorer) and notes == []
    with pytest.raises(PreflightError, match=r"cannot map weight \S*experts\.gate_up_proj"):
        check_exportable(str(folder))
