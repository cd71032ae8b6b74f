"""Score: every answer's probability with and without the image, under the frozen scorer."""

import time
from collections.abc import Sequence
from typing import Any, Protocol

import pyarrow as pa
import torch
from PIL import Image

from c3l_ray.config import RecordsConfig
from c3l_ray.errors import UnusableImage
from c3l_ray.images import decode, stand_in
from c3l_ray.inference.clip_scorer import Clip
from c3l_ray.inference.scoring_model import Asked, Frozen
from c3l_ray.inference.packed_scorer import PackedScorer, PackingError
from c3l_ray.inference.plain_scorer import PlainScorer
from c3l_ray.methods import i2c
from c3l_ray.methods.i2c import AnswerEvidence
from c3l_ray.schema import FOLLOW_UP, replace_columns

# The largest difference of a token's ln p that rounding explains, packed against plain, in nats.
ROUNDING = {torch.float32: 1e-3, torch.float64: 1e-3}
ROUNDING_IN_HALF = 0.25


class Measures(Protocol):
    """What Score needs of a scorer: `PackedScorer` or `PlainScorer`."""

    def beliefs(self, asked: Sequence[Asked]) -> list[AnswerEvidence]: ...


def scorer(frozen: Frozen, *, pack: bool) -> Measures:
    """The packed scorer, or the plain one, with a line that says why, where packs do not fit.

    Whether they fit is tried on two turns: the family of a model alone does not tell.
    """
    plain = PlainScorer(frozen)
    if not pack:
        return plain
    try:
        packed = PackedScorer(frozen)
        largest = difference(packed, plain)
        if largest > ROUNDING.get(frozen.model.dtype, ROUNDING_IN_HALF):
            raise PackingError(f"its numbers would differ by {largest:.2g}")
    except (PackingError, TypeError, ValueError, RuntimeError) as why:
        name = frozen.model.config.model_type
        print(f"scorer: {name} is scored plainly, a pass for each turn: {why}", flush=True)
        return plain
    return packed


def difference(packed: Measures, plain: Measures) -> float:
    """The largest difference of a token's log-probability over two small turns, in nats."""
    image = Image.linear_gradient("L").resize((80, 64)).convert("RGB")
    asked = [
        Asked(image=image, question="What is in the image?", answer="A grey ramp."),
        Asked(image=image, question="Is it dark?", answer="Yes, at the top it is."),
    ]
    return max(
        float(abs(getattr(one, side) - getattr(other, side)).max())
        for one, other in zip(packed.beliefs(asked), plain.beliefs(asked), strict=True)
        for side in ("image_logprobs", "text_logprobs")
    )


class Score:
    """Reads: image, turns, error. Fills: the scores of every turn that is ok, error, score_s.

    A turn's draft, where it has one, is scored as another answer to its question. A turn of the
    kind "follow_up" is scored given the turns before it that came as ok. A turn that the scorer
    cannot read as it is becomes "refused". The turns of a block with one good image keep null
    scores where the side without the image takes another one.
    """

    def __init__(self, config: RecordsConfig) -> None:
        self.config = config
        self.frozen = Frozen(config.scorer, config.scorer_name)
        self.scorer = scorer(self.frozen, pack=config.scorer.pack)
        self.clip = Clip(config.clip)

    def __call__(self, table: pa.Table) -> pa.Table:
        started = time.monotonic()
        data, turns, errors = (table[name].to_pylist() for name in ("image", "turns", "error"))
        images: dict[int, Image.Image] = {}
        for row, error in enumerate(errors):
            if error is None:
                try:
                    images[row] = decode(data[row], self.config.max_pixels)  # for both models
                except UnusableImage as unusable:
                    errors[row] = str(unusable)
        asked: list[Asked] = []
        owners: list[tuple[dict[str, Any], str]] = []  # the turn, and the column of its scores
        for row, without in self.without(images).items():
            before: list[tuple[str, str]] = []
            for turn in turns[row]:
                if turn["status"] != "ok":
                    continue
                history = tuple(before) if turn["kind"] == FOLLOW_UP else ()
                before.append((turn["question"], turn["answer"]))
                for text, column in (("answer", "scores"), ("draft", "draft_scores")):
                    if turn["status"] != "ok" or turn[text] is None:
                        continue
                    one = Asked(
                        image=images[row],
                        question=turn["question"],
                        answer=turn[text],
                        history=history,
                        without=without,
                    )
                    if self.frozen.can_score(one):
                        asked.append(one)
                        owners.append((turn, column))
                    elif text == "answer":
                        turn["status"] = "refused"
            if all(turn["status"] != "ok" for turn in turns[row]):
                errors[row] = "no_turn: refused"
        self.fill(asked, owners)
        seconds = time.monotonic() - started
        return replace_columns(table, turns=turns, error=errors, score_s=[seconds] * len(errors))

    def without(self, images: dict[int, Image.Image]) -> dict[int, Image.Image | None]:
        """For each row to score, the image of the side without its own, or None for no image."""
        how = self.config.scorer.without
        if how == "drop":
            return dict.fromkeys(images)
        if how != "mismatched":
            return {row: stand_in(image, how) for row, image in images.items()}
        rows = list(images)
        others = dict(zip(rows, rows[1:] + rows[:1], strict=True))
        return {row: images[other] for row, other in others.items() if other != row}

    def fill(self, asked: list[Asked], owners: list[tuple[dict[str, Any], str]]) -> None:
        """Writes the scores of each turn asked into the column of its owner."""
        if not asked:
            return
        beliefs = self.scorer.beliefs(asked)
        cosines = self.clip.cosines(
            [turn.image for turn in asked], [f"{turn.question} {turn.answer}" for turn in asked]
        )
        for belief, cosine, (turn, column) in zip(beliefs, cosines, owners, strict=True):
            turn[column] = {**i2c.compute_scores(belief), "clip": cosine}
            if self.config.token_gain and column == "scores":
                turn["token_gain"] = belief.token_gain.tolist()
