"""What is exported loads in transformers with the logits of what was trained."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText

from c3l_ray.errors import PreflightError
from c3l_ray.scenes import world
from c3l_ray.train.learning import export
from c3l_ray.train.reading.batches import inputs_of
from c3l_ray.train.training_config import Optimization, TrainConfig, Tuned
from c3l_ray.train.reading.encode import encode
from c3l_ray.train.learning.step import Optimizer
from tests.train.records import record

Make = Callable[..., TrainConfig]


def exported(optimizer: Optimizer, folder: Path) -> Path:
    name = optimizer.config.model.name
    original = export.check(name)
    changed = export.changed(optimizer.learner)
    folder.mkdir(exist_ok=True)
    for file, content in export.files(name, {original[each]: w for each, w in changed}):
        (folder / file).write_bytes(content)
    return folder


@pytest.mark.parametrize(
    ("objective", "tune"), [("c3l", "lora"), ("c3l", "full"), ("cgvlm", "adapter")]
)
def test_the_tuned_model_is_what_was_trained(
    train_config: Make, tmp_path: Path, objective: str, tune: Any
) -> None:
    config = train_config(
        objective=objective,
        model=Tuned(name=str(world.LLAVA), tune=tune),
        optim=Optimization(batch_size=2, learning_rate=1e-2),
    )
    optimizer = Optimizer(config, 3, torch.device("cpu"))
    shares = list(encode([record(0), record(1)], config, {}, num_workers=1, rounds=1))
    for step in range(2):
        optimizer.step(step, shares)
    folder = exported(optimizer, tmp_path / "model")
    bare = AutoModelForImageTextToText.from_pretrained(world.LLAVA)
    tuned = AutoModelForImageTextToText.from_pretrained(folder)
    inputs = inputs_of(shares[0])
    with torch.no_grad():
        expected = optimizer.learner.eval().model(**inputs).logits
        found = tuned(**inputs).logits
        before = bare(**inputs).logits
    assert torch.allclose(found, expected, atol=1e-4)
    assert (found - before).abs().max() > 0.1
    ours, theirs = (load_file(path / "model.safetensors") for path in (folder, world.LLAVA))
    assert {name: w.shape for name, w in ours.items()} == {n: w.shape for n, w in theirs.items()}
    assert sorted(p.name for p in folder.iterdir()) == sorted(p.name for p in world.LLAVA.iterdir())
    same = [name for name in ours if ours[name].equal(theirs[name])]
    assert any("vision_tower" in name for name in same)  # what did not learn is bit for bit there


def test_every_weight_has_one_name_in_the_original() -> None:
    names = export.check(str(world.LLAVA))
    original = load_file(world.LLAVA / "model.safetensors")
    assert sorted(names.values()) == sorted(original)
    assert names["lm_head.weight"] == "language_model.lm_head.weight"
    assert (
        names["model.language_model.layers.1.self_attn.q_proj.weight"]
        == "language_model.model.layers.1.self_attn.q_proj.weight"
    )
    assert (
        names["model.vision_tower.encoder.layers.1.self_attn.q_proj.weight"]
        == "vision_tower.vision_model.encoder.layers.1.self_attn.q_proj.weight"
    )


def test_weights_in_several_files_stay_in_them(train_config: Make, tmp_path: Path) -> None:
    name = tmp_path / "split"
    shutil.copytree(world.LLAVA, name)
    weights = load_file(name / "model.safetensors")
    (name / "model.safetensors").unlink()
    halves = sorted(weights)[::2], sorted(weights)[1::2]
    index = {}
    for number, half in enumerate(halves, start=1):
        file = f"model-{number:05d}-of-00002.safetensors"
        save_file({each: weights[each] for each in half}, name / file, metadata={"format": "pt"})
        index |= dict.fromkeys(half, file)
    (name / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": index})
    )
    config = train_config(model=Tuned(name=str(name)), optim=Optimization(batch_size=1))
    optimizer = Optimizer(config, 2, torch.device("cpu"))
    shares = list(encode([record(0)], config, {}, num_workers=1, rounds=1))
    optimizer.step(0, shares)
    folder = exported(optimizer, tmp_path / "model")
    for half, file in zip(halves, sorted(set(index.values())), strict=True):
        assert sorted(load_file(folder / file)) == half
    tuned = AutoModelForImageTextToText.from_pretrained(folder)
    inputs = inputs_of(shares[0])
    with torch.no_grad():
        expected = optimizer.learner.eval().model(**inputs).logits
        assert torch.allclose(tuned(**inputs).logits, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("held_otherwise", "message"),
    [
        (
            "language_model.model.layers.0.mlp.gate_proj.weight",
            "1 weights cannot be told from each other",
        ),
        (
            "vision_tower.vision_model.embeddings.patch_embedding.weight",
            "is not in its files as the",
        ),
    ],
)
def test_a_model_whose_files_hold_weights_otherwise_is_refused(
    tmp_path: Path, held_otherwise: str, message: str
) -> None:
    name = tmp_path / "halves"
    shutil.copytree(world.LLAVA, name)
    weights = load_file(name / "model.safetensors")
    whole = weights.pop(held_otherwise)
    weights["language_model.model.first_half"] = whole[:7].clone()
    save_file(weights, name / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(PreflightError, match=message):
        export.check(str(name))


def test_a_model_without_safetensors_is_refused(tmp_path: Path) -> None:
    name = tmp_path / "bin"
    shutil.copytree(world.LLAVA, name)
    torch.save(load_file(name / "model.safetensors"), name / "pytorch_model.bin")
    (name / "model.safetensors").unlink()
    with pytest.raises(PreflightError, match="no weights in safetensors"):
        export.check(str(name))
