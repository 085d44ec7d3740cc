"""Seams between segments: where a track or a stay goes on, what stays take in, and which points two things share.

The segments may be of any days. What decides about a seam is what both sides say, so it comes out the same wherever the
days were cut.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from trackgen_core.breaks import LONGEST_LINK_MS, MIDNIGHT, NO_BREAK, SPLIT, STAY, TIME_GAP, break_reasons
from trackgen_core.climb import CLIMB_COLUMNS, climb_of
from trackgen_core.digests import mixed
from trackgen_core.dwelling import JOIN_MS, is_same_place, is_silent_stay
from trackgen_core.edits import merged_fixes, merged_hops, no_edits, split_hops
from trackgen_core.geodesy import FloatArray, IntArray, Mask, distances_cm, pair_lengths_mm, places_cm, positions_m
from trackgen_core.legs import mode_bits
from trackgen_core.segmentation import NOWHERE_CM, REST_COLUMNS, SUM_COLUMNS
from trackgen_core.settings import Settings
from trackgen_core.speeds import speed_bands
from trackgen_core.windows import covered, runs

NO_REST: Final = np.array([0, 0, 0, 0, *(NOWHERE_CM,) * 3, *(-NOWHERE_CM,) * 3])
"""The `REST_COLUMNS` of points that do not say where a stay is."""
TOUCHING: Final = (STAY, MIDNIGHT, SPLIT)
"""Reasons where one thing begins with the point with which the other ends."""


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
    cuts = ~same_device | ((reason != NO_BREAK) & ~silent) | split  # at midnight, nobody sets out
    known = after["link_mm"].to_numpy() >= 0  # otherwise the points on both sides tell
    counted_mm = np.where(known, after["link_mm"].to_numpy(), link_mm)
    segments, inside = _with_brief_ways(segments, silent, cuts, (ends, starts), counted_mm, in_merge, settings)
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

    # Everything from here on has an element a segment: the seam before it.
    start = np.full(min(len(segments), 1), TIME_GAP, np.int8)
    none = np.zeros(len(start), np.int64)
    reason = np.concatenate([start, reason])
    seams = Seams(
        reason,
        np.append(none, np.where(paused, 0, counted_mm)),
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
    segments.loc[alone, list(REST_COLUMNS)] = rest_at(
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
    segments.loc[single, list(REST_COLUMNS)] = rest_at(lon, lat)
    segments.loc[single, list(CLIMB_COLUMNS)] = _climb_at(segments.loc[single, "start_cm"])
    if "path" in segments:
        segments.loc[single, "path"] = _path_at(lon, lat)
    return segments


def _path_at(lon: FloatArray, lat: FloatArray) -> pd.api.extensions.ExtensionArray:
    """Return the paths of single points."""
    return pd.array([pair.tobytes() for pair in np.column_stack([lon, lat]).astype("<f8")], dtype=object)


def rest_at(lon: FloatArray, lat: FloatArray) -> IntArray:
    """Return the `REST_COLUMNS` of single points.

    Parameters
    ----------
    lon, lat : (n,) float arrays
        Degrees.

    Returns
    -------
    (n, 10) int array
        In cm.
    """
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
    rest = np.where(elsewhere[seam][:, None], NO_REST, rest_at(lon, lat))
    columns |= zip(REST_COLUMNS, rest.T, strict=True)
    end = end.assign(**columns)
    if "path" in end:
        end["path"] = np.where(is_stay == 1, b"", np.asarray(_path_at(lon, lat)))
    return end
