"""GeoJSON: Points with a time, and lines with a time for every coordinate.

Features are decoded one at a time by the JSON decoder of Python, out of a buffer that is filled as needed. A
collection of any size takes the memory of its largest feature, and `NaN`, which many programs write although JSON
does not know it, costs a value and not the file.
"""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Iterator
from typing import Any, Final

import pandas as pd

from trackgen_core.readers.columns import (
    Fix,
    batches,
    find_columns,
    frame_of_fixes,
    to_name,
    to_number,
    to_time_text,
)
from trackgen_core.readers.sources import Source, UnreadableFile, open_text

CHUNK_CHARS: Final = 1 << 18
MAX_FEATURE_CHARS: Final = 1 << 28
"""One feature is held in memory; one of this size (some four million coordinates) is refused."""

BREAKS_OFF: Final = "the file breaks off; copy it again"

_BLANK: Final = re.compile(r"[\s\x1e\ufeff]*")
"""Between values. RFC 8142 puts a record separator before each text of a sequence."""

_TYPE: Final = re.compile(
    r'"type"\s*:\s*"(Feature(Collection)?|(Multi)?(Point|LineString|Polygon)|GeometryCollection)"'
)
_LONGEST_TOKEN: Final = 16
"""An error nearer to the end of the buffer than this may be a number or a literal that goes on."""


def recognises(text: str) -> bool:
    """Tell whether a text that begins like this is a FeatureCollection or a Feature."""
    values = _Values("", io.StringIO(text))
    try:
        if values.peek() == "{":
            for key in values.members():
                if key == "type":
                    return values.next() in ("FeatureCollection", "Feature")
                if key == "features" and values.peek() == "[":
                    return _TYPE.search(text) is not None
                values.next()
    except UnreadableFile:
        # The beginning ends inside a value, before the type of the whole.
        return _TYPE.search(text) is not None
    return False


def read(source: Source) -> Iterator[pd.DataFrame]:
    """Read the fixes of a GeoJSON file (or of a sequence of GeoJSON texts), in batches."""
    with open_text(source) as text:
        features = _features(_Values(source.path, text))
        for fixes in batches(fix for feature in features for fix in _fixes(feature)):
            yield frame_of_fixes(fixes)


class _Values:
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
        if not self.peek():
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
                # A number that touches the end of the buffer may go on.
                if end < len(self._buffer) or isinstance(value, dict | list | str) or not self._fill():
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

    def elements(self) -> Iterator[Any]:
        """Pass over an array and yield its values."""
        self.take("[")
        if self.peek() == "]":
            self.take("]")
            return
        while True:
            yield self.next()
            if self.take(",", "]") == "]":
                return

    def error(self, what: str, at: int | None = None) -> UnreadableFile:
        """Return the error at a place in the buffer, by default at the next value."""
        at = self._at if at is None else at
        place = self._bytes_before + _byte_count(self._buffer[:at])
        return UnreadableFile(f"{self._path}: byte {place}: {what}")

    def _fill(self) -> bool:
        # As much as is held, so that a long feature is not decoded from its start too many times.
        more = self._text.read(max(CHUNK_CHARS, len(self._buffer) - self._at))
        if not more:
            return False
        self._bytes_before += _byte_count(self._buffer[: self._at])
        self._buffer = self._buffer[self._at :] + more
        self._at = 0
        if len(self._buffer) > MAX_FEATURE_CHARS:
            raise self.error(f"a single value of more than {MAX_FEATURE_CHARS} characters; split it into features")
        return True


def _features(values: _Values) -> Iterator[Any]:
    if not values.peek():
        raise values.error("the file is empty")
    while values.peek():
        if values.peek() != "{":
            raise values.error("no GeoJSON: a FeatureCollection or a Feature is expected")
        collection = False
        members: dict[str, Any] = {}
        for key in values.members():
            if key == "features" and values.peek() == "[":
                collection = True
                yield from values.elements()
            elif key in ("type", "geometry", "properties"):
                members[key] = values.next()
            else:
                values.next()
        if members.get("type") == "Feature":
            yield members
        elif not collection:
            raise values.error("no GeoJSON: here ends an object that is neither a FeatureCollection nor a Feature")


def _fixes(feature: Any) -> Iterator[Fix]:  # noqa: ANN401
    """Yield the fixes of a feature. What cannot be understood is a fix without time and place: a bad row."""
    feature = feature if isinstance(feature, dict) else {}
    geometry, properties = feature.get("geometry"), feature.get("properties")
    geometry = geometry if isinstance(geometry, dict) else {"type": "Point"}
    properties = properties if isinstance(properties, dict) else {}
    columns = find_columns(tuple(properties))
    values = list(properties.values())
    named = {quantity: values[place] for quantity, place in columns.items()}
    user, device = to_name(named.get("user")), to_name(named.get("device"))
    coordinates = geometry.get("coordinates")

    match geometry.get("type"):
        case "Point":
            lon, lat, altitude = _position(coordinates)
            yield (
                to_time_text(named.get("time")),
                lon,
                lat,
                to_number(named.get("altitude")) if math.isnan(altitude) else altitude,
                to_number(named.get("accuracy")),
                to_number(named.get("speed")),
                user,
                device,
            )
        case "LineString":
            yield from _line(coordinates, _coordinate_times(properties), user, device)
        case "MultiLineString":
            lines = _list(coordinates)
            for line, times in zip(lines, _fitted(_coordinate_times(properties), len(lines)), strict=True):
                yield from _line(line, times, user, device)


def _line(coordinates: object, times: object, user: str | None, device: str | None) -> Iterator[Fix]:
    positions = _list(coordinates)
    for position, time in zip(positions, _fitted(times, len(positions)), strict=True):
        yield to_time_text(time), *_position(position), math.nan, math.nan, user, device


def _coordinate_times(properties: dict[str, Any]) -> object:
    """Return the times of a line's coordinates, which have had three names in the converters to GeoJSON."""
    of_coordinates = properties.get("coordinateProperties")
    nested = of_coordinates.get("times") if isinstance(of_coordinates, dict) else None
    found = (properties.get("coordTimes"), nested, properties.get("times"))
    return next((times for times in found if times is not None), None)


def _position(coordinates: object) -> tuple[float, float, float]:
    """Return lon, lat and altitude, NaN where they are missing."""
    numbers = [to_number(value) for value in _list(coordinates)[:3]]
    lon, lat, altitude = numbers + [math.nan] * (3 - len(numbers))
    return lon, lat, altitude


def _list(value: object) -> list[Any]:
    """Return a list; anything else stands for one value that cannot be understood."""
    return value if isinstance(value, list) else [None]


def _fitted(values: object, length: int) -> list[Any]:
    """Return a list of that length: what is missing is None, and what is too much is left out."""
    fitted = _list(values)[:length]
    return fitted + [None] * (length - len(fitted))


def _byte_count(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))
