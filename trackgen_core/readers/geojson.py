"""GeoJSON: Points with a time, and lines with a time for every coordinate; and what Overland sends, which is GeoJSON
in an envelope of its own, one batch or one a line.

A collection of any size takes the memory of its largest feature.
"""  # noqa: D205

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator
from functools import lru_cache
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
    units_per_ours,
)
from trackgen_core.readers.sources import Source, UnreadableFile
from trackgen_core.readers.speeds import SpeedCheck
from trackgen_core.readers.values import Values, as_list, as_object, frames

COLLECTIONS: Final = ("features", "locations")
"""Where features are: in a FeatureCollection, and in a batch of Overland."""

GEOMETRIES: Final = ("Point", "MultiPoint", "LineString", "MultiLineString", "GeometryCollection")
"""Geometries that may hold fixes, as a feature or by themselves."""

MAX_NESTED: Final = 8
"""Collections of geometries that lie deeper in each other are not looked into."""

TIME_FROM: Final = 1e8
"""A coordinate of this size is a time (1973 in s): it is no altitude."""

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
                    return values.next() in ("FeatureCollection", "Feature", *GEOMETRIES)
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
    found = frames(source, lambda values: (fix for feature in _features(values) for fix in _fixes(feature)))
    return map(SpeedCheck(source).checked, found)


def _features(values: Values) -> Iterator[Any]:
    if not values.peek():
        raise values.error("the file is empty")
    if values.peek() != "{":
        raise values.error("no GeoJSON: a FeatureCollection or a Feature is expected")
    collection = False
    document: dict[str, Any] = {}
    for key in values.members():
        if key in COLLECTIONS and values.peek() == "[":
            collection = True
            yield from values.elements()
        elif key in ("type", "geometry", "properties", "coordinates", "geometries"):
            document[key] = values.next()
        else:
            values.next()
    if document.get("type") == "Feature" or document.get("type") in GEOMETRIES:
        yield document
    elif not collection:
        raise values.error("no GeoJSON: here ends an object that is neither a FeatureCollection nor a Feature")
    # What follows is a sequence, of which each document is small.
    for document in map(as_object, values.records()):
        collected = [document[key] for key in COLLECTIONS if isinstance(document.get(key), list)]
        yield from collected[0] if collected else [document]


def _fixes(feature: Any) -> Iterator[Fix]:  # noqa: ANN401
    """Yield the fixes of a feature. What cannot be understood is a fix without time and place: a bad row."""
    feature = as_object(feature)
    geometry = feature if feature.get("type") in GEOMETRIES else feature.get("geometry")
    properties = as_object(feature.get("properties"))
    names, values = tuple(properties), list(properties.values())
    columns = find_columns(names)
    named = {quantity: values[place] for quantity, place in columns.items()}
    if "motion" in properties:
        named["activity"] = properties["motion"]
    units = _units(names)
    times = _coordinate_times(properties, named.get("time"))
    for part in _parts(geometry if isinstance(geometry, dict) else {"type": "Point"}, MAX_NESTED):
        yield from _fixes_of_geometry(part, named, units, times)


def _parts(geometry: dict[str, Any], levels: int) -> Iterator[dict[str, Any]]:
    """Yield a geometry, or those that are collected in it."""
    if geometry.get("type") != "GeometryCollection":
        yield geometry
    elif levels:
        for part in as_list(geometry.get("geometries")):
            yield from _parts(as_object(part), levels - 1)


def _fixes_of_geometry(
    geometry: dict[str, Any], named: dict[str, Any], units: dict[str, float | None], times: object
) -> Iterator[Fix]:
    user, device = to_name(named.get("user")), to_name(named.get("device"))
    coordinates = geometry.get("coordinates")
    match geometry.get("type"):
        case "Point":
            lon, lat, altitude, moment = _position(coordinates)
            time = named.get("time")
            yield (
                to_time_text(moment if time is None else time),
                lon,
                lat,
                _measure(named, "altitude", units) if math.isnan(altitude) else altitude,
                _measure(named, "accuracy", units),
                _measure(named, "speed", units),
                user,
                device,
                to_activity(named.get("activity")),
                int(named.get("pause") in (1, True)),
            )
        case "LineString" | "MultiPoint":
            yield from _line(coordinates, times, user, device)
        case "MultiLineString":
            lines = _list(coordinates)
            for line, of_line in zip(lines, _fitted(times, len(lines)), strict=True):
                yield from _line(line, of_line, user, device)


@lru_cache(maxsize=256)
def _units(names: tuple[str, ...]) -> dict[str, float | None]:
    return {quantity: units_per_ours(quantity, names[place]) for quantity, place in find_columns(names).items()}


def _measure(named: dict[str, Any], quantity: str, units: dict[str, float | None]) -> float:
    return to_decimal(named.get(quantity)) / (units.get(quantity) or 1.0)


def _line(coordinates: object, times: object, user: str | None, device: str | None) -> Iterator[Fix]:
    positions = _list(coordinates)
    for position, time in zip(positions, _fitted(times, len(positions)), strict=True):
        lon, lat, altitude, moment = _position(position)
        yield to_time_text(moment if time is None else time), lon, lat, altitude, math.nan, math.nan, user, device


def _coordinate_times(properties: dict[str, Any], time: object) -> object:
    """Return the times of a line's coordinates, which have had several names in the converters to GeoJSON."""
    nested = as_object(properties.get("coordinateProperties")).get("times")
    found = (properties.get("coordTimes"), nested, properties.get("times"), time if isinstance(time, list) else None)
    return next((times for times in found if times is not None), None)


def _position(coordinates: object) -> tuple[float, float, float, object]:
    """Return lon, lat and altitude, NaN where they are missing, and a time that follows them.

    RFC 7946 has no place for a time, but some programs put one behind the altitude, or in its place.
    """
    values = _list(coordinates)
    numbers = [to_decimal(value) for value in values[:3]]
    lon, lat, altitude = numbers + [math.nan] * (3 - len(numbers))
    if altitude >= TIME_FROM:
        return lon, lat, math.nan, values[2]
    moment = values[3] if len(values) > 3 else None
    return lon, lat, altitude, moment if isinstance(moment, str) or to_number(moment) >= TIME_FROM else None


def _list(value: object) -> list[Any]:
    """Return a list; anything else stands for one value that cannot be understood."""
    return value if isinstance(value, list) else [None]


def _fitted(values: object, length: int) -> list[Any]:
    """Return a list of that length: what is missing is None, and what is too much is left out."""
    fitted = _list(values)[:length]
    return fitted + [None] * (length - len(fitted))
