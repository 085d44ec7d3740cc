"""GeoJSON: Points with a time, and lines with a time for every coordinate; and what Overland sends, which is GeoJSON
in an envelope of its own, one batch or one a line.

A collection of any size takes the memory of its largest feature.
"""  # noqa: D205

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator
from typing import Any, Final

import pandas as pd

from trackgen_core.readers.columns import (
    Fix,
    find_columns,
    to_activity,
    to_decimal,
    to_name,
    to_number,
    to_time_text,
)
from trackgen_core.readers.sources import Source, UnreadableFile
from trackgen_core.readers.values import Values, frames

COLLECTIONS: Final = ("features", "locations")
"""Where features are: in a FeatureCollection, and in a batch of Overland."""

_TYPE: Final = re.compile(
    r'"type"\s*:\s*"(Feature(Collection)?|(Multi)?(Point|LineString|Polygon)|GeometryCollection)"'
)

_FEATURE: Final = re.compile(r'"type"\s*:\s*"Feature"')


def recognises(text: str) -> bool:
    """Tell whether a text that begins like this is a FeatureCollection, a Feature or a batch of Overland."""
    values = Values("", io.StringIO(text))
    try:
        if values.peek() == "{":
            for key in values.members():
                if key == "type":
                    return values.next() in ("FeatureCollection", "Feature")
                if key == "features" and values.peek() == "[":
                    return _TYPE.search(text) is not None
                if key == "locations" and values.peek() == "[":
                    return _FEATURE.search(text) is not None
                values.next()
    except UnreadableFile:
        # The beginning ends inside a value, before the type of the whole.
        return _TYPE.search(text) is not None
    return False


def read(source: Source) -> Iterator[pd.DataFrame]:
    """Read the fixes of a GeoJSON file (or of a sequence of GeoJSON texts), in batches."""
    return frames(source, lambda values: (fix for feature in _features(values) for fix in _fixes(feature)))


def _features(values: Values) -> Iterator[Any]:
    if not values.peek():
        raise values.error("the file is empty")
    while values.peek():
        if values.peek() != "{":
            raise values.error("no GeoJSON: a FeatureCollection or a Feature is expected")
        collection = False
        members: dict[str, Any] = {}
        for key in values.members():
            if key in COLLECTIONS and values.peek() == "[":
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
                to_decimal(named.get("speed")),
                user,
                device,
                to_activity(properties["motion"] if "motion" in properties else named.get("activity")),
                int(named.get("pause") in (1, True)),
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
