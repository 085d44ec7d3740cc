"""Does what is stored still follow from the points? Some questions, asked independently of how it was made."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from functools import partial
from typing import Final, NamedTuple

import numpy as np
import pandas as pd
from sqlalchemy import Connection, TextClause, bindparam, text

from trackgen_core.generation import Window, compare_chains, user_by_device
from trackgen_core.merging import make_tracks
from trackgen_core.points import MS_PER_DAY, day_date
from trackgen_core.seams import connect
from trackgen_core.segmentation import BUFFER_MS, segment
from trackgen_core.settings import Settings
from trackgen_core.store import STAGES, Store
from trackgen_core.words import counted

DAYS_AT_ONCE: Final = 366
"""What is held at once while a long history is verified."""

COMPARED: Final = (
    "ended_ms",
    "points",
    "length_mm",
    "duration_ms",
    "moving_ms",
    "elevation_gain_cm",
    "mode",
    "digest",
    "path",
)


class Verdict(NamedTuple):
    """What a question found."""

    faults: list[str]
    """One line a fault; empty if all is well."""
    left_out: int = 0
    """Users who were not looked at: work on these days is still listed for them, or their settings cannot be read."""


def lost_points(store: Store, lo_day: int, hi_day: int, user_ids: Collection[int] | None = None) -> Verdict:
    """Say where points are neither noise nor in a segment, or in several, or chains are not what is stored.

    Every point is noise or in exactly one segment of its day, and every segment in exactly one chain; a chain is a
    stay, a track, or a single point that is left over.

    Parameters
    ----------
    store : Store
        The store.
    lo_day, hi_day : int
        First and last day.
    user_ids : collection of int, optional
        Users; by default all.
    """
    with store.read() as connection:
        every = set(store.devices(connection, user_ids)["user_id"].tolist())
        readable = set(store.settings_of(connection, every, readable_only=True))
        settled = readable - _behind(store, connection, lo_day - 1, hi_day + 1)
        points = store.count_points(connection, lo_day, hi_day, settled)
        in_segments = store.count_segment_points(connection, lo_day, hi_day, settled)
        noise = store.count_noise(connection, lo_day, hi_day, settled)
        faults = [
            f"{day_date(day)}: {counted(points.get(day, 0), 'point')}, but {in_segments.get(day, 0)} in segments and "
            f"{noise.get(day, 0)} set aside"
            for day in sorted({*points, *in_segments, *noise})
            if points.get(day, 0) != in_segments.get(day, 0) + noise.get(day, 0)
        ]
        chains = compare_chains(store, connection, Window(lo_day, hi_day, tuple(sorted(settled))))
        days = chains.heads["day"]
        if len(days):  # chains may reach into days with work
            settled -= _behind(store, connection, int(days.min()) - 1, int(days.max()) + 1)
        user_of = user_by_device(chains.devices)
        missing = chains.to_make[chains.to_make["device_id"].map(user_of).isin(settled)]
        faults += [
            f"{day_date(day)}: a chain of segments has no {'stay' if is_stay else 'track'}"
            for day, is_stay in zip(missing["day"].tolist(), missing["is_stay"].tolist(), strict=True)
        ]
        for what, gone in (("track", chains.gone_tracks), ("stay", chains.gone_stays)):
            faults += [f"{what} {item_id} is no chain of segments" for item_id in gone]
    return Verdict(faults, len(every - settled))


def overlaps(store: Store, lo_day: int, hi_day: int, user_ids: Collection[int] | None = None) -> Verdict:
    """Say which tracks and stays of one device overlap in time, of those that touch `lo_day` to `hi_day`."""
    with store.read() as connection:
        devices = store.devices(connection, user_ids).index.to_numpy()
        span = {"lo_ms": lo_day * MS_PER_DAY, "hi_ms": (hi_day + 1) * MS_PER_DAY - 1}
        items = store.item_heads(connection, pd.DataFrame({"device_id": devices}).assign(**span))
    items = items.sort_values(["device_id", "started_ms", "ended_ms", "item_id"], ignore_index=True)
    reached = items.groupby("device_id")["ended_ms"].cummax().shift()
    same_device = items["device_id"] == items["device_id"].shift()
    late = np.flatnonzero(same_device & (items["started_ms"] < reached))
    kind, item_id = np.where(items["is_stay"] == 1, "stay", "track"), items["item_id"].to_numpy()
    return Verdict([f"{kind[n]} {item_id[n]} overlaps {kind[n - 1]} {item_id[n - 1]}" for n in late.tolist()])


def wrong_days(store: Store, lo_day: int, hi_day: int, user_ids: Collection[int] | None = None) -> Verdict:
    """Say which tracks and stays, of those that start from `lo_day` to `hi_day`, are not the sum of their days."""
    query = _of_days(
        """
        WITH items AS (
            SELECT track_id AS item_id, 'track' AS what, points, length_mm, moving_ms, 0 AS rest_ms,
                   coalesce(elevation_gain_cm, 0) AS gain_cm, device_id FROM tracks
            WHERE started_ms >= :lo_ms AND started_ms < :hi_ms
            UNION ALL
            SELECT stay_id, 'stay', 0, 0, 0, duration_ms, 0, device_id FROM stays
            WHERE started_ms >= :lo_ms AND started_ms < :hi_ms
        )
        SELECT what, i.item_id FROM items AS i JOIN devices USING (device_id) LEFT JOIN item_days AS d USING (item_id)
        WHERE :all_users OR devices.user_id IN :user_ids
        GROUP BY what, i.item_id, i.points, i.length_mm, i.moving_ms, i.rest_ms, i.gain_cm
        HAVING (i.points, i.length_mm, i.moving_ms, i.rest_ms, i.gain_cm) IS DISTINCT FROM
               (sum(d.points), sum(d.length_mm), sum(d.moving_ms), sum(d.rest_ms), sum(d.gain_cm))
        """,
        lo_day,
        hi_day,
        user_ids,
    )
    with store.read() as connection:
        return Verdict([f"{what} {item_id} is not the sum of its days" for what, item_id in connection.execute(query)])


def wrong_legs(store: Store, lo_day: int, hi_day: int, user_ids: Collection[int] | None = None) -> Verdict:
    """Say which tracks, of those that start from `lo_day` to `hi_day`, are not tiled by their legs."""
    query = _of_days(
        """
        WITH tiles AS (
            SELECT track_id, l.length_mm, l.moving_ms, l.ended_ms,
                   coalesce(lag(l.ended_ms) OVER (PARTITION BY track_id ORDER BY number), t.started_ms) = l.started_ms
                   AND row_number() OVER (PARTITION BY track_id ORDER BY number) = number + 1 AS follows
            FROM tracks AS t JOIN legs AS l USING (track_id) WHERE t.started_ms >= :lo_ms AND t.started_ms < :hi_ms
        )
        SELECT t.track_id FROM tracks AS t JOIN devices USING (device_id) LEFT JOIN tiles USING (track_id)
        WHERE t.started_ms >= :lo_ms AND t.started_ms < :hi_ms AND (:all_users OR devices.user_id IN :user_ids)
        GROUP BY t.track_id, t.length_mm, t.moving_ms, t.ended_ms
        HAVING (t.length_mm, t.moving_ms, t.ended_ms) IS DISTINCT FROM
               (sum(tiles.length_mm), sum(tiles.moving_ms), max(tiles.ended_ms))
            OR count(*) > sum(CASE WHEN follows THEN 1 ELSE 0 END)
        """,
        lo_day,
        hi_day,
        user_ids,
    )
    with store.read() as connection:
        return Verdict([f"track {track_id} is not tiled by its legs" for track_id in connection.scalars(query)])


DAYS_BESIDE: Final = 2
"""Days beside a track whose silences may decide where it begins and ends."""


def wrong_tracks(
    store: Store,
    lo_day: int,
    hi_day: int,
    user_ids: Collection[int] | None = None,
    *,
    sample: int = 5,
    seed: int = 0,
) -> Verdict:
    """Compute some tracks anew from their points, and say which differ from what is stored.

    Parameters
    ----------
    store : Store
        The store.
    lo_day, hi_day : int
        First and last day on which the tracks start.
    user_ids : collection of int, optional
        Users; by default all.
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
        edits = store.edits(connection)
        user_of = user_by_device(devices)
        for stored in store.sample_tracks(connection, lo_day, hi_day, sample, seed, user_ids).to_dict("records"):
            device_id, started_ms, ended_ms = (int(stored[name]) for name in ("device_id", "started_ms", "ended_ms"))
            user_id = user_of[device_id]
            first_day, last_day = started_ms // MS_PER_DAY - DAYS_BESIDE, ended_ms // MS_PER_DAY + DAYS_BESIDE
            behind = _behind(store, connection, first_day, last_day)
            if user_id not in settings_of or user_id in behind:
                left_out.add(user_id)
                continue
            lo_ms, hi_ms = first_day * MS_PER_DAY, (last_day + 1) * MS_PER_DAY
            points = store.points_of_device(connection, device_id, lo_ms - BUFFER_MS, hi_ms + BUFFER_MS)
            emit = (points["time_ms"] >= lo_ms) & (points["time_ms"] < hi_ms)
            made = _tracks_of_points(points.assign(emit=emit), settings_of[user_id], edits, devices)
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


def _tracks_of_points(
    points: pd.DataFrame, settings: Settings, edits: pd.DataFrame, devices: pd.DataFrame
) -> pd.DataFrame:
    segments = segment(points, settings, edits).segments
    return make_tracks(*connect(segments, settings, edits), devices)[0]


def _of_days(query: str, lo_day: int, hi_day: int, user_ids: Collection[int] | None) -> TextClause:
    """Return a query about what starts on some days, of some users."""
    return text(query).bindparams(
        bindparam("user_ids", list(user_ids or ()), expanding=True),
        lo_ms=lo_day * MS_PER_DAY,
        hi_ms=(hi_day + 1) * MS_PER_DAY,
        all_users=user_ids is None,
    )


def _behind(store: Store, connection: Connection, lo_day: int, hi_day: int) -> set[int]:
    """Return the users for whom work is listed on these days."""
    return {user for stage in STAGES for user in store.dirty(connection, stage, lo_day, hi_day)["user_id"].tolist()}


class Check(NamedTuple):
    """A question about some days, and what it found."""

    name: str
    question: str
    verdict: Verdict


QUESTIONS: Final[dict[str, tuple[Callable[..., Verdict], str]]] = {
    "points_conserved": (lost_points, "every point is in exactly one track or stay, set aside, or left over"),
    "no_overlap": (overlaps, "no two tracks or stays of a device are at the same time"),
    "sample_recomputed": (
        partial(wrong_tracks, sample=20),
        "some tracks of each year, computed anew, are what is stored",
    ),
    "days_add_up": (wrong_days, "the days of tracks and stays add up to them"),
    "legs_tile": (wrong_legs, "the legs of a track follow one another from its start to its end"),
}
"""What is asked, in the words of the asset checks."""


def verify(store: Store, lo_day: int, hi_day: int, user_ids: Collection[int] | None = None) -> Iterator[Check]:
    """Ask every question about some days, a year at a time, and yield what each has found.

    Parameters
    ----------
    store : Store
        The store.
    lo_day, hi_day : int
        First and last day.
    user_ids : collection of int, optional
        Users; by default all.
    """
    years = [(day, min(day + DAYS_AT_ONCE - 1, hi_day)) for day in range(lo_day, hi_day + 1, DAYS_AT_ONCE)]
    for name, (ask, question) in QUESTIONS.items():
        verdicts = [ask(store, *year, user_ids) for year in years]
        faults = dict.fromkeys(fault for verdict in verdicts for fault in verdict.faults)
        yield Check(name, question, Verdict(list(faults), max((one.left_out for one in verdicts), default=0)))
