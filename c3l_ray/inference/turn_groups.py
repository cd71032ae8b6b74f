"""Turns about one image as the rows of one pass: which of them fit, and where their answers lie."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from c3l_ray.inference.image_prefix import ImagePrefix
from c3l_ray.inference.packing import Ints, Pack, pack_trees
from c3l_ray.inference.scoring_model import ScoringModel, TokenizedTurn, TurnToScore


@dataclass(frozen=True, kw_only=True)
class PackedRow:
    """A pack whose first tree is about an image; a second tree is text alone.

    Attributes:
        prefix: the image at the root of the first tree.
        pack: the trees.
        image_tree_length: places of the first tree.
    """

    prefix: ImagePrefix
    pack: Pack
    image_tree_length: int


@dataclass(frozen=True, kw_only=True)
class PackedAnswer:
    """An answer in a pack.

    Attributes:
        row: its number among those of its group.
        predicting_places: the places in the row whose outputs predict the answer.
        ids: its tokens.
    """

    row: int
    predicting_places: Ints
    ids: list[int]


@dataclass(frozen=True, kw_only=True)
class TurnGroup:
    """Turns about one image, and the rows that hold all sides of all of them.

    Attributes:
        turn_numbers: the turns' numbers among those to score.
        rows: one, or two where the side without the image has an image too.
        with_image: of each turn, the answer after the bare question.
        without_image: the same on the other side.
        posed: by the number of a turn that an instruction asked for, the answer after it.
    """

    turn_numbers: list[int]
    rows: list[PackedRow]
    with_image: list[PackedAnswer]
    without_image: list[PackedAnswer]
    posed: dict[int, PackedAnswer]

    @property
    def longest_row(self) -> int:
        return max(len(row.pack) for row in self.rows)


def select_fitting(
    model: ScoringModel,
    turns: dict[int, TurnToScore],
    prefix: ImagePrefix,
    baseline: ImagePrefix | None,
) -> dict[int, TurnToScore]:
    """The turns of an image that the model has the positions for.

    Without their instruction where it has them after the bare question only.
    """
    most, fitting = model.max_positions, {}
    for i, turn in turns.items():
        num_tokens = len(model.tokenize_turn(turn, with_image=True).ids)
        sides = (prefix,) if baseline is None else (prefix, baseline)
        if any(num_tokens + side.num_added > most for side in sides):
            continue
        if turn.instruction:
            num_posed = len(model.tokenize_posed_turn(turn).ids)
            if num_posed + prefix.num_added > most:
                turn = replace(turn, instruction="")
        fitting[i] = turn
    return fitting


def make_group(
    model: ScoringModel,
    turns: dict[int, TurnToScore],
    prefix: ImagePrefix,
    baseline: ImagePrefix | None,
) -> TurnGroup:
    """The rows of turns about one image.

    Args:
        model: that scores.
        turns: by their numbers.
        prefix: the image.
        baseline: the image of the side without it; None where that has none.

    Raises:
        PackingError: the turns begin with different tokens.
    """
    unexpanded = [model.tokenize_turn(turn, with_image=True) for turn in turns.values()]
    image_side = [prefix.expand_turn(turn) for turn in unexpanded]
    posed_side = {
        i: prefix.expand_turn(model.tokenize_posed_turn(turn))
        for i, turn in turns.items()
        if turn.instruction
    }
    image_tree = [*image_side, *posed_side.values()]
    if baseline is None:
        text_side = [model.tokenize_turn(turn, with_image=False) for turn in turns.values()]
        pack = pack_trees([_id_arrays(tree) for tree in (image_tree, text_side)])
        image_tree_length = int(pack.ends[pack.depths == 0][0])
        rows = [PackedRow(prefix=prefix, pack=pack, image_tree_length=image_tree_length)]
        paths = [(0, path) for path in pack.paths]
    else:
        text_side = [baseline.expand_turn(turn) for turn in unexpanded]
        packs = [pack_trees([_id_arrays(tree)]) for tree in (image_tree, text_side)]
        rows = [
            PackedRow(prefix=side_prefix, pack=pack, image_tree_length=len(pack))
            for side_prefix, pack in zip((prefix, baseline), packs, strict=True)
        ]
        paths = [(row, path) for row, pack in enumerate(packs) for path in pack.paths]
    answers = [
        PackedAnswer(
            row=row,
            predicting_places=path[turn.answer_start - 1 : turn.answer_end - 1],
            ids=turn.answer_ids,
        )
        for (row, path), turn in zip(paths, [*image_tree, *text_side], strict=True)
    ]
    num_turns, num_with_image = len(turns), len(image_tree)
    return TurnGroup(
        turn_numbers=list(turns),
        rows=rows,
        with_image=answers[:num_turns],
        without_image=answers[num_with_image:],
        posed=dict(zip(posed_side, answers[num_turns:num_with_image], strict=True)),
    )


def _id_arrays(turns: Sequence[TokenizedTurn]) -> list[Ints]:
    return [np.array(turn.ids, np.int64) for turn in turns]
