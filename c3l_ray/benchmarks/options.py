"""Questions that offer options by letter: how they are asked."""

from collections.abc import Mapping, Sequence
from string import ascii_uppercase

SUFFIX = "Answer with the option's letter from the given choices directly."
SUFFIX_SOURCE = "LLaVA-1.5, arXiv 2310.03744, its evaluation of multiple choice"


MAX_OPTIONS = len(ascii_uppercase)


def letter_options(texts: Sequence[str]) -> dict[str, str]:
    """Options by their letters, A first."""
    return dict(zip(ascii_uppercase, texts, strict=False))


def ask_with_options(question: str, options: Mapping[str, str], hint: str = "") -> str:
    """The hint where there is one, the question, and the options, each on a line of its own."""
    lines = [hint.strip(), question.strip()]
    lines += [f"{letter}. {text}" for letter, text in options.items()]
    return "\n".join(line for line in lines if line)
