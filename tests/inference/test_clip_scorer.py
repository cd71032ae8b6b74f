import random

import numpy as np
import open_clip
import pytest
import torch

from c3l_ray.inference import clip_scorer
from c3l_ray.inference.clip_scorer import ClipScorer
from c3l_ray.model_config import ClipModel
from c3l_ray.scenes import world
from c3l_ray.scenes.draw import draw_scene
from c3l_ray.scenes.language import describe_scene, draw_turn
from c3l_ray.scenes.render import render_scene


@pytest.fixture(scope="module")
def clip() -> ClipScorer:
    return ClipScorer(ClipModel(name=str(world.CLIP), weights=None))


def test_cosines_are_those_of_open_clip(clip: ClipScorer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clip_scorer, "BATCH_SIZE", 3)
    images = [render_scene(draw_scene(i)) for i in range(4)]
    images_of_texts = [images[i] for i in (0, 0, 1, 2, 3, 3, 0)]
    texts = [describe_scene(draw_scene(i)) for i in range(7)]
    name = f"local-dir:{world.CLIP}"
    model, _, preprocess = open_clip.create_model_and_transforms(name)
    model.eval()
    tokenize = open_clip.get_tokenizer(name)
    with torch.inference_mode():
        expected = [
            torch.cosine_similarity(
                model.encode_image(preprocess(image)[None]), model.encode_text(tokenize([text]))
            ).item()
            for image, text in zip(images_of_texts, texts, strict=True)
        ]
    assert clip.cosines(images_of_texts, texts) == pytest.approx(expected, abs=1e-5)


def test_the_shipped_model_prefers_the_right_caption(clip: ClipScorer) -> None:
    scenes = [draw_scene(i) for i in range(64)]
    texts = [" ".join(draw_turn(scene, "detail", random.Random(0))) for scene in scenes]
    images = [render_scene(scene) for scene in scenes]
    cosines_NN = np.array([clip.cosines([image] * len(texts), texts) for image in images])
    share_first = np.mean(
        [row[i] >= row[i - i % 16 : i - i % 16 + 16].max() for i, row in enumerate(cosines_NN)]
    )
    assert share_first > 0.8  # of 16 captions


def test_mixed_precision_keeps_the_cosines(
    clip: ClipScorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenes = [draw_scene(i) for i in range(8)]
    images, texts = (
        [render_scene(scene) for scene in scenes],
        [describe_scene(scene) for scene in scenes],
    )
    exact = clip.cosines(images, texts)
    monkeypatch.setattr(clip, "mixed_precision", True)
    mixed = clip.cosines(images, texts)
    assert mixed != exact and mixed == pytest.approx(exact, abs=2e-2)
