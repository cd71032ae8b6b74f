"""Many token sequences in one row, each shared beginning once: a prefix tree laid out for one pass.

The sequences of an image (its turns, with and without the image) begin alike. In a pack a token
that several of them share stands once; what follows it in each comes after it, branch by branch. A
token then attends to the tokens on its path from the root and to no other, and its position is its
depth, so a model computes for every sequence what it would compute for it alone.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


class PackingError(Exception):
    """The model takes in images, or attends, in a way that packs do not follow."""


@dataclass(frozen=True, kw_only=True)
class Pack:
    """Sequences as one row of L tokens.

    Attributes:
        ids: the tokens, [L].
        depths: how many tokens come before each on its path, [L].
        ends: token i attends to token j where j <= i < ends[j], [L].
        paths: for each sequence, in the order given, the places of its tokens in the row.
    """

    ids: Ints
    depths: Ints
    ends: Ints
    paths: list[Ints]

    def __len__(self) -> int:
        return len(self.ids)


def pack_trees(trees: Iterable[Sequence[Ints]]) -> Pack:
    """Lays out trees of sequences; sequences share tokens inside a tree only.

    In the order of their tokens, neighbours share the longest beginning that any two share, so one
    pass over the sorted sequences finds the tree.

    Args:
        trees: the token ids of each tree's sequences, [T] each, none empty.
    """
    ids, depths, ends = (np.empty(0, np.int64) for _ in range(3))
    paths: list[Ints] = []
    for sequences in trees:
        first = len(paths)
        paths += [np.empty(0, np.int64)] * len(sequences)
        previous, path = np.empty(0, np.int64), np.empty(0, np.int64)
        for i in sorted(range(len(sequences)), key=lambda i: sequences[i].tolist()):
            num_shared = _num_shared(previous, sequences[i])
            ends[path[num_shared:]] = len(ids)  # these branches are over
            previous = sequences[i]
            places = np.arange(len(ids), len(ids) + len(previous) - num_shared)
            path = np.concatenate([path[:num_shared], places])
            ids = np.concatenate([ids, previous[num_shared:]])
            depths = np.concatenate([depths, np.arange(num_shared, len(previous))])
            ends = np.concatenate([ends, np.zeros(len(places), np.int64)])
            paths[first + i] = path
        ends[path] = len(ids)
    return Pack(ids=ids, depths=depths, ends=ends, paths=paths)


def _num_shared(left: Ints, right: Ints) -> int:
    """How many tokens two sequences have in common at their beginning."""
    shorter = min(len(left), len(right))
    differing = np.flatnonzero(left[:shorter] != right[:shorter])
    return int(differing[0]) if len(differing) else shorter
