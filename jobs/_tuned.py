"""What a tuned model is, once written: the identity of its weights, and that vLLM can use it."""

import asyncio
import tempfile
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import ray

from c3l_ray import chat
from c3l_ray.config import Model, Sampling
from c3l_ray.data.commit import Output
from c3l_ray.errors import C3LError
from c3l_ray.images import decode
from c3l_ray.inference.checkpoint import check_vlm
from c3l_ray.train.encode import load_processor
from jobs._main import cause

MAX_TOKENS = 32


def identity(output: Output, folder: str) -> str:
    """The identity of the weights in a folder of an output, as other jobs will find it."""
    with _local(output, folder) as path:
        return check_vlm("--output", str(path))


def verified(
    output: Output, folder: str, *, image: bytes, instruction: str, max_pixels: int, gpus: float
) -> str:
    """What the model replies in vLLM to an instruction about an image, greedily.

    Raises:
        C3LError: it does not load, or does not reply.
    """
    try:
        # In a process of its own: this one may have no GPU, and the engine's end is not its own.
        ask = ray.remote(num_gpus=gpus, max_retries=0)(_ask)
        reply: str = ray.get(ask.remote(output, folder, image, instruction, max_pixels))
    except ray.exceptions.RayError as error:
        raise C3LError(
            f"the tuned model in {output.path}/{folder} does not load in vLLM: {cause(error)}\n"
            "what was trained stays; --no-verify skips this check"
        ) from error
    return reply


def _ask(output: Output, folder: str, image: bytes, instruction: str, max_pixels: int) -> str:
    from c3l_ray.inference.engine import Engine

    with _local(output, folder) as path:
        processor = load_processor(str(path))
        prompt = chat.answer_prompt(processor, instruction, image=True)
        engine = Engine(
            Model(name=str(path), max_seqs=1), Sampling(temperature=0, max_tokens=MAX_TOKENS)
        )
        try:
            asked = engine.ask(
                chat.token_ids(processor.tokenizer, prompt),
                decode(image, max_pixels),
                image_key="verify",
                seed=0,
            )
            return asyncio.run(asked).text
        finally:
            engine.close()


def _local(output: Output, folder: str) -> AbstractContextManager[Path | str]:
    """The folder on this machine's disk, copied where it lies elsewhere."""
    path = f"{output.root}/{folder}"
    if "file" in output.fs.protocol:
        return nullcontext(Path(path))
    copy = tempfile.TemporaryDirectory()
    output.fs.get(f"{path}/", f"{copy.name}/", recursive=True)
    return copy
