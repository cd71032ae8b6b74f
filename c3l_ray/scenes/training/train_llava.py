"""The tiny LLaVA, trained from scratch in stages.

The order matters. The vision tower learns first, supervised, and is frozen. Projector and language
half then learn to read unbiased scenes; biased ones come last, and overlay what was read with a
prior. Trained on biased scenes from the start, the language half never learns to look.
"""

import random
import shutil
from functools import partial
from pathlib import Path

import torch
from torch import nn
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from c3l_ray.scenes.draw import BIASED, CELLS, SIDE_PX, UNBIASED
from c3l_ray.scenes.training.loop import Training, Unfinished, muon, save_weights, trapezoid
from c3l_ray.scenes.training.naming import naming_loss
from c3l_ray.scenes.training.shared_pass import Learner
from c3l_ray.scenes.training.tokenizer import IMAGE_TOKEN, all_texts, word_tokenizer
from c3l_ray.scenes.training.tower import PARTS, PATCH_PX, cell_labels, draw, features, tower_loss

CHAT_TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'user' %}USER:{% else %} ASSISTANT:{% endif %}"
    "{% for c in m.content %}{% if c.type == 'image' %}<image>{% else %} {{ c.text }}{% endif %}"
    "{% endfor %}{% if m.role == 'assistant' %}</s>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %} ASSISTANT:{% endif %}"
)
NUM_SCENES = 8  # in a step: many small steps teach more than few large ones
# What is drawn of each scene at a step.
READING = ("caption",) + ("asked",) * 5
FINDING = ("found",) * 8 + ("asked",) * 4
ANSWERING = ("found",) * 4 + ("asked",) * 10
TURNS = ("posed",) * 3 + ("asked",) * 5 + ("continued", "text_only")
POSING = ("posed",) * 6 + ("asked",) * 2 + ("reasoned",) * 3 + ("continued", "text_only")
UNBIASED_SHARE = 1 / 8  # of the scenes of the last stage, so that things are still looked at


def train_llava(training: Training, rng: random.Random) -> None:
    """Writes `llava/` under the training's folder, as vLLM and transformers read it."""
    processor = new_processor(word_tokenizer(all_texts(), end=False))
    model = new_llava(processor.tokenizer)
    tower = model.model.vision_tower
    heads = nn.Linear(tower.config.hidden_size, sum(PARTS) + len(CELLS))
    unfinished = Unfinished(training, "llava", nn.ModuleDict({"a": model, "b": heads}), rng)

    if "bias" not in unfinished.stages:
        _see_and_read(training, unfinished, model, processor, heads, rng)
    for parameter in [*tower.parameters(), *heads.parameters()]:
        parameter.requires_grad_(False)
    _take_a_prior(training, unfinished, model, processor, rng)
    _save(model, processor, training.out / "llava")
    unfinished.end()


def _see_and_read(
    training: Training,
    unfinished: Unfinished,
    model: LlavaForConditionalGeneration,
    processor: LlavaProcessor,
    heads: nn.Linear,
    rng: random.Random,
) -> None:
    """The stages on unbiased scenes: the tower, and with it frozen, all that can be said."""
    tower = model.model.vision_tower
    scenes, pixels_NCHW = draw(training.llava_scenes, UNBIASED)
    labels_NCA = cell_labels(scenes)
    unfinished.run(
        "tower",
        training.tower_steps,
        muon(nn.ModuleDict({"a": tower, "b": heads}), 2e-3),
        lambda: tower_loss(tower, heads, pixels_NCHW, labels_NCA, rng),
        trapezoid,
    )
    for parameter in [*tower.parameters(), *heads.parameters()]:
        parameter.requires_grad_(False)
    features_NPD = features(tower, pixels_NCHW)
    unfinished.run(
        "naming",
        training.naming_steps,
        muon(model, 3e-3),
        lambda: naming_loss(model, processor.tokenizer, features_NPD, labels_NCA, rng),
        trapezoid,
    )
    learn = Learner(model, processor, scenes, features_NPD, rng)
    # Captions, which are long, teach what is in each cell. Then the few words of an answer that say
    # which thing has which colour are what is left to learn, so every turn weighs the same; and
    # finding things, which they rest on, comes first.
    for stage, num_steps, tasks, by_turn in (
        ("reading", training.reading_steps, READING, False),
        ("finding", training.finding_steps, FINDING, True),
        ("answering", training.answering_steps, ANSWERING, True),
    ):
        _teach(unfinished, learn, stage, num_steps, tasks, by_turn=by_turn)


def _take_a_prior(
    training: Training,
    unfinished: Unfinished,
    model: LlavaForConditionalGeneration,
    processor: LlavaProcessor,
    rng: random.Random,
) -> None:
    """The stages on biased scenes: all kinds of turns, and then those that the model poses."""
    tower = model.model.vision_tower
    biased, pixels_NCHW = draw(training.llava_scenes, BIASED)
    biased_NPD = features(tower, pixels_NCHW)
    num_unbiased = round(UNBIASED_SHARE * training.llava_scenes)
    unbiased, pixels_NCHW = draw(num_unbiased, UNBIASED)
    mixed_NPD = torch.cat([features(tower, pixels_NCHW), biased_NPD[num_unbiased:]])
    for stage, num_steps, tasks, scenes, features_NPD in (
        ("bias", training.bias_steps, TURNS, biased, biased_NPD),
        ("posing", training.posing_steps, POSING, [*unbiased, *biased[num_unbiased:]], mixed_NPD),
    ):
        learn = Learner(model, processor, scenes, features_NPD, rng)
        _teach(unfinished, learn, stage, num_steps, tasks, by_turn=True)


def _teach(
    unfinished: Unfinished,
    learn: Learner,
    stage: str,
    num_steps: int,
    tasks: tuple[str, ...],
    *,
    by_turn: bool,
) -> None:
    """A stage of what is said of scenes, at the rate of all of them."""
    loss = partial(learn.loss, NUM_SCENES, tasks, by_turn=by_turn)
    unfinished.run(stage, num_steps, muon(learn.model, 3e-3), loss, trapezoid)


def new_processor(tokenizer: PreTrainedTokenizerFast) -> LlavaProcessor:
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


def new_llava(tokenizer: PreTrainedTokenizerFast) -> LlavaForConditionalGeneration:
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
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
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
    model = LlavaForConditionalGeneration(config).float()
    model.set_attn_implementation("eager")  # on a CPU, the others' backward pass is slow in 16 bits
    return model


def _save(model: LlavaForConditionalGeneration, processor: LlavaProcessor, folder: Path) -> None:
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
    save_weights(state, folder / "model.safetensors")
