"""How large an engine's steps and requests are, in one place, with the reasons.

One number stands with its flag, `GeneratorModel.max_seqs`: 256 requests at once, vLLM's own for
GPUs below 70 GiB. Above, vLLM's offline class takes 1,024, for texts. A request with an image has
about 1,000 tokens, so 256 of them take 35 GiB of cache at the 144 KiB a token of Qwen3-VL-8B, which
a GPU of 80 GiB has beside the weights; of 1,024 most would wait for cache, or lose theirs and begin
anew. It also bounds the decoded images that the process holds (`generator.py`). Not measured on a
GPU.
"""

from typing import Any

from PIL import Image

from c3l_ray import chat
from c3l_ray.config import GenerateConfig, GeneratingConfig

LARGE_STEP, SMALL_STEP = 16_384, 8_192
"""Tokens of one step. An engine that is built without a server's context gets 2,048 from vLLM, one
to three prompts with an image; these are vLLM's own numbers for its offline class."""
LARGE_GPU_GIB = 70
"""vLLM takes the large step for GPUs from this memory on, except for the A100, which it slows."""
LARGE_SHARE_GIB = 40
"""A step of 16,384 tokens takes a few GiB beside the weights, which a small share lacks."""

MIN_MAX_LEN = 8_192
"""Of a request where the model allows it: room for any image of the tested families, and for what
cannot be foreseen. It costs at most 4 GiB of cache (LLaVA-1.5-7B, 512 KiB a token)."""
PROMPT_TOKENS = 1_024
"""Of our instructions with a chat template's own words; the longest has about 300."""
ASPECTS = (1.0, 2.0, 0.5, 4.0, 0.25, 16.0, 1 / 16)
"""Widths by heights of images whose tokens are counted: families cut images by their shape."""


def choose_step_tokens(asked: int | None, *, gpu_gib: float, gpu_name: str, share: float) -> int:
    """The tokens of one step of an engine on a GPU.

    Args:
        asked: by the user, or None.
        gpu_gib: the GPU's memory in GiB.
        gpu_name: as the driver has it, such as "NVIDIA H100 80GB HBM3".
        share: of that memory for the engine.
    """
    if asked is not None:
        return asked
    is_large = gpu_gib >= LARGE_GPU_GIB and "a100" not in gpu_name.lower()
    return LARGE_STEP if is_large and gpu_gib * share >= LARGE_SHARE_GIB else SMALL_STEP


def choose_max_len(
    asked: int | None, *, longest_request: int, model_limit: int | None
) -> int | None:
    """The longest request that an engine takes, in tokens; None leaves it to the model's limit.

    vLLM does not start where its cache cannot hold one request of this length, and models of today
    allow 262,144 tokens, 36 GiB for an 8B.

    Args:
        asked: by the user, or None.
        longest_request: that the run will make.
        model_limit: the model's positions, or None where its config does not say.
    """
    if asked is not None:
        return asked
    wanted = max(MIN_MAX_LEN, -(-longest_request // 1_024) * 1_024)
    return wanted if model_limit is not None and wanted < model_limit else None


def longest_request(processor: Any, config: GeneratingConfig) -> int:
    """The tokens of the longest prompt and reply that a run can make, in its largest image.

    Of questions that were asked elsewhere, only as many tokens as of a longest reply are foreseen.

    Args:
        processor: of the model.
        config: of the run.
    """
    longest_reply = config.sampling.max_tokens
    longest_addition = 0  # to a prompt: the question, and the reply that a step goes on from
    if isinstance(config, GenerateConfig) and config.corrects:
        rules = config.correction
        num_steps = max(rules.max_steps, rules.max_detail_steps)
        longest_addition = num_steps * rules.max_tokens
    if config.answers:
        longest_addition = max(longest_addition, config.sampling.max_tokens)
    return (
        PROMPT_TOKENS
        + _count_image_tokens(processor, config.max_pixels)
        + (longest_reply + longest_addition)
    )


def read_position_limit(path: str, *, trust_remote_code: bool) -> int | None:
    """The positions that a model's config declares, or None.

    Args:
        path: of the model's folder, or its name.
        trust_remote_code: whether code of the model's own may run.
    """
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code)
    limit: int | None = getattr(config.get_text_config(), "max_position_embeddings", None)
    return limit


def _count_image_tokens(processor: Any, max_pixels: int) -> int:
    """The most tokens of an image of this many pixels, over some shapes; 0 if none is taken."""
    text = chat.answer_prompt(processor, "", with_image=True)
    most = 0
    for aspect in ASPECTS:
        height = max(1, round((max_pixels / aspect) ** 0.5))
        image = Image.new("RGB", (max(1, max_pixels // height), height))
        try:
            inputs = processor(text=[text], images=[[image]], return_tensors="pt")
        except Exception:  # a shape that the processor refuses becomes no request either
            continue
        most = max(most, inputs["input_ids"].shape[1])
    return most
