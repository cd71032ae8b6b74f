"""vLLM behind our own protocol: token ids and an image in, a reply out. Nothing else imports it."""

import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import psutil

from c3l_ray.errors import EngineFailure, PreflightError, RefusedRequest
from c3l_ray.inference.beams import beam_search
from c3l_ray.inference.engine_protocol import Decoding, EngineLoad, GenerationRequest, Reply
from c3l_ray.inference.engine_settings import (
    choose_max_len,
    choose_step_tokens,
    read_position_limit,
)
from c3l_ray.inference.large_imports import without_collection
from c3l_ray.inference.model_check import has_linear_attention
from c3l_ray.model_config import GeneratorModel, Sampling
from c3l_ray.model_files import resolve_model
from c3l_ray.stall_watch import give_sign


class Engine:
    """vLLM's asynchronous engine, filled by as many concurrent `ask` calls as its user makes.

    Args:
        model: to load, and how.
        sampling: of requests that bring no decoding of their own.
        longest_request: the tokens of prompt and reply that it must take at least.

    Attributes:
        notes: what the user should know about the engine's replies, a sentence each.
        load: of the engine, as it is now.

    Raises:
        PreflightError: vLLM does not compute the model in this precision here.
    """

    def __init__(
        self, model: GeneratorModel, sampling: Sampling, *, longest_request: int = 0
    ) -> None:
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
        os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")  # GiB
        # Binding to cores would put an engine and its neighbours on the same one.
        os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
        with without_collection():
            from vllm.engine.arg_utils import AsyncEngineArgs
            from vllm.platforms import current_platform
            from vllm.v1.engine.async_llm import AsyncLLM

        on_cpu = current_platform.is_cpu()
        path = resolve_model(model.name, model.revision)
        carries_state_on_cpu = on_cpu and has_linear_attention(
            path, trust_remote_code=model.trust_remote_code
        )
        if on_cpu and model.tensor_parallel == 1:
            # The engine's process then computes itself: one process and half of the start less.
            # vLLM has a worker so that it can bind threads to cores, which is off.
            os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        gpu_share = model.gpu_memory or 0.9
        steps: dict[str, Any]
        if on_cpu:
            # A seeded request whose prompt is cut in chunks fails on the CPU, so there the budget
            # of a step holds whole prompts.
            steps = {"enable_chunked_prefill": False, "enforce_eager": True}
            steps |= {"max_num_batched_tokens": model.step_tokens} if model.step_tokens else {}
        else:
            step_tokens = choose_step_tokens(
                model.step_tokens,
                gpu_gib=current_platform.get_device_total_memory() / 2**30,
                gpu_name=current_platform.get_device_name(),
                share=gpu_share,
            )
            steps = {"max_num_batched_tokens": step_tokens}
        limit = read_position_limit(path, trust_remote_code=model.trust_remote_code)
        args = AsyncEngineArgs(
            model=path,
            trust_remote_code=model.trust_remote_code,
            dtype=model.dtype,
            max_model_len=choose_max_len(
                model.max_len, longest_request=longest_request, model_limit=limit
            ),
            max_num_seqs=model.max_seqs,
            tensor_parallel_size=model.tensor_parallel,
            gpu_memory_utilization=gpu_share,
            limit_mm_per_prompt={"image": 1, "video": 0, "audio": 0},
            mm_processor_cache_gb=1,  # an image's requests share its preprocessing
            # And their prefix, also while a correction makes it grow. vLLM keeps a state of linear
            # attention at the end of a chunk only.
            enable_prefix_caching=not carries_state_on_cpu,
            disable_log_stats=True,
            **steps,
        )
        if carries_state_on_cpu:
            dtype = str(args.create_model_config().dtype).removeprefix("torch.")
            if dtype != "bfloat16":
                raise PreflightError(
                    f"--model.dtype {model.dtype}: {model.name} has layers of linear attention, "
                    f"which vLLM computes on a CPU in bfloat16 only, not in {dtype}; set "
                    "--model.dtype bfloat16"
                )
        self._sampling = sampling
        self._llm = AsyncLLM.from_engine_args(args)
        self.load = EngineLoad()
        self.notes: list[str] = []
        if on_cpu and self._llm.model_config.is_mm_prefix_lm:
            self.notes.append(
                f"on the CPU vLLM applies causal attention to the image tokens of {model.name}, "
                "against the model's design, so its replies are worse than on a GPU"
            )
        self._end_ids = _end_ids(self._llm)
        self._num_requests = 0
        self._watch = _kill_with_this_process(psutil.Process().children(recursive=True))

    async def ask(self, request: GenerationRequest) -> Reply:
        """The reply to one request.

        Raises:
            RefusedRequest: the engine does not take this prompt or image.
            EngineFailure: the engine is gone.
        """
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

        prompt = {
            "prompt_token_ids": request.prompt_ids,
            "multi_modal_data": {"image": request.image},
            "multi_modal_uuids": {"image": request.image_key},
        }
        decoding = request.decoding or Decoding(
            temperature=self._sampling.temperature,
            top_p=self._sampling.top_p,
            max_tokens=self._sampling.max_tokens,
        )
        if decoding.num_beams > 1:
            return await self._search(prompt, decoding, request.keep_special_tokens)
        constraint = None
        if request.json_schema or request.pattern:
            constraint = StructuredOutputsParams(json=request.json_schema, regex=request.pattern)
        params = SamplingParams(
            temperature=decoding.temperature,
            top_p=decoding.top_p,
            max_tokens=decoding.max_tokens,
            repetition_penalty=decoding.repetition_penalty,
            stop=list(decoding.stops),
            include_stop_str_in_output=bool(decoding.stops),
            seed=request.seed,
            skip_special_tokens=not request.keep_special_tokens,
            structured_outputs=constraint,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        output = await self._generate(prompt, params)
        # `stop_reason` is a string at a stop string, and a number at an end of sequence other than
        # the tokenizer's own.
        at_stop_string = isinstance(output.stop_reason, str)
        return Reply(
            text=output.text,
            finish_reason="stop_string" if at_stop_string else output.finish_reason,
            num_tokens=len(output.token_ids),
        )

    async def _search(
        self, prompt: dict[str, Any], decoding: Decoding, keep_special_tokens: bool
    ) -> Reply:
        """The likeliest reply that a beam search finds, with a request for each beam and token."""
        from vllm import SamplingParams

        params = SamplingParams(
            temperature=0, max_tokens=1, logprobs=2 * decoding.num_beams, detokenize=False
        )

        async def next_logprobs(ids: tuple[int, ...]) -> dict[int, float]:
            longer = {**prompt, "prompt_token_ids": [*prompt["prompt_token_ids"], *ids]}
            output = await self._generate(longer, params)
            return {token: entry.logprob for token, entry in output.logprobs[0].items()}

        def decode(ids: Sequence[int]) -> str:
            text: str = self._llm.get_tokenizer().decode(
                ids, skip_special_tokens=not keep_special_tokens
            )
            return text

        beam, num_tokens = await beam_search(
            next_logprobs,
            decode,
            num_beams=decoding.num_beams,
            max_tokens=decoding.max_tokens,
            end_ids=self._end_ids,
            stops=decoding.stops,
        )
        return Reply(text=decode(beam.ids), finish_reason=beam.finish_reason, num_tokens=num_tokens)

    async def _generate(self, prompt: dict[str, Any], params: Any) -> Any:
        """vLLM's output for one request, with its errors as ours."""
        from vllm.exceptions import VLLMClientError
        from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

        self._num_requests += 1
        request_id = f"ask-{self._num_requests}"
        self.load.requests += 1
        try:
            async for answer in self._llm.generate(prompt, params, request_id):
                output = answer.outputs[0]
            give_sign()
            self.load.prompt_tokens += len(answer.prompt_token_ids or ())
            self.load.cached_tokens += answer.num_cached_tokens or 0
        except EngineDeadError as error:
            raise EngineFailure(str(error)) from error
        except (VLLMClientError, EngineGenerateError, ValueError) as error:
            # vLLM wraps whatever went wrong on its side: only a bad request is this row's fault.
            cause = error.__cause__ if isinstance(error, EngineGenerateError) else error
            if not isinstance(cause, (VLLMClientError, ValueError)):
                raise EngineFailure(f"it failed a request: {cause!r}") from error
            raise RefusedRequest(str(cause)) from error
        finally:
            self.load.requests -= 1
        if output.finish_reason not in ("stop", "length"):
            raise RefusedRequest(f"the engine ended the reply: {output.finish_reason}")
        return output

    def close(self) -> None:
        """Ends the engine's processes, which otherwise outlive this one for a while."""
        self._llm.shutdown()
        # At the interpreter's end it would fail to shut down a second time, and say so.
        del self._llm
        self._watch.kill()
        self._watch.wait()


def _end_ids(llm: Any) -> set[int]:
    """The tokens that end a reply: the tokenizer's, and those of the checkpoint's generation."""
    eos = llm.model_config.try_get_generation_config().get("eos_token_id")
    eos_ids = eos if isinstance(eos, list) else [eos]
    return {token for token in (llm.get_tokenizer().eos_token_id, *eos_ids) if token is not None}


_WATCH_SCRIPT = """
import contextlib, psutil, sys
sys.stdin.read()
for pid, created in children:
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        if process.create_time() == created:
            process.kill()
"""


def _kill_with_this_process(children: list[psutil.Process]) -> subprocess.Popen[bytes]:
    """Starts a watch that kills the engine's processes when this one ends, however it ends.

    Without it they outlive a killed parent, and hold memory that the restarted job needs. The watch
    reads a pipe that closes with this process.
    """
    # A pid may be in use again by then, so the time of its start is compared too.
    pids_and_starts = [(child.pid, child.create_time()) for child in children]
    return subprocess.Popen(
        [sys.executable, "-c", f"children = {pids_and_starts!r}\n{_WATCH_SCRIPT}"],
        stdin=subprocess.PIPE,
        start_new_session=True,  # a signal to our group must not end the watch before its work
    )
