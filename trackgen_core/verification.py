"""Does what is stored still follow from the points? Three questions, asked independently of how it was made."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd
from sqlalchemy import text

from trackgen_core.generation import Window, compare_chains, user_by_device
from trackgen_core.merging import find_seams, finish, merge
from trackgen_core.points import MS_PER_DAY, day_date
from trackgen_core.segmentation import NO_BREAK, segment
from trackgen_core.store import Store

COMPARED: Final = ("ended_ms", "points", "length_mm", "duration_ms", "elevation_gain_cm", "digest", "path")


def lost_points(store: Store, lo_day: int, hi_day: int) -> list[str]:
    """Say where points are in no segment, or in several, or chains of segments are not what is stored as tracks.

    Every point is in exactly one segment of its day, and every segment in exactly one chain; a chain of two points or
    more is a track, one of a single point is leftover. Users with work on the list are left out: theirs is known to be
    behind.

    Parameters
    ----------
    store : Store
        The store.
    lo_day, hi_day : int
        First and last day.

    Returns
    -------
    list of str
        One line a fault; empty if all is well.
    """
    with store.read() as connection:
        behind = {
            user_id
            for stage in ("segments", "tracks")
            for user_id in store.dirty(connection, stage)["user_id"].tolist()
        }
        settled = sorted(set(store.settings_of(connection)) - behind)
        points = store.count_points(connection, lo_day, hi_day, settled)
        in_segments = store.count_segment_points(connection, lo_day, hi_day, settled)
        faults = [
            f"{day_date(day)}: {points.get(day, 0)} points, but {in_segments.get(day, 0)} in segments"
            for day in sorted({*points, *in_segments})
            if points.get(day) != in_segments.get(day)
        ]
        chains = compare_chains(store, connection, Window(lo_day, hi_day, tuple(settled)))
        missing = chains.heads[chains.heads["chain"].isin(chains.to_make)].drop_duplicates("chain")
        faults += [f"{day_date(int(day))}: a chain of segments has no track" for day in missing["day"]]
        faults += [f"track {track_id} is no chain of segments" for track_id in chains.gone]
    return faults


def overlaps(store: Store, lo_day: int, hi_day: int) -> list[str]:
    """Say which tracks of one device overlap in time, of those that start from `lo_day` to `hi_day`."""
    query = text(
        """
        SELECT track_id, before FROM (
            SELECT track_id, started_ms,
                   lag(track_id) OVER in_time AS before, lag(ended_ms) OVER in_time AS before_ended_ms
            FROM tracks WHERE started_ms >= :lo_ms AND started_ms < :hi_ms
            WINDOW in_time AS (PARTITION BY device_id ORDER BY started_ms, ended_ms)
        ) AS pairs WHERE started_ms < before_ended_ms
        """
    ).bindparams(lo_ms=(lo_day - 1) * MS_PER_DAY, hi_ms=(hi_day + 1) * MS_PER_DAY)
    with store.read() as connection:
        return [f"track {track} overlaps {before}" for track, before in connection.execute(query)]


def wrong_tracks(store: Store, lo_day: int, hi_day: int, *, sample: int = 5, seed: int = 0) -> list[str]:
    """Compute some tracks anew from their points, and say which differ from what is stored.

    Parameters
    ----------
    store : Store
        The store.
    lo_day, hi_day : int
        First and last day on which the tracks start.
    sample : int
        How many tracks to compute.
    seed : int
        Which ones.
    """
    faults = []
    with store.read() as connection:
        devices = store.devices(connection)
        settings_of = store.settings_of(connection)
        user_of = user_by_device(devices)
        behind = set(store.dirty(connection, "segments")["user_id"]) | set(store.dirty(connection, "tracks")["user_id"])
    picked = store.sample_tracks(lo_day, hi_day, sample, seed)
    for stored in picked.to_dict("records"):
        device_id = int(stored["device_id"])
        if user_of[device_id] in behind:
            continue
        settings = settings_of[user_of[device_id]]
        points = store.points_of_track(device_id, int(stored["started_ms"]), int(stored["ended_ms"]))
        segments = segment(points.assign(device_id=np.int64(device_id)), settings)
        seams = find_seams(segments, settings)
        made = finish(merge(segments, seams), seams.reason[seams.reason != NO_BREAK], devices)
        same = made[made["track_id"] == stored["track_id"]]
        if same.empty:
            faults.append(f"track {stored['track_id']} does not follow from the points")
        faults += [
            f"track {stored['track_id']}: {name} is {stored[name]!r}, but the points give {value!r}"
            for name in COMPARED
            for value in same[name]
            if value != stored[name] and not (pd.isna(value) and pd.isna(stored[name]))
        ]
    return faults
