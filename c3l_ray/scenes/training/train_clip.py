"""The tiny CLIP: trained from scratch on unbiased scenes and what is true of them."""

import json
import math
import random
import shutil

import open_clip
import torch
from torch import Tensor

from c3l_ray.methods import c3l
from c3l_ray.scenes.draw import UNBIASED, Scene
from c3l_ray.scenes.language import draw_turn
from c3l_ray.scenes.render import SIDE_PX
from c3l_ray.scenes.training.loop import (
    ResumableTraining,
    cosine_schedule,
    make_adamw,
    save_weights,
)
from c3l_ray.scenes.training.tokenizer import list_training_texts, make_tokenizer
from c3l_ray.scenes.training.tower import PATCH_PX, draw_training_scenes, scale_pixels
from c3l_ray.scenes.training.weights_config import WeightsConfig

SCENES_PER_STEP = 128


def train_clip(config: WeightsConfig, rng: random.Random) -> None:
    """Trains the CLIP, and writes `clip/` as open_clip's `local-dir:` reads it."""
    folder = config.output / "clip"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    tokenizer = make_tokenizer(list_training_texts(), appends_end=True)
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
    open_clip_config = {"model_cfg": model_cfg, "preprocess_cfg": preprocess_cfg}
    (folder / "open_clip_config.json").write_text(json.dumps(open_clip_config, indent=2))

    name = f"local-dir:{folder}"
    model = open_clip.create_model(name, load_weights=False)
    tokenize = open_clip.get_tokenizer(name)
    scenes, pixels_NCHW = draw_training_scenes(config.clip_scenes, UNBIASED)
    contrastive_loss = open_clip.ClipLoss()

    def compute_loss() -> Tensor:
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
        batch = rng.sample(range(len(scenes)), SCENES_PER_STEP)
        captions = [_draw_caption(scenes[i], rng) for i in batch]
        image_BE, text_BE, scale = model(scale_pixels(pixels_NCHW[batch]), tokenize(captions))
        return contrastive_loss(image_BE, text_BE, scale)

    training = ResumableTraining(config, "clip", model, rng)
    optimizer = make_adamw(model.parameters(), 1e-3, weight_decay=0.02)
    training.train_stage("clip", config.clip_steps, [optimizer], compute_loss, cosine_schedule)
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_weights(state, folder / "open_clip_model.safetensors")
    training.delete_checkpoint()


def _draw_caption(scene: Scene, rng: random.Random) -> str:
    """Half the time a whole description, half the time one turn, which is what the score reads."""
    kind = rng.choice(("detail", rng.choice(c3l.KINDS)))
    return " ".join(draw_turn(scene, kind, rng))
