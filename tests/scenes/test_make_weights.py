"""Trains the weights for a few steps: their files load wherever they must."""

import hashlib
import random
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoProcessor

from c3l_ray.inference.clip_check import check_clip
from c3l_ray.inference.model_check import check_model
from c3l_ray.scenes.draw import draw_scene
from c3l_ray.scenes.make_weights import make_weights
from c3l_ray.scenes.render import render_scene
from c3l_ray.scenes.training.loop import ResumableTraining
from c3l_ray.scenes.training.tower import probe_tower
from c3l_ray.scenes.training.weights_config import ModelName, WeightsConfig

STEPS = {
    "tower_steps": 2,
    "naming_steps": 1,
    "reading_steps": 1,
    "finding_steps": 1,
    "answering_steps": 1,
    "bias_steps": 2,
    "posing_steps": 1,
    "clip_steps": 3,
}


def make_config(folder: Path, model: ModelName) -> WeightsConfig:
    return WeightsConfig(
        output=folder / "weights",
        checkpoints=folder / "checkpoints",
        models=(model,),
        llava_scenes=150,
        clip_scenes=150,
        save_every=1,
        **STEPS,
    )


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    make_weights(make_config(folder, "llava"))
    make_weights(make_config(folder, "clip"))
    assert not list((folder / "checkpoints").iterdir())
    return folder / "weights"


def file_digests(weights: Path) -> dict[str, str]:
    files = weights.rglob("*.safetensors")
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def test_both_engines_can_read_the_names_of_the_llavas_weights(weights: Path) -> None:
    names = load_file(weights / "llava" / "model.safetensors")
    assert any(name.startswith("vision_tower.vision_model.embeddings") for name in names)
    assert check_model("--model.name", str(weights / "llava"))
    model, loading = AutoModelForImageTextToText.from_pretrained(
        weights / "llava", output_loading_info=True
    )
    assert not loading["missing_keys"] and not loading["unexpected_keys"]
    processor = AutoProcessor.from_pretrained(weights / "llava")
    inputs = processor(
        text="USER:<image> hello", images=render_scene(draw_scene(0)), return_tensors="pt"
    )
    assert inputs["input_ids"].shape[1] == 1 + 2 + 36 + 1  # <s> USER : 36 patches, hello
    assert torch.isfinite(model(**inputs).logits).all()


def test_open_clip_loads_the_clip(weights: Path) -> None:
    assert check_clip(str(weights / "clip"), None)
    name = f"local-dir:{weights / 'clip'}"
    model, _, preprocess = open_clip.create_model_and_transforms(name)
    tokens = open_clip.get_tokenizer(name)(["There is a small red circle at the top left."])
    assert tokens.shape == (1, 77)
    image = preprocess(render_scene(draw_scene(0)))[None]
    assert model.encode_image(image).shape == model.encode_text(tokens).shape


def test_every_user_may_read_the_weights(weights: Path) -> None:
    assert {file.stat().st_mode & 0o777 for file in weights.rglob("*.safetensors")} == {0o644}


@pytest.mark.parametrize(
    ("model", "num_saves"), [("llava", 1), ("llava", 4), ("llava", 8), ("clip", 2)]
)
def test_an_interrupted_training_resumes_to_the_same_weights(
    weights: Path,
    tmp_path: Path,
    model: ModelName,
    num_saves: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = make_config(tmp_path, model)
    save, saved_steps = ResumableTraining._save, []

    def save_and_interrupt(
        training: ResumableTraining, step: int, optimizers: Sequence[torch.optim.Optimizer]
    ) -> None:
        save(training, step, optimizers)
        saved_steps.append(step)
        if len(saved_steps) == num_saves:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(ResumableTraining, "_save", save_and_interrupt)
        with pytest.raises(KeyboardInterrupt):
            make_weights(config)
    other_config = replace(config, seed=1)  # other settings begin afresh
    module = torch.nn.Linear(1, 1)
    assert ResumableTraining(other_config, model, module, random.Random()).step == 0
    make_weights(config)
    ((name, digest),) = file_digests(tmp_path / "weights").items()
    assert file_digests(weights)[name] == digest
    assert not list((tmp_path / "checkpoints").iterdir())


def test_the_probe_measures_each_attribute(weights: Path) -> None:
    shares = probe_tower(weights / "llava", num_train=40, num_test=20)
    assert list(shares) == ["colour", "shape", "size"]
    assert all(0 <= share <= 1 for share in shares.values())


def test_help_imports_no_heavy_library() -> None:
    code = (
        "import sys\n"
        "sys.argv = ['make_weights', '--help']\n"
        "from c3l_ray.scenes.make_weights import main\n"
        "try:\n"
        "    main()\n"
        "except SystemExit:\n"
        "    assert 'torch' not in sys.modules\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert "--bias-steps INT" in ended.stdout
