"""Trains the shipped tiny LLaVA and CLIP from scratch: `python -m c3l_ray.scenes.train --help`.

The order matters. The vision tower learns first, supervised, and is frozen; projector and language
half then learn captions only, until they read the image; questions come last. Trained on everything
at once, the language half stays on its prior for a long time.
"""

import json
import math
import os
import random
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import open_clip
import torch
import tyro
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from c3l_ray.chat import answer_prompt, answered
from c3l_ray.methods import c3l
from c3l_ray.scenes import world
from c3l_ray.scenes.draw import CELLS, COLOURS, SHAPES, SIDE_PX, Scene, draw_scene, render
from c3l_ray.scenes.language import draw_turn

FIRST_SEED = 10_000_000  # far from the seeds of the scenes that users draw
PATCH_PX = 16
SPECIAL = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
IMAGE_TOKEN = "<image>"
CHAT_TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'user' %}USER:{% else %} ASSISTANT:{% endif %}"
    "{% for c in m.content %}{% if c.type == 'image' %}<image>{% else %} {{ c.text }}{% endif %}"
    "{% endfor %}{% if m.role == 'assistant' %}</s>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %} ASSISTANT:{% endif %}"
)


@dataclass(frozen=True, kw_only=True)
class Training:
    """What is trained, and for how long."""

    out: Path = world.WEIGHTS
    """Folder that receives `llava/` and `clip/`."""
    parts: tuple[str, ...] = ("llava", "clip")
    """Which of the two to train."""
    seed: int = 0
    """Seed of the weights, the order and the drawn turns."""
    num_scenes: int = 30_000
    """Scenes to draw."""
    tower_steps: int = 400
    """Supervised steps of the vision tower, 128 scenes each."""
    caption_steps: int = 400
    """Steps on captions only, 64 scenes each."""
    turn_steps: int = 2_400
    """Steps on all kinds of turns, 64 scenes each."""
    clip_steps: int = 2_000
    """Contrastive steps of the CLIP, 128 scenes each."""


def main(training: Training) -> None:
    torch.set_num_threads(1)
    print(f"drawing {training.num_scenes} scenes", flush=True)
    scenes = [draw_scene(FIRST_SEED + i) for i in range(training.num_scenes)]
    pixels_NCHW = torch.stack([_pixels(scene) for scene in scenes])
    for part in training.parts:
        torch.manual_seed(training.seed)
        rng = random.Random(training.seed)
        {"llava": train_llava, "clip": train_clip}[part](training, scenes, pixels_NCHW, rng)


def train_llava(
    training: Training, scenes: list[Scene], pixels_NCHW: Tensor, rng: random.Random
) -> None:
    tokenizer = word_tokenizer(_sample_texts(scenes, rng), end=False)
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessor(
            size={"height": SIDE_PX, "width": SIDE_PX},
            do_center_crop=False,
            image_mean=[0.5] * 3,
            image_std=[0.5] * 3,
        ),
        tokenizer=tokenizer,
        patch_size=PATCH_PX,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=CHAT_TEMPLATE,
    )
    model = _llava(tokenizer)
    train_tower(training, model.model.vision_tower, scenes, pixels_NCHW, rng)
    features_NPD = _features(model.model.vision_tower, pixels_NCHW)
    learn = Learner(model, processor, scenes, features_NPD, rng)
    learn.run(training.caption_steps, {"caption": 1.0}, "captions")
    mixture = {"posed": 0.4, "asked": 0.35, "caption": 0.05, "text_only": 0.2}
    learn.run(training.turn_steps, mixture, "turns")
    _save_llava(model, processor, training.out / "llava")


def word_tokenizer(texts: list[str], *, end: bool) -> PreTrainedTokenizerFast:
    """A tokenizer of the whole words of these texts; with `end` it closes them with `</s>`."""
    pieces = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace(prepend_scheme="never", split=True),
            pre_tokenizers.Split(Regex(r"[^\w\s▁]"), "isolated"),
        ]
    )
    words = sorted({piece for text in texts for piece, _ in pieces.pre_tokenize_str(text)})
    specials = [*SPECIAL.values(), IMAGE_TOKEN]
    vocabulary = {token: i for i, token in enumerate([*specials, *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=SPECIAL["unk_token"]))
    tokenizer.pre_tokenizer = pieces
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="never", split=True)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>" if end else "<s> $A",
        special_tokens=[("<s>", vocabulary["<s>"]), ("</s>", vocabulary["</s>"])],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        **SPECIAL,
        extra_special_tokens={"image_token": IMAGE_TOKEN},
        clean_up_tokenization_spaces=False,
    )


def _sample_texts(scenes: list[Scene], rng: random.Random) -> list[str]:
    """Texts that between them hold every word that training will meet, at least once."""
    texts = ["USER:", " ASSISTANT:", " Question: Answer:"]
    texts += [
        f" {wording} {c3l.FORMATS['text']}"
        for kind in c3l.KINDS
        for wording in c3l.INSTRUCTIONS[kind]
    ]
    for scene in scenes[:2000]:
        for kind in c3l.KINDS:
            texts += [f" {text}" for text in draw_turn(scene, kind, rng)]
    return texts


def _llava(tokenizer: PreTrainedTokenizerFast) -> LlavaForConditionalGeneration:
    vision = CLIPVisionConfig(
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=3,
        num_attention_heads=4,
        image_size=SIDE_PX,
        patch_size=PATCH_PX,
    )
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=160,
        intermediate_size=448,
        num_hidden_layers=4,
        num_attention_heads=5,
        num_key_value_heads=5,
        max_position_embeddings=512,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=tokenizer.convert_tokens_to_ids(IMAGE_TOKEN),
        vision_feature_layer=-1,
        image_seq_length=(SIDE_PX // PATCH_PX) ** 2,
    )
    return LlavaForConditionalGeneration(config).float()


def train_tower(
    training: Training,
    tower: CLIPVisionModel,
    scenes: list[Scene],
    pixels_NCHW: Tensor,
    rng: random.Random,
) -> None:
    """Supervised per cell: colour and shape, or nothing, from the mean of the cell's patches."""
    colours_NC, shapes_NC = _cell_labels(scenes)
    heads = nn.Linear(tower.config.hidden_size, len(COLOURS) + 1 + len(SHAPES) + 1)
    optimizer = torch.optim.AdamW([*tower.parameters(), *heads.parameters()], lr=1e-3)
    for step in _steps(training.tower_steps, optimizer, "vision tower"):
        picked = torch.tensor(rng.sample(range(len(scenes)), 128))
        cells_BCD = _cells(tower(pixels_NCHW[picked]).last_hidden_state[:, 1:])
        colour_BCK, shape_BCK = heads(cells_BCD).split([len(COLOURS) + 1, len(SHAPES) + 1], -1)
        loss = F.cross_entropy(colour_BCK.flatten(0, 1), colours_NC[picked].flatten())
        loss = loss + F.cross_entropy(shape_BCK.flatten(0, 1), shapes_NC[picked].flatten())
        step(loss)
    for parameter in tower.parameters():
        parameter.requires_grad_(False)


def _cells(patches_BPD: Tensor) -> Tensor:
    """Mean of the four patches of each of the four cells: [B, 4, D]."""
    batch, _, width = patches_BPD.shape
    return patches_BPD.reshape(batch, 2, 2, 2, 2, width).mean(dim=(2, 4)).flatten(1, 2)


def _cell_labels(scenes: list[Scene]) -> tuple[Tensor, Tensor]:
    colours = torch.zeros(len(scenes), len(CELLS), dtype=torch.long)
    shapes = torch.zeros(len(scenes), len(CELLS), dtype=torch.long)
    for row, scene in enumerate(scenes):
        for thing in scene.things:
            cell = CELLS.index(thing.cell)
            colours[row, cell] = 1 + list(COLOURS).index(thing.colour)
            shapes[row, cell] = 1 + SHAPES.index(thing.shape)
    return colours, shapes


@torch.no_grad()
def _features(tower: CLIPVisionModel, pixels_NCHW: Tensor) -> Tensor:
    """Patch features of every scene, computed once since the tower is frozen: [N, P, D]."""
    batches = pixels_NCHW.split(500)
    return torch.cat([tower(batch).last_hidden_state[:, 1:] for batch in batches])


class Learner:
    """Trains projector and language half on texts about frozen image features."""

    def __init__(
        self,
        model: LlavaForConditionalGeneration,
        processor: LlavaProcessor,
        scenes: list[Scene],
        features_NPD: Tensor,
        rng: random.Random,
    ) -> None:
        self.model = model
        self.processor = processor
        self.scenes = scenes
        self.features_NPD = features_NPD
        self.rng = rng
        self.image_id = model.config.image_token_id

    def run(self, num_steps: int, mixture: dict[str, float], name: str) -> None:
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(parameters, lr=1.5e-3, betas=(0.9, 0.98), weight_decay=0.01)
        for step in _steps(num_steps, optimizer, name):
            (task,) = self.rng.choices(list(mixture), list(mixture.values()))
            picked = self.rng.sample(range(len(self.scenes)), 64)
            step(self.loss(picked, task))

    def loss(self, picked: list[int], task: str) -> Tensor:
        """Mean negative log-likelihood of the answers' tokens and the end of sequence."""
        rows = [self.tokens(self.scenes[i], task) for i in picked]
        longest = max(len(ids) for ids, _ in rows)
        pad = self.processor.tokenizer.pad_token_id
        ids_BT = torch.tensor([ids + [pad] * (longest - len(ids)) for ids, _ in rows])
        labels_BT = ids_BT.clone()
        for row, (ids, start) in enumerate(rows):
            labels_BT[row, :start] = -100
            labels_BT[row, len(ids) :] = -100
        embeds_BTD = self.model.get_input_embeddings()(ids_BT)
        if task != "text_only":
            images_BPD = self.model.model.multi_modal_projector(self.features_NPD[picked])
            at_BT1 = (ids_BT == self.image_id).unsqueeze(-1)
            embeds_BTD = embeds_BTD.masked_scatter(at_BT1, images_BPD)
        # Rows are padded on the right, so the causal mask alone keeps real tokens clean.
        hidden_BTD = self.model.model.language_model(inputs_embeds=embeds_BTD).last_hidden_state
        answers_BT = labels_BT[:, 1:] != -100
        logits_KV = self.model.lm_head(hidden_BTD[:, :-1][answers_BT])
        return F.cross_entropy(logits_KV, labels_BT[:, 1:][answers_BT])

    def tokens(self, scene: Scene, task: str) -> tuple[list[int], int]:
        """A conversation about the scene as token ids, and where its answer begins."""
        kind = "detail" if task == "caption" else self.rng.choice(c3l.KINDS)
        question, answer = draw_turn(scene, kind, self.rng)
        if task == "posed":
            answer = f"Question: {question} Answer: {answer}"
            question = f"{self.rng.choice(c3l.INSTRUCTIONS[kind])} {c3l.FORMATS['text']}"
        image = task != "text_only"
        prompt = answer_prompt(self.processor, question, image=image)
        text, _ = answered(self.processor, question, answer, image=image)
        expanded = IMAGE_TOKEN * self.features_NPD.shape[1]
        tokenizer = self.processor.tokenizer
        ids = tokenizer(text.replace(IMAGE_TOKEN, expanded))["input_ids"]
        return ids, len(tokenizer(prompt.replace(IMAGE_TOKEN, expanded))["input_ids"])


def _save_llava(
    model: LlavaForConditionalGeneration, processor: LlavaProcessor, folder: Path
) -> None:
    """Writes the checkpoint under the names of LLaVA-1.5's files, which vLLM reads too."""
    shutil.rmtree(folder, ignore_errors=True)
    model.eval().save_pretrained(folder)
    processor.save_pretrained(folder)
    names = {
        "model.language_model.": "language_model.model.",
        "model.vision_tower.": "vision_tower.vision_model.",
        "model.multi_modal_projector.": "multi_modal_projector.",
        "lm_head.": "language_model.lm_head.",
    }
    state = {}
    for name, tensor in model.state_dict().items():
        old = next(prefix for prefix in names if name.startswith(prefix))
        state[names[old] + name.removeprefix(old)] = tensor.contiguous()
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def train_clip(
    training: Training, scenes: list[Scene], pixels_NCHW: Tensor, rng: random.Random
) -> None:
    folder = training.out / "clip"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    tokenizer = word_tokenizer(_sample_texts(scenes, rng), end=True)
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
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.02)
    contrast = open_clip.ClipLoss()
    for step in _steps(training.clip_steps, optimizer, "clip"):
        picked = rng.sample(range(len(scenes)), 128)
        texts = [_clip_text(scenes[i], rng) for i in picked]
        image_BE, text_BE, scale = model(pixels_NCHW[picked], tokenize(texts))
        step(contrast(image_BE, text_BE, scale))
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(state, folder / "open_clip_model.safetensors")


def _clip_text(scene: Scene, rng: random.Random) -> str:
    """Half the time all that the scene shows, half the time one turn: what the score will see."""
    kind = rng.choice(("detail", rng.choice(c3l.KINDS)))
    return " ".join(draw_turn(scene, kind, rng))


def _pixels(scene: Scene) -> Tensor:
    values = np.asarray(render(scene), dtype=np.float32) / 127.5 - 1
    return torch.from_numpy(values).permute(2, 0, 1)


def _steps(num_steps: int, optimizer: torch.optim.Optimizer, name: str) -> Iterator[Any]:
    """Yields a function that takes a step's loss: warm-up, cosine, clipped gradients, progress."""
    peak = optimizer.param_groups[0]["lr"]
    warm_up = max(1, num_steps // 20)
    started = time.monotonic()
    recent: list[float] = []

    def take(loss: Tensor) -> None:
        optimizer.zero_grad()
        loss.backward()
        for group in optimizer.param_groups:
            nn.utils.clip_grad_norm_(group["params"], 1.0)
        optimizer.step()
        recent.append(loss.item())

    for i in range(num_steps):
        progress = max(0.0, (i - warm_up) / max(1, num_steps - warm_up))
        scale = min((i + 1) / warm_up, 0.5 * (1 + math.cos(math.pi * progress)))
        for group in optimizer.param_groups:
            group["lr"] = peak * max(scale, 0.02)
        yield take
        if (i + 1) % 50 == 0:
            seconds = time.monotonic() - started
            mean = sum(recent) / len(recent)
            print(f"{name}: step {i + 1}/{num_steps} loss {mean:.4f} {seconds:.0f} s", flush=True)
            recent.clear()


if __name__ == "__main__":
    main(tyro.cli(Training, description=__doc__))
