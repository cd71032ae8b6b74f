"""A benchmark's official files: as text, as JSON, and the fields of its objects, all checked."""

import json
from collections.abc import Sequence
from typing import Any

from c3l_ray import storage
from c3l_ray.errors import PreflightError
from c3l_ray.storage import Location

DATA = "--data"
"""The flag that messages about a benchmark's files name."""

JsonObject = dict[str, Any]


def is_folder(location: Location) -> bool:
    """Whether there is a folder of this name, and no file.

    Raises:
        PreflightError: the storage cannot be asked.
    """
    try:
        return bool(location.list_children()) or bool(location.fs.isdir(location.path))
    except storage.ERRORS as error:
        raise PreflightError(f"{DATA} {location.address}: cannot be read: {error}") from error


def find_file(data: Location, name: str) -> Location:
    """The file that --data names, or the one of this name in the folder that it names.

    Raises:
        PreflightError: the folder holds none.
    """
    if not is_folder(data):
        return data
    if not (data / name).exists():
        raise PreflightError(
            f"{DATA} {data.address}: is a folder without {name}; name the folder that holds this "
            "file, or the file"
        )
    return data / name


def read_bytes(file: Location, flag: str = DATA) -> bytes:
    """A file's bytes.

    Args:
        file: to read.
        flag: that named it.

    Raises:
        PreflightError: it cannot be read.
    """
    try:
        return file.read()
    except storage.ERRORS as error:
        raise PreflightError(f"{flag} {file.address}: cannot be read: {error}") from error


def read_text(file: Location, flag: str = DATA) -> str:
    """A file's text, which is UTF-8 with a byte order mark or without.

    Args:
        file: to read.
        flag: that named it.

    Raises:
        PreflightError: it cannot be read, or is no such text.
    """
    try:
        return read_bytes(file, flag).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PreflightError(f"{flag} {file.address}: is not UTF-8: {error}") from error


def read_json_objects(file: Location, fields: Sequence[str]) -> list[tuple[str, JsonObject]]:
    """The objects of a file of JSON Lines or of a JSON array, each with its place in the file.

    Args:
        file: to read.
        fields: that every object must have.

    Raises:
        PreflightError: there is none, or one lacks a field; the message names the first one.
    """
    objects = parse_json_objects(read_text(file), f"{DATA} {file.address}")
    for place, content in objects:
        if missing := [name for name in fields if content.get(name) is None]:
            raise PreflightError(f"{place}: lacks {', '.join(missing)}")
    if not objects:
        raise PreflightError(f"{DATA} {file.address}: holds no question")
    return objects


def parse_json_objects(text: str, source: str) -> list[tuple[str, JsonObject]]:
    """The objects of JSON Lines, or of a JSON array, each with the place that messages name it by.

    Args:
        text: whose blank lines are passed over; an array where it begins with a bracket.
        source: of the text: flag and file.

    Raises:
        PreflightError: there is something else; the message names the first such line or entry.
    """
    if text.lstrip().startswith("["):
        array = parse_json(text, source)
        entries = [(f"{source}: entry {n}", entry) for n, entry in enumerate(array, start=1)]
    else:
        lines = ((f"{source}: line {n}", line) for n, line in enumerate(text.split("\n"), start=1))
        entries = [(place, parse_json(line, place)) for place, line in lines if line.strip()]
    for place, content in entries:
        if not isinstance(content, dict):
            raise PreflightError(f"{place}: is {type(content).__name__}, not an object")
    return entries


def parse_json(text: str, place: str) -> Any:
    """The content of JSON.

    Raises:
        PreflightError: it is none.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PreflightError(f"{place}: is no JSON: {error}") from error


def take_text(content: JsonObject, name: str, place: str) -> str:
    """A field that is a text.

    Raises:
        PreflightError: it is missing, blank or something else, or no file can hold it.
    """
    return check_text(content.get(name), name, place)


def take_value(content: JsonObject, name: str, place: str) -> str:
    """A field that is a text, a number, true or false, as a text.

    Raises:
        PreflightError: it is missing, blank, a list or an object, or no file can hold it.
    """
    return check_value(content.get(name), name, place)


def take_optional(content: JsonObject, name: str, place: str) -> str:
    """A field that is a text; empty where it is missing or blank.

    Raises:
        PreflightError: it is something else, or no file can hold it.
    """
    value = content.get(name)
    is_missing = value is None or (isinstance(value, str) and not value.strip())
    return "" if is_missing else take_text(content, name, place)


def check_text(value: Any, name: str, place: str) -> str:
    """A value that is a text.

    Args:
        value: to check.
        name: of it, for messages.
        place: where it stands.

    Raises:
        PreflightError: as `take_text`.
    """
    if value is None or value == "":
        raise PreflightError(f"{place}: lacks {name}")
    if not isinstance(value, str):
        raise PreflightError(f"{place}: {name} is {type(value).__name__}, not a text")
    if not value.strip():
        raise PreflightError(f"{place}: {name} is blank")
    if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise PreflightError(f"{place}: {name} has a character that is none of a text: {value!r}")
    return value


def check_value(value: Any, name: str, place: str) -> str:
    """A value that is a text, a number, true or false, as a text.

    Raises:
        PreflightError: as `take_value`.
    """
    return check_text(str(value) if isinstance(value, int | float) else value, name, place)
