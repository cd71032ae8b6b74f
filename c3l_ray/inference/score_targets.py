"""Which answers of an image are scored: those of its turns, their drafts and their alternatives."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from PIL import Image

from c3l_ray.inference.scoring_model import ScoringModel, TurnToScore
from c3l_ray.methods import c3l
from c3l_ray.schema import FOLLOW_UP, Alternative, Scores, Turn, TurnStatus


@dataclass(kw_only=True)
class ScoreTarget:
    """An answer to score, and where its scores go: to all of a turn's answers with its text.

    Attributes:
        row: of its image.
        turn: of the table.
        to_score: as the scorers take it.
        unposed: why it is not scored as a reply to the instruction that asked for it, if it is not.
        is_answer: whether it is the turn's answer.
        is_draft: whether it is the turn's draft.
        alternatives: those of the turn that it is the answer of.
    """

    row: int
    turn: Turn
    to_score: TurnToScore
    unposed: TurnStatus | None
    is_answer: bool = False
    is_draft: bool = False
    alternatives: list[Alternative] = field(default_factory=list)

    def write_scores(self, scores: Scores) -> None:
        if self.is_answer:
            self.turn["scores"] = scores
        if self.is_draft:
            self.turn["draft_scores"] = scores
        for alternative in self.alternatives:
            alternative["scores"] = scores

    def set_status(self, status: TurnStatus) -> None:
        if self.is_answer:
            self.turn["status"] = status
        for alternative in self.alternatives:
            alternative["status"] = status


def find_targets(
    model: ScoringModel,
    row: int,
    turns: Sequence[Turn],
    image: Image.Image,
    baseline_image: Image.Image | None,
) -> list[ScoreTarget]:
    """An image's answers, drafts and alternatives to score, those of a turn together.

    Answers and alternatives that the model cannot read get the status that says why.

    Args:
        model: that scores.
        row: of the image.
        turns: about it.
        image: decoded.
        baseline_image: that takes its place on the side without it, or None.
    """
    targets: list[ScoreTarget] = []
    history: list[tuple[str, str]] = []
    for turn in turns:
        question, answer = turn["question"], turn["answer"]
        if turn["status"] != "ok" or question is None or answer is None:
            continue
        to_score = TurnToScore(
            image=image,
            question=question,
            answer=answer,
            history=tuple(history) if turn["kind"] == FOLLOW_UP else (),
            system=c3l.system_message(turn["kind"], turn["instruction"]),
            baseline_image=baseline_image,
            instruction=c3l.asking_instruction(turn["kind"], turn["instruction"]),
        )
        history.append((question, answer))
        targets += _find_targets_of_turn(model, row, turn, to_score)
    return targets


def mark_unscored(turns: Sequence[Turn]) -> None:
    """Marks the answers and alternatives of an image that were to be scored and are not."""
    for turn in turns:
        if turn["status"] == "ok":
            for alternative in find_alternatives(turn):
                alternative["status"] = "unscored"
            turn["status"] = "unscored"


def find_alternatives(turn: Turn) -> list[Alternative]:
    """The alternatives of a turn that can be scored as far as it is known."""
    alternatives = turn.get("alternatives") or []
    return [alternative for alternative in alternatives if alternative["status"] == "ok"]


def _find_targets_of_turn(
    model: ScoringModel, row: int, turn: Turn, to_score: TurnToScore
) -> list[ScoreTarget]:
    targets: dict[str, ScoreTarget] = {}

    def add_target(text: str) -> ScoreTarget | TurnStatus:
        """The target of this text, made at its first mention, or why there is none."""
        if text in targets:
            return targets[text]
        given = replace(to_score, answer=text)
        if status := model.unscorable_status(given):
            return status
        unposed = model.unposable_status(given) if given.instruction else None
        if unposed is not None:
            given = replace(given, instruction="")
        targets[text] = ScoreTarget(row=row, turn=turn, to_score=given, unposed=unposed)
        return targets[text]

    target = add_target(to_score.answer)
    if isinstance(target, ScoreTarget):
        target.is_answer = True
        draft = None if turn["draft"] is None else add_target(turn["draft"])
        if isinstance(draft, ScoreTarget):
            draft.is_draft = True
    else:
        turn["status"] = target
    for alternative in find_alternatives(turn):
        target = add_target(alternative["answer"])
        if isinstance(target, ScoreTarget):
            target.alternatives.append(alternative)
        else:
            alternative["status"] = target
    return list(targets.values())
