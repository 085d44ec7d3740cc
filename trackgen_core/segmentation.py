"""From points to segments: the break rule, and the runs of points between breaks inside one day."""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from trackgen_core.geodesy import FloatArray, IntArray, link_lengths_mm, round_half_away
from trackgen_core.points import MS_PER_DAY
from trackgen_core.settings import Settings

NO_BREAK: Final = 0
BREAK_REASONS: Final = ("", "time_gap", "distance", "implausible_speed")
"""What a code of `break_reasons` means; its index is the code."""

MS_PER_MINUTE: Final = 60_000
MM_PER_M: Final = 1_000
MAX_PAUSE_MS: Final = 1440 * MS_PER_MINUTE
"""The longest pause that settings may allow inside a track."""

SEGMENT_DTYPES: Final = {
    "device_id": "int64",
    "day": "int64",
    "number": "int64",
    "first_ms": "int64",
    "first_lon": "float64",
    "first_lat": "float64",
    "last_ms": "int64",
    "last_lon": "float64",
    "last_lat": "float64",
    "points": "int64",
    "length_mm": "int64",
    "gain_cm": "Int64",
    "loss_cm": "Int64",
    "min_cm": "Int64",
    "max_cm": "Int64",
    "first_cm": "Int64",
    "last_cm": "Int64",
    "settings_id": "str",
    "digest": "int64",
    "path": "object",
}
"""Columns of a frame of segments.

`number` counts the segments of a device's day from 0. All sums are integers (mm, cm), so that adding segments is
associative to the last bit. The elevation columns are null where no altitude is known; `first_cm` and `last_cm` are
the first and last *known* altitudes. `path` is the coordinates as little-endian float64 pairs (lon, lat): two paths
are joined by joining their bytes. `digest` is a hash of the segment's points; digests are added with wrap-around.
"""


def break_reasons(gap_ms: IntArray, gap_mm: IntArray, settings: Settings) -> npt.NDArray[np.int8]:
    """Decide between which consecutive points of one device a new track starts.

    Parameters
    ----------
    gap_ms, gap_mm : (n,) int arrays
        Time and distance between the two points of each pair.
    settings : Settings
        The rule.

    Returns
    -------
    (n,) int8 array
        `NO_BREAK`, or the index of the reason in `BREAK_REASONS`. A pause outranks a distance.

    Notes
    -----
    Only integers are compared, so the borders are exact: a gap of exactly the limit joins.
    """
    reasons = np.zeros(len(gap_ms), np.int8)
    if settings.distance_rule != "off":
        far = gap_mm > settings.meters_between_routes * MM_PER_M
        if settings.distance_rule == "strict":
            reasons[far] = BREAK_REASONS.index("distance")
        else:
            # mm/ms is m/s and 3.6 km/h: mm / ms * 18 / 5 > limit, without a division.
            far &= gap_mm * 18 > gap_ms * (5 * settings.max_speed_kmh)
            reasons[far] = BREAK_REASONS.index("implausible_speed")
    reasons[gap_ms > settings.minutes_between_routes * MS_PER_MINUTE] = BREAK_REASONS.index("time_gap")
    return reasons


def segment(points: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """Cut points into segments: at every break, and at every midnight UTC.

    Parameters
    ----------
    points : DataFrame
        n rows with `device_id`, `time_ms`, `lon`, `lat` and `altitude` (m, NaN where unknown), sorted by device, time,
        lon, lat and without duplicates of these four.
    settings : Settings
        The rule, the same for all devices.

    Returns
    -------
    DataFrame
        Segments in the order of their points, with the columns of `SEGMENT_DTYPES`.
    """
    if points.empty:
        return empty_segments()
    device, time = points["device_id"].to_numpy(), points["time_ms"].to_numpy()
    lon, lat = points["lon"].to_numpy(), points["lat"].to_numpy()
    day = time // MS_PER_DAY
    link_mm = link_lengths_mm(lon, lat)

    starts_here = np.empty(len(time), bool)
    starts_here[0] = True
    starts_here[1:] = break_reasons(np.diff(time), link_mm, settings) != NO_BREAK
    starts_here[1:] |= (device[1:] != device[:-1]) | (day[1:] != day[:-1])
    first = np.flatnonzero(starts_here)
    last = np.append(first[1:], len(time)) - 1

    link_to_here = np.zeros(len(time), np.int64)
    link_to_here[1:] = link_mm
    link_to_here[first] = 0  # the hop into a segment is not part of it

    day_starts = np.flatnonzero(np.append(True, (np.diff(device[first]) != 0) | (np.diff(day[first]) != 0)))
    number = np.arange(len(first)) - np.repeat(day_starts, np.diff(np.append(day_starts, len(first))))

    altitude = points["altitude"].to_numpy()
    coordinates = np.column_stack([lon, lat]).astype("<f8", copy=False).tobytes()
    paths = [coordinates[a:b] for a, b in zip((16 * first).tolist(), (16 * last + 16).tolist(), strict=True)]
    segments = pd.DataFrame(
        {
            "device_id": device[first],
            "day": day[first],
            "number": number,
            "first_ms": time[first],
            "first_lon": lon[first],
            "first_lat": lat[first],
            "last_ms": time[last],
            "last_lon": lon[last],
            "last_lat": lat[last],
            "points": last - first + 1,
            "length_mm": np.add.reduceat(link_to_here, first),
            **elevation_columns(altitude, first),
            "settings_id": settings.settings_id,
            "digest": _digests(paths, time, altitude, first, last),
            "path": paths,
        }
    )
    return segments.astype(SEGMENT_DTYPES)


def elevation_columns(altitude: FloatArray, first: IntArray) -> dict[str, pd.api.extensions.ExtensionArray]:
    """Return the elevation statistics of runs of points.

    Parameters
    ----------
    altitude : (n,) float array
        Metres, NaN where unknown.
    first : (k,) int array
        Index of the first point of each run.

    Returns
    -------
    dict of (k,) Int64 arrays
        `gain_cm`, `loss_cm`, `min_cm`, `max_cm`, `first_cm`, `last_cm`; null where a run has no known altitude.
    """
    names = ("gain_cm", "loss_cm", "min_cm", "max_cm", "first_cm", "last_cm")
    columns = {name: np.zeros(len(first), np.int64) for name in names}
    known = np.flatnonzero(~np.isnan(altitude))
    known_before = np.searchsorted(known, first)
    has_altitude = np.diff(known_before, append=len(known)) > 0
    if len(known):
        cm = round_half_away(altitude[known] * 100)
        run_starts = known_before[has_altitude]
        climb = np.zeros(len(known), np.int64)
        climb[1:] = np.diff(cm)
        climb[run_starts] = 0
        columns["gain_cm"][has_altitude] = np.add.reduceat(np.maximum(climb, 0), run_starts)
        columns["loss_cm"][has_altitude] = np.add.reduceat(np.maximum(-climb, 0), run_starts)
        columns["min_cm"][has_altitude] = np.minimum.reduceat(cm, run_starts)
        columns["max_cm"][has_altitude] = np.maximum.reduceat(cm, run_starts)
        columns["first_cm"][has_altitude] = cm[run_starts]
        columns["last_cm"][has_altitude] = cm[np.append(run_starts[1:], len(cm)) - 1]
    return {name: pd.arrays.IntegerArray(values, ~has_altitude) for name, values in columns.items()}


def empty_segments() -> pd.DataFrame:
    """Return a frame of no segments."""
    return pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in SEGMENT_DTYPES.items()})


def _digests(paths: list[bytes], time: IntArray, altitude: FloatArray, first: IntArray, last: IntArray) -> IntArray:
    times, altitudes = time.astype("<i8", copy=False).tobytes(), altitude.astype("<f8", copy=False).tobytes()
    digests = [
        blake2b(b"".join((path, times[a:b], altitudes[a:b])), digest_size=8).digest()
        for path, a, b in zip(paths, (8 * first).tolist(), (8 * last + 8).tolist(), strict=True)
    ]
    return np.frombuffer(b"".join(digests), "<i8")
