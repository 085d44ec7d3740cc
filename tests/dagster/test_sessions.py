"""Sessions are what run storage knows: whoever started the runs, and however they ended."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from tests import world
from tests.dagster.homes import embedded_instance
from tests.scenarios import DAY, MINUTE, at, fix
from trackgen_core.store import Store
from trackgen_dagster.definitions import defs
from trackgen_dagster.generate import generate
from trackgen_dagster.partitions import RANGE_TAGS
from trackgen_dagster.sessions import UnknownSession, errors_of, find_session, list_sessions

DAYS = 3
REFUSED = "CREATE TRIGGER refused BEFORE INSERT ON segments WHEN NEW.day = {} BEGIN SELECT RAISE(FAIL, 'no room'); END"


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with embedded_instance(tmp_path / "home") as instance:
        yield instance


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Three days with a track each."""
    store = world.open_store(tmp_path)
    monkeypatch.setenv("TRACKGEN_DATABASE_URL", store.database.url)
    first = at("10:00")
    world.add(store, [fix(first + day * DAY + i * MINUTE, 100.0 * i) for day in range(DAYS) for i in range(5)])
    return store


def test_a_session_from_the_command_line(instance: dg.DagsterInstance, store: Store) -> None:
    summary = generate(store, instance, mode="bulk", workers=1)
    (session,) = list_sessions(instance)
    assert session.session == summary.session
    assert (session.status, session.mode, session.users, session.percent) == ("completed", "bulk", "all", 100.0)
    assert (session.start, session.end) == (summary.start, summary.end)
    assert session.completed_days == session.total_days == 2 * DAYS  # segments and tracks
    assert session.runs == summary.runs
    assert find_session(instance, summary.session[:4]) == session
    assert errors_of(instance, session) == []


def test_a_run_from_the_ui_is_a_session_too(instance: dg.DagsterInstance, store: Store) -> None:
    tags = {RANGE_TAGS[0]: "2024-03-01", RANGE_TAGS[1]: "2024-03-02"}
    result = defs.resolve_job_def("generate").execute_in_process(instance=instance, tags=tags)
    (session,) = list_sessions(instance)
    assert (session.session, session.status, session.mode) == (result.run_id, "completed", "run")
    assert (session.start, session.end) == ("2024-03-01", "2024-03-02")


def test_a_failed_session_says_why_and_the_next_one_completes(instance: dg.DagsterInstance, store: Store) -> None:
    with store.write() as connection:
        connection.exec_driver_sql(REFUSED.format(world.day(fix(at("10:00"), 0.0)) + 1))
    summary = generate(store, instance, workers=1)
    session = find_session(instance, summary.session)
    assert session.status == summary.status == "failed"
    assert any("no room" in error for error in errors_of(instance, session))

    with store.write() as connection:
        connection.exec_driver_sql("DROP TRIGGER refused")
    again = generate(store, instance, workers=1)
    assert [session.status for session in list_sessions(instance)] == ["completed", "failed"]
    assert find_session(instance, again.session).status == "completed"
    assert len(world.tracks(store)) == DAYS


def test_a_session_that_is_not_there(instance: dg.DagsterInstance) -> None:
    assert list_sessions(instance) == []
    with pytest.raises(UnknownSession, match="trackgen sessions list"):
        find_session(instance, "nobody")
