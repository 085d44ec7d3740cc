"""`trackgen doctor` on homes where something is wrong: it says what, and goes on with the rest."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests import world
from tests.command_line import run, trackgen
from tests.dagster.homes import DAYS, FIRST, refuse, ride
from tests.dagster.test_services import free_port, started
from trackgen_core.points import day_date


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with points on some days, of which nothing is made yet."""
    store = world.open_store(tmp_path)
    ride(store, range(DAYS))
    store.database.close()
    return tmp_path


def findings(home: Path, **environment: str) -> tuple[list[str], dict[str, str]]:
    done = run(home, "doctor", "--json", env=environment)
    assert "Traceback" not in done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (1 if found["problems"] else 0)
    return found["problems"], found["facts"]


def test_a_damaged_database_is_named_and_the_rest_is_looked_at(home: Path) -> None:
    trackgen(home, "generate")
    with closing(sqlite3.connect(home / "trackgen.db")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with (home / "trackgen.db").open("r+b") as file:
        size = file.seek(0, 2)
        file.seek(4096)
        file.write(b"\xff" * (size - 4096))
    problems, facts = findings(home)
    assert any(problem.startswith(f"{home / 'trackgen.db'} is damaged (") for problem in problems)
    assert facts["latest session"].endswith("incremental: completed")
    assert facts["Dagster's storage"].startswith("SQLite files")
    assert "free disk" in facts


def test_a_session_that_failed_is_a_problem_until_one_succeeds(home: Path) -> None:
    store = world.open_store(home)
    refuse(store, FIRST)
    assert run(home, "generate", env={"TRACKGEN_RETRY_SECONDS": "0.01"}).returncode == 1
    assert run(home, "generate", env={"TRACKGEN_RETRY_SECONDS": "0.01"}).returncode == 1
    problems, _ = findings(home)
    (problem,) = [problem for problem in problems if "failed, see" in problem]
    assert problem.startswith("the latest 2 sessions failed, see `trackgen sessions show ")
    assert "no room" in problem
    with store.write() as connection:
        connection.exec_driver_sql("DROP TRIGGER refused")
    trackgen(home, "generate")
    assert findings(home)[0] == []
    store.database.close()


def test_work_that_waits_for_long_is_a_problem(home: Path) -> None:
    assert findings(home)[0] == []
    store = world.open_store(home)
    with store.write() as connection:
        connection.exec_driver_sql("UPDATE dirty_days SET listed_ms = listed_ms - 7200000")
    store.database.close()
    (problem,) = findings(home)[0]
    assert problem.startswith("work waits for 2:00:")
    assert "`trackgen generate` does it" in problem


def test_points_before_the_start_date_are_a_problem(home: Path) -> None:
    trackgen(home, "generate")
    start = day_date(FIRST + 1).isoformat()
    (problem,) = findings(home, TRACKGEN_START_DATE=start)[0]
    assert problem.startswith(f"1 day with points or work before {start}, where no run goes")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("TRACKGEN_OWNERS", "nobody", "TRACKGEN_OWNERS: 'nobody' is no owner"),
        ("TRACKGEN_DAILY_CRON", "every day", "invalid cron schedule"),
        ("TRACKGEN_ATTEMPTS", "none", "TRACKGEN_ATTEMPTS=none"),
        ("TRACKGEN_START_DATE", "yesterday", "TRACKGEN_START_DATE='yesterday' is no date"),
    ],
)
def test_an_environment_that_keeps_the_definitions_from_loading(home: Path, name: str, value: str, said: str) -> None:
    problems, facts = findings(home, **{name: value})
    assert any(said in problem for problem in problems), problems
    assert facts["home"] == str(home)


def test_a_dead_code_location_of_the_ui_is_a_problem(home: Path) -> None:
    port = free_port()
    with started(home, port, TRACKGEN_DAILY_CRON="every day"):
        problems, facts = findings(home)
    assert facts["UI"] == f"http://127.0.0.1:{port}"
    assert any(problem.startswith("the UI cannot load trackgen: ") for problem in problems), problems
