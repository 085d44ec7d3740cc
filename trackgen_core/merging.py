"""From segments to tracks and stays: chains of segments without a seam between them, and what they amount to.

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
from typing import Any, Final

import numpy as np
import pandas as pd

from trackgen_core.breaks import BREAK_REASONS, NO_BREAK
from trackgen_core.climb import CLIMB_COLUMNS, GAIN, MAX, MIN, join_at, join_up_to
from trackgen_core.digests import mixed
from trackgen_core.geodesy import GEOD, IntArray, round_half_away
from trackgen_core.legs import (
    FILE,
    FILE_CONFIDENCE,
    HAND,
    MODES,
    SOURCES,
    confidence,
    main_modes,
    tell_modes,
    without_short_legs,
)
from trackgen_core.paths import encode_paths
from trackgen_core.seams import Seams, rest_at
from trackgen_core.segmentation import (
    AT_SEA,
    BAND_COLUMNS,
    LINK_COLUMNS,
    REST_COLUMNS,
    SEGMENT_DTYPES,
    SUM_COLUMNS,
    UNSTEADY,
    WAY_COLUMNS,
    packed_way,
)

TRACK_NAMESPACE: Final = uuid.uuid5(uuid.NAMESPACE_URL, "https://github.com/trackgen/trackgen/track")
STAY_NAMESPACE: Final = uuid.uuid5(uuid.NAMESPACE_URL, "https://github.com/trackgen/trackgen/stay")
MIN_TRACK_VERTICES: Final = 2
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
sum of its segments' digests and of hashes of such ends and of the links to them."""

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
    """Return the sums over the links of segments (`SUM_COLUMNS` and the digest), each with the link to it."""
    names = ("digest", *SUM_COLUMNS)
    sums = dict(zip(names, _stacked(segments, names), strict=True))
    joined = np.flatnonzero(seams.reason == NO_BREAK)
    links = (seams.link_mm, seams.link_ms, seams.link_band, seams.link_straight, seams.link_traits)
    link_mm, link_ms, band, straight, traits = (column[joined] for column in links)
    sums["digest"][joined] += mixed(link_mm, link_ms, packed_way(band, straight, traits))
    sums["length_mm"][joined] += link_mm
    sums["unsteady_ms"][joined] += np.where(traits & UNSTEADY, link_ms, 0)
    sums["sea_ms"][joined] += np.where(traits & AT_SEA, link_ms, 0)
    sums["straight_sum"][joined] += straight * link_ms
    for number, name in enumerate(BAND_COLUMNS):
        sums[name][joined] += np.where(band == number, link_ms, 0)
    return sums


def _climbs(segments: pd.DataFrame) -> IntArray:
    """Return the `CLIMB_COLUMNS` of segments, (8, k)."""
    return _stacked(segments, CLIMB_COLUMNS)


def _stacked(frame: pd.DataFrame, names: Sequence[str]) -> IntArray:
    """Return columns of integers as a new array, a row each."""
    return np.array([frame[name].to_numpy() for name in names])


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
    modes = tell_modes(told_by, band_ms, length_mm, unsteady_ms, straight, sea_ms, stretches["unused"].to_numpy())
    stretches["mode"], stretches["source"] = modes.mode, modes.source
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
        chains.loc[nowhere, list(REST_COLUMNS)] = rest_at(first_lon, first_lat)
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
