"""Output tokens per second against `vllm bench throughput` with prompts and replies as long."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.bench.pipeline_work import Setting
from tests.bench.steady import Measurement

RATE = re.compile(r"^Throughput:.* ([0-9.]+) output tokens/s", re.MULTILINE)


def find_gpu() -> tuple[str, float] | None:
    """The first GPU's name and its memory in GiB; None where there is none.

    The driver's own tool is asked, since torch would leave a context on the card.
    """
    query = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return None
    return parse_gpu(answer.stdout)


def parse_gpu(answer: str) -> tuple[str, float] | None:
    """As `find_gpu`, of the tool's answer: lines of a name and MiB."""
    name, _, mib = answer.partition("\n")[0].rpartition(",")
    return (name.strip(), float(mib) / 1024) if name and mib.strip().isdigit() else None


def make_throughput_command(setting: Setting, bare: Measurement) -> list[str]:
    """vLLM's own bench over random texts as long as our prompts, their image's tokens included.

    Args:
        setting: of the arms.
        bare: the arm that counted the tokens of prompts and replies.
    """
    num_prompts = bare.images * setting.turns
    flags = {
        "--model": setting.model,
        "--dtype": setting.dtype,
        "--max-model-len": setting.max_len,
        "--max-num-seqs": setting.max_seqs,
        "--max-num-batched-tokens": setting.step_tokens,
        "--gpu-memory-utilization": 0.9,
        "--dataset-name": "random",
        "--random-input-len": round(bare.prompt_tokens / num_prompts),
        "--random-output-len": max(1, round(bare.tokens / num_prompts)),
        "--num-prompts": num_prompts,
    }
    words = [str(word) for flag in flags.items() for word in flag]
    return ["vllm", "bench", "throughput", *words]


def measure_throughput(command: list[str], environment: dict[str, str]) -> float | None:
    """The output tokens per second that the command prints; None where vLLM's tool is not here.

    Raises:
        RuntimeError: it failed; the end of what it wrote says why.
    """
    beside = Path(sys.executable).parent / command[0]
    tool = str(beside) if beside.exists() else shutil.which(command[0])
    if tool is None:
        return None
    ended = subprocess.run(
        [tool, *command[1:]],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    rate = parse_throughput(ended.stdout)
    if ended.returncode or rate is None:
        raise RuntimeError(f"{' '.join(command)} failed:\n{ended.stdout[-2000:]}")
    return rate


def parse_throughput(output: str) -> float | None:
    """The output tokens per second in what `vllm bench throughput` prints."""
    found = RATE.search(output)
    return float(found[1]) if found else None


def compute_token_rate(measured: Measurement) -> float:
    """Output tokens per second of an arm in its steady state."""
    return measured.steady_rate * measured.tokens / measured.images
