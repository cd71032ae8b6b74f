"""Plain scoring, the reference: a row for each turn and side.

It costs 2M forward passes and M image encodings for an image of M turns; `packed_scorer` does the
same in one pass. Tensor names carry shapes: B rows, T tokens of a row, N answer tokens, D the
model's width.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from c3l_ray.inference.scoring_model import ModelInputs, ScoringModel, TurnToScore, collate_rows
from c3l_ray.methods.i2c import AnswerEvidence


@dataclass(frozen=True, kw_only=True)
class PlainRow:
    """One turn on one side: its inputs, and the places [start, end) of its answer in them."""

    inputs: ModelInputs
    answer_start: int
    answer_end: int

    def __len__(self) -> int:
        return self.inputs["input_ids"].shape[1]

    @property
    def answer_ids(self) -> Tensor:
        return self.inputs["input_ids"][0, self.answer_start : self.answer_end]


class PlainScorer:
    """Teacher-forced rows, padded on the right, as many at once as the token budget holds.

    Args:
        model: to score with.
        one_by_one: no two rows at once, for a model that does not take the images of several.
    """

    def __init__(self, model: ScoringModel, *, one_by_one: bool = False) -> None:
        self.model = model
        self.max_tokens = 0 if one_by_one else model.max_tokens

    def measure(self, turns: Sequence[TurnToScore]) -> list[AnswerEvidence]:
        """The evidence in each turn's answer, in the turns' order.

        Rows of like length share a batch, so that little is padded; padding and batch-mates do not
        change a turn's numbers beyond rounding.

        Args:
            turns: that `ScoringModel.unscorable_status` has nothing against.
        """
        order = sorted(range(len(turns)), key=lambda i: _batching_key(turns[i]))
        evidence: dict[int, AnswerEvidence] = {}
        batch: list[int] = []
        rows: list[tuple[PlainRow, PlainRow]] = []

        def flush() -> None:
            if rows:
                evidence.update(zip(batch, self._measure_batch(rows), strict=True))
            batch.clear()
            rows.clear()

        for i in order:
            turn = turns[i]
            sides = (self._make_row(turn, turn.image), self._make_row(turn, turn.baseline_image))
            longest = max(len(row) for pair in (sides, *rows) for row in pair)
            alike = batch and _batching_key(turns[batch[0]])[0] == _batching_key(turn)[0]
            if not alike or longest * (len(rows) + 1) > self.max_tokens:
                flush()
            batch.append(i)
            rows.append(sides)
        flush()
        return [evidence[i] for i in range(len(turns))]

    def _make_row(self, turn: TurnToScore, image: Image.Image | None) -> PlainRow:
        tokenized = self.model.tokenize_turn(turn, with_image=image is not None)
        inputs = self.model.process_turn(turn, image)
        # The placeholder becomes image tokens before the answer, never inside it.
        num_added = inputs["input_ids"].shape[1] - len(tokenized.ids)
        row = PlainRow(
            inputs=inputs,
            answer_start=tokenized.answer_start + num_added,
            answer_end=tokenized.answer_end + num_added,
        )
        assert row.answer_ids.tolist() == tokenized.answer_ids
        return row

    @torch.inference_mode()
    def _measure_batch(self, rows: list[tuple[PlainRow, PlainRow]]) -> list[AnswerEvidence]:
        image_ND, text_ND = (self._predicting_states(side) for side in zip(*rows, strict=True))
        answers = [with_image.answer_ids for with_image, _ in rows]
        ids_N = torch.cat(answers).to(self.model.device)
        lengths = [len(answer) for answer in answers]
        return self.model.compute_evidence(image_ND, text_ND, ids_N, lengths)

    def _predicting_states(self, rows: Sequence[PlainRow]) -> Tensor:
        """The hidden states that predict each answer token, row after row: [N, D]."""
        hidden_BTD = self.model.hidden_states(collate_rows(row.inputs for row in rows))
        return torch.cat(
            [hidden_BTD[i, row.answer_start - 1 : row.answer_end - 1] for i, row in enumerate(rows)]
        )


def _batching_key(turn: TurnToScore) -> tuple[bool, int]:
    """Whether both sides have an image, which a batch's rows must share, and the turn's length."""
    return turn.baseline_image is not None, len(turn.question) + len(turn.answer)
