"""The tiny CLIP: trained from scratch on unbiased scenes and what is true of them."""

import json
import math
import random
import shutil

import open_clip
import torch
from torch import Tensor

from c3l_ray.methods import c3l
from c3l_ray.scenes.draw import SIDE_PX, UNBIASED, Scene
from c3l_ray.scenes.language import draw_turn
from c3l_ray.scenes.training.loop import Training, Unfinished, adamw, cosine, save_weights
from c3l_ray.scenes.training.tokenizer import all_texts, word_tokenizer
from c3l_ray.scenes.training.tower import PATCH_PX, draw, scaled


def train_clip(training: Training, rng: random.Random) -> None:
    """Writes `clip/` under the training's folder, as open_clip's `local-dir:` reads it."""
    folder = training.out / "clip"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    tokenizer = word_tokenizer(all_texts(), end=True)
    tokenizer.save_pretrained(folder)
    model_cfg = {
        "embed_dim": 96,
        "vision_cfg": {
            "image_size": SIDE_PX,
            "patch_size": PATCH_PX,
            "width": 128,
            "head_width": 32,
            "layers": 3,
        },
        "text_cfg": {
            "hf_tokenizer_name": "tokenizer",  # read from this folder, whatever the name
            "vocab_size": len(tokenizer),
            "context_length": 77,
            "width": 96,
            "heads": 3,
            "layers": 3,
            "pool_type": "eos",
            "eos_id": tokenizer.eos_token_id,
            "pad_id": tokenizer.pad_token_id,
        },
    }
    preprocess_cfg = {"mean": [0.5] * 3, "std": [0.5] * 3, "resize_mode": "squash"}
    config = {"model_cfg": model_cfg, "preprocess_cfg": preprocess_cfg}
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2))

    name = f"local-dir:{folder}"
    model = open_clip.create_model(name, load_weights=False)
    tokenize = open_clip.get_tokenizer(name)
    scenes, pixels_NCHW = draw(training.clip_scenes, UNBIASED)
    contrast = open_clip.ClipLoss()

    def loss() -> Tensor:
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
        picked = rng.sample(range(len(scenes)), 128)
        texts = [_text(scenes[i], rng) for i in picked]
        image_BE, text_BE, scale = model(scaled(pixels_NCHW[picked]), tokenize(texts))
        return contrast(image_BE, text_BE, scale)

    unfinished = Unfinished(training, "clip", model, rng)
    optimizer = adamw(model.parameters(), 1e-3, weight_decay=0.02)
    unfinished.run("clip", training.clip_steps, [optimizer], loss, cosine)
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_weights(state, folder / "open_clip_model.safetensors")
    unfinished.end()


def _text(scene: Scene, rng: random.Random) -> str:
    """Half the time all that the scene shows, half the time one turn: what the score will see."""
    kind = rng.choice(("detail", rng.choice(c3l.KINDS)))
    return " ".join(draw_turn(scene, kind, rng))
