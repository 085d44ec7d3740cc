"""Dawarich: the points of an export of all data, `points/<year>/<month>.jsonl`, or `data.json` of older versions.

Its export of points alone is GeoJSON or GPX.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import pandas as pd

from trackgen_core.readers.columns import Fix, to_decimal, to_name, to_time_text
from trackgen_core.readers.sources import Source, open_text
from trackgen_core.readers.values import CHUNK_CHARS, Values, as_object, frames, opening

_POINT: Final = {"timestamp", "tracker_id", "battery_status"}
"""What the objects of a file of points begin with."""

_ARCHIVE: Final = {"counts", "settings", "areas"}
"""What `data.json` begins with."""

_LONLAT: Final = re.compile(r"^POINT ?\(([-+.\deE]+) ([-+.\deE]+)\)$", re.ASCII)


def recognises(text: str) -> bool:
    """Tell whether a text that begins like this holds points of Dawarich."""
    depth, first = opening(text)
    return depth == 0 and (first.keys() >= _POINT or first.keys() >= _ARCHIVE)


def read(source: Source) -> Iterator[pd.DataFrame]:
    """Read the points, in batches."""
    with open_text(source) as text:
        _, first = opening(text.read(CHUNK_CHARS))
    return frames(source, _points_of_archive if first.keys() >= _ARCHIVE else _points)


def _points(values: Values) -> Iterator[Fix]:
    for point in values.records():
        yield _fix(as_object(point))


def _points_of_archive(values: Values) -> Iterator[Fix]:
    for key in values.members():
        if values.peek() != "[":
            values.next()
            continue
        for element in values.elements():
            if key == "points":
                yield _fix(as_object(element))


def _fix(point: dict[str, Any]) -> Fix:
    lon, lat = point.get("longitude"), point.get("latitude")
    lonlat = point.get("lonlat")
    if (lon is None or lat is None) and isinstance(lonlat, str) and (match := _LONLAT.match(lonlat)):
        lon, lat = match.groups()
    return (
        to_time_text(point.get("timestamp")),
        to_decimal(lon),
        to_decimal(lat),
        to_decimal(point.get("altitude")),
        to_decimal(point.get("accuracy")),
        to_decimal(point.get("velocity")),
        None,
        to_name(point.get("tracker_id")),
    )
