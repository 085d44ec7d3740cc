"""What runs by itself, on a real instance and a real database: nothing is missed, and nothing is done twice."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import psutil
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.execution.backfill import BulkActionStatus
from dagster._core.loader import LoadingContextForTest
from dagster._core.storage.tags import AUTO_RETRY_RUN_ID_TAG, GRPC_INFO_TAG, PARENT_RUN_ID_TAG, WILL_RETRY_TAG
from dagster._core.test_utils import create_test_daemon_workspace_context
from dagster._core.workspace.load_target import ModuleTarget
from dagster._daemon import sensor as sensor_daemon
from dagster._daemon.sensor import execute_sensor_iteration

from tests import world
from tests.dagster.homes import embedded_instance
from tests.reference import Point
from tests.scenarios import DAY, MINUTE, USER, at, fix
from trackgen_core.generation import mark_all
from trackgen_core.importing import Incoming
from trackgen_core.inbox import SETTLE_S
from trackgen_core.points import MS_PER_DAY, now_ms
from trackgen_core.store import STAGES, Store
from trackgen_dagster import requests, sensors, tags
from trackgen_dagster.definitions import defs
from trackgen_dagster.generate import UI_ORIGIN, create
from trackgen_dagster.generate import generate as generate_here
from trackgen_dagster.instance import LOCATION, process_tag
from trackgen_dagster.partitions import RANGE_TAGS, day_of, days_of_run, key_of
from trackgen_dagster.requests import DayRange, session_tags
from trackgen_dagster.resources import TrackStore
from trackgen_dagster.schedules import daily
from trackgen_dagster.sensors import (
    MOST_QUEUED,
    MOST_REPORTED,
    PATIENCE,
    drop_folder,
    fail_stuck_runs,
    incremental,
    retry_forgotten_runs,
    watchdog,
)

FIRST = world.day(fix(at("10:00")))
TODAY = now_ms() // MS_PER_DAY
QUEUED, STARTED, FAILURE = dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.FAILURE
REFUSED = "CREATE TRIGGER refused BEFORE INSERT ON segments BEGIN SELECT RAISE(FAIL, 'no room'); END"

Asked = tuple[int, int, tuple[str, ...] | None]
"""First day, last day, users."""


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with embedded_instance(tmp_path / "home") as instance:
        yield instance


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """An empty database; changes are taken up at once."""
    monkeypatch.setenv("TRACKGEN_DEBOUNCE_SECONDS", "0.001")
    monkeypatch.setenv("TRACKGEN_RETRY_SECONDS", "0.01")
    store = world.open_store(tmp_path)
    monkeypatch.setenv("TRACKGEN_DATABASE_URL", store.database.url)
    return store


def ride(day: int, user: str = USER, minute: int = 0) -> list[Point]:
    """Five points, one track; later ones are farther along the same way."""
    start = day * DAY + 10 * 60 * MINUTE
    return [fix(start + (minute + i) * MINUTE, 100.0 * (minute + i))._replace(user=user) for i in range(5)]


def add(store: Store, days: Collection[int], user: str = USER, minute: int = 0) -> None:
    world.add(store, [point for day in days for point in ride(day, user, minute)])


def execute(store: Store, sql: str) -> None:
    with store.write() as connection:
        connection.exec_driver_sql(sql)


def tick(instance: dg.DagsterInstance, store: Store, cursor: str | None = None) -> dg.SensorResult:
    time.sleep(0.01)  # longer than a change is waited for, where a test does not say otherwise
    database = TrackStore(database_url=store.database.url)
    with dg.build_sensor_context(instance=instance, cursor=cursor, resources={"database": database}) as context:
        return incremental(context)  # type: ignore[return-value]


def asked(result: dg.SensorResult) -> list[Asked]:
    found = []
    for run in result.run_requests or []:
        users = tags.users_of(run.tags)
        found.append((*days_of_run(run.tags), None if users is None else tuple(users)))
    return found


def tick_asks(instance: dg.DagsterInstance, store: Store) -> list[Asked]:
    return asked(tick(instance, store))


def run(instance: dg.DagsterInstance, request: dg.RunRequest, job: str = "generate") -> dg.ExecuteInProcessResult:
    """Execute what was asked for, as the daemon does."""
    return defs.resolve_job_def(job).execute_in_process(
        instance=instance, run_config=request.run_config, tags=request.tags, raise_on_error=False
    )


def run_all(instance: dg.DagsterInstance, result: dg.SensorResult) -> None:
    for request in result.run_requests or []:
        assert run(instance, request).success


def put(
    instance: dg.DagsterInstance, status: dg.DagsterRunStatus, said: Mapping[str, str], job: str = "generate"
) -> dg.DagsterRun:
    """A run in run storage that nobody executes."""
    return instance.create_run_for_job(
        defs.resolve_job_def(job), tags=dict(said), status=status, remote_job_origin=UI_ORIGIN
    )


def days_tags(lo_day: int, hi_day: int) -> dict[str, str]:
    return {RANGE_TAGS[0]: key_of(lo_day), RANGE_TAGS[1]: key_of(hi_day)}


def end(instance: dg.DagsterInstance, one: dg.DagsterRun, how: dg.DagsterEventType) -> None:
    event = dg.DagsterEvent(event_type_value=how.value, job_name=one.job_name)
    instance.report_dagster_event(event, run_id=one.run_id)


def reload(instance: dg.DagsterInstance, one: dg.DagsterRun) -> dg.DagsterRun:
    known = instance.get_run_by_id(one.run_id)
    assert known
    return known


def reason(instance: dg.DagsterInstance, one: dg.DagsterRun) -> str:
    """What a run failed with."""
    (entry,) = instance.all_logs(one.run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
    return entry.message


# From points to tracks ------------------------------------------------------------------------------------------------


def test_a_burst_of_arrivals_makes_one_run(
    instance: dg.DagsterInstance, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKGEN_DEBOUNCE_SECONDS", "1")
    for i in range(4):
        add(store, [FIRST, FIRST + 1], minute=10 * i)
        result = tick(instance, store)
        assert not result.run_requests
        assert "1 still changing" in str(result.skip_reason)
        time.sleep(0.2)
    time.sleep(1)
    result = tick(instance, store)
    assert asked(result) == [(FIRST, FIRST + 1, (USER,))]
    run_all(instance, result)
    assert sum(track.points for track in world.tracks(store)) == 40
    assert tick(instance, store).skip_reason == dg.SkipReason("Nothing is listed.")


def test_points_that_never_cease_are_taken_up_all_the_same(
    instance: dg.DagsterInstance, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    pause_s = 0.4
    monkeypatch.setenv("TRACKGEN_DEBOUNCE_SECONDS", str(pause_s))
    begun = last = time.monotonic()
    longest_pause = 0.0
    for minute in range(1_000):
        world.add(store, [fix(at("10:00") + minute * MINUTE)])
        if tick_asks(instance, store):
            break
        longest_pause, last = max(longest_pause, time.monotonic() - last), time.monotonic()
    longest_pause = max(longest_pause, time.monotonic() - last)
    waited = time.monotonic() - begun
    assert waited < PATIENCE * pause_s + 2
    assert waited >= PATIENCE * pause_s or longest_pause >= pause_s


def late_points(store: Store) -> None:
    add(store, [FIRST + 14, FIRST + 15], minute=120)


def deletion(store: Store) -> None:
    world.delete(store, ride(FIRST + 14) + ride(FIRST + 15))


def moved_by_a_metre(store: Store) -> None:
    deletion(store)
    world.add(store, [point._replace(lat=1e-5) for day in (14, 15) for point in ride(FIRST + day)])


@pytest.mark.parametrize("change", [late_points, deletion, moved_by_a_metre])
def test_a_change_in_the_middle_asks_for_its_days_and_its_user(
    instance: dg.DagsterInstance, store: Store, change: Callable[[Store], None]
) -> None:
    for user in (USER, "bob"):
        add(store, range(FIRST, FIRST + 30), user)
    world.generate(store)
    assert tick_asks(instance, store) == []
    change(store)
    result = tick(instance, store)
    assert asked(result) == [(FIRST + 14, FIRST + 15, (USER,))]
    run_all(instance, result)
    assert tick_asks(instance, store) == []
    assert world.dirty(store) == 0


def test_a_change_of_settings_asks_for_all_days_of_the_user(instance: dg.DagsterInstance, store: Store) -> None:
    for user in (USER, "bob"):
        add(store, range(FIRST, FIRST + 30), user)
    world.generate(store)
    before = len(world.tracks(store))
    store.set_settings("bob", {"minutes_between_routes": 29})
    assert tick_asks(instance, store) == [(FIRST, FIRST + 29, ("bob",))]
    store.set_settings("bob", {"meters_between_routes": 99, "distance_rule": "strict"})
    run_all(instance, tick(instance, store))
    assert len(world.tracks(store)) == before - 30  # steps of 100 m: bob has no tracks any more
    assert tick_asks(instance, store) == []


def test_the_oldest_work_comes_first(instance: dg.DagsterInstance, store: Store) -> None:
    for day in (20, 0, 10):
        add(store, [FIRST + day])
        time.sleep(0.01)
    assert [lo for lo, _, _ in tick_asks(instance, store)] == [FIRST + 20, FIRST, FIRST + 10]


def test_what_somebody_only_wants_again_is_none_of_it(instance: dg.DagsterInstance, store: Store) -> None:
    add(store, [FIRST])
    world.generate(store)
    for stage in STAGES:
        mark_all(store, stage, FIRST, FIRST)
    assert world.dirty(store) == 2
    assert tick_asks(instance, store) == []
    add(store, [FIRST], minute=60)  # this is a change
    assert tick_asks(instance, store) == [(FIRST, FIRST, (USER,))]


def test_days_that_are_no_partition_yet_wait_until_they_are(instance: dg.DagsterInstance, store: Store) -> None:
    add(store, [TODAY + 1, TODAY + 2])
    assert tick_asks(instance, store) == [(TODAY + 1, TODAY + 1, (USER,))]


def test_changes_made_while_the_clock_was_wrong_are_not_waited_for(
    instance: dg.DagsterInstance, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKGEN_DEBOUNCE_SECONDS", "60")
    add(store, [FIRST])
    assert tick_asks(instance, store) == []
    later_ms = now_ms() + 365 * MS_PER_DAY
    execute(store, f"UPDATE dirty_days SET version = {later_ms << 20}, listed_ms = {later_ms}")
    assert len(tick_asks(instance, store)) == 1


def test_of_more_users_than_a_tag_can_name_all_are_seen_to(instance: dg.DagsterInstance, store: Store) -> None:
    names = [f"user {i}" for i in range(tags.MOST_USERS + 1)]
    world.add(store, [point for name in names for point in ride(FIRST, name)])
    result = tick(instance, store)
    assert asked(result) == [(FIRST, FIRST, None)]
    run_all(instance, result)
    assert {track.user for track in world.tracks(store)} == set(names)
    assert tick_asks(instance, store) == []


def test_of_two_transactions_the_first_to_begin_commits_last(instance: dg.DagsterInstance, store: Store) -> None:
    """A cursor over serial ids or times would have passed the points of the one that commits last."""
    with store.database.engine.connect() as one, store.database.engine.connect() as other:
        slow, fast = Incoming(store, one), Incoming(store, other)
        slow.add(world.frame(ride(FIRST) + ride(FIRST + 1)))
        fast.add(world.frame(ride(FIRST, minute=5)))
        fast.commit()
        run_all(instance, tick(instance, store))
        slow.commit()
    result = tick(instance, store)
    assert asked(result) == [(FIRST, FIRST + 1, (USER,))]
    run_all(instance, result)
    assert [track.points for track in world.tracks(store)] == [10, 5]
    assert tick_asks(instance, store) == []


# What is under way ----------------------------------------------------------------------------------------------------


def from_the_ui(instance: dg.DagsterInstance, store: Store, status: dg.DagsterRunStatus) -> Callable[[], None]:
    one = put(instance, status, days_tags(FIRST - 10, FIRST + 30))
    return lambda: end(instance, one, dg.DagsterEventType.RUN_CANCELED)


def from_the_sensor(instance: dg.DagsterInstance, store: Store, status: dg.DagsterRunStatus) -> Callable[[], None]:
    (request,) = tick(instance, store).run_requests or []
    one = put(instance, status, request.tags)

    def end_after_more_points() -> None:
        add(store, [FIRST], minute=5)
        end(instance, one, dg.DagsterEventType.RUN_SUCCESS)

    return end_after_more_points


def from_a_backfill(instance: dg.DagsterInstance, store: Store, status: dg.DagsterRunStatus) -> Callable[[], None]:
    create(store, instance, mode="bulk")
    (backfill,) = instance.get_backfills()
    said = backfill.tags | {tags.BACKFILL: backfill.backfill_id}
    first = put(instance, status, said | days_tags(FIRST - 5, FIRST - 5))

    def end_both() -> None:
        end(instance, first, dg.DagsterEventType.RUN_CANCELED)
        instance.update_backfill(backfill.with_status(BulkActionStatus.CANCELED))

    return end_both


@pytest.mark.parametrize("status", [QUEUED, dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING, STARTED])
@pytest.mark.parametrize("begin", [from_the_ui, from_the_sensor, from_a_backfill])
def test_what_is_under_way_is_not_asked_for_until_it_has_ended(
    instance: dg.DagsterInstance, store: Store, begin: Callable[..., Callable[[], None]], status: dg.DagsterRunStatus
) -> None:
    add(store, [FIRST])
    end_it = begin(instance, store, status)
    result = tick(instance, store)
    assert not result.run_requests
    assert "1 under way" in str(result.skip_reason)
    end_it()
    assert tick_asks(instance, store) == [(FIRST, FIRST, (USER,))]


def test_a_command_line_sees_to_all_its_days_between_its_runs_too(instance: dg.DagsterInstance, store: Store) -> None:
    add(store, [FIRST])
    said = session_tags("0123abcd", "bulk", [], DayRange(FIRST - 20, FIRST)) | {tags.PROCESS: process_tag()}
    one, other = (said | {tags.RUNS: "2"} | days_tags(day, day) for day in (FIRST - 20, FIRST))
    first = put(instance, STARTED, one)
    assert tick_asks(instance, store) == []
    end(instance, first, dg.DagsterEventType.RUN_SUCCESS)
    assert tick_asks(instance, store) == []  # the next run is about to be created
    second = put(instance, STARTED, other)
    assert tick_asks(instance, store) == []
    end(instance, second, dg.DagsterEventType.RUN_CANCELED)
    assert tick_asks(instance, store) == [(FIRST, FIRST, (USER,))]


def test_a_command_line_that_was_killed_sees_to_nothing_more(instance: dg.DagsterInstance, store: Store) -> None:
    add(store, [FIRST])
    said = session_tags("0123abcd", "bulk", [], DayRange(FIRST - 20, FIRST)) | days_tags(FIRST - 20, FIRST - 20)
    with a_process() as (process, tag):
        first = put(instance, STARTED, said | {tags.RUNS: "2", tags.PROCESS: tag})
        end(instance, first, dg.DagsterEventType.RUN_SUCCESS)
        assert tick_asks(instance, store) == []
        process.kill()
        process.wait()
        assert tick_asks(instance, store) == [(FIRST, FIRST, (USER,))]


def test_a_run_that_dagster_tries_again_is_under_way(instance: dg.DagsterInstance, store: Store) -> None:
    add(store, [FIRST])
    end(instance, put(instance, STARTED, days_tags(FIRST, FIRST)), dg.DagsterEventType.RUN_FAILURE)
    assert tick_asks(instance, store) == []
    # If it is not to be tried again, it is up to the sensor.
    (failed,) = instance.get_runs()
    instance.add_run_tags(failed.run_id, {"dagster/will_retry": "false"})
    assert len(tick_asks(instance, store)) == 1


def test_other_days_and_other_users_do_not_wait(instance: dg.DagsterInstance, store: Store) -> None:
    for user in (USER, "bob"):
        add(store, [FIRST, FIRST + 1], user)
    one = put(instance, STARTED, days_tags(FIRST, FIRST + 9) | {tags.USERS: '["bob"]'})
    assert tick_asks(instance, store) == [(FIRST, FIRST + 1, (USER,))]
    put(instance, STARTED, days_tags(FIRST - 9, FIRST))
    assert tick_asks(instance, store) == [(FIRST + 1, FIRST + 1, (USER,))]
    end(instance, one, dg.DagsterEventType.RUN_CANCELED)
    assert tick_asks(instance, store) == [(FIRST + 1, FIRST + 1, (USER, "bob"))]


def test_making_everything_again_keeps_no_new_points_waiting(instance: dg.DagsterInstance, store: Store) -> None:
    """A backfill of ten years takes hours, and comes to today last."""
    add(store, [FIRST, FIRST + 1])
    create(store, instance, mode="bulk")
    (backfill,) = instance.get_backfills()
    said = backfill.tags | {tags.BACKFILL: backfill.backfill_id} | days_tags(FIRST, FIRST + 1)
    for _ in range(MOST_QUEUED):
        put(instance, QUEUED, said)
    assert tick_asks(instance, store) == []
    add(store, [FIRST + 1], minute=60)
    put(instance, QUEUED, said)
    assert tick_asks(instance, store) == [(FIRST + 1, FIRST + 1, (USER,))]
    put(instance, STARTED, said)
    assert tick_asks(instance, store) == []


def test_a_full_queue_is_not_made_longer(instance: dg.DagsterInstance, store: Store) -> None:
    add(store, [FIRST])
    queue = [put(instance, QUEUED, days_tags(FIRST + 99, FIRST + 99)) for _ in range(MOST_QUEUED)]
    result = tick(instance, store)
    assert not result.run_requests
    assert f"{MOST_QUEUED} runs in the queue" in str(result.skip_reason)
    end(instance, queue[0], dg.DagsterEventType.RUN_CANCELED)
    assert len(tick_asks(instance, store)) == 1


@pytest.mark.parametrize("succeeds", [True, False])
def test_a_run_that_ends_while_the_sensor_looks(
    instance: dg.DagsterInstance, store: Store, monkeypatch: pytest.MonkeyPatch, succeeds: bool
) -> None:
    add(store, [FIRST])
    one = put(instance, STARTED, days_tags(FIRST, FIRST)) if succeeds else start(instance, tick(instance, store))
    add(store, [FIRST], minute=60)

    def end_the_run() -> None:
        if not reload(instance, one).is_finished:
            if succeeds:
                world.generate(store)
            end(instance, one, dg.DagsterEventType.RUN_SUCCESS if succeeds else dg.DagsterEventType.RUN_FAILURE)

    # Whatever it looks at first, the run ends right after that.
    for look in ("under_way", "in_vain", "changes"):
        monkeypatch.setattr(sensors, look, then(getattr(sensors, look), end_the_run))
    assert tick_asks(instance, store) == []
    assert tick_asks(instance, store) == []


def then(look: Callable[..., object], do: Callable[[], None]) -> Callable[..., object]:
    def looked(*args: object) -> object:
        found = look(*args)
        do()
        return found

    return looked


# What was in vain -----------------------------------------------------------------------------------------------------


def keys(result: dg.SensorResult) -> list[str | None]:
    return [request.run_key for request in result.run_requests or []]


def start(instance: dg.DagsterInstance, result: dg.SensorResult) -> dg.DagsterRun:
    (request,) = result.run_requests or []
    return put(instance, STARTED, request.tags)


def let_the_daemon_look(instance: dg.DagsterInstance, **crash: dict[str, signal.Signals]) -> None:
    """Let Dagster's sensor daemon look once, in this process; it may be killed on the way."""
    target = ModuleTarget("trackgen_dagster.definitions", None, str(Path.cwd()), LOCATION)
    with create_test_daemon_workspace_context(target, instance) as workspace:
        list(execute_sensor_iteration(workspace, logging.getLogger(__name__), None, None, debug_crash_flags=crash))


@pytest.mark.parametrize("moment", ["RUN_IDS_RESERVED", "RUN_CREATED", "RUN_LAUNCHED"])
def test_a_daemon_that_is_killed_between_tick_and_run_misses_and_doubles_nothing(
    instance: dg.DagsterInstance, store: Store, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    add(store, [FIRST, FIRST + 5])
    with pytest.raises(KeyboardInterrupt):
        let_the_daemon_look(instance, incremental={moment: signal.SIGINT})
    monkeypatch.setattr(sensor_daemon, "is_under_min_interval", lambda *args: False)  # it looks every 15 s
    for _ in range(2):
        let_the_daemon_look(instance)
        queue = [(days_of_run(one.tags), tags.users_of(one.tags)) for one in instance.get_runs()]
        assert sorted(queue) == [((day, day), [USER]) for day in (FIRST, FIRST + 5)]
    assert {one.status for one in instance.get_runs()} == {QUEUED}
    assert len(instance.fetch_materializations(POINTS, limit=9).records) == 2


def test_a_tick_whose_runs_were_never_started_is_repeated(instance: dg.DagsterInstance, store: Store) -> None:
    """Dagster starts no two runs of one key, so nothing is done twice if only some of them were started."""
    add(store, [FIRST, FIRST + 5])
    first = tick(instance, store)
    assert len(set(keys(first))) == 2
    assert keys(tick(instance, store)) == keys(first)
    assert run(instance, first.run_requests[0]).success  # type: ignore[index]
    assert keys(tick(instance, store)) == keys(first)[1:]
    assert run(instance, first.run_requests[1]).success  # type: ignore[index]
    assert tick_asks(instance, store) == []
    assert len(world.tracks(store)) == 2
    add(store, [FIRST], minute=60)
    (key,) = keys(tick(instance, store))
    assert key not in keys(first)


def test_what_failed_as_a_whole_is_asked_for_again_after_a_rest(
    instance: dg.DagsterInstance, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "FIRST_REST_S", 0.8)
    add(store, [FIRST])
    result = tick(instance, store)
    (key,) = keys(result)
    assert key and key.endswith("/0")
    for earlier in (1, 2):
        end(instance, start(instance, result), dg.DagsterEventType.RUN_FAILURE)
        ended = time.time()
        while not (result := tick(instance, store)).run_requests:
            assert "1 failed and rest" in str(result.skip_reason)
            time.sleep(0.05)
        assert time.time() - ended >= 0.8 * 2 ** (earlier - 1) - 0.1
        assert keys(result) == [key.replace("/0", f"/{earlier}")]
    run_all(instance, result)
    assert tick_asks(instance, store) == []


def test_what_somebody_stopped_stays_so_until_more_changes(
    instance: dg.DagsterInstance, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "FIRST_REST_S", 0.05)
    add(store, [FIRST])
    end(instance, start(instance, tick(instance, store)), dg.DagsterEventType.RUN_CANCELED)
    time.sleep(0.1)
    assert tick_asks(instance, store) == []
    add(store, [FIRST], minute=60)
    assert tick_asks(instance, store) == [(FIRST, FIRST, (USER,))]


def test_new_points_do_not_wake_what_rests_and_rest_for_nobody_else(
    instance: dg.DagsterInstance, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a run that always dies would be started with every tick, as long as anybody moves."""
    monkeypatch.setattr(requests, "FIRST_REST_S", 1.0)
    add(store, [FIRST])
    end(instance, start(instance, tick(instance, store)), dg.DagsterEventType.RUN_FAILURE)
    add(store, [FIRST, FIRST + 5], minute=60)
    add(store, [FIRST], "bob")
    assert tick_asks(instance, store) == [(FIRST + 5, FIRST + 5, (USER,)), (FIRST, FIRST, ("bob",))]
    time.sleep(1.0)
    assert (FIRST, FIRST, (USER, "bob")) in tick_asks(instance, store)


def test_a_run_that_succeeds_and_does_nothing_is_not_repeated_for_ever(
    instance: dg.DagsterInstance, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that was given another database would."""
    monkeypatch.setattr(requests, "FIRST_REST_S", 1.0)
    monkeypatch.setattr(sensors, "MOST_RANGES", 1)
    add(store, [FIRST])
    end(instance, start(instance, tick(instance, store)), dg.DagsterEventType.RUN_SUCCESS)
    assert tick_asks(instance, store) == []
    add(store, [FIRST + 5])
    assert tick_asks(instance, store) == [(FIRST + 5, FIRST + 5, (USER,))]  # it takes nobody's turn
    time.sleep(1.0)
    assert tick_asks(instance, store) == [(FIRST, FIRST, (USER,))]


def test_dead_letters_wait_for_new_points(
    instance: dg.DagsterInstance, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute(store, REFUSED)
    add(store, [FIRST])
    (request,) = tick(instance, store).run_requests or []
    assert not run(instance, request).success
    execute(store, "DROP TRIGGER refused")
    with monkeypatch.context() as patch:
        patch.setattr(requests, "FIRST_REST_S", 0.001)
        assert tick_asks(instance, store) == []
    add(store, [FIRST], minute=60)
    result = tick(instance, store)
    assert asked(result) == [(FIRST, FIRST, (USER,))]  # and without a rest, for not all of it failed
    run_all(instance, result)
    assert [track.points for track in world.tracks(store)] == [5, 5]


# Points ---------------------------------------------------------------------------------------------------------------


POINTS = dg.AssetKey("points")


def reported(result: dg.SensorResult) -> list[int]:
    events = [event for event in result.asset_events if isinstance(event, dg.AssetMaterialization)]
    assert len(result.asset_events) == 2 * len(events)  # each day is observed, too
    return [day_of(event.partition or "") for event in events]


def report(instance: dg.DagsterInstance, result: dg.SensorResult) -> None:
    """Store what a tick reports, as the daemon does."""
    for event in result.asset_events:
        assert isinstance(event, dg.AssetMaterialization | dg.AssetObservation)
        instance.report_runless_asset_event(event)


def stale(instance: dg.DagsterInstance, *names: str) -> list[tuple[str, int]]:
    """The days of assets that are not up to date, as the UI says it."""
    graph = defs.resolve_asset_graph()
    found = []
    for name in names:
        for key in instance.get_materialized_partitions(dg.AssetKey(name)):
            context = LoadingContextForTest(instance)
            status = CachingStaleStatusResolver(instance, graph, context).get_status(dg.AssetKey(name), key)
            if status != StaleStatus.FRESH:
                found.append((name, day_of(key)))
    return sorted(found)


def test_changed_days_are_reported_and_make_their_segments_stale(instance: dg.DagsterInstance, store: Store) -> None:
    add(store, [FIRST, FIRST + 9])
    add(store, [FIRST + 9], "bob")
    result = tick(instance, store)
    report(instance, result)
    counts = {}
    for record in instance.fetch_materializations(POINTS, limit=9).records:
        event = record.asset_materialization
        assert event and event.partition
        counts[day_of(event.partition)] = event.metadata["points"].value
    assert counts == {FIRST: 5, FIRST + 9: 10}

    run_all(instance, result)
    assert stale(instance, "segments", "tracks") == []
    assert instance.get_materialized_partitions(POINTS) == {key_of(FIRST), key_of(FIRST + 9)}
    add(store, [FIRST], minute=60)
    again = tick(instance, store, result.cursor)
    assert reported(again) == [FIRST]
    report(instance, again)
    assert stale(instance, "segments") == [("segments", FIRST)]
    assert tick(instance, store, again.cursor).asset_events == []
    run_all(instance, again)
    assert stale(instance, "segments", "tracks") == []


def test_points_of_which_nobody_told_are_reported_by_the_run(instance: dg.DagsterInstance, store: Store) -> None:
    add(store, [FIRST, FIRST + 9])
    generate_here(store, instance)
    days = {key_of(FIRST), key_of(FIRST + 9)}
    assert instance.get_materialized_partitions(POINTS) == days
    assert stale(instance, "segments", "tracks") == []
    events = len(instance.fetch_materializations(POINTS, limit=99).records)
    generate_here(store, instance, mode="bulk")  # of which no points changed
    assert len(instance.fetch_materializations(POINTS, limit=99).records) == events == 2
    assert stale(instance, "segments", "tracks") == []
    store.delete_points(USER, lo_ms=FIRST * DAY, hi_ms=(FIRST + 1) * DAY)
    generate_here(store, instance)
    (event,) = instance.fetch_materializations(
        dg.AssetRecordsFilter(POINTS, asset_partitions=[key_of(FIRST)]), limit=1
    ).records
    assert event.asset_materialization and event.asset_materialization.metadata["points"].value == 0


@pytest.mark.parametrize(
    ("seconds", "days", "parts"),
    [(60.0, 2 * MOST_REPORTED + 30, [MOST_REPORTED, MOST_REPORTED, 30, 0]), (0.0, 3, [1, 1, 1, 0])],
)
def test_what_is_too_much_for_a_tick_is_reported_by_the_next_ones(
    instance: dg.DagsterInstance,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    seconds: float,
    days: int,
    parts: list[int],
) -> None:
    monkeypatch.setattr(sensors, "REPORT_S", seconds)
    # More ranges than there are runs for: the gaps between them are bridged, but nothing changed on those days.
    changed = [FIRST + 2 * day for day in range(days)]
    add(store, changed)
    seen: list[list[int]] = []
    cursor = None
    while not seen or seen[-1]:
        result = tick(instance, store, cursor)
        cursor = result.cursor
        seen.append(reported(result))
        for request in result.run_requests or []:
            put(instance, QUEUED, request.tags)
    assert [len(part) for part in seen] == parts
    assert sorted(day for part in seen for day in part) == changed


def test_what_is_only_tried_again_is_not_reported(
    instance: dg.DagsterInstance, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "FIRST_REST_S", 0.01)
    add(store, [FIRST])
    first = tick(instance, store)
    end(instance, start(instance, first), dg.DagsterEventType.RUN_FAILURE)
    again = tick(instance, store, first.cursor)
    assert again.run_requests and not again.asset_events
    world.generate(store, stages=["segments"])  # tracks are left, but no points have changed
    rest = tick(instance, store, first.cursor)
    assert rest.run_requests and not rest.asset_events


# Every day ------------------------------------------------------------------------------------------------------------


def day_begins(instance: dg.DagsterInstance, store: Store) -> dg.SensorResult:
    resources = {"database": TrackStore(database_url=store.database.url)}
    when = datetime.now(UTC)
    with dg.build_schedule_context(instance, scheduled_execution_time=when, resources=resources) as context:
        return dg.SensorResult([one for one in daily(context) if isinstance(one, dg.RunRequest)])  # type: ignore[attr-defined]


def test_every_day_yesterday_is_made_again_and_what_is_listed(instance: dg.DagsterInstance, store: Store) -> None:
    yesterday = TODAY - 1
    add(store, [yesterday], "bob")
    world.generate(store)
    execute(store, "DELETE FROM tracks")  # nobody knows of it
    add(store, [FIRST, yesterday - 1, yesterday, yesterday + 1])
    result = day_begins(instance, store)
    assert asked(result) == [
        (FIRST, FIRST, (USER,)),
        (yesterday - 1, yesterday - 1, (USER,)),
        (yesterday, yesterday, None),
        (yesterday + 1, yesterday + 1, (USER,)),
    ]
    assert len({request.tags[tags.SESSION] for request in result.run_requests or []}) == 1
    assert len(set(keys(result))) == 4
    run_all(instance, result)
    assert len(world.tracks(store)) == 5
    assert tick_asks(instance, store) == []
    assert asked(day_begins(instance, store)) == [(yesterday, yesterday, None)]


def test_every_day_nothing_is_asked_for_that_is_under_way(instance: dg.DagsterInstance, store: Store) -> None:
    add(store, [FIRST, TODAY - 1, TODAY])
    first = day_begins(instance, store)
    for request in first.run_requests or []:
        put(instance, QUEUED, request.tags)
    assert asked(day_begins(instance, store)) == []
    assert tick_asks(instance, store) == []


def test_yesterday_of_one_user_is_not_all_of_yesterday(instance: dg.DagsterInstance, store: Store) -> None:
    add(store, [TODAY - 1])
    start(instance, tick(instance, store))
    assert asked(day_begins(instance, store)) == [(TODAY - 1, TODAY - 1, None)]


# The drop folder ------------------------------------------------------------------------------------------------------

CSV = "timestamp,lon,lat\n" + "".join(f"2024-05-01T10:{i:02}:00Z,8.5,47.{i:04}\n" for i in range(5))


@pytest.fixture
def home(instance: dg.DagsterInstance) -> Path:
    return Path(os.environ["TRACKGEN_HOME"])


def drop(home: Path, name: str, text: str = CSV, age_s: float = SETTLE_S + 1) -> Path:
    path = home / "inbox" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (time.time() - age_s,) * 2)
    return path


def look(instance: dg.DagsterInstance) -> list[dg.RunRequest]:
    with dg.build_sensor_context(instance=instance) as context:
        return [one for one in drop_folder(context) if isinstance(one, dg.RunRequest)]  # type: ignore[attr-defined]


def test_what_is_dropped_is_imported(instance: dg.DagsterInstance, store: Store, home: Path) -> None:
    assert look(instance) == []
    drop(home, "anna/phone/new.csv", age_s=0)
    assert look(instance) == []  # somebody may still be writing to it
    drop(home, "anna/phone/ride.csv")
    drop(home, "bob/bad.csv", CSV + '2024-05-01T11:00:00Z,8.5,"47')
    (request,) = look(instance)
    assert [one.run_key for one in look(instance)] == [request.run_key]
    assert run(instance, request, "inbox").success
    assert (home / "done/anna/phone/ride.csv").exists()
    assert (home / "failed/bob/bad.csv").exists()
    assert look(instance) == []
    (done,) = tick(instance, store).run_requests or []
    assert run(instance, done).success
    (track,) = world.tracks(store)
    assert (track.user, track.device, track.points) == ("anna", "phone", 5)


@pytest.mark.parametrize("status", [QUEUED, STARTED])
def test_one_import_at_a_time(
    instance: dg.DagsterInstance, home: Path, monkeypatch: pytest.MonkeyPatch, status: dg.DagsterRunStatus
) -> None:
    monkeypatch.setattr(requests, "FIRST_REST_S", 0.001)
    drop(home, "anna/ride.csv")
    (request,) = look(instance)
    one = put(instance, status, request.tags, "inbox")
    drop(home, "anna/another.csv")
    assert look(instance) == []
    end(instance, one, dg.DagsterEventType.RUN_SUCCESS)
    assert len(look(instance)) == 1


def test_an_import_that_failed_is_tried_again_after_a_rest(
    instance: dg.DagsterInstance, store: Store, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "FIRST_REST_S", 1.0)
    (home / "done").write_text("a file where the folder should be")
    drop(home, "anna/ride.csv")
    (request,) = look(instance)
    assert not run(instance, request, "inbox").success
    drop(home, "anna/another.csv")
    assert look(instance) == []
    seen = {request.run_key}
    for _ in range(2):
        time.sleep(1.0)
        (request,) = look(instance)
        assert request.run_key not in seen
        seen.add(request.run_key)
        assert not run(instance, request, "inbox").success
    time.sleep(2.0)
    (home / "done").unlink()
    (request,) = look(instance)
    assert run(instance, request, "inbox").success
    assert look(instance) == []
    assert (home / "done/anna/ride.csv").exists()


# The watchdog ---------------------------------------------------------------------------------------------------------


@contextmanager
def a_process() -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A process that does nothing, and what `tags.PROCESS` says of it."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], stderr=subprocess.DEVNULL) as process:
        try:
            yield process, f"{socket.gethostname()}/{process.pid}@{psutil.Process(process.pid).create_time():.0f}"
        finally:
            process.kill()


def watch(instance: dg.DagsterInstance, cursor: str | None = None) -> dg.SensorResult:
    with dg.build_sensor_context(instance=instance, cursor=cursor) as context:
        return watchdog(context)  # type: ignore[return-value]


def test_a_run_whose_process_was_killed_fails_and_is_done_again(
    instance: dg.DagsterInstance, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "FIRST_REST_S", 0.01)
    add(store, [FIRST])
    result = tick(instance, store)
    one = start(instance, result)
    with a_process() as (process, tag):
        host, _, rest = tag.partition("/")
        elsewhere = put(instance, STARTED, days_tags(FIRST + 9, FIRST + 9) | {tags.PROCESS: f"not-{host}/{rest}"})
        instance.add_run_tags(one.run_id, {tags.PROCESS: tag})
        watch(instance)
        assert reload(instance, one).status == STARTED
        process.kill()
        process.wait()
        watch(instance)
    assert reload(instance, one).status == dg.DagsterRunStatus.FAILURE
    assert "is gone" in reason(instance, one)
    assert reload(instance, elsewhere).status == STARTED
    run_all(instance, tick(instance, store))
    assert len(world.tracks(store)) == 1


def test_a_run_without_progress_is_stopped_and_fails(instance: dg.DagsterInstance) -> None:
    with a_process() as (process, tag):
        silent = put(instance, STARTED, days_tags(FIRST, FIRST) | {tags.PROCESS: tag})
        busy = put(instance, STARTED, days_tags(FIRST, FIRST))
        waiting = put(instance, QUEUED, days_tags(FIRST, FIRST))
        for done in range(10):
            instance.add_run_tags(busy.run_id, {tags.progress("segments"): f"{done}/10"})
            assert fail_stuck_runs(instance, 30) == []
            time.sleep(0.1)
        assert fail_stuck_runs(instance, 0.8) == [silent.run_id]
        assert process.wait(10) == -signal.SIGINT
    assert reload(instance, silent).status == dg.DagsterRunStatus.FAILURE
    assert "No progress" in reason(instance, silent)
    assert (reload(instance, busy).status, reload(instance, waiting).status) == (STARTED, QUEUED)


def test_a_run_that_cannot_be_stopped_fails_too(instance: dg.DagsterInstance) -> None:
    gone = put(instance, STARTED, days_tags(FIRST, FIRST) | {GRPC_INFO_TAG: '{"host": "localhost", "port": 1}'})
    assert fail_stuck_runs(instance, 1e-6) == [gone.run_id]
    assert reload(instance, gone).status == dg.DagsterRunStatus.FAILURE


def test_a_run_that_dagster_forgot_to_try_again_is_failed_once_more(instance: dg.DagsterInstance) -> None:
    """Its daemon goes by events of failure: it looked at the run before its status said so, as can happen."""
    again = {WILL_RETRY_TAG: "true"}
    forgotten = put(instance, FAILURE, days_tags(FIRST, FIRST) | again)
    put(instance, FAILURE, days_tags(FIRST, FIRST))
    put(instance, FAILURE, days_tags(FIRST, FIRST) | again | {tags.CANCELLED: "true"})
    put(instance, FAILURE, days_tags(FIRST, FIRST) | again | {AUTO_RETRY_RUN_ID_TAG: forgotten.run_id})
    by_hand = put(instance, FAILURE, days_tags(FIRST, FIRST) | again)
    put(instance, STARTED, days_tags(FIRST, FIRST) | {PARENT_RUN_ID_TAG: by_hand.run_id})
    instance.report_run_failed(forgotten)
    assert retry_forgotten_runs(instance, 60) == [], "it failed just now"
    instance.event_log_storage.delete_events(forgotten.run_id)
    assert retry_forgotten_runs(instance, 0) == [forgotten.run_id]
    assert "tried again" in reason(instance, forgotten)
    assert retry_forgotten_runs(instance, 0) == [], "once is enough"


def test_runs_of_others_may_be_silent(instance: dg.DagsterInstance) -> None:
    @dg.job
    def somebody_elses() -> None:
        pass

    instance.create_run_for_job(somebody_elses, status=STARTED)
    put(instance, STARTED, {}, "inbox")  # while it reads a large file, it has nothing to say
    assert fail_stuck_runs(instance, 1e-6) == []


def test_a_machine_that_was_asleep_finds_its_runs_at_work(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKGEN_STUCK_MINUTES", str(0.2 / 60))
    one = put(instance, STARTED, days_tags(FIRST, FIRST))
    time.sleep(0.3)
    hours_ago = time.time() - 8 * 3600
    woken = watch(instance, json.dumps([hours_ago, hours_ago]))
    assert reload(instance, one).status == STARTED
    time.sleep(0.3)
    watch(instance, woken.cursor)
    assert reload(instance, one).status == dg.DagsterRunStatus.FAILURE
