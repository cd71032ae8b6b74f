"""How --help shows flags that may be left out, and fields that are none."""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

import tyro

Config = TypeVar("Config")

NOT_A_FLAG: Any = tyro.conf.Suppress
"""Metadata of a field that a job fills in, and that no command line sets."""


def optional(metavar: str) -> Any:
    """Metadata of a field that is None by default: what its value looks like.

    --help then shows no "{None}" and no "(default: None)"; the help text says what None means.
    """
    return tyro.conf.arg(metavar=metavar, help_behavior_hint="")


def shown_first(*names: str) -> Callable[[type[Config]], type[Config]]:
    """Decorates a dataclass, so that --help shows these fields before its others.

    Without it what a class inherits comes first, however rarely it is used. Fields are given by
    name alone (kw_only), so that their order has no other meaning.
    """

    def reorder(config: type[Config]) -> type[Config]:
        fields: dict[str, Any] = vars(config)["__dataclass_fields__"]
        in_order = {name: fields[name] for name in dict.fromkeys((*names, *fields))}
        setattr(config, "__dataclass_fields__", in_order)  # noqa: B010
        return config

    return reorder


def list_required(config: type[Any], prefix: str = "") -> list[str]:
    """The flags that a command must have, those of groups of flags too.

    Args:
        config: dataclass of flags.
        prefix: of their names.
    """
    required = []
    for field in dataclasses.fields(config):
        if {field.default, field.default_factory} != {dataclasses.MISSING}:
            continue
        name = prefix + field.name.replace("_", "-")
        if isinstance(field.type, type) and dataclasses.is_dataclass(field.type):
            required += list_required(field.type, f"{name}.")
        else:
            required.append(f"--{name}")
    return required
