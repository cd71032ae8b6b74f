"""Scores turns: every answer's probability with and without the image, under the scoring model."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast

import pyarrow as pa
from PIL import Image

from c3l_ray.config import RecordsConfig
from c3l_ray.errors import UnusableImage
from c3l_ray.images import decode_image, make_baseline_image
from c3l_ray.inference.clip_scorer import ClipScorer
from c3l_ray.inference.model_check import first_line, untested_family_notes
from c3l_ray.inference.packed_scorer import PackedScorer
from c3l_ray.inference.packing import PackingError
from c3l_ray.inference.plain_scorer import PlainScorer
from c3l_ray.inference.scorer_checks import (
    AnswerScorer,
    check_causality,
    check_packing,
    compare_prompts,
    find_logit_transform,
)
from c3l_ray.inference.scoring_model import ScoringModel, TurnToScore
from c3l_ray.methods.i2c import compute_scores
from c3l_ray.schema import FOLLOW_UP, Scores, Turn, replace_columns

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ScoreTarget:
    """A turn to score, and where its scores go.

    Attributes:
        to_score: as the scorers take it.
        turn: of the table.
        column: of the turn.
    """

    to_score: TurnToScore
    turn: Turn
    column: Literal["scores", "draft_scores"]


class TurnScorer:
    """Reads: image, turns, error, notes. Fills: turns, error, score_s, notes.

    Each turn of status "ok" is scored: its answer and its draft. A turn of the kind "follow_up" is
    scored given the turns before it that came as "ok". A turn that the scoring model cannot read as
    it is gets the status that says why (`ScoringModel.unscorable_status`). The turns of a block
    with one good image keep null scores where the side without the image takes another image.

    Attributes:
        notes: what the user should know about the scores, a sentence each.

    Raises:
        PreflightError: the scorer's numbers would not be the model's own.
    """

    def __init__(self, config: RecordsConfig) -> None:
        self.config = config
        self.model = ScoringModel(config.scorer, config.scorer_name)
        self.model.logit_transform = find_logit_transform(self.model)
        self.scorer, self.notes = choose_scorer(self.model, pack=config.scorer.pack)
        self.notes += compare_prompts(self.model)
        self.notes += untested_family_notes(self.model.name, self.model.family)
        self.clip = ClipScorer(config.clip)
        for note in self.notes:
            log.warning(note)

    def __call__(self, table: pa.Table) -> pa.Table:
        started = time.monotonic()
        names = ("image", "turns", "error", "notes")
        data, turns, errors, notes = (table[name].to_pylist() for name in names)
        images: dict[int, Image.Image] = {}
        for row, error in enumerate(errors):
            if error is None:
                try:
                    images[row] = decode_image(data[row], self.config.max_pixels)  # for both models
                except UnusableImage as unusable:
                    errors[row] = str(unusable)
        targets: list[ScoreTarget] = []
        for row, baseline_image in self.baseline_images(images).items():
            targets += self.find_targets(turns[row], images[row], baseline_image)
            statuses = {turn["status"] for turn in turns[row]}
            if "ok" not in statuses:
                errors[row] = f"no_turn: {', '.join(sorted(statuses)) or 'the row has no turns'}"
        self.write_scores(targets)
        seconds = time.monotonic() - started
        return replace_columns(
            table,
            turns=turns,
            error=errors,
            score_s=[seconds] * len(errors),
            notes=[list(dict.fromkeys([*(earlier or []), *self.notes])) for earlier in notes],
        )

    def baseline_images(self, images: dict[int, Image.Image]) -> dict[int, Image.Image | None]:
        """By row to score, the image of the side without its own; None leaves the image out."""
        baseline = self.config.scorer.baseline
        if baseline == "none":
            return dict.fromkeys(images)
        if baseline != "mismatched":
            return {row: make_baseline_image(image, baseline) for row, image in images.items()}
        rows = list(images)
        next_row = dict(zip(rows, rows[1:] + rows[:1], strict=True))
        return {row: images[following] for row, following in next_row.items() if following != row}

    def find_targets(
        self, turns: list[Turn], image: Image.Image, baseline_image: Image.Image | None
    ) -> list[ScoreTarget]:
        """An image's answers and drafts to score; turns that cannot be scored get their status."""
        targets: list[ScoreTarget] = []
        history: list[tuple[str, str]] = []
        for turn in turns:
            question, answer, draft = turn["question"], turn["answer"], turn["draft"]
            if turn["status"] != "ok" or question is None or answer is None:
                continue
            to_score = TurnToScore(
                image=image,
                question=question,
                answer=answer,
                history=tuple(history) if turn["kind"] == FOLLOW_UP else (),
                baseline_image=baseline_image,
            )
            history.append((question, answer))
            if status := self.model.unscorable_status(to_score):
                turn["status"] = status
                continue
            targets.append(ScoreTarget(to_score=to_score, turn=turn, column="scores"))
            if draft is None:
                continue
            to_score = replace(to_score, answer=draft)
            if self.model.unscorable_status(to_score) is None:
                targets.append(ScoreTarget(to_score=to_score, turn=turn, column="draft_scores"))
        return targets

    def write_scores(self, targets: Sequence[ScoreTarget]) -> None:
        """Writes the scores of each target into its turn."""
        if not targets:
            return
        turns = [target.to_score for target in targets]
        evidence = self.scorer.measure(turns)
        cosines = self.clip.cosines(
            [turn.image for turn in turns], [f"{turn.question} {turn.answer}" for turn in turns]
        )
        for target, answer, cosine in zip(targets, evidence, cosines, strict=True):
            scores = cast(Scores, {**compute_scores(answer), "clip": cosine})
            target.turn[target.column] = scores
            if self.config.token_gains and target.column == "scores":
                target.turn["token_gains"] = answer.token_gains.tolist()


def choose_scorer(model: ScoringModel, *, pack: bool) -> tuple[AnswerScorer, list[str]]:
    """The packed scorer, or the plain one where packs do not fit, with a note that says why.

    Whether packs fit, and several rows at once, is tried on the trial turns: a model's family alone
    does not tell.

    Raises:
        PreflightError: as `check_causality`.
    """
    row_by_row = PlainScorer(model, one_by_one=True)
    check_causality(model, row_by_row)
    plain, notes = PlainScorer(model), []
    try:
        check_packing(model, plain, row_by_row)
    except (PackingError, TypeError, ValueError, RuntimeError) as error:
        plain = row_by_row
        notes = [f"{model.name} scores one turn at a time, which is slower: {first_line(error)}"]
    if not pack:
        return plain, notes
    try:
        packed = PackedScorer(model)
        packed.plain_scorer = plain
        check_packing(model, packed, plain)
    except (PackingError, TypeError, ValueError, RuntimeError) as error:
        note = f"{model.name} scores without packing, which is slower: {first_line(error)}"
        return plain, [*notes, note]
    return packed, notes
