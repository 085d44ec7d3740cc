"""Dawarich's points brought into ours, and kept the same: what is new there, what changed, and what is gone.

A day of a user is mirrored when the number of its points, or the sum of their hashes, is not what it was when it was
mirrored last. So nothing depends on the order of ids or on clocks, and Dawarich's tables stay as they are. Where
`changes` has put triggers, only the days that these have listed are looked at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
from sqlalchemy import Connection, case, delete, select

from trackgen_core.database import bulk_insert, fetch_columns, fetch_frame, fill, insert_ignore, make_months
from trackgen_core.dawarich import changes
from trackgen_core.dawarich.source import Dawarich, User, open_dawarich, read_settings
from trackgen_core.points import MS_PER_DAY, POINT_DTYPES, TieCounter, validate
from trackgen_core.schema import dawarich_days, dawarich_default, dawarich_users, devices, points, users
from trackgen_core.store import TOUCHED_DTYPES, Store, UnknownUser

State = Literal["off", "shadow", "on"]
"""off: nothing is done for the user. shadow: points are mirrored, and tracks compared. on: tracks are written, too."""
STATES: Final[tuple[State, ...]] = ("off", "shadow", "on")

POINTS_AT_ONCE: Final = 200_000
DAYS_AT_ONCE: Final = 5_000
"""About so many points, and no more days, are mirrored in one transaction; a day of a user is never cut."""

KEY: Final = ("device_id", "time_ms", "lon", "lat")
VALUES: Final = ("altitude", "accuracy", "seq")
"""What is mirrored of a point besides its key; `velocity` is a text whose unit depends on the app, and no rule asks.
Dawarich keeps whole seconds: within one, `seq` follows its ids, which follow the files that it imported."""
KEPT: Final = ("pause", "activity")
"""What Dawarich does not know of a point, and other files may have said."""

DAY_DTYPES: Final = dict.fromkeys(("day", "points", "digest"), "int64")


class NameTaken(ValueError):
    """A user of Dawarich has the name of one of ours who has points of another origin."""


@dataclass
class UserReport:
    """What was mirrored of a user."""

    user: str
    state: State
    days: int = 0
    """Days that were different."""
    new: int = 0
    """Points that were added, or changed."""
    gone: int = 0
    """Points that were deleted, or changed."""
    rejected: Counter[str] = field(default_factory=Counter)
    """Points of these days that are no fixes, by reason."""
    notes: list[str] = field(default_factory=list)
    """Settings that are not what they should be."""
    error: str | None = None
    """Why the user is not mirrored, or not all of it."""


@dataclass(frozen=True)
class Mirrored:
    """A user whose points are mirrored."""

    user_id: int
    dawarich_id: int
    name: str
    state: State
    token: str | None = None
    """What was left in Dawarich's database when all changes since were listed."""


def mirrored_users(store: Store, names: Collection[str] | None = None) -> list[Mirrored]:
    """Return the users who are mirrored, by name.

    Raises
    ------
    UnknownUser
        If one of the names is not among them.
    """
    query = (
        select(
            users.c.user_id, dawarich_users.c.dawarich_id, users.c.name, dawarich_users.c.state, dawarich_users.c.token
        )
        .select_from(users.join(dawarich_users))
        .order_by(users.c.name)
    )
    with store.read() as connection:
        found = [Mirrored(*row) for row in connection.execute(query)]
    if names is None:
        return found
    if missing := sorted(set(names) - {user.name for user in found}):
        raise UnknownUser(f"not mirrored from Dawarich: {', '.join(missing)} (see `trackgen dawarich mirror`)")
    return [user for user in found if user.name in names]


def set_state(store: Store, state: State, user_ids: Collection[int] | None = None) -> None:
    """Say what is done for some users, or for all, those to come included."""
    change = dawarich_users.update().values(state=state)
    with store.write(user_ids) as connection:
        if user_ids is None:
            connection.execute(delete(dawarich_default))
            connection.execute(dawarich_default.insert().values(state=state))
            connection.execute(change)
        else:
            connection.execute(change.where(dawarich_users.c.user_id.in_(list(user_ids))))


def state_to_come(connection: Connection) -> State:
    """Return the state in which users begin."""
    state: State | None = connection.execute(select(dawarich_default.c.state)).scalar()
    return state or "shadow"


def states(store: Store, there: Collection[User]) -> tuple[dict[str, State], State]:
    """Return the states of users of Dawarich, by the names that they have here, and that of users to come."""
    known = {user.dawarich_id: user for user in mirrored_users(store)}
    with store.read() as connection:
        to_come = state_to_come(connection)
    return {
        known[one.id].name if one.id in known else _name(one): known[one.id].state if one.id in known else to_come
        for one in there
    }, to_come


def mirror(
    store: Store,
    names: Collection[str] | None = None,
    *,
    url: str | None = None,
    again: bool = False,
    progress: Callable[[UserReport], None] = lambda report: None,
) -> list[UserReport]:
    """Make our points of Dawarich's users the same as theirs, and list as work the days where that changes anything.

    Parameters
    ----------
    store : Store
        Where points go.
    names : collection of str, optional
        Users, by the names that they have here; by default all. Those that are off are left out.
    url : str, optional
        Of Dawarich's database; by default `dawarich_url()`.
    again : bool
        Whether to look at every day, and not only at those that changed there.
    progress : callable
        Called with a user's report after each transaction.

    Raises
    ------
    UnknownUser
        If one of the names is that of no user.
    DatabaseError
        If Dawarich's database cannot be used, or somebody else mirrors it.
    """
    with open_dawarich(url, to="mirror") as dawarich:
        return _mirror(store, dawarich, names, again, progress)


def _mirror(
    store: Store,
    dawarich: Dawarich,
    names: Collection[str] | None,
    again: bool,
    progress: Callable[[UserReport], None],
) -> list[UserReport]:
    there = {user.id: user for user in dawarich.users()}
    known = {user.dawarich_id: user for user in mirrored_users(store)}
    if names is not None:
        of_name = {known[id].name if id in known else _name(user) for id, user in there.items()}
        if missing := sorted(set(names) - of_name - {user.name for user in known.values()}):
            raise UnknownUser(f"no such user in Dawarich: {', '.join(missing)}")
    reports = []
    for id, user in there.items():
        if id not in known and (names is None or _name(user) in names):
            try:
                known[id] = _add_user(store, user)
            except NameTaken as error:
                reports.append(UserReport(_name(user), "off", error=str(error)))
    wanted = [one for one in known.values() if one.state != "off" and (names is None or one.name in names)]
    # Of whom all changes are listed, the days that are need to be looked at alone.
    token = changes.token(dawarich)
    listed_ids = {id for id, one in known.items() if token and one.token == token}
    listed = pd.DataFrame({"id": [], "day": []}, dtype="Int64")
    if token is not None:
        others = {id for id in listed_ids & there.keys() if known[id].state != "off"}
        others -= {one.dawarich_id for one in wanted}
        listed = changes.take(dawarich, others)
        if listed["day"].isna().any():
            listed_ids, others = set(), set()
    by_days = {one.dawarich_id for one in wanted if one.dawarich_id in listed_ids & there.keys() and not again}
    in_full = {one.dawarich_id for one in wanted if one.dawarich_id in there} - by_days
    listed_here = listed[listed["id"].isin(by_days)]
    found = dawarich.days(in_full, listed_here)
    failed = set()
    for one in sorted(wanted, key=lambda one: one.name):
        report = UserReport(one.name, one.state)
        reports.append(report)
        of_user = found.loc[found["id"] == one.dawarich_id, [*DAY_DTYPES]]
        only = listed_here.loc[listed_here["id"] == one.dawarich_id, "day"] if one.dawarich_id in by_days else None
        try:
            with dawarich.connection.transaction():  # a savepoint: the view of the others stays what it was
                _mirror_user(store, dawarich, one, there.get(one.dawarich_id), of_user, again, only, report, progress)
        except Exception as error:
            if dawarich.connection.closed:
                raise
            report.error = f"{one.name}: {' '.join(str(error).split()) or type(error).__name__}"
            failed.add(one.dawarich_id)
    if token is None and any(one.token for one in known.values()):
        _keep_token(store, None, [])
    elif token is not None and (len(listed) or in_full or failed or listed_ids != by_days | others):
        # Of whom something failed, the days that were listed are not any more: everything is read the next time.
        complete = (in_full | by_days | others) - failed
        _keep_token(store, changes.leave_token(dawarich), [known[id].user_id for id in complete])
    return reports


def _mirror_user(
    store: Store,
    dawarich: Dawarich,
    user: Mirrored,
    there: User | None,
    days: pd.DataFrame,
    again: bool,
    only: pd.Series | None,
    report: UserReport,
    progress: Callable[[UserReport], None],
) -> None:
    """Mirror settings and points of a user; `there` is None if Dawarich does not have the user any more."""
    if there is not None:
        values, report.notes = read_settings(there.settings)
        if not values.items() <= store.settings(user.name).model_dump().items():
            store.set_settings(user.name, values)
    for portion in _portions(_different(store, user, days, again, only)):
        _mirror_days(store, dawarich, user, portion, report)
        progress(report)


def _keep_token(store: Store, token: str | None, user_ids: Collection[int]) -> None:
    """Note that whatever changes from now on of some users, and of no others, is listed in Dawarich's database."""
    with store.write() as connection:
        is_told = dawarich_users.c.user_id.in_(list(user_ids))
        connection.execute(dawarich_users.update().values(token=case((is_told, token), else_=None)))


def _name(user: User) -> str:
    return user.email.strip() or f"dawarich-{user.id}"


def _add_user(store: Store, user: User) -> Mirrored:
    """Begin to mirror a user, by Dawarich's own rules to begin with."""
    name = _name(user)
    with store.write() as connection:
        found = connection.execute(
            select(users.c.user_id, devices.c.device_id)
            .select_from(users.outerjoin(devices))
            .where(users.c.name == name)
        ).first()
        if found and found.device_id is not None:
            raise NameTaken(
                f"user {name!r} has points that do not come from Dawarich, and mirroring would delete them: export "
                "and delete them first, or use another database for Dawarich's users"
            )
    if found is None:
        store.set_settings(name, {"preset": "dawarich"})
    (user_id,) = store.user_ids([name])
    with store.write() as connection:
        mirrored = Mirrored(user_id, user.id, name, state_to_come(connection))
        row = {"user_id": user_id, "dawarich_id": user.id, "state": mirrored.state}
        connection.execute(insert_ignore(connection, dawarich_users).values(row))
    return mirrored


def _different(store: Store, user: Mirrored, there: pd.DataFrame, again: bool, only: pd.Series | None) -> pd.DataFrame:
    """Return the days, all or among some, whose points are not those that were mirrored, with `DAY_DTYPES`."""
    query = select(*(dawarich_days.c[name] for name in DAY_DTYPES)).where(dawarich_days.c.user_id == user.user_id)
    with store.read() as connection:
        here = fetch_frame(connection, query, DAY_DTYPES)
    if only is not None:
        here = here[here["day"].isin(only)]
    compared = there.merge(here, how="outer", on=[*DAY_DTYPES], indicator=True)
    days = compared.loc[(compared["_merge"] != "both") | again, "day"].unique()
    different = there.set_index("day").reindex(np.sort(days), fill_value=0).rename_axis("day").reset_index()
    return different.astype(DAY_DTYPES)


def _portions(days: pd.DataFrame) -> Iterator[pd.DataFrame]:
    if len(days):
        before = days["points"].cumsum() - days["points"]
        yield from (part for _, part in days.groupby([before // POINTS_AT_ONCE, days.index // DAYS_AT_ONCE]))


def _mirror_days(store: Store, dawarich: Dawarich, user: Mirrored, days: pd.DataFrame, report: UserReport) -> None:
    """Make our points of some days of a user the same as Dawarich's, in one transaction."""
    numbers = days["day"].tolist()
    rows = dawarich.points(user.dawarich_id, days.loc[days["points"] > 0, "day"].tolist())
    valid = validate(rows.assign(user=user.name, speed=float("nan")))
    report.rejected += valid.rejected
    with store.write([user.user_id]) as connection:
        device_ids = _devices(connection, user, valid.points["device"].unique())
        there = TieCounter().count(valid.points)
        there = there.assign(device_id=there["device"].map(device_ids))[[*KEY, *VALUES]]
        there = there.astype({"device_id": "int64"}).drop_duplicates([*KEY])
        here = _points_of(connection, device_ids.values(), numbers)
        compared = there.merge(here[[*KEY, *VALUES]], how="outer", on=[*KEY, *VALUES], indicator=True)
        new, gone = (compared.loc[compared["_merge"] == side, [*KEY, *VALUES]] for side in ("left_only", "right_only"))
        new = new.merge(here[[*KEY, *KEPT]], how="left", on=[*KEY])
        new = new.fillna(dict.fromkeys(KEPT, 0)).astype(dict.fromkeys(KEPT, "int64"))
        if len(gone):
            fill(connection, "fresh", gone[[*KEY]])
            span = f"time_ms BETWEEN {gone['time_ms'].min()} AND {gone['time_ms'].max()}"
            key = ", ".join(KEY)
            connection.exec_driver_sql(f"DELETE FROM points WHERE {span} AND ({key}) IN (SELECT {key} FROM fresh)")
        make_months(connection, new["time_ms"].unique() // MS_PER_DAY)
        bulk_insert(connection, "points", new)
        store.mark_touched(connection, _touched(pd.concat([new, gone]), user.user_id))
        _note_days(connection, user.user_id, days)
    report.days += len(days)
    report.new += len(new)
    report.gone += len(gone)


def _devices(connection: Connection, user: Mirrored, names: Collection[str]) -> dict[str, int]:
    """Return the ids of all devices of a user by name; those of `names` that are new are added."""
    rows = [{"user_id": user.user_id, "name": name} for name in names]
    if rows:
        connection.execute(insert_ignore(connection, devices), rows)
    query = select(devices.c.name, devices.c.device_id).where(devices.c.user_id == user.user_id)
    return dict(connection.execute(query).tuples().all())


def _points_of(connection: Connection, device_ids: Collection[int], days: list[int]) -> pd.DataFrame:
    query = select(*(points.c[name] for name in (*KEY, *VALUES, *KEPT))).where(
        points.c.device_id.in_(list(device_ids)),
        points.c.time_ms >= days[0] * MS_PER_DAY,
        points.c.time_ms < (days[-1] + 1) * MS_PER_DAY,
    )
    dtypes: dict[str, Any] = {"device_id": "int64", "time_ms": "int64", **dict.fromkeys(("lon", "lat"), "float64")}
    dtypes |= {name: POINT_DTYPES[name] for name in (*VALUES, *KEPT)}
    empty = pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in dtypes.items()})
    frames = [
        frame[np.isin(frame["time_ms"] // MS_PER_DAY, days)] for frame in fetch_columns(connection, query, dtypes)
    ]
    return pd.concat([empty, *frames], ignore_index=True)


def _touched(changed: pd.DataFrame, user_id: int) -> pd.DataFrame:
    days = changed.assign(user_id=user_id, day=changed["time_ms"] // MS_PER_DAY)
    grouped = days.groupby(["user_id", "device_id", "day"], as_index=False)
    touched = grouped.agg(lo_ms=("time_ms", "min"), hi_ms=("time_ms", "max"))
    return touched.astype(TOUCHED_DTYPES)


def _note_days(connection: Connection, user_id: int, days: pd.DataFrame) -> None:
    of_day = (dawarich_days.c.user_id == user_id) & dawarich_days.c.day.in_(days["day"].tolist())
    connection.execute(delete(dawarich_days).where(of_day))
    bulk_insert(connection, "dawarich_days", days[days["points"] > 0].assign(user_id=user_id))
