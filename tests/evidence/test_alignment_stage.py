"""Alignment and its students: the adapter, the data, the flags, and the measures."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from c3l_ray.scenes.draw import Scene
from c3l_ray.scenes.truth import judge_turn
from c3l_ray.scenes.world import LLAVA
from c3l_ray.train.reading.dataset_source import DatasetSource
from c3l_ray.train.training_config import ConversationLayout, TrainConfig
from tests.evidence import product
from tests.evidence.alignment_stage import (
    ALIGNMENT_FLAGS,
    INSTRUCTION_FLAGS,
    LOSSES,
    describe_to_caption,
    draw_adapter_anew,
    draw_conversation,
    summarize_alignment,
    write_samples,
)
from tests.evidence.arm_tables import format_alignment_tables
from tests.evidence.stages import Stage, StageResult
from tests.evidence.tables import index_measures
from tests.evidence.worlds import SceneSet


def make_result(arm: str, content: dict[str, Any]) -> StageResult:
    stage = Stage(question="alignment", arm=arm, seed=0, settings={}, run=None)
    return StageResult(stage=stage, seconds=1.0, commit="unknown", content=content)


def test_an_adapter_is_drawn_anew_and_nothing_else_changes(tmp_path: Path) -> None:
    (shipped,) = LLAVA.glob("*.safetensors")
    before = load_file(shipped)
    after = load_file(draw_adapter_anew(tmp_path / "first", 0) / shipped.name)
    again = load_file(draw_adapter_anew(tmp_path / "second", 0) / shipped.name)
    other = load_file(draw_adapter_anew(tmp_path / "third", 1) / shipped.name)
    for name, weights in before.items():
        is_of_adapter = "multi_modal_projector" in name
        assert torch.equal(weights, after[name]) != is_of_adapter, name
        assert torch.equal(other[name], after[name]) != is_of_adapter, name
        assert torch.equal(again[name], after[name]), name


@pytest.mark.parametrize("turns_of", [describe_to_caption, draw_conversation])
def test_captions_and_instructions_are_true_samples_that_training_reads(
    tmp_path: Path, turns_of: Callable[[Scene], list[tuple[str, str]]]
) -> None:
    scenes = SceneSet(purpose="captions", seed=0, sizes={"unbiased": 3})
    path = write_samples(tmp_path, scenes, turns_of)
    source = DatasetSource((str(path),), ConversationLayout(image_root=str(tmp_path)), "turns")
    records = [record for _, rows in source.texts() for record in rows]
    samples = json.loads(path.read_text())
    for scene, sample, record in zip(scenes.draw(), samples, records, strict=True):
        assert record["error"] is None
        assert len(record["turns"]) == len(sample["conversations"]) // 2
        said = [turn["value"].removeprefix("<image>\n") for turn in sample["conversations"]]
        for question, answer in zip(said[::2], said[1::2], strict=True):
            assert judge_turn(scene, question, answer) == "true", (question, answer)


@pytest.mark.parametrize("flags", LOSSES.values(), ids=LOSSES)
def test_the_flags_of_alignment_are_those_of_the_training(flags: tuple[str, ...]) -> None:
    paths = ("--input", "captions.json", "--output", "tuned")
    of_adapter = (*product.TRAINING_FLAGS, *ALIGNMENT_FLAGS, *flags, *paths)
    assert product.parse_flags(TrainConfig, of_adapter).objective == "cgvlm"
    of_student = (*product.TRAINING_FLAGS, *INSTRUCTION_FLAGS, *paths)
    assert product.parse_flags(TrainConfig, of_student).objective == "conversations"


def test_a_student_is_compared_with_the_one_that_learnt_as_much_without_the_contrast() -> None:
    def make_answers(truths: str) -> dict[str, Any]:
        rows = [
            {"scene": f"unbiased {n}", "kind": "short", "truth": "true" if t == "1" else "false"}
            for n, t in enumerate(truths)
        ]
        asked = {"kind": "presence", "present": True, "says_yes": True}
        return {"answers": [*rows, {**rows[0], **asked}]}

    found = index_measures(
        summarize_alignment(
            [
                make_result("10_percent_plain", make_answers("0100")),
                make_result("10_percent_contrastive", make_answers("0111")),
                make_result("20_percent_contrastive", make_answers("1111")),
            ]
        )
    )
    group = "questions of all kinds"
    assert found["true, 10_percent_contrastive", group].interval.estimate == 0.75
    difference = found["true, 10_percent_contrastive less 10_percent_plain", group]
    assert difference.interval.estimate == 0.5
    assert not any("20_percent_contrastive less" in measure for measure, _ in found)
    (table, *_) = [part for part in format_alignment_tables(found) if part.startswith("| share")]
    assert "| 10 % | - | 25.0 [0.0, 75.0] | 75.0" in table
