"""In PostgreSQL, points by month, and triggers that list the days of those that others write; all days are listed."""

from __future__ import annotations

import time
from itertools import pairwise

import pandas as pd
from alembic import op

revision = "0005"
down_revision = "0004"

POINTS_DDL = (
    # What other programs add of months that nothing was imported of.
    "CREATE TABLE points_other PARTITION OF points DEFAULT",
    """
    CREATE FUNCTION list_touched_days() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF EXISTS (SELECT FROM touched LEFT JOIN devices USING (device_id) WHERE user_id IS NULL) THEN
            RAISE foreign_key_violation USING MESSAGE = 'points of a device that is not in the table devices';
        END IF;
        INSERT INTO dirty_days (stage, user_id, day, version, listed_ms, is_change)
        WITH days AS (
            SELECT device_id, time_ms / 86400000 AS day, min(time_ms) AS lo_ms, max(time_ms) AS hi_ms
            FROM touched GROUP BY device_id, time_ms / 86400000
        ), with_neighbours AS (  -- in whose buffers of six hours these points lie
            SELECT device_id, day FROM days
            UNION ALL
            SELECT device_id, day - 1 FROM days WHERE EXISTS (
                SELECT FROM points AS p WHERE p.device_id = days.device_id
                AND p.time_ms BETWEEN days.lo_ms - 21600000 AND days.day * 86400000 - 1)
            UNION ALL
            SELECT device_id, day + 1 FROM days WHERE EXISTS (
                SELECT FROM points AS p WHERE p.device_id = days.device_id
                AND p.time_ms BETWEEN (days.day + 1) * 86400000 AND days.hi_ms + 21600000)
        ), version AS MATERIALIZED (
            SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS ms,
                   floor(random() * 1048576)::bigint AS token
        )
        SELECT DISTINCT 'segments', user_id, day, ms << 20 | token, ms, 1
        FROM with_neighbours JOIN devices USING (device_id) CROSS JOIN version ORDER BY user_id, day
        ON CONFLICT (stage, user_id, day)
        DO UPDATE SET version = excluded.version, is_change = 1, attempts = 0, error = NULL;
        RETURN NULL;
    END $$
    """,
    *(
        f"CREATE TRIGGER points_{name} AFTER {operation} ON points REFERENCING {rows} TABLE AS touched "
        "FOR EACH STATEMENT WHEN (current_setting('trackgen.lists_days', true) IS DISTINCT FROM 'yes') "
        "EXECUTE FUNCTION list_touched_days()"
        for name, operation, rows in (
            ("inserted", "INSERT", "NEW"),
            ("deleted", "DELETE", "OLD"),
            ("changed_from", "UPDATE", "OLD"),
            ("changed_to", "UPDATE", "NEW"),
        )
    ),
)


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        partition_points()
    now_ms = time.time_ns() // 1_000_000  # digests are made in another way
    op.execute(f"""
        INSERT INTO dirty_days (stage, user_id, day, version, listed_ms, is_change)
        SELECT DISTINCT 'segments', user_id, day, {now_ms << 20}, {now_ms}, 1
        FROM segments JOIN devices USING (device_id) WHERE true ON CONFLICT DO NOTHING
    """)


def partition_points() -> None:
    op.execute("ALTER TABLE points RENAME TO old_points")
    op.execute("ALTER INDEX points_pkey RENAME TO old_points_pkey")
    op.execute("""
        CREATE TABLE points (
            device_id INTEGER NOT NULL,
            time_ms BIGINT NOT NULL,
            lon FLOAT(53) NOT NULL,
            lat FLOAT(53) NOT NULL,
            altitude FLOAT(53),
            accuracy FLOAT(53),
            speed FLOAT(53),
            PRIMARY KEY (device_id, time_ms, lon, lat)
        ) PARTITION BY RANGE (time_ms)
    """)
    for name, unit in (("altitude", "m"), ("accuracy", "m"), ("speed", "m/s")):
        op.execute(f"COMMENT ON COLUMN points.{name} IS '{unit}'")
    first, last = op.get_bind().exec_driver_sql("SELECT min(time_ms), max(time_ms) FROM old_points").one()
    if first is not None:
        start, end = (pd.Timestamp(ms, unit="ms").to_period("M") for ms in (first, last))
        for month, after in pairwise(pd.period_range(start, end + 1, freq="M")):
            lo_ms, hi_ms = (period.start_time.value // 1_000_000 for period in (month, after))
            op.execute(f"CREATE TABLE points_{month:%Y_%m} PARTITION OF points FOR VALUES FROM ({lo_ms}) TO ({hi_ms})")
    op.execute("INSERT INTO points SELECT device_id, time_ms, lon, lat, altitude, accuracy, speed FROM old_points")
    op.execute("DROP TABLE old_points")
    for statement in POINTS_DDL:
        op.execute(statement)
