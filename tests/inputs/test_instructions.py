"""The user's own instructions: what is read, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from c3l_ray.errors import PreflightError
from c3l_ray.inputs.instructions import MAX_CHARACTERS, read_instructions

KINDS = ("detail", "short")


def test_wordings_are_read_by_kind(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"short": [" Ask. ", "Pose."]}))
    assert read_instructions(str(path), KINDS) == {"short": ("Ask.", "Pose.")}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "must be a JSON object of kinds, as {"),
        ({}, "must be a JSON object of kinds, as {"),
        ({"poem": ["Write."]}, "'poem' is no kind of this method; its kinds are detail, short"),
        ({"short": "Ask."}, "short must be a list of at least one text"),
        ({"short": []}, "short must be a list of at least one text"),
        ({"short": ["Ask.", 3]}, r"short\[1\] must be a text"),
        ({"short": ["Ask.", " "]}, r"short\[1\] must be a text"),
        ({"short": ["Ask.", "Ask. "]}, "short has the same text twice"),
        ({"short": ["a" * (MAX_CHARACTERS + 1)]}, r"short\[0\] has 2001 characters; at most 2000"),
    ],
)
def test_what_are_no_instructions_is_refused(tmp_path: Path, content: Any, message: str) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(content))
    with pytest.raises(PreflightError, match=rf"^--instructions \S+mine\.json: {message}"):
        read_instructions(str(path), KINDS)


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe\x00", b"[" * 100_000])
def test_a_file_that_is_no_json_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "mine.json"
    path.write_bytes(content)
    with pytest.raises(PreflightError, match=r"cannot be read as JSON|is nested too deep"):
        read_instructions(str(path), KINDS)


@pytest.mark.parametrize("name", ["nowhere.json", "."])
def test_a_file_that_is_not_there_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(PreflightError, match=r"no such file|cannot be read"):
        read_instructions(str(tmp_path / name), KINDS)
