"""Reads files at the same time, and in their order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

File = TypeVar("File")
Content = TypeVar("Content")

NUM_READERS = 8  # of files, at the same time


def read_ahead(
    read: Callable[[File], Content], files: Iterable[File]
) -> Iterator[tuple[File, Content]]:
    """Each file and its content, in order; a few are read while the first of them is used.

    Args:
        read: the content of a file. What it raises is raised here.
        files: to read.
    """
    pending: deque[tuple[File, Future[Content]]] = deque()
    with ThreadPoolExecutor(NUM_READERS) as readers:
        for file in files:
            pending.append((file, readers.submit(read, file)))
            if len(pending) > 2 * NUM_READERS:  # more would fill the memory
                first, content = pending.popleft()
                yield first, content.result()
        while pending:
            first, content = pending.popleft()
            yield first, content.result()
