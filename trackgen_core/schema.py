"""The tables of the database, one schema for every dialect.

Times are epoch milliseconds in UTC, days are counted from 1970-01-01, lengths are mm and elevations cm; the views
`points_readable`, `tracks_readable` and `stays_readable` show them as people write them. What a column is says its
`comment`, which the database keeps, too, or its `doc`.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    DDL,
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    String,
    Table,
    UniqueConstraint,
    event,
)

from trackgen_core.climb import CLIMB_COLUMNS
from trackgen_core.points import ACTIVITIES
from trackgen_core.segmentation import BAND_COLUMNS, REST_COLUMNS

REVISION: Final = "0009"
"""The newest of the revisions in `migrations`, which make these tables of those of any older one."""

metadata: Final = MetaData()

schema_revision: Final = Table(
    "schema_revision",
    MetaData(),  # not one of ours: Alembic looks after it
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name="schema_revision_pkc"),
)
"""The revision of the tables; not under Alembic's usual name, for Dagster's storage may be in the same database."""

Name: Final = String().with_variant(String(collation="C"), "postgresql")
"""A text that is sorted by its code points everywhere."""

users = Table(
    "users",
    metadata,
    Column("user_id", Integer, primary_key=True),
    Column("name", Name, nullable=False, unique=True),
    Column("settings", String, nullable=False, server_default="{}", comment="JSON: what differs from the defaults"),
    Column("notify", Integer, nullable=False, server_default="1", comment="1: messages about this user are wanted"),
)

devices = Table(
    "devices",
    metadata,
    Column("device_id", Integer, primary_key=True),
    Column("user_id", ForeignKey("users.user_id"), nullable=False),
    Column("name", Name, nullable=False),
    UniqueConstraint("user_id", "name"),
)

points = Table(
    "points",
    metadata,
    Column("device_id", ForeignKey("devices.device_id"), nullable=False, doc="whose device, in the table devices"),
    Column("time_ms", BigInteger, nullable=False, doc="when, ms since 1970 UTC"),
    Column("lon", Float(53), nullable=False, doc="degrees, WGS84"),
    Column("lat", Float(53), nullable=False, doc="degrees, WGS84"),
    Column("altitude", Float(53), comment="m", doc="m above the ellipsoid or the sea, as the device says it"),
    Column("accuracy", Float(53), comment="m", doc="m, the radius that the device says it is sure of"),
    Column("speed", Float(53), comment="m/s", doc="m/s, as the device says it; no rule looks at it"),
    Column(
        "seq",
        SmallInteger,
        nullable=False,
        server_default="0",
        comment="position among points of one time stamp in their file",
        doc="its position among the points of one time stamp in their file, from 0",
    ),
    Column(
        "pause",
        SmallInteger,
        nullable=False,
        server_default="0",
        comment="1: the recording was stopped before this point",
        doc="1: the recording was stopped on purpose before this point",
    ),
    Column(
        "activity",
        SmallInteger,
        nullable=False,
        server_default="0",
        comment="code of what the source says of how somebody moved, 0: unknown",
        doc="how somebody moved, as the source says it: a place in points.ACTIVITIES, 0 where it is unknown",
    ),
    # Points are read along the key; those of one time stamp are then put in the order of `seq`.
    PrimaryKeyConstraint("device_id", "time_ms", "lon", "lat"),
    sqlite_with_rowid=False,
    postgresql_partition_by="RANGE (time_ms)",  # by months (UTC), as they are imported
)

dirty_days = Table(
    "dirty_days",
    metadata,
    Column("stage", String, nullable=False, comment="segments or tracks"),
    Column("user_id", ForeignKey("users.user_id"), nullable=False),
    Column("day", Integer, nullable=False),
    Column("version", BigInteger, nullable=False, comment="token of the transaction that touched the day last"),
    Column("listed_ms", BigInteger, nullable=False, comment="when the day was first listed and not done since"),
    Column("is_change", Integer, nullable=False, comment="1: points, settings or segments changed; 0: only asked for"),
    Column("attempts", Integer, nullable=False, server_default="0"),
    # An entry with an error is a dead letter, tried again only on demand.
    Column("error", String, comment="what the last attempt failed with"),
    PrimaryKeyConstraint("stage", "user_id", "day"),
    sqlite_with_rowid=False,
)

settings_used = Table(
    "settings_used",
    metadata,
    Column("settings_id", String, primary_key=True),
    Column("settings", String, nullable=False, comment="JSON"),
)

segments = Table(
    "segments",
    metadata,
    Column("device_id", ForeignKey("devices.device_id"), nullable=False, doc="whose device, in the table devices"),
    Column("day", Integer, nullable=False, doc="the partition: days since 1970 UTC"),
    Column("number", Integer, nullable=False, doc="counts the segments of a day of a device"),
    Column("local_day", Integer, nullable=False, comment="in the user's time zone"),
    Column("is_stay", Integer, nullable=False, doc="1: at rest, 0: on the way"),
    Column("continues", Integer, nullable=False, comment="1: the same rest as the segment before"),
    Column("first_ms", BigInteger, nullable=False, doc="the first point, ms since 1970 UTC"),
    Column("first_lon", Float(53), nullable=False, doc="degrees"),
    Column("first_lat", Float(53), nullable=False, doc="degrees"),
    Column("last_ms", BigInteger, nullable=False, doc="the last point, ms since 1970 UTC"),
    Column("last_lon", Float(53), nullable=False, doc="degrees"),
    Column("last_lat", Float(53), nullable=False, doc="degrees"),
    Column("points", Integer, nullable=False, doc="points of its own"),
    Column("length_mm", BigInteger, nullable=False, doc="the sum of its hops, WGS84 geodesics, mm"),
    Column("told_by", Integer, nullable=False, comment="pace, or mode by hand"),
    *(
        Column(name, BigInteger, nullable=False, doc=f"ms at the speeds of band {band}")
        for band, name in enumerate(BAND_COLUMNS)
    ),
    *(Column(name, BigInteger, doc="a part of the climb, of altitudes in cm") for name in CLIMB_COLUMNS),
    Column("start_cm", BigInteger, comment="altitude of the first point"),
    Column("end_cm", BigInteger, doc="altitude of the last point"),
    *(Column(name, BigInteger, nullable=False, doc="of a stay: a part of where it is") for name in REST_COLUMNS),
    Column("settings_id", ForeignKey("settings_used.settings_id"), nullable=False, doc="by which settings it was made"),
    Column("digest", BigInteger, nullable=False, doc="a sum over its points: tells whether anything changed"),
    Column("path", LargeBinary, nullable=False, comment="float64 pairs lon, lat"),
    PrimaryKeyConstraint("device_id", "day", "number"),
)

tracks = Table(
    "tracks",
    metadata,
    Column("track_id", String, primary_key=True, doc="UUIDv5 of user, device and first point"),
    Column("device_id", ForeignKey("devices.device_id"), nullable=False, doc="whose device, in the table devices"),
    Column("started_ms", BigInteger, nullable=False, doc="ms since 1970 UTC; its day is the partition"),
    Column("ended_ms", BigInteger, nullable=False, doc="ms since 1970 UTC"),
    Column("start_lon", Float(53), nullable=False, doc="degrees"),
    Column("start_lat", Float(53), nullable=False, doc="degrees"),
    Column("end_lon", Float(53), nullable=False, doc="degrees"),
    Column("end_lat", Float(53), nullable=False, doc="degrees"),
    Column("points", Integer, nullable=False, doc="points of its own; ends shared with stays are those of the stays"),
    Column("length_mm", BigInteger, nullable=False, doc="the sum of its hops, WGS84 geodesics, mm"),
    Column("duration_ms", BigInteger, nullable=False, doc="from the first point to the last"),
    Column("moving_ms", BigInteger, nullable=False, doc="time in hops that are no standing"),
    Column("avg_speed_kmh", Float(53), nullable=False, doc="length by duration"),
    Column("elevation_gain_cm", BigInteger, doc="rises of at least climb_threshold_m"),
    Column("elevation_loss_cm", BigInteger, doc="falls of at least climb_threshold_m"),
    Column("elevation_min_cm", BigInteger, doc="the lowest altitude"),
    Column("elevation_max_cm", BigInteger, doc="the highest altitude"),
    Column("mode", String, nullable=False, comment="how most of the time was spent"),
    Column("break_reason", String, nullable=False, doc="why it begins here"),
    Column("settings_id", ForeignKey("settings_used.settings_id"), nullable=False, doc="by which settings it was made"),
    Column("digest", BigInteger, nullable=False, doc="a sum over its points: tells whether anything changed"),
    Column("path", LargeBinary, nullable=False, comment="WKB, lon/lat"),
    Index("tracks_by_start", "device_id", "started_ms"),
)

legs = Table(
    "legs",
    metadata,
    Column("track_id", String, nullable=False),
    Column("number", Integer, nullable=False),
    Column("mode", String, nullable=False),
    Column("confidence", Integer, nullable=False, comment="percent"),
    Column("by_hand", Integer, nullable=False, comment="1: somebody set the mode"),
    Column("started_ms", BigInteger, nullable=False),
    Column("ended_ms", BigInteger, nullable=False),
    Column("length_mm", BigInteger, nullable=False),
    Column("moving_ms", BigInteger, nullable=False),
    PrimaryKeyConstraint("track_id", "number"),
    sqlite_with_rowid=False,
)
"""The legs of each track, written and deleted together with it."""

edits = Table(
    "edits",
    metadata,
    Column("edit_id", Integer, primary_key=True),
    Column("device_id", ForeignKey("devices.device_id"), nullable=False),
    Column("kind", String, nullable=False, comment="split, merge or mode"),
    Column("before_ms", BigInteger, nullable=False, comment="the instants on either side"),
    Column("after_ms", BigInteger, nullable=False),
    Column("mode", String),
    Column("made_ms", BigInteger, nullable=False, comment="when somebody said so"),
    sqlite_autoincrement=True,  # the number of an edit that was undone is not given to another
)

stays = Table(
    "stays",
    metadata,
    Column("stay_id", String, primary_key=True),
    Column("device_id", ForeignKey("devices.device_id"), nullable=False),
    Column("started_ms", BigInteger, nullable=False),
    Column("ended_ms", BigInteger, nullable=False),
    Column("start_lon", Float(53), nullable=False),
    Column("start_lat", Float(53), nullable=False),
    Column("end_lon", Float(53), nullable=False),
    Column("end_lat", Float(53), nullable=False),
    Column("lon", Float(53), nullable=False),
    Column("lat", Float(53), nullable=False),
    Column("radius_cm", BigInteger, nullable=False),
    Column("points", Integer, nullable=False),
    Column("duration_ms", BigInteger, nullable=False),
    Column("break_reason", String, nullable=False),
    Column("settings_id", ForeignKey("settings_used.settings_id"), nullable=False),
    Column("digest", BigInteger, nullable=False),
    Index("stays_by_start", "device_id", "started_ms"),
)

noise = Table(
    "noise",
    metadata,
    Column("device_id", ForeignKey("devices.device_id"), nullable=False),
    Column("time_ms", BigInteger, nullable=False),
    Column("lon", Float(53), nullable=False),
    Column("lat", Float(53), nullable=False),
    Column("reason", String, nullable=False),
    PrimaryKeyConstraint("device_id", "time_ms", "lon", "lat"),
    sqlite_with_rowid=False,
)

item_days = Table(
    "item_days",
    metadata,
    Column("item_id", String, nullable=False, comment="track_id or stay_id"),
    Column("local_day", Integer, nullable=False, comment="in the user's time zone"),
    Column("user_id", ForeignKey("users.user_id"), nullable=False),
    Column("is_stay", Integer, nullable=False),
    Column("points", Integer, nullable=False),
    Column("length_mm", BigInteger, nullable=False),
    Column("moving_ms", BigInteger, nullable=False),
    Column("rest_ms", BigInteger, nullable=False),
    Column("gain_cm", BigInteger, nullable=False),
    Column("loss_cm", BigInteger, nullable=False),
    PrimaryKeyConstraint("item_id", "local_day"),
    Index("item_days_by_day", "local_day", "user_id"),
)
"""The share that each track and stay has in each day, written and deleted together with it."""

ONLY_SQLITE_CHECKS: Final = (points, segments, tracks, stays, noise, item_days)
"""Tables without foreign keys in PostgreSQL: these would cost a third of an import and a fifth of a generation.

There, triggers look at the points that other programs write; results are written by nobody but Trackgen, and in
transactions that have just read the ids.
"""

for table in ONLY_SQLITE_CHECKS:
    for reference in table.foreign_key_constraints:
        reference.ddl_if(dialect="sqlite")

dawarich_users = Table(
    "dawarich_users",
    metadata,
    Column("user_id", ForeignKey("users.user_id"), primary_key=True),
    Column("dawarich_id", BigInteger, nullable=False, unique=True, comment="of the user in Dawarich"),
    Column("state", String, nullable=False, comment="off, shadow or on"),
    Column("token", String, comment="of the triggers that told all changes since the user was mirrored last"),
)
"""The users whose points are mirrored from Dawarich."""

dawarich_default = Table(
    "dawarich_default",
    metadata,
    Column("state", String, primary_key=True, comment="off, shadow or on"),
)
"""The state of users to come, in one row; shadow, if there is none."""

dawarich_days = Table(
    "dawarich_days",
    metadata,
    Column("user_id", ForeignKey("dawarich_users.user_id"), nullable=False),
    Column("day", BigInteger, nullable=False),
    Column("points", BigInteger, nullable=False, comment="in Dawarich, when they were mirrored"),
    Column("digest", BigInteger, nullable=False, comment="sum of the hashes of these points"),
    PrimaryKeyConstraint("user_id", "day"),
    sqlite_with_rowid=False,
)
"""The days that were mirrored from Dawarich, written together with their points."""

POINTS_DDL: Final = (
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
"""What follows the table of points in PostgreSQL: triggers for points that other programs write, which list their days,
and refuse those of unknown devices.

Writers of Trackgen list them themselves, and say so in the variable `trackgen.lists_days`.
"""

for statement in POINTS_DDL:
    event.listen(metadata, "after_create", DDL(statement.replace("%", "%%")).execute_if(dialect="postgresql"))

_EDGE_SEGMENT: Final = """EXISTS (SELECT 1 FROM (
        SELECT {edge}_ms, {edge}_lon, {edge}_lat FROM segments AS s WHERE s.device_id = {{0}}.device_id
        ORDER BY s.day {order}, s.number {order} LIMIT 1) AS edge
    WHERE ({edge}_ms, {edge}_lon, {edge}_lat) <> ({{0}}.{item}ed_ms, {{0}}.{item}_lon, {{0}}.{item}_lat))"""

# An item is the first of its device, or still going on, if nothing that is no noise was recorded before or after it,
# however late that came in: nothing but looking tells, so neither is ever stored.
IS_LATER: Final = _EDGE_SEGMENT.format(edge="first", order="ASC", item="start")
IS_EARLIER: Final = _EDGE_SEGMENT.format(edge="last", order="DESC", item="end")

daily_summaries = Table(
    "daily_summaries",
    MetaData(),  # a view, made along with the others
    Column("user", String, doc="the name of the user"),
    Column("day", String, doc="the day in the user's time zone, as in 2025-06-01"),
    Column("km", Float(53), doc="length of tracks"),
    Column("moving_hours", Float(53), doc="time in hops that are no standing"),
    Column("tracks", Integer, doc="tracks under way on the day"),
    Column("stays", Integer, doc="stays under way on the day"),
    Column("rest_hours", Float(53), doc="time in stays"),
    Column("elevation_gain_m", Float(53), doc="rises of at least climb_threshold_m"),
    Column("elevation_loss_m", Float(53), doc="falls of at least climb_threshold_m"),
)
"""What the view of that name shows: the sums of `item_days`."""


def _activity_name() -> str:
    """Return the SQL of the name of a point's activity, NULL where it is unknown."""
    names = " ".join(f"WHEN {code} THEN '{name}'" for code, name in enumerate(ACTIVITIES) if name)
    return f"CASE activity {names} END"


VIEWS: Final = {
    "points_readable": f"""
        SELECT users.name AS "user", devices.name AS device, {{time_ms:points.time_ms}} AS "timestamp",
               lon, lat, altitude, accuracy, speed, seq, pause, {_activity_name()} AS activity
        FROM points JOIN devices USING (device_id) JOIN users USING (user_id)""",
    "tracks_readable": f"""
        SELECT track_id, users.name AS "user", devices.name AS device,
               {{time_ms:started_ms}} AS started_at, {{time_ms:ended_ms}} AS ended_at, points,
               length_mm / 1000.0 AS distance_m, duration_ms / 1000.0 AS duration_s, moving_ms / 1000.0 AS moving_s,
               avg_speed_kmh,
               elevation_gain_cm / 100.0 AS elevation_gain_m, elevation_loss_cm / 100.0 AS elevation_loss_m,
               elevation_min_cm / 100.0 AS elevation_min_m, elevation_max_cm / 100.0 AS elevation_max_m, mode,
               CASE WHEN {IS_LATER.format("tracks")} THEN break_reason ELSE 'start' END AS break_reason,
               settings_id, path
        FROM tracks JOIN devices USING (device_id) JOIN users USING (user_id)""",
    "stays_readable": f"""
        SELECT stay_id, users.name AS "user", devices.name AS device,
               {{time_ms:started_ms}} AS started_at, {{time_ms:ended_ms}} AS ended_at, points,
               duration_ms / 1000.0 AS duration_s, lon, lat, radius_cm / 100.0 AS radius_m,
               CASE WHEN {IS_LATER.format("stays")} THEN break_reason ELSE 'start' END AS break_reason,
               NOT {IS_EARLIER.format("stays")} AS is_ongoing, settings_id
        FROM stays JOIN devices USING (device_id) JOIN users USING (user_id)""",
    "legs_readable": """
        SELECT track_id, number, users.name AS "user", devices.name AS device, legs.mode, confidence, by_hand,
               {time_ms:legs.started_ms} AS started_at, {time_ms:legs.ended_ms} AS ended_at,
               legs.length_mm / 1000.0 AS distance_m, (legs.ended_ms - legs.started_ms) / 1000.0 AS duration_s,
               legs.moving_ms / 1000.0 AS moving_s
        FROM legs JOIN tracks USING (track_id) JOIN devices USING (device_id) JOIN users USING (user_id)""",
    "daily_summaries": """
        SELECT users.name AS "user", {day:local_day} AS day,
               sum(length_mm) / 1e6 AS km, sum(moving_ms) / 3.6e6 AS moving_hours,
               sum(1 - is_stay) AS tracks, sum(is_stay) AS stays, sum(rest_ms) / 3.6e6 AS rest_hours,
               sum(gain_cm) / 100.0 AS elevation_gain_m, sum(loss_cm) / 100.0 AS elevation_loss_m
        FROM item_days JOIN users USING (user_id) GROUP BY users.name, local_day""",
    "noise_readable": """
        SELECT users.name AS "user", devices.name AS device, {time_ms:noise.time_ms} AS "timestamp", lon, lat, reason
        FROM noise JOIN devices USING (device_id) JOIN users USING (user_id)""",
}
"""Views by name; `{time_ms:COLUMN}` stands for the dialect's ISO 8601 of a column of epoch milliseconds, `{day:COLUMN}`
for that of a column of days."""
