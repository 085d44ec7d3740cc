"""The database of Dawarich: what is there, and what of it is read.

Everything is read in place, in transactions that only read; its tables are never changed but by `writing`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Any, Final, Literal, NamedTuple
from zoneinfo import ZoneInfo

import pandas as pd
import psycopg
from psycopg.conninfo import conninfo_to_dict

from trackgen_core.copying import copy_out
from trackgen_core.database import DatabaseError
from trackgen_core.dawarich.time_zones import RAILS_ZONES
from trackgen_core.points import NO_TIME

SECONDS_PER_DAY: Final = 86_400

NEEDED: Final = {
    "users": ("id", "email", "settings"),
    "points": ("id", "user_id", "track_id", "timestamp", "lonlat", "altitude", "accuracy"),
    "tracks": (
        *("id", "user_id", "start_at", "end_at", "original_path", "distance", "avg_speed", "duration"),
        *("elevation_gain", "elevation_loss", "elevation_max", "elevation_min", "created_at", "updated_at"),
    ),
}
"""Tables and columns without which this is no database of Dawarich that Trackgen knows."""
KNOWN: Final = (*NEEDED, "track_segments", "point_sources")
"""Tables of which it is known what columns they have."""

IMPORTED: Final = ("google_phone_takeout", "google_semantic_history", "polarsteps")
"""Sources of segments that Dawarich did not infer: as it ranks them, they count as much as a correction by hand."""

DEFAULTS: Final = {"minutes_between_routes": 30, "meters_between_routes": 500}
"""What Dawarich takes where a user has said nothing; and what is taken where what is there is no number above 0."""
MOST: Final = {"minutes_between_routes": 1440, "meters_between_routes": 40_000_000}

POINT_DTYPES: Final = {
    "time_ms": "int64",
    "lon": "float64",
    "lat": "float64",
    "altitude": "float64",
    "accuracy": "float64",
    "device": "object",
}
TRACK_DTYPES: Final = {
    **dict.fromkeys(("id", "started_s", "ended_s", "distance_m", "points"), "int64"),
    "device": "object",
}
"""A track as Dawarich has it: `points` are those that say that they are its own; `device` is None if these are of
several devices, or if there are none and the track does not name its device."""

FETCH_ROWS: Final = 50_000

MIRROR: Final = int.from_bytes(b"tgdwm")
"""The advisory lock of who mirrors."""
TURN_S: Final = 3
"""How long to wait for others who do."""


class User(NamedTuple):
    """A user of Dawarich."""

    id: int
    email: str
    settings: Any
    """The column `settings`, whatever is in it."""


class Dawarich:
    """An open database of Dawarich.

    Parameters
    ----------
    connection : psycopg.Connection
        A connection to it.
    name : str
        What it is called in messages: its URL without a password.

    Raises
    ------
    DatabaseError
        If a table or column is missing.
    """

    def __init__(self, connection: psycopg.Connection[Any], name: str) -> None:
        self.connection = connection
        self.name = name
        rows = connection.execute(
            "SELECT table_name::text, column_name::text FROM information_schema.columns "
            "WHERE table_name = ANY(%s) AND table_schema = ANY(current_schemas(false))",
            [[*KNOWN]],
        ).fetchall()
        self.columns = {table: {column for of, column in rows if of == table} for table, _ in rows}
        for table, columns in NEEDED.items():
            if missing := [column for column in columns if column not in self.columns.get(table, ())]:
                raise DatabaseError(
                    f"{name}: no database of Dawarich that Trackgen knows: table {table} lacks {', '.join(missing)} "
                    "(or this database user may not see them)"
                )
        self.has_sources = self.has("points", "source_id") and self.has("point_sources", "tracker_id")
        if not self.has_sources and not self.has("points", "tracker_id"):
            raise DatabaseError(
                f"{name}: the device of a point is neither in points.tracker_id nor in point_sources.tracker_id "
                "(or this database user may not see them)"
            )

    def has(self, table: str, column: str = "id") -> bool:
        """Say whether there is a column; versions of Dawarich differ."""
        return column in self.columns.get(table, ())

    @property
    def schema_version(self) -> str:
        """The number of Dawarich's newest migration."""
        row = self.connection.execute("SELECT max(version) FROM schema_migrations").fetchone()
        return str(row[0]) if row and row[0] else "unknown"

    def may_write(self) -> bool:
        """Say whether this database user may do what `writing` does."""
        row = self.connection.execute(
            """
            SELECT has_table_privilege('tracks', 'INSERT') AND has_table_privilege('tracks', 'UPDATE')
               AND has_table_privilege('tracks', 'DELETE') AND has_column_privilege('points', 'track_id', 'UPDATE')
               AND coalesce(has_table_privilege(to_regclass('track_segments'), 'INSERT')
                            AND has_table_privilege(to_regclass('track_segments'), 'DELETE'), true)
               AND (to_regnamespace('trackgen') IS NOT NULL OR has_database_privilege(current_database(), 'CREATE'))
            """
        ).fetchone()
        return bool(row and row[0])

    @property
    def device(self) -> str:
        """The device of a row of `points AS p` with `sources` joined; '' if it names none."""
        if not self.has_sources:
            return "coalesce(p.tracker_id, '')"
        if not self.has("points", "tracker_id"):
            return "coalesce(s.tracker_id, '')"
        return "coalesce(CASE WHEN p.source_id IS NULL THEN p.tracker_id ELSE s.tracker_id END, '')"

    @property
    def sources(self) -> str:
        """What `device` needs behind `points AS p`."""
        return "LEFT JOIN point_sources AS s ON s.id = p.source_id" if self.has_sources else ""

    @property
    def tracks_have_devices(self) -> bool:
        """Whether tracks name their device, by which Dawarich joins tracks and gives points back to them."""
        return self.has("tracks", "tracker_id")

    @cached_property
    def has_foreign_key(self) -> bool:
        """Whether the database refuses a point whose track is not there."""
        query = (
            "SELECT FROM pg_constraint WHERE contype = 'f' AND conrelid = 'points'::regclass "
            "AND confrelid = 'tracks'::regclass"
        )
        return self.connection.execute(query).fetchone() is not None

    @property
    def protected(self) -> str:
        """The condition that makes a row of `tracks AS t` one that Dawarich keeps when it makes tracks anew."""
        conditions = [f"t.{name}" for name in ("demo",) if self.has("tracks", name)]
        if self.has("tracks", "import_id"):
            conditions.append("t.import_id IS NOT NULL")
        if self.has("track_segments"):
            corrected = "g.corrected_at IS NOT NULL OR " if self.has("track_segments", "corrected_at") else ""
            sources = ", ".join(f"'{source}'" for source in IMPORTED)
            conditions.append(
                "EXISTS (SELECT FROM track_segments AS g "
                f"WHERE g.track_id = t.id AND ({corrected}g.source IN ({sources})))"
            )
        return f"({' OR '.join(conditions) or 'false'})"

    @property
    def points_of_track(self) -> str:
        """A join to `tracks AS t` that tells, as `n`, how many `points` it has, and its `device`."""
        named = "t.tracker_id, " if self.tracks_have_devices else ""
        return f"""
            CROSS JOIN LATERAL (
                SELECT count(*) AS points,
                       coalesce({named}CASE WHEN min({self.device}) = max({self.device}) THEN min({self.device}) END)
                       AS device
                FROM points AS p {self.sources} WHERE p.track_id = t.id
            ) AS n
            """

    @property
    def usable(self) -> str:
        """The condition that makes a row of `points AS p` a fix."""
        conditions = ["p.timestamp IS NOT NULL", "p.lonlat IS NOT NULL"]
        if self.has("points", "anomaly"):
            conditions.append("p.anomaly IS NOT TRUE")
        if self.has("points", "deleted_at"):
            conditions.append("p.deleted_at IS NULL")
        return " AND ".join(conditions)

    def users(self) -> list[User]:
        """Return the users that are not deleted, by id."""
        where = "WHERE deleted_at IS NULL" if self.has("users", "deleted_at") else ""
        rows = self.connection.execute(f"SELECT id, email, settings FROM users {where} ORDER BY id").fetchall()
        return [User(*row) for row in rows]

    def counts(self) -> dict[str, int]:
        """Return how many users, points and tracks there are, and how many points are left out, by reason."""
        one = self.connection.execute(
            f"""
            SELECT count(*), count(*) FILTER (WHERE user_id IS NULL),
                   count(*) FILTER (WHERE user_id IS NOT NULL AND NOT ({self.usable})),
                   (SELECT count(*) FROM tracks)
            FROM points AS p
            """
        ).fetchone()
        assert one is not None
        names = ("points", "points_without_user", "points_left_out", "tracks")
        return {"users": len(self.users()), **dict(zip(names, one, strict=True))}

    def days(self, user_ids: Collection[int], listed: pd.DataFrame | None = None) -> pd.DataFrame:
        """Return, of each day (UTC) of some users that has points, their number and the sum of their hashes.

        Parameters
        ----------
        user_ids : collection of int
            Users of Dawarich.
        listed : DataFrame, optional
            Pairs of `id` and `day` to look at besides.

        Returns
        -------
        DataFrame
            `id` (of the user), `day`, `points`, `digest`. Whatever is inserted, changed or deleted changes it.
        """
        query = f"""
            SELECT p.user_id, floor(p.timestamp / {SECONDS_PER_DAY}.0)::int8, count(*), (sum(
                hashint8extended(p.timestamp::int8, hashfloat8extended(ST_X(p.lonlat::geometry),
                hashfloat8extended(ST_Y(p.lonlat::geometry), hashfloat8extended(coalesce({self._altitude}, 'NaN'),
                hashint8extended(coalesce(p.accuracy, -1)::int8, hashtextextended({self.device}, 0))))))
            ) %% 9223372036854775807)::int8
            FROM {{source}} {self.sources} WHERE {self.usable} GROUP BY 1, 2
            """
        rows = []
        if user_ids:
            source = "(SELECT * FROM points WHERE user_id = ANY(%s)) AS p"
            rows += self.connection.execute(query.format(source=source), [list(user_ids)]).fetchall()
        if listed is not None and len(listed):
            source = f"""
                unnest(%s::int8[], %s::int8[]) AS listed (id, day)
                JOIN points AS p ON p.user_id = listed.id AND p.timestamp >= listed.day * {SECONDS_PER_DAY}
                                AND p.timestamp < (listed.day + 1) * {SECONDS_PER_DAY}
                """
            pairs = [listed[name].tolist() for name in ("id", "day")]
            rows += self.connection.execute(query.format(source=source), pairs).fetchall()
        frame = pd.DataFrame(rows, columns=["id", "day", "points", "digest"])
        return frame.fillna({"digest": 0}).astype("int64")  # of places that are empty, hashes are NULL

    def points(self, user_id: int, days: Collection[int]) -> pd.DataFrame:
        """Return the points of a user on some days (UTC), with the columns of `POINT_DTYPES`, as they came."""
        query = f"""
            SELECT p.timestamp::int8 * 1000, ST_X(p.lonlat::geometry), ST_Y(p.lonlat::geometry),
                   {self._altitude}, p.accuracy::float8, convert_to({self.device}, 'UTF8')
            FROM unnest('{{{",".join(map(str, days))}}}'::int8[]) AS day
            JOIN points AS p ON p.user_id = {int(user_id)} AND p.timestamp >= day * {SECONDS_PER_DAY}
                            AND p.timestamp < (day + 1) * {SECONDS_PER_DAY}
            {self.sources} WHERE {self.usable}
            """
        in_order = f"{query} ORDER BY p.timestamp, p.id"
        frames = [*copy_out(self.connection, in_order, POINT_DTYPES, FETCH_ROWS)]
        if not frames:
            return pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in POINT_DTYPES.items()})
        frame = pd.concat(frames, ignore_index=True)
        codes, names = pd.factorize(frame["device"])
        return frame.assign(device=pd.Series([name.decode() for name in names], dtype=object).to_numpy()[codes])

    @property
    def _altitude(self) -> str:
        integer = "p.altitude::float8"
        return f"coalesce(p.altitude_decimal::float8, {integer})" if self.has("points", "altitude_decimal") else integer

    def tracks(self, user_id: int) -> pd.DataFrame:
        """Return the tracks of a user as Dawarich has them, with the columns of `TRACK_DTYPES`, by start."""
        rows = self.connection.execute(
            f"""
            SELECT t.id, floor(extract(epoch FROM t.start_at))::int8, floor(extract(epoch FROM t.end_at))::int8,
                   coalesce(t.distance, 0)::int8, n.points, n.device
            FROM tracks AS t {self.points_of_track} WHERE t.user_id = %s ORDER BY t.start_at, t.end_at, t.id
            """,
            [user_id],
        ).fetchall()
        return pd.DataFrame(rows, columns=[*TRACK_DTYPES]).astype(TRACK_DTYPES)


def dawarich_url() -> str:
    """Return the URL of Dawarich's database: `TRACKGEN_DAWARICH_URL`.

    Raises
    ------
    DatabaseError
        If the variable is not set, or is no URL.
    """
    url = os.environ.get("TRACKGEN_DAWARICH_URL")
    if not url:
        raise DatabaseError("TRACKGEN_DAWARICH_URL is not set: postgresql://user@host/dawarich_production, or the like")
    # Rails writes postgis://, SQLAlchemy the driver's name.
    url, known = re.subn(r"^(postgis|postgres|postgresql)(\+\w+)?://", "postgresql://", url)
    if not known:
        raise DatabaseError("TRACKGEN_DAWARICH_URL is no URL of PostgreSQL: write it as postgresql://user@host/name")
    return url


@contextmanager
def open_dawarich(url: str | None = None, *, to: Literal["read", "mirror", "write"] = "read") -> Iterator[Dawarich]:
    """Open Dawarich's database at `url`, by default `dawarich_url()`.

    Unless it is opened to write, one transaction sees one state of it all the time, and cannot write; but who mirrors
    takes from what triggers have listed, if they are there, which is committed in the end.

    Raises
    ------
    DatabaseError
        If it cannot be used, an operation in it fails, or somebody else has opened it to mirror.
    """
    url = url or dawarich_url()
    name = "Dawarich's database"
    try:
        parts = conninfo_to_dict(url)
        name = f"Dawarich's database {parts.get('dbname', '')} on {parts.get('host', 'this machine')}"
        with psycopg.connect(url, application_name="trackgen", autocommit=True) as connection:
            # Of a user named trackgen, a schema of that name would come first.
            connection.execute("SELECT set_config('search_path', 'public, ' || current_setting('search_path'), false)")
            connection.execute("SET jit = off")
            connection.execute("SET work_mem = '64MB'")
            if to == "mirror":
                _wait_for_turn(connection, name)
            if to != "write":
                lists = "SELECT FROM pg_class WHERE relname = %s AND relnamespace = to_regnamespace('trackgen')"
                connection.read_only = to == "read" or connection.execute(lists, ["changed_days"]).fetchone() is None
                connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
                connection.autocommit = False
            yield Dawarich(connection, name)
    except psycopg.Error as error:
        raise DatabaseError(f"{name}: {' '.join(str(error).split())}") from error


def _wait_for_turn(connection: psycopg.Connection[Any], name: str) -> None:
    """Keep others from mirroring: what they read with an older view must not be written over what is newer."""
    try:
        with connection.transaction():
            connection.execute(f"SET LOCAL lock_timeout = '{TURN_S}s'")
            connection.execute("SELECT pg_advisory_lock(%s)", [MIRROR])  # which goes with the connection
    except psycopg.errors.LockNotAvailable as error:
        raise DatabaseError(f"{name}: somebody else mirrors it at the moment: try again later") from error


def read_settings(stored: Any) -> tuple[dict[str, Any], list[str]]:  # noqa: ANN401 - whatever is in the column
    """Return what Dawarich's settings of a user say in the words of Trackgen's, and what they say that cannot be.

    Parameters
    ----------
    stored : object
        What `users.settings` holds. Numbers may be texts, of which Dawarich, as Ruby's `to_i` does, reads the digits
        that they begin with.
    """
    stored_values: Mapping[str, Any] = stored if isinstance(stored, Mapping) else {}
    values: dict[str, Any] = {}
    notes = []
    for name, default in DEFAULTS.items():
        number = _to_i(stored_values.get(name, default))
        values[name] = min(number, MOST[name]) if number > 0 else default
        if values[name] != number:
            notes.append(f"{name} is {stored_values.get(name)!r}: taken for {values[name]}")
    zone = stored_values.get("timezone")
    if isinstance(zone, str) and zone.strip():
        known = RAILS_ZONES.get(zone.strip(), zone.strip())
        try:
            ZoneInfo(known)
            values["timezone"] = known
        except (LookupError, ValueError, OSError):
            notes.append(f"timezone is {zone!r}, neither in the IANA database nor a name that Rails has: left as it is")
    return values, notes


def _to_i(value: object) -> int:
    if isinstance(value, str):
        digits = re.match(r"\s*[-+]?\d+", value)
        return int(digits.group()) if digits else 0
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < -NO_TIME else 0
