"""Samples in JSON text, whatever holds them: a list, lines, an object with lists of samples in it.

What the text is, its first bytes tell: names do not. A line of JSON Lines that is no sample costs
that line alone; in a list the text after a fault has no meaning, and it ends there.
"""

import codecs
import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from c3l_ray.storage import Location

CHUNK_BYTES = 16 * 2**20  # the list of LLaVA-665K is a gigabyte
HEAD_BYTES = 256 * 2**10  # what tells how the text is built
NUM_LONGEST_TOKEN = 16  # characters; a word or number at the end of a chunk may go on
BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # begins as that of UTF-16
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
RANGE_END = object()
_GAP = re.compile(r"[ \t\r\n,\ufeff\xa0]*")
_GOOD_REST_OF_LINE = re.compile(r"[ \t\r,\ufeff\xa0]*(?:$|[\n{])")
_BYTES_OF_NO_TEXT = re.compile("[\udc80-\udcff]")  # as the handler surrogateescape shows them
_NUMBER_TO_THE_END = re.compile(r"[0-9.eE+-]*\Z")
_DECODER = json.JSONDecoder()


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
        text = _TextReader(file, form.encoding, form.first_byte)
        yield from _parse(text, form, is_sample, is_whole=True)


def parse_range(location: Location, start: int, end: int, is_sample: IsSample) -> Iterator[Entry]:
    """The entries in the bytes [start, end), which begin with an entry that `parse_file` found."""
    form = _detect_form(location.read(0, HEAD_BYTES), location.path, is_sample)
    text = _TextReader(io.BytesIO(location.read(start, end)), form.encoding, start)
    yield from _parse(text, form, is_sample, is_whole=False)


def _parse(
    text: "_TextReader", form: _Form, is_sample: IsSample, *, is_whole: bool
) -> Iterator[Entry]:
    try:
        if form.is_lines:
            yield from _parse_lines(text)
        else:
            yield from _parse_tree(text, is_sample, is_whole)
    except (ValueError, RecursionError) as error:
        raise MalformedList(f"byte {text.byte}: not a list of samples: {_message_of(error)}") from error


def _parse_lines(text: "_TextReader") -> Iterator[Entry]:
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


def _parse_tree(text: "_TextReader", is_sample: IsSample, is_whole: bool) -> Iterator[Entry]:
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
                first = text.first_of_list()
                if first is RANGE_END and not is_whole:
                    return  # the samples of this list are of the next unit
                if _is_a_sample(first, is_sample):
                    continue
                content = text.decode()
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


def _explain_no_sample(content: Any, text: "_TextReader") -> str | None:
    if not isinstance(content, dict):
        return f"not a sample with named fields but {json.dumps(content)[:40]}"
    if not text.decoded.isascii() and _BYTES_OF_NO_TEXT.search(text.decoded):
        return "bytes that are not UTF-8"
    return None


def _detect_form(head: bytes, path: str, is_sample: IsSample) -> _Form:
    """How a file is built, by its first bytes and, where these leave it open, its ending."""
    marked = (
        (encoding, len(mark)) for mark, encoding in BYTE_ORDER_MARKS if head.startswith(mark)
    )
    encoding, first_byte = next(marked, (json.detect_encoding(head), 0))
    text = codecs.getincrementaldecoder(encoding)(_error_handler(encoding)).decode(
        head[first_byte:]
    )
    text = text[_skip_gap(text, 0) :]
    is_lines = _is_lines(text, len(head) < HEAD_BYTES, path.endswith(".jsonl"), is_sample)
    return _Form(encoding=encoding, first_byte=first_byte, is_lines=is_lines)


def _is_lines(text: str, is_all: bool, has_ending: bool, is_sample: IsSample) -> bool:
    first_line, _, rest = text.partition("\n")
    begins_list = text.startswith("[")
    try:
        content, end = _DECODER.raw_decode(text)
    except (ValueError, RecursionError):
        second_line = rest.lstrip().partition("\n")[0]
        if first_line.strip() in ("[", "{"):
            return has_ending and not begins_list
        return (has_ending and not begins_list) or _is_object(second_line)
    is_alone = is_all and _skip_gap(text, end) == len(text)
    if begins_list:
        return has_ending and not is_alone and end <= len(first_line)
    return not (is_alone and isinstance(content, dict) and not is_sample(content)) and (
        isinstance(content, dict) or has_ending
    )


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _error_handler(encoding: str) -> str:
    """How bytes that are no text are kept: so that they are counted, and found again."""
    return "surrogateescape" if encoding == "utf-8" else "surrogatepass"


class _TextReader:
    """A file's text from `byte` of the file on; more is read where it is needed.

    Args:
        file: at that byte.
        encoding: of the text.
        byte: of the file.
    """

    def __init__(self, file: BinaryIO | io.BytesIO, encoding: str, byte: int) -> None:
        self.byte = byte
        self.decoded = ""  # the text of what `decode` decoded last
        self._file = file
        self._encoding, self._errors = encoding, _error_handler(encoding)
        self._incremental = codecs.getincrementaldecoder(encoding)(self._errors)
        self._text, self._position = "", 0

    def at_end(self) -> bool:
        """Whether nothing but a gap is left; passes over the gap."""
        while True:
            self._advance(_skip_gap(self._text, self._position))
            if self._position < len(self._text):
                return False
            if not self._read_more():
                return True

    def next_character(self) -> str:
        return self._text[self._position]

    def skip_mark(self, mark: str) -> bool:
        """Whether a character comes next; passes over it and the gap before it."""
        if self.at_end() or self.next_character() != mark:
            return False
        self._advance(self._position + 1)
        return True

    def decode(self) -> Any:
        """The JSON that comes next.

        Raises:
            ValueError: there is none.
        """
        while True:
            self.at_end()
            try:
                content, end = _DECODER.raw_decode(self._text, self._position)
            except json.JSONDecodeError as error:
                if not (self._may_go_on(error) and self._read_more()):
                    raise
            else:
                may_go_on = _is_number(content) and _NUMBER_TO_THE_END.match(self._text, end)
                if may_go_on and self._read_more():
                    continue
                self.decoded = self._text[self._position : end]
                self._advance(end)
                return content

    def first_of_list(self) -> Any:
        """The first element of the list that comes next, not passed over.

        None where no list comes, RANGE_END where the text ends after its mark.
        """
        while not self.at_end() and self.next_character() == "[":
            after = _skip_gap(self._text, self._position + 1)
            if after == len(self._text):
                if self._read_more():
                    continue
                return RANGE_END
            try:
                return _DECODER.raw_decode(self._text, after)[0]
            except json.JSONDecodeError as error:
                if not (self._may_go_on(error) and self._read_more()):
                    return None
        return None

    def rest_of_line_is_good(self) -> bool:
        """Whether nothing but another object follows in the line."""
        while True:
            if good := _GOOD_REST_OF_LINE.match(self._text, self._position):
                if good.end() < len(self._text) or not self._read_more():
                    return True
            else:
                return False

    def skip_line(self) -> None:
        """Passes over the line; with it over the indented lines of an object that it begins."""
        line = self._skip_one_line()
        if line.strip() != "{":
            return
        while self._has_more() and self.next_character() in " \t}]":
            self._skip_one_line()

    def _skip_one_line(self) -> str:
        """The line that was passed over."""
        while (end := self._text.find("\n", self._position)) < 0 and self._read_more():
            pass
        end = len(self._text) if end < 0 else end + 1
        line = self._text[self._position : end]
        self._advance(end)
        return line

    def _has_more(self) -> bool:
        return self._position < len(self._text) or (self._read_more() and bool(self._text))

    def _may_go_on(self, error: json.JSONDecodeError) -> bool:
        """Whether it is the end of what was read so far that is no JSON."""
        near_end = error.pos >= len(self._text) - NUM_LONGEST_TOKEN
        return near_end or error.msg.startswith("Unterminated string")

    def _advance(self, position: int) -> None:
        passed = self._text[self._position : position]
        if passed:
            self.byte += len(passed.encode(self._encoding, self._errors))
        self._position = position

    def _read_more(self) -> bool:
        """Reads as much again as is pending, so that a long value is not tried too often."""
        pending = self._text[self._position :]
        chunk = self._file.read(max(CHUNK_BYTES, len(pending)))
        self._text, self._position = pending + self._incremental.decode(chunk, not chunk), 0
        return bool(chunk)


def _is_number(content: Any) -> bool:
    return isinstance(content, int | float) and not isinstance(content, bool)


def _skip_gap(text: str, position: int) -> int:
    gap = _GAP.match(text, position)
    return gap.end() if gap else position
