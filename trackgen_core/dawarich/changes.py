"""Triggers in Dawarich's database that list the days whose points change, so that nobody has to read all points.

They only append: to a table without keys, sequences and indexes, so that writers never wait for one another because
of it. Who mirrors deletes what is listed in the transaction in which the points are read, which sees one state of both.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection
from typing import Final

import pandas as pd

from trackgen_core.dawarich.source import SECONDS_PER_DAY, Dawarich

READ: Final = ("user_id", "timestamp", "lonlat", "altitude", "accuracy")
READ_IF_THERE: Final = ("tracker_id", "source_id", "altitude_decimal", "anomaly", "deleted_at")
"""What `source` reads of a point."""

FUNCTION: Final = "trackgen.list_changed_days"

TABLES: Final = """
CREATE SCHEMA IF NOT EXISTS trackgen;
CREATE TABLE trackgen.changed_days (user_id bigint, day bigint);
CREATE TABLE trackgen.mirrored (token text NOT NULL);
INSERT INTO trackgen.mirrored VALUES ('');
COMMENT ON TABLE trackgen.changed_days IS 'Days (UTC) whose points changed since they were mirrored; NULL: any day';
COMMENT ON TABLE trackgen.mirrored IS 'By whom, and when: only who has the same token knows all that was listed before'
"""

_DAY: Final = f"floor({{0}}.timestamp / {SECONDS_PER_DAY}.0)::bigint"
_BODY: Final = f"""
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        INSERT INTO trackgen.changed_days VALUES (NULL, NULL);
    ELSIF TG_OP = 'UPDATE' THEN
        INSERT INTO trackgen.changed_days
        SELECT DISTINCT one.user_id, {_DAY.format("one")}
        FROM was FULL JOIN became USING (id)
        CROSS JOIN LATERAL (VALUES (was.user_id, was.timestamp), (became.user_id, became.timestamp))
            AS one (user_id, timestamp)
        WHERE ({{was}}) IS DISTINCT FROM ({{became}}) AND one.user_id IS NOT NULL AND one.timestamp IS NOT NULL;
    ELSE
        INSERT INTO trackgen.changed_days
        SELECT DISTINCT one.user_id, {_DAY.format("one")}
        FROM touched AS one WHERE one.user_id IS NOT NULL AND one.timestamp IS NOT NULL;
    END IF;
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN  -- a column is not what it was: Dawarich goes on, and who mirrors has to read everything
    INSERT INTO trackgen.changed_days VALUES (NULL, NULL);
    RETURN NULL;
END
"""
TRIGGERS: Final = {
    "trackgen_inserted": "INSERT ON points REFERENCING NEW TABLE AS touched",
    "trackgen_updated": "UPDATE ON points REFERENCING OLD TABLE AS was NEW TABLE AS became",
    "trackgen_deleted": "DELETE ON points REFERENCING OLD TABLE AS touched",
    "trackgen_truncated": "TRUNCATE ON points",
}


def _body(dawarich: Dawarich) -> str:
    """Return the body of the function; places are compared bit by bit, wherever PostGIS has its operators."""
    names = (*READ, *(name for name in READ_IF_THERE if dawarich.has("points", name)))
    was, became = (
        ", ".join(f"{row}.{name}{'::bytea' if name == 'lonlat' else ''}" for name in names) for row in ("was", "became")
    )
    return _BODY.format(was=was, became=became)


def install(dawarich: Dawarich) -> None:
    """Make the triggers, in place of those that are there: in a transaction, which locks the points as it does so."""
    remove(dawarich)
    # Whoever writes points may have no rights on what the function writes.
    dawarich.connection.execute(
        f"{TABLES};\nCREATE FUNCTION {FUNCTION}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER "
        f"SET search_path = pg_catalog, pg_temp AS $${_body(dawarich)}$$"
    )
    for name, event in TRIGGERS.items():
        dawarich.connection.execute(
            f"CREATE TRIGGER {name} AFTER {event} FOR EACH STATEMENT EXECUTE FUNCTION {FUNCTION}()"
        )


def remove(dawarich: Dawarich) -> None:
    """Remove the triggers, and what they have listed."""
    dawarich.connection.execute("SET LOCAL client_min_messages = warning")
    dawarich.connection.execute(f"DROP FUNCTION IF EXISTS {FUNCTION} CASCADE")
    dawarich.connection.execute("DROP TABLE IF EXISTS trackgen.changed_days, trackgen.mirrored")


def state(dawarich: Dawarich) -> str:
    """Say whether the triggers are there, and list all that is read; if not, nobody relies on them."""
    query = """
        SELECT count(*), count(*) FILTER (WHERE t.tgenabled IN ('O', 'A') AND p.prosrc = %s)
        FROM pg_trigger AS t JOIN pg_proc AS p ON p.oid = t.tgfoid
        WHERE t.tgrelid = 'points'::regclass AND p.pronamespace = to_regnamespace('trackgen')
        """
    found, sound = dawarich.connection.execute(query, [_body(dawarich)]).fetchone() or (0, 0)
    if found == 0:
        return "none"
    return "installed" if sound == len(TRIGGERS) else "not as they should be: `trackgen dawarich triggers install`"


def token(dawarich: Dawarich) -> str | None:
    """Return what who mirrored last left there, or None if the days that are listed are not all, or cannot be taken."""
    query = """
        SELECT bool_and(has_schema_privilege(relnamespace, 'USAGE') AND has_table_privilege(oid, 'SELECT')
               AND has_table_privilege(oid, CASE relname WHEN 'mirrored' THEN 'UPDATE' ELSE 'DELETE' END))
        FROM pg_class WHERE relnamespace = to_regnamespace('trackgen') AND relname IN ('changed_days', 'mirrored')
        """
    if dawarich.connection.execute(query).fetchone() != (True,) or state(dawarich) != "installed":
        return None
    row = dawarich.connection.execute("SELECT token FROM trackgen.mirrored").fetchone()
    assert row is not None
    return str(row[0])


def take(dawarich: Dawarich, others: Collection[int]) -> pd.DataFrame:
    """Take the days that are listed, but for those of some users who are not mirrored this time.

    Returns
    -------
    DataFrame
        `id` (of a user) and `day`, each pair once; a row without either stands for all days of everybody.
    """
    rows = dawarich.connection.execute(
        "DELETE FROM trackgen.changed_days WHERE user_id IS NULL OR NOT user_id = ANY(%s) RETURNING user_id, day",
        [[*others]],
    ).fetchall()
    return pd.DataFrame(rows, columns=["id", "day"], dtype="Int64").drop_duplicates()


def leave_token(dawarich: Dawarich) -> str:
    """Leave a new token, which counts once the transaction is committed.

    A state of the database that was put back from a backup has an older one; so have others who mirror it.
    """
    token = secrets.token_hex(8)
    dawarich.connection.execute("UPDATE trackgen.mirrored SET token = %s", [token])
    return token
