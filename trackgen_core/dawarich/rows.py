"""Our tracks as rows of Dawarich, by the rules that its own tests fix."""

from __future__ import annotations

import struct
from typing import Final

import numpy as np
import pandas as pd

from trackgen_core.digests import bits, mixed
from trackgen_core.geodesy import FloatArray, IntArray
from trackgen_core.legs import MODES
from trackgen_core.paths import decode_path

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
"""The columns of a track in Dawarich, but for its path."""
SEGMENT_DTYPES: Final = {
    **dict.fromkeys(("transportation_mode", "start_index", "end_index", "distance", "duration"), "int64"),
    "avg_speed": "float64",
    "confidence": "int64",
}


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


def segment_rows(legs: pd.DataFrame, fix_times: IntArray) -> pd.DataFrame:
    """Return legs as segments of Dawarich, with the columns of `SEGMENT_DTYPES`.

    Parameters
    ----------
    legs : DataFrame
        k legs with the columns of `merging.LEG_DTYPES`, and `own_ms` and `track_ended_ms`: the times of the first and
        the last point that is their track's own.
    fix_times : (n,) int array
        The times in ms of the points of their device that are no noise, in order.

    Notes
    -----
    Indices count the points of a track from 0, as Dawarich does.
    """
    distance = metres(legs["length_mm"])
    duration = (legs["ended_ms"] // 1000 - legs["started_ms"] // 1000).to_numpy("int64")
    first = np.searchsorted(fix_times, legs["own_ms"])
    last = np.maximum(np.searchsorted(fix_times, legs["track_ended_ms"], "right") - 1, first)
    starts = np.clip(np.searchsorted(fix_times, legs["started_ms"]), first, last)
    ends = np.clip(np.searchsorted(fix_times, legs["ended_ms"], "right") - 1, starts, last)
    columns = {
        "transportation_mode": legs["mode"].map(MODE_NUMBERS).fillna(0),
        "start_index": starts - first,
        "end_index": ends - first,
        "distance": distance,
        "duration": duration,
        "avg_speed": speeds_kmh(distance, duration),
        "confidence": np.digitize(legs["confidence"], [MEDIUM_PERCENT, HIGH_PERCENT]),
    }
    return pd.DataFrame(columns, index=legs.index).astype(SEGMENT_DTYPES)


def digests(tracks: pd.DataFrame, legs: pd.DataFrame) -> IntArray:
    """Return what tells tracks and their legs, as rows of Dawarich, from others: hashes of their points and legs."""
    coded = legs.assign(mode=legs["mode"].map(MODE_NUMBERS).fillna(0))
    told = mixed(*(coded[name].to_numpy(np.int64) for name in ("number", "mode", "started_ms", "confidence")))
    of_legs = pd.Series(told, legs["track_id"]).groupby(level=0).sum()
    rows = track_rows(tracks)
    words = [bits(rows[name].to_numpy("float64")) for name in rows.columns]
    summed: IntArray = mixed(
        tracks["digest"].to_numpy("int64"), of_legs.reindex(tracks["track_id"], fill_value=0).to_numpy("int64"), *words
    )
    return summed
