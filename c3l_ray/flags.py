"""How --help shows flags that may be left out, and fields that are none."""

from typing import Any

import tyro

NOT_A_FLAG: Any = tyro.conf.Suppress
"""Metadata of a field that a job fills in, and that no command line sets."""


def optional(metavar: str) -> Any:
    """Metadata of a field that is None by default: what its value looks like.

    --help then shows no "{None}" and no "(default: None)"; the help text says what None means.
    """
    return tyro.conf.arg(metavar=metavar, help_behavior_hint="")
