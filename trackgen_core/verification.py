"""Does what is stored still follow from the points? Three questions, asked independently of how it was made."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import pandas as pd
from sqlalchemy import Connection, text

from trackgen_core.generation import Window, compare_chains, user_by_device
from trackgen_core.merging import find_seams, finish, merge
from trackgen_core.points import MS_PER_DAY, day_date
from trackgen_core.segmentation import NO_BREAK, segment
from trackgen_core.store import STAGES, Store

COMPARED: Final = ("ended_ms", "points", "length_mm", "duration_ms", "elevation_gain_cm", "digest", "path")


class Verdict(NamedTuple):
    """What a question found."""

    faults: list[str]
    """One line a fault; empty if all is well."""
    left_out: int = 0
    """Users who were not looked at: work on these days is still listed for them, or their settings cannot be read."""


def lost_points(store: Store, lo_day: int, hi_day: int) -> Verdict:
    """Say where points are in no segment, or in several, or chains of segments are not what is stored as tracks.

    Every point is in exactly one segment of its day, and every segment in exactly one chain; a chain of two points or
    more is a track, one of a single point is leftover.

    Parameters
    ----------
    store : Store
        The store.
    lo_day, hi_day : int
        First and last day.
    """
    with store.read() as connection:
        every = set(store.devices(connection)["user_id"].tolist())
        readable = set(store.settings_of(connection, every, readable_only=True))
        settled = readable - _behind(store, connection, lo_day - 1, hi_day + 1)
        points = store.count_points(connection, lo_day, hi_day, settled)
        in_segments = store.count_segment_points(connection, lo_day, hi_day, settled)
        faults = [
            f"{day_date(day)}: {points.get(day, 0)} points, but {in_segments.get(day, 0)} in segments"
            for day in sorted({*points, *in_segments})
            if points.get(day) != in_segments.get(day)
        ]
        chains = compare_chains(store, connection, Window(lo_day, hi_day, tuple(sorted(settled))))
        days = chains.heads["day"]
        if len(days):  # chains may reach into days with work
            settled -= _behind(store, connection, int(days.min()) - 1, int(days.max()) + 1)
        mine = chains.devices.index[chains.devices["user_id"].isin(settled)]
        missing = chains.heads[chains.heads["chain"].isin(chains.to_make)].drop_duplicates("chain")
        missing = missing[missing["device_id"].isin(mine)]
        faults += [f"{day_date(int(day))}: a chain of segments has no track" for day in missing["day"]]
        gone = chains.gone[chains.gone["device_id"].isin(mine)]
        faults += [f"track {track_id} is no chain of segments" for track_id in gone["track_id"]]
    return Verdict(faults, len(every - settled))


def overlaps(store: Store, lo_day: int, hi_day: int) -> Verdict:
    """Say which tracks of one device overlap in time, of those that start from `lo_day` to `hi_day`."""
    query = text(
        """
        SELECT t.track_id, earlier.track_id FROM tracks AS t JOIN tracks AS earlier
          ON earlier.device_id = t.device_id
         AND (earlier.started_ms, earlier.ended_ms, earlier.track_id) < (t.started_ms, t.ended_ms, t.track_id)
         AND earlier.started_ms >= (SELECT coalesce(max(started_ms), t.started_ms) FROM tracks AS last
                                    WHERE last.device_id = t.device_id AND last.started_ms < t.started_ms)
         AND earlier.ended_ms > t.started_ms
        WHERE t.started_ms >= :lo_ms AND t.started_ms < :hi_ms
        """
    ).bindparams(lo_ms=lo_day * MS_PER_DAY, hi_ms=(hi_day + 1) * MS_PER_DAY)
    with store.read() as connection:
        return Verdict([f"track {track} overlaps {before}" for track, before in connection.execute(query)])


def wrong_tracks(store: Store, lo_day: int, hi_day: int, *, sample: int = 5, seed: int = 0) -> Verdict:
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
    left_out = set()
    with store.read() as connection:
        devices = store.devices(connection)
        settings_of = store.settings_of(connection, readable_only=True)
        user_of = user_by_device(devices)
        for stored in store.sample_tracks(connection, lo_day, hi_day, sample, seed).to_dict("records"):
            device_id, started_ms, ended_ms = (int(stored[name]) for name in ("device_id", "started_ms", "ended_ms"))
            user_id = user_of[device_id]
            behind = _behind(store, connection, started_ms // MS_PER_DAY - 1, ended_ms // MS_PER_DAY + 1)
            if user_id not in settings_of or user_id in behind:
                left_out.add(user_id)
                continue
            points = store.points_of_track(connection, device_id, started_ms, ended_ms)
            segments = segment(points.assign(device_id=np.int64(device_id)), settings_of[user_id])
            seams = find_seams(segments, settings_of[user_id])
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
    return Verdict(faults, len(left_out))


def _behind(store: Store, connection: Connection, lo_day: int, hi_day: int) -> set[int]:
    """Return the users for whom work is listed on these days."""
    return {user for stage in STAGES for user in store.dirty(connection, stage, lo_day, hi_day)["user_id"].tolist()}
