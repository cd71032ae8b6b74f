"""Models as transformers loads them, where the checkpoint has every weight and nothing more to it.

transformers itself only warns of weights that a checkpoint lacks, which are random then, and of
scales that no module takes, without which quantized weights are numbers of another size. Of either
all that is computed is wrong, and nothing shows it.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any

from c3l_ray.errors import PreflightError, first_line
from c3l_ray.inference.large_imports import without_collection

NUM_NAMED = 3
"""Weights that a refusal names."""
_OF_QUANTIZATION = re.compile(
    r"(^|[._])(qweight|qzeros|g_idx|absmax|quant_map|quant_state|packed|scales?|zeros?"
    r"|zero_points?)([._]|$)"
)
"""In names of what quantized weights are multiplied with, added to, or packed into."""
_OF_ANOTHER_TASK = re.compile(r"(^|\.)logit_scale$")
"""The temperature of CLIP's own task, which vision towers are saved with."""


def load_whole_model(name: str, path: str, **options: Any) -> Any:
    """A vision-language model of transformers.

    Args:
        name: as the user gave it.
        path: of its folder, or its hub name.
        options: of `from_pretrained`.

    Raises:
        OSError, ValueError: the checkpoint cannot be loaded.
        PreflightError: it does not have all weights of the model, or is quantized.
    """
    with without_collection():
        from transformers import AutoModelForImageTextToText

    try:
        model, loading = AutoModelForImageTextToText.from_pretrained(
            path, **options, output_loading_info=True, ignore_mismatched_sizes=True
        )
    except RuntimeError as error:
        if "conversion of the weights" not in str(error):  # as where memory is out
            raise
        raise PreflightError(
            f"{name} does not load: transformers cannot convert its weights into those of the "
            f"model ({first_line(error)})"
        ) from error
    check_whole(name, loading)
    return model


def check_whole(name: str, loading: Mapping[str, Collection[Any]]) -> None:
    """Refuses what `from_pretrained` reports of a checkpoint that does not fit its model.

    Args:
        name: of the model, as the user gave it.
        loading: `output_loading_info`; weights that are tied to others, and those that the model's
            class declares as ignored, are not among its keys.

    Raises:
        PreflightError: a weight is missing or has another shape, or scales are left over.
    """
    left_over = [
        key
        for key in loading["unexpected_keys"]
        if _OF_QUANTIZATION.search(key) and not _OF_ANOTHER_TASK.search(key)
    ]
    if left_over:
        raise PreflightError(
            f"{name}: its checkpoint is quantized, which its config does not say: the model has "
            f"no place for {_name_first(left_over)}. Name the unquantized checkpoint"
        )
    if loading["missing_keys"]:
        raise PreflightError(
            f"{name}: its checkpoint lacks weights of the model, which would be random: "
            f"{_name_first(loading['missing_keys'])}. Name a checkpoint with all weights"
        )
    if loading["mismatched_keys"]:
        shapes = [
            f"{key} ({tuple(given)} in place of {tuple(wanted)})"
            for key, given, wanted in loading["mismatched_keys"]
        ]
        raise PreflightError(
            f"{name}: weights of its checkpoint have other shapes than its config says: "
            f"{_name_first(shapes)}"
        )


def _name_first(keys: Collection[str]) -> str:
    """The first keys, and how many others there are."""
    named = ", ".join(sorted(keys)[:NUM_NAMED])
    others = len(keys) - NUM_NAMED
    return f"{named} and {others} more" if others > 0 else named
