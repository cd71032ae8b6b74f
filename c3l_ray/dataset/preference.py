"""Preference pairs: a better and a worse answer to one question about one image.

A pair is the best and the worst of a turn's answers, or a corrected answer and its draft, as the
score ranks them. A score that does not tell the two apart, or puts the draft first, makes no pair.
"""

from typing import Literal, NamedTuple

from c3l_ray.methods.scores import LOWER_IS_BETTER, RankedBy, values_of_answers
from c3l_ray.schema import Turn

PairSource = Literal["alternatives", "correction"]
NoPair = Literal["one_answer", "unscored", "no_better"]
"""Why a turn makes no pair: it has no other answer, an answer has no score, or the better one has
no better score."""


class PreferencePair(NamedTuple):
    """Two answers to a question.

    Attributes:
        source: "alternatives" or "correction".
        chosen: the better answer.
        rejected: the worse one.
        chosen_score: of the better answer.
        rejected_score: of the worse one.
    """

    source: PairSource
    chosen: str
    rejected: str
    chosen_score: float
    rejected_score: float


def find_pair(turn: Turn, by: RankedBy) -> PreferencePair | NoPair:
    """The pair that a turn's answers make, or why they make none.

    Args:
        turn: a usable one, with its answer.
        by: the score that tells the better answer.
    """
    sign = -1 if by in LOWER_IS_BETTER else 1
    answer = turn.get("answer") or ""
    others = [
        (alternative["answer"], alternative.get("scores"))
        for alternative in turn.get("alternatives") or ()
        if alternative["status"] == "ok" and alternative["answer"] != answer
    ]
    if others:
        answers, scores = zip((answer, turn.get("scores")), *others, strict=True)
        values = values_of_answers(scores, by)
        valued = [
            (value, text) for value, text in zip(values, answers, strict=True) if value is not None
        ]
        if len(valued) < 2:
            return "unscored"
        # Among equals the first comes: the turn's own answer, then as they were sampled.
        best = max(valued, key=lambda item: item[0])
        worst = min(valued, key=lambda item: item[0])
        if best[0] == worst[0]:
            return "no_better"
        return PreferencePair("alternatives", best[1], worst[1], sign * best[0], sign * worst[0])
    draft = turn.get("draft")
    if not draft or draft == answer:
        return "one_answer"
    own_value, draft_value = values_of_answers([turn.get("scores"), turn.get("draft_scores")], by)
    if own_value is None or draft_value is None:
        return "unscored"
    if own_value <= draft_value:
        return "no_better"
    return PreferencePair("correction", answer, draft, sign * own_value, sign * draft_value)
