"""What is kept: users and their settings, points, the work list, noise, segments, tracks and stays.

Every change of points or settings writes the work list (`dirty_days`) in the same transaction, and every result
clears its entry in the same transaction, so that a crash at any moment leaves listed what is still to do.
"""

from __future__ import annotations

import hashlib
import json
import random
import secrets
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    Select,
    Table,
    and_,
    bindparam,
    case,
    delete,
    func,
    literal,
    literal_column,
    select,
    tablesample,
    text,
    true,
    tuple_,
    union_all,
)

from trackgen_core.copying import packed
from trackgen_core.database import (
    DAYS_WITH_POINTS,
    POINTS_BY_DAY,
    Database,
    analyze,
    bulk_insert,
    fetch_columns,
    fetch_frame,
    fetch_frames,
    fetch_groups,
    fill,
    insert_ignore,
)
from trackgen_core.digests import mixed, text_words
from trackgen_core.edits import EDIT_DTYPES
from trackgen_core.geodesy import IntArray
from trackgen_core.merging import LEG_DTYPES, STAY_DTYPES, TRACK_DTYPES
from trackgen_core.points import FILE_FACTS, MS_PER_DAY, in_order
from trackgen_core.schema import (
    IS_EARLIER,
    IS_LATER,
    devices,
    dirty_days,
    edits,
    item_days,
    legs,
    noise,
    points,
    segments,
    settings_used,
    stays,
    tracks,
    users,
)
from trackgen_core.segmentation import BUFFER_MS, SEGMENT_DTYPES, empty_segments
from trackgen_core.settings import Settings, SettingsError, change_settings, make_settings

Stage = Literal["segments", "tracks"]
STAGES: Final[tuple[Stage, Stage]] = ("segments", "tracks")

VALUE_COLUMNS: Final = ("altitude", "accuracy", "speed")
HEAD_DTYPES: Final = {name: dtype for name, dtype in SEGMENT_DTYPES.items() if name != "path"}
"""A segment without its path: all that seams and chains need."""

KEY_DTYPES: Final = {name: SEGMENT_DTYPES[name] for name in ("device_id", "day", "number", "digest", "settings_id")}
"""What tells a segment from another one."""

PATH_DTYPES: Final = {name: SEGMENT_DTYPES[name] for name in ("device_id", "day", "number", "path")}

DAY_BITS: Final = 20
"""Of a day's number, as part of a larger one."""

DIRTY_DTYPES: Final = dict.fromkeys(("user_id", "day", "version", "listed_ms", "is_change", "attempts"), "int64")
DEAD_DTYPES: Final = {
    "stage": "object",
    "user": "object",
    "day": "int64",
    "attempts": "int64",
    "error": "object",
    "listed_ms": "int64",
}
SPAN_DTYPES: Final = {"device_id": "int64", "lo_ms": "int64", "hi_ms": "int64"}
ITEM_DTYPES: Final = {
    "item_id": "object",
    "is_stay": "int64",
    "device_id": "int64",
    "started_ms": "int64",
    "ended_ms": "int64",
    "settings_id": "object",
    "digest": "int64",
    "break_reason": "object",
}
"""A stored track or stay, as far as it is compared."""

POINT_DTYPES: Final = {
    "device_id": "int64",
    "time_ms": "int64",
    "lon": "float64",
    "lat": "float64",
    "altitude": "float64",
    "accuracy": "float64",
    "seq": "int64",
    "pause": "int64",
    "activity": "int64",
}
NOISE_DTYPES: Final = {
    "device_id": "int64",
    "time_ms": "int64",
    "lon": "float64",
    "lat": "float64",
    "reason": "object",
}
ITEM_DAY_DTYPES: Final = {
    "item_id": "object",
    "local_day": "int64",
    "user_id": "int64",
    "is_stay": "int64",
    "points": "int64",
    "length_mm": "int64",
    "moving_ms": "int64",
    "rest_ms": "int64",
    "gain_cm": "int64",
    "loss_cm": "int64",
}
LISTED_EDIT_DTYPES: Final = {
    "edit_id": "int64",
    "user": "object",
    "device": "object",
    "kind": "object",
    "before_ms": "int64",
    "after_ms": "int64",
    "mode": "object",
    "made_ms": "int64",
}
DAY_SUM_DTYPES: Final = {
    "user": "object",
    "local_day": "int64",
    "tracks": "int64",
    "stays": "int64",
    "length_mm": "int64",
    "moving_ms": "int64",
    "rest_ms": "int64",
    "gain_cm": "int64",
    "loss_cm": "int64",
}
TOUCHED_DTYPES: Final = {"user_id": "int64", "device_id": "int64", "day": "int64", "lo_ms": "int64", "hi_ms": "int64"}
"""Days of devices of which points change, with the first and the last of these points."""

MANY_DAYS: Final = 10_000
"""After so many are listed at once, what PostgreSQL knows of the work list is out of date."""

SAMPLED_PERCENT: Final = 10
"""Of the pages of points, where it is enough to know about how many there are."""

POINT_BATCH_ROWS: Final = 250_000
"""Points held at once while segments are made; a day of one device is never cut, whatever its size."""


class UnknownUser(LookupError):
    """A user who has no points."""


class Store:
    """The database as the rest of Trackgen sees it.

    Parameters
    ----------
    database : Database
        An open database.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self.read = database.read
        self.write = database.write

    # Users, devices, settings ---------------------------------------------------------------------------------------

    def user_ids(self, names: Collection[str]) -> list[int]:
        """Return the ids of users.

        Raises
        ------
        UnknownUser
            If one of them is not in the database.
        """
        with self.read() as connection:
            known: dict[str, int] = {name: user_id for name, user_id in connection.execute(_names(names))}  # noqa: C416
        if missing := sorted(set(names) - set(known)):
            raise UnknownUser(f"no such user: {', '.join(missing)} (users come with their first import)")
        return sorted(known.values())

    def user_names(self) -> list[str]:
        """Return the names of all users in order."""
        with self.read() as connection:
            return list(connection.scalars(select(users.c.name).order_by(users.c.name)))

    def names_of(self, connection: Connection) -> dict[int, str]:
        """Return the name of every user by `user_id`."""
        return dict(connection.execute(select(users.c.user_id, users.c.name)).tuples().all())

    def silent_users(self) -> list[str]:
        """Return the users who want no messages."""
        with self.read() as connection:
            return list(connection.scalars(select(users.c.name).where(users.c.notify == 0)))

    def set_notify(self, name: str, wanted: bool) -> None:
        """Say whether a user wants messages.

        Raises
        ------
        UnknownUser
            If there is no such user.
        """
        (user_id,) = self.user_ids([name])
        with self.write() as connection:
            connection.execute(users.update().where(users.c.user_id == user_id).values(notify=int(wanted)))

    def devices(self, connection: Connection, user_ids: Collection[int] | None = None) -> pd.DataFrame:
        """Return `user_id`, `user` and `device` (names) of all devices, or of some users', by `device_id`."""
        query = (
            select(devices.c.device_id, devices.c.user_id, users.c.name, devices.c.name)
            .join(users)
            .where(_of_users(devices.c.user_id, user_ids))
            .order_by(devices.c.device_id)
        )
        dtypes = {"device_id": "int64", "user_id": "int64", "user": "object", "device": "object"}
        return fetch_frame(connection, query, dtypes).set_index("device_id")

    def settings(self, name: str) -> Settings:
        """Return a user's settings.

        Raises
        ------
        UnknownUser
            If there is no such user.
        SettingsError
            If what is stored cannot be read.
        """
        with self.read() as connection:
            stored = connection.scalar(select(users.c.settings).where(users.c.name == name))
        if stored is None:
            raise UnknownUser(f"no such user: {name} (users come with their first import or settings)")
        return _read_settings(name, stored)

    def settings_of(
        self, connection: Connection, user_ids: Collection[int] | None = None, *, readable_only: bool = False
    ) -> dict[int, Settings]:
        """Return the settings of all users, or of some, by `user_id`; equal settings are one object.

        Raises
        ------
        SettingsError
            If what is stored of a user cannot be read; with `readable_only`, such users are left out instead.
        """
        query = select(users.c.user_id, users.c.name, users.c.settings).where(_of_users(users.c.user_id, user_ids))
        made: dict[str, Settings] = {}
        result = {}
        for user_id, name, stored in connection.execute(query):
            try:
                if stored not in made:
                    made[stored] = _read_settings(name, stored)
            except SettingsError:
                if not readable_only:
                    raise
            else:
                result[user_id] = made[stored]
        return result

    def settings_digest(self, names: Collection[str] = ()) -> str:
        """Return a short digest of what the settings of some users say, by default of all."""
        query = select(users.c.name, users.c.settings).order_by(users.c.name)
        with self.read() as connection:
            rows = connection.execute(query.where(users.c.name.in_(list(names))) if names else query).all()
        return hashlib.sha256(repr([tuple(row) for row in rows]).encode()).hexdigest()[:16]

    def set_settings(self, name: str, values: Mapping[str, Any]) -> Settings:
        """Change some settings of a user, and list all days of the user as work if that changes anything.

        With a `preset`, what is not among `values` does not stay as it is, but becomes what the preset says. Settings
        that cannot be read are taken for the defaults, so this is how they are mended.

        Raises
        ------
        SettingsError
            If a value is not allowed; then nothing is changed.
        """
        name = name.strip()
        if not name:
            raise SettingsError("a user has a name")
        with self.write() as connection:
            connection.execute(insert_ignore(connection, users).values(name=name))
            user_id, stored = connection.execute(
                select(users.c.user_id, users.c.settings).where(users.c.name == name)
            ).one()
            try:
                old = _read_settings(name, stored)
            except SettingsError:
                old = None
            new = change_settings(old, values)
            if new != old:
                changed = json.dumps(new.changed(), sort_keys=True)
                connection.execute(users.update().where(users.c.user_id == user_id).values(settings=changed))
                self.mark(connection, "segments", self.days_with_points(connection, [user_id]))
                for stage in STAGES:  # days without points, and tracks whose segments stay as they are
                    self.revive(connection, stage, user_ids=[user_id])
            return new

    # Points ---------------------------------------------------------------------------------------------------------

    def delete_points(
        self, name: str, device: str | None = None, lo_ms: int | None = None, hi_ms: int | None = None
    ) -> int:
        """Delete points of a user, and list their days as work.

        Parameters
        ----------
        name : str
            The user.
        device : str, optional
            One of the user's devices; by default all.
        lo_ms, hi_ms : int, optional
            First instant, and first instant no longer deleted; by default all.

        Returns
        -------
        int
            How many points were deleted.
        """
        (user_id,) = self.user_ids([name])
        with self.write() as connection:
            of_device = select(devices.c.device_id).where(devices.c.user_id == user_id)
            if device is not None:
                of_device = of_device.where(devices.c.name == device)
            where = and_(
                points.c.device_id.in_(of_device),
                true() if lo_ms is None else points.c.time_ms >= lo_ms,
                true() if hi_ms is None else points.c.time_ms < hi_ms,
            )
            day = (points.c.time_ms // MS_PER_DAY).label("day")
            touched = (
                select(
                    literal(user_id), points.c.device_id, day, func.min(points.c.time_ms), func.max(points.c.time_ms)
                )
                .where(where)
                .group_by(points.c.device_id, day)
            )
            self.mark_touched(connection, fetch_frame(connection, touched, TOUCHED_DTYPES))
            return connection.execute(delete(points).where(where)).rowcount

    def days_with_points(
        self,
        connection: Connection,
        user_ids: Collection[int] | None = None,
        lo_day: int = 0,
        hi_day: int | None = None,
    ) -> pd.DataFrame:
        """Return the distinct (`user_id`, `day`) that have points, from `lo_day` to `hi_day` inclusive.

        It costs a look-up a day along the key, and not a scan of the points.
        """
        of_users = "true" if user_ids is None else "user_id IN :user_ids"
        query = text(DAYS_WITH_POINTS[connection.dialect.name].format(of_users=of_users)).bindparams(
            lo_ms=lo_day * MS_PER_DAY,
            end_ms=np.iinfo(np.int64).max if hi_day is None else (hi_day + 1) * MS_PER_DAY,
            day_ms=MS_PER_DAY,
        )
        if user_ids is not None:
            query = query.bindparams(bindparam("user_ids", list(user_ids), expanding=True))
        return fetch_frame(connection, query, {"user_id": "int64", "day": "int64"})

    def read_points(
        self,
        connection: Connection,
        lo_day: int,
        hi_day: int,
        user_ids: Collection[int] | None = None,
    ) -> Iterator[pd.DataFrame]:
        """Stream the points of some days, inclusive, in the order of device, time, seq, lon, lat.

        Yields
        ------
        DataFrame
            The columns of `POINT_DTYPES`, and `emit`; about `POINT_BATCH_ROWS` rows. The rows with `emit` are those
            that were asked for, each in exactly one frame, and never a part of a device's day; the others are what the
            device has up to `BUFFER_MS` before and after them.
        """
        held: list[pd.DataFrame] = []
        done = 0  # rows at the beginning of what is held that were emitted before

        def emit(batch: pd.DataFrame, start: int, end: int) -> pd.DataFrame:
            days = batch["time_ms"].to_numpy() // MS_PER_DAY
            number = np.arange(len(batch))
            batch = in_order(batch)  # which moves points within an instant, so from no day into another
            return batch.assign(emit=(days >= lo_day) & (days <= hi_day) & (number >= start) & (number < end))

        for frame in self._points_in_order(connection, lo_day, hi_day, user_ids):
            held.append(frame)
            if sum(map(len, held)) - done < POINT_BATCH_ROWS:
                continue
            batch = pd.concat(held, ignore_index=True)
            device, time_ms = batch["device_id"].to_numpy(), batch["time_ms"].to_numpy()
            day = time_ms // MS_PER_DAY
            cuts = np.flatnonzero((np.diff(device) != 0) | (np.diff(day) != 0)) + 1
            # A day can be emitted when all that has to be known of the time behind it has been read.
            whole = (device[cuts - 1] != device[-1]) | (time_ms[-1] >= (day[cuts - 1] + 1) * MS_PER_DAY + BUFFER_MS)
            cuts = cuts[(cuts > done) & whole]
            held = [batch]
            if len(cuts):
                cut = int(cuts[-1])
                behind = (device == device[cut - 1]) & (time_ms < (day[cut - 1] + 1) * MS_PER_DAY + BUFFER_MS)
                before = (device == device[cut]) & (time_ms >= day[cut] * MS_PER_DAY - BUFFER_MS)
                yield emit(batch.iloc[: np.flatnonzero(behind)[-1] + 1], done, cut)
                start = int(np.flatnonzero(before)[0])
                held, done = [batch.iloc[start:]], cut - start
        if held:
            batch = pd.concat(held, ignore_index=True)
            yield emit(batch, done, len(batch))

    def _points_in_order(
        self, connection: Connection, lo_day: int, hi_day: int, user_ids: Collection[int] | None
    ) -> Iterator[pd.DataFrame]:
        """Stream the points of `read_points` along their key, with the columns of `POINT_DTYPES`."""
        of_devices = self._device_ids(connection, user_ids)
        lo_ms, end_ms = lo_day * MS_PER_DAY - BUFFER_MS, (hi_day + 1) * MS_PER_DAY + BUFFER_MS
        if connection.dialect.name == "postgresql":
            if of_devices:
                measured = [name for name in POINT_DTYPES if name not in ("device_id", *FILE_FACTS)]
                dtypes = {name: POINT_DTYPES[name] for name in measured} | {"facts": "int64"}
                by_day = POINTS_BY_DAY.format(
                    device_ids=",".join(map(str, of_devices)),
                    **{"lo_day": lo_day, "hi_day": hi_day, "lo_ms": lo_ms, "end_ms": end_ms},
                    **{"columns": ", ".join([*measured, _FACTS]), "packed": packed(dtypes)},
                )
                for frame in fetch_groups(connection, by_day, {"device_id": "int64"}, dtypes):
                    facts = frame.pop("facts").to_numpy()
                    yield frame.assign(seq=facts >> 16, pause=facts >> 8 & 0xFF, activity=facts & 0xFF)
            return
        query = (
            select(*(points.c[name] for name in POINT_DTYPES))
            .where(points.c.time_ms >= lo_ms, points.c.time_ms < end_ms, points.c.device_id.in_(of_devices))
            .order_by(points.c.device_id, points.c.time_ms, points.c.lon, points.c.lat)
        )
        yield from fetch_frames(connection, query, POINT_DTYPES)

    def _device_ids(self, connection: Connection, user_ids: Collection[int] | None) -> list[int]:
        """Return the devices of users by number: so rows are read along their key, and need not be sorted."""
        query = select(devices.c.device_id).where(_of_users(devices.c.user_id, user_ids)).order_by(devices.c.device_id)
        return list(connection.scalars(query).all())

    def points_of_device(self, connection: Connection, device_id: int, lo_ms: int, hi_ms: int) -> pd.DataFrame:
        """Return the points of one device from one instant to another, with the columns of `POINT_DTYPES`."""
        query = (
            select(*(points.c[name] for name in POINT_DTYPES))
            .where(points.c.device_id == device_id, points.c.time_ms.between(lo_ms, hi_ms))
            .order_by(*_IN_ORDER)
        )
        return fetch_frame(connection, query, POINT_DTYPES)

    def fix_times(self, connection: Connection, device_id: int, lo_ms: int, hi_ms: int) -> IntArray:
        """Return the times of the points of a device that are not set aside, from one instant to another."""
        query = (
            select(points.c.time_ms)
            .select_from(points.outerjoin(noise, _same_point))
            .where(points.c.device_id == device_id, points.c.time_ms.between(lo_ms, hi_ms), noise.c.reason.is_(None))
            .order_by(points.c.time_ms)
        )
        return np.array(connection.scalars(query).all(), np.int64)

    def points_of(self, track: Any) -> pd.DataFrame:  # noqa: ANN401 - a row of `read_tracks`, from itertuples
        """Return `time_ms`, `lon`, `lat`, `altitude` of the vertices of a track: its points and its shared ends."""
        names = ("time_ms", "lon", "lat", "altitude")
        query = (
            select(*(points.c[name] for name in names))
            .select_from(points.outerjoin(noise, _same_point))
            .where(
                points.c.device_id == track.device_id,
                points.c.time_ms.between(track.started_ms, track.ended_ms),
                tuple_(*_IN_ORDER) >= _place_in_order(track.device_id, *_start(track)),
                tuple_(*_IN_ORDER) <= _place_in_order(track.device_id, *_end(track)),
                noise.c.reason.is_(None),
            )
            .order_by(*_IN_ORDER)
        )
        with self.read() as connection:
            return fetch_frame(connection, query, {"time_ms": "int64"} | dict.fromkeys(names[1:], "float64"))

    def fixes_beside(self, connection: Connection, track: Any) -> tuple[pd.DataFrame, pd.DataFrame]:  # noqa: ANN401
        """Return the fix before a track (a row of `find_tracks`) and the one after it, of those that are not set aside.

        Returns
        -------
        before, after : DataFrame
            `time_ms`, `lon`, `lat`: a row, or none.
        """
        dtypes = {"time_ms": "int64", "lon": "float64", "lat": "float64"}
        first, last = (_place_in_order(track.device_id, *end) for end in (_start(track), _end(track)))
        query = (
            select(*(points.c[name] for name in dtypes))
            .select_from(points.outerjoin(noise, _same_point))
            .where(points.c.device_id == track.device_id, noise.c.reason.is_(None))
            .limit(1)
        )
        before = query.where(points.c.time_ms <= track.started_ms, tuple_(*_IN_ORDER) < first)
        after = query.where(points.c.time_ms >= track.ended_ms, tuple_(*_IN_ORDER) > last)
        return (
            fetch_frame(connection, before.order_by(*(column.desc() for column in _IN_ORDER)), dtypes),
            fetch_frame(connection, after.order_by(*_IN_ORDER), dtypes),
        )

    def read_all_points(
        self,
        names: Collection[str] | None = None,
        lo_day: int | None = None,
        hi_day: int | None = None,
        *,
        noise_only: bool = False,
    ) -> Iterator[pd.DataFrame]:
        """Stream points of some days, inclusive, with all that is known of them, sorted by user, device and time.

        Returns
        -------
        iterator of DataFrame
            `user`, `device`, `time_ms`, `lon`, `lat`, `altitude`, `accuracy`, `speed`, `seq`, `pause`, `activity`, and
            `noise`: why the point is set aside, missing where it is not.

        Raises
        ------
        UnknownUser
            If one of the users is not in the database.
        """
        user_ids = None if names is None else self.user_ids(names)
        values = ("lon", "lat", *VALUE_COLUMNS)
        columns = ("time_ms", *values, *FILE_FACTS)
        query = (
            select(users.c.name, devices.c.name, *(points.c[name] for name in columns), noise.c.reason)
            .select_from(users.join(devices).join(points).join(noise, _same_point, isouter=not noise_only))
            .where(
                true() if lo_day is None else points.c.time_ms >= lo_day * MS_PER_DAY,
                true() if hi_day is None else points.c.time_ms < (hi_day + 1) * MS_PER_DAY,
                _of_users(devices.c.user_id, user_ids),
            )
            .order_by(users.c.name, devices.c.name, *_IN_ORDER)
        )
        dtypes = {"user": "object", "device": "object", "time_ms": "int64"} | dict.fromkeys(values, "float64")
        dtypes |= dict.fromkeys(FILE_FACTS, "int64")
        return self._stream(query, dtypes | {"noise": "object"}, 50_000)

    def count_points(
        self, connection: Connection, lo_day: int, hi_day: int, user_ids: Collection[int] | None = None
    ) -> dict[int, int]:
        """Return the number of points of each day that has any, from `lo_day` to `hi_day` inclusive."""
        return self._count_by_day(connection, points, lo_day, hi_day, user_ids)

    def estimate_points(
        self, connection: Connection, lo_day: int, hi_day: int, user_ids: Collection[int] | None = None
    ) -> dict[int, int]:
        """Return about how many points each day has: PostgreSQL counts those of a part of its pages.

        Of the 200,000 points of a window it finds about 1,400 pages full, so the number is seldom wrong by a fifth.
        """
        if connection.dialect.name != "postgresql":
            return self.count_points(connection, lo_day, hi_day, user_ids)
        sample = tablesample(points, func.system(SAMPLED_PERCENT), "points", seed=literal(0))
        counted = self._count_by_day(connection, sample, lo_day, hi_day, user_ids)
        return {day: count * 100 // SAMPLED_PERCENT for day, count in counted.items()}

    def _count_by_day(
        self, connection: Connection, table: FromClause, lo_day: int, hi_day: int, user_ids: Collection[int] | None
    ) -> dict[int, int]:
        day = (table.c.time_ms // MS_PER_DAY).label("day")
        query = (
            select(day, func.count())
            .where(
                table.c.device_id.in_(self._device_ids(connection, user_ids)),
                table.c.time_ms >= lo_day * MS_PER_DAY,
                table.c.time_ms < (hi_day + 1) * MS_PER_DAY,
            )
            .group_by(day)
        )
        return {int(number): int(count) for number, count in connection.execute(query)}

    # The work list --------------------------------------------------------------------------------------------------

    def mark(self, connection: Connection, stage: Stage, days: pd.DataFrame, *, is_change: bool = True) -> None:
        """List some (`user_id`, `day`) as work.

        Parameters
        ----------
        connection : Connection
            A transaction that writes.
        stage : {"segments", "tracks"}
            What there is to make.
        days : DataFrame
            `user_id`, `day`.
        is_change : bool
            Whether what the days are made of has changed: then those that are listed already get a new token, too.
            Otherwise somebody only asked for them, and they keep their entry. Dead letters come alive either way.
        """
        if days.empty:
            return
        version = _new_version()
        fill(connection, "listed", days[["user_id", "day"]])
        anew = "version = excluded.version, is_change = 1, " if is_change else ""
        query = text(
            f"""
            INSERT INTO dirty_days (stage, user_id, day, version, listed_ms, is_change)
            SELECT :stage, user_id, day, :version, :listed_ms, :is_change FROM listed WHERE true
            ON CONFLICT (stage, user_id, day) DO UPDATE SET {anew} attempts = 0, error = NULL
            """
        )
        values = {"stage": stage, "version": version, "listed_ms": version_ms(version), "is_change": int(is_change)}
        connection.execute(query, values)
        if len(days) >= MANY_DAYS:
            analyze(connection, "dirty_days")

    def mark_touched(self, connection: Connection, touched: pd.DataFrame) -> None:
        """List as work the days of points that change, and days beside them in whose buffer these points lie.

        Parameters
        ----------
        connection : Connection
            A transaction that writes.
        touched : DataFrame
            The columns of `TOUCHED_DTYPES`.
        """
        if touched.empty:
            return
        starts = touched["day"] * MS_PER_DAY
        before = touched[["device_id"]].assign(lo_ms=touched["lo_ms"] - BUFFER_MS, hi_ms=starts - 1)
        after = touched[["device_id"]].assign(lo_ms=starts + MS_PER_DAY, hi_ms=touched["hi_ms"] + BUFFER_MS)
        beside = pd.concat([before, after])
        fill(connection, "spans", beside[beside["lo_ms"] <= beside["hi_ms"]])
        query = text(
            f"""
            SELECT DISTINCT user_id, hi_ms / {MS_PER_DAY} AS day FROM spans JOIN devices USING (device_id)
            WHERE (SELECT 1 FROM points AS p WHERE p.device_id = spans.device_id
                                               AND p.time_ms BETWEEN spans.lo_ms AND spans.hi_ms LIMIT 1) IS NOT NULL
            """
        )
        days = [touched[["user_id", "day"]], fetch_frame(connection, query, {"user_id": "int64", "day": "int64"})]
        self.mark(connection, "segments", pd.concat(days).drop_duplicates())

    def revive(
        self,
        connection: Connection,
        stage: Stage,
        lo_day: int | None = None,
        hi_day: int | None = None,
        user_ids: Collection[int] | None = None,
    ) -> None:
        """Make ordinary work of dead letters."""
        where = (*_entries(stage, lo_day, hi_day, user_ids), dirty_days.c.error.is_not(None))
        connection.execute(dirty_days.update().where(*where).values(attempts=0, error=None))

    def dirty(
        self,
        connection: Connection,
        stage: Stage,
        lo_day: int | None = None,
        hi_day: int | None = None,
        user_ids: Collection[int] | None = None,
        *,
        dead: bool = True,
    ) -> pd.DataFrame:
        """Return the listed work of a stage with the columns of `DIRTY_DTYPES`, sorted by day and user.

        Parameters
        ----------
        connection : Connection
            A transaction.
        stage : {"segments", "tracks"}
            What there is to make.
        lo_day, hi_day : int, optional
            First and last day; by default all.
        user_ids : collection of int, optional
            Users; by default all.
        dead : bool
            Also dead letters.
        """
        query = (
            select(*(dirty_days.c[name] for name in DIRTY_DTYPES))
            .where(
                *_entries(stage, lo_day, hi_day, user_ids),
                true() if dead else dirty_days.c.error.is_(None),
            )
            .order_by(dirty_days.c.day, dirty_days.c.user_id)
        )
        return fetch_frame(connection, query, DIRTY_DTYPES)

    def clear(self, connection: Connection, stage: Stage, seen: pd.DataFrame) -> None:
        """Take work off the list, unless it was listed anew since `seen` (the frame of `dirty`) was read."""
        if seen.empty:
            return
        fill(connection, "listed", seen[["user_id", "day", "version"]])
        done = connection.execute(
            text(
                "DELETE FROM dirty_days WHERE stage = :stage "
                "AND (user_id, day, version) IN (SELECT user_id, day, version FROM listed)"
            ),
            {"stage": stage},
        ).rowcount
        if done < len(seen):  # what is still there was listed anew, and all that is older is done
            anew = "stage = :stage AND (user_id, day) IN (SELECT user_id, day FROM listed)"
            connection.execute(text(f"UPDATE dirty_days SET listed_ms = version >> 20 WHERE {anew}"), {"stage": stage})

    def note_failure(
        self, connection: Connection, stage: Stage, user_id: int, day: int, version: int, attempts: int, error: str
    ) -> None:
        """Make a dead letter of an entry that failed `attempts` times more, unless it was listed anew meanwhile.

        Parameters
        ----------
        connection : Connection
            A transaction that writes.
        stage : {"segments", "tracks"}
            What could not be made.
        user_id, day : int
            Whose, and of which day.
        version : int
            The token of the entry before the last attempt.
        attempts : int
            How often it was tried.
        error : str
            What the last attempt failed with.
        """
        where = (*_entries(stage, day, day, [user_id]), dirty_days.c.version == version)
        values = {"attempts": dirty_days.c.attempts + attempts, "error": error}
        connection.execute(dirty_days.update().where(*where).values(values))

    def dead_letters(self, connection: Connection, user_ids: Collection[int] | None = None) -> pd.DataFrame:
        """Return the work that failed for good, with the columns of `DEAD_DTYPES`, sorted by day, user and stage."""
        names = ("day", "attempts", "error", "listed_ms")
        query = (
            select(dirty_days.c.stage, users.c.name, *(dirty_days.c[name] for name in names))
            .select_from(dirty_days.join(users))
            .where(dirty_days.c.error.is_not(None), _of_users(dirty_days.c.user_id, user_ids))
            .order_by(dirty_days.c.day, users.c.name, dirty_days.c.stage)
        )
        return fetch_frame(connection, query, DEAD_DTYPES)

    # Edits ----------------------------------------------------------------------------------------------------------

    def edits(self, connection: Connection, user_ids: Collection[int] | None = None) -> pd.DataFrame:
        """Return the edits by hand of all users, or of some, in the order in which they were made."""
        query = (
            select(*(edits.c[name] for name in EDIT_DTYPES))
            .select_from(devices.join(edits))
            .where(_of_users(devices.c.user_id, user_ids))
            .order_by(edits.c.edit_id)
        )
        return fetch_frame(connection, query, EDIT_DTYPES)

    def list_edits(self, names: Collection[str] | None = None) -> pd.DataFrame:
        """Return the edits of users with the columns of `LISTED_EDIT_DTYPES`, in the order in which they were made.

        Raises
        ------
        UnknownUser
            If one of the users is not in the database.
        """
        user_ids = None if names is None else self.user_ids(names)
        columns = {"user": users.c.name, "device": devices.c.name}
        query = (
            select(*(columns[name] if name in columns else edits.c[name] for name in LISTED_EDIT_DTYPES))
            .select_from(users.join(devices).join(edits))
            .where(_of_users(users.c.user_id, user_ids))
            .order_by(edits.c.edit_id)
        )
        with self.read() as connection:
            return fetch_frame(connection, query, LISTED_EDIT_DTYPES)

    def add_edit(
        self, connection: Connection, device_id: int, kind: str, before_ms: int, after_ms: int, mode: str | None = None
    ) -> int:
        """Keep an edit, list its days as work, and return its number.

        Parameters
        ----------
        connection : Connection
            A transaction that writes.
        device_id : int
            Whose tracks.
        kind : {"split", "merge", "mode"}
            What is said.
        before_ms, after_ms : int
            The instants on either side.
        mode : str, optional
            How somebody moved.
        """
        values = {"device_id": device_id, "kind": kind, "before_ms": before_ms, "after_ms": after_ms, "mode": mode}
        made_ms = time.time_ns() // 1_000_000
        edit_id = connection.scalar(edits.insert().values(**values, made_ms=made_ms).returning(edits.c.edit_id))
        self._mark_edited(connection, device_id, before_ms, after_ms)
        return int(edit_id or 0)

    def remove_edit(self, connection: Connection, edit_id: int) -> bool:
        """Forget an edit, and list its days as work; say whether there was one."""
        span = select(edits.c.device_id, edits.c.before_ms, edits.c.after_ms).where(edits.c.edit_id == edit_id)
        found = connection.execute(span).one_or_none()
        if found is None:
            return False
        connection.execute(delete(edits).where(edits.c.edit_id == edit_id))
        self._mark_edited(connection, *found)
        return True

    def _mark_edited(self, connection: Connection, device_id: int, before_ms: int, after_ms: int) -> None:
        user_id = connection.scalar(select(devices.c.user_id).where(devices.c.device_id == device_id))
        days = pd.DataFrame({"day": np.arange(before_ms // MS_PER_DAY, after_ms // MS_PER_DAY + 1)})
        for stage in STAGES:  # where a seam changes, no segment need do so
            self.mark(connection, stage, days.assign(user_id=user_id))

    # Segments -------------------------------------------------------------------------------------------------------

    def segment_heads(self, connection: Connection, spans: pd.DataFrame) -> pd.DataFrame:
        """Return the segments, without paths, that touch `spans`; sorted as `seams` wants them."""
        return self._segments_in(connection, spans, HEAD_DTYPES)

    def _segments_in(self, connection: Connection, spans: pd.DataFrame, dtypes: Mapping[str, Any]) -> pd.DataFrame:
        if spans.empty:
            return empty_segments()[[*dtypes]]
        # As one range of the key: a join with `spans` is planned without knowing how long they are.
        lo_day, hi_day = int(spans["lo_ms"].min()) // MS_PER_DAY, int(spans["hi_ms"].max()) // MS_PER_DAY
        query = (
            select(*(segments.c[name] for name in dtypes))
            .where(segments.c.device_id.in_(spans["device_id"].tolist()), segments.c.day.between(lo_day, hi_day))
            .order_by(segments.c.device_id, segments.c.day, segments.c.number)
        )
        frames = fetch_columns(connection, query, dtypes)
        found = pd.concat([*frames] or [empty_segments()[[*dtypes]]], ignore_index=True)
        spans = spans.sort_values("device_id")
        of = np.searchsorted(spans["device_id"].to_numpy(), found["device_id"].to_numpy())
        lo, hi = (spans[name].to_numpy()[of] // MS_PER_DAY for name in ("lo_ms", "hi_ms"))
        touching = (found["day"].to_numpy() >= lo) & (found["day"].to_numpy() <= hi)
        return found if touching.all() else found[touching].reset_index(drop=True)

    def segment_keys(self, connection: Connection, spans: pd.DataFrame) -> pd.DataFrame:
        """Return what tells the segments that touch `spans` from others: the columns of `KEY_DTYPES`."""
        return self._segments_in(connection, spans, KEY_DTYPES)

    def segment_paths(self, connection: Connection, heads: pd.DataFrame) -> pd.DataFrame:
        """Return `device_id`, `day`, `number` and `path` of some segments, and of others between them."""
        spans = heads.groupby("device_id", as_index=False).agg(lo_ms=("day", "min"), hi_ms=("day", "max"))
        spans[["lo_ms", "hi_ms"]] *= MS_PER_DAY
        return self._segments_in(connection, spans, PATH_DTYPES)

    def replace_segments(
        self,
        connection: Connection,
        made: pd.DataFrame,
        made_noise: pd.DataFrame,
        user_of: Mapping[int, int],
        claimed: pd.DataFrame,
    ) -> None:
        """Put what was made in the place of all segments and noise of the `claimed` days.

        The days whose segments changed are listed for `tracks`.

        Parameters
        ----------
        connection : Connection
            A transaction that writes.
        made : DataFrame
            The segments of the claimed days.
        made_noise : DataFrame
            The noise of the claimed days, with the columns of `NOISE_DTYPES`.
        user_of : mapping of int to int
            The user of each device.
        claimed : DataFrame
            `user_id`, `day`, `version`, as seen on the work list before the points were read. A day that is no longer
            listed was finished by somebody else with newer points and is left alone; one that was listed anew
            is written, and stays listed.
        """
        if claimed.empty:
            return
        listed = self.dirty(
            connection,
            "segments",
            int(claimed["day"].min()),
            int(claimed["day"].max()),
            set(claimed["user_id"].tolist()),
        )
        claimed = claimed[np.isin(_keys(claimed, "user_id"), _keys(listed, "user_id"))]
        by_user = pd.Series(user_of, name="user_id").rename_axis("device_id").reset_index()
        device_days = claimed[["user_id", "day"]].merge(by_user, on="user_id")
        made = made[np.isin(_keys(made), _keys(device_days))]

        stored = self.segment_keys(connection, _day_spans(device_days))
        stored = stored[np.isin(_keys(stored), _keys(device_days))]
        differences = pd.concat([signatures(made), -signatures(stored)]).groupby(level=0).sum()
        changed = differences.index[differences != 0].to_numpy()
        if len(changed):
            days = pd.DataFrame({"device_id": changed >> DAY_BITS, "day": changed & (1 << DAY_BITS) - 1})
            outdated = days[np.isin(changed, _keys(stored))]
            if len(outdated):
                fill(connection, "picked", outdated)
                connection.exec_driver_sql(
                    "DELETE FROM segments WHERE (device_id, day) IN (SELECT device_id, day FROM picked)"
                )
            bulk_insert(connection, "segments", made.loc[np.isin(_keys(made), changed), list(SEGMENT_DTYPES)])
            days["user_id"] = days["device_id"].map(user_of)
            self.mark(connection, "tracks", days[["user_id", "day"]].drop_duplicates())
        self._replace_noise(connection, made_noise, device_days)
        self.clear(connection, "segments", claimed)

    def _replace_noise(self, connection: Connection, made: pd.DataFrame, device_days: pd.DataFrame) -> None:
        """Put noise in the place of that of some days."""
        fill(connection, "spans", _day_spans(device_days))
        query = text(
            f"""
            SELECT {", ".join(f"n.{name}" for name in NOISE_DTYPES)} FROM spans JOIN noise AS n
              ON n.device_id = spans.device_id AND n.time_ms BETWEEN spans.lo_ms AND spans.hi_ms
            """
        )
        stored = fetch_frame(connection, query, NOISE_DTYPES)
        key = list(NOISE_DTYPES)
        both = [
            frame.loc[np.isin(_keys(frame.assign(day=frame["time_ms"] // MS_PER_DAY)), _keys(device_days)), key]
            for frame in (made, stored)
        ]
        if not len(both[0]) and not len(both[1]):
            return
        compared = both[0].merge(both[1], how="outer", indicator=True)
        gone, new = (compared.loc[compared["_merge"] == side, key] for side in ("right_only", "left_only"))
        if len(gone):
            where = "device_id = :device_id AND time_ms = :time_ms AND lon = :lon AND lat = :lat"
            connection.execute(text(f"DELETE FROM noise WHERE {where}"), _records(gone))
        bulk_insert(connection, "noise", new)

    def count_noise(
        self, connection: Connection, lo_day: int, hi_day: int, user_ids: Collection[int] | None = None
    ) -> dict[int, int]:
        """Return the number of points set aside of each day that has any, from `lo_day` to `hi_day` inclusive."""
        return self._count_by_day(connection, noise, lo_day, hi_day, user_ids)

    def segment_sums(
        self, connection: Connection, lo_day: int, hi_day: int, user_ids: Collection[int] | None = None
    ) -> pd.DataFrame:
        """Return `points` in segments and `segments` by `day`, of each day from `lo_day` to `hi_day` that has any."""
        query = (
            select(segments.c.day, func.sum(segments.c.points), func.count())
            .select_from(devices.join(segments))
            .where(segments.c.day.between(lo_day, hi_day), _of_users(devices.c.user_id, user_ids))
            .group_by(segments.c.day)
        )
        dtypes = {"day": "int64", "points": "int64", "segments": "int64"}
        return fetch_frame(connection, query, dtypes).set_index("day")

    def count_segment_points(
        self, connection: Connection, lo_day: int, hi_day: int, user_ids: Collection[int] | None = None
    ) -> dict[int, int]:
        """Return the number of points in segments of each day that has any, from `lo_day` to `hi_day` inclusive."""
        sums = self.segment_sums(connection, lo_day, hi_day, user_ids)
        return dict(zip(sums.index.tolist(), sums["points"].tolist(), strict=True))

    def days_with_segments(
        self, connection: Connection, lo_day: int, hi_day: int, user_ids: Collection[int] | None = None
    ) -> pd.DataFrame:
        """Return the distinct (`user_id`, `day`) that have segments, from `lo_day` to `hi_day` inclusive."""
        query = (
            select(devices.c.user_id, segments.c.day)
            .select_from(devices.join(segments))
            .where(segments.c.day.between(lo_day, hi_day), _of_users(devices.c.user_id, user_ids))
            .distinct()
        )
        return fetch_frame(connection, query, {"user_id": "int64", "day": "int64"})

    def days_with_tracks(
        self, connection: Connection, lo_day: int, hi_day: int, user_ids: Collection[int] | None = None
    ) -> pd.DataFrame:
        """Return the distinct (`user_id`, `day`) on which tracks start, from `lo_day` to `hi_day` inclusive."""
        day = (tracks.c.started_ms // MS_PER_DAY).label("day")
        query = (
            select(devices.c.user_id, day)
            .select_from(devices.join(tracks))
            .where(
                *_starting(tracks, lo_day, hi_day),
                _of_users(devices.c.user_id, user_ids),
            )
            .distinct()
        )
        return fetch_frame(connection, query, {"user_id": "int64", "day": "int64"})

    def note_settings(self, connection: Connection, used: Iterable[Settings]) -> None:
        """Keep the settings that a result was made with."""
        rows = [{"settings_id": one.settings_id, "settings": one.model_dump_json()} for one in used]
        if rows:
            connection.execute(insert_ignore(connection, settings_used), rows)

    # Tracks ---------------------------------------------------------------------------------------------------------

    def item_heads(self, connection: Connection, spans: pd.DataFrame) -> pd.DataFrame:
        """Return the tracks and stays that touch `spans`, as far as they are compared: the columns of `ITEM_DTYPES`.

        Items of a device do not overlap, so of those that start before a span only the last can reach into it.
        """
        fill(connection, "spans", spans[list(SPAN_DTYPES)])
        names = ", ".join(f"t.{name}" for name in ITEM_DTYPES if name not in ("item_id", "is_stay"))
        queries = [
            f"""
            SELECT t.{key}, {is_stay}, {names} FROM spans JOIN {table} AS t
              ON t.device_id = spans.device_id AND t.started_ms <= spans.hi_ms AND t.ended_ms >= spans.lo_ms
             AND t.started_ms >= coalesce((SELECT max(started_ms) FROM {table} AS earlier
                                           WHERE earlier.device_id = spans.device_id
                                             AND earlier.started_ms < spans.lo_ms), spans.lo_ms)
            """
            for is_stay, (table, key) in enumerate((("tracks", "track_id"), ("stays", "stay_id")))
        ]
        return fetch_frame(connection, text(" UNION ALL ".join(queries)), ITEM_DTYPES)

    def count_stays(self, connection: Connection, lo_day: int, hi_day: int) -> dict[int, int]:
        """Return the number of stays that start on each day that has any, from `lo_day` to `hi_day` inclusive."""
        day = (stays.c.started_ms // MS_PER_DAY).label("day")
        within = _starting(stays, lo_day, hi_day)
        query = select(day, func.count()).where(*within).group_by(day)
        return {int(number): int(count) for number, count in connection.execute(query)}

    def track_sums(self, connection: Connection, lo_day: int, hi_day: int) -> pd.DataFrame:
        """Return `tracks` and `length_mm` by `day`, of each day from `lo_day` to `hi_day` on which tracks start."""
        day = (tracks.c.started_ms // MS_PER_DAY).label("day")
        query = (
            select(day, func.count(), func.sum(tracks.c.length_mm))
            .where(*_starting(tracks, lo_day, hi_day))
            .group_by(day)
        )
        dtypes = {"day": "int64", "tracks": "int64", "length_mm": "int64"}
        return fetch_frame(connection, query, dtypes).set_index("day")

    def longest_tracks(self, connection: Connection, lo_day: int, hi_day: int, devices_a_day: int) -> pd.DataFrame:
        """Return the tracks of the devices that went farthest on each day from `lo_day` to `hi_day`, inclusive.

        Returns
        -------
        DataFrame
            `day`, `panel` (0 for the device that went farthest), `user`, `device`, `length_mm` and `track_id` of each
            track that starts on the day, sorted by day, panel and length, the longest first.
        """
        day = (tracks.c.started_ms // MS_PER_DAY).label("day")
        of_device = func.sum(tracks.c.length_mm).over(partition_by=(day, tracks.c.device_id)).label("of_device")
        columns = (day, tracks.c.device_id, tracks.c.length_mm, tracks.c.track_id, of_device)
        measured = select(*columns).where(*_starting(tracks, lo_day, hi_day)).subquery()
        order = (measured.c.of_device.desc(), measured.c.device_id)
        panel = (func.dense_rank().over(partition_by=measured.c.day, order_by=order) - 1).label("panel")
        ranked = select(measured, panel).subquery()
        query = (
            select(ranked.c.day, ranked.c.panel, users.c.name, devices.c.name, ranked.c.length_mm, ranked.c.track_id)
            .select_from(ranked.join(devices, devices.c.device_id == ranked.c.device_id).join(users))
            .where(ranked.c.panel < devices_a_day)
            .order_by(ranked.c.day, ranked.c.panel, ranked.c.length_mm.desc(), ranked.c.track_id)
        )
        dtypes = {"day": "int64", "panel": "int64", "user": "object", "device": "object"}
        return fetch_frame(connection, query, dtypes | {"length_mm": "int64", "track_id": "object"})

    def paths_of(self, connection: Connection, track_ids: Collection[str]) -> dict[str, bytes]:
        """Return the paths (WKB) of tracks by their ids."""
        query = select(tracks.c.track_id, tracks.c.path).where(tracks.c.track_id.in_(list(track_ids)))
        found = fetch_columns(connection, query, {"track_id": "str", "path": "object"})
        return {id: path for frame in found for id, path in zip(frame["track_id"], frame["path"], strict=True)}

    def refresh_statistics(self, stage: Stage) -> None:
        """Tell PostgreSQL how large and how spread the tables of a stage are, which it would notice a minute later."""
        with self.read() as connection:
            for table in (segments, noise, dirty_days) if stage == "segments" else (tracks, stays, legs, item_days):
                indexed = [column for index in table.indexes for column in index.columns]
                asked_by = {column.name: None for column in (*table.primary_key.columns, *indexed)}
                analyze(connection, f"{table.name} ({', '.join(asked_by)})")

    def count_tracks(
        self, connection: Connection, lo_day: int, hi_day: int, user_ids: Collection[int] | None = None
    ) -> int:
        """Return the number of tracks that start from `lo_day` to `hi_day`, inclusive."""
        query = (
            select(func.count())
            .select_from(devices.join(tracks))
            .where(
                *_starting(tracks, lo_day, hi_day),
                _of_users(devices.c.user_id, user_ids),
            )
        )
        return connection.execute(query).scalar_one()

    def sample_tracks(
        self,
        connection: Connection,
        lo_day: int,
        hi_day: int,
        size: int,
        seed: int,
        user_ids: Collection[int] | None = None,
    ) -> pd.DataFrame:
        """Return some tracks that start from `lo_day` to `hi_day`, with the columns of `TRACK_DTYPES`; `seed` picks."""
        of_users = select(devices.c.device_id).where(_of_users(devices.c.user_id, user_ids))
        within = (*_starting(tracks, lo_day, hi_day), tracks.c.device_id.in_(of_users))
        ids = connection.scalars(select(tracks.c.track_id).where(*within).order_by(tracks.c.track_id)).all()
        picked = random.Random(seed).sample(ids, min(size, len(ids)))
        query = select(*(tracks.c[name] for name in TRACK_DTYPES)).where(tracks.c.track_id.in_(picked))
        return fetch_frame(connection, query, TRACK_DTYPES)

    def find_tracks(self, connection: Connection, beginning: str) -> pd.DataFrame:
        """Return the tracks whose id begins so, at most two: the columns of `TRACK_DTYPES` without `path`."""
        dtypes = {name: dtype for name, dtype in TRACK_DTYPES.items() if name != "path"}
        columns = [tracks.c[name] for name in dtypes]
        return fetch_frame(
            connection,
            select(*columns).where(tracks.c.track_id.startswith(beginning, autoescape=True)).limit(2),
            dtypes,
        )

    def legs(self, connection: Connection, track_ids: Collection[str]) -> pd.DataFrame:
        """Return the legs of some tracks with the columns of `LEG_DTYPES`, in order."""
        query = (
            select(*(legs.c[name] for name in LEG_DTYPES))
            .where(legs.c.track_id.in_(list(track_ids)))
            .order_by(legs.c.track_id, legs.c.number)
        )
        return fetch_frame(connection, query, LEG_DTYPES)

    def replace_items(
        self,
        connection: Connection,
        gone: Collection[str],
        made_tracks: Sequence[tuple[pd.DataFrame, pd.DataFrame]],
        made_stays: pd.DataFrame,
        days: pd.DataFrame,
    ) -> None:
        """Put tracks and stays, and what belongs to them, in the place of others.

        Parameters
        ----------
        connection : Connection
            A transaction that writes.
        gone : collection of str
            Ids of tracks and stays.
        made_tracks : sequence of (DataFrame, DataFrame)
            Tracks and their legs: the columns of `TRACK_DTYPES` and `LEG_DTYPES`.
        made_stays : DataFrame
            The columns of `STAY_DTYPES`.
        days : DataFrame
            The shares of all of them in days: the columns of `ITEM_DAY_DTYPES`.
        """
        made = [*(track_frame for track_frame, _ in made_tracks), made_stays]
        gone = {*gone, *self._stored_of(connection, made, days)}
        if gone:
            fill(connection, "gone", {"item_id": list(gone)})
            for key in (tracks.c.track_id, stays.c.stay_id, legs.c.track_id, item_days.c.item_id):
                connection.execute(delete(key.table).where(key.in_(text("SELECT item_id FROM gone"))))
        for track_frame, leg_frame in made_tracks:
            bulk_insert(connection, "tracks", track_frame)
            bulk_insert(connection, "legs", leg_frame)
        bulk_insert(connection, "stays", made_stays)
        bulk_insert(connection, "item_days", days[list(ITEM_DAY_DTYPES)].astype(ITEM_DAY_DTYPES))

    def _stored_of(self, connection: Connection, made: Sequence[pd.DataFrame], days: pd.DataFrame) -> set[str]:
        """Return the ids of those of some tracks and stays of which anything is stored.

        Others may have written them meanwhile; or somebody has deleted one by hand, and not what belongs to it.
        """
        queries = []
        for frame in made:
            if len(frame):
                table = tracks if "track_id" in frame else stays
                is_of = table.c.device_id.in_(frame["device_id"].unique().tolist())
                start = table.c.started_ms.between(int(frame["started_ms"].min()), int(frame["started_ms"].max()))
                queries.append(select(*table.primary_key).where(is_of, start))
        if len(days):
            is_of = item_days.c.user_id.in_(days["user_id"].unique().tolist())
            day = item_days.c.local_day.between(int(days["local_day"].min()), int(days["local_day"].max()))
            queries.append(select(item_days.c.item_id).where(is_of, day))
        return {id for query in queries for id in connection.scalars(query)}.intersection(days["item_id"])

    def day_sums(
        self, names: Collection[str] | None = None, lo_day: int | None = None, hi_day: int | None = None
    ) -> pd.DataFrame:
        """Return what users did on their days: sums of the shares that tracks and stays have in them.

        Parameters
        ----------
        names : collection of str, optional
            Users; by default all.
        lo_day, hi_day : int, optional
            First and last day in the time zone of each user; by default all.

        Returns
        -------
        DataFrame
            The columns of `DAY_SUM_DTYPES`, sorted by user and day. `tracks` and `stays` are those under way on the
            day.

        Raises
        ------
        UnknownUser
            If one of the users is not in the database.
        """
        user_ids = None if names is None else self.user_ids(names)
        sums = [func.sum(item_days.c[name]) for name in DAY_SUM_DTYPES if name in item_days.c and name != "local_day"]
        query = (
            select(
                users.c.name,
                item_days.c.local_day,
                func.sum(1 - item_days.c.is_stay),
                func.sum(item_days.c.is_stay),
                *sums,
            )
            .select_from(item_days.join(users))
            .where(
                true() if lo_day is None else item_days.c.local_day >= lo_day,
                true() if hi_day is None else item_days.c.local_day <= hi_day,
                _of_users(item_days.c.user_id, user_ids),
            )
            .group_by(users.c.name, item_days.c.local_day)
            .order_by(users.c.name, item_days.c.local_day)
        )
        with self.read() as connection:
            return fetch_frame(connection, query, DAY_SUM_DTYPES)

    def read_tracks(
        self,
        names: Collection[str] | None = None,
        lo_day: int | None = None,
        hi_day: int | None = None,
        *,
        rows: int = 1_000,
    ) -> Iterator[pd.DataFrame]:
        """Stream tracks that start in some days, inclusive, sorted by user, device and start.

        Parameters
        ----------
        names : collection of str, optional
            Users; by default all.
        lo_day, hi_day : int, optional
            First and last day; by default all.
        rows : int
            How many tracks to hold at once.

        Returns
        -------
        iterator of DataFrame
            `user`, `device` and the columns of `TRACK_DTYPES`. A track that starts with the first point of its device
            has the break reason `start`.

        Raises
        ------
        UnknownUser
            If one of the users is not in the database.
        """
        return self._read_items(tracks, TRACK_DTYPES, names, lo_day, hi_day, rows)

    def read_stays(
        self,
        names: Collection[str] | None = None,
        lo_day: int | None = None,
        hi_day: int | None = None,
        *,
        rows: int = 10_000,
    ) -> Iterator[pd.DataFrame]:
        """Stream stays as `read_tracks` does tracks: the columns of `STAY_DTYPES`, and `is_ongoing`.

        A stay is going on if nothing comes after it.
        """
        is_ongoing: ColumnElement[bool] = literal_column(f"NOT {IS_EARLIER.format('stays')}")
        return self._read_items(stays, STAY_DTYPES, names, lo_day, hi_day, rows, is_ongoing=is_ongoing)

    def read_legs(
        self, names: Collection[str] | None = None, lo_day: int | None = None, hi_day: int | None = None
    ) -> Iterator[pd.DataFrame]:
        """Stream the legs of the tracks of `read_tracks`: `user`, `device` and the columns of `LEG_DTYPES`.

        Raises
        ------
        UnknownUser
            If one of the users is not in the database.
        """
        user_ids = None if names is None else self.user_ids(names)
        query = (
            select(users.c.name, devices.c.name, *(legs.c[name] for name in LEG_DTYPES))
            .select_from(users.join(devices).join(tracks).join(legs, legs.c.track_id == tracks.c.track_id))
            .where(*_starting(tracks, lo_day, hi_day), _of_users(devices.c.user_id, user_ids))
            .order_by(users.c.name, devices.c.name, tracks.c.started_ms, tracks.c.track_id, legs.c.number)
        )
        return self._stream(query, {"user": "object", "device": "object", **LEG_DTYPES}, 10_000)

    def days_of_items(
        self, names: Collection[str] | None = None, lo_day: int | None = None, hi_day: int | None = None
    ) -> tuple[int, int] | None:
        """Return the first and the last of some days on which tracks or stays start, None if there are none.

        Parameters
        ----------
        names : collection of str, optional
            Users; by default all.
        lo_day, hi_day : int, optional
            The days to look at, inclusive; by default all.

        Raises
        ------
        UnknownUser
            If one of the users is not in the database.
        """
        user_ids = None if names is None else self.user_ids(names)
        starts = union_all(
            *(
                select(func.min(table.c.started_ms).label("lo"), func.max(table.c.started_ms).label("hi"))
                .select_from(table.join(devices))
                .where(*_starting(table, lo_day, hi_day), _of_users(devices.c.user_id, user_ids))
                for table in (tracks, stays)
            )
        ).subquery()
        with self.read() as connection:
            lo_ms, hi_ms = connection.execute(select(func.min(starts.c.lo), func.max(starts.c.hi))).one()
        return None if lo_ms is None else (lo_ms // MS_PER_DAY, hi_ms // MS_PER_DAY)

    def _read_items(
        self,
        table: Table,
        dtypes: Mapping[str, Any],
        names: Collection[str] | None,
        lo_day: int | None,
        hi_day: int | None,
        rows: int,
        **more: ColumnElement[Any],
    ) -> Iterator[pd.DataFrame]:
        user_ids = None if names is None else self.user_ids(names)
        is_later: ColumnElement[bool] = literal_column(IS_LATER.format(table.name))
        reason = case((is_later, table.c.break_reason), else_="start")
        plain = {name: dtype for name, dtype in dtypes.items() if name != "break_reason"}
        (key,) = table.primary_key.columns
        query = (
            select(users.c.name, devices.c.name, *(table.c[name] for name in plain), reason, *more.values())
            .select_from(table.join(devices).join(users))
            .where(*_starting(table, lo_day, hi_day), _of_users(devices.c.user_id, user_ids))
            .order_by(
                *(users.c.name, devices.c.name, table.c.started_ms, table.c.ended_ms),
                *(table.c.start_lon, table.c.start_lat, key),
            )
        )
        named = {"user": "object", "device": "object", **plain, "break_reason": "object"}
        return self._stream(query, named | dict.fromkeys(more, "bool"), rows)

    def _stream(self, query: Select[Any], dtypes: Mapping[str, Any], rows: int) -> Iterator[pd.DataFrame]:
        with self.read() as connection:
            yield from fetch_frames(connection, query, dtypes, rows)


_same_point = and_(*(points.c[name] == noise.c[name] for name in ("device_id", "time_ms", "lon", "lat")))
_FACTS: Final = "seq::int8 * 65536 + pause * 256 + activity AS facts"
"""One number for three small ones: the server takes as long to pack a small one as a large one."""
_IN_ORDER: Final = tuple(points.c[name] for name in ("time_ms", "seq", "lon", "lat"))
"""The order of the points of a device."""


def _place_in_order(device_id: int, time_ms: int, lon: float, lat: float) -> ColumnElement[Any]:
    """Return where a point stands in the order of those of its device."""
    seq = (
        select((same := points.alias("same")).c.seq)
        .where(same.c.device_id == device_id, same.c.time_ms == time_ms, same.c.lon == lon, same.c.lat == lat)
        .scalar_subquery()
    )
    return tuple_(literal(time_ms), seq, literal(lon), literal(lat))


def _start(track: Any) -> tuple[int, float, float]:  # noqa: ANN401 - a row, from itertuples
    return track.started_ms, track.start_lon, track.start_lat


def _end(track: Any) -> tuple[int, float, float]:  # noqa: ANN401
    return track.ended_ms, track.end_lon, track.end_lat


def signatures(segments: pd.DataFrame) -> pd.Series:
    """Return, by the `_keys` of days of devices, what tells their segments from others."""
    words = (segments[name].to_numpy("int64") for name in ("number", "digest"))
    return pd.Series(mixed(*words, text_words(segments["settings_id"])), _keys(segments)).groupby(level=0).sum()


def version_ms(version: int) -> int:
    """Return when a token of the work list was made."""
    return version >> 20


def _names(names: Collection[str]) -> Select[tuple[str, int]]:
    return select(users.c.name, users.c.user_id).where(users.c.name.in_(list(names)))


def _of_users(column: ColumnElement[int], user_ids: Collection[int] | None) -> ColumnElement[bool]:
    return true() if user_ids is None else column.in_(list(user_ids))


def _starting(table: Table, lo_day: int | None, hi_day: int | None) -> tuple[ColumnElement[bool], ...]:
    return (
        true() if lo_day is None else table.c.started_ms >= lo_day * MS_PER_DAY,
        true() if hi_day is None else table.c.started_ms < (hi_day + 1) * MS_PER_DAY,
    )


def _entries(
    stage: Stage, lo_day: int | None, hi_day: int | None, user_ids: Collection[int] | None
) -> tuple[ColumnElement[bool], ...]:
    return (
        dirty_days.c.stage == stage,
        true() if lo_day is None else dirty_days.c.day >= lo_day,
        true() if hi_day is None else dirty_days.c.day <= hi_day,
        _of_users(dirty_days.c.user_id, user_ids),
    )


def _read_settings(name: str, stored: str) -> Settings:
    try:
        values = json.loads(stored)
        if not isinstance(values, dict):
            raise SettingsError("not a JSON object")
        return make_settings(values)
    except ValueError as error:
        raise SettingsError(
            f"user {name!r}: the settings in the database cannot be read ({error}): set one with `trackgen settings "
            "set`, and the others become the defaults"
        ) from error


def _keys(days: pd.DataFrame, owner: str = "device_id") -> IntArray:
    """Return days of devices, or of users, as one number each."""
    keys: IntArray = days[owner].to_numpy("int64") << DAY_BITS | days["day"].to_numpy("int64")
    return keys


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def _new_version() -> int:
    # The clock makes versions tell when a day was touched last; the random bits make them differ.
    return (time.time_ns() // 1_000_000 << 20) | secrets.randbits(20)


def _day_spans(device_days: pd.DataFrame) -> pd.DataFrame:
    by_device = device_days.groupby("device_id")["day"].agg(["min", "max"]).reset_index()
    return pd.DataFrame(
        {
            "device_id": by_device["device_id"],
            "lo_ms": by_device["min"] * MS_PER_DAY,
            "hi_ms": (by_device["max"] + 1) * MS_PER_DAY - 1,
        }
    )
