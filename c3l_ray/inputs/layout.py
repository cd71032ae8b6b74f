"""Where an image and what belongs to it are found in the input: flags of the jobs that read it."""

from dataclasses import dataclass
from typing import Annotated, Literal

from c3l_ray.flags import optional


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where an image and what belongs to it are found in the input.

    Columns of Parquet files, and endings of names in tars, are the usual ones where none is given.
    """

    image: Annotated[str | None, optional("STR")] = None
    """Parquet column of images, or ending of those in tars (default: `image`, `jpg` ...)."""
    caption: Annotated[str | None, optional("STR")] = None
    """Column of captions, or ending of those in tars (default: `caption`, `text` or `txt`)."""
    key: Annotated[str | None, optional("STR")] = None
    """Parquet column of image names (default: `key`, else the row's number)."""
    meta: Annotated[str | None, optional("STR")] = None
    """Parquet column to carry along as JSON text, or its ending in tars (default: `json`)."""
    image_root: Annotated[str | None, optional("STR")] = None
    """Folder that a LLaVA JSON's images are relative to, and lie in (default: the JSON's own)."""


@dataclass(frozen=True, kw_only=True)
class TurnsLayout(Layout):
    """Where an image, its turns and what belongs to it are found in the input.

    JSON needs none of this but, where its images lie elsewhere, the image root. Columns of
    Parquet files are found by their usual names where none is given.
    """

    turns: Annotated[str | None, optional("STR")] = None
    """Parquet column of lists or their JSON: {question, answer}, {from, value}, {role, content}."""
    question: Annotated[str | None, optional("STR")] = None
    """Parquet column of questions, where a row is one turn (default: `question`)."""
    answer: Annotated[str | None, optional("STR")] = None
    """Parquet column of answers, where a row is one turn (default: `answer`)."""
    history: Literal["auto", "yes", "no"] = "auto"
    """Score a turn given the turns before it; auto: yes for messages, no for question columns."""
