"""Bounds declared on the fields of a config, and the one walk that holds all of them.

    @dataclass(frozen=True, kw_only=True)
    class Sampling:
        top_p: Annotated[float, Range(above=0, max=1)] = 1.0

A dataclass may also have a method `conflicts` that yields (field, message) for what does not go
together; a field of a dataclass in it is named as "optim.batch_size". The walk finds a field
wherever it stands in the config of a job, so a message names the flag as the user of that job
writes it.
"""

import dataclasses
import typing
from collections.abc import Iterator
from operator import attrgetter
from typing import Any

from c3l_ray.errors import PreflightError

Conflicts = Iterator[tuple[str, str]]
"""Names of fields, and what is wrong with the value of each."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Range:
    """Where a number must lie; None leaves a side open. Not a number lies nowhere."""

    min: float | None = None
    above: float | None = None
    max: float | None = None
    below: float | None = None

    def holds(self, value: float) -> bool:
        return (
            (self.min is None or value >= self.min)
            and (self.above is None or value > self.above)
            and (self.max is None or value <= self.max)
            and (self.below is None or value < self.below)
            and value == value
        )

    def __str__(self) -> str:
        low = self.min if self.above is None else self.above
        high = self.max if self.below is None else self.below
        if low is None or high is None:
            bounds = {"at least": self.min, "above": self.above, "at most": self.max}
            bounds["below"] = self.below
            return " and ".join(
                f"{how} {bound:g}" for how, bound in bounds.items() if bound is not None
            )
        left, right = "[" if self.above is None else "(", "]" if self.below is None else ")"
        return f"in {left}{low:g}, {high:g}{right}"


def check_config(config: Any) -> None:
    """Refuses the first value of a config that is out of its range, or in conflict with another.

    Args:
        config: a dataclass, perhaps of other dataclasses, as the command line makes it.

    Raises:
        PreflightError: names the flag, its value and where that must lie.
    """
    for flag, message in _find_faults(config, ""):
        raise PreflightError(f"{flag}: {message}")


def _find_faults(config: Any, prefix: str) -> Iterator[tuple[str, str]]:
    """Flags with their values, and what is wrong with each."""
    types = typing.get_type_hints(type(config), include_extras=True)
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from _find_faults(value, f"{prefix}{field.name}.")
            continue
        for range_ in getattr(types[field.name], "__metadata__", ()):
            values = value if isinstance(value, tuple) else (value,)
            for number in values:
                if isinstance(range_, Range) and number is not None and not range_.holds(number):
                    yield _format_flag(f"{prefix}{field.name}", number), f"must be {range_}"
    if hasattr(config, "conflicts"):
        for name, message in config.conflicts():
            yield _format_flag(f"{prefix}{name}", attrgetter(name)(config)), message


def _format_flag(path: str, value: Any) -> str:
    """A field's flag and its value as the command line has them."""
    path = path.replace("_", "-")
    if isinstance(value, bool):
        concern, dot, name = path.rpartition(".")
        return f"--{concern}{dot}{name if value else f'no-{name}'}"
    return f"--{path} {' '.join(map(str, value)) if isinstance(value, tuple) else value}"
