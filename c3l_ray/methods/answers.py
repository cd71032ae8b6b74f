"""Which of several answers to one question is the best, and which the worst: what `answers` learns.

A question's candidates are the turn's own answer, the one that it took the place of, perhaps the
draft of a correction, and the alternatives that were sampled after the same question. A contrast of
turns that ask different things learns what is easy to ask; a contrast of answers to one question
can only learn what is better to say. Questions whose answers all agree teach nothing.

A function of the stored scores, applied when training reads them, and never stored itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple, get_args

from c3l_ray.flags import optional
from c3l_ray.methods.alternatives import is_replaced
from c3l_ray.methods.ranking import uniform_from
from c3l_ray.methods.scores import RankedBy, values_of_answers
from c3l_ray.ranges import Conflicts, Range
from c3l_ray.schema import Turn

CONTROL_SCORE: RankedBy = "grounding"
"""Of which `random` takes the candidates and their spread, so that it learns from as many turns."""

LeftOutReason = Literal[
    "no_alternatives", "answers_agree", "unscored_answers", "small_spread", "large_spread"
]
"""Why a usable turn is not learnt."""

LEFT_OUT_REASONS: tuple[LeftOutReason, ...] = get_args(LeftOutReason)


@dataclass(frozen=True, kw_only=True)
class AnswerRules:
    """Which answers to a question are its best and its worst."""

    by: RankedBy = "grounding"
    """Score whose best and worst answers to a question are learnt; random draws both."""
    drafts: bool = False
    """Take a corrected turn's draft as one of the answers to its question too."""
    min_spread: Annotated[float, Range(min=0)] = 0.0
    """Least difference of the score between best and worst; turns of less are left out."""
    max_spread: Annotated[float | None, Range(above=0), optional("FLOAT")] = None
    """Largest difference of the score between best and worst (default: no limit)."""

    def conflicts(self) -> Conflicts:
        if self.max_spread is not None and self.max_spread < self.min_spread:
            yield "max_spread", f"must be at least the smallest spread {self.min_spread:g}"

    @property
    def score(self) -> RankedBy:
        """The score that candidates need, and whose spread counts."""
        return CONTROL_SCORE if self.by == "random" else self.by


@dataclass(frozen=True, kw_only=True)
class AnswerPair:
    """The best and the worst answer to a question."""

    best: str
    worst: str


def choose_pair(
    turn: Turn, rules: AnswerRules, *, drawn_from: str = ""
) -> AnswerPair | LeftOutReason:
    """The best and the worst answer to a turn's question, or why the turn is not learnt.

    Equal texts are one candidate, that of the first: the turn's answer, its draft, its alternatives
    in their order. Of equal scores the first is the better one. For `random` both are drawn, one
    after the other, each text as often as the model wrote it.

    Args:
        turn: that is ok, with `answer`, `alternatives`, `draft`, `correction` and the score.
        rules: of the choice.
        drawn_from: names the turn; random scores are drawn from it.
    """
    candidates = _list_candidates(turn, rules)
    if len(candidates) == 1 and not turn["alternatives"]:
        return "no_alternatives"
    if len(candidates) == 1:
        return "answers_agree"
    values = {
        answer: candidate.value
        for answer, candidate in candidates.items()
        if candidate.value is not None
    }
    if len(values) < 2:
        return "unscored_answers"
    spread = max(values.values()) - min(values.values())
    if spread <= 0 or spread < rules.min_spread:  # answers that score alike have no best one
        return "small_spread"
    if rules.max_spread is not None and spread > rules.max_spread:
        return "large_spread"
    answers: Sequence[str] = list(values)
    if rules.by == "random":
        # The largest keys are a weighted draw without replacement (Efraimidis & Spirakis 2006).
        keys = {
            answer: uniform_from(f"best {drawn_from} {answer}")
            ** (1 / candidates[answer].times_written)
            for answer in answers
        }
        best, worst = sorted(answers, key=lambda answer: -keys[answer])[:2]
        return AnswerPair(best=best, worst=worst)
    best = max(answers, key=lambda answer: values[answer])
    worst = min(reversed(answers), key=lambda answer: values[answer])
    return AnswerPair(best=best, worst=worst)


class _Candidate(NamedTuple):
    """How often the model wrote an answer, and its value, higher being better."""

    times_written: int
    value: float | None


def _list_candidates(turn: Turn, rules: AnswerRules) -> dict[str, _Candidate]:
    """The distinct answers to a turn's question."""
    own_answer = turn["answer"]
    assert own_answer is not None, "a turn that is ok has an answer"
    listed = [(own_answer, 1, turn["scores"])]
    if turn["draft"] and (rules.drafts or is_replaced(turn)):
        listed.append((turn["draft"], 1, turn["draft_scores"]))
    listed += [
        (alternative["answer"], alternative["num_samples"], alternative["scores"])
        for alternative in turn["alternatives"] or []
        if alternative["status"] == "ok"
    ]
    values = values_of_answers([scores for _, _, scores in listed], rules.score)
    candidates: dict[str, _Candidate] = {}
    for (answer, count, _), value in zip(listed, values, strict=True):
        before = candidates.get(answer, _Candidate(0, None))
        candidates[answer] = _Candidate(
            before.times_written + count, value if before.value is None else before.value
        )
    return candidates
