"""How a model's weights are quantized, as its files say it, and the model that was quantized."""

import json
import re
from pathlib import Path
from typing import Any

MODELOPT_FILE = "hf_quant_config.json"
UNKNOWN = "unknown"
_UNQUANTIZED = re.compile(
    r"[-_](AWQ|GPTQ|FP8|NVFP4|INT[48]|W\d+A\d+|quantized|bnb|[48]-?bit|dynamic)[^/]*$",
    re.IGNORECASE,
)
"""The end of a name that says how the model is quantized."""


def find_quantization(config: Any, path: str, revision: str | None = None) -> str | None:
    """The method, such as "awq", or None where the weights are as they were trained.

    Args:
        config: of the model, as transformers reads it.
        path: of the model's folder, or its hub name.
        revision: of a hub name; None takes the latest.
    """
    for part in (config, config.get_text_config()):
        settings = getattr(part, "quantization_config", None)
        if settings is not None:
            content = settings if isinstance(settings, dict) else settings.to_dict()
            return str(content.get("quant_method") or content.get("quant_algo") or UNKNOWN)
    return _read_modelopt(path, revision)


def suggest_unquantized(name: str) -> str:
    """The end of a sentence that names the checkpoint which was quantized; empty if unknown."""
    original = _UNQUANTIZED.sub("", name)
    return f", such as {original}" if original != name else ""


def _read_modelopt(path: str, revision: str | None) -> str | None:
    """What ModelOpt before 0.31 says in a file of its own, which vLLM reads, transformers not."""
    from transformers.utils import cached_file

    file = cached_file(
        path,
        MODELOPT_FILE,
        revision=revision or "main",
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    if file is None:
        return None
    try:
        content = json.loads(Path(file).read_text())
        settings = content.get("quantization", content)
        # Where only the cache of keys and values is quantized, this is null: the weights are whole.
        algorithm = settings.get("quant_algo")
    except (ValueError, AttributeError):  # no JSON, or no object
        return UNKNOWN
    return None if algorithm is None else str(algorithm)
