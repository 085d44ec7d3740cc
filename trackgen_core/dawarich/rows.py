"""Our tracks as rows of Dawarich, by the rules that its own tests fix."""

from __future__ import annotations

import struct
from typing import Final

import numpy as np
import pandas as pd

from trackgen_core.digests import bits, mixed
from trackgen_core.geodesy import FloatArray, IntArray, link_lengths_mm
from trackgen_core.legs import MODES
from trackgen_core.paths import decode_path, encode_path

MAX_DISTANCE_M: Final = 100_000_000
MAX_SPEED_HUNDREDTHS: Final = 99_999_999
"""Of km/h."""
PATH_DECIMALS: Final = 5

MODE_NUMBERS: Final = dict(zip(MODES, (1, 2, 3, 4, 5, 7, 9, 8), strict=True))
"""`Track::TRANSPORTATION_MODES` of Dawarich; 0 is unknown."""
MEDIUM_PERCENT, HIGH_PERCENT = 50, 80
"""From so many percent on, a mode is of medium and of high confidence."""

SOURCE: Final = "trackgen"

ROW_DTYPES: Final = {
    **dict.fromkeys(("started_s", "ended_s", "distance", "duration"), "int64"),
    "avg_speed": "float64",
    **dict.fromkeys(("elevation_gain", "elevation_loss", "elevation_max", "elevation_min", "dominant_mode"), "int64"),
}
"""The columns of a track in Dawarich, but for its path and its device."""
SEGMENT_DTYPES: Final = {
    **dict.fromkeys(("transportation_mode", "start_index", "end_index", "distance", "duration"), "int64"),
    "avg_speed": "float64",
    "max_speed": "float64",
    "confidence": "int64",
    "confidence_score": "float64",
    **dict.fromkeys(("started_s", "ended_s"), "int64"),
    "path": "object",
}
"""The columns of a segment. `start_index` and `end_index` count the points of its track; newer versions of Dawarich go
by its times, and show its path."""


def track_rows(tracks: pd.DataFrame) -> pd.DataFrame:
    """Return tracks with the columns of `ROW_DTYPES`.

    Parameters
    ----------
    tracks : DataFrame
        n tracks with the columns of `merging.TRACK_DTYPES`; `path` is not needed.

    Notes
    -----
    Lengths and climbs are rounded to whole metres, halves away from zero; the highest and lowest altitudes are cut off
    to whole metres, as Rails casts them. Without any altitude, Dawarich says 0.
    """
    distance = metres(tracks["length_mm"])
    duration = (tracks["ended_ms"] // 1000 - tracks["started_ms"] // 1000).to_numpy("int64")
    climbs = {
        name: (tracks[f"elevation_{name}_cm"].fillna(0).to_numpy("int64") + 50) // 100 for name in ("gain", "loss")
    }
    extremes = {name: tracks[f"elevation_{name}_cm"].fillna(0).to_numpy("int64") for name in ("max", "min")}
    columns = {
        "started_s": tracks["started_ms"] // 1000,
        "ended_s": tracks["ended_ms"] // 1000,
        "distance": distance,
        "duration": duration,
        "avg_speed": speeds_kmh(distance, duration),
        **{f"elevation_{name}": values for name, values in climbs.items()},
        **{f"elevation_{name}": np.sign(cm) * (np.abs(cm) // 100) for name, cm in extremes.items()},
        "dominant_mode": tracks["mode"].map(MODE_NUMBERS).fillna(0),
    }
    return pd.DataFrame(columns, index=tracks.index).astype(ROW_DTYPES)


def metres(length_mm: pd.Series) -> IntArray:
    """Return lengths in whole metres, at most `MAX_DISTANCE_M`."""
    rounded: IntArray = (length_mm.to_numpy("int64") + 500) // 1000
    return np.clip(rounded, 0, MAX_DISTANCE_M)


def speeds_kmh(distance_m: IntArray, duration_s: IntArray) -> FloatArray:
    """Return average speeds with two decimals, halves away from zero; 0 where nothing is known."""
    seconds = np.maximum(duration_s, 1)
    hundredths = np.minimum((2 * 360 * distance_m + seconds) // (2 * seconds), MAX_SPEED_HUNDREDTHS)
    speeds: FloatArray = np.where(duration_s > 0, hundredths, 0) / 100
    return speeds


def rounded_degrees(degrees: FloatArray) -> FloatArray:
    """Round to `PATH_DECIMALS` decimals, halves of what a number is written as away from zero."""
    scale, size = 10.0**PATH_DECIMALS, np.abs(degrees)
    steps = np.floor(size * scale + 0.5)
    steps += (steps + 0.5) / scale <= size  # the product was rounded, too
    steps -= (steps - 0.5) / scale > size
    rounded: FloatArray = np.copysign(steps / scale, degrees) + 0.0
    return rounded


def line(path: bytes) -> bytes:
    """Return a path as the WKB of one LineString, as Dawarich wants it: also where it crosses the antimeridian."""
    vertices = rounded_degrees(np.concatenate(decode_path(path))).astype("<f8")
    return struct.pack("<BII", 1, 2, len(vertices)) + vertices.tobytes()


def segment_rows(legs: pd.DataFrame, points: pd.DataFrame, *, with_noise: bool) -> pd.DataFrame:
    """Return legs as segments of Dawarich, with the columns of `SEGMENT_DTYPES`.

    Parameters
    ----------
    legs : DataFrame
        k legs with the columns of `merging.LEG_DTYPES`, and `own_ms` and `track_ended_ms`: the times of the first and
        the last point that is their track's own.
    points : DataFrame
        n points of their device in order: `time_ms`, `lon`, `lat` and `is_noise`.
    with_noise : bool
        Whether noise counts as points of the track in which it lies.

    Notes
    -----
    Indices count the points of a track from 0, as Dawarich does. Paths and speeds are those of the points that are no
    noise.
    """
    distance = metres(legs["length_mm"])
    duration = (legs["ended_ms"] // 1000 - legs["started_ms"] // 1000).to_numpy("int64")
    fixes = points[~points["is_noise"].to_numpy(bool)]
    counted = (points if with_noise else fixes)["time_ms"].to_numpy("int64")
    first = np.searchsorted(counted, legs["own_ms"])
    last = np.maximum(np.searchsorted(counted, legs["track_ended_ms"], "right") - 1, first)
    starts = np.clip(np.searchsorted(counted, legs["started_ms"]), first, last)
    ends = np.clip(np.searchsorted(counted, legs["ended_ms"], "right") - 1, starts, last)
    times = fixes["time_ms"].to_numpy("int64")
    begins, stops = np.searchsorted(times, legs["started_ms"]), np.searchsorted(times, legs["ended_ms"], "right")
    columns = {
        "transportation_mode": legs["mode"].map(MODE_NUMBERS).fillna(0),
        "start_index": starts - first,
        "end_index": ends - first,
        "distance": distance,
        "duration": duration,
        "avg_speed": speeds_kmh(distance, duration),
        "max_speed": _greatest_speeds_kmh(fixes, begins, stops),
        "confidence": np.digitize(legs["confidence"], [MEDIUM_PERCENT, HIGH_PERCENT]),
        "confidence_score": legs["confidence"] / 100,
        "started_s": legs["started_ms"] // 1000,
        "ended_s": legs["ended_ms"] // 1000,
        "path": _lines(fixes[["lon", "lat"]].to_numpy("float64"), begins, stops),
    }
    return pd.DataFrame(columns, index=legs.index).astype(SEGMENT_DTYPES)


def _greatest_speeds_kmh(fixes: pd.DataFrame, begins: IntArray, stops: IntArray) -> FloatArray:
    """Return the greatest speed between two neighbours of each of some ranges of fixes, with two decimals."""
    if len(fixes) < 2:
        return np.zeros(len(begins))
    lengths_mm = link_lengths_mm(fixes["lon"].to_numpy("float64"), fixes["lat"].to_numpy("float64"))
    links_ms = np.diff(fixes["time_ms"].to_numpy("int64"))
    speeds = np.divide(lengths_mm * 3.6, links_ms, out=np.zeros(len(links_ms)), where=links_ms > 0)
    edges = np.column_stack([begins, np.maximum(stops - 1, begins)]).ravel()
    greatest = np.maximum.reduceat(np.append(speeds, 0.0), np.minimum(edges, len(speeds)))[::2]
    kmh: FloatArray = np.minimum(np.round(np.where(stops - begins > 1, greatest, 0.0), 2), MAX_SPEED_HUNDREDTHS / 100)
    return kmh


def _lines(coordinates: FloatArray, begins: IntArray, stops: IntArray) -> list[bytes | None]:
    """Return the path of each range of coordinates as `line` does, or None if it is no line."""
    return [
        line(encode_path(coordinates[begin:stop])) if stop - begin > 1 else None
        for begin, stop in zip(begins.tolist(), stops.tolist(), strict=True)
    ]


def digests(tracks: pd.DataFrame, legs: pd.DataFrame) -> IntArray:
    """Return what tells tracks and their legs, as rows of Dawarich, from others: hashes of their points and legs."""
    coded = legs.assign(mode=legs["mode"].map(MODE_NUMBERS).fillna(0))
    leg_digests = mixed(*(coded[name].to_numpy(np.int64) for name in ("number", "mode", "started_ms", "confidence")))
    of_legs = pd.Series(leg_digests, legs["track_id"]).groupby(level=0).sum()
    rows = track_rows(tracks)
    words = [bits(rows[name].to_numpy("float64")) for name in rows.columns]
    summed: IntArray = mixed(
        tracks["digest"].to_numpy("int64"), of_legs.reindex(tracks["track_id"], fill_value=0).to_numpy("int64"), *words
    )
    return summed
