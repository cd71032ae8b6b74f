"""Plain scoring, the reference: a row for each turn and side.

It costs up to 3M forward passes and 2M image encodings for an image of M turns; `packed_scorer`
does the same in one pass. Tensor names carry shapes: B rows, T tokens of a row, N answer tokens, D
the model's width.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from PIL import Image
from torch import Tensor

from c3l_ray.inference.model_inputs import ModelInputs, collate_rows
from c3l_ray.inference.scoring_model import ScoringModel, TokenizedTurn, TurnToScore
from c3l_ray.methods.i2c import AnswerEvidence
from c3l_ray.stall_watch import give_sign


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


@dataclass(frozen=True, kw_only=True)
class PlainTurn:
    """The rows of one turn.

    Attributes:
        with_image: after the bare question.
        without_image: the same on the other side.
        posed: the turn as a reply to its instruction; None where none asked for it.
    """

    with_image: PlainRow
    without_image: PlainRow
    posed: PlainRow | None

    @property
    def longest_row(self) -> int:
        rows = (self.with_image, self.without_image, self.posed)
        return max(len(row) for row in rows if row is not None)


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

        Args:
            turns: that `ScoringModel.unscorable_status` has nothing against.

        Raises:
            ValueError: the model has not the positions for one with its image.
        """
        return require_all(self.measure_fitting(turns))

    def measure_fitting(self, turns: Sequence[TurnToScore]) -> list[AnswerEvidence | None]:
        """As `measure`, and None for a turn that the model has not the positions for.

        One that it has them for after the bare question only has no `posed_logprobs`.

        Rows of like length share a batch, so that little is padded; padding and batch-mates do not
        change a turn's numbers beyond rounding. The turns of an image follow each other, so that it
        is preprocessed once.
        """
        first_turns = {id(turn.image): i for i, turn in reversed(list(enumerate(turns)))}

        def place(i: int) -> tuple[bool, int, int, int]:
            turn = turns[i]
            width, height = turn.image.size
            first = first_turns[id(turn.image)]
            return _has_two_images(turn), width * height, first, len(turn.question + turn.answer)

        order = sorted(range(len(turns)), key=place)
        evidence: dict[int, AnswerEvidence] = {}
        batch: list[int] = []
        rows_of_batch: list[PlainTurn] = []

        def flush() -> None:
            if batch:
                evidence.update(zip(batch, self._measure_batch(rows_of_batch), strict=True))
            batch.clear()
            rows_of_batch.clear()

        for i in order:
            turn = turns[i]
            rows = self._make_rows(turn)
            if rows is None:
                continue
            longest = max(candidate.longest_row for candidate in (rows, *rows_of_batch))
            alike = batch and _has_two_images(turns[batch[0]]) == _has_two_images(turn)
            if not alike or longest * (len(batch) + 1) > self.max_tokens:
                flush()
            batch.append(i)
            rows_of_batch.append(rows)
        flush()
        return [evidence.get(i) for i in range(len(turns))]

    def _make_rows(self, turn: TurnToScore) -> PlainTurn | None:
        """The rows of a turn, as far as the model has the positions; None where it has not."""
        posed = None
        if turn.instruction:
            tokenized = self.model.tokenize_posed_turn(turn)
            posed = self._make_row(tokenized, self.model.process_posed_turn(turn))
        with_image = self._make_bare_row(turn, turn.image)
        without_image = self._make_bare_row(turn, turn.baseline_image)
        most = self.model.max_positions
        if max(len(with_image), len(without_image)) > most:
            return None
        return PlainTurn(
            with_image=with_image,
            without_image=without_image,
            posed=posed if posed is not None and len(posed) <= most else None,
        )

    def _make_bare_row(self, turn: TurnToScore, image: Image.Image | None) -> PlainRow:
        tokenized = self.model.tokenize_turn(turn, with_image=image is not None)
        return self._make_row(tokenized, self.model.process_turn(turn, image))

    def _make_row(self, tokenized: TokenizedTurn, inputs: ModelInputs) -> PlainRow:
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
    def _measure_batch(self, turns: list[PlainTurn]) -> list[AnswerEvidence]:
        give_sign()
        image_ND, ids_N, lengths = self._predict_answers([turn.with_image for turn in turns])
        text_ND, _, _ = self._predict_answers([turn.without_image for turn in turns])
        evidence = self.model.compute_evidence(image_ND, text_ND, ids_N, lengths)
        posed_rows = {i: turn.posed for i, turn in enumerate(turns) if turn.posed is not None}
        if posed_rows:
            posed = self._predict_answers(list(posed_rows.values()))
            for i, logprobs in zip(posed_rows, self.model.compute_logprobs(*posed), strict=True):
                evidence[i] = replace(evidence[i], posed_logprobs=logprobs)
        return evidence

    def _predict_answers(self, rows: Sequence[PlainRow]) -> tuple[Tensor, Tensor, list[int]]:
        """The states [N, D] that predict the rows' answers, their tokens [N], and their lengths."""
        answers = [row.answer_ids for row in rows]
        ids_N = torch.cat(answers).to(self.model.device)
        return self._predicting_states(rows), ids_N, [len(answer) for answer in answers]

    def _predicting_states(self, rows: Sequence[PlainRow]) -> Tensor:
        """The hidden states that predict each answer token, row after row: [N, D]."""
        hidden_BTD = self.model.hidden_states(collate_rows(row.inputs for row in rows))
        return torch.cat(
            [hidden_BTD[i, row.answer_start - 1 : row.answer_end - 1] for i, row in enumerate(rows)]
        )


def require_all(evidence: Sequence[AnswerEvidence | None]) -> list[AnswerEvidence]:
    """The evidence of turns that all have some.

    Raises:
        ValueError: one has none.
    """
    found = [answer for answer in evidence if answer is not None]
    if len(found) < len(evidence):
        raise ValueError("a turn with its image has more tokens than the model has positions")
    return found


def _has_two_images(turn: TurnToScore) -> bool:
    """Whether both sides have an image, which the rows of a batch must share."""
    return turn.baseline_image is not None
