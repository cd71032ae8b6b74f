"""Trains the shipped tiny LLaVA and CLIP from scratch: `python -m c3l_ray.scenes.train --help`.

The order matters. The vision tower learns first, supervised, and is frozen; projector and language
half then learn captions only, until they read the image; questions come last. Trained on everything
at once, the language half stays on its prior for a long time.
"""

import hashlib
import json
import math
import multiprocessing
import os
import random
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
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
from c3l_ray.scenes.draw import (
    BIASED,
    CELL_PX,
    CELLS,
    COLOURS,
    NUM_COLUMNS,
    SHAPES,
    SIDE_PX,
    SIZES,
    UNBIASED,
    Scene,
    World,
    draw_scene,
    render,
)
from c3l_ray.scenes.language import draw_turn

FIRST_SEED = 10_000_000  # far from the seeds of the scenes that users draw
PROBE_SEED = 70_000_000
PATCH_PX = 16
PARTS = (len(COLOURS) + 1, len(SHAPES) + 1, len(SIZES) + 1)  # what a cell holds, or nothing
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
    """Which of the two to train; each is a process of its own, with one thread."""
    unfinished: Path = Path("runs/scenes")
    """Folder of what training goes on from when it was stopped; emptied as parts end."""
    save_every: int = 100
    """Steps between two saves of that."""
    seed: int = 0
    """Seed of the weights, the order and the drawn turns."""
    num_scenes: int = 20_000
    """Scenes to draw of each world."""
    tower_steps: int = 1_200
    """Supervised steps of the vision tower, 128 unbiased scenes each."""
    caption_steps: int = 1_400
    """Steps on captions only, 32 unbiased scenes each."""
    turn_steps: int = 2_400
    """Steps on all kinds of turns, 32 biased scenes each."""
    clip_steps: int = 1_500
    """Contrastive steps of the CLIP, 128 unbiased scenes each."""


def main(training: Training) -> None:
    """Trains each part in a process of its own. Raises SystemExit where one of them fails."""
    if len(training.parts) == 1:
        train_part(training, training.parts[0])
        return
    processes = [
        multiprocessing.get_context("spawn").Process(target=train_part, args=(training, part))
        for part in training.parts
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        raise SystemExit(f"not finished; the same command goes on from {training.unfinished}")


def train_part(training: Training, part: str) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(training.seed)
    rng = random.Random(training.seed)
    {"llava": train_llava, "clip": train_clip}[part](training, rng)


def draw(training: Training, drawn: World) -> tuple[list[Scene], Tensor]:
    """The scenes of a world to train on, and their pixels in 8 bits: [N, C, H, W]."""
    scenes = [draw_scene(FIRST_SEED + i, drawn) for i in range(training.num_scenes)]
    pixels_NHWC = np.stack([np.asarray(render(scene)) for scene in scenes])
    print(f"drew {len(scenes)} scenes of the {drawn.name} world", flush=True)
    return scenes, torch.from_numpy(pixels_NHWC).permute(0, 3, 1, 2).contiguous()


class Unfinished:
    """A part's training on disk: the stage it is in, and all that its next step follows from.

    A file of other settings is left alone, so that only the same training goes on from it.
    """

    def __init__(
        self, training: Training, part: str, module: nn.Module, rng: random.Random
    ) -> None:
        passing = ("out", "parts", "unfinished", "save_every")
        settings = {k: v for k, v in asdict(training).items() if k not in passing}
        told = repr((sorted(settings.items(), key=str), UNBIASED, BIASED))
        digest = hashlib.sha256(told.encode()).hexdigest()[:12]
        self.path = training.unfinished / f"{part}-{digest}.pt"
        self.save_every = training.save_every
        self.module = module
        self.rng = rng
        self.stages: list[str] = []
        self.optimizer: dict[str, Any] | None = None
        self.step = 0
        if self.path.exists():
            # Written by this class: it holds the state of a random.Random beside the tensors.
            held = torch.load(self.path, weights_only=False)
            self.stages, self.step, self.optimizer = held["stages"], held["step"], held["optimizer"]
            module.load_state_dict(held["module"])
            rng.setstate(held["rng"])
            print(f"{part}: going on in {self.stages[-1]} at step {self.step}", flush=True)

    def run(
        self,
        stage: str,
        num_steps: int,
        optimizer: torch.optim.Optimizer,
        loss: Callable[[], Tensor],
    ) -> None:
        """Trains a stage to its end: warm-up, cosine, clipped gradients, a line of progress."""
        if stage in self.stages[:-1]:
            return
        first = 0
        if self.stages and self.stages[-1] == stage:
            first = self.step
            optimizer.load_state_dict(self.optimizer or {})
        else:
            self.stages = [*self.stages, stage]
        peaks = [group["initial_lr"] for group in optimizer.param_groups]
        warm_up = max(1, num_steps // 20)
        started = time.monotonic()
        recent: list[float] = []
        for i in range(first, num_steps):
            progress = max(0.0, (i - warm_up) / max(1, num_steps - warm_up))
            scale = min((i + 1) / warm_up, 0.5 * (1 + math.cos(math.pi * progress)))
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * max(scale, 0.02)
            optimizer.zero_grad()
            value = loss()
            value.backward()
            for group in optimizer.param_groups:
                nn.utils.clip_grad_norm_(group["params"], 1.0)
            optimizer.step()
            recent.append(value.item())
            if (i + 1) % 50 == 0:
                mean, seconds = sum(recent) / len(recent), time.monotonic() - started
                print(f"{stage}: {i + 1}/{num_steps} loss {mean:.4f} {seconds:.0f} s", flush=True)
                recent.clear()
            if (i + 1) % self.save_every == 0 or i + 1 == num_steps:
                self._save(i + 1, optimizer)

    def end(self) -> None:
        self.path.unlink(missing_ok=True)

    def _save(self, step: int, optimizer: torch.optim.Optimizer) -> None:
        held = {
            "stages": self.stages,
            "step": step,
            "module": self.module.state_dict(),
            "optimizer": optimizer.state_dict(),
            "rng": self.rng.getstate(),
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        written = self.path.with_suffix(".new")
        torch.save(held, written)
        written.replace(self.path)


def _adamw(module: nn.Module, lr: float, weight_decay: float = 0.01) -> torch.optim.AdamW:
    parameters = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=lr, betas=(0.9, 0.98), weight_decay=weight_decay)
    for group in optimizer.param_groups:
        group["initial_lr"] = lr
    return optimizer


def train_llava(training: Training, rng: random.Random) -> None:
    processor = _processor(word_tokenizer(_all_texts(), end=False))
    model = _llava(processor.tokenizer)
    tower = model.model.vision_tower
    heads = nn.Linear(tower.config.hidden_size, sum(PARTS))
    unfinished = Unfinished(training, "llava", nn.ModuleDict({"a": model, "b": heads}), rng)

    if "turns" not in unfinished.stages:
        _see_and_describe(training, unfinished, model, processor, heads, rng)
    for parameter in [*tower.parameters(), *heads.parameters()]:
        parameter.requires_grad_(False)
    scenes, pixels_NCHW = draw(training, BIASED)
    learn = Learner(model, processor, scenes, _features(tower, pixels_NCHW), rng)
    mixture = {"posed": 0.4, "asked": 0.35, "caption": 0.05, "text_only": 0.2}
    unfinished.run("turns", training.turn_steps, _adamw(model, 1.2e-3), lambda: learn.loss(mixture))
    _save_llava(model, processor, training.out / "llava")
    unfinished.end()


def _see_and_describe(
    training: Training,
    unfinished: Unfinished,
    model: LlavaForConditionalGeneration,
    processor: LlavaProcessor,
    heads: nn.Linear,
    rng: random.Random,
) -> None:
    """The stages on unbiased scenes: the tower, and with it frozen, captions."""
    tower = model.model.vision_tower
    scenes, pixels_NCHW = draw(training, UNBIASED)
    labels_NCA = cell_labels(scenes)
    unfinished.run(
        "tower",
        training.tower_steps,
        _adamw(nn.ModuleDict({"a": tower, "b": heads}), 1e-3),
        lambda: _tower_loss(tower, heads, pixels_NCHW, labels_NCA, rng),
    )
    for parameter in [*tower.parameters(), *heads.parameters()]:
        parameter.requires_grad_(False)
    learn = Learner(model, processor, scenes, _features(tower, pixels_NCHW), rng)
    unfinished.run(
        "captions",
        training.caption_steps,
        _adamw(model, 1.2e-3),
        lambda: learn.loss({"caption": 1.0}),
    )


def _processor(tokenizer: PreTrainedTokenizerFast) -> LlavaProcessor:
    return LlavaProcessor(
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


def _all_texts() -> list[str]:
    """Texts that between them hold every word that training will meet, at least once."""
    texts = ["USER:", " ASSISTANT:", " Question: Answer:"]
    texts += [
        f" {wording} {c3l.FORMATS['text']}"
        for kind in c3l.KINDS
        for wording in c3l.INSTRUCTIONS[kind]
    ]
    rng = random.Random(0)
    for seed in range(2000):
        for kind in c3l.KINDS:
            texts += [f" {text}" for text in draw_turn(draw_scene(seed), kind, rng)]
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


def _tower_loss(
    tower: CLIPVisionModel,
    heads: nn.Linear,
    pixels_NCHW: Tensor,
    labels_NCA: Tensor,
    rng: random.Random,
) -> Tensor:
    """Supervised per cell: colour, shape and size, or nothing, from the mean of its patches."""
    picked = torch.tensor(rng.sample(range(len(pixels_NCHW)), 128))
    logits_BCK = heads(by_cell(tower(_scaled(pixels_NCHW[picked])).last_hidden_state[:, 1:]))
    labels_MA = labels_NCA[picked].flatten(0, 1)
    losses = [
        F.cross_entropy(logits_MK, labels_MA[:, attribute])
        for attribute, logits_MK in enumerate(logits_BCK.flatten(0, 1).split(PARTS, dim=-1))
    ]
    return torch.stack(losses).sum()


def by_cell(patches_BPD: Tensor) -> Tensor:
    """Mean of the patches of each of the six cells: [B, 6, D]."""
    batch, _, width = patches_BPD.shape
    grid = (len(CELLS) // NUM_COLUMNS, CELL_PX[1] // PATCH_PX, NUM_COLUMNS, CELL_PX[0] // PATCH_PX)
    return patches_BPD.reshape(batch, *grid, width).mean(dim=(2, 4)).flatten(1, 2)


def cell_labels(scenes: list[Scene]) -> Tensor:
    """Colour, shape and size of what is in each cell, counted from 1, and 0 for nothing."""
    labels_NCA = torch.zeros(len(scenes), len(CELLS), len(PARTS), dtype=torch.long)
    for row, scene in enumerate(scenes):
        for thing in scene.things:
            look = (
                list(COLOURS).index(thing.colour),
                SHAPES.index(thing.shape),
                list(SIZES).index(thing.size),
            )
            labels_NCA[row, CELLS.index(thing.cell)] = torch.tensor(look) + 1
    return labels_NCA


@torch.no_grad()
def _features(tower: CLIPVisionModel, pixels_NCHW: Tensor) -> Tensor:
    """Patch features of every scene, computed once since the tower is frozen: [N, P, D]."""
    batches = pixels_NCHW.split(500)
    return torch.cat([tower(_scaled(batch)).last_hidden_state[:, 1:].half() for batch in batches])


def _scaled(pixels_NCHW: Tensor) -> Tensor:
    return pixels_NCHW.float() / 127.5 - 1


def probe(llava: Path, num_train: int = 6_000, num_test: int = 2_000) -> dict[str, float]:
    """How well a linear probe on the frozen tower's features tells the things of unbiased scenes.

    The share of colours, shapes and sizes that are right in cells which hold a thing, on scenes
    that neither the tower nor the probe was trained on.
    """
    torch.set_num_threads(1)
    torch.manual_seed(0)
    tower = LlavaForConditionalGeneration.from_pretrained(llava).model.vision_tower.eval()
    scenes = [draw_scene(PROBE_SEED + i) for i in range(num_train + num_test)]
    pixels_NHWC = np.stack([np.asarray(render(scene)) for scene in scenes])
    pixels_NCHW = torch.from_numpy(pixels_NHWC).permute(0, 3, 1, 2)
    full_NC = (labels_NCA := cell_labels(scenes))[..., 0] > 0
    owner_M = torch.arange(len(scenes)).unsqueeze(1).expand_as(full_NC)[full_NC]
    features_MD = by_cell(_features(tower, pixels_NCHW).float())[full_NC]
    labels_MA = labels_NCA[full_NC]
    train_M = owner_M < num_train
    heads = nn.Linear(features_MD.shape[1], sum(PARTS))
    optimizer = torch.optim.LBFGS(heads.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        logits = heads(features_MD[train_M]).split(PARTS, dim=-1)
        losses = [F.cross_entropy(lk, labels_MA[train_M, a]) for a, lk in enumerate(logits)]
        loss = torch.stack(losses).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    right = {}
    with torch.no_grad():
        for a, logits_MK in enumerate(heads(features_MD[~train_M]).split(PARTS, dim=-1)):
            hits = logits_MK.argmax(-1) == labels_MA[~train_M, a]
            right[("colour", "shape", "size")[a]] = hits.float().mean().item()
    return right


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

    def loss(self, mixture: dict[str, float]) -> Tensor:
        """Mean negative log-likelihood of the answers' tokens and the end of sequence."""
        picked = self.rng.sample(range(len(self.scenes)), 32)
        tasks = self.rng.choices(list(mixture), list(mixture.values()), k=len(picked))
        rows = [(i, *self.tokens(self.scenes[i], t)) for i, t in zip(picked, tasks, strict=True)]
        rows.sort(key=lambda row: len(row[1]))  # rows of like length waste little padding
        sums = [self._loss(rows[first : first + 8]) for first in range(0, len(rows), 8)]
        num_tokens = sum(len(ids) - start for _, ids, start in rows)
        return torch.stack(sums).sum() / num_tokens

    def _loss(self, rows: list[tuple[int, list[int], int]]) -> Tensor:
        longest = max(len(ids) for _, ids, _ in rows)
        pad = self.processor.tokenizer.pad_token_id
        ids_BT = torch.tensor([ids + [pad] * (longest - len(ids)) for _, ids, _ in rows])
        answers_BT = torch.zeros_like(ids_BT, dtype=torch.bool)
        for row, (_, ids, start) in enumerate(rows):
            answers_BT[row, start : len(ids)] = True
        embeds_BTD = self.model.get_input_embeddings()(ids_BT)
        shown = [i for i, ids, _ in rows if self.image_id in ids]
        if shown:
            images_BPD = self.model.model.multi_modal_projector(self.features_NPD[shown].float())
            at_BT1 = (ids_BT == self.image_id).unsqueeze(-1)
            embeds_BTD = embeds_BTD.masked_scatter(at_BT1, images_BPD)
        # Rows are padded on the right, so the causal mask alone keeps real tokens clean.
        hidden_BTD = self.model.model.language_model(inputs_embeds=embeds_BTD).last_hidden_state
        logits_KV = self.model.lm_head(hidden_BTD[:, :-1][answers_BT[:, 1:]])
        return F.cross_entropy(logits_KV, ids_BT[:, 1:][answers_BT[:, 1:]], reduction="sum")

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
    _save_weights(state, folder / "model.safetensors")


def _save_weights(state: dict[str, Tensor], path: Path) -> None:
    save_file(state, path, metadata={"format": "pt"})
    path.chmod(0o644)  # it writes files that only their owner may read
    with path.open("rb") as written:
        digest = hashlib.file_digest(written, hashlib.sha256).hexdigest()
    print(f"sha256 {digest} {path.parent.name}/{path.name}", flush=True)


def train_clip(training: Training, rng: random.Random) -> None:
    folder = training.out / "clip"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    tokenizer = word_tokenizer(_all_texts(), end=True)
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
    scenes, pixels_NCHW = draw(training, UNBIASED)
    contrast = open_clip.ClipLoss()

    def loss() -> Tensor:
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
        picked = rng.sample(range(len(scenes)), 128)
        texts = [_clip_text(scenes[i], rng) for i in picked]
        image_BE, text_BE, scale = model(_scaled(pixels_NCHW[picked]), tokenize(texts))
        return contrast(image_BE, text_BE, scale)

    unfinished = Unfinished(training, "clip", model, rng)
    unfinished.run("clip", training.clip_steps, _adamw(model, 1e-3, weight_decay=0.02), loss)
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    _save_weights(state, folder / "open_clip_model.safetensors")
    unfinished.end()


def _clip_text(scene: Scene, rng: random.Random) -> str:
    """Half the time all that the scene shows, half the time one turn: what the score will see."""
    kind = rng.choice(("detail", rng.choice(c3l.KINDS)))
    return " ".join(draw_turn(scene, kind, rng))


if __name__ == "__main__":
    main(tyro.cli(Training, description=__doc__))
