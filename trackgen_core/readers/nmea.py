"""NMEA 0183 as loggers write it: RMC says when, where and how fast; the GGA of the same instant says how high.

A sentence whose checksum is missing or wrong is a bad row: nothing of it can be believed. HDOP says how well the
satellites stand, not how exact a fix is: it is no accuracy.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial
from typing import Final

import pandas as pd

from trackgen_core.readers.columns import Fix, batches, frame_of_fixes
from trackgen_core.readers.sources import NoFixes, Source

MS_PER_KNOT: Final = 1852 / 3600

MAX_SENTENCE_BYTES: Final = 128
"""The standard allows 82; a power of two."""

MAX_LINE_BYTES: Final = 1 << 16
"""A line without end is cut into pieces."""

FIRST_YEAR: Final = 1980
"""Years have two digits; GPS began in 1980."""

RMC_FIELDS: Final = 10
GGA_FIELDS: Final = 10
"""With the date and the altitude, which stand last of those that are read."""

_SENTENCE: Final = re.compile(rb"\$([A-Z]{2}(?:RMC|GGA),[^*$\r\n]*)(?:\*([0-9A-Fa-f]{2}))?")
"""Anywhere in a line: some programs put a time of their own before a sentence."""

_TIME: Final = re.compile(r"(\d\d)(\d\d)(\d\d(?:\.\d+)?)\.?")
_DATE: Final = re.compile(r"(\d\d)(\d\d)(\d\d)")
_ANGLE: Final = re.compile(r"(\d+)(\d\d(?:\.\d*)?)")
_NUMBER: Final = re.compile(r"-?\d+(?:\.\d*)?")

_BAD_ROW: Final[Fix] = (None, math.nan, math.nan, math.nan, math.nan, math.nan, None, None)


def recognises(head: bytes) -> bool:
    """Tell whether bytes that begin like this have an RMC or GGA sentence with a checksum that matches."""
    return any(_is_whole(sentence) for sentence in _SENTENCE.finditer(head))


def read(source: Source) -> Iterator[pd.DataFrame]:
    """Read the fixes of an NMEA log, in batches. What the receiver itself calls void is no fix."""
    found = False
    for fixes in batches(_fixes(source)):
        found = True
        yield frame_of_fixes(fixes)
    if not found:
        raise NoFixes(source.path, "no fixes: the receiver never had one (no RMC of status A, no GGA with a quality)")


@dataclass
class _Instant:
    """What sentences said about one time of day."""

    time: str
    rmc: list[str] | None = None
    gga: list[str] | None = None


def _fixes(source: Source) -> Iterator[Fix]:
    instant = _Instant("")
    day: date | None = None  # of the last RMC, and its time of day
    since = ""
    for fields in _sentences(source):
        if fields is None:
            yield _BAD_ROW
            continue
        time = fields[1].strip()
        if time != instant.time:
            yield from _fix(instant, day, since)
            instant = _Instant(time)
        if fields[0].endswith("RMC"):
            if fields[2] == "A" and instant.rmc is None:
                instant.rmc = fields
                day, since = _date(fields[9]) or day, time
        elif fields[6] not in ("", "0") and instant.gga is None:
            instant.gga = fields
    yield from _fix(instant, day, since)


def _sentences(source: Source) -> Iterator[list[str] | None]:
    """Yield the fields of every RMC and GGA, None for one that is damaged."""
    with source.open() as stream:
        for line in iter(partial(stream.readline, MAX_LINE_BYTES), b""):
            for sentence in _SENTENCE.finditer(line):
                fields = sentence[1].decode("latin-1").split(",")
                needed = RMC_FIELDS if fields[0].endswith("RMC") else GGA_FIELDS
                yield fields if _is_whole(sentence) and len(fields) >= needed else None


def _is_whole(sentence: re.Match[bytes]) -> bool:
    body, stated = sentence.groups()
    return stated is not None and len(body) <= MAX_SENTENCE_BYTES and _checksum(body) == int(stated, 16)


def _checksum(body: bytes) -> int:
    """Return the exclusive or of all bytes, by folding them in halves."""
    bits = int.from_bytes(body, "big")
    half = MAX_SENTENCE_BYTES * 4
    while half >= 8:
        bits ^= bits >> half
        half //= 2
    return bits & 0xFF


def _fix(instant: _Instant, day: date | None, since: str) -> Iterator[Fix]:
    """Yield the fix of an instant, if there is one. Where only GGA tells of it, its day is that of the RMC before."""
    rmc, gga = instant.rmc, instant.gga
    if rmc:
        lat, lon = rmc[3:5], rmc[5:7]
    elif gga:
        lat, lon = gga[2:4], gga[4:6]
        if day and instant.time < since:
            day += timedelta(days=1)
    else:
        return
    parts = _TIME.fullmatch(instant.time)
    yield (
        f"{day}T{parts[1]}:{parts[2]}:{parts[3]}Z" if day and parts else None,
        _degrees(lon, "EW"),
        _degrees(lat, "NS"),
        _number(gga[9]) if gga else math.nan,
        math.nan,
        _number(rmc[7]) * MS_PER_KNOT if rmc else math.nan,
        None,
        None,
    )


def _date(text: str) -> date | None:
    parts = _DATE.fullmatch(text)
    if parts is None:
        return None
    century = FIRST_YEAR // 100 * 100
    year = century + int(parts[3])
    try:
        return date(year if year >= FIRST_YEAR else year + 100, int(parts[2]), int(parts[1]))
    except ValueError:
        return None


def _degrees(angle: list[str], sides: str) -> float:
    """Return an angle of degrees and minutes with its side, such as 00806.5 and E."""
    text, side = angle
    parts = _ANGLE.fullmatch(text)
    if parts is None or side not in tuple(sides):
        return math.nan
    degrees = int(parts[1]) + float(parts[2]) / 60
    return degrees if side == sides[0] else -degrees


def _number(text: str) -> float:
    return float(text) if _NUMBER.fullmatch(text) else math.nan
