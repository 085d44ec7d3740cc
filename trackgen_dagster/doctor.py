"""What is installed, where data lives, and what is wrong."""

from __future__ import annotations

import platform
import shutil
import sqlite3
import time
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from importlib.metadata import version
from typing import Any, Final

import dagster as dg

from trackgen_core.database import DatabaseError
from trackgen_core.generation import day_stats
from trackgen_core.home import database_url, home, open_store
from trackgen_core.points import day_date, day_number, now_ms
from trackgen_core.redaction import shown_url
from trackgen_core.store import STAGES, Store
from trackgen_core.words import counted
from trackgen_dagster.instance import daemon_is_alive, open_instance, storage_of
from trackgen_dagster.partitions import first_partition
from trackgen_dagster.sessions import list_sessions

PACKAGES: Final = ("trackgen", "dagster", "dagster-webserver", "pandas", "pyproj", "sqlalchemy")
LEAST_SQLITE: Final = (3, 39)
"""`IS DISTINCT FROM` came with this version."""

LEAST_FREE_GB: Final = 1.0


@dataclass
class Findings:
    """What was found, and what of it needs somebody's attention."""

    facts: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return the findings as the command line prints them."""
        return asdict(self)


def examine() -> Findings:
    """Look at the installation, the home and the database."""
    found = Findings()
    found.facts["python"] = platform.python_version()
    for package in PACKAGES:
        found.facts[package] = version(package)
    found.facts["sqlite"] = sqlite3.sqlite_version
    if sqlite3.sqlite_version_info < LEAST_SQLITE:
        found.problems.append(f"SQLite {sqlite3.sqlite_version} is too old: 3.39 or newer is needed")
    found.facts["home"] = str(home())
    found.facts["database"] = shown_url(database_url())
    try:
        found.facts["first partition"] = first_partition().isoformat()
        _examine_store(open_store(), found)
    except (DatabaseError, ValueError) as error:
        found.problems.append(str(error))
        return found
    try:
        with open_instance() as instance:
            found.facts["Dagster's storage"] = storage_of(instance)
            _examine_instance(instance, found)
    except DatabaseError as error:
        found.problems.append(str(error))
    free_gb = shutil.disk_usage(home() if home().exists() else home().anchor).free / 1e9
    found.facts["free disk"] = f"{free_gb:.1f} GB"
    if free_gb < LEAST_FREE_GB:
        found.problems.append(f"only {free_gb:.1f} GB are free where {home()} is")
    return found


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
        found.facts["work to do"] += f", listed for up to {_spell((now_ms() - min(listed_ms)) / 1000)}"
    again = sum(int((rows["is_change"] == 0).sum()) for rows in dirty.values())
    if again:
        found.facts["to make again"] = f"{counted(again, 'day')}, of a session that is not over or was stopped"
    if dead:
        found.problems.append(f"given up after several attempts: {counted(dead, 'day')}, see `trackgen dead-letters`")
    first = first_partition(store)
    before = sum(int((rows["day"] < day_number(first)).sum()) for rows in dirty.values())
    if before:
        found.problems.append(
            f"{counted(before, 'day')} with work before {first}, where no run goes: set TRACKGEN_START_DATE to "
            "an earlier day, or delete these points"
        )


def _examine_instance(instance: dg.DagsterInstance, found: Findings) -> None:
    running = daemon_is_alive(instance)
    found.facts["daemon"] = "running" if running else "not running: `trackgen ui` or `trackgen daemon` starts it"
    waiting = instance.get_run_records(dg.RunsFilter(statuses=[dg.DagsterRunStatus.QUEUED]))
    found.facts["queue"] = counted(len(waiting), "run")
    if waiting:
        oldest = min(record.create_timestamp.timestamp() for record in waiting)
        found.facts["queue"] += f", waiting for up to {_spell(time.time() - oldest)}"
        if not running:
            found.problems.append(f"no daemon is running for {counted(len(waiting), 'run')} in the queue")
    latest = next(iter(list_sessions(instance, 1)), None)
    if latest:
        found.facts["latest session"] = f"{latest.session}, {latest.mode}: {latest.status}"


def _spell(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
