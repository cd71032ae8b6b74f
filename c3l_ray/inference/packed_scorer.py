"""Packed scoring: one forward pass for all turns of an image, with the image and without.

The plain scorer pays for the image once for each turn. Here the image's tokens stand once at the
root of a prefix tree (`packing`), every turn with the image branches off it, once after the bare
question and once after the instruction that asked for it, and the turns without the image are a
tree of their own in the same row. The numbers are the plain scorer's up to rounding.

Tensor names carry shapes: B rows, L places of a row, T tokens, N answer tokens, D model's width.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from c3l_ray.inference.ahead import make_ahead
from c3l_ray.inference.image_prefix import ImagePrefix, read_image_prefix
from c3l_ray.inference.model_inputs import ModelInputs, collate_rows
from c3l_ray.inference.pack_attention import PackAttention
from c3l_ray.inference.packing import PackingError
from c3l_ray.inference.plain_scorer import PlainScorer, require_all
from c3l_ray.inference.scoring_model import ScoringModel, TurnToScore
from c3l_ray.inference.turn_groups import (
    PackedAnswer,
    PackedRow,
    TurnGroup,
    make_group,
    select_fitting,
)
from c3l_ray.methods.i2c import AnswerEvidence
from c3l_ray.stall_watch import give_sign


class PackedScorer:
    """As `PlainScorer`, in one pass for all turns of an image, or as many as the budget holds.

    Attributes:
        unpacked_reasons: why some images were scored plainly; its user empties it.

    Raises:
        PackingError: the model's attention is not one that packs follow.
    """

    def __init__(self, model: ScoringModel) -> None:
        self.model = model
        self.plain_scorer = PlainScorer(model)
        self.unpacked_reasons: set[str] = set()
        self.attention = PackAttention(model.vlm.config)

    def measure(self, turns: Sequence[TurnToScore]) -> list[AnswerEvidence]:
        """The evidence in each turn's answer, in the turns' order.

        Args:
            turns: that `ScoringModel.unscorable_status` has nothing against.

        Raises:
            ValueError: the model has not the positions for one with its image.
        """
        return require_all(self.measure_fitting(turns))

    def measure_fitting(self, turns: Sequence[TurnToScore]) -> list[AnswerEvidence | None]:
        """As `PlainScorer.measure_fitting`."""
        evidence: dict[int, AnswerEvidence | None] = {}
        unpacked: list[int] = []
        for groups, inputs in make_ahead(self._make_batches(turns, unpacked)):
            evidence.update(self._measure_batch(groups, inputs))
        if unpacked:
            plain = self.plain_scorer.measure_fitting([turns[i] for i in unpacked])
            evidence.update(zip(unpacked, plain, strict=True))
        return [evidence.get(i) for i in range(len(turns))]

    def _make_batches(
        self, turns: Sequence[TurnToScore], unpacked: list[int]
    ) -> Iterator[tuple[list[TurnGroup], ModelInputs]]:
        """Groups that the token budget holds together, with the model's inputs."""
        batch: list[TurnGroup] = []
        for group in self._group_by_image(turns, unpacked):
            candidates = (group, *batch)
            longest = max(candidate.longest_row for candidate in candidates)
            num_rows = sum(len(candidate.rows) for candidate in candidates)
            if batch and longest * num_rows > self.model.max_tokens:
                yield batch, self._model_inputs(batch)
                batch = []
            batch.append(group)
        if batch:
            yield batch, self._model_inputs(batch)

    def _group_by_image(
        self, turns: Sequence[TurnToScore], unpacked: list[int]
    ) -> Iterator[TurnGroup]:
        """The turns by image, images of like size and text one after the other.

        The numbers of turns that cannot be packed go into `unpacked`.
        """
        numbers_of_image: dict[tuple[int, int], list[int]] = {}
        for i, turn in enumerate(turns):
            images = (id(turn.image), id(turn.baseline_image))
            numbers_of_image.setdefault(images, []).append(i)

        def size(numbers: list[int]) -> tuple[int, int]:
            width, height = turns[numbers[0]].image.size
            num_characters = sum(len(turns[i].question + turns[i].answer) for i in numbers)
            return width * height, num_characters

        for numbers in sorted(numbers_of_image.values(), key=size):
            first, baseline = turns[numbers[0]], None
            try:
                prefix = read_image_prefix(self.model, first, first.image)
                if first.baseline_image is not None:
                    baseline = read_image_prefix(self.model, first, first.baseline_image)
                fitting = select_fitting(
                    self.model, {i: turns[i] for i in numbers}, prefix, baseline
                )
                if fitting:
                    yield from self._split_to_budget(fitting, prefix, baseline)
            except PackingError as error:
                self.unpacked_reasons.add(str(error))
                unpacked += numbers

    def _split_to_budget(
        self, turns: dict[int, TurnToScore], prefix: ImagePrefix, baseline: ImagePrefix | None
    ) -> Iterator[TurnGroup]:
        """One group of an image's turns, or as many halves of it as the token budget needs."""
        group = make_group(self.model, turns, prefix, baseline)
        if group.longest_row * len(group.rows) <= self.model.max_tokens or len(turns) == 1:
            yield group
            return
        numbers = list(turns)
        for half in (numbers[: len(numbers) // 2], numbers[len(numbers) // 2 :]):
            yield from self._split_to_budget({i: turns[i] for i in half}, prefix, baseline)

    @torch.inference_mode()
    def _measure_batch(
        self, groups: list[TurnGroup], inputs: ModelInputs
    ) -> dict[int, AnswerEvidence]:
        """The evidence in the answers of the groups' turns, by the turns' numbers."""
        give_sign()
        hidden_BLD = self.model.hidden_states(inputs)
        first_rows = np.cumsum([0, *(len(group.rows) for group in groups)])

        def predicting_states(answers_of_groups: Iterable[Iterable[PackedAnswer]]) -> Tensor:
            """The hidden states that predict the tokens of the answers, [N, D]."""
            return torch.cat(
                [
                    hidden_BLD[first_row + answer.row, torch.from_numpy(answer.predicting_places)]
                    for first_row, answers in zip(first_rows, answers_of_groups, strict=False)
                    for answer in answers
                ]
            )

        answers = [answer.ids for group in groups for answer in group.with_image]
        numbers = [i for group in groups for i in group.turn_numbers]
        measured = self.model.compute_evidence(
            predicting_states(group.with_image for group in groups),
            predicting_states(group.without_image for group in groups),
            *self._flatten(answers),
        )
        evidence = dict(zip(numbers, measured, strict=True))
        posed = {i: answer.ids for group in groups for i, answer in group.posed.items()}
        if posed:
            states_ND = predicting_states(group.posed.values() for group in groups)
            logprobs = self.model.compute_logprobs(states_ND, *self._flatten(posed.values()))
            for i, of_answer in zip(posed, logprobs, strict=True):
                evidence[i] = replace(evidence[i], posed_logprobs=of_answer)
        return evidence

    def _flatten(self, answers: Iterable[list[int]]) -> tuple[Tensor, list[int]]:
        """The tokens [N] of all answers one after the other, and the answers' lengths."""
        answers = list(answers)
        ids_N = torch.tensor([token for ids in answers for token in ids], device=self.model.device)
        return ids_N, [len(ids) for ids in answers]

    def _model_inputs(self, groups: list[TurnGroup]) -> ModelInputs:
        """The model's inputs; a place of padding attends to itself alone."""
        rows = [row for group in groups for row in group.rows]
        longest = max(len(row.pack) for row in rows)
        places_L = torch.arange(longest)
        ids_BL = torch.zeros(len(rows), longest, dtype=torch.long)
        ends_BL = (places_L + 1).repeat(len(rows), 1)
        depths_BL = torch.zeros_like(ids_BL)
        positions_3BL = torch.zeros(3, len(rows), longest, dtype=torch.long)
        for b, row in enumerate(rows):
            length = len(row.pack)
            ids_BL[b, :length] = torch.from_numpy(row.pack.ids)
            ends_BL[b, :length] = torch.from_numpy(row.pack.ends)
            depths_BL[b, :length] = torch.from_numpy(row.pack.depths)
            positions_3BL[:, b] = _row_positions(depths_BL[b], row)
        masks: Any = self.attention.make_masks(ends_BL, depths_BL, ids_BL)
        positions_are_depths = all(row.prefix.positions is None for row in rows)
        return {
            "input_ids": ids_BL,
            "attention_mask": masks,
            "position_ids": depths_BL if positions_are_depths else positions_3BL,
            **collate_rows(row.prefix.image_inputs for row in rows),
        }


def _row_positions(depths_L: Tensor, row: PackedRow) -> Tensor:
    """Positions [3, L]: the prefix's own up to its last image token, counted on from there."""
    prefix_3T = row.prefix.positions
    if prefix_3T is None:
        return depths_L.expand(3, -1)
    num_known = prefix_3T.shape[1]
    positions_3L = depths_L.expand(3, -1).clone()
    tree_L = depths_L[: row.image_tree_length]
    counted_L = tree_L - num_known + prefix_3T.max() + 1
    known_3L = prefix_3T[:, tree_L.clamp(max=num_known - 1)]
    positions_3L[:, : row.image_tree_length] = torch.where(tree_L < num_known, known_3L, counted_L)
    return positions_3L
