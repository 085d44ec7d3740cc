"""Beside Dawarich by itself: points come, tracks are made, and are written, on a real instance and real databases."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from tests import dawarich, postgres, world
from tests.dagster.homes import embedded_instance
from tests.dagster.test_sensors import end, put, run, tick
from trackgen_core.dawarich import changes
from trackgen_core.dawarich.mirror import set_state
from trackgen_core.dawarich.source import open_dawarich
from trackgen_core.dawarich.transactions import WriteReport, in_transaction
from trackgen_core.store import Store
from trackgen_dagster.schedules import mirroring

pytestmark = pytest.mark.xdist_group("postgresql")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with postgres.postgis_databases() as databases:
        dawarich.create(url := databases.new(), dawarich.NEWEST)
        yield url


@pytest.fixture
def instance(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    monkeypatch.setenv("TRACKGEN_DEBOUNCE_SECONDS", "0.001")
    monkeypatch.setenv("TRACKGEN_DATABASE_URL", f"sqlite:///{tmp_path}/trackgen.db")
    monkeypatch.setenv("TRACKGEN_DAWARICH_URL", url)
    with embedded_instance(tmp_path / "home") as instance:
        yield instance


def look(instance: dg.DagsterInstance) -> dg.RunRequest | dg.SkipReason:
    with dg.build_schedule_context(instance=instance, scheduled_execution_time=datetime.now(UTC)) as context:
        found: Any = mirroring(context)
    return found


def keep_up(instance: dg.DagsterInstance, store: Store) -> dict[str, Any]:
    """One turn of the schedule, and then of the sensor, and what the former says of it."""
    request = look(instance)
    assert isinstance(request, dg.RunRequest)
    done = run(instance, request, "dawarich")
    assert done.success
    for request in tick(instance, store).run_requests or []:
        assert run(instance, request).success
    (output,) = [event for event in done.all_events if event.event_type_value == "STEP_OUTPUT"]
    return {name: one.value for name, one in output.step_output_data.metadata.items()}


def test_tracks_of_what_comes_are_written_by_the_next_turn(
    instance: dg.DagsterInstance, url: str, tmp_path: Path
) -> None:
    """Also of a user who sends points all the time."""
    with dawarich.connect(url) as connection:
        user_id = dawarich.add_user(connection, "anna@example.org", json.dumps({"minutes_between_routes": 10}))
    with open_dawarich(to="write") as there:
        in_transaction(there, WriteReport(""), changes.install)
    store = world.open_store(tmp_path)
    set_state(store, "on")
    history = dawarich.history(3, 60, 1)
    written = []
    for part in (history[:60], history[60:120], history[120:], history[:0]):
        before = world.tracks(store)
        with dawarich.connect(url) as connection:
            dawarich.add_points(connection, user_id, part)
        said = keep_up(instance, store)
        assert (said["points_changed"], said["users_with_work_left"]) == (len(part), 0)
        written.append(said["tracks_written"])
        with dawarich.connect(url) as connection:
            rows = connection.execute("SELECT extract(epoch FROM start_at), extract(epoch FROM end_at) FROM tracks")
            assert sorted(rows.fetchall()) == [(one.started_ms // 1000, one.ended_ms // 1000) for one in before]
    assert min(written[1:]) > 0
    store.database.close()


def test_what_fails_with_one_user_stops_nobody_else(instance: dg.DagsterInstance, url: str, tmp_path: Path) -> None:
    """Neither their tracks nor their points; and the run says with whom it was, and why."""
    dawarich.empty(url)
    store = world.open_store(tmp_path)
    names = ["anna@example.org", "bob@example.org"]
    with dawarich.connect(url) as connection:
        for name in names:
            user_id = dawarich.add_user(connection, name, json.dumps({"minutes_between_routes": 10}))
            dawarich.add_points(connection, user_id, dawarich.history(1, 240, user_id))
    set_state(store, "on")
    keep_up(instance, store)
    with dawarich.connect(url) as connection:
        connection.execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not today'; END $$"
        )
        connection.execute(
            "CREATE TRIGGER refusing BEFORE INSERT ON tracks FOR EACH ROW WHEN (NEW.user_id = 1) "
            "EXECUTE FUNCTION refuse()"
        )
        dawarich.add_points(connection, 1, dawarich.history(2, 240, 1).iloc[-10:])
    request = look(instance)
    assert isinstance(request, dg.RunRequest)
    done = run(instance, request, "dawarich")
    assert not done.success
    (failure,) = [event for event in done.all_events if event.event_type_value == "STEP_FAILURE"]
    said = str(failure.step_failure_data.user_failure_data.description)
    assert said.startswith("anna@example.org: ")
    assert "not today" in said
    assert "bob" not in said
    with dawarich.connect(url) as connection:
        rows = connection.execute("SELECT user_id, count(*) FROM tracks GROUP BY 1").fetchall()
        points = connection.execute("SELECT count(*) FROM points").fetchone()
    assert rows == [(2, len([track for track in world.tracks(store) if track.user == names[1]]))]
    assert (len(world.rows(store, "points")),) == points  # the new ones, too
    store.database.close()


def test_one_turn_at_a_time(instance: dg.DagsterInstance) -> None:
    one = put(instance, dg.DagsterRunStatus.STARTED, {}, "dawarich")
    assert isinstance(look(instance), dg.SkipReason)
    end(instance, one, dg.DagsterEventType.RUN_FAILURE)
    assert isinstance(look(instance), dg.RunRequest)
