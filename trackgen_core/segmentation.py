"""From points to segments: what is noise and what a stay, the break rule, and the runs of points inside one day."""

from __future__ import annotations

from datetime import datetime
from datetime import time as clock
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pandas as pd

from trackgen_core.climb import CLIMB_COLUMNS, climb_of
from trackgen_core.digests import bits, mixed
from trackgen_core.edits import merged_fixes, merged_hops, modes_by_hand, no_edits, split_hops
from trackgen_core.geodesy import (
    FloatArray,
    IntArray,
    Mask,
    distances_cm,
    link_lengths_mm,
    places_cm,
    positions_m,
    round_half_away,
)
from trackgen_core.legs import BY_HAND
from trackgen_core.noise import NOISE_REASONS, find_noise
from trackgen_core.pace import BANDS, find_pace, speed_bands
from trackgen_core.points import MS_PER_DAY, MS_PER_MINUTE, day_date, tie_places
from trackgen_core.rests import find_stays, is_pause
from trackgen_core.settings import Settings

NO_BREAK: Final = 0
BREAK_REASONS: Final = ("", "time_gap", "distance", "implausible_speed", "stay", "midnight", "split")
"""What a code of `break_reasons` and `find_seams` means; its index is the code."""

MM_PER_M: Final = 1_000
MAX_PAUSE_MS: Final = 1440 * MS_PER_MINUTE
"""The longest pause that settings may allow inside a track."""

BUFFER_MS: Final = 6 * 60 * MS_PER_MINUTE
"""How far away fixes may be that decide what another one is."""

DEVICE_JUMP_MS: Final = 2 * MS_PER_DAY
"""How far apart devices are put on the clock of the rules, which look less far."""

NOWHERE_CM: Final = 10**10
"""Where the box of no fixes begins; minus this is where it ends."""

TIE_SHIFT: Final = 16
"""Of the place of a point among those of its instant, beside its labels in a digest."""

REST_COLUMNS: Final = (
    "rest_points",
    *(f"{axis}_{what}" for what in ("sum", "min", "max") for axis in "xyz"),
)

BAND_COLUMNS: Final = tuple(f"band_{band}_ms" for band in range(BANDS))

SEGMENT_DTYPES: Final = {
    "device_id": "int64",
    "day": "int64",
    "number": "int64",
    "local_day": "int64",
    "is_stay": "int64",
    "continues": "int64",
    "first_ms": "int64",
    "first_lon": "float64",
    "first_lat": "float64",
    "last_ms": "int64",
    "last_lon": "float64",
    "last_lat": "float64",
    "points": "int64",
    "length_mm": "int64",
    "told_by": "int64",
    **dict.fromkeys(BAND_COLUMNS, "int64"),
    **dict.fromkeys(CLIMB_COLUMNS, "int64"),
    "start_cm": "Int64",
    "end_cm": "Int64",
    **dict.fromkeys(REST_COLUMNS, "int64"),
    "settings_id": "str",
    "digest": "int64",
    "path": "object",
}
"""Columns of a frame of segments.

`number` counts the segments of a device's day from 0; `local_day` is the day in the user's time zone. A segment of a
stay (`is_stay`) that `continues` is the same rest as the segment before it. `told_by` is the pace of the hops to its
fixes, or the mode that somebody set (see `legs.tell_modes`); in a stay, that of its first. All sums are integers (mm,
ms, cm), so that adding segments is associative to the last bit. The `BAND_COLUMNS` are the time of its hops by the band
of their speed. Stays have no climb; `start_cm` and `end_cm` are the altitudes of the first and last fix. The
`REST_COLUMNS` are about the fixes of a stay that say where it is: how many, the sums of their places in cm, and their
box; the values of no fixes elsewhere. `path` is the coordinates as little-endian float64 pairs (lon, lat), none for a
stay: two paths are joined by joining their bytes. `digest` is the sum, with wrap-around, of a hash of each of its
points and of what it is taken for.
"""


class Segmented(NamedTuple):
    """What `segment` makes of points."""

    segments: pd.DataFrame
    """In the order of their points, with the columns of `SEGMENT_DTYPES`."""
    noise: pd.DataFrame
    """`device_id`, `time_ms`, `lon`, `lat` and `reason` of the points that are in no segment."""


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


def segment(points: pd.DataFrame, settings: Settings, edits: pd.DataFrame | None = None) -> Segmented:
    """Set noise aside, and cut the rest into segments: at every break, where stays and legs begin or end, at midnight.

    Parameters
    ----------
    points : DataFrame
        n rows with `device_id`, `time_ms`, `lon`, `lat`, `altitude` and `accuracy` (m, NaN where unknown), sorted by
        device, time, seq, lon, lat and without duplicates of these but for seq. Where there is a column `emit`, the
        result is about the days for which it is true; the others are only looked at. With `BUFFER_MS` on either side of
        these days, the result is that of the whole history.
    settings : Settings
        The rules, the same for all devices.
    edits : DataFrame, optional
        What was said by hand about these and other devices: the columns of `edits.EDIT_DTYPES`.
    """
    edits = no_edits() if edits is None else edits
    emit = points["emit"].to_numpy() if "emit" in points else np.ones(len(points), bool)
    lon, lat = points["lon"].to_numpy(), points["lat"].to_numpy()
    clock_ms = _clock(points["device_id"].to_numpy(), points["time_ms"].to_numpy())
    positions = positions_m(lon, lat)
    places = places_cm(positions)
    reasons = find_noise(clock_ms, places, lon, lat, points["accuracy"].to_numpy(), settings)
    is_noise = reasons != 0
    set_aside = np.flatnonzero(is_noise & emit)
    noise = points.iloc[set_aside][["device_id", "time_ms", "lon", "lat"]]
    noise = noise.assign(reason=np.array(NOISE_REASONS, object)[reasons[set_aside]])

    kept = np.flatnonzero(~is_noise)
    if not len(kept):
        return Segmented(empty_segments(), noise)
    fixes = _labels(points.iloc[kept], clock_ms[kept], positions[:, kept], places[:, kept], settings, edits)
    emitted = emit[kept]
    return Segmented(
        _cut(points.iloc[kept[emitted]], places[:, kept[emitted]], _Labels(*(one[emitted] for one in fixes)), settings),
        noise,
    )


class _Labels(NamedTuple):
    """What fixes that are no noise are taken for; hops are those that lead to each, from the fix before it."""

    hop_ms: IntArray
    hop_mm: IntArray
    band: IntArray
    starts: Mask
    """Whether nothing of the fix before goes on here: a device begins, or there is a break, a pause or a split."""
    in_stay: Mask
    at_rest: Mask
    continues: Mask
    """Whether the fix goes on with the stay of the one before."""
    told_by: IntArray


def _labels(
    points: pd.DataFrame,
    clock_ms: IntArray,
    positions: FloatArray,
    places: IntArray,
    settings: Settings,
    edits: pd.DataFrame,
) -> _Labels:
    device, time = points["device_id"].to_numpy(), points["time_ms"].to_numpy()
    hop_ms = np.diff(clock_ms)
    hop_mm = link_lengths_mm(points["lon"].to_numpy(), points["lat"].to_numpy(), positions)
    bands = speed_bands(hop_ms, hop_mm)
    breaks = break_reasons(hop_ms, hop_mm, settings) != NO_BREAK
    told_by = find_pace(clock_ms, bands, breaks).astype(np.int64)
    by_hand = modes_by_hand(edits, device, time)
    told_by = np.where(by_hand >= 0, BY_HAND + by_hand, told_by)

    merged = merged_hops(edits, device, time, time) & (hop_ms <= MAX_PAUSE_MS)
    pauses = is_pause(hop_ms, distances_cm(places[:, :-1], places[:, 1:]), settings)
    starts = (device[1:] != device[:-1]) | ((breaks | pauses) & ~merged) | split_hops(edits, device, time, time)

    stays = find_stays(clock_ms, places, settings)
    inside = merged_fixes(edits, device, time)
    number = np.where(inside, -1, stays.number)
    continues = (number[1:] == number[:-1]) & (number[1:] >= 0)
    return _Labels(
        hop_ms=np.append(0, hop_ms),
        hop_mm=np.append(0, hop_mm),
        band=np.append(0, bands),
        starts=np.append(True, starts),
        in_stay=number >= 0,
        at_rest=stays.at_rest & ~inside,
        continues=np.append(False, continues),
        told_by=told_by,
    )


def _cut(points: pd.DataFrame, places: IntArray, fixes: _Labels, settings: Settings) -> pd.DataFrame:
    """Make segments of points that are no noise, whole days of devices."""
    if points.empty:
        return empty_segments()
    device, time = points["device_id"].to_numpy(), points["time_ms"].to_numpy()
    lon, lat = points["lon"].to_numpy(), points["lat"].to_numpy()
    day, local_day = time // MS_PER_DAY, local_days(time, settings.timezone)

    in_stay, in_track = fixes.in_stay, ~fixes.in_stay
    starts_here = in_track & fixes.starts
    starts_here[1:] |= in_track[1:] & (fixes.told_by[1:] != fixes.told_by[:-1])
    starts_here[1:] |= (device[1:] != device[:-1]) | (day[1:] != day[:-1]) | (local_day[1:] != local_day[:-1])
    starts_here |= in_stay & ~fixes.continues
    starts_here[1:] |= in_stay[1:] != in_stay[:-1]
    starts_here[0] = True
    first = np.flatnonzero(starts_here)
    last = np.append(first[1:], len(time)) - 1

    goes_on = ~starts_here & in_track  # the hop into a segment is not part of it
    row = np.repeat(np.arange(len(first)), np.diff(first, append=len(time)))
    band_ms = np.bincount(  # whose floats are exact, as times are far below 2**53
        BANDS * row + fixes.band, np.where(goes_on, fixes.hop_ms, 0), minlength=BANDS * len(first)
    )
    band_ms = band_ms.astype(np.int64).reshape(-1, BANDS)

    day_starts = np.flatnonzero(np.append(True, (np.diff(device[first]) != 0) | (np.diff(day[first]) != 0)))
    number = np.arange(len(first)) - np.repeat(day_starts, np.diff(np.append(day_starts, len(first))))

    altitude = points["altitude"].to_numpy()
    climb = climb_of(np.where(in_track, altitude, np.nan), first, settings.climb_threshold_cm)
    coordinates = np.column_stack([lon, lat]).astype("<f8", copy=False).tobytes()
    paths = [coordinates[a:b] for a, b in zip((16 * first).tolist(), (16 * last + 16).tolist(), strict=True)]
    labels = in_stay | fixes.continues << 1 | fixes.at_rest << 2 | fixes.told_by << 3
    labels |= tie_places(device, time) << TIE_SHIFT  # or another order of points of one instant would look the same
    digests = mixed(bits(lon), bits(lat), time, bits(altitude), labels)
    segments = pd.DataFrame(
        {
            "device_id": device[first],
            "day": day[first],
            "number": number,
            "local_day": local_day[first],
            "is_stay": in_stay[first].astype(np.int64),
            "continues": fixes.continues[first].astype(np.int64),
            "first_ms": time[first],
            "first_lon": lon[first],
            "first_lat": lat[first],
            "last_ms": time[last],
            "last_lon": lon[last],
            "last_lat": lat[last],
            "points": last - first + 1,
            "length_mm": np.add.reduceat(np.where(goes_on, fixes.hop_mm, 0), first),
            "told_by": fixes.told_by[first],
            **dict(zip(BAND_COLUMNS, band_ms.T, strict=True)),
            **dict(zip(CLIMB_COLUMNS, climb, strict=True)),
            "start_cm": _known_cm(altitude[first]),
            "end_cm": _known_cm(altitude[last]),
            **_rest_columns(places, fixes.at_rest, first),
            "settings_id": pd.Series([settings.settings_id] * len(first), dtype="str"),
            "digest": np.add.reduceat(digests, first),
            "path": pd.Series(
                [b"" if rests else path for rests, path in zip(in_stay[first].tolist(), paths, strict=True)],
                dtype=object,
            ),
        }
    )
    return segments


def local_days(time_ms: IntArray, timezone: str) -> IntArray:
    """Return the day of each instant in a time zone, counted from 1970-01-01 like days in UTC."""
    if timezone == "UTC" or not len(time_ms):
        return time_ms // MS_PER_DAY
    first_day, midnights = _midnights(int(time_ms.min()), int(time_ms.max()), timezone)
    return np.searchsorted(np.array(midnights), time_ms, "right") - 1 + first_day


def days_between(first_ms: int, last_ms: int, timezone: str) -> list[tuple[int, int]]:
    """Cut a time at midnight in a time zone, and return each day with the ms in it, at least one."""
    first_day, midnights = _midnights(first_ms, last_ms, timezone)
    starts = [(day, ms) for day, ms in enumerate(midnights, first_day) if ms <= last_ms]
    ends = [*(ms for _, ms in starts[1:]), last_ms]
    shares = [
        (day, end - max(start, first_ms)) for (day, start), end in zip(starts, ends, strict=True) if end >= first_ms
    ]
    return [(day, ms) for day, ms in shares if ms] or shares[-1:]


def _midnights(first_ms: int, last_ms: int, timezone: str) -> tuple[int, list[int]]:
    """Return a day before an instant in a time zone, and the midnights from its beginning to after another one."""
    days = range(first_ms // MS_PER_DAY - 1, last_ms // MS_PER_DAY + 3)
    zone = ZoneInfo(timezone)
    return days[0], [int(datetime.combine(day_date(day), clock(), zone).timestamp()) * 1000 for day in days]


_NO_SEGMENTS: Final = pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in SEGMENT_DTYPES.items()})


def empty_segments() -> pd.DataFrame:
    """Return a frame of no segments."""
    return _NO_SEGMENTS.copy()


def _clock(device: IntArray, time_ms: IntArray) -> IntArray:
    """Return the times from the first one on, such that each device begins long after the one before it ended."""
    ms = np.diff(time_ms, prepend=time_ms[:1])
    ms[1:][device[1:] != device[:-1]] = DEVICE_JUMP_MS
    return np.cumsum(ms)


def _known_cm(altitude: FloatArray) -> pd.arrays.IntegerArray:
    unknown = np.isnan(altitude)
    return pd.arrays.IntegerArray(round_half_away(np.where(unknown, 0, altitude) * 100), unknown)


def _rest_columns(places: IntArray, at_rest: Mask, first: IntArray) -> dict[str, IntArray]:
    """Return the `REST_COLUMNS` of runs of points."""
    columns = {"rest_points": np.add.reduceat(at_rest.astype(np.int64), first)}
    for axis, place in zip("xyz", places, strict=True):
        columns[f"{axis}_sum"] = np.add.reduceat(np.where(at_rest, place, 0), first)
        columns[f"{axis}_min"] = np.minimum.reduceat(np.where(at_rest, place, NOWHERE_CM), first)
        columns[f"{axis}_max"] = np.maximum.reduceat(np.where(at_rest, place, -NOWHERE_CM), first)
    return columns
