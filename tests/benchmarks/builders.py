"""Questions and answers for the tests of benchmarks."""

from typing import Any

from c3l_ray.benchmarks.answers import BenchmarkAnswer
from c3l_ray.benchmarks.questions import BenchmarkQuestion


def make_question(key: str = "random 1", **fields: Any) -> BenchmarkQuestion:
    """A question of POPE, with some fields replaced; it is an item of its own."""
    defaults = {"group": "random", "item": key, "image": "a.jpg", "label": "yes"}
    return BenchmarkQuestion(
        **{"key": key, "prompt": "Is there a dog in the image?", **defaults, **fields}
    )


def make_answer(
    key: str, label: str, verdict: str | None, *, status: str = "ok", **question: Any
) -> BenchmarkAnswer:
    """An answer that says `verdict`, to a question whose answer is `label`."""
    made = make_question(key, label=label, **question)
    answer = "Well." if verdict is None else f"{verdict.capitalize()}."
    is_reply = status in ("ok", "truncated")
    return BenchmarkAnswer(
        question=made,
        prompt=made.prompt,
        answer=answer if is_reply else None,
        status=status,
        error=None if is_reply else f"{status}: for a test",
        verdict=verdict,
    )
