"""What Dawarich's own jobs do to tracks, as of 1.14 and newer, so that tests can let them run beside ours.

Only what changes tables is here, and no locks. `now` is the clock that points are compared with; rows get the real
time, so that all of them are younger than an hour.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Final

import numpy as np
import psycopg

from tests import dawarich

LOOKBACK_S: Final = 6 * 3600
NEAR_S: Final = 1800
NEAR_M: Final = 5_000
LONGEST_GAP_S: Final = 3600

KEPT: Final = (
    "(t.import_id IS NOT NULL OR EXISTS (SELECT FROM track_segments AS g WHERE g.track_id = t.id "
    "AND (g.corrected_at IS NOT NULL "
    "OR g.source IN ('google_phone_takeout', 'google_semantic_history', 'polarsteps'))))"
)
ENDS: Final = "extract(epoch FROM t.start_at)::int8, extract(epoch FROM t.end_at)::int8"

Connection = psycopg.Connection[Any]


def run_all(connection: Connection, user_id: int, minutes: int, now: int, *, daily: bool) -> None:
    """Do what follows new points: tracks of the last hours, tracks joined at boundaries, points given back."""
    realtime(connection, user_id, minutes, now)
    join_boundaries(connection, user_id, minutes)
    give_back(connection, user_id, now)
    if daily:
        generate_rest(connection, user_id, minutes, now)
        join_boundaries(connection, user_id, minutes)
        give_back(connection, user_id, now)


def realtime(connection: Connection, user_id: int, minutes: int, now: int) -> None:
    """Make tracks of points of the last hours that have none, and let the track before each of them take it in."""
    for points in _runs(connection, user_id, minutes, now - LOOKBACK_S, now):
        id = _create(connection, user_id, points)
        row = connection.execute(f"SELECT {ENDS}, tracker_id FROM tracks AS t WHERE id = %s", [id]).fetchone()
        assert row is not None
        before = connection.execute(
            "SELECT t.id FROM tracks AS t WHERE user_id = %s AND tracker_id IS NOT DISTINCT FROM %s AND id <> %s "
            "AND end_at < to_timestamp(%s) AT TIME ZONE 'UTC' AND end_at > to_timestamp(%s) AT TIME ZONE 'UTC' "
            "ORDER BY end_at DESC LIMIT 1",
            [user_id, row[2], id, row[0], row[0] - minutes * 60],
        ).fetchone()
        if before is not None:
            connection.execute("DELETE FROM track_segments WHERE track_id = ANY(%s)", [[id, before[0]]])
            connection.execute("UPDATE points SET track_id = %s WHERE track_id = %s", [before[0], id])
            _destroy(connection, [id])
            _measure(connection, before[0])


def join_boundaries(connection: Connection, user_id: int, minutes: int) -> None:
    """Join young tracks with those of the same device that begin or end near by; what is to be kept is left alone."""
    window = max(minutes * 60, NEAR_S)
    rows = connection.execute(
        f"""
        SELECT t.id, {ENDS}, coalesce(t.tracker_id, ''), t.created_at > now() AT TIME ZONE 'UTC' - interval '1 hour'
        FROM tracks AS t WHERE user_id = %s AND NOT {KEPT} ORDER BY t.start_at
        """,
        [user_id],
    ).fetchall()
    young = [row for row in rows if row[4]]
    near = [row for row in rows if row[4] or any(_apart_s(row, one) <= window and row[3] == one[3] for one in young)]
    places = {row[0]: _ends(connection, row[0]) for row in near}
    groups: list[list[Any]] = []
    for one in near:
        fits = [
            other
            for other in near
            if other[0] != one[0] and other[3] == one[3] and _apart_s(one, other) <= window
            and _is_near(places[one[0]], places[other[0]])
        ]  # fmt: skip
        if fits:
            group = next((group for group in groups if one in group), None)
            if group is None:
                groups.append(group := [one])
            group += [other for other in fits if other not in group]
    for group in groups:
        group.sort(key=lambda row: row[1])
        if all(later[1] - earlier[2] <= LONGEST_GAP_S for earlier, later in pairwise(group)):
            ids = [row[0] for row in group]
            points = connection.execute(
                "SELECT id FROM points WHERE track_id = ANY(%s) ORDER BY timestamp, id", [ids]
            ).fetchall()
            if len(points) > 1:
                joined = _create(connection, user_id, [id for (id,) in points])
                _destroy(connection, [id for id in ids if id != joined])


def give_back(connection: Connection, user_id: int, now: int) -> None:
    """Give points without a track to a track of the last hours in whose time they lie."""
    tracks = connection.execute(
        f"SELECT t.id, {ENDS}, coalesce(tracker_id, '') FROM tracks AS t WHERE user_id = %s "
        "AND end_at >= to_timestamp(%s) AT TIME ZONE 'UTC' ORDER BY id",
        [user_id, now - LOOKBACK_S],
    ).fetchall()
    for id, start, end, name in tracks:
        done = connection.execute(
            f"UPDATE points SET track_id = %s WHERE user_id = %s AND track_id IS NULL AND anomaly IS NOT TRUE "
            f"AND timestamp BETWEEN %s AND %s AND coalesce({dawarich.device(connection)}, '') = %s",
            [id, user_id, start, end, name],
        )
        if done.rowcount:
            _measure(connection, id)


def generate_rest(connection: Connection, user_id: int, minutes: int, now: int) -> None:
    """Make tracks of what came after the last one, and of points in the six hours before it that have none."""
    row = connection.execute(
        "SELECT extract(epoch FROM max(end_at))::int8 + 1 FROM tracks WHERE user_id = %s", [user_id]
    ).fetchone()
    start = row[0] if row and row[0] is not None else 0
    gone = connection.execute(
        f"SELECT t.id FROM tracks AS t WHERE user_id = %s AND NOT {KEPT} "
        "AND (start_at, end_at) OVERLAPS (to_timestamp(%s) AT TIME ZONE 'UTC', to_timestamp(%s) AT TIME ZONE 'UTC')",
        [user_id, start, now],
    ).fetchall()
    _destroy(connection, [id for (id,) in gone])
    for points in _runs(connection, user_id, minutes, start - LOOKBACK_S, now):
        _create(connection, user_id, points)


def _runs(connection: Connection, user_id: int, minutes: int, start: int, end: int) -> list[list[int]]:
    """Return the points without a track of each device, cut at pauses and where a track of the device lies between."""
    rows = connection.execute(
        f"SELECT id, timestamp, coalesce({dawarich.device(connection)}, ''), track_id FROM points WHERE user_id = %s "
        "AND timestamp BETWEEN %s AND %s AND anomaly IS NOT TRUE ORDER BY 3, timestamp, id",
        [user_id, start, end],
    ).fetchall()
    runs: list[list[int]] = [[]]
    for before, (id, time, name, track_id) in zip([(0, 0, None, None), *rows], rows, strict=False):
        if before[2] != name or time - before[1] > minutes * 60 or track_id is not None:
            runs.append([])
        if track_id is None:
            runs[-1].append(id)
    return [run for run in runs if len(run) > 1]


def _create(connection: Connection, user_id: int, points: list[int]) -> int:
    """Make a track of points, or take the one of the same device that has the same first and last second."""
    first = connection.execute(
        f"SELECT {dawarich.device(connection)} FROM points WHERE id = %s", [points[0]]
    ).fetchone()
    assert first is not None
    row = connection.execute(
        """
        INSERT INTO tracks (user_id, tracker_id, start_at, end_at, original_path, created_at, updated_at)
        SELECT %s, %s, to_timestamp(min(timestamp)) AT TIME ZONE 'UTC', to_timestamp(max(timestamp)) AT TIME ZONE 'UTC',
               ST_MakeLine(lonlat::geometry ORDER BY timestamp, id), now() AT TIME ZONE 'UTC',
               now() AT TIME ZONE 'UTC'
        FROM points WHERE id = ANY(%s)
        ON CONFLICT (user_id, COALESCE(tracker_id, ''::character varying), start_at, end_at)
        DO UPDATE SET updated_at = tracks.updated_at RETURNING id
        """,
        [user_id, first[0], points],
    ).fetchone()
    assert row is not None
    connection.execute("UPDATE points SET track_id = %s WHERE id = ANY(%s)", [row[0], points])
    _measure(connection, row[0])
    return int(row[0])


def _measure(connection: Connection, id: int) -> None:
    """Calculate what follows from a track's points, and its one leg."""
    connection.execute(
        """
        UPDATE tracks AS t SET start_at = n.start_at, end_at = n.end_at, duration = n.seconds, original_path = n.path,
               distance = ST_Length(n.path::geography), elevation_gain = 0, elevation_loss = 0, elevation_max = 0,
               elevation_min = 0, lock_version = lock_version + 1,
               avg_speed = ST_Length(n.path::geography) / greatest(n.seconds, 1) * 3.6
        FROM (SELECT to_timestamp(min(timestamp)) AT TIME ZONE 'UTC' AS start_at,
                     to_timestamp(max(timestamp)) AT TIME ZONE 'UTC' AS end_at, max(timestamp) - min(timestamp)
                     AS seconds, ST_MakeLine(lonlat::geometry ORDER BY timestamp, id) AS path
              FROM points WHERE track_id = %(id)s) AS n WHERE t.id = %(id)s
        """,
        {"id": id},
    )
    connection.execute("DELETE FROM track_segments WHERE track_id = %s AND corrected_at IS NULL", [id])
    connection.execute(
        "INSERT INTO track_segments (track_id, start_at, end_at, transportation_mode, source, created_at, updated_at) "
        "SELECT id, start_at AT TIME ZONE 'UTC', end_at AT TIME ZONE 'UTC', 5, 'inferred', now(), now() FROM tracks "
        "WHERE id = %s ON CONFLICT DO NOTHING",
        [id],
    )


def _destroy(connection: Connection, ids: list[int]) -> None:
    connection.execute("UPDATE points SET track_id = NULL WHERE track_id = ANY(%s)", [ids])
    connection.execute("DELETE FROM track_segments WHERE track_id = ANY(%s)", [ids])
    connection.execute("DELETE FROM tracks WHERE id = ANY(%s)", [ids])


def _apart_s(one: Any, other: Any) -> int:
    """Return the seconds between two tracks, 0 if they overlap."""
    return max(0, int(one[1] - other[2]), int(other[1] - one[2]))


def _ends(connection: Connection, id: int) -> np.ndarray:
    """Return longitude and latitude of the first and the last point of a track."""
    rows = connection.execute(
        "SELECT ST_X(lonlat::geometry), ST_Y(lonlat::geometry) FROM points WHERE track_id = %s ORDER BY timestamp, id",
        [id],
    ).fetchall()
    return np.array([rows[0], rows[-1]] if rows else [])


def _is_near(one: np.ndarray, other: np.ndarray) -> bool:
    """Say whether an end of one track is near an end of the other."""
    if not len(one) or not len(other):
        return False
    pairs = [np.array([a, b]) for a in one for b in other]
    return any(dawarich.haversine_m(pair[:, 0], pair[:, 1])[0] <= NEAR_M for pair in pairs)
