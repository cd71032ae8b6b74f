"""Families that cannot score: they are refused before a job starts, and the message says why."""

import json
from pathlib import Path

import pytest

from c3l_ray.errors import PreflightError
from c3l_ray.inference.model_check import check_model
from c3l_ray.inference.turn_scorer import TurnScorer
from c3l_ray.model_config import ScorerModel
from c3l_ray.train.reading.encode import check_takes_text
from tests.families import paligemma
from tests.families.checkpoints import Family, write_checkpoint
from tests.inference.builders import MakeConfig

PALIGEMMA = Family(
    name="PaliGemma", model_type="paligemma", build=paligemma.build_paligemma, spaced=False
)


def test_paligemma_has_no_chat_template(tmp_path: Path) -> None:
    folder = write_checkpoint(PALIGEMMA, tmp_path / "paligemma")
    with pytest.raises(PreflightError, match="has no chat template, so it cannot be asked"):
        check_model("--model.name", str(folder))


def test_paligemma_with_a_template_neither_scores_nor_tunes(
    tmp_path: Path, config: MakeConfig
) -> None:
    folder = write_checkpoint(PALIGEMMA, tmp_path / "paligemma")
    (folder / "chat_template.jinja").write_text(paligemma.TEMPLATE)
    check_model("--model.name", str(folder))
    with pytest.raises(PreflightError, match="takes no text without an image, and the scores"):
        TurnScorer(config(scorer=ScorerModel(name=str(folder), dtype="float32")))
    with pytest.raises(PreflightError, match="takes no text without an image, so it cannot be"):
        check_takes_text(str(folder))


def test_molmo_is_unknown_to_transformers(tmp_path: Path) -> None:
    config = {"model_type": "molmo", "architectures": ["MolmoForCausalLM"]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(PreflightError, match=r"cannot be read as a model: .*`molmo`"):
        check_model("--model.name", str(tmp_path))
