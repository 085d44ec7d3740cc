"""From segments to tracks: seams between neighbours, chains of joined segments, and what a chain amounts to.

Points are never read again. `merge` is the sum of a monoid: it takes a frame of segments to a frame of segments in
which what belongs together is one row, and merging parts first changes no bit of the result.
"""

from __future__ import annotations

import json
import uuid
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from trackgen_core.geodesy import IntArray, pair_lengths_mm
from trackgen_core.paths import encode_path
from trackgen_core.segmentation import BREAK_REASONS, NO_BREAK, SEGMENT_DTYPES, break_reasons
from trackgen_core.settings import Settings

TRACK_NAMESPACE: Final = uuid.uuid5(uuid.NAMESPACE_URL, "https://github.com/trackgen/trackgen/track")
MIN_TRACK_POINTS: Final = 2

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
"""Columns of a frame of tracks. `break_reason` says why the track does not continue the points before it; `path` is
WKB; `digest` is the sum of its segments' digests."""


class Seams(NamedTuple):
    """The places before each of k segments, where it does or does not continue the one before it."""

    reason: npt.NDArray[np.int8]
    """Why the segment starts anew (an index into `BREAK_REASONS`), or `NO_BREAK` where it is joined. The first segment
    of a device starts after a pause: nothing was recorded for as long as the rule looks back."""
    hop_mm: IntArray
    """Distance from the end of the segment before, 0 where the two are not joined."""
    chain: IntArray
    """The chain the segment belongs to, counted from 0."""


def find_seams(segments: pd.DataFrame, settings: Settings) -> Seams:
    """Decide which segments continue the one before them, by the very rule that cut them.

    Parameters
    ----------
    segments : DataFrame
        k segments with the columns of `SEGMENT_DTYPES` (`path` is not needed), sorted by device, day and number, with
        no day left out between the first and the last.
    settings : Settings
        The rule.
    """
    before, after = segments.iloc[:-1], segments.iloc[1:]
    hop_mm = pair_lengths_mm(
        before["last_lon"].to_numpy(),
        before["last_lat"].to_numpy(),
        after["first_lon"].to_numpy(),
        after["first_lat"].to_numpy(),
    )
    gap_ms = after["first_ms"].to_numpy() - before["last_ms"].to_numpy()
    same_device = np.diff(segments["device_id"].to_numpy()) == 0
    reason = np.full(len(segments), BREAK_REASONS.index("time_gap"), np.int8)
    reason[1:][same_device] = break_reasons(gap_ms, hop_mm, settings)[same_device]
    joined = reason == NO_BREAK
    hops = np.zeros(len(segments), np.int64)
    hops[joined] = hop_mm[joined[1:]]
    return Seams(reason, hops, np.cumsum(~joined) - 1)


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
    of_first = ("device_id", "day", "number", "settings_id", "first_ms", "first_lon", "first_lat")
    merged: dict[str, Any] = {name: segments[name].to_numpy()[first] for name in of_first}
    merged |= {name: segments[name].to_numpy()[last] for name in ("last_ms", "last_lon", "last_lat")}
    merged["points"] = np.add.reduceat(segments["points"].to_numpy(), first)
    merged["length_mm"] = np.add.reduceat(segments["length_mm"].to_numpy() + seams.hop_mm, first)
    merged |= _merged_elevation(segments, seams.chain, len(first))
    merged["digest"] = np.add.reduceat(segments["digest"].to_numpy(), first)
    if "path" in segments:
        paths = segments["path"].to_numpy()
        merged["path"] = [b"".join(paths[a : b + 1]) for a, b in zip(first, last, strict=True)]
    dtypes = {name: dtype for name, dtype in SEGMENT_DTYPES.items() if name in merged}
    return pd.DataFrame(merged)[list(dtypes)].astype(dtypes)


def finish(chains: pd.DataFrame, reasons: npt.NDArray[np.int8], devices: pd.DataFrame) -> pd.DataFrame:
    """Make tracks of the chains that have enough points.

    Parameters
    ----------
    chains : DataFrame
        Merged segments.
    reasons : (k,) int8 array
        Why each chain starts where it does, as codes of `BREAK_REASONS`.
    devices : DataFrame
        `user` and `device` (names), indexed by `device_id`.

    Returns
    -------
    DataFrame
        Tracks in the order of the chains, with the columns of `TRACK_DTYPES`.
    """
    enough = (chains["points"] >= MIN_TRACK_POINTS).to_numpy()
    chains, reasons = chains[enough], reasons[enough]
    duration_ms = chains["last_ms"].to_numpy() - chains["first_ms"].to_numpy()
    length_mm = chains["length_mm"].to_numpy()
    names = devices.loc[chains["device_id"]]
    heads = zip(
        names["user"],
        names["device"],
        chains["first_ms"],
        chains["first_lon"],
        chains["first_lat"],
        strict=True,
    )
    tracks = pd.DataFrame(
        {
            "track_id": [track_id(*head) for head in heads],
            "device_id": chains["device_id"].to_numpy(),
            "started_ms": chains["first_ms"].to_numpy(),
            "ended_ms": chains["last_ms"].to_numpy(),
            "start_lon": chains["first_lon"].to_numpy(),
            "start_lat": chains["first_lat"].to_numpy(),
            "end_lon": chains["last_lon"].to_numpy(),
            "end_lat": chains["last_lat"].to_numpy(),
            "points": chains["points"].to_numpy(),
            "length_mm": length_mm,
            "duration_ms": duration_ms,
            "avg_speed_kmh": np.divide(length_mm * 3.6, duration_ms, out=np.zeros(len(chains)), where=duration_ms > 0),
            "elevation_gain_cm": chains["gain_cm"].array,
            "elevation_loss_cm": chains["loss_cm"].array,
            "elevation_min_cm": chains["min_cm"].array,
            "elevation_max_cm": chains["max_cm"].array,
            "break_reason": np.array(BREAK_REASONS, object)[reasons],
            "settings_id": chains["settings_id"].to_numpy(),
            "digest": chains["digest"].to_numpy(),
            "path": [encode_path(np.frombuffer(path, "<f8").reshape(-1, 2)) for path in chains["path"]],
        }
    )
    return tracks.astype(TRACK_DTYPES)


def track_id(user: str, device: str, time_ms: int, lon: float, lat: float) -> str:
    """Return the id of the track that starts with the given point: a UUIDv5, the same in every run."""
    return str(uuid.uuid5(TRACK_NAMESPACE, json.dumps([user, device, int(time_ms), float(lon), float(lat)])))


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
        cm = {name: segments[name].to_numpy("int64", na_value=0)[known] for name in names}
        first = np.flatnonzero(np.append(True, np.diff(of_chain) != 0))
        hop = np.zeros(len(of_chain), np.int64)
        hop[1:] = cm["first_cm"][1:] - cm["last_cm"][:-1]
        hop[first] = 0
        columns["gain_cm"][has_altitude] = np.add.reduceat(cm["gain_cm"] + np.maximum(hop, 0), first)
        columns["loss_cm"][has_altitude] = np.add.reduceat(cm["loss_cm"] + np.maximum(-hop, 0), first)
        columns["min_cm"][has_altitude] = np.minimum.reduceat(cm["min_cm"], first)
        columns["max_cm"][has_altitude] = np.maximum.reduceat(cm["max_cm"], first)
        columns["first_cm"][has_altitude] = cm["first_cm"][first]
        columns["last_cm"][has_altitude] = cm["last_cm"][np.append(first[1:], len(of_chain)) - 1]
    return {name: pd.arrays.IntegerArray(values, ~has_altitude) for name, values in columns.items()}
