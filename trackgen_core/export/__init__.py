"""Export: tracks, stays, legs and points as files that spreadsheets, maps and other programs read.

`columns` says what is told of each and how values are written, `lines` what is drawn of a track; every format is a
module that takes batches and writes as they come, so that a history of any length passes through.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, Final

import pandas as pd

from trackgen_core.export import csv, geojson, gpx, kml, parquet
from trackgen_core.export.columns import (
    CSV_COLUMNS,
    LEGS,
    POINT_SCHEMA,
    POINTS,
    STAY_SCHEMA,
    STAYS,
    TRACK_SCHEMA,
    TRACKS,
    in_units,
    iso_times,
    objects,
)
from trackgen_core.export.lines import LinesOf, PointsOf, path_lines, point_lines
from trackgen_core.paths import encode_lines
from trackgen_core.points import day_date

__all__ = ["CSV_COLUMNS", "LEGS", "POINTS", "STAYS", "TRACKS", "iso_times", "objects"]

FORMATS: Final = ("csv", "geojson", "gpx", "kml", "mfjson", "parquet")
STAY_FORMATS: Final = ("csv", "geojson", "parquet")
POINT_FORMATS: Final = ("csv", "geojson", "gpx", "parquet")

POINTS_OF_TRACKS: Final = {"gpx": (True,), "mfjson": (True,), "csv": (False,), "parquet": (False,)}
"""Formats whose tracks always have their points, or never; the others can do both."""


class _Counted:
    """Batches that are not empty, and how many rows they had."""

    def __init__(self, batches: Iterable[pd.DataFrame]) -> None:
        self.batches = batches
        self.rows = 0

    def __iter__(self) -> Iterator[pd.DataFrame]:
        for batch in self.batches:
            if len(batch):
                self.rows += len(batch)
                yield batch


def export_tracks(
    batches: Iterable[pd.DataFrame],
    out: BinaryIO,
    format: str,
    *,
    points_of: PointsOf,
    points: bool | None = None,
    simplify_m: float = 0,
) -> int:
    """Write tracks to a file.

    Parameters
    ----------
    batches : iterable of DataFrame
        Tracks in the order in which they are to be written, with the columns `track_id`, `user`, `device`,
        `started_ms`, `ended_ms`, `points`, `length_mm`, `duration_ms`, `moving_ms`, `avg_speed_kmh`,
        `elevation_gain_cm`, `elevation_loss_cm`, `elevation_min_cm`, `elevation_max_cm` (missing where unknown),
        `mode`, `break_reason` and `path` (little-endian WKB). Only one batch is held at a time.
    out : binary file
        Where to write. It stays open.
    format : str
        One of `FORMATS`.
    points_of : callable
        Given a track (a row as `itertuples` makes it), return its points in order: `time_ms`, `lon`, `lat`,
        `altitude`. Asked only where points are shown.
    points : bool, optional
        Whether to show the points of each track, with their times, and not only its path. By default where a format
        cannot do without: gpx and mfjson.
    simplify_m : float
        Leave out vertices that lie within so many metres of the line that is left; 0: none. Figures stay those of the
        whole track.

    Returns
    -------
    int
        The tracks written.

    Raises
    ------
    ValueError
        If there is no such format, or it cannot show points, or not do without.
    """
    check_points(format, points)
    if not simplify_m >= 0:
        raise ValueError(f"lines cannot be simplified by {simplify_m} m: write a number of metres from 0 on")
    counted = _Counted(batches)
    shown = points if points is not None else POINTS_OF_TRACKS.get(format, (False,))[0]
    lines_of = point_lines(points_of, simplify_m) if shown else path_lines(simplify_m)
    match format:
        case "csv":
            csv.write(counted, out, {name: TRACKS[name] for name in CSV_COLUMNS})
        case "parquet":
            parquet.write(_with_lines(counted, lines_of) if simplify_m else counted, out, TRACKS, TRACK_SCHEMA)
        case "geojson":
            geojson.write(geojson.tracks(counted, lines_of), out)
        case "mfjson":
            geojson.write(geojson.moving_points(counted, lines_of), out, geojson.MOVING_MEMBERS)
        case "gpx":
            gpx.write_tracks(counted, out, lines_of)
        case "kml":
            kml.write_tracks(counted, out, lines_of)
    return counted.rows


def check_points(format: str, points: bool | None) -> None:
    """Raise the errors that `export_tracks` would, before anything is written."""
    _check(format, FORMATS, "tracks")
    if points is not None and points not in POINTS_OF_TRACKS.get(format, (True, False)):
        raise ValueError(f"{format} holds tracks {'without' if points else 'only with'} their points")


def export_stays(batches: Iterable[pd.DataFrame], out: BinaryIO, format: str) -> int:
    """Write stays to a file, and return how many.

    Parameters
    ----------
    batches : iterable of DataFrame
        Stays as `Store.read_stays` streams them.
    out : binary file
        Where to write. It stays open.
    format : str
        One of `STAY_FORMATS`.

    Raises
    ------
    ValueError
        If there is no such format.
    """
    _check(format, STAY_FORMATS, "stays")
    counted = _Counted(batches)
    match format:
        case "csv":
            csv.write(counted, out, STAYS)
        case "geojson":
            geojson.write(geojson.stays(counted), out)
        case "parquet":
            parquet.write(counted, out, STAYS, STAY_SCHEMA)
    return counted.rows


def export_legs(batches: Iterable[pd.DataFrame], out: BinaryIO) -> int:
    """Write legs, as `Store.read_legs` streams them, as CSV to an open file, and return how many."""
    counted = _Counted(batches)
    csv.write(counted, out, LEGS)
    return counted.rows


def export_points(batches: Iterable[pd.DataFrame], out: BinaryIO, format: str = "csv") -> int:
    """Write points to a file that can be imported again, and return how many.

    Parameters
    ----------
    batches : iterable of DataFrame
        Points as `Store.read_all_points` streams them; `noise` says why a point was set aside.
    out : binary file
        Where to write. It stays open.
    format : str
        One of `POINT_FORMATS`. GPX has no place for user, device (but for the name of a track) and noise.

    Raises
    ------
    ValueError
        If there is no such format.
    """
    _check(format, POINT_FORMATS, "points")
    counted = _Counted(batches)
    match format:
        case "csv":
            csv.write(counted, out, POINTS)
        case "geojson":
            geojson.write(geojson.points(counted), out)
        case "gpx":
            gpx.write_points(counted, out)
        case "parquet":
            parquet.write(counted, out, POINTS, POINT_SCHEMA)
    return counted.rows


def day_properties(days: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Return days as `Store.day_sums` sums them up as JSON objects."""
    columns = {
        "user": days["user"],
        "day": [day_date(day).isoformat() for day in days["local_day"].tolist()],
        "tracks": days["tracks"].tolist(),
        "stays": days["stays"].tolist(),
        "distance_m": in_units(days["length_mm"], 1000),
        "moving_s": in_units(days["moving_ms"], 1000),
        "rest_s": in_units(days["rest_ms"], 1000),
        "elevation_gain_m": in_units(days["gain_cm"], 100),
        "elevation_loss_m": in_units(days["loss_cm"], 100),
    }
    return (dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True))


def _with_lines(batches: Iterable[pd.DataFrame], lines_of: LinesOf) -> Iterator[pd.DataFrame]:
    """Yield batches with the paths that are drawn."""
    for batch in batches:
        paths = [encode_lines([line[:, :2] for line in lines_of(track)]) for track in batch.itertuples(index=False)]
        yield batch.assign(path=pd.Series(paths, batch.index, object))


def _check(format: str, formats: tuple[str, ...], what: str) -> None:
    if format not in formats:
        raise ValueError(f"there is no format {format!r} of {what}; there are: {', '.join(formats)}")
