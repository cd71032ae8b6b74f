"""The tuned model as the files of the model it was tuned from, so that what loads one loads both.

transformers renames weights when it loads them, and not back when it saves them: LLaVA's vision
tower comes out under names that vLLM refuses. So the original's files are written again, name by
name, and only the weights that have changed are replaced.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from c3l_ray.errors import PreflightError
from c3l_ray.model_files import local
from c3l_ray.train.learning.learner import Learner, adapter

Shapes = dict[str, list[int]]


def folder_of(name: str) -> Path:
    """Where a model's files lie on this machine, those of the hub and of S3 copied to it."""
    name = local(name)
    if Path(name).is_dir():
        return Path(name)
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(name))


def check(name: str) -> dict[str, str]:
    """The names of a model's weights as `names` has them, from its config and its files' heads.

    Raises:
        PreflightError: it cannot be tuned, or what would be tuned could not be written.
    """
    from transformers import AutoConfig, AutoModelForImageTextToText

    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(AutoConfig.from_pretrained(local(name)))
    adapter(model, name)
    # A weight that is tied to another is there once.
    return names({path: list(weight.shape) for path, weight in model.named_parameters()}, name)


def names(loaded_shapes: Shapes, name: str) -> dict[str, str]:
    """The original's name of each of a loaded model's weights.

    A weight belongs to the original one of its shape whose name ends most alike; among equals, to
    the one that shares the most words.

    Raises:
        PreflightError: the original has no safetensors, or weights that the loaded model holds otherwise.
    """
    original_shapes = _in_files(folder_of(name))
    if not original_shapes:
        raise PreflightError(f"--model.name {name}: has no weights in safetensors")
    found: dict[str, str] = {}
    for loaded, shape in loaded_shapes.items():
        alike = [original for original, its in original_shapes.items() if its == shape]
        best = max(alike, key=lambda original: _likeness(loaded, original), default="")
        if _likeness(loaded, best)[0] == 0:
            raise PreflightError(
                f"--model.name {name}: {loaded} is not in its files as the model holds it, so what "
                "is tuned could not be written back; such models cannot be tuned here"
            )
        found[loaded] = best
    twice = len(found) - len(set(found.values()))
    if twice:
        raise PreflightError(f"--model.name {name}: {twice} weights cannot be told from each other")
    return found


def changed(learner: Learner) -> Iterator[tuple[str, Tensor]]:
    """Names and values of the weights that learnt, LoRA merged into the weight it belongs to.

    Names are those of the model as transformers loads it. Every worker must go through all of
    them: where they share the weights, each gives its part.
    """
    model: Any = learner.model
    lora = hasattr(model, "peft_config")
    for path, module in model.named_modules():
        if lora and hasattr(module, "lora_A"):
            (adapter,) = module.active_adapters
            delta_OI = _whole(module.lora_B[adapter].weight) @ _whole(module.lora_A[adapter].weight)
            weight_OI = _whole(module.base_layer.weight)
            name = path.removeprefix("base_model.model.") + ".weight"
            yield name, weight_OI + module.scaling[adapter] * delta_OI
    if not lora:
        for name, weight in model.named_parameters():
            if weight.requires_grad:
                yield name, _whole(weight)


def files(name: str, tuned: Mapping[str, Tensor]) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the tuned model's files.

    Args:
        name: of the original.
        tuned: weights in place of the original's, by the original's names.
    """
    from safetensors.torch import load_file, save

    folder = folder_of(name)
    for path in sorted(folder.glob("*")):
        if path.suffix == ".safetensors":
            weights = load_file(path)
            for each in weights.keys() & tuned.keys():
                weights[each] = tuned[each].to(weights[each].dtype).cpu().contiguous()
            yield path.name, save(weights, metadata={"format": "pt"})
        elif path.is_file() and path.suffix in (".json", ".jinja", ".txt", ".model", ".tiktoken"):
            yield path.name, path.read_bytes()


def _whole(weight: Tensor) -> Tensor:
    """A weight in float32, gathered where workers share it."""
    full = weight.full_tensor() if isinstance(weight, DTensor) else weight
    return full.detach().float()


def _in_files(folder: Path) -> Shapes:
    from safetensors import safe_open

    found: Shapes = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as weights:
            found |= {name: weights.get_slice(name).get_shape() for name in weights.keys()}  # noqa: SIM118
    return found


def _likeness(loaded: str, original: str) -> tuple[int, int]:
    """How many of the last words of two names are the same, and how many words in all."""
    ours, theirs = loaded.split("."), original.split(".")
    last = 0
    while last < min(len(ours), len(theirs)) and ours[-1 - last] == theirs[-1 - last]:
        last += 1
    return last, len(set(ours) & set(theirs))
