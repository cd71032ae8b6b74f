"""Arguments of a chat template as the command line has them: NAME=JSON, such as
enable_thinking=false.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def parse_template_args(texts: Sequence[str]) -> dict[str, Any]:
    """The values of arguments by name.

    Raises:
        ValueError: one is not NAME=JSON.
    """
    args = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise ValueError(f"must be NAME=JSON, such as enable_thinking=false; {text} is not")
        try:
            args[name] = json.loads(value)
        except ValueError as error:
            raise ValueError(
                f'{value or "nothing"} is no JSON, which false, 3 and "low" with its quotes are'
            ) from error
    return args


def format_template_args(args: Mapping[str, Any]) -> tuple[str, ...]:
    """Arguments as the command line has them, in one order and spelling."""
    return tuple(f"{name}={json.dumps(args[name], sort_keys=True)}" for name in sorted(args))


def find_faults(texts: Sequence[str]) -> Iterator[str]:
    """What is wrong with the spelling of arguments: a message, or nothing."""
    try:
        parse_template_args(texts)
    except ValueError as error:
        yield str(error)
