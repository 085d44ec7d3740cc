"""From segments to tracks and stays: seams between neighbours, chains of joined segments, and what they amount to.

Points are never read again. `merge` is the sum of a monoid: it takes a frame of segments to a frame of segments in
which what belongs together is one row, and merging parts first changes no bit of the result.
"""

from __future__ import annotations

import json
import math
import uuid
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from trackgen_core.geodesy import (
    GEOD,
    FloatArray,
    IntArray,
    distances_cm,
    pair_lengths_mm,
    places_cm,
    round_half_away,
)
from trackgen_core.paths import encode_path
from trackgen_core.segmentation import (
    BREAK_REASONS,
    NO_BREAK,
    REST_COLUMNS,
    SEGMENT_DTYPES,
    break_reasons,
    moving_time_ms,
)
from trackgen_core.settings import Settings
from trackgen_core.stays import is_pause, is_same_place

TRACK_NAMESPACE: Final = uuid.uuid5(uuid.NAMESPACE_URL, "https://github.com/trackgen/trackgen/track")
STAY_NAMESPACE: Final = uuid.uuid5(uuid.NAMESPACE_URL, "https://github.com/trackgen/trackgen/stay")
MIN_TRACK_VERTICES: Final = 2
STAY: Final = BREAK_REASONS.index("stay")
MIDNIGHT: Final = BREAK_REASONS.index("midnight")

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
    "break_reason": "str",
    "settings_id": "str",
    "digest": "int64",
    "path": "object",
}
"""Columns of a frame of tracks. `points` counts the points of the track itself; its ends may be those of stays, or of
the day before. `break_reason` says why the track does not continue the points before it; `path` is WKB; `digest` is the
sum of its segments' digests and of hashes of such ends."""

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
    of a device starts after a pause: nothing was recorded for as long as the rule looks back."""
    hop_mm: IntArray
    """Distance from the end of the segment before, where a track goes on; elsewhere 0."""
    hop_ms: IntArray
    """Time from the end of the segment before, likewise."""

    @property
    def chain(self) -> IntArray:
        """The chain that each segment belongs to, counted from 0."""
        return np.cumsum(self.reason != NO_BREAK) - 1


def connect(segments: pd.DataFrame, settings: Settings) -> tuple[pd.DataFrame, Seams]:
    """Decide which segments continue the one before them, by the very rules that cut them, and where tracks meet stays.

    Parameters
    ----------
    segments : DataFrame
        k segments with the columns of `SEGMENT_DTYPES`, with or without `path`, sorted by device, day and number, with
        no day left out between the first and the last.
    settings : Settings
        The rules.

    Returns
    -------
    segments : DataFrame
        The segments, and among them one without points of its own (`points` is 0, `number` -1) for each point that a
        track or stay shares with its neighbour. Two of them with a hop between them join two stays; a single fix
        between pauses has become part of a stay.
    seams : Seams
        The seams of this frame. Merged by them, each chain is a track, a stay, or left over.
    """
    before, after = segments.iloc[:-1], segments.iloc[1:]
    end_lon, end_lat = before["last_lon"].to_numpy(), before["last_lat"].to_numpy()
    start_lon, start_lat = after["first_lon"].to_numpy(), after["first_lat"].to_numpy()
    hop_mm = pair_lengths_mm(end_lon, end_lat, start_lon, start_lat)
    hop_ms = after["first_ms"].to_numpy() - before["last_ms"].to_numpy()
    hop_cm = distances_cm(places_cm(end_lon, end_lat), places_cm(start_lon, start_lat))
    same_device = np.diff(segments["device_id"].to_numpy()) == 0
    reason = break_reasons(hop_ms, hop_mm, settings)
    pause = same_device & is_pause(hop_ms, hop_cm, settings)

    segments = _with_lonely_rests(segments, pause, ~same_device | pause | (reason != NO_BREAK))
    is_stay = segments["is_stay"].to_numpy() == 1
    rests_before, rests_after = is_stay[:-1], is_stay[1:]
    goes_on = reason == NO_BREAK
    if settings.split_at_midnight:
        reason[goes_on & (before["local_day"].to_numpy() != after["local_day"].to_numpy())] = MIDNIGHT
    reason[(goes_on & (rests_before | rests_after)) | pause] = STAY
    one_stay = (after["continues"].to_numpy() == 1) | is_same_place(hop_ms, hop_cm, settings)
    reason[rests_before & rests_after & one_stay] = NO_BREAK
    reason[~same_device] = BREAK_REASONS.index("time_gap")

    # Everything from here on has an element a segment: the seam before it.
    start = np.full(min(len(segments), 1), BREAK_REASONS.index("time_gap"), np.int8)
    none = np.zeros(len(start), np.int64)
    reason, hop_mm, hop_ms = (np.concatenate(pair) for pair in ((start, reason), (none, hop_mm), (none, hop_ms)))
    return _share_ends(segments, Seams(reason, hop_mm, hop_ms), np.append(none != 0, pause))


def _with_lonely_rests(
    segments: pd.DataFrame, pause: npt.NDArray[np.bool_], parts: npt.NDArray[np.bool_]
) -> pd.DataFrame:
    """Make stays of single points next to a pause that have nothing else on either side.

    `pause` and `parts` are about the places between segments: is it a pause, is it one or a break?
    """
    edge = np.ones(min(len(segments), 1), bool)
    alone = np.concatenate([edge, parts]) & np.concatenate([parts, edge])
    alone &= np.concatenate([~edge, pause]) | np.concatenate([pause, ~edge])
    alone &= (segments["points"].to_numpy() == 1) & (segments["is_stay"].to_numpy() == 0)
    if not alone.any():
        return segments
    segments = segments.copy()
    segments.loc[alone, "is_stay"] = 1
    segments.loc[alone, list(REST_COLUMNS)] = _rest_at(
        segments.loc[alone, "first_lon"].to_numpy(), segments.loc[alone, "first_lat"].to_numpy()
    )
    segments.loc[alone, ["gain_cm", "loss_cm", "min_cm", "max_cm", "first_cm", "last_cm"]] = pd.NA
    if "path" in segments:
        segments["path"] = segments["path"].where(~alone, b"")
    return segments


def _rest_at(lon: FloatArray, lat: FloatArray) -> IntArray:
    """Return the `REST_COLUMNS` of single points, (n, 10)."""
    places = places_cm(lon, lat)
    return np.vstack([np.ones((1, len(lon)), np.int64), places, places, places]).T


def _share_ends(segments: pd.DataFrame, seams: Seams, pause: npt.NDArray[np.bool_]) -> tuple[pd.DataFrame, Seams]:
    is_stay = segments["is_stay"].to_numpy() == 1
    shared = np.isin(seams.reason, (STAY, MIDNIGHT))
    rests_before = np.append(False, is_stay[:-1])[: len(is_stay)]
    from_midnight = seams.reason == MIDNIGHT
    # A track leaves from a stay or from the day before, or a pause begins where a track ends ...
    leave = np.flatnonzero(shared & np.where(pause, ~rests_before, rests_before | from_midnight))
    # ... and a track arrives at a stay, or a pause ends where a track begins.
    arrive = np.flatnonzero(shared & np.where(pause, ~is_stay, is_stay))
    ends = [_end(segments, leave - 1, leave, "last", pause), _end(segments, arrive, arrive, "first", pause)]
    order = np.argsort(np.concatenate([3 * np.arange(len(segments)) + 2, 3 * leave, 3 * arrive + 1]))
    whole = pd.concat([segments, *ends], ignore_index=True) if len(leave) or len(arrive) else segments

    # What leaves begins anew, and the segment behind it goes on from there, if it is of the same kind.
    reason = seams.reason.copy()
    reason[leave[is_stay[leave] == pause[leave]]] = NO_BREAK
    all_reasons = np.concatenate([reason, seams.reason[leave], np.full(len(arrive), NO_BREAK)]).astype(np.int8)
    goes_on = (reason == NO_BREAK) & ~is_stay
    on_arrival = ~pause[arrive]
    hops = [
        np.concatenate(
            [np.where(goes_on, hop, 0), np.zeros(len(leave), np.int64), np.where(on_arrival, hop[arrive], 0)]
        )
        for hop in (seams.hop_mm, seams.hop_ms)
    ]
    return whole.iloc[order].reset_index(drop=True), Seams(all_reasons[order], *(hop[order] for hop in hops))


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
    `a + b` adds the hop from a's last to b's first point to the length, and the climb from a's last to b's first
    known altitude to gain or loss. All of it is integer addition, therefore associative.
    """
    first = np.flatnonzero(seams.reason != NO_BREAK)
    if segments.empty:
        return segments[[name for name in SEGMENT_DTYPES if name in segments]]
    last = np.append(first[1:], len(segments)) - 1
    joined = seams.reason == NO_BREAK
    of_first = ("device_id", "day", "number", "local_day", "is_stay", "continues", "settings_id", "start_cm")
    merged: dict[str, Any] = {name: segments[name].array[first] for name in of_first}
    merged |= {name: segments[name].to_numpy()[first] for name in ("first_ms", "first_lon", "first_lat")}
    merged |= {name: segments[name].to_numpy()[last] for name in ("last_ms", "last_lon", "last_lat")}
    merged["end_cm"] = segments["end_cm"].array[last]
    hops = {"length_mm": np.where(joined, seams.hop_mm, 0)}
    hops["moving_ms"] = np.where(joined, moving_time_ms(seams.hop_ms, seams.hop_mm), 0)
    for name in ("points", "length_mm", "moving_ms", "digest", *REST_COLUMNS):
        fold = np.minimum if name.endswith("_min") else np.maximum if name.endswith("_max") else np.add
        merged[name] = fold.reduceat(segments[name].to_numpy() + hops.get(name, 0), first)
    merged |= _merged_elevation(segments, seams.chain, len(first))
    if "path" in segments:
        paths = segments["path"].to_numpy()
        merged["path"] = [b"".join(paths[a : b + 1]) for a, b in zip(first, last, strict=True)]
    dtypes = {name: dtype for name, dtype in SEGMENT_DTYPES.items() if name in merged}
    return pd.DataFrame(merged)[list(dtypes)].astype(dtypes)


def _end(segments: pd.DataFrame, of: IntArray, seam: IntArray, side: str, pause: npt.NDArray[np.bool_]) -> pd.DataFrame:
    """Return segments of one shared point each, the `side` ("first" or "last") of segment `of`, at a seam."""
    end = segments.iloc[of].reset_index(drop=True)
    end = end.assign(day=segments["day"].to_numpy()[seam], number=-1, continues=0, points=0)
    end["is_stay"] = pause[seam].astype(np.int64)
    for name in ("ms", "lon", "lat"):
        end[f"first_{name}"] = end[f"last_{name}"] = end[f"{side}_{name}"]
    cm = end["start_cm" if side == "first" else "end_cm"]
    of_track = cm.where(end["is_stay"] == 0)
    end["start_cm"] = end["end_cm"] = cm
    for name in ("min_cm", "max_cm", "first_cm", "last_cm"):
        end[name] = of_track
    for name in ("gain_cm", "loss_cm"):
        end[name] = of_track * 0
    end[["length_mm", "moving_ms"]] = 0
    coordinates = np.column_stack([end["first_lon"], end["first_lat"]]).astype("<f8")
    end[list(REST_COLUMNS)] = _rest_at(coordinates[:, 0], coordinates[:, 1])
    words = [end["first_ms"], *coordinates.view("<i8").T, cm.fillna(np.iinfo("i4").min), end["is_stay"]]
    end["digest"] = _mixed(np.column_stack(words).astype(np.int64))
    if "path" in end:
        rests = end["is_stay"] == 1
        end["path"] = [b"" if rest else pair.tobytes() for pair, rest in zip(coordinates, rests, strict=True)]
    return end


def _mixed(words: IntArray) -> IntArray:
    """Return a hash of each row of (n, k) words (the finaliser of SplitMix64, Steele et al. 2014, for each word)."""
    mixed = np.zeros(len(words), np.uint64)
    for column in words.astype(np.uint64).T:
        mixed = (mixed ^ column) + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> np.uint64(31)
    return mixed.astype(np.int64)


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


def make_tracks(chains: pd.DataFrame, devices: pd.DataFrame) -> pd.DataFrame:
    """Make tracks of those chains that are some.

    Parameters
    ----------
    chains : DataFrame
        As `find_chains` makes them, with `path`.
    devices : DataFrame
        `user` and `device` (names), indexed by `device_id`.

    Returns
    -------
    DataFrame
        Tracks in the order of the chains, with the columns of `TRACK_DTYPES`.
    """
    chains = chains[is_track(chains)]
    tracks = _described(chains, devices, "track_id")
    length_mm, duration_ms = chains["length_mm"].to_numpy(), tracks["duration_ms"].to_numpy()
    tracks["length_mm"] = length_mm
    tracks["moving_ms"] = chains["moving_ms"].to_numpy()
    tracks["avg_speed_kmh"] = np.divide(length_mm * 3.6, duration_ms, out=np.zeros(len(chains)), where=duration_ms > 0)
    for name in ("gain_cm", "loss_cm", "min_cm", "max_cm"):
        tracks[f"elevation_{name}"] = chains[name].array
    tracks["path"] = [encode_path(np.frombuffer(path, "<f8").reshape(-1, 2)) for path in chains["path"]]
    return tracks[list(TRACK_DTYPES)].astype(TRACK_DTYPES)


def make_stays(chains: pd.DataFrame, devices: pd.DataFrame) -> pd.DataFrame:
    """Make stays of those chains that are some, with the columns of `STAY_DTYPES`; parameters as of `make_tracks`."""
    chains = chains[chains["is_stay"] == 1]
    positions = [
        _position(*sums) if sums[3] else (lon, lat)  # half of a stay, whose other half is still to be made
        for *sums, lon, lat in chains[["x_sum", "y_sum", "z_sum", "rest_points", "first_lon", "first_lat"]].itertuples(
            index=False
        )
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
    names = devices.loc[chains["device_id"]]
    firsts = (chains[name] for name in ("is_stay", "first_ms", "first_lon", "first_lat"))
    return [
        str(uuid.uuid5(STAY_NAMESPACE if is_stay else TRACK_NAMESPACE, json.dumps([user, device, time_ms, lon, lat])))
        for user, device, is_stay, time_ms, lon, lat in zip(
            names["user"], names["device"], *(column.tolist() for column in firsts), strict=True
        )
    ]


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
        `loss_cm`, 0 where no altitude is known. A hop belongs to the day of its end.
    """
    joined = seams.reason == NO_BREAK
    gain, loss = _climbs(segments, seams.chain)
    rows = pd.DataFrame(
        {
            "chain": seams.chain,
            "local_day": segments["local_day"].to_numpy(),
            "points": segments["points"].to_numpy(),
            "length_mm": segments["length_mm"].to_numpy() + np.where(joined, seams.hop_mm, 0),
            "moving_ms": segments["moving_ms"].to_numpy()
            + np.where(joined, moving_time_ms(seams.hop_ms, seams.hop_mm), 0),
            "gain_cm": gain,
            "loss_cm": loss,
        }
    )
    return rows.groupby(["chain", "local_day"]).sum().reset_index("local_day")


def _climbs(segments: pd.DataFrame, chain: IntArray) -> tuple[IntArray, IntArray]:
    """Return gain and loss of each segment with those of the hop to it from the altitude known last in its chain."""
    known = np.flatnonzero(segments["first_cm"].notna().to_numpy())
    climbs = np.zeros((2, len(segments)), np.int64)
    if len(known):
        cm = {name: segments[name].to_numpy("int64", na_value=0)[known] for name in ("first_cm", "last_cm")}
        hop = np.zeros(len(known), np.int64)
        hop[1:] = np.where(np.diff(chain[known]) == 0, cm["first_cm"][1:] - cm["last_cm"][:-1], 0)
        for row, name, sign in ((0, "gain_cm", 1), (1, "loss_cm", -1)):
            climbs[row, known] = segments[name].to_numpy("int64", na_value=0)[known] + np.maximum(sign * hop, 0)
    return climbs[0], climbs[1]


def _merged_elevation(
    segments: pd.DataFrame, chain: IntArray, chains: int
) -> dict[str, pd.api.extensions.ExtensionArray]:
    names = ("gain_cm", "loss_cm", "min_cm", "max_cm", "first_cm", "last_cm")
    known = segments["first_cm"].notna().to_numpy()
    of_chain = chain[known]
    columns = {name: np.zeros(chains, np.int64) for name in names}
    has_altitude = np.zeros(chains, bool)
    has_altitude[of_chain] = True
    if len(of_chain):
        gain, loss = _climbs(segments, chain)
        cm = {name: segments[name].to_numpy("int64", na_value=0)[known] for name in names[2:]}
        first = np.flatnonzero(np.append(True, np.diff(of_chain) != 0))
        columns["gain_cm"][has_altitude] = np.add.reduceat(gain[known], first)
        columns["loss_cm"][has_altitude] = np.add.reduceat(loss[known], first)
        columns["min_cm"][has_altitude] = np.minimum.reduceat(cm["min_cm"], first)
        columns["max_cm"][has_altitude] = np.maximum.reduceat(cm["max_cm"], first)
        columns["first_cm"][has_altitude] = cm["first_cm"][first]
        columns["last_cm"][has_altitude] = cm["last_cm"][np.append(first[1:], len(of_chain)) - 1]
    return {name: pd.arrays.IntegerArray(values, ~has_altitude) for name, values in columns.items()}
