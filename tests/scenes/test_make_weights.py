"""The script that makes the weights, for a few steps: its files load wherever they must."""

import hashlib
import random
from dataclasses import replace
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoProcessor

from c3l_ray.inference.model_check import check_clip, check_vlm
from c3l_ray.scenes import make_weights
from c3l_ray.scenes.draw import draw_scene, render
from c3l_ray.scenes.training.loop import Training, Unfinished
from c3l_ray.scenes.training.tower import probe

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


def training(folder: Path, part: str) -> Training:
    return Training(
        out=folder / "weights",
        unfinished=folder / "unfinished",
        parts=(part,),
        llava_scenes=150,
        clip_scenes=150,
        save_every=1,
        **STEPS,  # type: ignore[arg-type]
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    for part in ("llava", "clip"):
        make_weights.main(training(folder, part))
    assert not list((folder / "unfinished").iterdir())
    return folder / "weights"


def digests(weights: Path) -> dict[str, str]:
    files = weights.rglob("*.safetensors")
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def test_the_llava_has_the_names_that_both_engines_read(trained: Path) -> None:
    names = load_file(trained / "llava" / "model.safetensors")
    assert any(name.startswith("vision_tower.vision_model.embeddings") for name in names)
    assert check_vlm("--model.name", str(trained / "llava"))
    model, loading = AutoModelForImageTextToText.from_pretrained(
        trained / "llava", output_loading_info=True
    )
    assert not loading["missing_keys"] and not loading["unexpected_keys"]
    processor = AutoProcessor.from_pretrained(trained / "llava")
    inputs = processor(text="USER:<image> hello", images=render(draw_scene(0)), return_tensors="pt")
    assert inputs["input_ids"].shape[1] == 1 + 2 + 36 + 1  # <s> USER : 36 patches, hello
    assert torch.isfinite(model(**inputs).logits).all()


def test_the_clip_loads_with_open_clips_own_call(trained: Path) -> None:
    assert check_clip(str(trained / "clip"), None)
    name = f"local-dir:{trained / 'clip'}"
    model, _, preprocess = open_clip.create_model_and_transforms(name)
    tokens = open_clip.get_tokenizer(name)(["There is a small red circle at the top left."])
    assert tokens.shape == (1, 77)
    image = preprocess(render(draw_scene(0)))[None]
    assert model.encode_image(image).shape == model.encode_text(tokens).shape


def test_weights_are_for_all_to_read(trained: Path) -> None:
    assert {file.stat().st_mode & 0o777 for file in trained.rglob("*.safetensors")} == {0o644}


@pytest.mark.parametrize(
    ("part", "num_saves"), [("llava", 1), ("llava", 4), ("llava", 8), ("clip", 2)]
)
def test_a_stopped_training_goes_on_to_the_same_weights(
    trained: Path,
    tmp_path: Path,
    part: str,
    num_saves: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    save, saved = Unfinished._save, []

    def stop_after(unfinished: Unfinished, *args: object) -> None:
        save(unfinished, *args)  # type: ignore[arg-type]
        saved.append(args)
        if len(saved) == num_saves:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Unfinished, "_save", stop_after)
        with pytest.raises(KeyboardInterrupt):
            make_weights.main(training(tmp_path, part))
    other = replace(training(tmp_path, part), seed=1)  # of other settings: begins afresh
    assert Unfinished(other, part, torch.nn.Linear(1, 1), random.Random()).step == 0
    make_weights.main(training(tmp_path, part))
    (name, digest), *_ = digests(tmp_path / "weights").items()
    assert digests(trained)[name] == digest
    assert not list((tmp_path / "unfinished").iterdir())


def test_the_probe_reads_features(trained: Path) -> None:
    shares = probe(trained / "llava", num_train=40, num_test=20)
    assert list(shares) == ["colour", "shape", "size"]
    assert all(0 <= share <= 1 for share in shares.values())
