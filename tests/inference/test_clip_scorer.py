import random

import numpy as np
import open_clip
import pytest
import torch

from c3l_ray.config import Clip as ClipConfig
from c3l_ray.inference import clip_scorer as clip_module
from c3l_ray.inference.clip_scorer import Clip
from c3l_ray.scenes import world
from c3l_ray.scenes.draw import draw_scene, render
from c3l_ray.scenes.language import describe, draw_turn


@pytest.fixture(scope="module")
def clip() -> Clip:
    return Clip(ClipConfig(name=str(world.CLIP), weights=None))


def test_cosines_are_open_clips_own(clip: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clip_module, "BATCH_SIZE", 3)
    images = [render(draw_scene(i)) for i in range(4)]
    beside = [images[i] for i in (0, 0, 1, 2, 3, 3, 0)]
    texts = [describe(draw_scene(i)) for i in range(7)]
    name = f"local-dir:{world.CLIP}"
    model, _, preprocess = open_clip.create_model_and_transforms(name)
    model.eval()
    tokenize = open_clip.get_tokenizer(name)
    with torch.inference_mode():
        expected = [
            torch.cosine_similarity(
                model.encode_image(preprocess(image)[None]), model.encode_text(tokenize([text]))
            ).item()
            for image, text in zip(beside, texts, strict=True)
        ]
    assert clip.cosines(beside, texts) == pytest.approx(expected, abs=1e-5)


def test_the_shipped_model_prefers_the_right_caption(clip: Clip) -> None:
    scenes = [draw_scene(i) for i in range(64)]
    texts = [" ".join(draw_turn(scene, "detail", random.Random(0))) for scene in scenes]
    images = [render(scene) for scene in scenes]
    table = np.array([clip.cosines([image] * len(texts), texts) for image in images])
    first = np.mean(
        [row[i] >= row[i - i % 16 : i - i % 16 + 16].max() for i, row in enumerate(table)]
    )
    assert first > 0.8  # of 16 captions


def test_mixed_precision_keeps_the_cosines(clip: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    scenes = [draw_scene(i) for i in range(8)]
    images, texts = [render(scene) for scene in scenes], [describe(scene) for scene in scenes]
    exact = clip.cosines(images, texts)
    monkeypatch.setattr(clip, "mixed", True)
    mixed = clip.cosines(images, texts)
    assert mixed != exact and mixed == pytest.approx(exact, abs=2e-2)
