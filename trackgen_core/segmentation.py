"""From points to segments: what is noise and what a stay, the break rule, and the runs of points inside one day."""

from __future__ import annotations

from datetime import datetime
from datetime import time as clock
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pandas as pd

from trackgen_core.altitudes import clean_altitudes
from trackgen_core.breaks import LONGEST_LINK_MS, NO_BREAK, break_reasons, intervals_ms
from trackgen_core.cells import SILENCE_MS, Cells, make_cells
from trackgen_core.climb import CLIMB_COLUMNS, climb_of
from trackgen_core.clock import DEVICE_JUMP_MS, late_ms, rule_clock
from trackgen_core.digests import bits, mixed
from trackgen_core.dwelling import find_stays, is_silent_stay, without_vague
from trackgen_core.edits import merged_fixes, merged_hops, modes_by_hand, no_edits, split_hops
from trackgen_core.geodesy import (
    FloatArray,
    IntArray,
    Mask,
    box_sizes_cm,
    distances_cm,
    link_lengths_mm,
    places_cm,
    positions_m,
    round_half_away,
)
from trackgen_core.legs import BY_HAND, PACE_BITS
from trackgen_core.noise import DUPLICATE, NOISE_REASONS, find_copies, find_noise
from trackgen_core.pace import STILL, find_pace
from trackgen_core.points import MS_PER_DAY, MS_PER_MINUTE, day_date, tie_places
from trackgen_core.sea import is_sea
from trackgen_core.settings import Settings
from trackgen_core.speeds import BANDS, FINE_MS, find_links, pace_bands

MS_PER_HOUR: Final = 60 * MS_PER_MINUTE
BLOCK_HOURS: Final = 6
AROUND_MS: Final = 150 * MS_PER_MINUTE
"""How far around a block of a stay is looked whether its place creeps."""

BUFFER_MS: Final = 6 * 60 * MS_PER_MINUTE
"""How far away fixes may be that decide what another one is."""

NOWHERE_CM: Final = 10**10
"""Where the box of no fixes begins; minus this is where it ends."""

UNSTEADY, AT_SEA = 1, 2
"""Traits of a link."""

TIE_SHIFT: Final = 16
"""Of the place of a point among those of its instant, beside its labels in a digest."""

REST_COLUMNS: Final = (
    "rest_points",
    *(f"{axis}_{what}" for what in ("sum", "min", "max") for axis in "xyz"),
)

LINK_COLUMNS: Final = ("link_mm", "link_band", "link_straight", "link_traits")
"""What is known of the link to the first point of a segment; the length is -1 where both points tell it,
after more than half an hour."""

BAND_COLUMNS: Final = tuple(f"band_{band}_ms" for band in range(BANDS))

WAY_COLUMNS: Final = ("unsteady_ms", "straight_sum", "sea_ms")
"""Times of links that are unsteady or at sea, and the sum of the times of all by how straight they are, in permille."""

SUM_COLUMNS: Final = ("length_mm", *WAY_COLUMNS, *BAND_COLUMNS)
"""Sums over the links of a segment."""

SEGMENT_DTYPES: Final = {
    "device_id": "int64",
    "day": "int64",
    "number": "int64",
    "local_day": "int64",
    "is_stay": "int64",
    "continues": "int64",
    "resumes": "int64",
    "first_ms": "int64",
    "first_lon": "float64",
    "first_lat": "float64",
    "first_late_ms": "int64",
    "first_interval_ms": "int64",
    "last_ms": "int64",
    "last_lon": "float64",
    "last_lat": "float64",
    "last_late_ms": "int64",
    "last_interval_ms": "int64",
    "points": "int64",
    "length_mm": "int64",
    "told_by": "int64",
    **dict.fromkeys(LINK_COLUMNS, "int64"),
    **dict.fromkeys(WAY_COLUMNS, "int64"),
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
    device, time_ms = points["device_id"].to_numpy(), points["time_ms"].to_numpy()
    accuracy = points["accuracy"].to_numpy()
    seq = points["seq"].to_numpy()
    reasons = np.zeros(len(points), np.int8)
    if settings.noise_filter:
        reasons[find_copies(device, time_ms, seq, lon, lat, accuracy)] = DUPLICATE
    left = np.flatnonzero(reasons == 0)
    late = np.zeros(len(points), np.int64)
    late[left] = late_ms(device[left], time_ms[left])
    clock_ms = rule_clock(device, time_ms + late)
    positions = positions_m(lon, lat)
    places = places_cm(positions)
    if settings.noise_filter:
        reasons[left] = find_noise(clock_ms[left], places[:, left], lon[left], lat[left], accuracy[left], settings)
    is_noise = reasons != 0
    set_aside = np.flatnonzero(is_noise & emit)
    noise = points.iloc[set_aside][["device_id", "time_ms", "lon", "lat"]]
    noise = noise.assign(reason=np.array(NOISE_REASONS, object)[reasons[set_aside]])

    kept = np.flatnonzero(~is_noise)
    if not len(kept):
        return Segmented(empty_segments(), noise)
    resumes = _resumes(device, clock_ms, np.where(reasons == DUPLICATE, 0, points["pause"].to_numpy()), kept)
    labels = _labels(
        points.iloc[kept], clock_ms[kept], late[kept], resumes, positions[:, kept], places[:, kept], settings, edits
    )
    emitted = emit[kept]
    labels = _Labels(*(one[emitted] for one in labels))
    segments = _cut(points.iloc[kept[emitted]], places[:, kept[emitted]], labels, clock_ms[kept], settings)
    return Segmented(segments, noise)


class _Labels(NamedTuple):
    """What is known of points that are no noise; links are those that lead to each, from the point before it."""

    number: IntArray
    """Counts the points from 0, also those that are only looked at."""
    late_ms: IntArray
    link_ms: IntArray
    link_mm: IntArray
    band: IntArray
    straight: IntArray
    traits: IntArray
    """`UNSTEADY` and `AT_SEA`, as far as they are true."""
    starts: Mask
    """Whether nothing of the point before goes on: a device begins, or there is a break, a silent stay or a split."""
    resumes: Mask
    """Whether the recording was paused before the point."""
    in_stay: Mask
    at_rest: Mask
    continues: Mask
    """Whether the point goes on with the stay of the one before."""
    begins_block: Mask
    """Whether a stay that goes on may be cut here, if its place creeps."""
    told_by: IntArray
    altitude: FloatArray


def _labels(
    points: pd.DataFrame,
    clock_ms: IntArray,
    late: IntArray,
    resumes: Mask,
    positions: FloatArray,
    places: IntArray,
    settings: Settings,
    edits: pd.DataFrame,
) -> _Labels:
    device, time = points["device_id"].to_numpy(), points["time_ms"].to_numpy()
    link_ms = np.diff(clock_ms)
    link_mm = link_lengths_mm(points["lon"].to_numpy(), points["lat"].to_numpy(), positions)
    cells = make_cells(device, time, clock_ms, places, points["accuracy"].to_numpy())
    breaks = _breaks(clock_ms, link_ms, link_mm, settings)
    smooth = settings.length_smoothing == "on"
    fine = make_cells(device, time, clock_ms, places, points["accuracy"].to_numpy(), FINE_MS)
    ms = np.append(DEVICE_JUMP_MS, link_ms)  # as the first point of any other device
    links = find_links(cells, fine, ms, np.append(0, link_mm), smooth=smooth)
    pace = find_pace(cells, pace_bands(cells), breaks[cells.first[1:] - 1] | resumes[cells.first[1:]])
    told_by = np.repeat(pace, cells.last - cells.first + 1) | points["activity"].to_numpy() << PACE_BITS
    by_hand = modes_by_hand(edits, device, time)
    told_by = np.where(by_hand >= 0, BY_HAND + by_hand, told_by)

    merged = merged_hops(edits, device, time, time) & (link_ms <= LONGEST_LINK_MS)
    silent = is_silent_stay(link_ms, distances_cm(places[:, :-1], places[:, 1:]), settings)
    starts = (device[1:] != device[:-1]) | ((breaks | silent) & ~merged) | split_hops(edits, device, time, time)

    stays = find_stays(len(time), cells, settings)
    inside = merged_fixes(edits, device, time)
    number = np.where(inside, -1, stays.number)
    continues = np.append(False, (number[1:] == number[:-1]) & (number[1:] >= 0))
    return _Labels(
        number=np.arange(len(time)),
        late_ms=late,
        link_ms=ms,
        link_mm=links.mm,
        band=links.band,
        straight=links.straight,
        traits=links.unsteady * UNSTEADY + _at_sea(points, cells, pace) * AT_SEA,
        starts=np.append(True, starts),
        resumes=resumes,
        in_stay=number >= 0,
        at_rest=stays.at_rest & ~inside,
        continues=continues,
        begins_block=_block_starts(time, cells, continues, settings),
        told_by=told_by,
        altitude=_altitudes(clock_ms, places, points["altitude"].to_numpy(), cells, settings),
    )


def _at_sea(points: pd.DataFrame, cells: Cells, pace: npt.NDArray[np.int8]) -> Mask:
    """Say which points are on the open sea; those that do not move are not."""
    moving = np.flatnonzero(pace != STILL)
    at_sea = np.zeros(len(pace), bool)
    first = cells.first[moving]
    at_sea[moving] = is_sea(points["lon"].to_numpy()[first], points["lat"].to_numpy()[first])
    return np.repeat(at_sea, cells.last - cells.first + 1)


def _resumes(device: IntArray, clock_ms: IntArray, pause: IntArray, kept: IntArray) -> Mask:
    """Say before which of the points that are no noise the recording was paused, be it that noise follows the pause.

    Only a point that is not far has such noise before it: what is before a long link may not have been read.
    """
    resumes: Mask = pause[kept] > 0
    pauses = np.append(0, np.cumsum(pause))
    a, b = kept[:-1], kept[1:]
    near = (device[a] == device[b]) & (clock_ms[b] - clock_ms[a] <= SILENCE_MS)
    resumes[1:] |= near & (pauses[b + 1] > pauses[a + 1])
    return resumes


def _altitudes(
    clock_ms: IntArray, places: IntArray, altitude: FloatArray, cells: Cells, settings: Settings
) -> FloatArray:
    return clean_altitudes(clock_ms, places, altitude, cells) if settings.noise_filter else altitude


def _breaks(clock_ms: IntArray, link_ms: IntArray, link_mm: IntArray, settings: Settings) -> Mask:
    """Say between which points a track ends whatever surrounds them."""
    before_ms, after_ms = np.zeros((2, len(link_ms)), np.int64)
    long = np.flatnonzero(link_ms > settings.minutes_between_routes * MS_PER_MINUTE)
    before_ms[long], after_ms[long] = intervals_ms(clock_ms, long, -1), intervals_ms(clock_ms, long + 1, 1)
    breaks: Mask = break_reasons(link_ms, link_mm, before_ms, after_ms, settings) != NO_BREAK
    return breaks


def _block_starts(time_ms: IntArray, cells: Cells, continues: Mask, settings: Settings) -> Mask:
    """Say where stays are cut into blocks: every six hours, and every hour if the device was in several places."""
    starts = np.zeros(len(time_ms), bool)
    hour = time_ms // MS_PER_HOUR
    new_hour = np.flatnonzero(continues & (np.diff(hour, prepend=hour[:1]) != 0))
    if not len(new_hour):
        return starts
    middle_ms = cells.clock_ms[np.searchsorted(cells.first, new_hour, "right") - 1]
    cells = without_vague(cells)
    first = np.searchsorted(cells.clock_ms, middle_ms - AROUND_MS)
    last = np.searchsorted(cells.clock_ms, middle_ms + AROUND_MS, "right") - 1
    moves = box_sizes_cm(cells.places, first, last) > 200 * settings.stay_radius_m
    moves |= hour[new_hour] // BLOCK_HOURS != hour[new_hour - 1] // BLOCK_HOURS
    starts[new_hour[moves]] = True
    return starts


def _cut(
    points: pd.DataFrame, places: IntArray, labels: _Labels, clock_ms: IntArray, settings: Settings
) -> pd.DataFrame:
    """Make segments of points that are no noise, whole days of devices; `clock_ms` is of all, as `labels.number`."""
    if points.empty:
        return empty_segments()
    device, time = points["device_id"].to_numpy(), points["time_ms"].to_numpy()
    lon, lat = points["lon"].to_numpy(), points["lat"].to_numpy()
    day, local_day = time // MS_PER_DAY, local_days(time, settings.timezone)

    in_stay, in_track = labels.in_stay, ~labels.in_stay
    starts_here = in_track & labels.starts
    starts_here[1:] |= in_track[1:] & (labels.told_by[1:] != labels.told_by[:-1])
    starts_here[1:] |= (device[1:] != device[:-1]) | (day[1:] != day[:-1]) | (local_day[1:] != local_day[:-1])
    starts_here |= (in_track & labels.resumes) | labels.begins_block | (in_stay & ~labels.continues)
    starts_here[1:] |= in_stay[1:] != in_stay[:-1]
    starts_here[0] = True
    first = np.flatnonzero(starts_here)
    last = np.append(first[1:], len(time)) - 1

    # What is before a long link, or the first point of a device, may not have been read.
    unknown = labels.link_ms > SILENCE_MS
    link_mm, band = np.where(unknown, -1, labels.link_mm), np.where(unknown, 0, labels.band)
    goes_on = ~starts_here & in_track  # the link into a segment is not part of it
    own_ms = np.where(goes_on, labels.link_ms, 0)
    row = np.repeat(np.arange(len(first)), np.diff(first, append=len(time)))
    band_ms = np.bincount(  # whose floats are exact, as times are far below 2**53
        BANDS * row + labels.band, own_ms, minlength=BANDS * len(first)
    )
    band_ms = band_ms.astype(np.int64).reshape(-1, BANDS)

    day_starts = np.flatnonzero(np.append(True, (np.diff(device[first]) != 0) | (np.diff(day[first]) != 0)))
    number = np.arange(len(first)) - np.repeat(day_starts, np.diff(np.append(day_starts, len(first))))

    altitude = labels.altitude
    climb = climb_of(np.where(in_track, altitude, np.nan), first, settings.climb_threshold_cm)
    coordinates = np.column_stack([lon, lat]).astype("<f8", copy=False).tobytes()
    paths = [coordinates[a:b] for a, b in zip((16 * first).tolist(), (16 * last + 16).tolist(), strict=True)]
    flags = in_stay | labels.continues << 1 | labels.at_rest << 2 | labels.resumes << 3 | labels.told_by << 4
    flags |= tie_places(device, time) << TIE_SHIFT  # or another order of points of one instant would look the same
    link_ms = np.where(unknown, 0, labels.link_ms)
    # Other points nearby may change how fast, steady and straight a link is, and nothing else of its points.
    way = packed_way(band, labels.straight, labels.traits)
    digests = mixed(bits(lon), bits(lat), time, bits(altitude), flags, labels.late_ms, link_mm, link_ms, way)
    segments = pd.DataFrame(
        {
            "device_id": device[first],
            "day": day[first],
            "number": number,
            "local_day": local_day[first],
            "is_stay": in_stay[first].astype(np.int64),
            "continues": labels.continues[first].astype(np.int64),
            "resumes": labels.resumes[first].astype(np.int64),
            "first_ms": time[first],
            "first_lon": lon[first],
            "first_lat": lat[first],
            "first_late_ms": labels.late_ms[first],
            "first_interval_ms": intervals_ms(clock_ms, labels.number[first], 1),
            "last_ms": time[last],
            "last_lon": lon[last],
            "last_lat": lat[last],
            "last_late_ms": labels.late_ms[last],
            "last_interval_ms": intervals_ms(clock_ms, labels.number[last], -1),
            "points": last - first + 1,
            "length_mm": np.add.reduceat(np.where(goes_on, labels.link_mm, 0), first),
            "told_by": labels.told_by[first],
            "link_mm": link_mm[first],
            "link_band": band[first],
            "link_straight": labels.straight[first],
            "link_traits": labels.traits[first],
            "unsteady_ms": np.add.reduceat(np.where(labels.traits & UNSTEADY, own_ms, 0), first),
            "straight_sum": np.add.reduceat(labels.straight * own_ms, first),
            "sea_ms": np.add.reduceat(np.where(labels.traits & AT_SEA, own_ms, 0), first),
            **dict(zip(BAND_COLUMNS, band_ms.T, strict=True)),
            **dict(zip(CLIMB_COLUMNS, climb, strict=True)),
            "start_cm": _known_cm(altitude[first]),
            "end_cm": _known_cm(altitude[last]),
            **_rest_columns(places, labels.at_rest, first),
            "settings_id": pd.Series([settings.settings_id] * len(first), dtype="str"),
            "digest": np.add.reduceat(digests, first),
            "path": pd.Series(
                [b"" if rests else path for rests, path in zip(in_stay[first].tolist(), paths, strict=True)],
                dtype=object,
            ),
        }
    )
    return segments


def packed_way(band: IntArray, straight: IntArray, traits: IntArray) -> IntArray:
    """Return what is known of n links besides their length and time, a word each, for their digests."""
    way: IntArray = band | traits << 8 | straight << 16
    return way


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
