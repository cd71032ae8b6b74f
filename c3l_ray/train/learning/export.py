"""The tuned model as the files of the model it was tuned from, so that what loads one loads both.

transformers renames weights when it loads them, and not back when it saves them: LLaVA's vision
tower comes out under names that vLLM refuses. So the original's files are written again, name by
name, and only the weights that have changed are replaced.
"""

import copy
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.distributed.tensor import DTensor

from c3l_ray.errors import PreflightError
from c3l_ray.model_files import find_model_folder, is_loaded, read_weight_shapes
from c3l_ray.train.learning.learner import Learner
from c3l_ray.train.learning.loading import find_adapter, make_weightless_model

Shapes = dict[str, list[int]]


def check_exportable(name: str, revision: str | None = None) -> None:
    """Refuses a model that cannot be tuned, or could not be written back.

    Raises:
        PreflightError: it has no adapter of a known name, or as `match_weight_names`.
    """
    map_weight_names(name, revision)


def map_weight_names(name: str, revision: str | None = None) -> dict[str, str]:
    """The original's name of each weight of a model, from its config and its files' heads.

    Names of weights as transformers loads the model come first.

    Args:
        name: of the model.
        revision: of a hub name.

    Raises:
        PreflightError: as `check_exportable`.
    """
    model = make_weightless_model(name, revision)
    find_adapter(model, name)
    # A weight that is tied to another is there once.
    shapes = {path: list(weight.shape) for path, weight in model.named_parameters()}
    return match_weight_names(shapes, name, revision)


def match_weight_names(
    loaded_shapes: Shapes, name: str, revision: str | None = None
) -> dict[str, str]:
    """The original's name of each of a loaded model's weights.

    A weight belongs to the original one of its shape whose name ends most alike; among equals, to
    the one that shares the most words.

    Args:
        loaded_shapes: of the weights by their names, as transformers loads the model.
        name: of the model.
        revision: of a hub name.

    Raises:
        PreflightError: the original has no safetensors, or its files hold weights in another way
            than the loaded model does.
    """
    original_shapes = read_shapes(find_model_folder(name, revision))
    if not original_shapes:
        raise PreflightError(
            f"--model.name {name}: has no weights in safetensors of transformers' form"
        )
    original_names: dict[str, str] = {}
    for loaded_name, loaded_shape in loaded_shapes.items():
        candidates = [other for other, shape in original_shapes.items() if shape == loaded_shape]
        best = max(candidates, key=lambda other: _likeness(loaded_name, other), default="")
        if _likeness(loaded_name, best)[0] == 0:
            raise PreflightError(
                f"--model.name {name}: cannot map weight {loaded_name} to the checkpoint's files, "
                "so a tuned model could not be saved"
            )
        original_names[loaded_name] = best
    num_repeats = len(original_names) - len(set(original_names.values()))
    if num_repeats:
        raise PreflightError(
            f"--model.name {name}: {num_repeats} weights cannot be told from each other"
        )
    return original_names


def gather_tuned_weights(learner: Learner) -> Iterator[tuple[str, Tensor]]:
    """Names and values of the weights that learnt, LoRA merged into the weight it belongs to.

    Names are those of the model as transformers loads it. Every worker must go through all of
    them: where they share the weights, each gives its part.
    """
    model: Any = learner.model
    has_lora = hasattr(model, "peft_config")
    for path, module in model.named_modules():
        if has_lora and hasattr(module, "lora_A"):
            (adapter,) = module.active_adapters
            lora_A, lora_B = module.lora_A[adapter].weight, module.lora_B[adapter].weight
            delta_OI = _gather_float32(lora_B) @ _gather_float32(lora_A)
            weight_OI = _gather_float32(module.base_layer.weight)
            name = path.removeprefix("base_model.model.") + ".weight"
            yield name, weight_OI + module.scaling[adapter] * delta_OI
    if not has_lora:
        for name, weight in model.named_parameters():
            if weight.requires_grad:
                yield name, _gather_float32(weight)


def gather_adapter_weights(learner: Learner) -> Iterator[tuple[str, Tensor]]:
    """Names, as peft saves them, and values of the LoRA matrices; every worker must go through.

    Nothing where the model learnt otherwise.
    """
    model: Any = learner.model
    for adapter in getattr(model, "peft_config", ()):
        for name, weight in model.named_parameters():
            if f".lora_A.{adapter}." in name or f".lora_B.{adapter}." in name:
                yield name.replace(f".{adapter}.", "."), _gather_float32(weight)


def make_adapter_files(
    name: str, learner: Learner, weights: Mapping[str, Tensor], revision: str | None = None
) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the LoRA matrices' files, which peft and vLLM load beside the original.

    Args:
        name: of the original.
        learner: that has learnt them.
        weights: `gather_adapter_weights` of it.
        revision: of a hub name.
    """
    from safetensors.torch import save

    model: Any = learner.model
    (config,) = model.peft_config.values()
    config = copy.copy(config)
    config.base_model_name_or_path, config.revision = name, revision
    config.inference_mode = True
    with tempfile.TemporaryDirectory() as folder:
        config.save_pretrained(folder)
        for path in sorted(Path(folder).iterdir()):
            yield path.name, path.read_bytes()
    contiguous = {name: weight.cpu().contiguous() for name, weight in weights.items()}
    yield "adapter_model.safetensors", save(contiguous, metadata={"format": "pt"})


def make_model_files(
    name: str, tuned: Mapping[str, Tensor], revision: str | None = None
) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the tuned model's files.

    Args:
        name: of the original.
        tuned: weights in place of the original's, by the original's names.
        revision: of a hub name.
    """
    from safetensors.torch import load_file, save

    folder = find_model_folder(name, revision)
    for path in sorted(path for path in folder.glob("*") if is_loaded(path.name)):
        if path.suffix == ".safetensors":
            weights = load_file(path)
            for weight_name in weights.keys() & tuned.keys():
                dtype = weights[weight_name].dtype
                weights[weight_name] = tuned[weight_name].to(dtype).cpu().contiguous()
            yield path.name, save(weights, metadata={"format": "pt"})
        elif path.is_file() and path.suffix in (".json", ".jinja", ".txt", ".model", ".tiktoken"):
            yield path.name, path.read_bytes()


def _gather_float32(weight: Tensor) -> Tensor:
    """A weight in float32, gathered where workers share it."""
    full = weight.full_tensor() if isinstance(weight, DTensor) else weight
    return full.detach().float()


def read_shapes(folder: Path) -> Shapes:
    """The shapes of the weights in a model's files, by name."""
    files = (path for path in folder.glob("*.safetensors") if is_loaded(path.name))
    return read_weight_shapes(sorted(files))


def _likeness(loaded_name: str, original_name: str) -> tuple[int, int]:
    """How many of the last words of two names are the same, and how many words in all."""
    loaded_words, original_words = loaded_name.split("."), original_name.split(".")
    num_last = 0
    while (
        num_last < min(len(loaded_words), len(original_words))
        and loaded_words[-1 - num_last] == original_words[-1 - num_last]
    ):
        num_last += 1
    return num_last, len(set(loaded_words) & set(original_words))
