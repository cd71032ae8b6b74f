"""A tuned model, once it is written, asked in vLLM: the proof that it loads there."""

import asyncio
import dataclasses
from dataclasses import dataclass
from typing import cast

import ray

from c3l_ray import chat
from c3l_ray.distributed.devices import count_gpus_of_largest_node, find_device
from c3l_ray.distributed.gpu_shares import ENGINE_SHARE
from c3l_ray.errors import C3LError, last_line
from c3l_ray.images import decode_image
from c3l_ray.model_config import GeneratorModel, Sampling
from c3l_ray.train.learning.memory import GIB, count_engine_bytes, count_engine_gpus
from c3l_ray.train.reading.encode import load_processor
from c3l_ray.train.training_config import TrainConfig

MAX_TOKENS = 32


@dataclass(frozen=True, kw_only=True)
class EnginePlan:
    """An engine for one question.

    Attributes:
        model: that it loads, and how.
        gpus: that it is given.
    """

    model: GeneratorModel
    gpus: float


def plan_engine(
    config: TrainConfig, tuned: str, like: GeneratorModel | None = None
) -> tuple[EnginePlan | None, str | None]:
    """An engine that holds a tuned model on the GPUs that it was trained on.

    Args:
        config: of the training, with the GPUs of its workers decided.
        tuned: name of the tuned model.
        like: how the rounds of jobs.c3l load their models, which is known to fit.

    Returns:
        The engine; or none, and a note that says why not.
    """
    gpus = config.workers.gpus or 0.0
    share = ENGINE_SHARE * min(1.0, gpus or 1.0)
    args = config.model.template_args
    if like is not None:
        model = dataclasses.replace(like, name=tuned, revision=None, template_args=args)
        model = dataclasses.replace(model, max_seqs=1, gpu_memory=like.gpu_memory or share)
        return EnginePlan(model=model, gpus=max(gpus, like.tensor_parallel) if gpus else 0.0), None
    num_gpus: int | None = 1
    device = find_device(gpus)
    if device is not None:
        max_gpus = 1
        if gpus >= 1:
            max_gpus = min(round(config.workers.num * gpus), count_gpus_of_largest_node())
        num_gpus = count_engine_gpus(config.model, device.memory, max_gpus)
        if num_gpus is None:
            return None, (
                f"the tuned model was not loaded in vLLM, which was to prove it: its weights, "
                f"{count_engine_bytes(config.model) / GIB:.1f} GiB, fit on no {max_gpus} GPUs "
                f"of {device.memory / GIB:.1f} GiB that one node has; jobs.generate with "
                "--model.tensor-parallel loads it where there are enough"
            )
    model = GeneratorModel(
        name=tuned,
        max_seqs=1,
        template_args=args,
        tensor_parallel=num_gpus or 1,
        gpu_memory=share,
    )
    return EnginePlan(model=model, gpus=max(gpus, num_gpus or 1) if gpus >= 1 else gpus), None


def ask_tuned_model(
    engine: EnginePlan, config: TrainConfig, *, image: bytes, instruction: str
) -> str:
    """What a tuned model replies in vLLM to an instruction about an image, greedily.

    Args:
        engine: that holds the model.
        config: of the training, with the size of images and the date of prompts.
        image: its bytes.
        instruction: that goes with it.

    Raises:
        C3LError: it does not load, or does not reply.
    """
    try:
        # In a process of its own: this one may have no GPU, and the engine's end is not its own.
        ask = ray.remote(num_gpus=engine.gpus, max_retries=0)(_ask_in_vllm)
        return cast(str, ray.get(ask.remote(engine.model, config, image, instruction)))
    except ray.exceptions.RayError as error:
        raise C3LError(
            f"the tuned model in {engine.model.name} does not load in vLLM: {last_line(error)}\n"
            f"what was trained stays; {config.flag('verify', off=True)} skips this check"
        ) from error


def _ask_in_vllm(model: GeneratorModel, config: TrainConfig, image: bytes, instruction: str) -> str:
    from c3l_ray.inference.engine import Engine
    from c3l_ray.inference.engine_protocol import GenerationRequest

    processor = load_processor(model.name, model.template_args, date=config.prompt_date)
    prompt = chat.answer_prompt(processor, instruction, with_image=True)
    engine = Engine(model, Sampling(temperature=0, max_tokens=MAX_TOKENS))
    request = GenerationRequest(
        prompt_ids=chat.tokenize(processor.tokenizer, prompt),
        image=decode_image(image, config.image_pixels),
        image_key="verify",
        seed=0,
    )
    try:
        return asyncio.run(engine.ask(request)).text
    finally:
        engine.close()
