"""JSON text that is read piece by piece, and whose bytes are counted."""

import codecs
import io
import json
import re
from typing import Any, BinaryIO

CHUNK_BYTES = 16 * 2**20  # the list of LLaVA-665K is a gigabyte
NUM_LONGEST_TOKEN = 16  # characters; a word or number at the end of a chunk may go on
DECODER = json.JSONDecoder()
_GAP = re.compile(r"[ \t\r\n,\ufeff\xa0]*")
_GOOD_REST_OF_LINE = re.compile(r"[ \t\r,\ufeff\xa0]*(?:$|[\n{])")
_NUMBER_TO_THE_END = re.compile(r"[0-9.eE+-]*\Z")


class TextReader:
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
        self._encoding, self._errors = encoding, error_handler(encoding)
        self._incremental = codecs.getincrementaldecoder(encoding)(self._errors)
        self._text, self._position, self._peeked = "", 0, 0

    def at_end(self) -> bool:
        """Whether nothing but a gap is left; passes over the gap."""
        while True:
            self._advance(skip_gap(self._text, self._position))
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
        """The JSON that comes next, as `peek` has it; passes over it."""
        content = self.peek()
        self.skip_peeked()
        return content

    def skip_peeked(self) -> None:
        """Passes over what `peek` returned."""
        self.decoded = self._text[self._position : self._peeked]
        self._advance(self._peeked)

    def peek(self) -> Any:
        """The JSON that comes next.

        Raises:
            ValueError: there is none.
        """
        while True:
            self.at_end()
            try:
                content, end = DECODER.raw_decode(self._text, self._position)
            except json.JSONDecodeError as error:
                if not (self._may_go_on(error) and self._read_more()):
                    raise
            else:
                may_go_on = _is_number(content) and _NUMBER_TO_THE_END.match(self._text, end)
                if may_go_on and self._read_more():
                    continue
                self._peeked = end
                return content

    def first_of_list(self) -> Any:
        """The first element of the list that comes next, not passed over.

        None where no list comes, or one without a first element.
        """
        while not self.at_end() and self.next_character() == "[":
            try:
                after = skip_gap(self._text, self._position + 1)
                return DECODER.raw_decode(self._text, after)[0]
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


def skip_gap(text: str, position: int) -> int:
    gap = _GAP.match(text, position)
    return gap.end() if gap else position


def error_handler(encoding: str) -> str:
    """How bytes that are no text are kept: so that they are counted, and found again."""
    return "surrogateescape" if encoding == "utf-8" else "surrogatepass"
