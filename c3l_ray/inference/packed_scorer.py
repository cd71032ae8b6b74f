"""Packed scoring: one forward pass for all turns of an image, with the image and without.

The plain way pays for the image once for each turn. Here the image's tokens stand once at the root
of a prefix tree (`packing`), every turn with the image branches off it, and the turns without the
image are a tree of their own in the same row. The numbers are the plain scorer's up to rounding.

Tensor names carry shapes: B rows, L places of a row, T tokens, N answer tokens, D model's width.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from c3l_ray.inference.scoring_model import Asked, Frozen, Inputs, Rendered, joined, of_images
from c3l_ray.inference.packing import Ints, Pack, pack
from c3l_ray.inference.plain_scorer import PlainScorer
from c3l_ray.methods.i2c import AnswerEvidence

FULL, SLIDING = "full_attention", "sliding_attention"


class PackingError(Exception):
    """The model takes in images, or attends, in a way that packs do not follow."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """An image as the model takes it in: where its tokens stand, and its pixels.

    Attributes:
        before: the token ids that stand before the placeholder and its run.
        placeholder: what stands in a rendered text in the image's place.
        run: what it grows into.
        positions: of all tokens up to the run's end, [3, T], where they are not their depths.
        pixels: the processor's inputs that belong to the image.
    """

    before: list[int]
    placeholder: list[int]
    run: list[int]
    positions: Tensor | None
    pixels: Inputs

    def expanded(self, turn: Rendered) -> Rendered:
        """A turn about this image, its placeholder grown into the image's tokens."""
        start, end = len(self.before), len(self.before) + len(self.placeholder)
        if turn.ids[:start] != self.before or turn.ids[start:end] != self.placeholder:
            raise PackingError("its turns do not begin alike")
        grown = len(self.run) - len(self.placeholder)
        ids = [*self.before, *self.run, *turn.ids[end:]]
        return Rendered(ids=ids, start=turn.start + grown, end=turn.end + grown)


@dataclass(frozen=True, kw_only=True)
class Row:
    """A pack whose first tree is about an image; a second one is text alone."""

    shown: Shown
    pack: Pack
    num_shown: int  # places of the first tree


@dataclass(frozen=True, kw_only=True)
class Group:
    """Turns about one image, and the rows that hold both sides of all of them.

    Attributes:
        turns: their numbers.
        rows: one, or two where the side without the image has an image too.
        before: of each turn and side, the row and the places whose outputs predict the answer.
        answers: of each turn, the answer's token ids.
    """

    turns: list[int]
    rows: list[Row]
    before: list[tuple[tuple[int, Ints], tuple[int, Ints]]]
    answers: list[list[int]]

    @property
    def longest(self) -> int:
        return max(len(row.pack) for row in self.rows)


class PackedScorer:
    """As `PlainScorer`, in one pass for all turns of an image, or as many as the budget holds.

    Raises:
        PackingError: the model's attention is not one that packs follow.
    """

    def __init__(self, frozen: Frozen) -> None:
        self.frozen = frozen
        self.plain = PlainScorer(frozen)
        text = frozen.model.config.get_text_config()
        layers = getattr(text, "layer_types", None)
        self.window: int | None = getattr(text, "sliding_window", None)
        if layers is None and self.window:
            raise PackingError("a sliding window in layers that its config does not name")
        if strange := sorted({*(layers or ())} - {FULL, SLIDING}):
            raise PackingError(f"layers of {', '.join(strange)}")
        self.slides = SLIDING in (layers or ())
        # Gemma 3 lets the tokens of an image see each other, also those that come later.
        self.image_sees_itself = frozen.model.config.model_type == "gemma3"

    def beliefs(self, asked: Sequence[Asked]) -> list[AnswerEvidence]:
        """A belief for each turn, in their order; each must be one that `can_score` accepts."""
        found: dict[int, AnswerEvidence] = {}
        batch: list[Group] = []
        for group in self._groups(asked, found):
            longest = max(each.longest for each in (group, *batch))
            num_rows = sum(len(each.rows) for each in (group, *batch))
            if batch and longest * num_rows > self.frozen.max_tokens:
                found.update(self._batch(batch))
                batch = []
            batch.append(group)
        if batch:
            found.update(self._batch(batch))
        return [found[i] for i in range(len(asked))]

    def _groups(self, asked: Sequence[Asked], found: dict[int, AnswerEvidence]) -> Iterator[Group]:
        """The turns by image, images of like size and text one after the other.

        Turns that cannot be packed are scored plainly, into `found`.
        """
        of_image: dict[tuple[int, int], list[int]] = {}
        for i, turn in enumerate(asked):
            of_image.setdefault((id(turn.image), id(turn.without)), []).append(i)

        def size(turns: list[int]) -> tuple[int, int]:
            width, height = asked[turns[0]].image.size
            return width * height, sum(len(asked[i].question + asked[i].answer) for i in turns)

        for turns in sorted(of_image.values(), key=size):
            first = asked[turns[0]]
            try:
                shown = self._shown(first, first.image)
                other = None if first.without is None else self._shown(first, first.without)
                yield from self._within_budget({i: asked[i] for i in turns}, shown, other)
            except PackingError:
                plainly = self.plain.beliefs([asked[i] for i in turns])
                found.update(zip(turns, plainly, strict=True))

    def _within_budget(
        self, turns: dict[int, Asked], shown: Shown, other: Shown | None
    ) -> Iterator[Group]:
        group = self._group(turns, shown, other)
        if group.longest * len(group.rows) <= self.frozen.max_tokens or len(turns) == 1:
            yield group
            return
        numbers = list(turns)
        for half in (numbers[: len(numbers) // 2], numbers[len(numbers) // 2 :]):
            yield from self._within_budget({i: turns[i] for i in half}, shown, other)

    def _group(self, turns: dict[int, Asked], shown: Shown, other: Shown | None) -> Group:
        rendered = [self.frozen.rendered(turn, image=True) for turn in turns.values()]
        image = [shown.expanded(turn) for turn in rendered]
        if other is None:
            text = [self.frozen.rendered(turn, image=False) for turn in turns.values()]
            both = pack([[_ids(turn) for turn in side] for side in (image, text)])
            num_shown = int(both.ends[both.depths == 0][0])
            rows = [Row(shown=shown, pack=both, num_shown=num_shown)]
            paths = [(0, path) for path in both.paths]
        else:
            text = [other.expanded(turn) for turn in rendered]
            packs = [pack([[_ids(turn) for turn in side]]) for side in (image, text)]
            rows = [
                Row(shown=one, pack=each, num_shown=len(each))
                for one, each in zip((shown, other), packs, strict=True)
            ]
            paths = [(row, path) for row, each in enumerate(packs) for path in each.paths]
        before = [
            (row, path[turn.start - 1 : turn.end - 1])
            for (row, path), turn in zip(paths, [*image, *text], strict=True)
        ]
        return Group(
            turns=list(turns),
            rows=rows,
            before=list(zip(before[: len(turns)], before[len(turns) :], strict=True)),
            answers=[turn.ids[turn.start : turn.end] for turn in image],
        )

    def _shown(self, turn: Asked, image: Image.Image) -> Shown:
        """What the processor makes of an image, told from what it makes of one turn about it."""
        text = self.frozen.rendered(turn, image=True).ids
        inputs = self.frozen.processed(turn, image)
        grown: list[int] = inputs["input_ids"][0].tolist()
        least = min(len(text), len(grown))
        start = next((i for i in range(least) if text[i] != grown[i]), least)
        end = next(
            (i for i in range(least - start) if text[-1 - i] != grown[-1 - i]), least - start
        )
        run = grown[start : len(grown) - end]
        return Shown(
            before=text[:start],
            placeholder=text[start : len(text) - end],
            run=run,
            positions=self._positions(inputs, start + len(run)),
            pixels=of_images(inputs),
        )

    def _positions(self, inputs: Inputs, end: int) -> Tensor | None:
        """The positions in three dimensions of models that give an image's tokens such."""
        index = getattr(self.frozen.model.base_model, "get_rope_index", None)
        if index is None:
            return None
        positions_3BT: Tensor = index(**{k: v for k, v in inputs.items() if v.dim() == 2})[0]
        return positions_3BT[:, 0, :end]

    @torch.inference_mode()
    def _batch(self, groups: list[Group]) -> Iterator[tuple[int, AnswerEvidence]]:
        rows = [row for group in groups for row in group.rows]
        hidden_BLD = self.frozen.hidden(self._inputs(rows))
        sides: tuple[list[Tensor], list[Tensor]] = ([], [])
        first = 0
        for group in groups:
            for places in group.before:
                for side, (row, before) in zip(sides, places, strict=True):
                    side.append(hidden_BLD[first + row, torch.from_numpy(before)])
            first += len(group.rows)
        answers = [ids for group in groups for ids in group.answers]
        ids_N = torch.tensor([token for ids in answers for token in ids], device=self.frozen.device)
        image_ND, text_ND = (torch.cat(side) for side in sides)
        beliefs = self.frozen.beliefs(image_ND, text_ND, ids_N, [len(ids) for ids in answers])
        return zip((turn for group in groups for turn in group.turns), beliefs, strict=True)

    def _inputs(self, rows: list[Row]) -> Inputs:
        """The model's inputs; a place of padding attends to itself alone."""
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
            positions_3BL[:, b] = _positions(depths_BL[b], row)
        mask_BLL = (places_L <= places_L[:, None]) & (places_L[:, None] < ends_BL[:, None])
        masks: Any = self._masks(mask_BLL, depths_BL, ids_BL)
        in_depths = all(row.shown.positions is None for row in rows)
        return {
            "input_ids": ids_BL,
            "attention_mask": masks,
            "position_ids": depths_BL if in_depths else positions_3BL,
            **joined(row.shown.pixels for row in rows),
        }

    def _masks(self, mask_BLL: Tensor, depths_BL: Tensor, ids_BL: Tensor) -> Any:
        """What may attend to what, for all layers or by their kind: [B, 1, L, L], True for yes."""
        if self.image_sees_itself:
            is_image_BL = ids_BL == self.frozen.model.config.image_token_id
            image_BLL = is_image_BL[:, :, None] & is_image_BL[:, None]
        else:
            image_BLL = torch.zeros_like(mask_BLL)
        full_B1LL = (mask_BLL | image_BLL).unsqueeze(1)
        if not self.slides or self.window is None:
            return full_B1LL
        near_BLL = depths_BL[:, :, None] - depths_BL[:, None] < self.window
        return {FULL: full_B1LL, SLIDING: (mask_BLL & near_BLL | image_BLL).unsqueeze(1)}


def _positions(depths_L: Tensor, row: Row) -> Tensor:
    """Positions [3, L]: the image's own up to its run's end, counted on from there after it."""
    shown_3T = row.shown.positions
    if shown_3T is None:
        return depths_L.expand(3, -1)
    num_known = shown_3T.shape[1]
    positions_3L = depths_L.expand(3, -1).clone()
    tree_L = depths_L[: row.num_shown]
    counted_L = tree_L - num_known + shown_3T.max() + 1
    known_3L = shown_3T[:, tree_L.clamp(max=num_known - 1)]
    positions_3L[:, : row.num_shown] = torch.where(tree_L < num_known, known_3L, counted_L)
    return positions_3L


def _ids(turn: Rendered) -> Ints:
    return np.array(turn.ids, np.int64)
