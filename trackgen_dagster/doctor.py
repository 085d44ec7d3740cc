"""What is installed, where data lives, and what is wrong."""

from __future__ import annotations

import platform
import shutil
import sqlite3
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import Any, Final

from trackgen_core.database import DatabaseError
from trackgen_core.generation import day_stats
from trackgen_core.home import database_url, home, open_store
from trackgen_core.points import day_date, day_number, start_day
from trackgen_core.store import STAGES, Store

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
    found.facts["database"] = database_url()
    try:
        found.facts["first day"] = start_day().isoformat()
        _examine_store(open_store(), found)
    except (DatabaseError, ValueError) as error:
        found.problems.append(str(error))
        return found
    free_gb = shutil.disk_usage(home() if home().exists() else home().anchor).free / 1e9
    found.facts["free disk"] = f"{free_gb:.1f} GB"
    if free_gb < LEAST_FREE_GB:
        found.problems.append(f"only {free_gb:.1f} GB are free where {home()} is")
    return found


def _examine_store(store: Store, found: Findings) -> None:
    with store.read() as connection:
        days = store.days_with_points(connection)
        dirty = {stage: store.dirty(connection, stage) for stage in STAGES}
    found.facts["users"] = f"{days['user_id'].nunique():,} with points, of {len(store.user_names()):,}"
    if len(days):
        lo_day, hi_day = int(days["day"].min()), int(days["day"].max())
        totals = day_stats(store, lo_day, hi_day).sum()
        found.facts["days with points"] = f"{days['day'].nunique():,}, {day_date(lo_day)} to {day_date(hi_day)}"
        found.facts["tracks"] = f"{totals['tracks']:,}, {totals['length_mm'] / 1e6:,.1f} km"
        found.facts["points in no track"] = f"{totals['leftover']:,}"
    found.facts["work to do"] = ", ".join(f"{len(rows):,} days of {stage}" for stage, rows in dirty.items())
    if sum(map(len, dirty.values())):
        found.facts["work to do"] += ": run `trackgen generate`"
    before = sum(int((rows["day"] < day_number(start_day())).sum()) for rows in dirty.values())
    if before:
        found.problems.append(
            f"{before:,} days with work lie before {start_day()}, where no run reaches them: set TRACKGEN_START_DATE "
            "to an earlier day, or delete these points"
        )
