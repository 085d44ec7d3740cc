"""JSON values, one after the other: documents of any size in the memory of their largest element.

Each is decoded by the JSON decoder of Python, out of a buffer that is filled as needed: of the streaming parsers it is
the fastest, and `NaN`, which many programs write although JSON does not know it, costs a value and not the file.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import pandas as pd

from trackgen_core.readers.columns import Fix, Refusal, batches, frame_of_fixes
from trackgen_core.readers.sources import Source, UnreadableFile, open_text

CHUNK_CHARS: Final = 1 << 18
MAX_VALUE_CHARS: Final = 1 << 28
"""One value is held in memory; one of this size (some four million coordinates) is refused."""

BREAKS_OFF: Final = "the file breaks off; copy it again"

_BLANK: Final = re.compile(r"[\s\x1e\ufeff]*")
"""Between values. RFC 8142 puts a record separator before each text of a sequence."""

_COMMA: Final = re.compile(r"\s*,\s*")

_LONGEST_TOKEN: Final = 16
"""An error nearer to the end of the buffer than this may be a number or a literal that goes on."""


class Values:
    """The values of a JSON text, one after the other, out of a buffer that is filled as needed."""

    def __init__(self, path: str, text: io.TextIOBase) -> None:
        self._path = path
        self._text = text
        self._buffer = ""
        self._at = 0
        self._bytes_before = 0
        self._decoder = json.JSONDecoder()

    def peek(self) -> str:
        """Return the next character that is not blank, '' at the end."""
        while True:
            blank = _BLANK.match(self._buffer, self._at)
            self._at = blank.end() if blank else self._at
            if self._at < len(self._buffer):
                return self._buffer[self._at]
            if not self._fill():
                return ""

    def take(self, *allowed: str) -> str:
        """Pass over the next character that is not blank, which must be one of those allowed."""
        found = self.peek()
        if found not in allowed:
            expected = " or ".join(allowed)
            raise self.error(f"no valid JSON: {found!r} where {expected} is expected" if found else BREAKS_OFF)
        self._at += 1
        return found

    def next(self) -> Any:  # noqa: ANN401
        """Decode the next value, whatever it is."""
        if self._buffer[self._at : self._at + 1] not in ("{", "[") and not self.peek():
            raise self.error(BREAKS_OFF)
        while True:
            try:
                value, end = self._decoder.raw_decode(self._buffer, self._at)
            except json.JSONDecodeError as error:
                near_end = error.pos >= len(self._buffer) - _LONGEST_TOKEN
                if not near_end and not error.msg.startswith("Unterminated string"):
                    raise self.error(f"no valid JSON ({error.msg})", error.pos) from error
                if not self._fill():
                    raise self.error(f"{BREAKS_OFF} ({error.msg})", len(self._buffer)) from error
            except (RecursionError, ValueError) as error:
                raise self.error(f"JSON that cannot be decoded ({error})") from error
            else:
                # A number near the end of the buffer may go on: of `52.` that is `52`, too.
                complete = end < len(self._buffer) - _LONGEST_TOKEN or isinstance(value, dict | list | str)
                if complete or not self._fill():
                    self._at = end
                    return value

    def members(self) -> Iterator[str]:
        """Pass over an object and yield its keys; the caller takes the value after each."""
        self.take("{")
        if self.peek() == "}":
            self.take("}")
            return
        while True:
            key = self.next()
            self.take(":")
            yield str(key)
            if self.take(",", "}") == "}":
                return

    def elements(self, nested: int = 0) -> Iterator[Any]:
        """Pass over an array and yield its values; also those of arrays in it, `nested` levels deep."""
        self.take("[")
        if self.peek() == "]":
            self.take("]")
            return
        while True:
            if nested and self.peek() == "[":
                yield from self.elements(nested - 1)
            else:
                yield self.next()
            if (comma := _COMMA.match(self._buffer, self._at)) and comma.end() < len(self._buffer):
                self._at = comma.end()
            elif self.take(",", "]") == "]":
                return

    def records(self) -> Iterator[Any]:
        """Yield the values of a sequence, of which usually each is a line. One that is damaged costs its line: None."""
        while self.peek():
            try:
                value = self.next()
            except UnreadableFile:
                if not self._pass_line():
                    raise
                value = None
            yield value

    def find(self, token: str) -> bool:
        """Pass over everything up to the end of a token, and tell whether there is one."""
        while (at := self._buffer.find(token, self._at)) < 0:
            self._at = max(self._at, len(self._buffer) - len(token) + 1)
            if not self._fill():
                return False
        self._at = at + len(token)
        return True

    def error(self, what: str, at: int | None = None) -> UnreadableFile:
        """Return the error at a place in the buffer, by default at the next value."""
        at = self._at if at is None else at
        place = self._bytes_before + _byte_count(self._buffer[:at])
        return UnreadableFile(f"{self._path}: byte {place}: {what}")

    def _pass_line(self) -> bool:
        """Pass over the rest of a line, and tell whether it ends at all."""
        while (at := self._buffer.find("\n", self._at)) < 0:
            if not self._fill():
                return False
        self._at = at + 1
        return True

    def _fill(self) -> bool:
        # As much as is held, so that a long feature is not decoded from its start too many times.
        more = self._text.read(max(CHUNK_CHARS, len(self._buffer) - self._at))
        if not more:
            return False
        self._bytes_before += _byte_count(self._buffer[: self._at])
        self._buffer = self._buffer[self._at :] + more
        self._at = 0
        if len(self._buffer) > MAX_VALUE_CHARS:
            raise self.error(f"a single value of more than {MAX_VALUE_CHARS} characters; split it")
        return True


def frames(source: Source, fixes: Callable[[Values], Iterable[Fix | Refusal]]) -> Iterator[pd.DataFrame]:
    """Yield the frames of the fixes that are found among the values of a source."""
    with open_text(source) as text:
        for batch in batches(fixes(Values(source.path, text))):
            yield frame_of_fixes(batch)


def opening(text: str) -> tuple[int, dict[str, Any]]:
    """Return in how many arrays the first object of a text lies, and its members, as far as the text goes.

    Parameters
    ----------
    text : str
        The beginning of a JSON document.

    Returns
    -------
    depth : int
        0 if the document is an object, 1 if it is an array of objects.
    members : dict
        By name; None is the value of one that the text breaks off in. Empty if the text does not begin like this.
    """
    values = Values("", io.StringIO(text))
    depth, members = 0, dict[str, Any]()
    try:
        while values.peek() == "[":
            values.take("[")
            depth += 1
        for key in values.members():
            members[key] = None
            members[key] = values.next()
    except UnreadableFile:
        pass
    return depth, members


def as_object(value: object) -> dict[str, Any]:
    """Return an object of a JSON document; anything else stands for one without members."""
    return value if isinstance(value, dict) else {}


def as_list(value: object) -> list[Any]:
    """Return an array of a JSON document; anything else stands for one without elements."""
    return value if isinstance(value, list) else []


def _byte_count(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))
