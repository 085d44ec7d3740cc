"""NMEA 0183 as loggers write it: RMC says when, where and how fast; the GGA of the same instant says how high.

The date is that of RMC or ZDA, also for the instants before the first of them. A sentence whose checksum is wrong is a
bad row: nothing of it can be believed. The standard allows sentences without one; in a log that has checksums, one that
is missing was lost. HDOP says how well the satellites stand, not how exact a fix is: it is no accuracy.
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

from trackgen_core.readers.columns import NEW_DAY_S, Fix, batches, frame_of_fixes
from trackgen_core.readers.sources import NoFixes, Source, open_text

MS_PER_KNOT: Final = 1852 / 3600

MAX_SENTENCE_BYTES: Final = 128
"""The standard allows 82; a power of two."""

MAX_LINE_CHARS: Final = 1 << 16
"""A line without end is cut into pieces."""

FIRST_YEAR: Final = 1980
"""Years have two digits; GPS began in 1980."""

SNIFFED_CHARS: Final = 1 << 16
"""So much of a log tells whether it has checksums."""

FIELDS: Final = {"RMC": 10, "GGA": 10, "ZDA": 5}
"""So many fields of a sentence are read."""

WHOLE_FIELDS: Final = {"RMC": 12, "GGA": 13, "ZDA": 5}
"""So many fields a sentence without a checksum has at least, if nothing of it is missing."""

_SENTENCE: Final = re.compile(r"\$([A-Z]{2}(RMC|GGA|ZDA),[^*$\r\n]*)(?:\*([0-9A-Fa-f]{2}))?")
"""Anywhere in a line: some programs put a time of their own before a sentence."""

_TIME: Final = re.compile(r"(\d\d)(\d\d)(\d\d(?:\.\d+)?)\.?")
_DATE: Final = re.compile(r"(\d\d)(\d\d)(\d\d)")
_ANGLE: Final = re.compile(r"(\d+)(\d\d(?:\.\d*)?)")
_NUMBER: Final = re.compile(r"-?\d+(?:\.\d*)?")

_BAD_ROW: Final[Fix] = (None, math.nan, math.nan, math.nan, math.nan, math.nan, None, None)


def recognises(text: str) -> bool:
    """Tell whether a text that begins like this has an RMC or GGA with a checksum that matches, or none at all."""
    signed = _has_checksums(text)
    return any(
        sentence[2] != "ZDA" and _is_whole(sentence, signed) and (sentence[3] or _has_time(sentence))
        for sentence in _SENTENCE.finditer(text)
    )


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
    day: date | None = None


def _fixes(source: Source) -> Iterator[Fix]:
    with open_text(source) as text:
        signed = _has_checksums(text.read(SNIFFED_CHARS))
    day = _first_day(source, signed)
    if day is None:
        source.note("no RMC and no ZDA says the date")
    before_s = 0.0
    for instant in _instants(source, signed):
        if instant is None:
            yield _BAD_ROW
            continue
        of_day = _TIME.fullmatch(instant.time)
        if of_day:
            time_s = _seconds(of_day)
            if day and before_s - time_s > NEW_DAY_S:
                day += timedelta(days=1)
            before_s = time_s
        day = instant.day or day
        yield from _fix(instant, day, of_day)


def _first_day(source: Source, signed: bool) -> date | None:
    """Return the day on which a log begins, if it says a date anywhere."""
    days, before_s = 0, 0.0
    for instant in _instants(source, signed):
        if instant and (of_day := _TIME.fullmatch(instant.time)):
            time_s = _seconds(of_day)
            days += before_s - time_s > NEW_DAY_S
            before_s = time_s
            if instant.day:
                return instant.day - timedelta(days=days)
    return None


def _instants(source: Source, signed: bool) -> Iterator[_Instant | None]:
    """Yield the instants of a log; None for an RMC or GGA that is damaged."""
    instant = _Instant("")
    for fields in _sentences(source, signed):
        if fields is None:
            yield None
            continue
        time = fields[1].strip()
        if time != instant.time:
            yield instant
            instant = _Instant(time)
        kind = fields[0][2:]
        if kind == "RMC":
            if fields[2] == "A" and instant.rmc is None:
                instant.rmc = fields
                instant.day = _date(fields[9]) or instant.day
        elif kind == "ZDA":
            instant.day = instant.day or _date_of_zda(*fields[2:5])
        elif fields[6] not in ("", "0") and instant.gga is None:
            instant.gga = fields
    yield instant


def _sentences(source: Source, signed: bool) -> Iterator[list[str] | None]:
    """Yield the fields of every sentence that is read, None for an RMC or GGA that is damaged."""
    with open_text(source) as text:
        for line in iter(partial(text.readline, MAX_LINE_CHARS), ""):
            for sentence in _SENTENCE.finditer(line):
                fields = sentence[1].split(",")
                if _is_whole(sentence, signed) and len(fields) >= FIELDS[sentence[2]]:
                    yield fields
                elif sentence[2] != "ZDA":
                    yield None


def _has_checksums(text: str) -> bool:
    return any(sentence[3] for sentence in _SENTENCE.finditer(text))


def _has_time(sentence: re.Match[str]) -> bool:
    return _TIME.fullmatch(sentence[1].split(",")[1].strip()) is not None


def _is_whole(sentence: re.Match[str], signed: bool) -> bool:
    """Tell whether nothing of a sentence is missing or wrong.

    Parameters
    ----------
    sentence : match of `_SENTENCE`
        In a line of a log.
    signed : bool
        Whether the sentences of the log have checksums.
    """
    body, kind, stated = sentence.groups()
    if stated is None:
        ends = sentence.string[sentence.end() : sentence.end() + 1] in ("\r", "\n")
        return not signed and ends and body.count(",") + 1 >= WHOLE_FIELDS[kind]
    content = body.encode()
    return len(content) <= MAX_SENTENCE_BYTES and _checksum(content) == int(stated, 16)


def _checksum(body: bytes) -> int:
    """Return the exclusive or of all bytes, by folding them in halves."""
    bits = int.from_bytes(body, "big")
    half = MAX_SENTENCE_BYTES * 4
    while half >= 8:
        bits ^= bits >> half
        half //= 2
    return bits & 0xFF


def _fix(instant: _Instant, day: date | None, of_day: re.Match[str] | None) -> Iterator[Fix]:
    """Yield the fix of an instant, if there is one."""
    rmc, gga = instant.rmc, instant.gga
    if rmc:
        lat, lon = rmc[3:5], rmc[5:7]
    elif gga:
        lat, lon = gga[2:4], gga[4:6]
    else:
        return
    yield (
        f"{day}T{of_day[1]}:{of_day[2]}:{of_day[3]}Z" if day and of_day else None,
        _degrees(lon, "EW"),
        _degrees(lat, "NS"),
        _number(gga[9]) if gga else math.nan,
        math.nan,
        _number(rmc[7]) * MS_PER_KNOT if rmc else math.nan,
        None,
        None,
    )


def _seconds(of_day: re.Match[str]) -> float:
    return (int(of_day[1]) * 60 + int(of_day[2])) * 60 + float(of_day[3])


def _date_of_zda(day: str, month: str, year: str) -> date | None:
    try:
        found = date(int(year), int(month), int(day))
    except ValueError:
        return None
    return found if found.year >= FIRST_YEAR else None


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
