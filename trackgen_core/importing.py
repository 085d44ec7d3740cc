"""From files to points: every file whole or not at all, every refused row counted by its reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd
from sqlalchemy import Connection, select, text

from trackgen_core.clocks import ClockWatch
from trackgen_core.database import (
    analyze,
    bulk_insert,
    empty,
    fill,
    insert_ignore,
    lock_users,
    make_months,
    writing,
)
from trackgen_core.points import FILE_FACTS, MS_PER_DAY, TieCounter, completed, now_ms, validate
from trackgen_core.readers import (
    NoFixes,
    Options,
    Source,
    UnreadableFile,
    count_bytes,
    find_sources,
    read,
    recognise,
)
from trackgen_core.schema import devices, users
from trackgen_core.store import TOUCHED_DTYPES, VALUE_COLUMNS, Store
from trackgen_core.words import counted

COORDINATES: Final = ("time_ms", "lon", "lat")

MAX_NAMES: Final = 10_000
"""So many names of users are looked up at once."""

UNKNOWN: Final = "not a format that can be read"


@dataclass
class FileReport:
    """What became of one file."""

    path: str
    format: str | None = None
    read: int = 0
    new: int = 0
    duplicate: int = 0
    rejected: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    ignored: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    error: str | None = None
    skipped: str | None = None


@dataclass
class ImportReport:
    """What became of all files, or would become; the numbers are sums over the files that were imported."""

    files: list[FileReport] = field(default_factory=list)
    dry_run: bool = False

    def total(self, name: str) -> int:
        """Return the sum of `read`, `new`, `duplicate` or `rejected` over the files."""
        return sum(getattr(file, name) for file in self.files)

    def counts(self, name: str) -> Counter[str]:
        """Return the sum of `reasons` or `ignored` over the files."""
        return sum((getattr(file, name) for file in self.files), Counter())

    @property
    def failed(self) -> list[FileReport]:
        """The files that could not be read, of which nothing was imported."""
        return [file for file in self.files if file.error]

    def as_json(self) -> dict[str, Any]:
        """Return the report as the command line prints it."""
        numbers = {name: self.total(name) for name in ("read", "new", "duplicate", "rejected")}
        files = [
            {key: value for key, value in vars(file).items() if value is not None and value not in ({}, [])}
            for file in self.files
        ]
        reasons, ignored = dict(self.counts("reasons")), dict(self.counts("ignored"))
        return numbers | {"dry_run": self.dry_run, "reasons": reasons, "ignored": ignored, "files": files}


class Progress(NamedTuple):
    """How far an import is: the file that is being read, the share of all bytes and the number of rows read."""

    file: FileReport
    share: float
    rows: int


def import_paths(
    store: Store,
    paths: Iterable[Path],
    *,
    user: str | None,
    device: str = "",
    format: str | None = None,
    dry_run: bool = False,
    recover: bool = False,
    visits: bool = False,
    add_weeks: int = 0,
    progress: Callable[[Progress], None] = lambda progress: None,
) -> ImportReport:
    """Import files, and the files in folders and archives.

    Parameters
    ----------
    store : Store
        Where the points go.
    paths : iterable of Path
        Files and folders.
    user, device : str
        Whose points they are, where the file does not say. A file that does not say, without a `user`, is unreadable.
    format : str, optional
        One of `readers.FORMATS`; by default it is recognised from the content.
    dry_run : bool
        Only say what would happen: everything is read and compared with what is stored and with the files before it,
        but nothing is changed, and no other writer waits.
    recover : bool
        Import what is whole of a file that is damaged or breaks off, rather than nothing of it.
    visits : bool
        Import Google's estimates of visits and activities as well.
    add_weeks : int
        Take all times for so much later: 1,024 where a receiver's week number has rolled over.
    progress : callable
        Called after each batch of a file's rows, and when the file is done.

    Returns
    -------
    ImportReport
        Also of files that could not be read: those are never an exception.
    """
    # As in a file: blanks around a name are not part of it, and an empty name is none.
    user, device = (user or "").strip() or None, device.strip()
    report = ImportReport(dry_run=dry_run)
    paths = list(paths)
    all_bytes, bytes_done, rows_done = count_bytes(paths), 0, 0

    def tell(file: FileReport) -> None:
        share = (bytes_done + source.bytes_read) / all_bytes if all_bytes else 0.0
        progress(Progress(file, min(1.0, share), rows_done + file.read))

    with ExitStack() as stack:
        forecast = stack.enter_context(_forecast(store)) if dry_run else None
        for source in find_sources(paths, Options(recover, visits, add_weeks)):
            file = FileReport(source.path)
            report.files.append(file)
            try:
                file.format = None if source.aside else format or recognise(source)
                if file.format is None:
                    raise NoFixes(source.path, source.aside or UNKNOWN)
                _import_source(store, source, file, user, device, forecast, tell)
                if not file.new + file.duplicate:
                    _refuse(file, NoFixes(source.path, _why_nothing(file)), source)
            except UnreadableFile as error:
                report.files[-1] = FileReport(source.path, file.format, notes=file.notes)
                _refuse(report.files[-1], error, source)
            bytes_done, rows_done = bytes_done + source.size, rows_done + file.read
            progress(Progress(report.files[-1], min(1.0, bytes_done / all_bytes) if all_bytes else 1.0, rows_done))
    return report


def add_points(store: Store, points: pd.DataFrame) -> int:
    """Add a frame of valid points (columns of `POINT_DTYPES`) in one transaction, and return how many were new."""
    with store.database.engine.connect() as connection:
        incoming = Incoming(store, connection)
        incoming.add(points)
        return incoming.commit()


class Incoming:
    """Points collected beside the database, added at once by `commit` or not at all.

    They are kept in a temporary table, so that a file of any size needs little memory and no other writer waits
    while it is being read.

    Parameters
    ----------
    store : Store
        Where the points go.
    connection : Connection
        A connection without a transaction, for this object alone.
    """

    def __init__(self, store: Store, connection: Connection) -> None:
        self.store = store
        self.connection = connection
        self.owners: dict[tuple[str, str], int] = {}
        self.collected = 0
        with connection.begin():
            empty(connection, "incoming")

    def add(self, points: pd.DataFrame) -> None:
        """Collect valid points. Of the same point, a known value beats an unknown one, and a larger one a smaller one,
        but the smallest `seq` stands: so the order of arrival cannot matter.
        """  # noqa: D205
        points = completed(points)
        owners = points[["user", "device"]]
        codes = owners.groupby(["user", "device"], sort=False).ngroup()  # counted as `drop_duplicates` orders them
        pairs = owners.drop_duplicates().itertuples(index=False, name=None)
        numbers = [self.owners.setdefault(pair, len(self.owners)) for pair in pairs]
        columns: dict[str, Any] = {"owner": np.array(numbers, np.int64)[codes]}
        columns["time_ms"] = points["time_ms"]
        # There is no minus zero, which some databases keep and others do not.
        columns |= {name: points[name] + 0.0 for name in ("lon", "lat", *VALUE_COLUMNS)}
        columns |= {name: points[name] for name in FILE_FACTS}
        with self.connection.begin():
            bulk_insert(self.connection, "incoming", columns)
        self.collected += len(points)

    def commit(self) -> int:
        """Add what was collected, list the days it changes as work, and return how many points are new."""
        connection = writing(self.connection, ())
        with connection.begin():
            found = self._find_devices()
            lock_users(connection, {user_id for user_id, _ in found.values()})
            device_ids = [found[owner][1] for owner in self.owners]
            fill(connection, "owners", {"owner": self.owners.values(), "device_id": device_ids})
            days = connection.exec_driver_sql(f"SELECT DISTINCT time_ms / {MS_PER_DAY} FROM incoming").scalars().all()
            make_months(connection, days)
            if connection.dialect.name == "postgresql":
                analyze(connection, "incoming")
                rows = [*connection.execute(text(_ADD_NEW))]
                if sum(new for *_, new in rows) < self.collected:
                    rows += connection.execute(text(_IMPROVE_OLD))
            else:
                empty(connection, "fresh")
                connection.exec_driver_sql(_FIND_FRESH)
                connection.exec_driver_sql(_ADD_FRESH)
                rows = [*connection.execute(text(_FRESH_DAYS))]
            dtypes = TOUCHED_DTYPES | {"new": "int64"}
            touched = pd.DataFrame(rows, columns=[*dtypes]).astype(dtypes)
            self.store.mark_touched(connection, touched)
            return int(touched["new"].sum())

    def foresee(self, strangers: dict[tuple[str, str], int]) -> int:
        """Return how many points `commit` would add, were it done with all that was foreseen before; change nothing.

        Parameters
        ----------
        strangers : dict
            Numbers for the devices that are not in the database; those that are new are added.
        """
        with self.connection.begin():
            known = self._known_devices()[0]
            for owner in self.owners.keys() - known.keys():
                strangers.setdefault(owner, -1 - len(strangers))
            device_ids = [known[owner][1] if owner in known else strangers[owner] for owner in self.owners]
            fill(self.connection, "owners", {"owner": self.owners.values(), "device_id": device_ids})
            analyze(self.connection, "incoming")
            return self.connection.execute(text(_FORESEE)).rowcount

    def _known_devices(self) -> tuple[dict[tuple[str, str], tuple[int, int]], dict[str, int]]:
        """Return the ids of users and devices by their names, and of users by theirs, as far as they are there."""
        names = sorted({user for user, _ in self.owners})
        wanted = select(users.c.name, devices.c.name, users.c.user_id, devices.c.device_id).select_from(
            users.outerjoin(devices)
        )
        # A statement has a limit of values.
        parts = [names[start : start + MAX_NAMES] for start in range(0, len(names), MAX_NAMES)]
        rows = [row for part in parts for row in self.connection.execute(wanted.where(users.c.name.in_(part)))]
        found = {(user, device): (user_id, device_id) for user, device, user_id, device_id in rows}
        return found, {user: user_id for user, _, user_id, _ in rows}

    def _find_devices(self) -> dict[tuple[str, str], tuple[int, int]]:
        """Return the ids of users and devices by their names; those that are new are added."""
        while True:
            found, user_ids = self._known_devices()
            missing = [owner for owner in self.owners if owner not in found]
            if unknown := sorted({user for user, _ in self.owners} - set(user_ids)):
                self.connection.execute(insert_ignore(self.connection, users), [{"name": name} for name in unknown])
            elif missing:
                new = [{"user_id": user_ids[user], "name": device} for user, device in missing]
                self.connection.execute(insert_ignore(self.connection, devices), new)
            else:
                return found


class _Forecast(NamedTuple):
    """What a dry run keeps from file to file: a connection, with what was foreseen on it, and numbers for devices."""

    connection: Connection
    strangers: dict[tuple[str, str], int]


@contextmanager
def _forecast(store: Store) -> Iterator[_Forecast]:
    with store.database.engine.connect() as connection:
        with connection.begin():
            empty(connection, "foreseen")
        yield _Forecast(connection, {})


def _import_source(
    store: Store,
    source: Source,
    file: FileReport,
    user: str | None,
    device: str,
    forecast: _Forecast | None,
    tell: Callable[[FileReport], None],
) -> None:
    assert file.format is not None
    with nullcontext(forecast.connection) if forecast else store.database.engine.connect() as connection:
        incoming, clock, ties = Incoming(store, connection), ClockWatch(source.options.add_weeks), TieCounter()
        for rows in _readable_rows(source, file):
            owned = _with_owner(rows, source, user, device)
            valid = validate(clock.watch(owned))
            incoming.add(ties.count(valid.points))
            file.read += len(rows)
            file.rejected += valid.rejected.total()
            file.reasons += valid.rejected
            file.ignored += valid.ignored
            tell(file)
        if note := clock.note(now_ms()):
            source.note(note)
        file.notes = source.notes
        file.new = incoming.foresee(forecast.strangers) if forecast else incoming.commit()
        file.duplicate = file.read - file.rejected - file.new


def _readable_rows(source: Source, file: FileReport) -> Iterator[pd.DataFrame]:
    """Read the rows of a file; where it breaks off, end there or raise an error that says how to import them."""
    assert file.format is not None
    count = 0
    try:
        for rows in read(source, file.format):
            count += len(rows)
            yield rows
        damage = source.broken
    except NoFixes as error:
        raise source.broken or error from None
    except UnreadableFile as error:
        if not count:
            raise
        if not source.options.recover:
            kept = f"or import the {counted(count, 'row')} before this place with --recover"
            raise UnreadableFile(f"{error}; {kept}") from error
        damage = error
    if damage:
        what = str(damage).removeprefix(f"{source.path}: ")
        source.note(f"the {counted(count, 'row')} before damage were kept: {what}")


def _refuse(file: FileReport, error: UnreadableFile, source: Source) -> None:
    """Report why nothing of a file was imported: an error, unless it has no fixes and was only found by the way."""
    if isinstance(error, NoFixes) and not source.explicit:
        file.skipped = error.reason
    else:
        file.error = str(error)


def _why_nothing(file: FileReport) -> str:
    if not file.read:
        return "no fixes: it has no rows"
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in file.reasons.most_common())
    if file.read == 1:
        return f"no fixes: its row was rejected ({reasons})"
    return f"no fixes: all its {file.read:,} rows were rejected ({reasons})"


def _with_owner(rows: pd.DataFrame, source: Source, user: str | None, device: str) -> pd.DataFrame:
    names = {name: rows[name].fillna("").astype(str).str.strip() for name in ("user", "device")}
    nameless = names["user"] == ""
    if user is None and nameless.any():
        raise UnreadableFile(f"{source.path}: does not say whose points these are: name the user with --user")
    return rows.assign(
        user=names["user"].where(~nameless, user), device=names["device"].where(names["device"] != "", device)
    )


def _merged(name: str, one: str, other: str) -> str:
    """Return what stands of a value that came twice; the databases have no function for it in common."""
    one, other = f"{one}.{name}", f"{other}.{name}"
    return f"CASE WHEN {one} IS NULL OR {other} {'<' if name == 'seq' else '>'} {one} THEN {other} ELSE {one} END"


MERGED: Final = (*VALUE_COLUMNS, *FILE_FACTS)
"""What may differ where the same point comes twice."""

_COLUMNS: Final = ", ".join(("device_id", *COORDINATES, *MERGED))
_SELECTED: Final = ", ".join(("o.device_id", *(f"i.{name}" for name in (*COORDINATES, *MERGED))))
_FOLDED: Final = ", ".join(f"{'min' if name == 'seq' else 'max'}({name}) AS {name}" for name in MERGED)
_GROUPED: Final = f"""
    (SELECT owner, {", ".join(COORDINATES)}, {_FOLDED} FROM incoming GROUP BY owner, {", ".join(COORDINATES)}) AS i
    JOIN owners AS o USING (owner)
    """
_IS_BETTER: Final = " OR ".join(f"{_merged(name, 'p', 'i')} IS DISTINCT FROM p.{name}" for name in MERGED)
_ADD_NEW: Final = f"""
    WITH added AS (
        INSERT INTO points ({_COLUMNS})
        SELECT {_SELECTED} FROM {_GROUPED}
        ORDER BY o.device_id, i.time_ms, i.lon, i.lat  -- as they will be read
        ON CONFLICT DO NOTHING RETURNING device_id, time_ms
    )
    SELECT user_id, device_id, time_ms / {MS_PER_DAY} AS day, min(time_ms), max(time_ms), count(*)
    FROM added JOIN devices USING (device_id) GROUP BY user_id, device_id, day
    """
_IMPROVE_OLD: Final = f"""
    WITH improved AS (
        UPDATE points AS p SET {", ".join(f"{name} = {_merged(name, 'p', 'i')}" for name in MERGED)}
        FROM {_GROUPED}
        WHERE p.device_id = o.device_id AND p.time_ms = i.time_ms AND p.lon = i.lon AND p.lat = i.lat
          AND ({_IS_BETTER})
        RETURNING p.device_id, p.time_ms
    )
    SELECT user_id, device_id, time_ms / {MS_PER_DAY} AS day, min(time_ms), max(time_ms), 0
    FROM improved JOIN devices USING (device_id) GROUP BY user_id, device_id, day
    """
_FORESEE: Final = f"""
    INSERT INTO foreseen (device_id, time_ms, lon, lat)
    SELECT o.device_id, i.time_ms, i.lon, i.lat FROM {_GROUPED}
    WHERE NOT EXISTS (
        SELECT 1 FROM points AS p
        WHERE p.device_id = o.device_id AND p.time_ms = i.time_ms AND p.lon = i.lon AND p.lat = i.lat
    )
    ON CONFLICT DO NOTHING
    """
_FIND_FRESH: Final = f"""
    INSERT INTO fresh ({_COLUMNS}, is_new)
    SELECT {_SELECTED}, CASE WHEN p.device_id IS NULL THEN 1 ELSE 0 END
    FROM {_GROUPED}
    LEFT JOIN points AS p
      ON p.device_id = o.device_id AND p.time_ms = i.time_ms AND p.lon = i.lon AND p.lat = i.lat
    WHERE p.device_id IS NULL
       OR {_IS_BETTER}
    """
_ADD_FRESH: Final = f"""
    INSERT INTO points ({_COLUMNS}) SELECT {_COLUMNS} FROM fresh WHERE true
    ON CONFLICT (device_id, {", ".join(COORDINATES)}) DO UPDATE
    SET {", ".join(f"{name} = {_merged(name, 'points', 'excluded')}" for name in MERGED)}
    """
_FRESH_DAYS: Final = f"""
    SELECT user_id, device_id, time_ms / {MS_PER_DAY} AS day, min(time_ms), max(time_ms), sum(is_new)
    FROM fresh JOIN devices USING (device_id) GROUP BY user_id, device_id, day
    """
