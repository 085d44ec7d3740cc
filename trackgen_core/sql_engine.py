"""Tracks once more, by one statement of SQL: a second engine, to compare the first with, or to do without it.

Nothing is shared with the first engine but the settings: PostgreSQL orders the points, PostGIS measures the links
between them, and window functions say where tracks begin and end (`sql_statement`). There are no days, segments or
seams: a track is a run of links. Noise and stays are taken as stored, of users whose settings have a noise filter or
stays; of all others, nothing is read but points, settings and edits.
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

from trackgen_core.database import DatabaseError, fetch_frames
from trackgen_core.geodesy import GEOD, IntArray, link_lengths_mm, pair_lengths_mm
from trackgen_core.merging import item_ids
from trackgen_core.paths import encode_path
from trackgen_core.points import MS_PER_DAY, iso_time
from trackgen_core.settings import Settings
from trackgen_core.sql_statement import LINK_DTYPES, LINKS, NEAR_HALF_MM, SQL_TRACK_DTYPES, TRACKS, rule_of
from trackgen_core.store import STAGES, Store

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
"""Columns of a track in which the engines have to agree; the length only where it is plain (`length_smoothing` off)."""

SHOWN: Final = 20
"""How many differences are described."""

NO_NAME: Final = "the device without a name"


@dataclass
class Comparison:
    """How the tracks that two engines make of the same points differ."""

    tracks: int = 0
    """Tracks that SQL makes."""
    stored: int = 0
    """Tracks that are stored."""
    links: int = 0
    """Links whose lengths were compared."""
    near_half: int = 0
    """Links and tracks that differ by a rounding that may go either way: see `NEAR_HALF_MM`."""
    left_out: int = 0
    """Tracks that were not compared, as work on their days is still listed."""
    users_left_out: list[str] = field(default_factory=list)
    """Users whose settings cannot be read."""
    smoothed: int = 0
    """Stored tracks whose lengths were not compared: they are without jitter, and those of SQL are plain."""
    differences: int = 0
    first: list[str] = field(default_factory=list)
    """Descriptions of the first differences."""

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
        for batch in _run(connection, TRACKS, SQL_TRACK_DTYPES, settings_of, lo_day, hi_day, rows=1_000):
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

    Tracks are left out where work is still listed on their days or the days beside, and lengths of tracks where the
    user's `length_smoothing` is on.

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

        scope = settings_of, lo_day, hi_day
        made = _rows(_run(connection, TRACKS, SQL_TRACK_DTYPES, *scope, rows=1_000))
        stored = _rows(store.read_tracks([names_of[user_id] for user_id in settings_of], lo_day, hi_day))
        smoothed = {names_of[user] for user, settings in settings_of.items() if settings.length_smoothing == "on"}
        _compare_tracks(made, stored, days_of, smoothed, result)
        for links in _run(connection, LINKS, LINK_DTYPES, *scope, rows=50_000):
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
    rules = json.dumps([rule_of(user_id, settings) for user_id, settings in settings_of.items()])
    return text(statement).bindparams(
        bindparam("rules", rules),
        bindparam("lo_ms", None if lo_day is None else lo_day * MS_PER_DAY, BigInteger),
        bindparam("hi_ms", None if hi_day is None else (hi_day + 1) * MS_PER_DAY, BigInteger),
    )


def _rows(batches: Iterator[pd.DataFrame]) -> Iterator[dict[str, Any]]:
    for batch in batches:
        names = batch.columns.tolist()
        for row in zip(*(batch[name].tolist() for name in names), strict=True):
            yield dict(zip(names, row, strict=True))


def _compare_tracks(
    made: Iterator[dict[str, Any]],
    stored: Iterator[dict[str, Any]],
    days_of: dict[str, IntArray],
    smoothed: set[str],
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
        common = min(map(len, found))
        result.smoothed += common * (user in smoothed)
        for one, other in zip(*found, strict=False):
            _compare_values(where, one, other, result, is_plain=user not in smoothed)
        for row in found[0][common:]:
            result.add(f"{where}: {_described(row)} follows from the points, but is not stored")
        for row in found[1][common:]:
            again = "is stored once more" if common else "is stored, but does not follow from the points"
            result.add(f"{where}: {_described(row)} {again} (track {row['track_id'][:8]})")


def _compare_values(
    where: str, made: dict[str, Any], stored: dict[str, Any], result: Comparison, *, is_plain: bool
) -> None:
    path = encode_path(np.frombuffer(made["path"], "<f8", offset=9).reshape(-1, 2))
    values = made | {"path": path}
    names = [name for name in COMPARED if values[name] != stored[name] and (is_plain or name != "length_mm")]
    if names == ["length_mm"] and abs(made["length_mm"] - stored["length_mm"]) <= made["near_half"]:
        result.near_half += 1
        return
    for name in names:
        says = (
            f"the path has not the {made['vertices']:,} vertices that SQL gives it"
            if name == "path"
            else f"{name} is {stored[name]!r}, but SQL gives {values[name]!r}"
        )
        result.add(f"{where}: {_described(stored)} (track {stored['track_id'][:8]}): {says}")


def _described(row: dict[str, Any]) -> str:
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
    differing = np.flatnonzero(expected != links["link_mm"].to_numpy())
    if not len(differing):
        return
    exact_mm = GEOD.inv(prev_lon[differing], prev_lat[differing], lon[differing], lat[differing])[2] * 1000
    for n, exact in zip(differing.tolist(), exact_mm.tolist(), strict=True):
        device_id, prev_ms, *places, link_mm = (links[name].tolist()[n] for name in LINK_DTYPES)
        if abs(exact % 1 - 0.5) < NEAR_HALF_MM and abs(link_mm - expected[n]) == 1:
            result.near_half += 1
            continue
        user, device = devices.loc[device_id, ["user", "device"]]
        link = "the link from {} {} to {} {}".format(*places)
        where = f"{user}, {device or NO_NAME}, {iso_time(prev_ms)}"
        result.add(f"{where}: {link} is {expected[n]:,} mm long, but SQL gives {link_mm:,} mm")
