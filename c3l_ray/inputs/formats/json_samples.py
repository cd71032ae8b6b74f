"""Samples in JSON text, whatever holds them: a list, lines, an object with lists of samples in it.

What the text is, its first bytes tell: names do not. A line of JSON Lines that is no sample costs
that line alone; in a list the text after a fault has no meaning, and it ends there.
"""

import codecs
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from c3l_ray.inputs.formats.json_text import (
    DECODER,
    TextReader,
    error_handler,
    skip_gap,
)
from c3l_ray.storage import Location

MAX_NESTING = 100  # Python's own functions fail on a thousand
HEAD_BYTES = 256 * 2**10  # what tells how the text is built
BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # begins as that of UTF-16
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_BYTES_OF_NO_TEXT = re.compile("[\udc80-\udcff]")  # as the handler surrogateescape shows them


class MalformedList(Exception):
    """Text that is no list of samples; the message says where and why."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What stands where a sample is expected.

    Attributes:
        start: its first byte in the file.
        end: the byte after its last.
        sample: its fields; None where it is no sample.
        fault: why it is none.
        name: that an object gives it.
    """

    start: int
    end: int
    sample: dict[str, Any] | None = None
    fault: str | None = None
    name: str | None = None


@dataclass(frozen=True, kw_only=True)
class _Form:
    """How a file's text is built: its encoding, the bytes before it, and whether it is lines."""

    encoding: str
    first_byte: int
    is_lines: bool


IsSample = Callable[[dict[str, Any]], bool]


def parse_file(location: Location, is_sample: IsSample) -> Iterator[Entry]:
    """The entries of a file, which is read piece by piece.

    Args:
        location: of the file.
        is_sample: whether an object has the fields of a sample.

    Raises:
        MalformedList: from here on the text is no list of samples.
    """
    with location.open() as file:
        form = _detect_form(file.read(HEAD_BYTES), location.path, is_sample)
        file.seek(form.first_byte)
        text = TextReader(file, form.encoding, form.first_byte)
        yield from _parse(text, form, is_sample, is_whole=True)


def parse_range(location: Location, start: int, end: int, is_sample: IsSample) -> Iterator[Entry]:
    """The entries in the bytes [start, end), which begin with an entry that `parse_file` found."""
    form = _detect_form(location.read(0, HEAD_BYTES), location.path, is_sample)
    text = TextReader(io.BytesIO(location.read(start, end)), form.encoding, start)
    yield from _parse(text, form, is_sample, is_whole=False)


def _parse(
    text: TextReader, form: _Form, is_sample: IsSample, *, is_whole: bool
) -> Iterator[Entry]:
    try:
        if form.is_lines:
            yield from _parse_lines(text)
        else:
            yield from _parse_tree(text, is_sample, is_whole)
    except (ValueError, RecursionError) as error:
        raise MalformedList(
            f"byte {text.byte}: not a list of samples: {_message_of(error)}"
        ) from error


def _parse_lines(text: TextReader) -> Iterator[Entry]:
    """JSON Lines; an object may also take several lines, or share one with others."""
    while not text.at_end():
        start, content, fault = text.byte, None, None
        try:
            content = text.decode()
        except UnicodeDecodeError:
            raise
        except (ValueError, RecursionError) as error:
            fault = f"the line is no JSON: {_message_of(error)}"
        else:
            fault = _explain_no_sample(content, text)
            if fault is None and not text.rest_of_line_is_good():
                fault = "the line has more than a sample"
        if fault is not None:
            text.skip_line()
        yield _make_entry(start, text.byte, content, fault)


def _parse_tree(text: TextReader, is_sample: IsSample, is_whole: bool) -> Iterator[Entry]:
    """Lists of samples, alone or as the values of an object, and samples as its values."""
    depth, num_entries = 0, 0
    names = []
    if is_whole and (text.at_end() or text.next_character() not in "[{"):
        raise MalformedList(f"byte {text.byte}: not a list of samples")
    is_object = is_whole and text.skip_mark("{")
    depth += is_object
    while not text.at_end():
        start, mark = text.byte, text.next_character()
        if is_whole and depth == 0 and mark != "[":
            raise MalformedList(f"byte {start}: more than a list of samples")
        if mark == "[":
            text.skip_mark(mark)
            depth += 1
        elif mark in "]}":
            text.skip_mark(mark)
            depth -= 1
        else:
            content, name = text.decode(), None
            fault = _explain_no_sample(content, text)
            if isinstance(content, str) and text.skip_mark(":"):
                name = content
                names.append(name)
                if _is_a_sample(text.first_of_list(), is_sample):
                    continue
                try:
                    content = text.peek()
                except json.JSONDecodeError:
                    if is_whole or text.next_character() != "[":
                        raise
                    continue  # the range ends in this list
                if isinstance(content, list) and any(
                    _is_a_sample(item, is_sample) for item in content
                ):
                    continue
                text.skip_peeked()
                if not _is_a_sample(content, is_sample):
                    continue
                fault = _explain_no_sample(content, text)
            num_entries += 1
            yield _make_entry(start, text.byte, content, fault, name)
    if is_whole and depth:
        raise MalformedList(f"byte {text.byte}: the list does not end")
    if is_object and not num_entries:
        shown = ", ".join(names[:10]) or "nothing"
        raise MalformedList(f"byte 0: not a list of samples, but an object of {shown}")


def _message_of(error: Exception) -> str:
    return error.msg if isinstance(error, json.JSONDecodeError) else str(error)


def _make_entry(
    start: int, end: int, content: Any, fault: str | None, name: str | None = None
) -> Entry:
    sample = content if fault is None else None
    return Entry(start=start, end=end, sample=sample, fault=fault, name=name)


def _is_a_sample(content: Any, is_sample: IsSample) -> bool:
    return isinstance(content, dict) and is_sample(content)


def _explain_no_sample(content: Any, text: TextReader) -> str | None:
    if _is_nested_too_deep(content, text.decoded):
        return f"brackets nested over {MAX_NESTING} deep"
    if not isinstance(content, dict):
        return f"not a sample with named fields but {json.dumps(content)[:40]}"
    if not text.decoded.isascii() and _BYTES_OF_NO_TEXT.search(text.decoded):
        return "bytes that are not UTF-8"
    return None


def _is_nested_too_deep(content: Any, text: str) -> bool:
    """Whether lists and objects lie in each other over MAX_NESTING deep.

    Args:
        content: that was decoded.
        text: of it.
    """
    if text.count("[") + text.count("{") <= MAX_NESTING:
        return False
    level = [content]
    for _ in range(MAX_NESTING):
        level = [item for parent in level for item in _items_of(parent)]
    return any(isinstance(item, dict | list) for item in level)


def _items_of(content: Any) -> Iterable[Any]:
    if isinstance(content, dict):
        return content.values()
    return content if isinstance(content, list) else ()


def _detect_form(head: bytes, path: str, is_sample: IsSample) -> _Form:
    """How a file is built, by its first bytes and, where these leave it open, its ending."""
    marked = ((encoding, len(mark)) for mark, encoding in BYTE_ORDER_MARKS if head.startswith(mark))
    encoding, first_byte = next(marked, (json.detect_encoding(head), 0))
    text = codecs.getincrementaldecoder(encoding)(error_handler(encoding)).decode(head[first_byte:])
    text = text[skip_gap(text, 0) :]
    is_lines = _is_lines(text, len(head) < HEAD_BYTES, path.endswith(".jsonl"), is_sample)
    return _Form(encoding=encoding, first_byte=first_byte, is_lines=is_lines)


def _is_lines(text: str, is_all: bool, has_ending: bool, is_sample: IsSample) -> bool:
    """Whether text is lines. A list of samples, too, may have a line for each, but with commas."""
    if not text.startswith(("[", "{")):
        return has_ending or text != ""
    first_line, _, rest = text.partition("\n")
    if first_line.strip() == "[":
        return False
    try:
        content, end = DECODER.raw_decode(text)
    except (ValueError, RecursionError):
        if text.startswith("{") and has_ending:
            return True
        return first_line.strip() != "{" and any(map(_is_object, rest.splitlines()))
    is_alone = is_all and skip_gap(text, end) == len(text)
    if isinstance(content, dict):
        return not is_alone or is_sample(content)
    is_in_line = not is_alone and end <= len(first_line)
    return is_in_line and (has_ending or any(map(_is_object, rest.splitlines())))


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False
