"""The checks for a GPU, run with a tiny model on what this machine has."""

import sys
from pathlib import Path

import pytest
import torch

from c3l_ray.inference.scoring_model import ScoringModel
from c3l_ray.model_config import ScorerModel
from tests.bench.random_llava import SIZES, write_checkpoint
from tests.gpu import check
from tests.gpu.measure import Table


def test_a_tiny_model_passes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["check", "--tiny"])
    assert check.main() == 0
    table = capsys.readouterr().out
    assert "FAILED" not in table and table.count("| ok |") == 9
    assert all(f"| {what}" in table for what in ("scorer, packed", "step of 2 images, defaults"))


def test_without_a_gpu_a_7b_is_not_begun(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["check"])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert check.main() == 2
    assert "no GPU is here" in capsys.readouterr().out


def test_a_head_that_rounds_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_checkpoint(tmp_path / "model", SIZES["tiny"], 16, dtype=torch.bfloat16)
    model = ScoringModel(ScorerModel(dtype="bfloat16"), str(folder))
    table = Table()
    check.check_head(model, table)
    assert table.num_failures == 0
    monkeypatch.setattr(model, "head_logits", lambda hidden_ND: model.head(hidden_ND).float())
    check.check_head(model, table)
    assert table.num_failures == 1
