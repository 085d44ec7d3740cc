"""Tracks once more, by one statement of SQL: a second engine, to compare the first with, or to do without it.

Nothing here is shared with the first engine but the settings: PostgreSQL orders the fixes, PostGIS measures the hops
between them, and window functions say where tracks begin and end (`docs/rules.md`, 3 and 4). There are no days,
segments or seams: a track is a run of hops. What is noise and where stays are is taken as stored, of users whose
settings have a noise filter or stays; of all others, nothing is looked at but points, settings and edits.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Final

import numpy as np
import pandas as pd
from sqlalchemy import BigInteger, Connection, TextClause, bindparam, text

from trackgen_core.breaks import LONGEST_LINK_MS as MAX_PAUSE_MS
from trackgen_core.breaks import MM_PER_M
from trackgen_core.database import DatabaseError, fetch_frames
from trackgen_core.dwelling import SILENCE_MS as WINDOW_MS
from trackgen_core.geodesy import BELOW_HALF, GEOD, IntArray, link_lengths_mm, pair_lengths_mm
from trackgen_core.merging import item_ids
from trackgen_core.paths import encode_path
from trackgen_core.points import MS_PER_DAY, MS_PER_MINUTE, iso_time
from trackgen_core.settings import Settings
from trackgen_core.store import STAGES, Store

NEAR_HALF_MM: Final = 3e-5
"""PostGIS and pyproj may round the length of a link to different mm if it is so near to a half: PostGIS keeps degrees
as radians, which moves a point by some nanometres."""

SQL_TRACK_DTYPES: Final = {
    "user": "object",
    "device": "object",
    "device_id": "int64",
    "started_ms": "int64",
    "start_lon": "float64",
    "start_lat": "float64",
    "ended_ms": "int64",
    "end_lon": "float64",
    "end_lat": "float64",
    "points": "int64",
    "vertices": "int64",
    "length_mm": "int64",
    "near_half": "int64",
    "duration_ms": "int64",
    "break_reason": "object",
    "path": "object",
}
"""What the statement says of a track. `points` counts as the first engine does, `vertices` also the ends that it shares
with stays or other tracks; `near_half` are the links whose rounding may differ; `path` is WKB of one line, not cut at
the antimeridian."""

LINK_DTYPES: Final = {
    "device_id": "int64",
    "prev_ms": "int64",
    "prev_lon": "float64",
    "prev_lat": "float64",
    "lon": "float64",
    "lat": "float64",
    "hop_mm": "int64",
}

COMPARED: Final = (
    "start_lon",
    "start_lat",
    "ended_ms",
    "end_lon",
    "end_lat",
    "points",
    "length_mm",
    "duration_ms",
    "break_reason",
    "path",
)
SHOWN: Final = 20
"""Differences that are told in words."""

NO_NAME: Final = "the device without a name"

_KEPT: Final = """NOT (scopes.filters AND EXISTS (
                SELECT FROM noise WHERE (noise.device_id, noise.time_ms, noise.lon, noise.lat)
                                      = (points.device_id, points.time_ms, points.lon, points.lat)))"""
"""Whether a point is a fix, for users whose settings have a noise filter."""

_FREED: Final = f"""EXISTS (
                SELECT FROM merges WHERE merges.device_id = {{0}}.device_id
                AND {{0}}.prev_ms < merges.after_ms AND {{0}}.time_ms > merges.before_ms
                AND {{0}}.time_ms - {{0}}.prev_ms <= {MAX_PAUSE_MS})"""
"""Whether somebody joined tracks over a hop."""

_DAY: Final = "CAST((timestamptz 'epoch' + {} * interval '1 ms') AT TIME ZONE timezone AS date)"

_HOPS: Final = f"""
WITH
-- The settings of each user.
rules AS (
    SELECT * FROM jsonb_to_recordset(CAST(:rules AS jsonb)) AS given (
        user_id integer, gap_ms bigint, far_mm bigint, kmh bigint, filters boolean, rests boolean, timezone text)
),
merges AS (
    SELECT device_id, before_ms, after_ms FROM edits WHERE kind = 'merge'
),
-- The devices. If tracks are wanted that start on some days, points are read from a place before these days that no
-- track crosses, to one behind them: the nearest stay, or a gap that is nearer.
devices_of_rules AS (
    SELECT device_id, rules.* FROM devices JOIN rules USING (user_id)
),
scopes AS (
    SELECT scopes.*,
           CASE WHEN before.time_ms <= stay_before.ended_ms THEN stay_before.started_ms ELSE before.time_ms END
               AS from_ms,
           CASE WHEN behind.time_ms >= stay_behind.started_ms THEN stay_behind.ended_ms ELSE behind.time_ms END
               AS until_ms
    FROM devices_of_rules AS scopes
    LEFT JOIN LATERAL (
        SELECT started_ms, ended_ms FROM stays
        WHERE scopes.rests AND device_id = scopes.device_id AND started_ms < :lo_ms
        ORDER BY started_ms DESC, ended_ms DESC LIMIT 1
    ) AS stay_before ON true
    LEFT JOIN LATERAL (
        SELECT prev_ms AS time_ms FROM (
            SELECT device_id, time_ms, lead(time_ms) OVER (ORDER BY time_ms DESC) AS prev_ms
            FROM points WHERE device_id = scopes.device_id AND {_KEPT}
              AND time_ms <= coalesce((SELECT min(time_ms) FROM points
                                       WHERE device_id = scopes.device_id AND time_ms >= :lo_ms), :lo_ms)
        ) AS hop
        WHERE time_ms - prev_ms > scopes.gap_ms AND NOT {_FREED.format("hop")} OR prev_ms <= stay_before.ended_ms
        ORDER BY hop.time_ms DESC LIMIT 1
    ) AS before ON true
    LEFT JOIN LATERAL (
        SELECT started_ms, ended_ms FROM stays
        WHERE scopes.rests AND device_id = scopes.device_id AND ended_ms >= :hi_ms
          AND started_ms >= coalesce((SELECT max(started_ms) FROM stays
                                      WHERE device_id = scopes.device_id AND started_ms < :hi_ms), :hi_ms)
        ORDER BY started_ms, ended_ms LIMIT 1
    ) AS stay_behind ON true
    LEFT JOIN LATERAL (
        SELECT prev_ms AS time_ms FROM (
            SELECT device_id, time_ms AS prev_ms, lead(time_ms) OVER (ORDER BY time_ms) AS time_ms
            FROM points WHERE device_id = scopes.device_id AND {_KEPT}
              AND time_ms >= coalesce((SELECT max(time_ms) FROM points
                                       WHERE device_id = scopes.device_id AND time_ms < :hi_ms), :hi_ms)
        ) AS hop
        WHERE time_ms - prev_ms > scopes.gap_ms AND NOT {_FREED.format("hop")} OR prev_ms >= stay_behind.started_ms
        ORDER BY hop.prev_ms LIMIT 1
    ) AS behind ON true
),
-- The stays, and whether a fix at the end of one remains that of a track: behind a pause it may, and the number of
-- fixes tells. If one of two is shared, it is the first, unless the stay begins after a break.
stays_in_order AS (
    SELECT stays.*, first.seq AS start_seq, last.seq AS end_seq
    FROM stays
    JOIN points AS first ON (first.device_id, first.time_ms, first.lon, first.lat)
                          = (stays.device_id, started_ms, start_lon, start_lat)
    JOIN points AS last ON (last.device_id, last.time_ms, last.lon, last.lat)
                         = (stays.device_id, ended_ms, end_lon, end_lat)
),
stays_with_pauses AS (
    SELECT stays.*, scopes.filters, second.time_ms - started_ms > {WINDOW_MS} AS starts_with_pause,
           ended_ms - last_but_one.time_ms > {WINDOW_MS} AS ends_with_pause
    FROM scopes JOIN stays_in_order AS stays USING (device_id)
    LEFT JOIN LATERAL (
        SELECT time_ms FROM points WHERE device_id = stays.device_id
        AND (time_ms, seq, lon, lat) > (stays.started_ms, stays.start_seq, stays.start_lon, stays.start_lat) AND {_KEPT}
        ORDER BY time_ms, seq, lon, lat LIMIT 1
    ) AS second ON true
    LEFT JOIN LATERAL (
        SELECT time_ms FROM points WHERE device_id = stays.device_id
        AND (time_ms, seq, lon, lat) < (stays.ended_ms, stays.end_seq, stays.end_lon, stays.end_lat) AND {_KEPT}
        ORDER BY time_ms DESC, seq DESC, lon DESC, lat DESC LIMIT 1
    ) AS last_but_one ON true
    WHERE scopes.rests AND stays.started_ms BETWEEN coalesce(from_ms, 0) AND coalesce(until_ms, {2**62})
),
stays_with_ends AS (
    SELECT scopes.*, CASE WHEN starts_with_pause OR ends_with_pause THEN (
                SELECT count(*) FROM points WHERE device_id = scopes.device_id
                AND (time_ms, seq, lon, lat) >= (started_ms, start_seq, start_lon, start_lat)
                AND (time_ms, seq, lon, lat) <= (ended_ms, end_seq, end_lon, end_lat) AND {_KEPT}
           ) - points ELSE 0 END AS shared
    FROM stays_with_pauses AS scopes
),
-- The fixes at which something begins or ends.
marks AS (
    SELECT device_id, time_ms, lon, lat,
           CAST(sum(opens) AS integer) AS opens, CAST(sum(closes) AS integer) AS closes,
           bool_or(begins_stay) AS begins_stay, bool_or(ends_stay) AS ends_stay, bool_or(split) AS split
    FROM (
        SELECT device_id, started_ms AS time_ms, start_lon AS lon, start_lat AS lat, 1 AS opens, 0 AS closes,
               NOT (starts_with_pause
                    AND (shared = 2 OR shared = 1 AND (NOT ends_with_pause OR break_reason = 'stay'))) AS begins_stay,
               false AS ends_stay, false AS split
        FROM stays_with_ends
        UNION ALL
        SELECT device_id, ended_ms, end_lon, end_lat, 0, 1, false,
               NOT (ends_with_pause
                    AND (shared = 2 OR shared = 1 AND (NOT starts_with_pause OR break_reason <> 'stay'))), false
        FROM stays_with_ends
        UNION ALL
        SELECT scopes.device_id, fix.time_ms, fix.lon, fix.lat, 0, 0, false, false, true
        FROM scopes JOIN edits ON edits.device_id = scopes.device_id AND edits.kind = 'split'
        CROSS JOIN LATERAL (
            SELECT time_ms, lon, lat FROM points
            WHERE device_id = scopes.device_id AND time_ms <= edits.before_ms AND {_KEPT}
            ORDER BY time_ms DESC, seq DESC, lon DESC, lat DESC LIMIT 1
        ) AS fix
    ) AS ends
    GROUP BY device_id, time_ms, lon, lat
),
-- The fixes in their order, each with the one before it.
fixes AS (
    SELECT device_id, gap_ms, far_mm, kmh, timezone, time_ms, seq, lon, lat,
           lag(time_ms) OVER device AS prev_ms, lag(lon) OVER device AS prev_lon, lag(lat) OVER device AS prev_lat,
           sum(opens - closes) OVER device - (opens - closes) > 0 AS is_rest, -- the hop is inside a stay
           lag(ends_stay) OVER device AS leaves_stay, begins_stay AS enters_stay, lag(split) OVER device AS is_split
    FROM (
        SELECT scopes.*, points.time_ms, points.seq, points.lon, points.lat, coalesce(opens, 0) AS opens,
               coalesce(closes, 0) AS closes, coalesce(begins_stay, false) AS begins_stay,
               coalesce(ends_stay, false) AS ends_stay, coalesce(split, false) AS split
        FROM points JOIN scopes USING (device_id)
        LEFT JOIN marks USING (device_id, time_ms, lon, lat)
        LEFT JOIN noise USING (device_id, time_ms, lon, lat)
        WHERE time_ms BETWEEN coalesce(from_ms, 0) AND coalesce(until_ms, {2**62})
          AND (noise.reason IS NULL OR NOT filters)
    ) AS fix
    WINDOW device AS (PARTITION BY device_id ORDER BY time_ms, seq, lon, lat ROWS UNBOUNDED PRECEDING)
),
-- The hops to them, measured once: the order is there already, but keeps the planner from doing so wherever a length
-- is used.
measured AS (
    SELECT fixes.*, CASE WHEN prev_ms IS NULL OR is_rest THEN NULL ELSE 1000 * ST_DistanceSpheroid(
               ST_MakePoint(prev_lon, prev_lat), ST_MakePoint(lon, lat), 'SPHEROID["WGS 84",6378137,298.257223563]'
           ) END AS exact_mm
    FROM fixes ORDER BY device_id, time_ms, seq, lon, lat
),
hops AS (
    -- To the nearest millimetre, halves away from zero.
    SELECT measured.*, CAST(floor(exact_mm + {float(BELOW_HALF)!r}) AS bigint) AS hop_mm
    FROM measured ORDER BY device_id, time_ms, seq, lon, lat
)"""

_LINKS: Final = f"""{_HOPS}
SELECT device_id, prev_ms, prev_lon, prev_lat, lon, lat, hop_mm FROM hops WHERE hop_mm IS NOT NULL
"""

_TRACKS: Final = f"""{_HOPS},
-- Why no track goes over a hop; nothing if one does.
breaks AS (
    SELECT hops.*, CASE
        WHEN prev_ms IS NULL THEN 'start'
        WHEN is_rest THEN 'stay'
        WHEN time_ms - prev_ms > gap_ms THEN CASE WHEN NOT {_FREED.format("hops")} THEN 'time_gap' END
        WHEN hop_mm > far_mm AND kmh IS NULL THEN CASE WHEN NOT {_FREED.format("hops")} THEN 'distance' END
        WHEN hop_mm > far_mm AND hop_mm * 18 > (time_ms - prev_ms) * 5 * kmh -- mm/ms is 3.6 km/h
            THEN CASE WHEN NOT {_FREED.format("hops")} THEN 'implausible_speed' END
    END AS break_reason
    FROM hops ORDER BY device_id, time_ms, seq, lon, lat
),
-- Where a track ends at a fix with which the next one begins, both fixes of the hop being its own.
cuts AS (
    SELECT breaks.*, lag(break_reason) OVER device AS reason_before, CASE
        WHEN break_reason IS NOT NULL OR leaves_stay OR enters_stay THEN NULL
        WHEN is_split THEN 'split'
        WHEN timezone IS NULL OR {_DAY.format("prev_ms")} = {_DAY.format("time_ms")} THEN NULL
        WHEN NOT {_FREED.format("breaks")} THEN 'midnight'
    END AS cut
    FROM breaks WINDOW device AS (PARTITION BY device_id ORDER BY time_ms, seq, lon, lat ROWS UNBOUNDED PRECEDING)
),
-- The hops of tracks, with the number of the track.
runs AS (
    SELECT hop.*, row_number() OVER device AS number, count(*) FILTER (WHERE begins) OVER device AS track
    FROM (
        SELECT cuts.*, cut IS NOT NULL OR reason_before IS NOT NULL AS begins FROM cuts WHERE break_reason IS NULL
    ) AS hop
    WINDOW device AS (PARTITION BY device_id ORDER BY time_ms, seq, lon, lat ROWS UNBOUNDED PRECEDING)
),
-- A track is a run of hops. Its points are their ends, but for those that are a stay's or the track's before.
found AS (
    SELECT device_id, min(prev_ms) AS started_ms, max(time_ms) AS ended_ms,
           count(*) FILTER (WHERE NOT enters_stay)
               + count(*) FILTER (WHERE begins AND NOT leaves_stay AND cut IS NULL) AS points,
           count(*) + 1 AS vertices,
           CAST(sum(hop_mm) AS bigint) AS length_mm,
           count(*) FILTER (WHERE abs(exact_mm - floor(exact_mm) - 0.5) < {NEAR_HALF_MM!r}) AS near_half,
           max(CASE WHEN reason_before = 'start' THEN 'start' ELSE coalesce(cut, reason_before) END)
               FILTER (WHERE begins) AS break_reason,
           ST_MakeLine(
               array_agg(ST_MakePoint(prev_lon, prev_lat) ORDER BY number) FILTER (WHERE begins)
               || array_agg(ST_MakePoint(lon, lat) ORDER BY number)
           ) AS path
    FROM runs GROUP BY device_id, track
    HAVING min(prev_ms) >= coalesce(:lo_ms, 0) AND min(prev_ms) < coalesce(:hi_ms, {2**62})
)
SELECT users.name, devices.name, device_id,
       started_ms, ST_X(ST_StartPoint(path)) AS start_lon, ST_Y(ST_StartPoint(path)) AS start_lat,
       ended_ms, ST_X(ST_EndPoint(path)) AS end_lon, ST_Y(ST_EndPoint(path)) AS end_lat,
       points, vertices, length_mm, near_half, ended_ms - started_ms, break_reason, ST_AsBinary(path, 'NDR')
FROM found JOIN devices USING (device_id) JOIN users USING (user_id)
ORDER BY users.name, devices.name, started_ms, ended_ms
"""


@dataclass
class Comparison:
    """What two engines say of the same points."""

    tracks: int = 0
    """Tracks that SQL makes."""
    stored: int = 0
    """Tracks that are stored."""
    links: int = 0
    """Links whose lengths were compared."""
    near_half: int = 0
    """Links and tracks that differ by a rounding that is open: see `NEAR_HALF_MM`."""
    left_out: int = 0
    """Tracks that were not compared, as work on their days is still listed."""
    users_left_out: list[str] = field(default_factory=list)
    """Users whose settings cannot be read."""
    differences: int = 0
    first: list[str] = field(default_factory=list)
    """The first differences in words."""

    def add(self, difference: str) -> None:
        """Count a difference."""
        self.differences += 1
        if len(self.first) < SHOWN:
            self.first.append(difference)


def read_sql_tracks(
    store: Store, names: Collection[str] | None = None, lo_day: int | None = None, hi_day: int | None = None
) -> Iterator[pd.DataFrame]:
    """Make tracks of the points by SQL, and stream those that start in some days, as `Store.read_tracks` does.

    Parameters
    ----------
    store : Store
        A store in PostgreSQL with PostGIS.
    names : collection of str, optional
        Users; by default all.
    lo_day, hi_day : int, optional
        First and last day; by default all.

    Returns
    -------
    iterator of DataFrame
        The columns of `SQL_TRACK_DTYPES`; those that exports want besides are the id, the average speed, and
        elevations, which are missing.

    Raises
    ------
    DatabaseError
        If the database is not PostgreSQL, or has no PostGIS.
    UnknownUser
        If one of the users is not in the database.
    """
    _check_postgis(store)
    user_ids = None if names is None else store.user_ids(names)
    return _stream_tracks(store, user_ids, lo_day, hi_day)


def _stream_tracks(
    store: Store, user_ids: Collection[int] | None, lo_day: int | None, hi_day: int | None
) -> Iterator[pd.DataFrame]:
    with store.read() as connection:
        settings_of = store.settings_of(connection, user_ids)
        devices = store.devices(connection, user_ids)
        for batch in _run(connection, _TRACKS, SQL_TRACK_DTYPES, settings_of, lo_day, hi_day, rows=1_000):
            heads = batch.rename(columns={"started_ms": "first_ms", "start_lon": "first_lon", "start_lat": "first_lat"})
            ms = batch["duration_ms"].to_numpy()
            speed = np.divide(batch["length_mm"] * 3.6, ms, out=np.zeros(len(batch)), where=ms > 0)
            batch = batch.assign(track_id=item_ids(heads.assign(is_stay=0), devices), avg_speed_kmh=speed)
            unknown = pd.array([pd.NA] * len(batch), dtype="Int64")
            yield batch.assign(**{f"elevation_{what}_cm": unknown for what in ("gain", "loss", "min", "max")})


def compare(
    store: Store, names: Collection[str] | None = None, lo_day: int | None = None, hi_day: int | None = None
) -> Comparison:
    """Compare the tracks and the links that SQL makes of the points with those that are stored, and those of pyproj.

    Tracks are left out where work is still listed on their days or the days beside.

    Parameters
    ----------
    store : Store
        A store in PostgreSQL with PostGIS.
    names : collection of str, optional
        Users; by default all.
    lo_day, hi_day : int, optional
        First and last day on which the tracks start; by default all.

    Raises
    ------
    DatabaseError
        If the database is not PostgreSQL, or has no PostGIS.
    UnknownUser
        If one of the users is not in the database.
    """
    _check_postgis(store)
    user_ids = None if names is None else store.user_ids(names)
    result = Comparison()
    with store.read() as connection:
        names_of = store.names_of(connection)
        every = set(names_of) if user_ids is None else set(user_ids)
        settings_of = store.settings_of(connection, every, readable_only=True)
        result.users_left_out = sorted(names_of[user_id] for user_id in every - set(settings_of))
        devices = store.devices(connection, settings_of)
        listed = pd.concat([store.dirty(connection, stage, user_ids=settings_of) for stage in STAGES])
        days_of = {
            names_of[user]: np.sort(listed.loc[listed["user_id"] == user, "day"].to_numpy())
            for user in listed["user_id"].unique().tolist()
        }

        asked = settings_of, lo_day, hi_day
        made = _rows(_run(connection, _TRACKS, SQL_TRACK_DTYPES, *asked, rows=1_000))
        stored = _rows(store.read_tracks([names_of[user_id] for user_id in settings_of], lo_day, hi_day))
        _compare_tracks(made, stored, days_of, result)
        for links in _run(connection, _LINKS, LINK_DTYPES, *asked, rows=50_000):
            _compare_links(links, devices, result)
    return result


def _check_postgis(store: Store) -> None:
    name = store.database.name
    with store.read() as connection:
        if connection.dialect.name != "postgresql":
            raise DatabaseError(f"{name}: the SQL engine needs PostgreSQL with PostGIS: see TRACKGEN_DATABASE_URL")
        if not connection.scalar(text("SELECT count(*) FROM pg_extension WHERE extname = 'postgis'")):
            raise DatabaseError(
                f"{name}: the SQL engine needs PostGIS: install it (Debian's package `postgresql-postgis`), and let a "
                "superuser say `CREATE EXTENSION postgis` in this database"
            )


def _run(
    connection: Connection,
    statement: str,
    dtypes: dict[str, str],
    settings_of: dict[int, Settings],
    lo_day: int | None,
    hi_day: int | None,
    rows: int,
) -> Iterator[pd.DataFrame]:
    # Compiling takes longer than it saves, and all rows are wanted, not only the first ones.
    for name, value in (("jit", "off"), ("work_mem", "'256MB'"), ("cursor_tuple_fraction", "1")):
        connection.exec_driver_sql(f"SET LOCAL {name} = {value}")
    return fetch_frames(connection, _bound(statement, settings_of, lo_day, hi_day), dtypes, rows)


def _bound(statement: str, settings_of: dict[int, Settings], lo_day: int | None, hi_day: int | None) -> TextClause:
    """Return the statement with its parameters."""
    rules = json.dumps([_rule(user_id, settings) for user_id, settings in settings_of.items()])
    return text(statement).bindparams(
        bindparam("rules", rules),
        bindparam("lo_ms", None if lo_day is None else lo_day * MS_PER_DAY, BigInteger),
        bindparam("hi_ms", None if hi_day is None else (hi_day + 1) * MS_PER_DAY, BigInteger),
    )


def _rule(user_id: int, settings: Settings) -> dict[str, Any]:
    """Return the settings of a user in the words of the statement."""
    rule = settings.distance_rule
    return {
        "user_id": user_id,
        "gap_ms": settings.minutes_between_routes * MS_PER_MINUTE,
        "far_mm": None if rule == "off" else settings.meters_between_routes * MM_PER_M,
        "kmh": settings.max_speed_kmh if rule == "implausible" else None,
        "filters": settings.noise_filter,
        "rests": settings.stay_minutes > 0,
        "timezone": settings.timezone if settings.split_at_midnight else None,
    }


def _rows(batches: Iterator[pd.DataFrame]) -> Iterator[dict[str, Any]]:
    for batch in batches:
        names = batch.columns.tolist()
        for row in zip(*(batch[name].tolist() for name in names), strict=True):
            yield dict(zip(names, row, strict=True))


def _compare_tracks(
    made: Iterator[dict[str, Any]],
    stored: Iterator[dict[str, Any]],
    days_of: dict[str, IntArray],
    result: Comparison,
) -> None:
    """Go through both in their order, and compare what starts at the same instant of the same device."""

    def key(side: tuple[bool, dict[str, Any]]) -> tuple[str, str, int]:
        return side[1]["user"], side[1]["device"], side[1]["started_ms"]

    both = heapq.merge(((False, row) for row in made), ((True, row) for row in stored), key=key)
    for (user, device, started_ms), sides in groupby(both, key):
        where = f"{user}, {device or NO_NAME}, {iso_time(started_ms)}"
        found: tuple[list[dict[str, Any]], list[dict[str, Any]]] = [], []
        for is_stored, row in sides:
            found[is_stored].append(row)
        result.tracks += len(found[0])
        result.stored += len(found[1])
        if any(_is_listed(row, days_of) for rows in found for row in rows):
            result.left_out += max(map(len, found))
            continue
        for one, other in zip(*found, strict=False):
            _compare_values(where, one, other, result)
        common = min(map(len, found))
        for row in found[0][common:]:
            result.add(f"{where}: {_told(row)} follows from the points, but is not stored")
        for row in found[1][common:]:
            again = "is stored once more" if common else "is stored, but does not follow from the points"
            result.add(f"{where}: {_told(row)} {again} (track {row['track_id'][:8]})")


def _compare_values(where: str, made: dict[str, Any], stored: dict[str, Any], result: Comparison) -> None:
    path = encode_path(np.frombuffer(made["path"], "<f8", offset=9).reshape(-1, 2))
    values = made | {"path": path}
    names = [name for name in COMPARED if values[name] != stored[name]]
    if names == ["length_mm"] and abs(made["length_mm"] - stored["length_mm"]) <= made["near_half"]:
        result.near_half += 1
        return
    for name in names:
        says = (
            f"the path has not the {made['vertices']:,} vertices that SQL gives it"
            if name == "path"
            else f"{name} is {stored[name]!r}, but SQL gives {values[name]!r}"
        )
        result.add(f"{where}: {_told(stored)} (track {stored['track_id'][:8]}): {says}")


def _told(row: dict[str, Any]) -> str:
    return f"a track to {iso_time(row['ended_ms'])} of {row['points']:,} points"


def _is_listed(row: dict[str, Any], days_of: dict[str, IntArray]) -> bool:
    days = days_of.get(row["user"])
    if days is None:
        return False
    first, last = row["started_ms"] // MS_PER_DAY - 1, row["ended_ms"] // MS_PER_DAY + 1
    return bool(np.searchsorted(days, first) < np.searchsorted(days, last, "right"))


def _compare_links(links: pd.DataFrame, devices: pd.DataFrame, result: Comparison) -> None:
    ends = [links[name].to_numpy() for name in ("prev_lon", "prev_lat", "lon", "lat")]
    prev_lon, prev_lat, lon, lat = ends
    expected = link_lengths_mm(np.append(prev_lon[0], lon), np.append(prev_lat[0], lat))
    jumps = np.flatnonzero((prev_lon[1:] != lon[:-1]) | (prev_lat[1:] != lat[:-1])) + 1
    expected[jumps] = pair_lengths_mm(*(end[jumps] for end in ends))
    result.links += len(links)
    differing = np.flatnonzero(expected != links["hop_mm"].to_numpy())
    if not len(differing):
        return
    exact_mm = GEOD.inv(prev_lon[differing], prev_lat[differing], lon[differing], lat[differing])[2] * 1000
    for n, exact in zip(differing.tolist(), exact_mm.tolist(), strict=True):
        device_id, prev_ms, *places, hop_mm = (links[name].tolist()[n] for name in LINK_DTYPES)
        if abs(exact % 1 - 0.5) < NEAR_HALF_MM and abs(hop_mm - expected[n]) == 1:
            result.near_half += 1
            continue
        user, device = devices.loc[device_id, ["user", "device"]]
        link = "the link from {} {} to {} {}".format(*places)
        where = f"{user}, {device or NO_NAME}, {iso_time(prev_ms)}"
        result.add(f"{where}: {link} is {expected[n]:,} mm long, but SQL gives {hop_mm:,} mm")
