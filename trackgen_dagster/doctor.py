"""What is installed, where data lives, and what is wrong.

Modules that load the asset graph are imported where they are needed: if the environment is wrong, they cannot be.
"""

from __future__ import annotations

import importlib
import platform
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from importlib.metadata import version
from itertools import takewhile
from typing import Any, Final

import dagster as dg
from sqlalchemy.exc import DBAPIError

from trackgen_core.database import DatabaseError
from trackgen_core.generation import day_stats
from trackgen_core.home import database_url, home, open_store
from trackgen_core.points import day_date, day_number, now_ms
from trackgen_core.redaction import redact, shown_url
from trackgen_core.store import STAGES, Store
from trackgen_core.words import counted
from trackgen_dagster.environment import DEFAULTS, number

PACKAGES: Final = ("trackgen", "dagster", "dagster-webserver", "pandas", "pyproj", "sqlalchemy")
LEAST_SQLITE: Final = (3, 39)
"""`IS DISTINCT FROM` came with this version."""

LEAST_FREE_GB: Final = 1.0
MOST_CHECKED_GB: Final = 2.0
"""Size of a SQLite file that is still read from end to end."""

CHECK_S: Final = 10.0
"""How long a look at a file waits for those who write to it."""

LONGEST_WAIT_S: Final = 3_600.0
"""Work that waits for longer is a problem: with a daemon, it is done a minute after its last change."""

LATEST: Final = 5
"""Sessions that are looked at."""


@dataclass
class Findings:
    """What was found, and what of it needs somebody's attention."""

    facts: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return the findings as the command line prints them."""
        return asdict(self)


def examine() -> Findings:
    """Look at the installation, the home and the databases: at each by itself, whatever is wrong with the others."""
    found = Findings()
    found.facts["python"] = platform.python_version()
    for package in PACKAGES:
        found.facts[package] = version(package)
    found.facts["sqlite"] = sqlite3.sqlite_version
    if sqlite3.sqlite_version_info < LEAST_SQLITE:
        found.problems.append(f"SQLite {sqlite3.sqlite_version} is too old: 3.39 or newer is needed")
    for look in (
        _examine_home,
        _examine_environment,
        _examine_files,
        _examine_database,
        _examine_definitions,
        _examine_instance,
    ):
        with _noted(found):
            look(found)
    found.problems = list(dict.fromkeys(found.problems))
    return found


@contextmanager
def _noted(found: Findings) -> Iterator[None]:
    """Note an error as a problem, and go on."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - whatever is wrong is what was asked for
        text = " ".join(str(error.orig if isinstance(error, DBAPIError) else error).split())
        is_plain = isinstance(error, DatabaseError | DBAPIError | OSError | ValueError) and text
        found.problems.append(redact(text if is_plain else f"{type(error).__name__}: {text}"))


def _examine_home(found: Findings) -> None:
    found.facts["home"] = str(home())
    free_gb = shutil.disk_usage(home() if home().exists() else home().anchor).free / 1e9
    found.facts["free disk"] = f"{free_gb:.1f} GB"
    if free_gb < LEAST_FREE_GB:
        found.problems.append(f"only {free_gb:.1f} GB are free where {home()} is")


def _examine_environment(found: Findings) -> None:
    found.facts["database"] = shown_url(database_url())
    for name in DEFAULTS:
        number(name)
    from trackgen_dagster.partitions import first_partition

    found.facts["first partition"] = first_partition().isoformat()


def _examine_files(found: Findings) -> None:
    """Look whether the SQLite files of the home are whole; those that would take long are left out."""
    from trackgen_dagster.instance import prepare_instance

    dagster = prepare_instance()
    files = [home() / "trackgen.db", *(dagster / "history").glob("*.db"), *(dagster / "schedules").glob("*.db")]
    for file in [file for file in files if file.exists()]:
        size_gb = file.stat().st_size / 1e9
        if size_gb > MOST_CHECKED_GB:
            found.facts[f"not checked: {file.name}"] = f"{size_gb:.1f} GB; `PRAGMA integrity_check` takes minutes"
            continue
        try:
            with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=CHECK_S)) as connection:
                faults = [text for (text,) in connection.execute("PRAGMA quick_check(1)")]
        except sqlite3.DatabaseError as error:
            faults = [str(error)]
        if faults != ["ok"]:
            found.problems.append(
                f"{file} is damaged ({' '.join(faults[0].split())}): stop everything, and put a backup in its place"
            )


def _examine_database(found: Findings) -> None:
    with closing(open_store().database) as database:
        _examine_store(Store(database), found)


def _examine_definitions(found: Findings) -> None:
    """Look whether the definitions load, here and in the UI that runs on this home."""
    from trackgen_dagster.services import code_locations, running_ui

    url = running_ui()
    found.facts["UI"] = url or "not running: `trackgen ui` starts it"
    if url:
        for name, error in code_locations(url).items():
            if error:
                found.problems.append(f"the UI cannot load {name}: {' '.join(error.split())}")
    importlib.import_module("trackgen_dagster.definitions")


def _examine_store(store: Store, found: Findings) -> None:
    with store.read() as connection:
        days = store.days_with_points(connection)
        dirty = {stage: store.dirty(connection, stage, dead=False) for stage in STAGES}
        dead = len(store.dead_letters(connection))
    found.facts["users"] = f"{days['user_id'].nunique():,} with points, of {len(store.user_names()):,}"
    if len(days):
        lo_day, hi_day = int(days["day"].min()), int(days["day"].max())
        totals = day_stats(store, lo_day, hi_day).sum()
        found.facts["days with points"] = f"{days['day'].nunique():,}, {day_date(lo_day)} to {day_date(hi_day)}"
        found.facts["tracks"] = f"{totals['tracks']:,}, {totals['length_mm'] / 1e6:,.1f} km"
        found.facts["stays"] = f"{totals['stays']:,}"
        found.facts["points set aside"] = f"{totals['noise']:,} as noise, {totals['leftover']:,} left over"
    changed = {stage: rows[rows["is_change"] == 1] for stage, rows in dirty.items()}
    found.facts["work to do"] = ", ".join(f"{counted(len(rows), 'day')} of {stage}" for stage, rows in changed.items())
    listed_ms = [listed for rows in changed.values() for listed in rows["listed_ms"].tolist()]
    if listed_ms:
        waited_s = (now_ms() - min(listed_ms)) / 1000
        found.facts["work to do"] += f", listed for up to {_spell(waited_s)}"
        if waited_s > LONGEST_WAIT_S:
            found.problems.append(
                f"work waits for {_spell(waited_s)}: `trackgen generate` does it, and so do `trackgen ui` and "
                "`trackgen daemon` while they run"
            )
    again = sum(int((rows["is_change"] == 0).sum()) for rows in dirty.values())
    if again:
        found.facts["to make again"] = f"{counted(again, 'day')}, of a session that is not over or was stopped"
    if dead:
        found.problems.append(f"given up after several attempts: {counted(dead, 'day')}, see `trackgen dead-letters`")
    from trackgen_dagster.partitions import first_partition

    first = first_partition(store)
    early = set(days.loc[days["day"] < day_number(first), "day"])
    early |= {day for rows in dirty.values() for day in rows.loc[rows["day"] < day_number(first), "day"]}
    if early:
        found.problems.append(
            f"{counted(len(early), 'day')} with points or work before {first}, where no run goes: set "
            "TRACKGEN_START_DATE to an earlier day, or delete these points"
        )


def _examine_instance(found: Findings) -> None:
    from trackgen_dagster.instance import open_instance, storage_of

    with open_instance() as instance:
        found.facts["Dagster's storage"] = storage_of(instance)
        _examine_queue(instance, found)
        _examine_sessions(instance, found)


def _examine_queue(instance: dg.DagsterInstance, found: Findings) -> None:
    from trackgen_dagster.instance import daemon_is_alive

    running = daemon_is_alive(instance)
    found.facts["daemon"] = "running" if running else "not running: `trackgen ui` or `trackgen daemon` starts it"
    waiting = instance.get_run_records(dg.RunsFilter(statuses=[dg.DagsterRunStatus.QUEUED]))
    found.facts["queue"] = counted(len(waiting), "run")
    if waiting:
        oldest_s = time.time() - min(record.create_timestamp.timestamp() for record in waiting)
        found.facts["queue"] += f", waiting for up to {_spell(oldest_s)}"
        if not running:
            found.problems.append(f"no daemon is running for {counted(len(waiting), 'run')} in the queue")


def _examine_sessions(instance: dg.DagsterInstance, found: Findings) -> None:
    from trackgen_dagster.sessions import errors_of, list_sessions

    latest = list_sessions(instance, LATEST)
    if latest:
        found.facts["latest session"] = f"{latest[0].session}, {latest[0].mode}: {latest[0].status}"
    failed = list(takewhile(lambda session: session.status == "failed", latest))
    if failed:
        errors = errors_of(instance, failed[0].session)
        what = "the latest session" if len(failed) == 1 else f"the latest {len(failed)} sessions"
        why = f": {errors[0]}" if errors else ""
        found.problems.append(f"{what} failed, see `trackgen sessions show {failed[0].session}`{why}")


def _spell(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
