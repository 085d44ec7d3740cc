"""Our tracks written into Dawarich's tables.

Tracks, their segments and the `track_id` of their points are written together, some thousand points at a time, so that
no lock is held for long. New rows come first, then the points, and what is to be removed comes last: so every foreign
key holds all the time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import pandas as pd
import psycopg
from sqlalchemy import select

from trackgen_core.copying import copy_in
from trackgen_core.database import fetch_frame
from trackgen_core.dawarich import transactions
from trackgen_core.dawarich.comparison import listed_days, set_aside
from trackgen_core.dawarich.mirror import Mirrored
from trackgen_core.dawarich.planning import Plan, make_plan, windows
from trackgen_core.dawarich.rows import ROW_DTYPES, SEGMENT_DTYPES, SOURCE, line, segment_rows
from trackgen_core.dawarich.source import Dawarich
from trackgen_core.dawarich.tables import FOREIGN, OURS, note_taken_over, park, prepare, remove_tracks, save
from trackgen_core.dawarich.transactions import WriteReport, alone, in_transaction, portions
from trackgen_core.schema import tracks as stored
from trackgen_core.store import Store
from trackgen_core.words import counted

ALWAYS: Final = (-(2**31), 2**31 - 1)
"""A span of seconds that holds all that Dawarich can tell."""

PLANS: Final = 3
"""How often to look anew at what is there, if Dawarich's jobs write rows that are in the way meanwhile."""

UNFINISHED: Final = 0
"""The digest of a track of which not all points are written yet."""

_UTC: Final = "to_timestamp({0}) AT TIME ZONE 'UTC'"

_WRONG: Final = f"""
    WITH released AS MATERIALIZED (
        SELECT * FROM unnest(%(ids)s::int8[], %(first)s::int8[], %(last)s::int8[]) AS r (id, first_s, last_s)
    ), owned AS MATERIALIZED (
        SELECT p.id, spans.id AS track_id FROM spans CROSS JOIN LATERAL (
            SELECT p.id, p.timestamp, p.lonlat, {{device}} AS device FROM points AS p {{sources}}
            WHERE p.user_id = %(user)s AND {{usable}} AND p.timestamp BETWEEN spans.start_s AND spans.end_s
            OFFSET 0  -- so that they are looked up by time
        ) AS p
        WHERE spans.end_s >= %(lo)s AND spans.start_s <= %(hi)s AND p.device = spans.device
          AND (%(with_noise)s OR NOT EXISTS (
              SELECT FROM set_aside AS n WHERE (n.device, n.time_s, n.lon, n.lat) =
                     (spans.device, p.timestamp, ST_X(p.lonlat::geometry), ST_Y(p.lonlat::geometry))))
    ), near AS (  -- each half by an index of its own
        SELECT id, track_id, timestamp FROM points
        WHERE user_id = %(user)s AND timestamp BETWEEN %(lo)s AND %(hi)s
        UNION
        SELECT id, track_id, timestamp FROM points WHERE user_id = %(user)s AND track_id = ANY(%(ids)s)
    )
    SELECT p.id, p.track_id, owned.track_id FROM near AS p LEFT JOIN owned USING (id)
    LEFT JOIN released AS r ON r.id = p.track_id AND p.timestamp BETWEEN r.first_s AND r.last_s
    WHERE p.track_id IS DISTINCT FROM owned.track_id
      AND (r.id IS NOT NULL
           OR (p.track_id = ANY(%(taken)s) OR NOT {FOREIGN}) AND (owned.track_id IS NOT NULL OR NOT {{is_there}}))
    ORDER BY p.id
"""
"""The points of a user in a span of time whose track is not the one that it should be, and which that is; `taken` are
tracks that are about to be taken over. Tracks that are `released` give up the points of a span of time, but for those
that are theirs; other points that are in no span of ours stay where Dawarich has put them."""

_IS_THERE: Final = "EXISTS (SELECT FROM tracks AS t WHERE t.id = p.track_id)"


class Wrong(NamedTuple):
    """A point whose track is not the one that it should be."""

    id: int
    old: int | None
    new: int | None


@dataclass
class Window:
    """What is written together."""

    rows: pd.DataFrame
    segments: pd.DataFrame
    gone: list[int]
    taken: list[int]
    """Ids among those of `rows` and `gone` that are Dawarich's as yet."""
    saved: list[int]
    """Those of them that a rollback brings back."""
    corrected: list[int] = field(default_factory=list)
    """Ids of ours whose segments keep what somebody corrected by hand."""


def write_user(
    store: Store,
    dawarich: Dawarich,
    user: Mirrored,
    *,
    take_over: bool = False,
    replace_protected: bool = False,
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
        nothing is written, unless it was made since a take-over, in the place of ours.
    replace_protected : bool
        Whether to take the place also of tracks that Dawarich itself keeps when it makes tracks anew: of imports, demo
        data, and with segments that somebody corrected.
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
        return make_plan(store, dawarich, user, take_over, replace_protected).report
    with alone(dawarich.connection, user):
        prepare(dawarich)
        for attempt in range(1, PLANS + 1):
            try:
                return _write(store, dawarich, user, take_over, replace_protected, progress)
            except (psycopg.errors.UniqueViolation, psycopg.errors.ForeignKeyViolation):
                # Dawarich's own jobs have written there since: what is there now has to be looked at once more.
                if attempt == PLANS:
                    raise
    raise AssertionError


def _write(
    store: Store,
    dawarich: Dawarich,
    user: Mirrored,
    take_over: bool,
    replace_protected: bool,
    progress: Callable[[WriteReport, float], None],
) -> WriteReport:
    connection = dawarich.connection
    plan = make_plan(store, dawarich, user, take_over, replace_protected)
    report = plan.report
    _note_new_ids(connection, plan.ours)
    noise = _stage(store, connection, user, plan)
    cut = [*windows(plan)]
    for number, (tracks, gone, span) in enumerate(cut):
        window = _window(store, dawarich, plan, tracks, gone, noise)
        wrong = _wrong(dawarich, user, span, _released(tracks, window), window.taken)
        first, rest = wrong[: transactions.POINTS_AT_ONCE], wrong[transactions.POINTS_AT_ONCE :]
        in_transaction(dawarich, report, _write_window, user, plan, window, first, not rest, report)
        _correct(dawarich, report, user, rest)
        if rest:
            in_transaction(dawarich, report, _finish_window, window)
        progress(report, (number + 1) / len(cut))
    _correct(dawarich, report, user, _wrong(dawarich, user, ALWAYS, {}, []))
    if take_over:
        in_transaction(dawarich, report, note_taken_over, user)
    return report


# What is to be written ------------------------------------------------------------------------------------------------


def _note_new_ids(connection: psycopg.Connection[Any], ours: pd.DataFrame) -> None:
    """Give ids to tracks that have none yet."""
    new = ours["id"].isna()
    query = "SELECT nextval(pg_get_serial_sequence('tracks', 'id')) FROM generate_series(1, %s)"
    ours.loc[new, "id"] = [id for (id,) in connection.execute(query, [int(new.sum())]).fetchall()]


def _stage(store: Store, connection: psycopg.Connection[Any], user: Mirrored, plan: Plan) -> pd.DataFrame:
    """Put into temporary tables which fixes belong to which track; return those that are set aside."""
    for name, columns in (
        ("spans", "id int8, device text, start_s int8, end_s int8"),
        ("set_aside", "device text, time_s int8, lon float8, lat float8"),
        ("wanted", "id int8, device text, started_s int8, ended_s int8, distance int8, duration int4, "
         "avg_speed float8, elevation_gain int4, elevation_loss int4, elevation_max int4, elevation_min int4, "
         "dominant_mode int4, track_id text, digest int8, path bytea"),
        ("wanted_segments", "id int8, transportation_mode int4, start_index int4, end_index int4, distance int4, "
         "duration int4, avg_speed float8, max_speed float8, confidence int4, confidence_score float8, "
         "started_s int8, ended_s int8, path bytea"),
    ):  # fmt: skip
        connection.execute(f"DROP TABLE IF EXISTS pg_temp.{name}")
        connection.execute(f"CREATE TEMP TABLE {name} ({columns})")
    spans = plan.ours.rename(columns={"own_s": "start_s", "ended_s": "end_s"})
    aside = pd.DataFrame(dict(zip(("device", "time_s", "lon", "lat"), set_aside(store, user.name), strict=True)))
    _fill(connection, "spans", spans[["id", "device", "start_s", "end_s"]])
    _fill(connection, "set_aside", aside)
    connection.execute("CREATE INDEX ON spans (device, start_s)")
    connection.execute("CREATE INDEX ON set_aside (device, time_s)")
    connection.execute("ANALYZE spans, set_aside")
    return aside


def _fill(connection: psycopg.Connection[Any], table: str, frame: pd.DataFrame) -> None:
    """Put rows into a temporary table."""
    if len(frame):
        copy_in(connection, f"pg_temp.{table}", {str(name): column for name, column in frame.items()})


def _window(
    store: Store, dawarich: Dawarich, plan: Plan, tracks: pd.DataFrame, gone: list[int], noise: pd.DataFrame
) -> Window:
    """Return the rows of some tracks, with paths, and those of their segments."""
    ends = tracks.assign(own_ms=tracks["own_s"] * 1000, track_ended_ms=tracks["ended_s"] * 1000 + 999)
    columns = ["track_id", "device", "device_id", "id", "own_ms", "track_ended_ms"]
    of_tracks = plan.legs.merge(ends[columns], on="track_id")
    segments = [pd.DataFrame({"id": pd.Series(dtype="int64"), **{name: [] for name in SEGMENT_DTYPES}})]
    query = select(stored.c.track_id, stored.c.path).where(stored.c.track_id.in_(tracks["track_id"].tolist()))
    with store.read() as connection:
        paths = fetch_frame(connection, query, {"track_id": "object", "path": "object"})
        for device, part in of_tracks.groupby("device"):
            device_id = int(part["device_id"].iloc[0])
            lo_ms = int(part[["own_ms", "started_ms"]].min().min())
            points = store.points_of_device(connection, device_id, lo_ms, int(part["track_ended_ms"].max()))
            points["is_noise"] = _is_noise(points, noise[noise["device"] == device])
            rows = segment_rows(part, points, with_noise=dawarich.tracks_have_devices)
            segments.append(rows.assign(id=part["id"]))
    paths["path"] = [line(path) for path in paths["path"]]
    # What is not there any more, somebody has made anew meanwhile.
    rows = tracks[[*ROW_DTYPES, "id", "device", "track_id", "digest"]].merge(paths, on="track_id")
    taken = [id for id in (*rows["id"].tolist(), *gone) if id in plan.taken]
    return Window(
        rows,
        pd.concat(segments).astype({"id": "int64", **SEGMENT_DTYPES}),
        gone,
        taken,
        [id for id in taken if id in plan.saved],
        [id for id in rows["id"].tolist() if id not in plan.taken],
    )


def _is_noise(points: pd.DataFrame, noise: pd.DataFrame) -> list[bool]:
    """Tell which points of a device are set aside."""
    keys = pd.MultiIndex.from_arrays([points["time_ms"] // 1000, points["lon"], points["lat"]])
    found: list[bool] = keys.isin(pd.MultiIndex.from_frame(noise[["time_s", "lon", "lat"]])).tolist()
    return found


# What is done ---------------------------------------------------------------------------------------------------------


def _write_window(
    dawarich: Dawarich,
    user: Mirrored,
    plan: Plan,
    window: Window,
    wrong: list[Wrong],
    is_all: bool,
    report: WriteReport,
) -> None:
    """Write some tracks, give points theirs, and if these are all of them, remove what is to be removed."""
    connection, rows = dawarich.connection, window.rows
    connection.execute("TRUNCATE wanted, wanted_segments")
    _fill(connection, "wanted", rows)
    _fill(connection, "wanted_segments", window.segments)
    save(dawarich, user, window.saved)
    # What a rollback shall not bring back is noted as ours, so that nobody keeps it for Dawarich's.
    connection.execute(
        "INSERT INTO trackgen.tracks (id, user_id, digest) SELECT id, %s, %s FROM unnest(%s::int8[]) AS id "
        "ON CONFLICT DO NOTHING",
        [user.dawarich_id, UNFINISHED, window.taken],
    )
    if dawarich.tracks_have_devices:
        _make_way(dawarich, user, plan)
    _write_tracks(dawarich, user)
    if dawarich.has("track_segments"):
        _write_segments(dawarich, rows["id"].tolist(), window.corrected)
    connection.execute(
        "UPDATE trackgen.tracks SET track_id = NULL WHERE user_id = %s AND track_id IN (SELECT track_id FROM wanted)",
        [user.dawarich_id],
    )
    connection.execute(
        "INSERT INTO trackgen.tracks (id, user_id, track_id, digest) SELECT id, %s, track_id, %s FROM wanted "
        "ON CONFLICT (id) DO UPDATE SET track_id = excluded.track_id, digest = excluded.digest",
        [user.dawarich_id, UNFINISHED],
    )
    _correct_some(dawarich, user, wrong, report)
    if is_all:
        _finish_window(dawarich, window)


def _finish_window(dawarich: Dawarich, window: Window) -> None:
    """Remove what is to be removed, and note that the others have all their points."""
    remove_tracks(dawarich, window.gone)
    dawarich.connection.execute("UPDATE trackgen.tracks SET track_id = NULL WHERE id = ANY(%s)", [window.gone])
    dawarich.connection.execute(
        "UPDATE trackgen.tracks AS o SET digest = wanted.digest, first_s = wanted.started_s, last_s = wanted.ended_s "
        "FROM wanted WHERE o.id = wanted.id"
    )


def _make_way(dawarich: Dawarich, user: Mirrored, plan: Plan) -> None:
    """Remove, or move out of the way, rows that have the device and times that others shall have."""
    rows = dawarich.connection.execute(
        f"""
        SELECT t.id FROM tracks AS t JOIN wanted AS w ON t.start_at = {_UTC.format("w.started_s")}
         AND t.end_at = {_UTC.format("w.ended_s")} AND coalesce(t.tracker_id, '') = w.device AND t.id <> w.id
        WHERE t.user_id = %s
        """,
        [user.dawarich_id],
    ).fetchall()
    found, gone, ours = {id for (id,) in rows}, set(plan.gone["id"].tolist()), set(plan.ours["id"].tolist())
    remove_tracks(dawarich, [*(found & gone)])
    # These are written themselves, at the latest in another window: by then, nobody has their place.
    park(dawarich, [*(found & ours)])


def _write_tracks(dawarich: Dawarich, user: Mirrored) -> None:
    """Insert or update the rows of tracks; what a row has besides, it keeps."""
    names = [name for name in ROW_DTYPES if not name.endswith("_s")]
    values = {name: name for name in names if name != "dominant_mode" or dawarich.has("tracks", name)}
    values |= {name: _UTC.format(second) for name, second in (("start_at", "started_s"), ("end_at", "ended_s"))}
    values["original_path"] = "ST_GeomFromWKB(path, 4326)"
    if dawarich.tracks_have_devices:
        values["tracker_id"] = "nullif(device, '')"
    updates = [f"{name} = excluded.{name}" for name in (*values, "updated_at")]
    # Dawarich joins tracks again that are younger than an hour; who has read a row before shall not write it back.
    updates.append("created_at = least(tracks.created_at, excluded.created_at)")
    if dawarich.has("tracks", "lock_version"):
        updates.append("lock_version = tracks.lock_version + 1")
    dawarich.connection.execute(
        f"""
        INSERT INTO tracks (id, user_id, {", ".join(values)}, created_at, updated_at)
        SELECT id, %s, {", ".join(values.values())}, now() AT TIME ZONE 'UTC' - interval '1 day',
               now() AT TIME ZONE 'UTC'
        FROM wanted ORDER BY started_s
        ON CONFLICT (id) DO UPDATE SET {", ".join(updates)}
        """,
        [user.dawarich_id],
    )


def _write_segments(dawarich: Dawarich, ids: list[int], corrected: list[int]) -> None:
    """Write the segments of tracks in place of those that are there; modes that somebody has corrected stay."""
    connection = dawarich.connection
    keeps = all(dawarich.has("track_segments", name) for name in ("corrected_at", "start_at", "end_at"))
    if keeps:
        connection.execute("DROP TABLE IF EXISTS pg_temp.corrected")
        connection.execute(
            "CREATE TEMP TABLE corrected AS SELECT * FROM track_segments "
            "WHERE corrected_at IS NOT NULL AND track_id = ANY(%s)",
            [corrected],
        )
    connection.execute("DELETE FROM track_segments WHERE track_id = ANY(%s)", [ids])
    values = {name: name for name in SEGMENT_DTYPES}
    values |= {"start_at": "to_timestamp(started_s)", "end_at": "to_timestamp(ended_s)"}
    values["path"] = "ST_GeomFromWKB(path, 4326)"
    values = {name: value for name, value in values.items() if dawarich.has("track_segments", name)}
    # Of two legs that begin in the same second, one has no length.
    connection.execute(
        f"""
        INSERT INTO track_segments (track_id, {", ".join(values)}, source, created_at, updated_at)
        SELECT id, {", ".join(values.values())}, %s, now() AT TIME ZONE 'UTC', now() AT TIME ZONE 'UTC'
        FROM wanted_segments ORDER BY id, start_index, ended_s DESC
        ON CONFLICT DO NOTHING
        """,
        [SOURCE],
    )
    if keeps:
        connection.execute(
            """
            UPDATE track_segments AS g SET transportation_mode = c.transportation_mode, corrected_at = c.corrected_at,
                   confidence = c.confidence, source = c.source
            FROM corrected AS c WHERE g.track_id = c.track_id
             AND 2 * (least(g.end_at, c.end_at) - greatest(g.start_at, c.start_at)) >= g.end_at - g.start_at
            """
        )


def _released(tracks: pd.DataFrame, window: Window) -> dict[int, tuple[int, int]]:
    """Return the spans of time in which tracks give up points that are not theirs.

    A track of ours gives up those that we gave it: others, that Dawarich gave it, would only come back.
    """
    changed = tracks[~tracks["is_same"].to_numpy(bool) & ~tracks["id"].isin(window.taken).to_numpy(bool)]
    firsts, lasts = (changed[name].fillna(end) for name, end in zip(("first_s", "last_s"), ALWAYS, strict=True))
    spans = zip(firsts.astype("int64").tolist(), lasts.astype("int64").tolist(), strict=True)
    released = dict(zip(changed["id"].tolist(), spans, strict=True))
    return released | dict.fromkeys([*window.gone, *window.saved], ALWAYS)


def _wrong(
    dawarich: Dawarich,
    user: Mirrored,
    span: tuple[int, int],
    released: dict[int, tuple[int, int]],
    taken: list[int],
) -> list[Wrong]:
    """Return the points of a span of time whose track is not what it should be."""
    values: dict[str, Any] = {"user": user.dawarich_id, "lo": span[0], "hi": span[1], "taken": taken}
    values |= {"ids": [*released], "first": [lo for lo, _ in released.values()]}
    values["last"] = [hi for _, hi in released.values()]
    # Where tracks name their device, Dawarich gives points without a track to the track in whose time they lie.
    values["with_noise"] = dawarich.tracks_have_devices
    query = _WRONG.format(usable=dawarich.usable, device=dawarich.device, sources=dawarich.sources, is_there=_IS_THERE)
    return [Wrong(*row) for row in dawarich.connection.execute(query, values)]


def _correct(dawarich: Dawarich, report: WriteReport, user: Mirrored, wrong: list[Wrong]) -> None:
    for portion in portions(wrong, transactions.POINTS_AT_ONCE):
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
            SELECT id, %(user)s, old FROM wrong WHERE old IS NOT NULL AND NOT {OURS.format("old")}
            ON CONFLICT DO NOTHING
        )
        UPDATE points AS p SET track_id = wrong.new FROM wrong
        WHERE wrong.id = p.id AND p.track_id IS NOT DISTINCT FROM wrong.old
        """,
        {"user": user.dawarich_id, "ids": ids, "olds": olds, "news": news},
    )
    report.points += done.rowcount
