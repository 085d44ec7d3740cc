"""GeoJSON: RFC 7946, one FeatureCollection, a Feature a line. MF-JSON is the same with moving points (OGC 19-045r3)."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, Final

import numpy as np
import pandas as pd

from trackgen_core.export.columns import POINTS, STAYS, TRACKS, iso_times, objects
from trackgen_core.export.lines import ALTITUDE, LAT, LON, TIME, LinesOf, only_points, times_ms
from trackgen_core.geodesy import FloatArray

Feature = dict[str, Any]

MOVING_MEMBERS: Final = {
    "crs": {"type": "Name", "properties": {"name": "urn:ogc:def:crs:OGC:1.3:CRS84"}},
    "trs": {"type": "Name", "properties": {"name": "urn:ogc:data:time:iso8601"}},
}


def write(features: Iterable[Feature], out: BinaryIO, members: Feature | None = None) -> None:
    """Write a FeatureCollection, with some members of its own."""
    head = "".join(f"{json.dumps(name)}:{_json(value)}," for name, value in (members or {}).items())
    out.write(f'{{"type":"FeatureCollection",{head}"features":['.encode())
    separator = "\n"
    for feature in features:
        out.write((separator + _json({"type": "Feature", **feature})).encode())
        separator = ",\n"
    out.write(b"\n]}\n")


def _json(value: Any) -> str:  # noqa: ANN401
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def tracks(batches: Iterable[pd.DataFrame], lines_of: LinesOf) -> Iterator[Feature]:
    """Yield tracks as lines; those of points tell the time of each coordinate in `coordTimes`."""
    for batch in batches:
        for track, properties in zip(batch.itertuples(index=False), objects(batch, TRACKS), strict=True):
            lines = lines_of(track)
            times = [_times(line) for line in lines]
            if any(time is not None for line in times for time in line):
                properties["coordTimes"] = times[0] if len(times) == 1 else times
            yield {"id": properties["track_id"], "geometry": _lines(lines), "properties": properties}


def stays(batches: Iterable[pd.DataFrame]) -> Iterator[Feature]:
    """Yield stays as points."""
    for batch in batches:
        for stay in objects(batch, STAYS):
            yield {"id": stay["stay_id"], "geometry": _point(stay["lon"], stay["lat"]), "properties": stay}


def points(batches: Iterable[pd.DataFrame]) -> Iterator[Feature]:
    """Yield points; what is in the geometry is not said again in the properties."""
    for batch in batches:
        for point in objects(batch, POINTS):
            geometry = _point(*(point.pop(name) for name in ("lon", "lat", "altitude")))
            yield {"geometry": geometry, "properties": point}


def moving_points(batches: Iterable[pd.DataFrame], lines_of: LinesOf) -> Iterator[Feature]:
    """Yield tracks as moving points.

    A moving point is in one place at a time: of points of the same instant, the last is left out for the first.
    Coordinates have an altitude if all of the track's have one, as positions of a geometry are of one dimension.
    """
    for batch in batches:
        for track, properties in zip(batch.itertuples(index=False), objects(batch, TRACKS), strict=True):
            line = np.concatenate([np.empty((0, 4)), *map(only_points, lines_of(track))])
            line = line[np.append(True, np.diff(line[:, TIME]) > 0)[: len(line)]]
            known = ALTITUDE + 1 if len(line) and not np.isnan(line[:, ALTITUDE]).any() else ALTITUDE
            moving = {
                "type": "MovingPoint",
                "datetimes": iso_times(times_ms(line)),
                "coordinates": line[:, :known].tolist(),
                "interpolation": "Linear",
            }
            yield {"id": properties["track_id"], "temporalGeometry": moving, "properties": properties}


def _times(line: FloatArray) -> list[str | None]:
    known = ~np.isnan(line[:, TIME])
    times = np.full(len(line), None, object)
    times[known] = iso_times(times_ms(line[known]))
    found: list[str | None] = times.tolist()
    return found


def _lines(lines: list[FloatArray]) -> Feature | None:
    coordinates = [[_position(*vertex) for vertex in line[:, [LON, LAT, ALTITUDE]].tolist()] for line in lines]
    if not coordinates:
        return None
    if len(coordinates) == 1:
        return {"type": "LineString", "coordinates": coordinates[0]}
    return {"type": "MultiLineString", "coordinates": coordinates}


def _point(lon: float, lat: float, altitude: float | None = None) -> Feature:
    return {"type": "Point", "coordinates": _position(lon, lat, math.nan if altitude is None else altitude)}


def _position(lon: float, lat: float, altitude: float) -> list[float]:
    return [lon, lat] if math.isnan(altitude) else [lon, lat, altitude]
