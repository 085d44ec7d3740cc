"""What Trackgen keeps in Dawarich's database, in a schema of its own: which tracks are ours, and what was before."""

from __future__ import annotations

from typing import Any, Final

import psycopg

from trackgen_core.dawarich.mirror import Mirrored
from trackgen_core.dawarich.source import Dawarich

TABLES: Final = """
CREATE SCHEMA IF NOT EXISTS trackgen;
CREATE TABLE IF NOT EXISTS trackgen.tracks
    (id bigint PRIMARY KEY, user_id bigint NOT NULL, track_id text, digest bigint NOT NULL);
ALTER TABLE trackgen.tracks ADD COLUMN IF NOT EXISTS first_s bigint, ADD COLUMN IF NOT EXISTS last_s bigint;
CREATE INDEX IF NOT EXISTS tracks_by_user ON trackgen.tracks (user_id);
CREATE TABLE IF NOT EXISTS trackgen.saved_tracks (LIKE tracks INCLUDING DEFAULTS, PRIMARY KEY (id));
CREATE TABLE IF NOT EXISTS trackgen.saved_points
    (id bigint PRIMARY KEY, user_id bigint NOT NULL, track_id bigint NOT NULL);
CREATE INDEX IF NOT EXISTS saved_points_by_user ON trackgen.saved_points (user_id);
CREATE TABLE IF NOT EXISTS trackgen.taken_over (user_id bigint PRIMARY KEY, last_id bigint NOT NULL);
COMMENT ON TABLE trackgen.tracks IS 'The ids that Trackgen uses or has used in public.tracks; track_id is its own name';
COMMENT ON COLUMN trackgen.tracks.first_s IS 'First second of what was written; NULL: not known, or not all';
COMMENT ON TABLE trackgen.saved_points IS 'The track of points before Trackgen took it over';
COMMENT ON TABLE trackgen.taken_over IS 'Users whose tracks Trackgen has taken over; tracks after last_id are younger'
"""
KEPT: Final = ("tracks", "saved_tracks", "saved_points", "taken_over")
"""What is kept there of a user."""
SAVED_SEGMENTS: Final = """
CREATE TABLE IF NOT EXISTS trackgen.saved_segments (LIKE track_segments INCLUDING DEFAULTS, PRIMARY KEY (id))
"""

OURS: Final = "EXISTS (SELECT FROM trackgen.tracks AS o WHERE o.id = {0})"
"""The condition that an id of a track is or was ours."""
FOREIGN: Final = f"EXISTS (SELECT FROM tracks AS t WHERE t.id = p.track_id AND NOT {OURS.format('t.id')})"
"""Whether a point is one of a track that Dawarich made, and that was not taken over."""

_MISSING: Final = """
    SELECT a.attname, format_type(a.atttypid, a.atttypmod), pg_get_expr(d.adbin, d.adrelid)
    FROM pg_attribute AS a LEFT JOIN pg_attrdef AS d ON (d.adrelid, d.adnum) = (a.attrelid, a.attnum)
    WHERE a.attrelid = %s::regclass AND a.attnum > 0 AND NOT a.attisdropped AND a.attname NOT IN (
        SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped)
"""
"""The columns that one table has and another has not, with their types and defaults."""


def prepare(dawarich: Dawarich) -> None:
    """Make the schema `trackgen` in Dawarich's database, if it is not there; bring its copies up to date.

    An update of Dawarich may have added columns to what is saved, or dropped some: what was saved before gets the
    default of a new one, as the rows of Dawarich did.
    """
    connection = dawarich.connection
    with connection.transaction():
        connection.execute("SET LOCAL client_min_messages = warning")
        if not _is_there(connection, "taken_over"):
            connection.execute(TABLES)
        if dawarich.has("track_segments") and not _is_there(connection, "saved_segments"):
            connection.execute(SAVED_SEGMENTS)
        for table, copy in copies(dawarich):
            names = [table, f"trackgen.{copy}"]
            for name, kind, default in connection.execute(_MISSING, names).fetchall():
                given = f" DEFAULT {default}" if default else ""
                connection.execute(f'ALTER TABLE trackgen.{copy} ADD COLUMN "{name}" {kind}{given}')
            for name, *_ in connection.execute(_MISSING, names[::-1]).fetchall():
                connection.execute(f'ALTER TABLE trackgen.{copy} ALTER COLUMN "{name}" DROP NOT NULL')


def _is_there(connection: psycopg.Connection[Any], table: str) -> bool:
    return connection.execute("SELECT to_regclass(%s)", [f"trackgen.{table}"]).fetchone() != (None,)


def copies(dawarich: Dawarich) -> list[tuple[str, str]]:
    """Return the tables whose rows are saved, and what holds them."""
    both = [("tracks", "saved_tracks"), ("track_segments", "saved_segments")]
    return both if dawarich.has("track_segments") else both[:1]


def has_written(dawarich: Dawarich, user: Mirrored) -> bool:
    """Say whether Trackgen has written tracks of a user, and not put everything back."""
    there = [name for name in KEPT if _is_there(dawarich.connection, name)]
    any_of = (f"EXISTS (SELECT FROM trackgen.{name} WHERE user_id = %(user)s)" for name in there)
    query = f"SELECT {' OR '.join(any_of) or 'false'}"
    return dawarich.connection.execute(query, {"user": user.dawarich_id}).fetchone() == (True,)


def last_taken_over(dawarich: Dawarich, user: Mirrored) -> int | None:
    """Return the greatest id of a track when a user's tracks had been taken over, or None if they never were.

    Tracks with greater ids are made by Dawarich's jobs since, of the same points.
    """
    if not _is_there(dawarich.connection, "taken_over"):
        return None
    query = "SELECT last_id FROM trackgen.taken_over WHERE user_id = %s"
    row = dawarich.connection.execute(query, [user.dawarich_id]).fetchone()
    return None if row is None else int(row[0])


def note_taken_over(dawarich: Dawarich, user: Mirrored) -> None:
    """Note that all of a user's tracks are taken over now, if it is the first time."""
    dawarich.connection.execute(
        "INSERT INTO trackgen.taken_over SELECT %s, coalesce(max(id), 0) FROM tracks ON CONFLICT DO NOTHING",
        [user.dawarich_id],
    )


def save(dawarich: Dawarich, user: Mirrored, ids: list[int]) -> None:
    """Keep tracks of Dawarich as they are, before they are taken over."""
    for table, copy in copies(dawarich):
        names = shared_columns(dawarich.connection, table, copy)
        dawarich.connection.execute(
            f"INSERT INTO trackgen.{copy} ({names}) SELECT {names} FROM {table} WHERE {key_of(table)} = ANY(%s) "
            "ON CONFLICT DO NOTHING",
            [ids],
        )
    dawarich.connection.execute(
        "INSERT INTO trackgen.saved_points (id, user_id, track_id) SELECT id, %s, track_id FROM points "
        "WHERE track_id = ANY(%s) ON CONFLICT DO NOTHING",
        [user.dawarich_id, ids],
    )


def key_of(table: str) -> str:
    """Return the column in which a table of `copies` has the id of a track."""
    return "id" if table == "tracks" else "track_id"


def shared_columns(connection: psycopg.Connection[Any], table: str, copy: str) -> str:
    """Return the columns that a table and its copy both have, separated by commas."""
    query = """
        SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute
        WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped AND attname IN (
            SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped)
        """
    row = connection.execute(query, [table, f"trackgen.{copy}"]).fetchone()
    assert row is not None
    return str(row[0])


def remove_tracks(dawarich: Dawarich, ids: list[int]) -> int:
    """Delete tracks and their segments; points that still say that they are theirs are of none then.

    The points come first: since Dawarich 1.14.1, a foreign key forbids the other order.
    """
    dawarich.connection.execute("UPDATE points SET track_id = NULL WHERE track_id = ANY(%s)", [ids])
    if dawarich.has("track_segments"):
        dawarich.connection.execute("DELETE FROM track_segments WHERE track_id = ANY(%s)", [ids])
    return dawarich.connection.execute("DELETE FROM tracks WHERE id = ANY(%s)", [ids]).rowcount


def park(dawarich: Dawarich, ids: list[int]) -> None:
    """Move rows of tracks to a time where no others are, until they are written themselves."""
    dawarich.connection.execute(
        "UPDATE tracks SET start_at = timestamp 'epoch' - id * interval '1 s' WHERE id = ANY(%s)", [ids]
    )
