"""The script that makes the weights, for a few steps: its files load wherever they must."""

from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoProcessor

from c3l_ray.inference.checkpoint import check_clip, check_vlm
from c3l_ray.scenes import train
from c3l_ray.scenes.draw import draw_scene, render


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("weights")
    train.main(
        train.Training(
            out=out, num_scenes=200, tower_steps=2, caption_steps=2, turn_steps=4, clip_steps=2
        )
    )
    return out


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
    assert inputs["input_ids"].shape[1] == 1 + 2 + 16 + 1  # <s> USER : 16 patches, hello
    assert torch.isfinite(model(**inputs).logits).all()


def test_the_clip_loads_with_open_clips_own_call(trained: Path) -> None:
    assert check_clip(str(trained / "clip"), None)
    name = f"local-dir:{trained / 'clip'}"
    model, _, preprocess = open_clip.create_model_and_transforms(name)
    tokens = open_clip.get_tokenizer(name)(["There is a red circle at the top left."])
    assert tokens.shape == (1, 77)
    image = preprocess(render(draw_scene(0)))[None]
    assert model.encode_image(image).shape == model.encode_text(tokens).shape
