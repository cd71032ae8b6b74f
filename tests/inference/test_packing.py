"""A pack against what it stands for: each sequence read back, seen by itself and nobody else."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from c3l_ray.inference.packing import Ints, Pack, pack_trees

SEQUENCES = st.lists(
    st.lists(st.integers(0, 2), min_size=1, max_size=7).map(lambda ids: np.array(ids, np.int64)),
    min_size=1,
    max_size=8,
)


def sees(packed: Pack, place: int) -> list[int]:
    before = np.arange(len(packed))
    return np.flatnonzero((before <= place) & (place < packed.ends)).tolist()


@given(st.lists(SEQUENCES, min_size=1, max_size=3))
def test_each_token_sees_its_own_sequence_up_to_itself(trees: list[list[Ints]]) -> None:
    packed = pack_trees(trees)
    sequences = [sequence for tree in trees for sequence in tree]
    for sequence, path in zip(sequences, packed.paths, strict=True):
        assert packed.ids[path].tolist() == sequence.tolist()
        assert packed.depths[path].tolist() == list(range(len(sequence)))
        for depth, place in enumerate(path):
            assert sees(packed, int(place)) == path[: depth + 1].tolist()


@given(st.lists(SEQUENCES, min_size=1, max_size=3))
def test_no_beginning_stands_twice_in_a_tree(trees: list[list[Ints]]) -> None:
    beginnings = {
        (number, *sequence[:length].tolist())
        for number, tree in enumerate(trees)
        for sequence in tree
        for length in range(1, len(sequence) + 1)
    }
    assert len(pack_trees(trees)) == len(beginnings)


def test_five_turns_of_an_image_pay_for_it_once() -> None:
    image = [7] * 576
    turns = [np.array([*image, *([turn + 10] * 64)], np.int64) for turn in range(5)]
    without = [turn[576:] for turn in turns]
    assert len(pack_trees([turns, without])) == 576 + 2 * 5 * 64
