"""The import of libraries so large that the collection of garbage is a seventh of it."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collection() -> Iterator[None]:
    """Keeps Python from looking for garbage among the modules that are imported within.

    For imports, and for what imports as it goes, such as the reading of a config; not for weights.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
