"""CG-VLM (arXiv 2311.17945): which text an image's patches are aligned with.

The paper gives no formulas and its code was never released; everything beyond its abstract is our
reading. Patch features that left the adapter are pulled towards the input embeddings of the
caption's tokens, beside the plain captioning loss.
"""

from collections.abc import Mapping
from typing import Any

INSTRUCTION = "Describe this image."


def caption(record: Mapping[str, Any]) -> tuple[str, str] | None:
    """What the image is asked and its caption: its own, else the answer of its first detail turn.

    Args:
        record: with `caption` and `turns`.
    """
    text = (record["caption"] or "").strip()
    if text:
        return INSTRUCTION, text
    for turn in record["turns"]:
        if turn["kind"] == "detail" and turn["status"] == "ok" and turn["answer"]:
            return turn["question"], turn["answer"]
    return None
