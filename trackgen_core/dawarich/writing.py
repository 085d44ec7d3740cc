"""Our tracks written into Dawarich's tables, and everything put back as it was.

What Trackgen keeps there is in a schema of its own, `trackgen`: which tracks are ours, and what others were before they
were taken over. Tracks, their segments and the `track_id` of their points are written together, some thousand points at
a time, so that no lock is held for long.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np
import pandas as pd
import psycopg
from sqlalchemy import select

from trackgen_core.copying import copy_in
from trackgen_core.database import DatabaseError, fetch_frame
from trackgen_core.dawarich.comparison import best_pairs, listed_days, set_aside, spans_of
from trackgen_core.dawarich.mirror import Mirrored
from trackgen_core.dawarich.rows import ROW_DTYPES, SEGMENT_DTYPES, SOURCE, digests, line, segment_rows, track_rows
from trackgen_core.dawarich.source import Dawarich
from trackgen_core.merging import LEG_DTYPES
from trackgen_core.schema import tracks as stored
from trackgen_core.store import Store
from trackgen_core.words import counted

POINTS_AT_ONCE: Final = 1_000
"""Points whose rows are locked at once: each has to be written into all of Dawarich's indexes."""
TRACKS_AT_ONCE: Final = 200

LOCK_TIMEOUT_MS: Final = 300
"""How long to wait for others while locks are held. Less than the second after which PostgreSQL looks for deadlocks: so
it is always this side that gives way."""
ATTEMPTS: Final = 60
WAIT_S: Final = 0.5

WRITER: Final = int.from_bytes(b"tgdw")
"""The class of the advisory locks that keep two writers of the same user apart."""

TABLES: Final = """
CREATE SCHEMA IF NOT EXISTS trackgen;
CREATE TABLE IF NOT EXISTS trackgen.tracks
    (id bigint PRIMARY KEY, user_id bigint NOT NULL, track_id text, digest bigint NOT NULL);
CREATE INDEX IF NOT EXISTS tracks_by_user ON trackgen.tracks (user_id);
CREATE TABLE IF NOT EXISTS trackgen.saved_tracks (LIKE tracks, PRIMARY KEY (id));
CREATE TABLE IF NOT EXISTS trackgen.saved_points
    (id bigint PRIMARY KEY, user_id bigint NOT NULL, track_id bigint NOT NULL);
CREATE INDEX IF NOT EXISTS saved_points_by_user ON trackgen.saved_points (user_id);
COMMENT ON TABLE trackgen.tracks IS 'The ids that Trackgen uses or has used in public.tracks; track_id is its own name';
COMMENT ON TABLE trackgen.saved_points IS 'The track of points before Trackgen took it over'
"""
KEPT: Final = ("tracks", "saved_tracks", "saved_points")
"""What is kept there of a user."""
SAVED_SEGMENTS: Final = "CREATE TABLE IF NOT EXISTS trackgen.saved_segments (LIKE track_segments, PRIMARY KEY (id))"

EXISTING_DTYPES: Final = {
    "id": "int64",
    **{name: dtype for name, dtype in ROW_DTYPES.items() if name != "dominant_mode"},
    "md5": "object",
    "points": "int64",
}
"""Of a track in Dawarich; its mode is left out, for people may have changed it."""

Row = TypeVar("Row")

_OURS: Final = "EXISTS (SELECT FROM trackgen.tracks AS o WHERE o.id = {0})"
_FOREIGN: Final = f"EXISTS (SELECT FROM tracks AS t WHERE t.id = p.track_id AND NOT {_OURS.format('t.id')})"
"""Whether a point is one of a track that Dawarich made, and that was not taken over."""

_WRONG: Final = f"""
    WITH owned AS MATERIALIZED (
        SELECT p.id, spans.id AS track_id FROM spans CROSS JOIN LATERAL (
            SELECT * FROM points AS p WHERE p.user_id = %(user)s AND {{usable}}
            AND p.timestamp BETWEEN spans.start_s AND spans.end_s OFFSET 0  -- so that they are looked up by time
        ) AS p
        WHERE spans.end_s >= %(lo)s AND spans.start_s <= %(hi)s AND coalesce(p.tracker_id, '') = spans.device
          AND NOT EXISTS (SELECT FROM set_aside AS n WHERE (n.device, n.time_s, n.lon, n.lat) =
                          (spans.device, p.timestamp, ST_X(p.lonlat::geometry), ST_Y(p.lonlat::geometry)))
    )
    SELECT p.id, p.track_id, owned.track_id FROM points AS p LEFT JOIN owned USING (id)
    WHERE p.user_id = %(user)s AND p.timestamp BETWEEN %(lo)s AND %(hi)s
      AND p.track_id IS DISTINCT FROM owned.track_id AND (p.track_id = ANY(%(taken)s) OR NOT {_FOREIGN})
    ORDER BY p.id
"""
"""The points of a user in a span of time whose track is not the one that it should be, and which that is; `taken` are
tracks that are about to be taken over."""

ALWAYS: Final = (-(2**31), 2**31 - 1)
"""A span of seconds that holds all that Dawarich can tell."""


class Wrong(NamedTuple):
    """A point whose track is not the one that it should be."""

    id: int
    old: int | None
    new: int | None


@dataclass
class WriteReport:
    """What was written, or would be."""

    user: str
    equal: int = 0
    """Tracks that are there as they should be."""
    new: int = 0
    changed: int = 0
    """Tracks that were ours before, and have other points now."""
    adopted: int = 0
    """Tracks that Dawarich made and that keep their ids."""
    removed: int = 0
    """Tracks that are gone; among them those of Dawarich that were taken over and have no counterpart."""
    held_back: int = 0
    """Tracks that are not written, as Dawarich's own are there, which were not to be taken over."""
    points: int = 0
    """Points that have another track now."""
    longest_s: float = 0.0
    """The longest time that a transaction held locks."""


@dataclass
class Plan:
    """What is to be done for a user."""

    ours: pd.DataFrame
    """Our tracks that shall be there: with `id`; with `own_s`, the first second that is theirs alone; and with `write`,
    whether the row is to be written."""
    legs: pd.DataFrame
    taken: set[int]
    """Ids of tracks of Dawarich that are taken over: adopted, or removed."""
    gone: pd.DataFrame
    """Tracks that are to be removed: `id`, `started_s`, `ended_s`."""
    report: WriteReport = field(default_factory=lambda: WriteReport(""))


def write_user(
    store: Store,
    dawarich: Dawarich,
    user: Mirrored,
    *,
    take_over: bool = False,
    dry_run: bool = False,
    progress: Callable[[WriteReport, float], None] = lambda report, share: None,
) -> WriteReport:
    """Make Dawarich's tracks of a user ours.

    Parameters
    ----------
    store : Store
        Where our tracks are.
    dawarich : Dawarich
        Opened to write, unless `dry_run`.
    user : Mirrored
        Whose tracks.
    take_over : bool
        Whether to take the place of tracks that Dawarich made; they are saved before. Otherwise, where such a track is,
        nothing is written.
    dry_run : bool
        Only say what would be done; then `points` is not counted.
    progress : callable
        Called after each transaction with the report and the share that is done.

    Raises
    ------
    ValueError
        If there is work to do on days of the user: tracks that are not made yet would be taken for none.
    DatabaseError
        If somebody else writes for the user, or others hold locks for too long.
    """
    if days := listed_days(store, user):
        raise ValueError(f"work is listed on {counted(days, 'day')} of {user.name}: `trackgen generate` first")
    if dry_run:
        return _plan(store, dawarich, user, take_over).report
    connection = dawarich.connection
    with _alone(connection, user):
        prepare(dawarich)
        plan = _plan(store, dawarich, user, take_over)
        report = plan.report
        _note_new_ids(connection, plan.ours)
        _stage(store, connection, user, plan)
        windows = [*_windows(plan)]
        for number, (tracks, gone, span) in enumerate(windows):
            wanted = _wanted(store, tracks, plan.legs)
            taken = [id for id in (*tracks["id"].tolist(), *gone) if id in plan.taken]
            wrong = _wrong(dawarich, user, span, taken)
            first, rest = wrong[:POINTS_AT_ONCE], wrong[POINTS_AT_ONCE:]
            in_transaction(dawarich, report, _write_window, user, wanted, gone, taken, first, report)
            _correct(dawarich, report, user, rest)
            progress(report, (number + 1) / len(windows))
        _correct(dawarich, report, user, _wrong(dawarich, user, ALWAYS, []))
    return report


def prepare(dawarich: Dawarich) -> None:
    """Make the schema `trackgen` in Dawarich's database, if it is not there."""
    if dawarich.connection.execute("SELECT to_regclass('trackgen.saved_points')").fetchone() == (None,):
        with dawarich.connection.transaction():
            dawarich.connection.execute(TABLES)
    if dawarich.has("track_segments"):
        with dawarich.connection.transaction():
            dawarich.connection.execute("SET LOCAL client_min_messages = warning")
            dawarich.connection.execute(SAVED_SEGMENTS)


def has_written(dawarich: Dawarich, user: Mirrored) -> bool:
    """Say whether Trackgen has written tracks of a user, and not put everything back."""
    if dawarich.connection.execute("SELECT to_regclass('trackgen.saved_points')").fetchone() == (None,):
        return False
    any_of = (f"EXISTS (SELECT FROM trackgen.{name} WHERE user_id = %(user)s)" for name in KEPT)
    query = f"SELECT {' OR '.join(any_of)}"
    return dawarich.connection.execute(query, {"user": user.dawarich_id}).fetchone() == (True,)


def rollback_user(dawarich: Dawarich, user: Mirrored) -> WriteReport:
    """Put a user's tracks back as they were before Trackgen wrote any, and forget that it did.

    Raises
    ------
    DatabaseError
        As by `write_user`.
    """
    report = WriteReport(user.name)
    if not has_written(dawarich, user):
        return report
    connection = dawarich.connection
    with _alone(connection, user):
        ids = [
            [id for (id,) in connection.execute(query, [user.dawarich_id]).fetchall()]
            for query in (
                "SELECT id FROM trackgen.tracks WHERE user_id = %s AND track_id IS NOT NULL ORDER BY id",
                "SELECT id FROM trackgen.saved_tracks WHERE user_id = %s ORDER BY id",
            )
        ]
        for portion in _portions(sorted(set(ids[0]) | set(ids[1])), TRACKS_AT_ONCE):
            in_transaction(dawarich, report, _restore_tracks, portion, report)
        query = f"""
            SELECT p.id FROM points AS p LEFT JOIN trackgen.saved_points AS s USING (id)
            WHERE p.user_id = %s AND p.track_id IS DISTINCT FROM s.track_id
              AND (s.id IS NOT NULL OR {_OURS.format("p.track_id")}) AND NOT {_FOREIGN}
            ORDER BY p.id
            """
        wrong = [id for (id,) in connection.execute(query, [user.dawarich_id]).fetchall()]
        for portion in _portions(wrong, POINTS_AT_ONCE):
            in_transaction(dawarich, report, _restore_points, portion, report)
        with connection.transaction():
            for table in KEPT:
                connection.execute(f"DELETE FROM trackgen.{table} WHERE user_id = %s", [user.dawarich_id])
    return report


# What is to be done ---------------------------------------------------------------------------------------------------


def _plan(store: Store, dawarich: Dawarich, user: Mirrored, take_over: bool) -> Plan:
    existing = _existing(dawarich, user)
    known = _known(dawarich, user)
    ours, legs = _our_rows(store, user)
    report = WriteReport(user.name)

    live = known[known["track_id"].notna()].set_index("track_id")
    ours["id"] = ours["track_id"].map(live["id"]).astype("Int64")
    is_ours = existing["id"].isin(live["id"])
    foreign = existing[~is_ours]
    if not take_over:
        in_the_way = best_pairs(ours, foreign)["one"].unique()
        held = ours.index.isin(ours.index[in_the_way]) & ours["id"].isna()
        report.held_back = int(held.sum())
        ours, foreign = ours[~held].reset_index(drop=True), foreign[:0]
    # What would vanish lends its id to what takes most of its place, so that links to it live on.
    vanishing = pd.concat([existing[is_ours & ~existing["id"].isin(ours["id"])], foreign])
    vanishing = vanishing.sort_values("points", ascending=False, kind="stable", ignore_index=True)
    heirs = np.flatnonzero(ours["id"].isna())
    pairs = best_pairs(ours.iloc[heirs], vanishing)
    used: tuple[set[int], set[int]] = set(), set()
    for one, other in zip(pairs["one"].tolist(), pairs["other"].tolist(), strict=True):
        if one not in used[0] and other not in used[1]:
            ours.loc[heirs[one], "id"] = vanishing["id"][other]
            used[0].add(one)
            used[1].add(other)
    gone = vanishing[~vanishing["id"].isin(ours["id"])]

    there = existing.set_index("id").reindex(ours["id"].astype("Float64").to_numpy("float64", na_value=np.nan))
    digest_of = live["digest"].to_dict()
    same = np.array(
        [digest_of.get(key) == one for key, one in zip(ours["track_id"], ours["digest"], strict=True)], bool
    )
    for name in EXISTING_DTYPES:
        if name not in ("id", "points"):
            same &= there[name].to_numpy() == ours[name].to_numpy()
    ours["write"], ours["own_s"] = ~same, spans_of(ours)[1]
    adopted = ours["id"].isin(foreign["id"])
    report.equal, report.adopted, report.removed = int(same.sum()), int(adopted.sum()), len(gone)
    report.new = int((ours["write"] & ~ours["id"].isin(existing["id"])).sum())
    report.changed = int(ours["write"].sum()) - report.new - report.adopted
    return Plan(ours, legs, set(foreign["id"].tolist()), gone[["id", "started_s", "ended_s"]], report)


def _existing(dawarich: Dawarich, user: Mirrored) -> pd.DataFrame:
    names = [name for name in EXISTING_DTYPES if name in ROW_DTYPES and not name.endswith("_s")]
    rows = dawarich.connection.execute(
        f"""
        SELECT id, floor(extract(epoch FROM start_at))::int8, floor(extract(epoch FROM end_at))::int8,
               {", ".join(f"coalesce({name}, -1)" for name in names)},
               md5(ST_AsBinary(original_path, 'NDR')), (SELECT count(*) FROM points AS p WHERE p.track_id = t.id)
        FROM tracks AS t WHERE user_id = %s ORDER BY start_at, end_at, id
        """,
        [user.dawarich_id],
    ).fetchall()
    columns = ["id", "started_s", "ended_s", *names, "md5", "points"]
    return pd.DataFrame(rows, columns=columns).astype(EXISTING_DTYPES)


def _known(dawarich: Dawarich, user: Mirrored) -> pd.DataFrame:
    """Return the ids that are or were ours, with our own name of each track that is."""
    rows: list[Any] = []
    if has_written(dawarich, user):
        query = "SELECT id, track_id, digest FROM trackgen.tracks WHERE user_id = %s"
        rows = dawarich.connection.execute(query, [user.dawarich_id]).fetchall()
    frame = pd.DataFrame(rows, columns=["id", "track_id", "digest"])
    return frame.astype({"id": "int64", "track_id": "object", "digest": "int64"})


def _our_rows(store: Store, user: Mirrored) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return our tracks as rows of Dawarich, without paths but with their `md5`, by start; and their legs."""
    no_legs = pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in LEG_DTYPES.items()})
    legs = pd.concat([no_legs, *(batch[[*LEG_DTYPES]] for batch in store.read_legs([user.name]))], ignore_index=True)
    empty: dict[str, str] = dict.fromkeys(("track_id", "device", "md5"), "object")
    empty |= ROW_DTYPES | dict.fromkeys(("device_id", "points", "digest"), "int64")
    frames = [pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in empty.items()})]
    for batch in store.read_tracks([user.name]):
        of_batch = legs[legs["track_id"].isin(batch["track_id"])]
        frames.append(
            track_rows(batch).assign(
                track_id=batch["track_id"],
                device=batch["device"],
                device_id=batch["device_id"],
                points=batch["points"],
                digest=digests(batch, of_batch),
                md5=[hashlib.md5(line(path), usedforsecurity=False).hexdigest() for path in batch["path"]],
            )
        )
    return pd.concat(frames).sort_values(["started_s", "ended_s", "track_id"], ignore_index=True), legs


def _note_new_ids(connection: psycopg.Connection[Any], ours: pd.DataFrame) -> None:
    """Give ids to tracks that have none yet."""
    new = ours["id"].isna()
    query = "SELECT nextval(pg_get_serial_sequence('tracks', 'id')) FROM generate_series(1, %s)"
    ours.loc[new, "id"] = [id for (id,) in connection.execute(query, [int(new.sum())]).fetchall()]


def _stage(store: Store, connection: psycopg.Connection[Any], user: Mirrored, plan: Plan) -> None:
    """Put into temporary tables which fixes belong to which track."""
    for name, columns in (
        ("spans", "id int8, device text, start_s int8, end_s int8"),
        ("set_aside", "device text, time_s int8, lon float8, lat float8"),
        ("wanted", "id int8, started_s int8, ended_s int8, distance int8, duration int4, avg_speed float8, "
         "elevation_gain int4, elevation_loss int4, elevation_max int4, elevation_min int4, dominant_mode int4, "
         "track_id text, digest int8, path bytea"),
        ("wanted_segments", "id int8, transportation_mode int4, start_index int4, end_index int4, distance int4, "
         "duration int4, avg_speed float8, confidence int4"),
    ):  # fmt: skip
        connection.execute(f"DROP TABLE IF EXISTS pg_temp.{name}")
        connection.execute(f"CREATE TEMP TABLE {name} ({columns})")
    spans = plan.ours.rename(columns={"own_s": "start_s", "ended_s": "end_s"})
    aside = zip(("device", "time_s", "lon", "lat"), set_aside(store, user.name), strict=True)
    tables = {
        "spans": spans[["id", "device", "start_s", "end_s"]],
        "set_aside": pd.DataFrame(dict(aside)),
    }
    for table, frame in tables.items():
        _fill(connection, table, frame)
    connection.execute("CREATE INDEX ON spans (device, start_s)")
    connection.execute("CREATE INDEX ON set_aside (device, time_s)")
    connection.execute("ANALYZE spans, set_aside")


def _fill(connection: psycopg.Connection[Any], table: str, frame: pd.DataFrame) -> None:
    """Put rows into a temporary table."""
    if len(frame):
        copy_in(connection, f"pg_temp.{table}", {str(name): column for name, column in frame.items()})


def _windows(plan: Plan) -> Iterator[tuple[pd.DataFrame, list[int], tuple[int, int]]]:
    """Cut what is to be done into portions between which no track lies, with about `POINTS_AT_ONCE` points.

    Yields
    ------
    tracks : DataFrame
        Rows of `plan.ours` that are to be written.
    gone : list of int
        Ids that are to be removed.
    span : (int, int)
        First and last second of all of them.
    """
    written = plan.ours[plan.ours["write"]]
    extents = written[["id", "started_s", "ended_s", "points"]].assign(is_gone=False)
    every = pd.concat([extents, plan.gone.assign(points=0, is_gone=True)])
    every = every.sort_values(["started_s", "ended_s"], ignore_index=True)
    reached = every["ended_s"].cummax().shift(fill_value=-1)
    cluster = (every["started_s"] > reached).cumsum()
    sums = every.groupby(cluster).agg(points=("points", "sum"), tracks=("points", "size"))
    before = sums.cumsum() - sums
    window = before["points"] // POINTS_AT_ONCE + before["tracks"] // TRACKS_AT_ONCE
    for _, part in every.groupby(cluster.map(window)):
        gone = part.loc[part["is_gone"].astype(bool), "id"].tolist()
        span = int(part["started_s"].min()), int(part["ended_s"].max())
        yield written[written["id"].isin(part["id"]) & ~written["id"].isin(gone)], gone, span


def _wanted(store: Store, tracks: pd.DataFrame, legs: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the rows of some tracks, with paths, and those of their segments."""
    ends = tracks.assign(own_ms=tracks["own_s"] * 1000, track_ended_ms=tracks["ended_s"] * 1000 + 999)
    of_tracks = legs.merge(ends[["track_id", "device_id", "id", "own_ms", "track_ended_ms"]], on="track_id")
    segments = [pd.DataFrame({"id": pd.Series(dtype="int64"), **{name: [] for name in SEGMENT_DTYPES}})]
    query = select(stored.c.track_id, stored.c.path).where(stored.c.track_id.in_(tracks["track_id"].tolist()))
    with store.read() as connection:
        paths = fetch_frame(connection, query, {"track_id": "object", "path": "object"})
        for device_id in of_tracks["device_id"].unique().tolist():
            part = of_tracks[of_tracks["device_id"] == device_id]
            span = int(part["own_ms"].min()), int(part["track_ended_ms"].max())
            times = store.fix_times(connection, device_id, *span)
            segments.append(segment_rows(part, times).assign(id=part["id"]))
    paths["path"] = [line(path) for path in paths["path"]]
    # What is not there any more, somebody has made anew meanwhile.
    rows = tracks[[*ROW_DTYPES, "id", "track_id", "digest"]].merge(paths, on="track_id")
    return rows, pd.concat(segments).astype({"id": "int64", **SEGMENT_DTYPES})


# What is done ---------------------------------------------------------------------------------------------------------


def _write_window(
    dawarich: Dawarich,
    user: Mirrored,
    wanted: tuple[pd.DataFrame, pd.DataFrame],
    gone: list[int],
    taken: list[int],
    wrong: list[Wrong],
    report: WriteReport,
) -> None:
    """Write some tracks, and give points theirs."""
    connection, (rows, segments) = dawarich.connection, wanted
    has_segments = dawarich.has("track_segments")
    connection.execute("TRUNCATE wanted, wanted_segments")
    _fill(connection, "wanted", rows)
    _fill(connection, "wanted_segments", segments)
    _save(dawarich, user, taken)
    changed = [*rows["id"].tolist(), *gone]
    if has_segments:
        connection.execute("DELETE FROM track_segments WHERE track_id = ANY(%s)", [changed])
    connection.execute("DELETE FROM tracks WHERE id = ANY(%s)", [gone])
    mode = dawarich.has("tracks", "dominant_mode")
    names = [name for name in ROW_DTYPES if not name.endswith("_s") and (mode or name != "dominant_mode")]
    # A row that was there keeps what else it has.
    updates = ", ".join(f"{name} = excluded.{name}" for name in (*names, "start_at", "end_at", "original_path"))
    connection.execute(
        f"""
        INSERT INTO tracks (id, user_id, start_at, end_at, original_path, {", ".join(names)}, created_at, updated_at)
        SELECT id, %s, to_timestamp(started_s) AT TIME ZONE 'UTC', to_timestamp(ended_s) AT TIME ZONE 'UTC',
               ST_GeomFromWKB(path, 4326), {", ".join(names)}, now() AT TIME ZONE 'UTC', now() AT TIME ZONE 'UTC'
        FROM wanted ORDER BY started_s
        ON CONFLICT (id) DO UPDATE SET {updates}, updated_at = excluded.updated_at
        """,
        [user.dawarich_id],
    )
    if has_segments:
        names = [*SEGMENT_DTYPES]
        connection.execute(
            f"""
            INSERT INTO track_segments (track_id, {", ".join(names)}, source, created_at, updated_at)
            SELECT id, {", ".join(names)}, %s, now() AT TIME ZONE 'UTC', now() AT TIME ZONE 'UTC'
            FROM wanted_segments ORDER BY id, start_index
            """,
            [SOURCE],
        )
    connection.execute(
        "INSERT INTO trackgen.tracks (id, user_id, track_id, digest) SELECT id, %s, track_id, digest FROM wanted "
        "ON CONFLICT (id) DO UPDATE SET track_id = excluded.track_id, digest = excluded.digest",
        [user.dawarich_id],
    )
    connection.execute("UPDATE trackgen.tracks SET track_id = NULL WHERE id = ANY(%s)", [gone])
    _correct_some(dawarich, user, wrong, report)


def _save(dawarich: Dawarich, user: Mirrored, ids: list[int]) -> None:
    """Keep tracks of Dawarich as they are, before they are taken over."""
    saved = [("tracks", "saved_tracks", "id")]
    if dawarich.has("track_segments"):
        saved.append(("track_segments", "saved_segments", "track_id"))
    for table, copy, key in saved:
        names = _shared_columns(dawarich.connection, table, copy)
        dawarich.connection.execute(
            f"INSERT INTO trackgen.{copy} ({names}) SELECT {names} FROM {table} WHERE {key} = ANY(%s) "
            "ON CONFLICT DO NOTHING",
            [ids],
        )
    dawarich.connection.execute(
        "INSERT INTO trackgen.saved_points (id, user_id, track_id) SELECT id, %s, track_id FROM points "
        "WHERE track_id = ANY(%s) ON CONFLICT DO NOTHING",
        [user.dawarich_id, ids],
    )


def _shared_columns(connection: psycopg.Connection[Any], table: str, copy: str) -> str:
    """Return the columns that a table and its copy both have; a newer Dawarich may have more."""
    query = """
        SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute
        WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped AND attname IN (
            SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped)
        """
    row = connection.execute(query, [table, f"trackgen.{copy}"]).fetchone()
    assert row is not None
    return str(row[0])


def _wrong(dawarich: Dawarich, user: Mirrored, span: tuple[int, int], taken: list[int]) -> list[Wrong]:
    """Return the points of a span of time whose track is not what it should be."""
    values = {"user": user.dawarich_id, "lo": span[0], "hi": span[1], "taken": taken}
    rows = dawarich.connection.execute(_WRONG.format(usable=dawarich.usable), values)
    return [Wrong(*row) for row in rows]


def _correct(dawarich: Dawarich, report: WriteReport, user: Mirrored, wrong: list[Wrong]) -> None:
    for portion in _portions(wrong, POINTS_AT_ONCE):
        in_transaction(dawarich, report, _correct_some, user, portion, report)


def _correct_some(dawarich: Dawarich, user: Mirrored, wrong: list[Wrong], report: WriteReport) -> None:
    """Give points their track, if they still are as they were seen; what was of no track that is there is kept, too."""
    ids, olds, news = ([row[n] for row in wrong] for n in range(3))
    done = dawarich.connection.execute(
        f"""
        WITH wrong AS MATERIALIZED (
            SELECT * FROM unnest(%(ids)s::int8[], %(olds)s::int8[], %(news)s::int8[]) AS wrong (id, old, new)
        ), saved AS (
            INSERT INTO trackgen.saved_points (id, user_id, track_id)
            SELECT id, %(user)s, old FROM wrong WHERE old IS NOT NULL AND NOT {_OURS.format("old")}
            ON CONFLICT DO NOTHING
        )
        UPDATE points AS p SET track_id = wrong.new FROM wrong
        WHERE wrong.id = p.id AND p.track_id IS NOT DISTINCT FROM wrong.old
        """,
        {"user": user.dawarich_id, "ids": ids, "olds": olds, "news": news},
    )
    report.points += done.rowcount


def _restore_tracks(dawarich: Dawarich, ids: list[int], report: WriteReport) -> None:
    connection = dawarich.connection
    if dawarich.has("track_segments"):
        connection.execute("DELETE FROM track_segments WHERE track_id = ANY(%s)", [ids])
    report.removed += connection.execute("DELETE FROM tracks WHERE id = ANY(%s)", [ids]).rowcount
    saved = [("tracks", "saved_tracks", "id")]
    if dawarich.has("track_segments"):
        saved.append(("track_segments", "saved_segments", "track_id"))
    for table, copy, key in saved:
        names = _shared_columns(connection, table, copy)
        done = connection.execute(
            f"WITH back AS (DELETE FROM trackgen.{copy} WHERE {key} = ANY(%s) RETURNING {names}) "
            f"INSERT INTO {table} ({names}) SELECT {names} FROM back ORDER BY id",
            [ids],
        )
        if table == "tracks":
            report.new += done.rowcount
    # Those that are Dawarich's again are no longer ours, but their ids still tell which points were.
    connection.execute("UPDATE trackgen.tracks SET track_id = NULL WHERE id = ANY(%s)", [ids])


def _restore_points(dawarich: Dawarich, ids: list[int], report: WriteReport) -> None:
    done = dawarich.connection.execute(
        "UPDATE points AS p SET track_id = (SELECT track_id FROM trackgen.saved_points AS s WHERE s.id = p.id) "
        "WHERE id = ANY(%s)",
        [ids],
    )
    report.points += done.rowcount


def _portions(ids: list[Row], size: int) -> Iterator[list[Row]]:
    yield from (ids[start : start + size] for start in range(0, len(ids), size))


def in_transaction(dawarich: Dawarich, report: WriteReport, do: Callable[..., Any], *args: Any) -> Any:  # noqa: ANN401
    """Do something in a transaction; once more, after a while, if others hold locks that it needs."""
    before = dict(vars(report))
    for attempt in range(1, ATTEMPTS + 1):
        started = time.perf_counter()
        try:
            with dawarich.connection.transaction():
                dawarich.connection.execute(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}")
                result = do(dawarich, *args)
            report.longest_s = max(report.longest_s, time.perf_counter() - started)
            return result
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as error:
            vars(report).update(before)
            if attempt == ATTEMPTS:
                raise DatabaseError(
                    f"{dawarich.name}: rows of {report.user} are locked by somebody else for too long: try again later"
                ) from error
            time.sleep(WAIT_S)


@contextmanager
def _alone(connection: psycopg.Connection[Any], user: Mirrored) -> Iterator[None]:
    """Keep others from writing for the same user; the lock goes with the connection, too."""
    key = [WRITER, user.dawarich_id % 2**31]
    if connection.execute("SELECT pg_try_advisory_lock(%s, %s)", key).fetchone() == (False,):
        raise DatabaseError(f"somebody else writes tracks of {user.name} at the moment: try again later")
    yield
    connection.execute("SELECT pg_advisory_unlock(%s, %s)", key)
