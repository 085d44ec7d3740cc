"""FIT, as Garmin, Wahoo, Coros and others record it: the `record` messages, and the `gps_metadata` of cameras.

The libraries that read FIT decode every field of every message, a few thousand records a second. Here a definition
becomes one `struct` that unpacks the few fields of a fix and jumps over all others.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import BinaryIO, Final

import numpy as np
import pandas as pd

from trackgen_core.points import NO_TIME, activity_code
from trackgen_core.readers.columns import batches, make_frame
from trackgen_core.readers.sources import NoFixes, Source, UnreadableFile

CHUNK_BYTES: Final = 1 << 16

FIT_EPOCH_S: Final = 631_065_600
"""Times of FIT count from 1989-12-31T00:00:00Z."""

FIRST_DATE: Final = 0x10000000
"""A smaller time counts from when the device was switched on."""

MS_PER_SECOND: Final = 1000
DEGREES_PER_SEMICIRCLE: Final = 180 / 2**31
ALTITUDES_PER_M: Final = 5
ALTITUDE_OF_ZERO: Final = 2500
SPEEDS_PER_MS: Final = 1000

MOST: Final = 1 << 32
"""More than any number in a message."""

CRC_BYTES: Final = 2

MAX_BYTES: Final = 1 << 62
"""Longer than any file."""

MAGIC: Final = b".FIT"
_HEADER: Final = struct.Struct("<BBHI4s")

_BASE_TYPES: Final = {
    **{0x00: ("B", 0xFF), 0x01: ("b", 0x7F), 0x02: ("B", 0xFF), 0x0A: ("B", 0)},
    **{0x83: ("h", 0x7FFF), 0x84: ("H", 0xFFFF), 0x8B: ("H", 0)},
    **{0x85: ("i", 0x7FFFFFFF), 0x86: ("I", 0xFFFFFFFF), 0x8C: ("I", 0)},
    **{0x8E: ("q", 2**63 - 1), 0x8F: ("Q", 2**64 - 1), 0x90: ("Q", 0)},
}
"""Integers by the number of their type: the format of `struct`, and the value that stands for unknown."""

# Numbers of messages and of their fields in the profile of FIT.
_FILE_ID: Final = 0
_FILE_TYPE: Final = 0
_COURSE: Final = 6
_RECORD: Final = 20
_GPS_METADATA: Final = 160
_TIMESTAMP: Final = 253
_TIMESTAMP_MS: Final = 0
_UTC_TIMESTAMP: Final = 6

_SPORT: Final = 12
_SPORT_OF_SPORT: Final = 0
_SESSION: Final = 18
_SPORT_OF_SESSION: Final = 5
_LAP: Final = 19
_SPORT_OF_LAP: Final = 25
_START_TIME: Final = 2
_EVENT: Final = 21
_KIND_OF_EVENT: Final = 0
_TYPE_OF_EVENT: Final = 1
_DATA_OF_EVENT: Final = 3
_TIMER: Final = 0
_STARTS: Final = 0
_STOPS: Final = frozenset({1, 4, 8, 9})
"""stop, stop_all, stop_disable, stop_disable_all"""
_BY_ITSELF: Final = 1
"""What the data of a timer event say where the device stopped it, as at a traffic light, and nobody wanted to."""

_SPORTS: Final = {
    **{1: "run", 2: "cycle", 11: "walk", 15: "row", 16: "mountaineering", 17: "hike", 19: "paddling", 20: "fly"},
    **{21: "ebiking", 22: "motorcycling", 23: "boat", 24: "drive", 32: "sail", 35: "snowshoeing"},
    **{37: "paddling", 41: "kayak", 42: "boat"},
}
"""Sports by their number, as far as they are activities."""

_FIELDS: Final[dict[int, tuple[tuple[int, ...], ...]]] = {
    _RECORD: ((1,), (0,), (78, 2), (31,), (73, 6)),
    _GPS_METADATA: ((2,), (1,), (3,), (), (4,)),
}
"""In which fields lon, lat, altitude, accuracy and speed are, the best first: the enhanced ones hold larger values."""

_WANTED: Final = {
    _FILE_ID: {_FILE_TYPE},
    _RECORD: {number for numbers in _FIELDS[_RECORD] for number in numbers},
    _GPS_METADATA: {number for numbers in _FIELDS[_GPS_METADATA] for number in numbers}
    | {_TIMESTAMP_MS, _UTC_TIMESTAMP},
    _SPORT: {_SPORT_OF_SPORT},
    _EVENT: {_KIND_OF_EVENT, _TYPE_OF_EVENT, _DATA_OF_EVENT},
}
_SUMMARIES: Final = {_SESSION: {_START_TIME, _SPORT_OF_SESSION}, _LAP: {_START_TIME, _SPORT_OF_LAP}}
"""What is read of the messages that follow the records they are about."""

Values = dict[int, int]
"""What is known of a message, by the numbers of its fields."""

Row = tuple[int, int | None, int | None, int | None, int | None, int | None, int, int]
"""Time in ms, then lon, lat, altitude, accuracy and speed as FIT counts them, pause and activity."""

_Span = tuple[int, int, int]
"""The first and the last second of a lap or session, and the code of its activity."""


def recognises(head: bytes) -> bool:
    """Tell whether bytes that begin like this have the header of a FIT file."""
    return head[8:12] == MAGIC


def read(source: Source) -> Iterator[pd.DataFrame]:
    """Read the positions of a FIT file (or of several, one after the other), in batches."""
    for rows in batches(_rows(source)):
        time_ms, *columns, pause, activity = zip(*rows, strict=True)
        lon, lat, altitude, accuracy, speed = (np.array(column, np.float64) for column in columns)
        yield make_frame(
            np.array(time_ms, np.int64),
            lon * DEGREES_PER_SEMICIRCLE,
            lat * DEGREES_PER_SEMICIRCLE,
            altitude=(altitude - ALTITUDE_OF_ZERO) / ALTITUDES_PER_M,
            accuracy=accuracy,
            speed=speed / SPEEDS_PER_MS,
            pause=np.array(pause, np.int64),
            activity=np.array(activity, np.int64),
        )


def _rows(source: Source) -> Iterator[Row]:
    records = found = 0
    course = False
    clock_s: int | None = None
    sports = _sports_by_time(source)
    sport = stopped = pause = 0
    for message, values in _messages(source, _WANTED):
        if message == _FILE_ID:
            course, clock_s = values.get(_FILE_TYPE) == _COURSE, None
            sport = stopped = pause = 0
        elif message == _SPORT:
            sport = _code(values.get(_SPORT_OF_SPORT))
        elif message == _EVENT:
            if values.get(_KIND_OF_EVENT) == _TIMER:
                what = values.get(_TYPE_OF_EVENT)
                if what in _STOPS and values.get(_DATA_OF_EVENT) != _BY_ITSELF:
                    stopped = 1
                elif what == _STARTS:
                    stopped, pause = 0, pause or stopped
        elif message in _FIELDS and not course:
            records += 1
            time_s, ms = values.get(_TIMESTAMP, 0), 0
            if message == _GPS_METADATA:
                ms = values.get(_TIMESTAMP_MS, 0)
                if time_s < FIRST_DATE:
                    # The clock of a camera may count from when it was switched on. GPS has told it the time since.
                    if clock_s is None and _UTC_TIMESTAMP in values:
                        clock_s = values[_UTC_TIMESTAMP] - time_s
                    time_s += clock_s or 0
            readable = time_s >= FIRST_DATE and ms < MS_PER_SECOND
            lon, lat, altitude, accuracy, speed = (
                next((values[number] for number in numbers if number in values), None) for numbers in _FIELDS[message]
            )
            if lon is not None or lat is not None:
                found += 1
                time_ms = (FIT_EPOCH_S + time_s) * MS_PER_SECOND + ms if readable else NO_TIME
                yield time_ms, lon, lat, altitude, accuracy, speed, pause, sports.at(time_s) or sport
                pause = 0
    if not found:
        reason = f"none of its {records} records has a position" if records else "it has no records"
        raise NoFixes(source.path, "a course, planned and not recorded" if course else f"no fixes: {reason}")


class _Sports:
    """The activities of laps and sessions by time."""

    def __init__(self, laps: list[_Span], sessions: list[_Span]) -> None:
        self._sorted = [sorted(spans) for spans in (laps, sessions)]

    def at(self, time_s: int) -> int:
        """Return the code of a time: of the lap that began last before it, or else of the session; 0 if unknown."""
        for spans in self._sorted:
            if before := bisect_right(spans, (time_s, MOST, 0)):
                _, end_s, code = spans[before - 1]
                if time_s <= end_s and code:
                    return code
        return 0


def _sports_by_time(source: Source) -> _Sports:
    """Read what stands behind the records. Faults of the file are left for who reads the records."""
    spans: dict[int, list[_Span]] = {_LAP: [], _SESSION: []}
    numbers = {_LAP: _SPORT_OF_LAP, _SESSION: _SPORT_OF_SESSION}
    with suppress(UnreadableFile):
        for message, values in _messages(source, _SUMMARIES, checked=False):
            if _START_TIME in values and _TIMESTAMP in values:
                code = _code(values.get(numbers[message]))
                spans[message].append((values[_START_TIME], values[_TIMESTAMP], code))
    return _Sports(spans[_LAP], spans[_SESSION])


def _code(sport: int | None) -> int:
    return activity_code(_SPORTS.get(sport, "")) if sport is not None else 0


def _messages(source: Source, wanted: Mapping[int, set[int]], *, checked: bool = True) -> Iterator[tuple[int, Values]]:
    """Yield the number and the values of all messages of which something is wanted."""
    with source.open() as stream:
        body = _Body(source, stream, checked)
        while body.begin():
            try:
                yield from _messages_of_file(body, wanted, checked)
            except _Unfinished:
                source.note("its last message is incomplete")
                return
            body.end()


def _messages_of_file(body: _Body, wanted: Mapping[int, set[int]], checked: bool) -> Iterator[tuple[int, Values]]:
    definitions: dict[int, _Definition] = {}
    time = 0
    while body.goes_on():
        head = body.take(1)[0]
        compressed = head & 0x80
        if head & 0x40 and not compressed:
            definitions[head & 0x0F] = _definition(body, wanted, with_developers=bool(head & 0x20))
            continue
        definition = definitions.get(head >> 5 & 0x03 if compressed else head & 0x0F)
        if definition is None:
            raise body.error("the data are damaged: a message without a definition")
        content = body.take(definition.size)
        if not checked and definition.message not in wanted:
            continue
        values = definition.values(content)
        if compressed:
            # The last five bits of the time, which is never before the time of the message before.
            values[_TIMESTAMP] = time + ((head & 0x1F) - time & 0x1F)
        time = values.get(_TIMESTAMP, time)
        if definition.message in wanted:
            yield definition.message, values


@dataclass(frozen=True)
class _Definition:
    """How the messages of a local number look: those fields that are wanted."""

    message: int
    size: int
    layout: struct.Struct
    fields: tuple[tuple[int, int], ...]
    """Number and unknown value of each field that the layout unpacks."""

    def values(self, content: bytes) -> Values:
        unpacked = zip(self.fields, self.layout.unpack(content), strict=True)
        return {number: value for (number, unknown), value in unpacked if value != unknown}


def _definition(body: _Body, wanted_fields: Mapping[int, set[int]], with_developers: bool) -> _Definition:
    big_endian = body.take(2)[1]
    message = int.from_bytes(body.take(2), "big" if big_endian else "little")
    wanted = wanted_fields.get(message, set()) | {_TIMESTAMP}
    layout, fields, size = ">" if big_endian else "<", [], 0
    for _ in range(body.take(1)[0]):
        number, width, base_type = body.take(3)
        format, unknown = _BASE_TYPES.get(base_type, ("", 0))
        if number in wanted and format and struct.calcsize(f"<{format}") == width:
            layout += format
            fields.append((number, unknown))
        else:
            layout += f"{width}x"
        size += width
    if with_developers:
        for _ in range(body.take(1)[0]):
            width = body.take(3)[1]
            layout += f"{width}x"
            size += width
    return _Definition(message, size, struct.Struct(layout), tuple(fields))


class _Unfinished(Exception):
    """The last message of a file that its device never closed is incomplete."""


class _Body:
    """The bytes of one FIT file after the other, with their checksum, which takes its time, if it is to be checked."""

    def __init__(self, source: Source, stream: BinaryIO, checked: bool) -> None:
        self._source = source
        self._checked = checked
        self._stream = stream
        self._left = 0
        """How many bytes of messages are still to come."""
        self._is_open = False
        """Whether the header does not say how many: a device writes that last."""
        self._chunk = b""
        self._at = 0
        self._place = 0  # of the chunk, in the file
        self._crc = 0

    def begin(self) -> bool:
        """Read a header; return False at the end of the file, or of what is FIT of it."""
        start = self._stream.tell()
        head = self._stream.read(_HEADER.size)
        if not head and start:
            return False
        self._place, self._chunk, self._at = start, b"", 0
        if len(head) < _HEADER.size or head[8:12] != MAGIC or head[0] < _HEADER.size:
            if start:
                self._note_rubbish(len(head))
                return False
            raise self.error("no header of FIT" if len(head) == _HEADER.size else "the file breaks off")
        more = self._stream.read(head[0] - len(head))
        stated = int.from_bytes(more[:2], "little")
        if stated and stated != _crc(head) and not self._source.options.recover:
            raise self.error("the data are damaged: the checksum of the header is wrong")
        self._crc = _crc(more, _crc(head))
        self._left = _HEADER.unpack(head)[3]
        self._is_open = not self._left
        if self._is_open:
            self._left = MAX_BYTES
            self._source.note("its header does not say how long it is; it was read to its end")
        self._place = start + head[0]
        return True

    def goes_on(self) -> bool:
        """Tell whether another message comes."""
        if not self._is_open:
            return self._left > 0
        if len(self._chunk) - self._at <= CRC_BYTES:
            self._read(CRC_BYTES + 1)
        return len(self._chunk) - self._at > CRC_BYTES

    def take(self, count: int) -> bytes:
        """Return the next bytes of messages."""
        if self._at + count > len(self._chunk):
            self._fill(count)
        taken = self._chunk[self._at : self._at + count]
        self._at += count
        self._left -= count
        return taken

    def end(self) -> None:
        """Compare the checksum behind the last message."""
        # Where the header does not say how long the data are, the checksum has been read with them.
        stated = self._chunk[self._at :] or self._stream.read(CRC_BYTES)
        # Data that are followed by their checksum have the checksum 0.
        right = not self._checked or self._crc == (0 if self._is_open else int.from_bytes(stated, "little"))
        if len(stated) < CRC_BYTES:
            self._source.note("it has no checksum, so damage would not be noticed")
        elif not right and any(stated) and not self._is_open:
            raise self.error("the data are damaged: the checksum is wrong")
        elif not right:
            self._source.note("its checksum is not set, so damage would not be noticed")

    def error(self, what: str) -> UnreadableFile:
        return UnreadableFile(f"{self._source.path}: byte {self._place + self._at}: {what}; copy it again")

    def _fill(self, count: int) -> None:
        if count > self._left:
            raise self.error("the data are damaged: a message that goes on behind the last")
        self._read(count)
        if len(self._chunk) < count:
            if self._is_open:
                raise _Unfinished
            raise self.error("the file breaks off")

    def _read(self, count: int) -> None:
        """Hold so many bytes from here on, if there are so many."""
        held = self._chunk[self._at :]
        more = self._stream.read(min(max(CHUNK_BYTES, count), self._left - len(held)))
        if self._checked:
            self._crc = _crc(more, self._crc)
        self._place += self._at
        self._chunk, self._at = held + more, 0

    def _note_rubbish(self, count: int) -> None:
        while more := self._stream.read(CHUNK_BYTES):
            count += len(more)
        self._source.note(f"{count} bytes behind its end were passed over")


def _crc_of_byte(crc: int) -> int:
    for _ in range(8):
        crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
    return crc


_CRC_TABLE: Final = tuple(map(_crc_of_byte, range(256)))


def _crc(content: bytes, crc: int = 0) -> int:
    """Return the checksum of FIT (CRC-16/ARC) of bytes that follow others."""
    table = _CRC_TABLE
    for byte in content:
        crc = crc >> 8 ^ table[(crc ^ byte) & 0xFF]
    return crc
