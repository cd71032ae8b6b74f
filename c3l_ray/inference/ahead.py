"""The next thing is made ready in a thread while the one before it is in use."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")


def make_ahead(items: Iterator[Item]) -> Iterator[Item]:
    """The items of an iterator; one is made ahead, in a thread, and no more.

    Making them holds the interpreter no longer than it would in turn. What their use waits for
    outside of it, as a pass on a GPU, is time in which the next is made.

    Args:
        items: whose exceptions come out where the item would.
    """
    with ThreadPoolExecutor(1, "ahead") as maker:
        upcoming = maker.submit(_take, items)
        while item := upcoming.result():
            upcoming = maker.submit(_take, items)
            yield item[0]


def _take(items: Iterator[Item]) -> tuple[Item] | None:
    """The next item; None after the last."""
    for item in items:
        return (item,)
    return None
