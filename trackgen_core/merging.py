"""From segments to tracks and stays: seams between neighbours, chains of joined segments, and what they amount to.

Points are never read again. `merge` is the sum of a monoid: it takes a frame of segments to a frame of segments in
which what belongs together is one row, and merging parts first changes no bit of the result.
"""

from __future__ import annotations

import hashlib
import json
import math
import uuid
from collections.abc import Collection, Sequence
from itertools import pairwise
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from trackgen_core.breaks import (
    BREAK_REASONS,
    LONGEST_LINK_MS,
    MIDNIGHT,
    NO_BREAK,
    SPLIT,
    STAY,
    TIME_GAP,
    break_reasons,
)
from trackgen_core.climb import CLIMB_COLUMNS, GAIN, MAX, MIN, climb_of, join_at, join_up_to
from trackgen_core.digests import mixed
from trackgen_core.dwelling import JOIN_MS, is_same_place, is_silent_stay
from trackgen_core.edits import merged_fixes, merged_hops, no_edits, split_hops
from trackgen_core.geodesy import (
    GEOD,
    FloatArray,
    IntArray,
    Mask,
    distances_cm,
    pair_lengths_mm,
    places_cm,
    positions_m,
    round_half_away,
)
from trackgen_core.legs import (
    FILE,
    FILE_CONFIDENCE,
    HAND,
    MODES,
    SOURCES,
    confidence,
    main_modes,
    mode_bits,
    tell_modes,
    without_short_legs,
)
from trackgen_core.paths import encode_paths
from trackgen_core.segmentation import (
    AT_SEA,
    BAND_COLUMNS,
    LINK_COLUMNS,
    NOWHERE_CM,
    REST_COLUMNS,
    SEGMENT_DTYPES,
    UNSTEADY,
    WAY_COLUMNS,
)
from trackgen_core.settings import Settings
from trackgen_core.speeds import speed_bands
from trackgen_core.windows import covered, runs

TRACK_NAMESPACE: Final = uuid.uuid5(uuid.NAMESPACE_URL, "https://github.com/trackgen/trackgen/track")
STAY_NAMESPACE: Final = uuid.uuid5(uuid.NAMESPACE_URL, "https://github.com/trackgen/trackgen/stay")
SUM_COLUMNS: Final = ("length_mm", *WAY_COLUMNS, *BAND_COLUMNS)
"""Sums over the links of a segment."""
MIN_TRACK_VERTICES: Final = 2
NO_REST: Final = np.array([0, 0, 0, 0, *(NOWHERE_CM,) * 3, *(-NOWHERE_CM,) * 3])
"""The `REST_COLUMNS` of points that do not say where a stay is."""
TOUCHING: Final = (STAY, MIDNIGHT, SPLIT)
"""Reasons where one thing begins with the point with which the other ends."""

TRACK_DTYPES: Final = {
    "track_id": "str",
    "device_id": "int64",
    "started_ms": "int64",
    "ended_ms": "int64",
    "start_lon": "float64",
    "start_lat": "float64",
    "end_lon": "float64",
    "end_lat": "float64",
    "points": "int64",
    "length_mm": "int64",
    "duration_ms": "int64",
    "moving_ms": "int64",
    "avg_speed_kmh": "float64",
    "elevation_gain_cm": "Int64",
    "elevation_loss_cm": "Int64",
    "elevation_min_cm": "Int64",
    "elevation_max_cm": "Int64",
    "mode": "str",
    "break_reason": "str",
    "settings_id": "str",
    "digest": "int64",
    "path": "object",
}
"""Columns of a frame of tracks. `points` counts the points of the track itself; its ends may be those of stays, or of
the day before. `break_reason` says why the track does not continue the points before it; `path` is WKB; `digest` is the
sum of its segments' digests and of hashes of such ends."""

LEG_DTYPES: Final = {
    "track_id": "str",
    "number": "int64",
    "mode": "str",
    "confidence": "int64",
    "source": "str",
    "started_ms": "int64",
    "ended_ms": "int64",
    "length_mm": "int64",
    "moving_ms": "int64",
}
"""Columns of a frame of legs. `number` counts those of a track from 0; `confidence` is in percent; `source` is
one of `legs.SOURCES`."""

STAY_DTYPES: Final = {
    "stay_id": "str",
    "device_id": "int64",
    "started_ms": "int64",
    "ended_ms": "int64",
    "start_lon": "float64",
    "start_lat": "float64",
    "end_lon": "float64",
    "end_lat": "float64",
    "lon": "float64",
    "lat": "float64",
    "radius_cm": "int64",
    "points": "int64",
    "duration_ms": "int64",
    "break_reason": "str",
    "settings_id": "str",
    "digest": "int64",
}
"""Columns of a frame of stays. `lon` and `lat` are the mean of the places, `radius_cm` half of the size of their
box."""


class Seams(NamedTuple):
    """The places before each of k segments, where it does or does not continue the one before it."""

    reason: npt.NDArray[np.int8]
    """Why the segment starts anew (an index into `BREAK_REASONS`), or `NO_BREAK` where it is joined. The first segment
    of a device starts after a gap: nothing was recorded for as long as the rule looks back."""
    link_mm: IntArray
    """Distance from the end of the segment before, where a track goes on; elsewhere 0, and after a pause."""
    link_ms: IntArray
    """Time from the end of the segment before, likewise."""
    link_band: IntArray
    link_straight: IntArray
    link_traits: IntArray
    """What else is known of this link: see `segmentation.LINK_COLUMNS`."""
    climb_threshold_cm: IntArray
    """The least rise or fall that is no noise."""
    unused_modes: IntArray
    """Modes that the user does not use, a bit each (see `legs.mode_bits`)."""
    resumes: Mask
    """Whether a track goes on here after a pause of the recording, which is no climb."""
    whole: IntArray
    """Numbers what has to be known together to say where chains begin and end, counted from 0."""

    @property
    def chain(self) -> IntArray:
        """The chain that each segment belongs to, counted from 0."""
        return np.cumsum(self.reason != NO_BREAK) - 1


def connect(
    segments: pd.DataFrame, settings: Settings, edits: pd.DataFrame | None = None
) -> tuple[pd.DataFrame, Seams]:
    """Decide which segments continue the one before them, by the very rules that cut them, and where tracks meet stays.

    Parameters
    ----------
    segments : DataFrame
        k segments with the columns of `SEGMENT_DTYPES`, with or without `path`, sorted by device, day and number, with
        no day left out between the first and the last.
    settings : Settings
        The rules.
    edits : DataFrame, optional
        What was said by hand about these and other devices, as the segments were made with.

    Returns
    -------
    segments : DataFrame
        The segments, and among them one without points of its own (`points` is 0, `number` -1) for each point that a
        track or stay shares with its neighbour. Two of them with a link between them join two stays; a single point
        between silences, and a short way that leads nowhere, have become part of a stay.
    seams : Seams
        The seams of this frame. Merged by them, each chain is a track, a stay, or left over.
    """
    before, after = segments.iloc[:-1], segments.iloc[1:]
    end_lon, end_lat = before["last_lon"].to_numpy(), before["last_lat"].to_numpy()
    start_lon, start_lat = after["first_lon"].to_numpy(), after["first_lat"].to_numpy()
    link_mm = pair_lengths_mm(end_lon, end_lat, start_lon, start_lat)
    link_ms = (after["first_ms"].to_numpy() + after["first_late_ms"].to_numpy()) - (
        before["last_ms"].to_numpy() + before["last_late_ms"].to_numpy()
    )
    starts, ends = (places_cm(positions_m(*end)) for end in ((start_lon, start_lat), (end_lon, end_lat)))
    link_cm = distances_cm(ends, starts)
    device = segments["device_id"].to_numpy()
    same_device = np.diff(device) == 0
    times = segments["first_ms"].to_numpy(), segments["last_ms"].to_numpy()
    edits = no_edits() if edits is None else edits
    merged = same_device & merged_hops(edits, device, *times) & (link_ms <= LONGEST_LINK_MS)
    intervals = before["last_interval_ms"].to_numpy(), after["first_interval_ms"].to_numpy()
    reason = np.where(merged, np.int8(NO_BREAK), break_reasons(link_ms, link_mm, *intervals, settings))
    silent = same_device & is_silent_stay(link_ms, link_cm, settings) & ~merged
    split = split_hops(edits, device, *times)
    if settings.split_at_midnight:
        midnight = ~merged & (before["local_day"].to_numpy() != after["local_day"].to_numpy())
    else:
        midnight = np.zeros(len(link_ms), bool)

    near = is_same_place(link_ms, link_cm, settings) & ~merged & (silent | (reason != NO_BREAK))
    one_stay = same_device & ((after["continues"].to_numpy() == 1) | near)
    segments = _without_single_rests(segments, one_stay)
    parts = ~same_device | silent | (reason != NO_BREAK)
    in_merge = merged_fixes(edits, device, times[0])
    were_stays = segments["is_stay"].to_numpy() == 1
    segments = _with_lonely_rests(segments, silent, parts, in_merge)
    alone = (segments["is_stay"].to_numpy() == 1) & ~were_stays
    one_stay |= silent & (alone[:-1] | alone[1:])
    cuts = ~same_device | ((reason != NO_BREAK) & ~silent) | split | midnight
    segments, inside = _with_brief_ways(segments, silent, cuts, (ends, starts), link_mm, in_merge, settings)
    is_stay = segments["is_stay"].to_numpy() == 1
    one_stay = (one_stay | inside) & is_stay[:-1] & is_stay[1:]
    together = one_stay.copy()
    crept = _crept(segments, one_stay, settings)
    one_stay &= ~crept
    silent |= crept  # so that nothing is between the two stays
    goes_on = reason == NO_BREAK
    reason[goes_on & midnight] = MIDNIGHT
    reason[goes_on & split] = SPLIT
    reason[(goes_on & (is_stay[:-1] | is_stay[1:])) | silent] = STAY
    reason[one_stay] = NO_BREAK
    reason[~same_device] = TIME_GAP
    paused = (after["resumes"].to_numpy() == 1) & ~merged
    known = after["link_mm"].to_numpy() >= 0  # otherwise the points on both sides tell

    # Everything from here on has an element a segment: the seam before it.
    start = np.full(min(len(segments), 1), TIME_GAP, np.int8)
    none = np.zeros(len(start), np.int64)
    reason = np.concatenate([start, reason])
    seams = Seams(
        reason,
        np.append(none, np.where(paused, 0, np.where(known, after["link_mm"].to_numpy(), link_mm))),
        np.append(none, np.where(paused, 0, link_ms)),
        np.append(none, np.where(known, after["link_band"].to_numpy(), speed_bands(link_ms, link_mm))),
        np.append(none, np.where(known, after["link_straight"].to_numpy(), 0)),
        np.append(none, after["link_traits"].to_numpy()),
        np.full(len(reason), settings.climb_threshold_cm),
        np.full(len(reason), mode_bits(settings.unused_modes)),
        np.append(none != 0, paused),
        np.cumsum(np.append(none == 0, (reason[1:] != NO_BREAK) & ~together & ~silent)) - 1,
    )
    far = link_cm > settings.stay_radius_m * 100
    return _share_ends(segments, seams, np.append(none != 0, silent), np.append(none != 0, far & silent))


def _with_brief_ways(
    segments: pd.DataFrame,
    silent: Mask,
    cuts: Mask,
    link_ends: tuple[IntArray, IntArray],
    link_mm: IntArray,
    merged: Mask,
    settings: Settings,
) -> tuple[pd.DataFrame, Mask]:
    """Make a part of the stay of what moved for a few minutes between two stays or silences, and led nowhere.

    A phone that sleeps wakes up for some minutes now and then. `silent` and `cuts` are about the places between
    segments: is it a silent stay, and does nothing of a stay go on over it? `link_ends` are the places before and
    after, in cm, and `merged` says which segments are in no stay. Returned are the segments, and where a stay goes on.
    """
    inside = np.zeros(len(silent), bool)
    is_stay = segments["is_stay"].to_numpy() == 1
    if not silent.any() and not is_stay.any():
        return segments, inside
    # Ways: runs of segments of a track, with nothing but seams that go on between them.
    edge = np.ones(min(len(segments), 1), bool)
    limit = cuts | silent | (is_stay[:-1] != is_stay[1:])
    first = np.flatnonzero(np.concatenate([edge, limit]))
    last = np.append(first[1:], len(segments))[: len(first)] - 1
    way = np.flatnonzero(~is_stay[first] & (first > 0) & (last < len(segments) - 1))
    first, last = first[way], last[way]
    into, out_of = first - 1, last  # the seams before and after
    at_rest = ~cuts[into] & ~cuts[out_of] & (silent[into] | is_stay[into]) & (silent[out_of] | is_stay[last + 1])
    first, last, into, out_of = first[at_rest], last[at_rest], into[at_rest], out_of[at_rest]
    if not len(first):
        return segments, inside
    started_ms = np.where(silent[into], segments["first_ms"].to_numpy()[first], segments["last_ms"].to_numpy()[into])
    ended_ms = np.where(silent[out_of], segments["last_ms"].to_numpy()[last], segments["first_ms"].to_numpy()[last + 1])
    radius_cm = settings.stay_radius_m * 100
    way_mm = np.append(0, np.cumsum(segments["length_mm"].to_numpy() + np.append(link_mm, 0)))
    length_mm = way_mm[last] - way_mm[first] + segments["length_mm"].to_numpy()[last]
    length_mm += np.where(silent[into], 0, link_mm[into]) + np.where(silent[out_of], 0, link_mm[out_of])
    ends, starts = link_ends
    brief = (ended_ms - started_ms <= JOIN_MS) & (length_mm <= 20 * radius_cm)
    brief &= distances_cm(ends[:, into], starts[:, out_of]) <= radius_cm
    merged_before = np.append(0, np.cumsum(merged))
    brief &= merged_before[last + 1] == merged_before[first]
    first, last, into, out_of = first[brief], last[brief], into[brief], out_of[brief]
    if not len(first):
        return segments, inside
    inside[into] = inside[out_of] = True
    absorbed = covered(len(segments), first, last + 1)
    inside |= absorbed[:-1] & absorbed[1:] & ~limit
    segments = segments.copy()
    segments.loc[absorbed, "is_stay"] = 1
    segments.loc[absorbed, list(CLIMB_COLUMNS)] = _climb_at(segments.loc[absorbed, "start_cm"] * pd.NA)
    if "path" in segments:
        segments["path"] = segments["path"].where(~absorbed, b"")
    return segments, inside


def _crept(segments: pd.DataFrame, one_stay: Mask, settings: Settings) -> Mask:
    """Say where a stay ends because its place has crept too far away from where it began.

    `one_stay` is about the places between segments: are both parts of one stay?
    """
    crept = np.zeros(len(one_stay), bool)
    first, last = runs(one_stay)
    if not len(first):
        return crept
    low, high = (np.array([segments[f"{axis}_{side}"].to_numpy() for axis in "xyz"]) for side in ("min", "max"))

    def box_cm(low: IntArray, high: IntArray) -> FloatArray:
        diagonal: FloatArray = np.sqrt((np.maximum(high - low, 0) ** 2).sum(axis=0).astype(np.float64))
        return diagonal

    begin = np.column_stack([first, last + 1]).ravel()  # `last` is a segment, and with it the stay ends
    lows = np.minimum.reduceat(np.column_stack([low, low[:, -1:]]), begin, axis=1)[:, ::2]
    highs = np.maximum.reduceat(np.column_stack([high, high[:, -1:]]), begin, axis=1)[:, ::2]
    largest = np.maximum.reduceat(np.append(box_cm(low, high), 0.0), begin)[::2]
    limit_cm = np.maximum(400 * settings.stay_radius_m, 1.5 * largest)
    for n in np.flatnonzero(box_cm(lows, highs) > limit_cm):
        so_far_low, so_far_high = low[:, first[n]], high[:, first[n]]
        for k in range(int(first[n]) + 1, int(last[n]) + 1):
            wider_low, wider_high = np.minimum(so_far_low, low[:, k]), np.maximum(so_far_high, high[:, k])
            if box_cm(wider_low, wider_high) > limit_cm[n]:
                crept[k - 1] = True
                wider_low, wider_high = low[:, k], high[:, k]
            so_far_low, so_far_high = wider_low, wider_high
    return crept


def _with_lonely_rests(segments: pd.DataFrame, silent: Mask, parts: Mask, merged: Mask) -> pd.DataFrame:
    """Make stays of single points next to a silent stay that have nothing else on either side.

    `silent` and `parts` are about the places between segments: is it a silent stay, is it one or a break? `merged` says
    which segments are in no stay.
    """
    edge = np.ones(min(len(segments), 1), bool)
    alone = np.concatenate([edge, parts]) & np.concatenate([parts, edge])
    alone &= np.concatenate([~edge, silent]) | np.concatenate([silent, ~edge])
    alone &= (segments["points"].to_numpy() == 1) & (segments["is_stay"].to_numpy() == 0) & ~merged
    if not alone.any():
        return segments
    segments = segments.copy()
    segments.loc[alone, "is_stay"] = 1
    segments.loc[alone, list(REST_COLUMNS)] = _rest_at(
        segments.loc[alone, "first_lon"].to_numpy(), segments.loc[alone, "first_lat"].to_numpy()
    )
    segments.loc[alone, list(CLIMB_COLUMNS)] = _climb_at(segments.loc[alone, "start_cm"] * pd.NA)
    if "path" in segments:
        segments["path"] = segments["path"].where(~alone, b"")
    return segments


def _without_single_rests(segments: pd.DataFrame, one_stay: Mask) -> pd.DataFrame:
    """Make ordinary points of those that a merge by hand has left alone of their stay.

    `one_stay` is about the places between segments: are stays on both sides of it the same?
    """
    edge = np.zeros(min(len(segments), 1), bool)
    is_stay = segments["is_stay"].to_numpy() == 1
    joined = one_stay & is_stay[:-1] & is_stay[1:]
    single = is_stay & (segments["points"].to_numpy() == 1)
    single &= ~(np.concatenate([edge, joined]) | np.concatenate([joined, edge]))
    if not single.any():
        return segments
    segments = segments.copy()
    lon, lat = segments.loc[single, "first_lon"].to_numpy(), segments.loc[single, "first_lat"].to_numpy()
    segments.loc[single, "is_stay"] = 0
    segments.loc[single, list(REST_COLUMNS)] = _rest_at(lon, lat)
    segments.loc[single, list(CLIMB_COLUMNS)] = _climb_at(segments.loc[single, "start_cm"])
    if "path" in segments:
        segments.loc[single, "path"] = _path_at(lon, lat)
    return segments


def _path_at(lon: FloatArray, lat: FloatArray) -> pd.api.extensions.ExtensionArray:
    """Return the paths of single points."""
    return pd.array([pair.tobytes() for pair in np.column_stack([lon, lat]).astype("<f8")], dtype=object)


def _rest_at(lon: FloatArray, lat: FloatArray) -> IntArray:
    """Return the `REST_COLUMNS` of single points, (n, 10)."""
    places = places_cm(positions_m(lon, lat))
    return np.vstack([np.ones((1, len(lon)), np.int64), places, places, places]).T


def _climb_at(cm: pd.Series) -> IntArray:
    """Return the `CLIMB_COLUMNS` of single points, (n, 8), given their altitudes, missing where unknown."""
    return climb_of((cm / 100).to_numpy("float64", na_value=np.nan), np.arange(len(cm)), 1).T


def _share_ends(segments: pd.DataFrame, seams: Seams, silent: Mask, far: Mask) -> tuple[pd.DataFrame, Seams]:
    is_stay = segments["is_stay"].to_numpy() == 1
    shared = np.isin(seams.reason, TOUCHING)
    rests_before = np.append(False, is_stay[:-1])[: len(is_stay)]
    from_track = np.isin(seams.reason, (MIDNIGHT, SPLIT))
    # A track leaves from a stay or from another track, or a silent stay begins where a track ends ...
    leave = np.flatnonzero(shared & np.where(silent, ~rests_before, rests_before | from_track))
    # ... and a track arrives at a stay, or a silent stay ends where a track begins.
    arrive = np.flatnonzero(shared & np.where(silent, ~is_stay, is_stay))
    ends = [
        _end(segments, leave - 1, leave, "last", silent, far & is_stay),
        _end(segments, arrive, arrive, "first", silent, far),
    ]
    order = np.argsort(np.concatenate([3 * np.arange(len(segments)) + 2, 3 * leave, 3 * arrive + 1]))
    whole = pd.concat([segments, *ends], ignore_index=True) if len(leave) or len(arrive) else segments

    # What leaves begins anew, and the segment behind it goes on from there, if it is of the same kind.
    reason = seams.reason.copy()
    reason[leave[is_stay[leave] == silent[leave]]] = NO_BREAK
    all_reasons = np.concatenate([reason, seams.reason[leave], np.full(len(arrive), NO_BREAK)]).astype(np.int8)
    goes_on = (reason == NO_BREAK) & ~is_stay
    on_arrival = ~silent[arrive]
    nothing = np.zeros(len(leave), np.int64)
    links = {
        name: np.concatenate([np.where(goes_on, column, 0), nothing, np.where(on_arrival, column[arrive], 0)])[order]
        for name, column in seams._asdict().items()
        if name.startswith("link_")
    }
    of_seam = np.concatenate([np.arange(len(segments)), leave, arrive])
    seams = Seams(
        all_reasons[order],
        **links,
        climb_threshold_cm=seams.climb_threshold_cm[of_seam][order],
        unused_modes=seams.unused_modes[of_seam][order],
        resumes=np.concatenate([seams.resumes & goes_on, nothing != 0, seams.resumes[arrive] & on_arrival])[order],
        whole=np.concatenate([seams.whole, seams.whole[leave], seams.whole[arrive - 1]])[order],
    )
    return whole.iloc[order].reset_index(drop=True), seams


def merge(segments: pd.DataFrame, seams: Seams) -> pd.DataFrame:
    """Add up the segments of each chain.

    Parameters
    ----------
    segments : DataFrame
        k segments with the columns of `SEGMENT_DTYPES`, sorted by device, day and number; without `path`, the result
        has none either.
    seams : Seams
        The seams of the same frame.

    Returns
    -------
    DataFrame
        One row a chain, with the columns of `SEGMENT_DTYPES`; `day` and `number` are those of the first segment.

    Notes
    -----
    `a + b` adds the link from a's last to b's first point to the length and to the time at its speed, and joins the
    climb. All of it is arithmetic of integers, therefore associative.
    """
    first = np.flatnonzero(seams.reason != NO_BREAK)
    if segments.empty:
        return segments[[name for name in SEGMENT_DTYPES if name in segments]]
    last = np.append(first[1:], len(segments)) - 1
    of_first = (
        *("device_id", "day", "number", "local_day", "is_stay", "continues", "resumes", "told_by", "settings_id"),
        *LINK_COLUMNS,
        *("start_cm", "first_late_ms", "first_interval_ms"),
    )
    merged: dict[str, Any] = {name: segments[name].array[first] for name in of_first}
    merged |= {name: segments[name].to_numpy()[last] for name in ("last_late_ms", "last_interval_ms")}
    merged |= {name: segments[name].to_numpy()[first] for name in ("first_ms", "first_lon", "first_lat")}
    merged |= {name: segments[name].to_numpy()[last] for name in ("last_ms", "last_lon", "last_lat")}
    merged["end_cm"] = segments["end_cm"].array[last]
    ways = _with_links(segments, seams)
    for name in ("points", "digest", *SUM_COLUMNS, *REST_COLUMNS):
        fold = np.minimum if name.endswith("_min") else np.maximum if name.endswith("_max") else np.add
        merged[name] = fold.reduceat(ways.get(name, segments[name].to_numpy()), first)
    merged |= dict(zip(CLIMB_COLUMNS, _climb_of_chains(segments, seams, first), strict=True))
    if "path" in segments:
        paths = segments["path"].to_numpy()
        joined = [b"".join(paths[a : b + 1]) for a, b in zip(first.tolist(), last.tolist(), strict=True)]
        merged["path"] = pd.Series(joined, dtype=object)
    return pd.DataFrame({name: merged[name] for name in SEGMENT_DTYPES if name in merged}, copy=False)


def _climb_of_chains(segments: pd.DataFrame, seams: Seams, first: IntArray) -> IntArray:
    """Return the `CLIMB_COLUMNS` of chains, given the first segment of each; nothing climbs over a pause."""
    part = np.flatnonzero((seams.reason != NO_BREAK) | seams.resumes)
    climb = join_at(_climbs(segments), part, seams.climb_threshold_cm[part])
    if len(part) == len(first):
        return climb
    of_chain = np.searchsorted(part, first)
    whole = climb[:, of_chain]
    whole[MIN] = np.minimum.reduceat(climb[MIN], of_chain)
    whole[MAX] = np.maximum.reduceat(climb[MAX], of_chain)
    whole[GAIN:] = np.add.reduceat(climb[GAIN:], of_chain, axis=1)
    return whole


def _with_links(segments: pd.DataFrame, seams: Seams) -> dict[str, IntArray]:
    """Return the sums over the links of segments (`SUM_COLUMNS`), each with the link to it."""
    sums = dict(zip(SUM_COLUMNS, _stacked(segments, SUM_COLUMNS), strict=True))
    joined = np.flatnonzero(seams.reason == NO_BREAK)
    link_ms, traits = seams.link_ms[joined], seams.link_traits[joined]
    sums["length_mm"][joined] += seams.link_mm[joined]
    sums["unsteady_ms"][joined] += np.where(traits & UNSTEADY, link_ms, 0)
    sums["sea_ms"][joined] += np.where(traits & AT_SEA, link_ms, 0)
    sums["straight_sum"][joined] += seams.link_straight[joined] * link_ms
    band = seams.link_band[joined]
    for number, name in enumerate(BAND_COLUMNS):
        sums[name][joined] += np.where(band == number, link_ms, 0)
    return sums


def _climbs(segments: pd.DataFrame) -> IntArray:
    """Return the `CLIMB_COLUMNS` of segments, (8, k)."""
    return _stacked(segments, CLIMB_COLUMNS)


def _stacked(frame: pd.DataFrame, names: Sequence[str]) -> IntArray:
    """Return columns of integers as a new array, a row each."""
    return np.array([frame[name].to_numpy() for name in names])


def _end(
    segments: pd.DataFrame, of: IntArray, seam: IntArray, side: str, silent: Mask, elsewhere: Mask
) -> pd.DataFrame:
    """Return segments of one shared point each, the `side` ("first" or "last") of segment `of`, at a seam.

    `silent` and `elsewhere` are about the seam before each segment: is it a silent stay, and is the point not where
    that is?
    """
    end = segments.iloc[of].reset_index(drop=True)
    is_stay = silent[seam].astype(np.int64)
    lon, lat = (end[f"{side}_{name}"].to_numpy() for name in ("lon", "lat"))
    ms, cm = end[f"{side}_ms"].to_numpy(), end["start_cm" if side == "first" else "end_cm"]
    words = (ms, *(np.ascontiguousarray(degrees, "<f8").view("<i8") for degrees in (lon, lat)))
    digest = mixed(*words, cm.fillna(np.iinfo("i4").min).to_numpy("int64"), is_stay)
    columns: dict[str, Any] = {
        "day": segments["day"].to_numpy()[seam],
        "number": -1,
        "continues": 0,
        "is_stay": is_stay,
    }
    columns |= dict.fromkeys(("points", *SUM_COLUMNS), 0)
    columns |= {"start_cm": cm, "end_cm": cm, "digest": digest}
    for which in ("first", "last"):
        columns |= {f"{which}_ms": ms, f"{which}_lon": lon, f"{which}_lat": lat}
    columns |= zip(CLIMB_COLUMNS, _climb_at(cm.where(is_stay == 0)).T, strict=True)
    rest = np.where(elsewhere[seam][:, None], NO_REST, _rest_at(lon, lat))
    columns |= zip(REST_COLUMNS, rest.T, strict=True)
    end = end.assign(**columns)
    if "path" in end:
        end["path"] = np.where(is_stay == 1, b"", np.asarray(_path_at(lon, lat)))
    return end


def find_chains(segments: pd.DataFrame, seams: Seams) -> pd.DataFrame:
    """Merge segments with their shared ends into chains.

    Returns
    -------
    DataFrame
        The columns of `merge`, with `reason`, the code of the seam before each chain, and `vertices`, the points that
        it has or shares.
    """
    chains = merge(segments, seams)
    start = np.flatnonzero(seams.reason != NO_BREAK)
    points = segments["points"].to_numpy()
    vertices = np.add.reduceat(np.maximum(points, 1), start) if len(start) else points
    return chains.assign(reason=seams.reason[start], vertices=vertices)


def is_track(chains: pd.DataFrame) -> pd.Series:
    """Say which chains are tracks: a single point is left over."""
    return (chains["is_stay"] == 0) & (chains["vertices"] >= MIN_TRACK_VERTICES)


def make_tracks(segments: pd.DataFrame, seams: Seams, devices: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Make tracks of those chains that are some, and their legs.

    Parameters
    ----------
    segments, seams : DataFrame, Seams
        What `connect` returns of segments with `path`.
    devices : DataFrame
        `user` and `device` (names), indexed by `device_id`.

    Returns
    -------
    tracks : DataFrame
        In the order of the chains, with the columns of `TRACK_DTYPES`.
    legs : DataFrame
        In the same order, with the columns of `LEG_DTYPES`; they tile each track.
    """
    chains = find_chains(segments, seams)
    chains = chains[is_track(chains)]
    tracks = _described(chains, devices, "track_id")
    legs = find_legs(segments, seams, chains.index)
    modes = main_modes(legs)
    length_mm, duration_ms = chains["length_mm"].to_numpy(), tracks["duration_ms"].to_numpy()
    tracks["length_mm"] = length_mm
    tracks["moving_ms"] = _moving_ms(chains)
    tracks["avg_speed_kmh"] = np.divide(length_mm * 3.6, duration_ms, out=np.zeros(len(chains)), where=duration_ms > 0)
    unknown = (chains["min_cm"] > chains["max_cm"]).to_numpy()
    for name in ("gain_cm", "loss_cm", "min_cm", "max_cm"):
        tracks[f"elevation_{name}"] = pd.arrays.IntegerArray(chains[name].to_numpy(copy=True), unknown)
    tracks["mode"] = modes.loc[chains.index].to_numpy()
    tracks["path"] = encode_paths(chains["path"])
    legs["track_id"] = tracks["track_id"].set_axis(chains.index).loc[legs["chain"]].to_numpy()
    return tracks[list(TRACK_DTYPES)].astype(TRACK_DTYPES), legs[list(LEG_DTYPES)].astype(LEG_DTYPES)


def find_legs(segments: pd.DataFrame, seams: Seams, of_chains: Collection[int]) -> pd.DataFrame:
    """Return the legs of some chains.

    Parameters
    ----------
    segments, seams : DataFrame, Seams
        What `connect` returns.
    of_chains : collection of int
        Tracks, as `Seams.chain` counts chains.

    Returns
    -------
    DataFrame
        `chain`, the time of all links in `ms`, and the columns of `LEG_DTYPES` without `track_id`, in the order of
        time.
    """
    before_ms = np.append(0, segments["last_ms"].to_numpy()[:-1])[: len(segments)]
    joined = seams.reason == NO_BREAK
    rows = pd.DataFrame(_with_links(segments, seams)).assign(
        chain=seams.chain,
        told_by=segments["told_by"].to_numpy(),
        unused=seams.unused_modes,
        started_ms=np.where(joined, before_ms, segments["first_ms"].to_numpy()),
        ended_ms=segments["last_ms"].to_numpy(),
    )
    has_links = joined | (segments["points"].to_numpy() > 1)
    rows = rows[has_links & np.isin(seams.chain, list(of_chains))]
    stretches = _sums(rows, ["chain", "told_by", "unused"])
    told_by, band_ms = stretches["told_by"].to_numpy(), stretches[list(BAND_COLUMNS)].to_numpy()
    length_mm, unsteady_ms, straight, sea_ms = _stacked(stretches, ("length_mm", *WAY_COLUMNS))
    told = tell_modes(told_by, band_ms, length_mm, unsteady_ms, straight, sea_ms, stretches["unused"].to_numpy())
    stretches["mode"], stretches["source"] = told.mode, told.source
    stretches["ms"] = band_ms.sum(axis=1)
    stretches["leg"] = _leg_numbers(stretches)
    # A leg has the mode of its stretches that are one; others, too short for a leg, have been put to them.
    own = stretches.groupby(["chain", "leg", "mode", "source"], sort=False)["ms"].sum().reset_index()
    own = own.sort_values(["chain", "leg", "ms"], ascending=[True, True, False], kind="stable")
    own = own.drop_duplicates(["chain", "leg"])
    chain = own["chain"].to_numpy()
    names = np.stack([chain, own["mode"].to_numpy(), own["source"].to_numpy()])
    begins = np.append(True, (names[:, 1:] != names[:, :-1]).any(axis=0))[: len(own)]
    number = np.cumsum(begins) - 1
    of_stretch = np.cumsum((stretches[["chain", "leg"]].diff() != 0).any(axis=1).to_numpy()) - 1
    legs = _sums(stretches.assign(leg=number[of_stretch]), ["chain", "leg"])
    legs["leg"] -= legs.groupby("chain")["leg"].transform("first")
    mode, source = names[1:, begins]
    certain = confidence(mode, legs[list(BAND_COLUMNS)].to_numpy())
    certain = np.where(source == HAND, 100, np.where(source == FILE, np.maximum(certain, FILE_CONFIDENCE), certain))
    legs = legs.assign(
        number=legs["leg"],
        mode=np.array(MODES, object)[mode],
        confidence=certain,
        source=np.array(SOURCES, object)[source],
        moving_ms=_moving_ms(legs),
        ms=_stacked(legs, BAND_COLUMNS).sum(axis=0),
    )
    return legs[["chain", "ms", *(name for name in LEG_DTYPES if name != "track_id")]]


def _leg_numbers(stretches: pd.DataFrame) -> IntArray:
    """Return the leg of each stretch, counted from 0 in each chain."""
    chain = stretches["chain"].to_numpy()
    edges = np.flatnonzero(np.diff(chain, prepend=-1, append=-1)).tolist()
    columns = [stretches[name].tolist() for name in ("mode", "source", "ms")]
    numbers = [
        number for a, b in pairwise(edges) for number in without_short_legs(*(column[a:b] for column in columns))
    ]
    return np.array(numbers, np.int64)


def _sums(rows: pd.DataFrame, key: list[str]) -> pd.DataFrame:
    """Add up ways that follow one another with the same key, given their start, end, length, and time by bands."""
    keys = rows[key].to_numpy("int64")
    begins = np.append(True, (keys[1:] != keys[:-1]).any(axis=1))[: len(rows)]
    first = np.flatnonzero(begins)
    sums = {name: rows[name].to_numpy()[first] for name in (*key, "started_ms")}
    sums["ended_ms"] = rows["ended_ms"].to_numpy()[np.append(first[1:], len(rows))[: len(first)] - 1]
    sums |= {name: np.add.reduceat(rows[name].to_numpy(), first) for name in SUM_COLUMNS}
    return pd.DataFrame(sums)


def _moving_ms(ways: pd.DataFrame) -> IntArray:
    """Return the time that was not spent in the slowest of the `BAND_COLUMNS`."""
    moving_ms: IntArray = _stacked(ways, BAND_COLUMNS[1:]).sum(axis=0)
    return moving_ms


def make_stays(chains: pd.DataFrame, devices: pd.DataFrame) -> pd.DataFrame:
    """Make stays of those chains that are some, with the columns of `STAY_DTYPES`; parameters as of `make_tracks`."""
    chains = chains[chains["is_stay"] == 1]
    nowhere = chains["rest_points"] == 0  # what a merge by hand has left of a stay
    if nowhere.any():
        first_lon, first_lat = chains.loc[nowhere, "first_lon"].to_numpy(), chains.loc[nowhere, "first_lat"].to_numpy()
        chains = chains.copy()
        chains.loc[nowhere, list(REST_COLUMNS)] = _rest_at(first_lon, first_lat)
    positions = [
        _position(*sums) for sums in chains[["x_sum", "y_sum", "z_sum", "rest_points"]].itertuples(index=False)
    ]
    extents = np.stack([chains[f"{axis}_max"].to_numpy() - chains[f"{axis}_min"].to_numpy() for axis in "xyz"])
    diagonal_cm = np.sqrt((np.maximum(extents, 0) ** 2).sum(axis=0).astype(np.float64))
    stays = _described(chains, devices, "stay_id")
    stays["lon"], stays["lat"] = [lon for lon, _ in positions], [lat for _, lat in positions]
    stays["radius_cm"] = round_half_away(diagonal_cm / 2)
    return stays[list(STAY_DTYPES)].astype(STAY_DTYPES)


def _described(chains: pd.DataFrame, devices: pd.DataFrame, key: str) -> pd.DataFrame:
    """Return what tracks and stays have in common, with their ids in the column `key`."""
    return pd.DataFrame(
        {
            key: item_ids(chains, devices),
            "device_id": chains["device_id"].to_numpy(),
            "started_ms": chains["first_ms"].to_numpy(),
            "ended_ms": chains["last_ms"].to_numpy(),
            "start_lon": chains["first_lon"].to_numpy(),
            "start_lat": chains["first_lat"].to_numpy(),
            "end_lon": chains["last_lon"].to_numpy(),
            "end_lat": chains["last_lat"].to_numpy(),
            "points": chains["points"].to_numpy(),
            "duration_ms": chains["last_ms"].to_numpy() - chains["first_ms"].to_numpy(),
            "break_reason": np.array(BREAK_REASONS, object)[chains["reason"]],
            "settings_id": chains["settings_id"].to_numpy(),
            "digest": chains["digest"].to_numpy(),
        }
    )


def _position(x_sum: int, y_sum: int, z_sum: int, count: int) -> tuple[float, float]:
    """Return lon and lat of the mean of some places, given their sums in cm."""
    x, y, z = x_sum / count, y_sum / count, z_sum / count
    lat = math.atan2(z, (1 - GEOD.es) * math.hypot(x, y))
    return round(math.degrees(math.atan2(y, x)), 7), round(math.degrees(lat), 7)


def item_ids(chains: pd.DataFrame, devices: pd.DataFrame) -> list[str]:
    """Return the ids of the tracks and stays that chains make: UUIDv5 of their first points, the same in every run."""
    names = devices.loc[chains["device_id"].unique(), ["user", "device"]]
    owner = {device_id: json.dumps([*pair])[:-1] for device_id, pair in zip(names.index, names.to_numpy(), strict=True)}
    firsts = (chains[name].tolist() for name in ("device_id", "is_stay", "first_ms", "first_lon", "first_lat"))
    return [
        _uuid5(STAY_NAMESPACE if is_stay else TRACK_NAMESPACE, f"{owner[device_id]}, {time_ms}, {lon!r}, {lat!r}]")
        for device_id, is_stay, time_ms, lon, lat in zip(*firsts, strict=True)
    ]


def _uuid5(namespace: uuid.UUID, name: str) -> str:
    """Return `str(uuid.uuid5(namespace, name))`, in a third of the time."""
    digest = bytearray(hashlib.sha1(namespace.bytes + name.encode(), usedforsecurity=False).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x50
    digest[8] = digest[8] & 0x3F | 0x80
    text = digest.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def day_shares(segments: pd.DataFrame, seams: Seams) -> pd.DataFrame:
    """Say which share of each chain belongs to which day of its user; the shares of a chain add up to it.

    Parameters
    ----------
    segments, seams : DataFrame, Seams
        What `connect` returns.

    Returns
    -------
    DataFrame
        One row a chain and local day, by `chain`: `local_day`, `points`, `length_mm`, `moving_ms`, and `gain_cm` and
        `loss_cm`, 0 where no altitude is known. A link belongs to the day of its end.
    """
    chain, local_day = seams.chain, segments["local_day"].to_numpy()
    new_day = np.append(True, (np.diff(chain) != 0) | (np.diff(local_day) != 0))[: len(segments)]
    first = np.flatnonzero(new_day | seams.resumes)
    ways = _with_links(segments, seams) | {"points": segments["points"].to_numpy()}
    shares = pd.DataFrame({name: np.add.reduceat(way, first) for name, way in ways.items()})
    shares = shares.assign(chain=chain[first], local_day=local_day[first], moving_ms=_moving_ms(shares))
    begins = np.flatnonzero(np.append(True, np.diff(chain[first]) != 0)[: len(first)] | seams.resumes[first])
    threshold = seams.climb_threshold_cm[first]
    of_days = join_at(_climbs(segments), first, threshold)
    so_far = dict(zip(CLIMB_COLUMNS, join_up_to(of_days, begins, threshold), strict=True))
    for name in ("gain_cm", "loss_cm"):
        shares[name] = np.diff(so_far[name], prepend=0)
        shares.loc[begins, name] = so_far[name][begins]
    columns = ["local_day", "points", "length_mm", "moving_ms", "gain_cm", "loss_cm"]
    shares = shares[["chain", *columns]]
    if len(first) > np.count_nonzero(new_day):  # some days have pauses
        shares = shares.groupby(["chain", "local_day"], sort=False, as_index=False).sum()
    by_chain: pd.DataFrame = shares.set_index("chain")
    return by_chain[columns]
