"""The user's own instructions: a JSON file of wordings by kind, in place of the method's."""

from collections.abc import Collection
from typing import Any

from c3l_ray import storage
from c3l_ray.errors import PreflightError
from c3l_ray.storage import Location

FLAG = "--instructions"
MAX_CHARACTERS = 2000
"""Of a wording. The engine is made for prompts of about a thousand tokens beside the image."""
EXAMPLE = '{"detail": ["Ask what the picture shows, and describe it."]}'


def read_instructions(address: str, kinds: Collection[str]) -> dict[str, tuple[str, ...]]:
    """The wordings of a file by kind.

    Kinds that the file leaves out are not asked for.

    Args:
        address: local path or s3:// of a JSON object of lists of texts.
        kinds: that the method knows.

    Raises:
        PreflightError: the file cannot be read, or is none of instructions.
    """
    try:
        content = Location.parse(address, FLAG).read_json()
    except storage.ERRORS as error:
        raise PreflightError(f"{FLAG} {address}: cannot be read as JSON: {error}") from error
    except RecursionError:
        raise PreflightError(f"{FLAG} {address}: is nested too deep") from None
    if content is None:
        raise PreflightError(f"{FLAG} {address}: no such file")
    if not isinstance(content, dict) or not content:
        raise PreflightError(f"{FLAG} {address}: must be a JSON object of kinds, as {EXAMPLE}")
    if unknown := [kind for kind in content if kind not in kinds]:
        raise PreflightError(
            f"{FLAG} {address}: {unknown[0]!r} is no kind of this method; its kinds are "
            f"{', '.join(kinds)}"
        )
    return {kind: _check_wordings(address, kind, wordings) for kind, wordings in content.items()}


def _check_wordings(address: str, kind: str, wordings: Any) -> tuple[str, ...]:
    """The wordings of a kind without blanks around them.

    Raises:
        PreflightError: they are no list of texts, or one of them cannot be asked.
    """
    where = f"{FLAG} {address}: {kind}"
    if not isinstance(wordings, list) or not wordings:
        raise PreflightError(f"{where} must be a list of at least one text")
    stripped = []
    for number, wording in enumerate(wordings):
        if not isinstance(wording, str) or not wording.strip():
            raise PreflightError(f"{where}[{number}] must be a text")
        if len(wording) > MAX_CHARACTERS:
            raise PreflightError(
                f"{where}[{number}] has {len(wording)} characters; at most {MAX_CHARACTERS} are "
                "asked"
            )
        stripped.append(wording.strip())
    if len(set(stripped)) < len(stripped):
        raise PreflightError(f"{where} has the same text twice")
    return tuple(stripped)
