"""CG-VLM (arXiv 2311.17945): which text an image's patches are aligned with.

The paper gives no formulas and its code was never released; everything beyond its abstract is our
reading. Patch features that left the adapter are pulled towards the input embeddings of the
caption's tokens, beside the plain captioning loss.
"""

from collections.abc import Sequence

from c3l_ray.schema import GIVEN, Turn

CAPTION_INSTRUCTION = "Describe this image."


def find_caption(
    caption: str | None, turns: Sequence[Turn], *, take_given: bool = False
) -> tuple[str, str] | None:
    """The question that asks for an image's caption, and the caption.

    It is the image's own, else the answer of its first detail turn, else, where that is asked for,
    the answer of a sample made elsewhere that has one turn: LLaVA's captions are such samples. None
    where there is none of them.

    Args:
        caption: of the image.
        turns: about it.
        take_given: whether the only turn of a sample made elsewhere is a caption.
    """
    text = (caption or "").strip()
    if text:
        return CAPTION_INSTRUCTION, text
    for turn in turns:
        question, answer = turn["question"], turn["answer"]
        if turn["kind"] == "detail" and turn["status"] == "ok" and question and answer:
            return question, answer
    if take_given and len(turns) == 1 and turns[0]["kind"] == GIVEN and turns[0]["status"] == "ok":
        return turns[0]["question"] or CAPTION_INSTRUCTION, turns[0]["answer"] or ""
    return None
