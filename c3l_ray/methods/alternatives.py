"""More answers to a question: how they are asked for, equal ones made one, and the best one kept.

A question that a model posed goes back to it after the same instruction, as the beginning of its
reply, and K answers are sampled where the model's own would begin. Where they differ, a score can
tell the better from the worse with the question held fixed, which the turns of one image, of other
questions and other kinds, do not allow.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from operator import itemgetter

from c3l_ray.methods import c3l
from c3l_ray.methods.scores import values_of_answers
from c3l_ray.schema import Alternative, Scores, Turn, TurnStatus

JSON_ANSWER_PATTERN = r' "([^"\\\x00-\x1f]|\\(["\\/bfnrt]|u[0-9a-fA-F]{4}))*"\}'
"""What a JSON reply goes on with before its answer: a string, and the end of the object."""


def limit_answer(reply_start: str) -> tuple[str | None, tuple[str, ...]]:
    """How the engine is held to one answer after the beginning of a reply (`c3l.begin_reply`).

    After the bare question, where there is no such beginning, the whole reply is the answer.

    Returns:
        The pattern that JSON must match, or None where text follows; and the texts that end that.
    """
    if reply_start.startswith("{"):
        return JSON_ANSWER_PATTERN, ()
    return None, (c3l.QUESTION_LABEL,) if reply_start else ()


def draw_answer_seed(turn_seed: int, number: int) -> int:
    """The sampling seed, below 2**31, of one more answer to a turn's question.

    Args:
        turn_seed: of the turn's own request.
        number: of the answer, from 0 on.
    """
    return c3l.draw_number(f"seed {turn_seed}", f"answer {number}") % 2**31


def draw_turn_seed(image_id: str, place: int, *, seed: int) -> int:
    """A seed for a turn that was there already, below 2**31.

    Args:
        image_id: of its image.
        place: of the turn among the image's, from 0 on.
        seed: of the run.
    """
    return c3l.draw_number(f"{image_id} seed {seed}", f"turn {place} that was there") % 2**31


def merge_samples(samples: Iterable[tuple[str, TurnStatus]]) -> list[Alternative]:
    """Sampled answers with equal ones made one: the most sampled first, then the first sampled.

    Args:
        samples: texts and their statuses, in the order of their numbers.
    """
    counts = Counter(samples).most_common()  # which keeps the order of equal counts
    return [
        {"answer": answer, "num_samples": num_samples, "status": status, "scores": None}
        for (answer, status), num_samples in counts
    ]


def has_differing_answers(turn: Turn) -> bool:
    """Whether a turn of status "ok" has two usable answers that are not the same text.

    Its own, its draft and its alternatives count; a turn without alternatives has none to compare.
    """
    alternatives = turn.get("alternatives")
    if turn["status"] != "ok" or alternatives is None:
        return False
    texts = {turn.get("answer"), turn.get("draft")} - {None}
    return len(texts | {other["answer"] for other in alternatives if other["status"] == "ok"}) > 1


def is_replaced(turn: Turn) -> bool:
    """Whether an alternative took the place of a turn's answer, which is then its draft."""
    return turn.get("draft") is not None and turn.get("correction") is None


def keep_best_answers(turns: Sequence[Turn], by: str | None) -> None:
    """Makes the best answer of each turn its own, and the answer that it had its draft.

    Best by a score, among the turn's answer and its alternatives of status "ok" that have the
    score. Where two score alike, the turn's own stays, else the most sampled is taken. A turn
    whose own answer lacks the score keeps it. The alternatives stay as they were sampled.

    Args:
        turns: with their scores; those without alternatives stay as they are.
        by: the name of a score; None keeps all turns as they are.
    """
    if by is None:
        return
    for turn in turns:
        alternatives = turn.get("alternatives") or ()
        own, *values = values_of_answers(
            [_usable_scores(answered) for answered in (turn, *alternatives)], by
        )
        others = zip(values, alternatives, strict=True)
        usable = [(value, other) for value, other in others if value is not None]
        if own is None or not usable:
            continue
        value, best = max(usable, key=itemgetter(0))  # the first of equals
        if value > own and best["answer"] != turn["answer"]:
            turn["draft"], turn["draft_scores"] = turn["answer"], turn["scores"]
            turn["answer"], turn["scores"] = best["answer"], best["scores"]


def _usable_scores(answered: Turn | Alternative) -> Scores | None:
    """The scores of an answer; None where there are none, or the answer is not usable."""
    return answered.get("scores") if answered["status"] == "ok" else None
