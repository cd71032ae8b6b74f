"""Plain scoring, the reference: a row for each turn and side.

It costs 2M forwards and M image encodings for an image of M turns; `packed` does the same in one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from c3l_ray.inference.scoring_model import Asked, Frozen, Inputs, joined
from c3l_ray.methods.i2c import AnswerEvidence


@dataclass(frozen=True, kw_only=True)
class Row:
    """One turn on one side: its inputs, and the places [start, end) of its answer in them."""

    inputs: Inputs
    start: int
    end: int

    def __len__(self) -> int:
        return self.inputs["input_ids"].shape[1]


class PlainScorer:
    """Teacher-forced rows, padded on the right, as many at once as the token budget holds."""

    def __init__(self, frozen: Frozen) -> None:
        self.frozen = frozen

    def beliefs(self, asked: Sequence[Asked]) -> list[AnswerEvidence]:
        """A belief for each turn, in their order; each must be one that `can_score` accepts.

        Rows of like length share a batch, so that little is padded; padding and batch-mates do not
        change a turn's numbers beyond rounding.
        """
        order = sorted(range(len(asked)), key=lambda i: _kind(asked[i]))
        found: dict[int, AnswerEvidence] = {}
        batch: list[int] = []
        rows: list[tuple[Row, Row]] = []

        def finish() -> None:
            if rows:
                found.update(zip(batch, self._batch(rows), strict=True))
            batch.clear()
            rows.clear()

        for i in order:
            turn = asked[i]
            pair = (self._row(turn, turn.image), self._row(turn, turn.without))
            longest = max(len(row) for two in (pair, *rows) for row in two)
            alike = batch and _kind(asked[batch[0]])[0] == _kind(turn)[0]
            if not alike or longest * (len(rows) + 1) > self.frozen.max_tokens:
                finish()
            batch.append(i)
            rows.append(pair)
        finish()
        return [found[i] for i in range(len(asked))]

    def _row(self, turn: Asked, image: Image.Image | None) -> Row:
        rendered = self.frozen.rendered(turn, image=image is not None)
        inputs = self.frozen.processed(turn, image)
        # The placeholder grows into image tokens before the answer, never inside it.
        grown = inputs["input_ids"].shape[1] - len(rendered.ids)
        row = Row(inputs=inputs, start=rendered.start + grown, end=rendered.end + grown)
        answer = rendered.ids[rendered.start : rendered.end]
        assert inputs["input_ids"][0, row.start : row.end].tolist() == answer
        return row

    @torch.inference_mode()
    def _batch(self, rows: list[tuple[Row, Row]]) -> list[AnswerEvidence]:
        image_ND, text_ND = (self._before_answers(side) for side in zip(*rows, strict=True))
        first = [image for image, _ in rows]
        ids_N = torch.cat([row.inputs["input_ids"][0, row.start : row.end] for row in first])
        lengths = [row.end - row.start for row in first]
        return self.frozen.beliefs(image_ND, text_ND, ids_N.to(self.frozen.device), lengths)

    def _before_answers(self, rows: Sequence[Row]) -> Tensor:
        """The hidden states that predict each answer token, row after row: [N, D]."""
        hidden_BTD = self.frozen.hidden(joined(row.inputs for row in rows))
        return torch.cat([hidden_BTD[i, row.start - 1 : row.end - 1] for i, row in enumerate(rows)])


def _kind(turn: Asked) -> tuple[bool, int]:
    """Whether both sides have an image, which a batch's rows must share, and the turn's length."""
    return turn.without is not None, len(turn.question) + len(turn.answer)
