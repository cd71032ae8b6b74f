"""The one seam to vLLM: token ids and an image in, a reply out. Nothing else imports vllm."""

import dataclasses
import logging
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psutil
from PIL import Image

from c3l_ray.config import Model, Sampling
from c3l_ray.errors import EngineFailure, RefusedRequest
from c3l_ray.inference.beams import search
from c3l_ray.model_files import local


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What the model said.

    Attributes:
        text: the reply, without special tokens.
        finish: why it ended: "stop" by itself, "stop_string" at one of the decoding's, or "length"
            where it was cut.
        num_tokens: tokens generated, those of lost beams included.
    """

    text: str
    finish: str
    num_tokens: int


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """How one reply is drawn, where it is not as the engine's own sampling says.

    Attributes:
        temperature: 0 is greedy.
        top_p: the share of the probability that is drawn from.
        max_tokens: a longer reply is cut.
        repetition_penalty: vLLM's; it counts the prompt's tokens too.
        stops: texts that end the reply and are part of it.
        beams: over 1, the likeliest reply that so many beams find; only `max_tokens` and `stops`
            count beside it, and a request is made for each beam and token.
    """

    temperature: float
    top_p: float = 1.0
    max_tokens: int
    repetition_penalty: float = 1.0
    stops: tuple[str, ...] = ()
    beams: int = 1


class Engine:
    """vLLM's asynchronous engine, filled by as many concurrent `ask` calls as its user makes."""

    def __init__(self, model: Model, sampling: Sampling) -> None:
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
        os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")  # GiB
        # Binding to cores would put an engine and its neighbours on the same one.
        os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.platforms import current_platform
        from vllm.v1.engine.async_llm import AsyncLLM

        on_cpu = current_platform.is_cpu()
        # A seeded request whose prompt is cut in chunks fails on the CPU; so the step's budget
        # holds whole prompts there.
        whole_prompts = {"enable_chunked_prefill": False, "enforce_eager": True} if on_cpu else {}
        args = AsyncEngineArgs(
            model=local(model.name),
            dtype=model.dtype,
            max_model_len=model.max_len,
            max_num_seqs=model.max_seqs,
            tensor_parallel_size=model.tensor_parallel,
            gpu_memory_utilization=model.gpu_memory or 0.9,
            limit_mm_per_prompt={"image": 1, "video": 0, "audio": 0},
            mm_processor_cache_gb=1,  # an image's requests share its preprocessing
            enable_prefix_caching=True,  # and their prefix, also while a correction makes it grow
            disable_log_stats=True,
            **whole_prompts,
        )
        self._sampling = sampling
        self._llm = AsyncLLM.from_engine_args(args)
        if on_cpu and self._llm.model_config.is_mm_prefix_lm:
            logging.getLogger(__name__).warning(
                "%s: on the CPU vLLM lets a token of an image see no later one, against this "
                "model's design; replies are worse than those of a GPU",
                model.name,
            )
        self._end_ids = _end_ids(self._llm)
        self._num_asked = 0
        self._watch = _end_with_this_process(psutil.Process().children(recursive=True))

    async def ask(
        self,
        prompt_ids: list[int],
        image: Image.Image,
        *,
        image_key: str,
        seed: int,
        schema: dict[str, Any] | None = None,
        decoding: Decoding | None = None,
    ) -> Reply:
        """One reply.

        Args:
            prompt_ids: the rendered prompt, with one placeholder for the image.
            image: what the placeholder stands for.
            image_key: a name for this image's content; requests that share it share its work.
            seed: of the sampling.
            schema: of the JSON that the reply must be, where it must be any.
            decoding: where it is not as the engine's own sampling says.

        Raises:
            RefusedRequest: the engine will not take this prompt or image.
            EngineFailure: the engine is gone.
        """
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

        prompt = {
            "prompt_token_ids": prompt_ids,
            "multi_modal_data": {"image": image},
            "multi_modal_uuids": {"image": image_key},
        }
        if decoding is None:
            decoding = Decoding(**dataclasses.asdict(self._sampling))
        if decoding.beams > 1:
            return await self._likeliest(prompt, decoding)
        params = SamplingParams(
            temperature=decoding.temperature,
            top_p=decoding.top_p,
            max_tokens=decoding.max_tokens,
            repetition_penalty=decoding.repetition_penalty,
            stop=list(decoding.stops),
            include_stop_str_in_output=bool(decoding.stops),
            seed=seed,
            structured_outputs=StructuredOutputsParams(json=schema) if schema else None,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        reply = await self._generate(prompt, params)
        # Other ends of sequence than the tokenizer's own are told by their numbers.
        at_string = isinstance(reply.stop_reason, str)
        return Reply(
            text=reply.text,
            finish="stop_string" if at_string else reply.finish_reason,
            num_tokens=len(reply.token_ids),
        )

    async def _likeliest(self, prompt: dict[str, Any], decoding: Decoding) -> Reply:
        from vllm import SamplingParams

        params = SamplingParams(
            temperature=0, max_tokens=1, logprobs=2 * decoding.beams, detokenize=False
        )

        async def next_logprobs(ids: tuple[int, ...]) -> dict[int, float]:
            longer = {**prompt, "prompt_token_ids": [*prompt["prompt_token_ids"], *ids]}
            reply = await self._generate(longer, params)
            return {token: each.logprob for token, each in reply.logprobs[0].items()}

        def text_of(ids: Sequence[int]) -> str:
            text: str = self._llm.get_tokenizer().decode(ids, skip_special_tokens=True)
            return text

        beam, num_tokens = await search(
            next_logprobs,
            text_of,
            beams=decoding.beams,
            max_tokens=decoding.max_tokens,
            end_ids=self._end_ids,
            stops=decoding.stops,
        )
        return Reply(text=text_of(beam.ids), finish=beam.finish, num_tokens=num_tokens)

    async def _generate(self, prompt: dict[str, Any], params: Any) -> Any:
        """vLLM's output for one request, with its errors as ours."""
        from vllm.exceptions import VLLMClientError
        from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

        self._num_asked += 1
        try:
            async for output in self._llm.generate(prompt, params, f"ask-{self._num_asked}"):
                reply = output.outputs[0]
        except EngineDeadError as error:
            raise EngineFailure(str(error)) from error
        except (VLLMClientError, EngineGenerateError, ValueError) as error:
            # vLLM wraps whatever went wrong on its side: only a bad request is this row's fault.
            cause = error.__cause__ if isinstance(error, EngineGenerateError) else error
            if not isinstance(cause, (VLLMClientError, ValueError)):
                raise EngineFailure(f"it failed a request: {cause!r}") from error
            raise RefusedRequest(str(cause)) from error
        if reply.finish_reason not in ("stop", "length"):
            raise RefusedRequest(f"the engine ended the reply: {reply.finish_reason}")
        return reply

    def close(self) -> None:
        """Ends the engine's processes, which otherwise outlive this one for a while."""
        self._llm.shutdown()
        del self._llm  # by the end of the interpreter it would fail to shut down again, and say so
        self._watch.kill()
        self._watch.wait()


def _end_ids(llm: Any) -> set[int]:
    """The tokens that end a reply: the tokenizer's, and those of the checkpoint's generation."""
    more = llm.model_config.try_get_generation_config().get("eos_token_id")
    more = more if isinstance(more, list) else [more]
    return {each for each in (llm.get_tokenizer().eos_token_id, *more) if each is not None}


_WATCH = """
import contextlib, psutil, sys
sys.stdin.read()
for pid, created in known:
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        if process.create_time() == created:
            process.kill()
"""


def _end_with_this_process(children: list[psutil.Process]) -> subprocess.Popen[bytes]:
    """Has the engine's processes killed when this one is, however it ends.

    By themselves they outlive a killed parent, and their memory is missing where the job is started
    again. The watch reads a pipe that closes with this process.
    """
    known = [(child.pid, child.create_time()) for child in children]  # pids are used again
    return subprocess.Popen(
        [sys.executable, "-c", f"known = {known!r}\n{_WATCH}"],
        stdin=subprocess.PIPE,
        start_new_session=True,  # a signal to our group must not end the watch before its work
    )
