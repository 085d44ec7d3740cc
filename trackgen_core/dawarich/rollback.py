"""Everything put back as it was before Trackgen wrote tracks of a user into Dawarich."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from trackgen_core.dawarich import transactions
from trackgen_core.dawarich.mirror import Mirrored
from trackgen_core.dawarich.source import Dawarich
from trackgen_core.dawarich.tables import (
    FOREIGN,
    KEPT,
    OURS,
    copies,
    has_written,
    key_of,
    park,
    prepare,
    remove_tracks,
    shared_columns,
)
from trackgen_core.dawarich.transactions import TRACKS_AT_ONCE, WriteReport, alone, in_transaction, portions

STAYS: Final = "(SELECT s.track_id FROM trackgen.saved_points AS s WHERE s.id = p.id) IS NOT DISTINCT FROM p.track_id"
"""Whether a point of one of our tracks had the same track before, which will be there again."""


def rollback_user(dawarich: Dawarich, user: Mirrored) -> WriteReport:
    """Put a user's tracks back as they were before Trackgen wrote any, and forget that it did.

    Raises
    ------
    DatabaseError
        If somebody else writes for the user, or others hold locks for too long.
    """
    report = WriteReport(user.name)
    if not has_written(dawarich, user):
        return report
    connection = dawarich.connection
    with alone(connection, user):
        prepare(dawarich)
        for ids in _written(dawarich, user):
            _release(dawarich, ids, report)
            in_transaction(dawarich, report, _restore_tracks, ids, report)
        query = f"""
            SELECT p.id FROM points AS p LEFT JOIN trackgen.saved_points AS s USING (id)
            WHERE p.user_id = %(user)s AND p.track_id IS DISTINCT FROM s.track_id
              AND (s.id IS NOT NULL OR {OURS.format("p.track_id")}) AND NOT {FOREIGN}
            UNION  -- those that are somebody else's, or nobody's, by now
            SELECT p.id FROM points AS p JOIN trackgen.saved_points AS s USING (id)
            WHERE s.user_id = %(user)s AND p.track_id IS DISTINCT FROM s.track_id AND NOT {FOREIGN}
            """
        wrong = sorted(id for (id,) in connection.execute(query, {"user": user.dawarich_id}).fetchall())
        for portion in portions(wrong, transactions.POINTS_AT_ONCE):
            in_transaction(dawarich, report, _restore_points, portion, report)
        with connection.transaction():
            for table in KEPT:
                connection.execute(f"DELETE FROM trackgen.{table} WHERE user_id = %s", [user.dawarich_id])
    return report


def _written(dawarich: Dawarich, user: Mirrored) -> Iterator[list[int]]:
    """Yield the ids of tracks that are ours, or that were taken over, some at a time, with not too many points."""
    rows = dawarich.connection.execute(
        """
        SELECT id, (SELECT count(*) FROM points AS p WHERE p.track_id = written.id) FROM (
            SELECT id FROM trackgen.tracks WHERE user_id = %(user)s AND track_id IS NOT NULL
            UNION SELECT id FROM trackgen.saved_tracks WHERE user_id = %(user)s
        ) AS written ORDER BY id
        """,
        {"user": user.dawarich_id},
    ).fetchall()
    ids: list[int] = []
    points = 0
    for id, count in rows:
        if ids and (points + count > transactions.POINTS_AT_ONCE or len(ids) == TRACKS_AT_ONCE):
            yield ids
            ids, points = [], 0
        ids.append(id)
        points += count
    if ids:
        yield ids


def _release(dawarich: Dawarich, ids: list[int], report: WriteReport) -> None:
    """Take points off tracks that have more of them than one transaction should write, but for the first ones."""
    query = f"SELECT p.id FROM points AS p WHERE p.track_id = ANY(%s) AND NOT {STAYS} ORDER BY p.id"
    held = [id for (id,) in dawarich.connection.execute(query, [ids]).fetchall()]
    for portion in portions(held[transactions.POINTS_AT_ONCE :], transactions.POINTS_AT_ONCE):
        in_transaction(dawarich, report, _take_off, portion)


def _take_off(dawarich: Dawarich, ids: list[int]) -> None:
    dawarich.connection.execute("UPDATE points SET track_id = NULL WHERE id = ANY(%s)", [ids])


def _restore_tracks(dawarich: Dawarich, ids: list[int], report: WriteReport) -> None:
    """Put rows back in place of ours; their points follow."""
    connection = dawarich.connection
    query = "SELECT t.id FROM tracks AS t JOIN trackgen.saved_tracks AS s USING (id) WHERE t.id = ANY(%s)"
    adopted = [id for (id,) in connection.execute(query, [ids]).fetchall()]
    report.removed += remove_tracks(dawarich, [*({*ids} - {*adopted})]) + len(adopted)
    connection.execute(f"UPDATE points AS p SET track_id = NULL WHERE track_id = ANY(%s) AND NOT {STAYS}", [adopted])
    twins = _make_way(dawarich, ids) if dawarich.tracks_have_devices else []
    for table, copy in copies(dawarich):
        names = shared_columns(connection, table, copy)
        if table == "tracks":
            report.new += connection.execute(
                f"UPDATE tracks AS t SET ({names}) = "
                f"(SELECT {names} FROM trackgen.saved_tracks AS s WHERE s.id = t.id) WHERE t.id = ANY(%s)",
                [adopted],
            ).rowcount
            connection.execute("DELETE FROM trackgen.saved_tracks WHERE id = ANY(%s)", [adopted])
        else:
            connection.execute("DELETE FROM track_segments WHERE track_id = ANY(%s)", [adopted])
        done = connection.execute(
            f"WITH back AS (DELETE FROM trackgen.{copy} WHERE {key_of(table)} = ANY(%s) RETURNING {names}) "
            f"INSERT INTO {table} ({names}) SELECT {names} FROM back ORDER BY id",
            [ids],
        )
        if table == "tracks":
            report.new += done.rowcount
    for id, points in twins:
        connection.execute("UPDATE points SET track_id = %s WHERE id = ANY(%s)", [id, points])
    # Those that are Dawarich's again are no longer ours, but their ids still tell which points were.
    connection.execute("UPDATE trackgen.tracks SET track_id = NULL WHERE id = ANY(%s)", [ids])


def _make_way(dawarich: Dawarich, ids: list[int]) -> list[tuple[int, list[int]]]:
    """Remove, or move out of the way, rows that have the device and times of rows that are put back.

    Returns
    -------
    list of (int, list of int)
        What Dawarich has made since of the same device and times is the same track: the id that it had before, and
        the points that are to be given to it.
    """
    connection = dawarich.connection
    rows = connection.execute(
        f"""
        SELECT t.id, s.id, {OURS.format("t.id")} OR EXISTS (SELECT FROM trackgen.saved_tracks AS k WHERE k.id = t.id),
               (SELECT coalesce(array_agg(p.id), '{{}}') FROM points AS p WHERE p.track_id = t.id)
        FROM trackgen.saved_tracks AS s JOIN tracks AS t ON t.user_id = s.user_id AND t.start_at = s.start_at
         AND t.end_at = s.end_at AND coalesce(t.tracker_id, '') = coalesce(s.tracker_id, '') AND t.id <> s.id
        WHERE s.id = ANY(%s)
        """,
        [ids],
    ).fetchall()
    park(dawarich, [id for id, _, is_written, _ in rows if is_written])
    remove_tracks(dawarich, [id for id, _, is_written, _ in rows if not is_written])
    return [(id, points) for _, id, is_written, points in rows if not is_written]


def _restore_points(dawarich: Dawarich, ids: list[int], report: WriteReport) -> None:
    """Give points the track that they had; where a foreign key is, only if that is there."""
    known = " AND EXISTS (SELECT FROM tracks AS t WHERE t.id = s.track_id)" if dawarich.has_foreign_key else ""
    done = dawarich.connection.execute(
        "UPDATE points AS p SET track_id = "
        f"(SELECT track_id FROM trackgen.saved_points AS s WHERE s.id = p.id{known}) WHERE id = ANY(%s)",
        [ids],
    )
    report.points += done.rowcount
