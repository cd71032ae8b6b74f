"""The tiny LLaVA, trained from scratch in stages.

The order matters. The vision tower is trained first, supervised, and is then frozen. The projector
and the language half then learn to read unbiased scenes. Biased scenes come last, and add a prior
that overrides what is read. Trained on biased scenes from the start, the language half never learns
to look.
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

from c3l_ray.scenes.draw import BIASED, CELLS, UNBIASED
from c3l_ray.scenes.render import SIDE_PX
from c3l_ray.scenes.training.loop import (
    ResumableTraining,
    make_muon,
    save_weights,
    trapezoid_schedule,
)
from c3l_ray.scenes.training.naming import naming_loss
from c3l_ray.scenes.training.shared_pass import SharedPassLoss, Task
from c3l_ray.scenes.training.tokenizer import (
    IMAGE_TOKEN,
    list_training_texts,
    make_tokenizer,
)
from c3l_ray.scenes.training.tower import (
    NUM_CLASSES,
    PATCH_PX,
    compute_features,
    draw_training_scenes,
    label_cells,
    tower_loss,
)
from c3l_ray.scenes.training.weights_config import WeightsConfig

CHAT_TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'user' %}USER:{% else %} ASSISTANT:{% endif %}"
    "{% for c in m.content %}{% if c.type == 'image' %}<image>{% else %} {{ c.text }}{% endif %}"
    "{% endfor %}{% if m.role == 'assistant' %}</s>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %} ASSISTANT:{% endif %}"
)
SCENES_PER_STEP = 8  # many small steps teach more than few large ones
# The branches of each scene at a step, by stage.
READING: tuple[Task, ...] = ("caption",) + ("answer",) * 5
FINDING: tuple[Task, ...] = ("find",) * 8 + ("answer",) * 4
ANSWERING: tuple[Task, ...] = ("find",) * 4 + ("answer",) * 10
BIAS: tuple[Task, ...] = ("pose",) * 3 + ("answer",) * 5 + ("continue", "text_only")
POSING: tuple[Task, ...] = (
    ("pose",) * 6 + ("answer",) * 2 + ("reason",) * 3 + ("continue", "text_only")
)
UNBIASED_SHARE = 1 / 8  # of the scenes of the last stage, so that the model still looks at things


def train_llava(config: WeightsConfig, rng: random.Random) -> None:
    """Trains the LLaVA, and writes `llava/` as vLLM and transformers read it."""
    processor = make_processor(make_tokenizer(list_training_texts(), appends_end=False))
    model = make_llava(processor.tokenizer)
    tower = model.model.vision_tower
    heads = nn.Linear(tower.config.hidden_size, sum(NUM_CLASSES) + len(CELLS))
    training = ResumableTraining(config, "llava", nn.ModuleDict({"a": model, "b": heads}), rng)

    if "bias" not in training.stages:
        _train_on_unbiased_scenes(config, training, model, processor, heads, rng)
    _freeze(tower, heads)
    _train_on_biased_scenes(config, training, model, processor, rng)
    _save_checkpoint(model, processor, config.output / "llava")
    training.delete_checkpoint()


def _train_on_unbiased_scenes(
    config: WeightsConfig,
    training: ResumableTraining,
    model: LlavaForConditionalGeneration,
    processor: LlavaProcessor,
    heads: nn.Linear,
    rng: random.Random,
) -> None:
    """The stages that teach to see and to read: the tower, and once it is frozen, the rest."""
    tower = model.model.vision_tower
    scenes, pixels_NCHW = draw_training_scenes(config.llava_scenes, UNBIASED)
    labels_NCA = label_cells(scenes)
    training.train_stage(
        "tower",
        config.tower_steps,
        make_muon(nn.ModuleDict({"a": tower, "b": heads}), 2e-3),
        lambda: tower_loss(tower, heads, pixels_NCHW, labels_NCA, rng),
        trapezoid_schedule,
    )
    _freeze(tower, heads)
    features_NPD = compute_features(tower, pixels_NCHW)
    training.train_stage(
        "naming",
        config.naming_steps,
        make_muon(model, 3e-3),
        lambda: naming_loss(model, processor.tokenizer, features_NPD, labels_NCA, rng),
        trapezoid_schedule,
    )
    turns = SharedPassLoss(model, processor, scenes, features_NPD, rng)
    # Captions, which are long, teach what is in each cell. Then the few words of an answer that say
    # which thing has which colour are what is left to learn, so every turn has the same weight; and
    # finding things, which they rest on, comes first.
    _train_turns(training, turns, "reading", config.reading_steps, READING, average_turns=False)
    _train_turns(training, turns, "finding", config.finding_steps, FINDING)
    _train_turns(training, turns, "answering", config.answering_steps, ANSWERING)


def _train_on_biased_scenes(
    config: WeightsConfig,
    training: ResumableTraining,
    model: LlavaForConditionalGeneration,
    processor: LlavaProcessor,
    rng: random.Random,
) -> None:
    """The stages that add a prior: all kinds of turns, and then those that the model poses."""
    tower = model.model.vision_tower
    biased, pixels_NCHW = draw_training_scenes(config.llava_scenes, BIASED)
    biased_NPD = compute_features(tower, pixels_NCHW)
    num_unbiased = round(UNBIASED_SHARE * config.llava_scenes)
    unbiased, pixels_NCHW = draw_training_scenes(num_unbiased, UNBIASED)
    unbiased_NPD = compute_features(tower, pixels_NCHW)
    turns = SharedPassLoss(model, processor, biased, biased_NPD, rng)
    _train_turns(training, turns, "bias", config.bias_steps, BIAS)
    mixed = [*unbiased, *biased[num_unbiased:]]
    mixed_NPD = torch.cat([unbiased_NPD, biased_NPD[num_unbiased:]])
    turns = SharedPassLoss(model, processor, mixed, mixed_NPD, rng)
    _train_turns(training, turns, "posing", config.posing_steps, POSING)


def _train_turns(
    training: ResumableTraining,
    turns: SharedPassLoss,
    stage: str,
    num_steps: int,
    tasks: tuple[Task, ...],
    *,
    average_turns: bool = True,
) -> None:
    """A stage on turns about scenes, at the learning rate that all of these stages have."""
    compute_loss = partial(turns.draw_loss, SCENES_PER_STEP, tasks, average_turns=average_turns)
    optimizers = make_muon(turns.model, 3e-3)
    training.train_stage(stage, num_steps, optimizers, compute_loss, trapezoid_schedule)


def _freeze(*modules: nn.Module) -> None:
    for module in modules:
        module.requires_grad_(False)


def make_processor(tokenizer: PreTrainedTokenizerFast) -> LlavaProcessor:
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


def make_llava(tokenizer: PreTrainedTokenizerFast) -> LlavaForConditionalGeneration:
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


def _save_checkpoint(
    model: LlavaForConditionalGeneration, processor: LlavaProcessor, folder: Path
) -> None:
    """Writes the checkpoint with the weight names of LLaVA-1.5, which vLLM reads too."""
    shutil.rmtree(folder, ignore_errors=True)
    model.eval().save_pretrained(folder)
    processor.save_pretrained(folder)
    renamed_prefixes = {
        "model.language_model.": "language_model.model.",
        "model.vision_tower.": "vision_tower.vision_model.",
        "model.multi_modal_projector.": "multi_modal_projector.",
        "lm_head.": "language_model.lm_head.",
    }
    state = {}
    for name, tensor in model.state_dict().items():
        prefix = next(prefix for prefix in renamed_prefixes if name.startswith(prefix))
        state[renamed_prefixes[prefix] + name.removeprefix(prefix)] = tensor.contiguous()
    save_weights(state, folder / "model.safetensors")
