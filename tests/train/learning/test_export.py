"""The tuned model loads in transformers with the logits of what was trained."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText

from c3l_ray.errors import PreflightError
from c3l_ray.scenes import world
from c3l_ray.train.learning import export
from c3l_ray.train.learning.trainer import Trainer
from c3l_ray.train.reading.batches import model_inputs
from c3l_ray.train.training_config import ModelToTune, Optimization
from tests.train.learning.builders import CPU, encode_scenes, write_tuned_model
from tests.train.records import MakeTrainConfig


@pytest.mark.parametrize(
    ("objective", "tune"), [("c3l", "lora"), ("c3l", "full"), ("cgvlm", "adapter")]
)
def test_the_tuned_model_is_what_was_trained(
    train_config: MakeTrainConfig, tmp_path: Path, objective: str, tune: Any
) -> None:
    config = train_config(
        objective=objective,
        model=ModelToTune(name=str(world.LLAVA), tune=tune),
        optim=Optimization(batch_size=2, learning_rate=1e-2),
    )
    trainer = Trainer(config, 3, CPU)
    micro_batch = encode_scenes(config, 0, 1)
    for step in range(2):
        trainer.step(step, [micro_batch])
    folder = write_tuned_model(trainer, tmp_path / "model")
    bare_model = AutoModelForImageTextToText.from_pretrained(world.LLAVA)
    tuned_model = AutoModelForImageTextToText.from_pretrained(folder)
    inputs = model_inputs(micro_batch)
    with torch.no_grad():
        expected = trainer.learner.eval().model(**inputs).logits
        logits = tuned_model(**inputs).logits
        bare_logits = bare_model(**inputs).logits
    assert torch.allclose(logits, expected, atol=5e-4)  # rounding, of logits up to 35
    assert (logits - bare_logits).abs().max() > 0.1
    tuned, original = (load_file(path / "model.safetensors") for path in (folder, world.LLAVA))
    assert {name: w.shape for name, w in tuned.items()} == {
        name: w.shape for name, w in original.items()
    }
    assert sorted(p.name for p in folder.iterdir()) == sorted(p.name for p in world.LLAVA.iterdir())
    unchanged = [name for name in tuned if tuned[name].equal(original[name])]
    assert any("vision_tower" in name for name in unchanged)  # bit for bit


def test_the_adapter_beside_the_original_is_the_tuned_model(
    train_config: MakeTrainConfig, tmp_path: Path
) -> None:
    from peft import PeftModel

    config = train_config(optim=Optimization(batch_size=2, learning_rate=1e-2), export="adapter")
    trainer = Trainer(config, 3, CPU)
    micro_batch = encode_scenes(config, 0, 1)
    for step in range(2):
        trainer.step(step, [micro_batch])
    weights = dict(export.gather_adapter_weights(trainer.learner))
    name = config.model.name
    for file, content in export.make_adapter_files(name, trainer.learner, weights):
        (tmp_path / file).write_bytes(content)
    saved = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (saved["base_model_name_or_path"], saved["r"]) == (name, config.model.lora_rank)
    original = AutoModelForImageTextToText.from_pretrained(name)
    inputs = model_inputs(micro_batch)
    with torch.no_grad():
        bare_logits = original(**inputs).logits
        expected = trainer.learner.eval().model(**inputs).logits
        logits = PeftModel.from_pretrained(original, str(tmp_path)).eval()(**inputs).logits
    assert torch.allclose(logits, expected, atol=1e-5)
    assert (logits - bare_logits).abs().max() > 0.1


def test_what_is_not_tuned_by_lora_has_no_adapter(train_config: MakeTrainConfig) -> None:
    model = ModelToTune(name=str(world.LLAVA), tune="full")
    with pytest.raises(PreflightError, match=r"--export adapter: --model\.tune full has no LoRA"):
        train_config(model=model, export="adapter")
    trainer = Trainer(train_config(model=model), 1, CPU)
    assert list(export.gather_adapter_weights(trainer.learner)) == []


def test_every_weight_has_one_name_in_the_original() -> None:
    names = export.map_weight_names(str(world.LLAVA))
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


def test_weights_in_several_files_stay_in_them(
    train_config: MakeTrainConfig, tmp_path: Path
) -> None:
    name = tmp_path / "split"
    shutil.copytree(world.LLAVA, name)
    weights = load_file(name / "model.safetensors")
    (name / "model.safetensors").unlink()
    halves = sorted(weights)[::2], sorted(weights)[1::2]
    index: dict[str, str] = {}
    for number, half in enumerate(halves, start=1):
        file = f"model-{number:05d}-of-00002.safetensors"
        half_weights = {weight_name: weights[weight_name] for weight_name in half}
        save_file(half_weights, name / file, metadata={"format": "pt"})
        index |= dict.fromkeys(half, file)
    (name / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": index})
    )
    config = train_config(model=ModelToTune(name=str(name)), optim=Optimization(batch_size=1))
    trainer = Trainer(config, 2, CPU)
    micro_batch = encode_scenes(config, 0)
    trainer.step(0, [micro_batch])
    folder = write_tuned_model(trainer, tmp_path / "model")
    for half, file in zip(halves, sorted(set(index.values())), strict=True):
        assert sorted(load_file(folder / file)) == half
    tuned_model = AutoModelForImageTextToText.from_pretrained(folder)
    inputs = model_inputs(micro_batch)
    with torch.no_grad():
        expected = trainer.learner.eval().model(**inputs).logits
        assert torch.allclose(tuned_model(**inputs).logits, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        (
            "language_model.model.layers.0.mlp.gate_proj.weight",
            "1 weights cannot be told from each other",
        ),
        (
            "vision_tower.vision_model.embeddings.patch_embedding.weight",
            r"cannot map weight \S+patch_embedding.weight to the checkpoint's files, so a tuned",
        ),
    ],
)
def test_a_model_whose_files_hold_weights_in_another_way_is_refused(
    tmp_path: Path, missing: str, message: str
) -> None:
    name = tmp_path / "halves"
    shutil.copytree(world.LLAVA, name)
    weights = load_file(name / "model.safetensors")
    whole = weights.pop(missing)
    weights["language_model.model.first_half"] = whole[:7].clone()
    save_file(weights, name / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(PreflightError, match=message):
        export.check_exportable(str(name))


def test_a_model_without_safetensors_is_refused(tmp_path: Path) -> None:
    name = tmp_path / "bin"
    shutil.copytree(world.LLAVA, name)
    torch.save(load_file(name / "model.safetensors"), name / "pytorch_model.bin")
    (name / "model.safetensors").unlink()
    with pytest.raises(PreflightError, match="no weights in safetensors"):
        export.check_exportable(str(name))


def test_weights_in_mistrals_own_form_do_not_come_along(
    train_config: MakeTrainConfig, tmp_path: Path
) -> None:
    """vLLM prefers them where they lie beside others: it would load what was never tuned."""
    name = tmp_path / "mistral"
    shutil.copytree(world.LLAVA, name)
    weights = load_file(name / "model.safetensors")
    other_names = {f"own.{weight_name}": weight for weight_name, weight in weights.items()}
    save_file(other_names, name / "consolidated.safetensors", metadata={"format": "pt"})
    (name / "consolidated.safetensors.index.json").write_text("{}")
    (name / "params.json").write_text("{}")
    config = train_config(model=ModelToTune(name=str(name)), optim=Optimization(batch_size=1))
    assert set(export.map_weight_names(str(name)).values()) == set(weights)
    folder = write_tuned_model(Trainer(config, 1, CPU), tmp_path / "model")
    assert {file.name for file in folder.iterdir()} == {file.name for file in world.LLAVA.iterdir()}


def test_weights_in_no_other_form_are_none(tmp_path: Path) -> None:
    name = tmp_path / "consolidated"
    shutil.copytree(world.LLAVA, name)
    (name / "model.safetensors").rename(name / "consolidated.safetensors")
    with pytest.raises(PreflightError, match="no weights in safetensors"):
        export.check_exportable(str(name))
