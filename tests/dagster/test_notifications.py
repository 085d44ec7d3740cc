"""One message per session that has ended: sent over HTTP to a real server, about real runs."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import dagster as dg
import psutil
import pytest
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import execute_run
from dagster._core.execution.backfill import BulkActionStatus

from tests import world
from tests.dagster.homes import DAYS, FIRST, allow, refuse, ride
from tests.scenarios import DAY, USER, at, fix
from trackgen_core.store import Store
from trackgen_dagster import notifications, tags
from trackgen_dagster.definitions import defs
from trackgen_dagster.generate import create, generate, retry
from trackgen_dagster.instance import process_tag
from trackgen_dagster.notifications import NoService, send, services, tell
from trackgen_dagster.partitions import key_of
from trackgen_dagster.resources import TrackStore
from trackgen_dagster.sensors import messages
from trackgen_dagster.sessions import cancel, clean, find_session


class Receiver(ThreadingHTTPServer):
    """A service that takes messages, or fails to."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[dict[str, Any]] = []
        self.took: list[dict[str, Any]] = []
        self.fails = 0
        """How many messages it will not take."""

    @property
    def url(self) -> str:
        return f"json://anna:hunter2@127.0.0.1:{self.server_port}/"

    @property
    def titles(self) -> list[str]:
        return [message["title"] for message in self.took]


class Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        self.server.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        broken = len(self.server.asked) <= self.server.fails
        if not broken:
            self.server.took.append(self.server.asked[-1])
        self.send_response(500 if broken else 200)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def receiving() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    with receiving() as server:
        monkeypatch.setenv("TRACKGEN_NOTIFY", server.url)
        yield server


class Sensor:
    """The sensor, which remembers its cursor as Dagster would. It has looked before anything has happened."""

    def __init__(self, instance: dg.DagsterInstance, store: Store) -> None:
        self.instance, self.database = instance, TrackStore(database_url=store.database.url)
        self.cursor: str | None = None
        self.look()

    def look(self) -> str:
        """Evaluate it, and return what it says."""
        resources = {"database": self.database}
        with dg.build_sensor_context(instance=self.instance, cursor=self.cursor, resources=resources) as context:
            result = messages(context)
        assert isinstance(result, dg.SensorResult) and isinstance(result.skip_reason, dg.SkipReason)
        self.cursor = result.cursor
        return str(result.skip_reason.skip_message)


@pytest.fixture
def sensor(instance: dg.DagsterInstance, store: Store) -> Sensor:
    return Sensor(instance, store)


def execute(instance: dg.DagsterInstance, run_tags: dict[str, str], parent: dg.DagsterRun | None = None) -> None:
    """Execute a run, as the daemon would have it executed."""
    job = defs.resolve_job_def("generate")
    root = parent.run_id if parent else None
    run = instance.create_run_for_job(job, tags=run_tags, parent_run_id=root, root_run_id=root)
    assert execute_run(InMemoryJob(job), run, instance).success


def test_one_message_for_a_session_of_several_runs(
    instance: dg.DagsterInstance, store: Store, receiver: Receiver, sensor: Sensor
) -> None:
    world.add(store, [fix(at("10:00") + 400 * DAY, 0.0), fix(at("10:01") + 400 * DAY, 100.0)])
    summary = generate(store, instance, workers=1)
    assert len(summary.runs) == 2
    assert sensor.look() == "Ended: 1 session."
    assert sensor.look() == "Ended: 0 sessions."
    (message,) = receiver.took
    assert message["title"] == f"Trackgen: incremental session {summary.session} completed"
    assert message["type"] == "success"
    lines = message["message"].splitlines()
    assert lines[0] == f"{summary.start} to {summary.end}, users: all"
    assert lines[1] == f"8 of 8 chunks, {DAYS + 1} tracks"
    assert lines[-1] == f"http://127.0.0.1:3000/runs/{summary.runs[0]}"


def test_the_first_look_tells_of_nothing(instance: dg.DagsterInstance, store: Store, receiver: Receiver) -> None:
    generate(store, instance, workers=1)
    sensor = Sensor(instance, store)
    assert sensor.look() == "Ended: 0 sessions."
    generate(store, instance, mode="bulk", workers=1)
    assert sensor.look() == "Ended: 1 session."
    assert len(receiver.took) == 1


def test_what_ends_while_nobody_looks_is_told_later(
    instance: dg.DagsterInstance, store: Store, receiver: Receiver, sensor: Sensor
) -> None:
    names = [generate(store, instance, mode="bulk", workers=1).session for _ in range(2)]
    assert sensor.look() == "Ended: 2 sessions."
    assert receiver.titles == [f"Trackgen: bulk session {name} completed" for name in names]


def test_a_failed_session_names_its_dead_letters_and_is_told_again_when_retried(
    instance: dg.DagsterInstance, store: Store, receiver: Receiver, sensor: Sensor
) -> None:
    refuse(store, FIRST + 1)
    name = generate(store, instance, workers=1).session
    sensor.look()
    (message,) = receiver.took
    assert message["type"] == "failure"
    assert message["title"].endswith(f"session {name} failed")
    (failed,) = [line for line in message["message"].splitlines() if line.startswith("failed: ")]
    assert failed.startswith(f"failed: {key_of(FIRST + 1)}, segments of {USER}: data after 4 attempts: ")
    assert "no room" in failed
    assert f"trackgen sessions retry {name}" in message["message"]

    retry(store, instance, name, workers=1)
    sensor.look()
    allow(store)
    retry(store, instance, name, workers=1)
    sensor.look()
    sensor.look()
    assert [title.split()[-1] for title in receiver.titles] == ["failed", "failed", "completed"]
    assert "failed" not in receiver.took[-1]["message"]


def test_of_many_failed_chunks_some_are_named(
    instance: dg.DagsterInstance, store: Store, receiver: Receiver, sensor: Sensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifications, "SHOWN", 1)
    for user in ("bob", "carl"):
        ride(store, range(DAYS), user)
    refuse(store, FIRST + 1)
    generate(store, instance, workers=1)
    sensor.look()
    lines = receiver.took[0]["message"].splitlines()
    assert len([line for line in lines if line.startswith("failed: ")]) == 1
    assert "... and 2 more" in lines


def test_a_queued_session_is_told_when_it_was_cancelled(
    instance: dg.DagsterInstance, store: Store, receiver: Receiver, sensor: Sensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifications, "OVERLAP", timedelta())  # it was queued long before
    name = create(store, instance, mode="incremental")
    assert name
    assert sensor.look() == "Ended: 0 sessions."
    cancel(instance, name)
    sensor.look()
    (message,) = receiver.took
    assert message["title"].endswith("cancelled")
    assert message["type"] == "warning"
    assert "failed" not in message["message"]


def test_a_session_that_was_stopped_at_work_has_not_failed(
    instance: dg.DagsterInstance, store: Store, receiver: Receiver, sensor: Sensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKGEN_RETRY_SECONDS", "30")  # it waits, so that it can be stopped in the middle
    refuse(store, FIRST + 1)
    stopper = threading.Thread(target=cancel_at_work, args=(instance,))
    stopper.start()
    name = generate(store, instance, workers=1).session
    stopper.join()
    sensor.look()
    (message,) = receiver.took
    assert message["title"] == f"Trackgen: incremental session {name} cancelled"
    assert "failed: " not in message["message"]


def cancel_at_work(instance: dg.DagsterInstance) -> None:
    while not (runs := instance.get_runs()) or tags.progress("segments") not in runs[0].tags:
        time.sleep(0.05)
    cancel(instance, runs[0].tags[tags.SESSION])


def test_a_backfill_is_told_when_it_ends_and_not_when_its_runs_do(
    instance: dg.DagsterInstance, store: Store, receiver: Receiver, sensor: Sensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifications, "OVERLAP", timedelta())  # it was created long before it ends
    create(store, instance, mode="bulk")
    (backfill,) = instance.get_backfills()
    assert sensor.look() == "Ended: 0 sessions."
    for day in range(FIRST, FIRST + DAYS):
        said = {tags.BACKFILL: backfill.backfill_id, "dagster/partition": key_of(day)}
        execute(instance, {**backfill.tags, **said})
        assert sensor.look() == "Ended: 0 sessions."
    ended = backfill.with_status(BulkActionStatus.COMPLETED_SUCCESS).with_end_timestamp(datetime.now(UTC).timestamp())
    instance.update_backfill(ended)
    assert sensor.look() == "Ended: 1 session."
    assert sensor.look() == "Ended: 0 sessions."
    assert len(receiver.took) == 1
    assert f"/runs/b/{backfill.backfill_id}" in receiver.took[0]["message"]


def test_a_backfill_without_runs_is_told_whether_it_began_before_the_first_look_or_later(
    instance: dg.DagsterInstance, store: Store, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifications, "OVERLAP", timedelta())
    early = create(store, instance, mode="bulk")
    assert early
    sensor = Sensor(instance, store)
    cancel(instance, early)
    assert sensor.look() == "Ended: 1 session."
    late = create(store, instance, mode="bulk")
    assert late
    cancel(instance, late)
    assert sensor.look() == "Ended: 1 session."
    assert receiver.titles == [f"Trackgen: bulk session {name} cancelled" for name in (early, late)]


def test_a_run_that_dagster_tries_again_is_told_once(
    instance: dg.DagsterInstance, store: Store, receiver: Receiver, sensor: Sensor
) -> None:
    name = create(store, instance, mode="incremental")
    assert name
    (run,) = instance.get_runs()
    instance.report_run_failed(run, "The process is gone.")
    assert find_session(instance, name).status == "processing"
    assert sensor.look() == "Ended: 0 sessions."
    execute(instance, {**run.tags, tags.RETRY_NUMBER: "1"}, parent=run)
    assert sensor.look() == "Ended: 1 session."
    assert [title.split()[-1] for title in receiver.titles] == ["completed"]


def test_a_command_line_that_dies_between_two_runs_is_told(
    instance: dg.DagsterInstance, store: Store, receiver: Receiver, sensor: Sensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of the session changes when its process is gone, so it has to be looked at again."""
    monkeypatch.setattr(notifications, "OVERLAP", timedelta())
    (run_id,) = generate(store, instance, workers=1).runs
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        host = process_tag().partition("/")[0]
        started = psutil.Process(process.pid).create_time()
        said = {tags.RUNS: "2", tags.PROCESS: f"{host}/{process.pid}@{started:.0f}"}
        instance.add_run_tags(run_id, said)
        for _ in range(2):
            assert sensor.look() == "Ended: 0 sessions."
        process.kill()
    assert sensor.look() == "Ended: 1 session."
    assert [title.split()[-1] for title in receiver.titles] == ["failed"]
    assert "trackgen sessions retry" in receiver.took[0]["message"]


def test_an_old_session_is_not_told_again_when_somebody_tags_it(
    instance: dg.DagsterInstance, store: Store, receiver: Receiver, sensor: Sensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifications, "OVERLAP", timedelta())
    (run_id,) = generate(store, instance, workers=1).runs
    for _ in range(2):
        sensor.look()
    instance.add_run_tags(run_id, {"color": "red"})
    sensor.look()
    assert len(receiver.took) == 1


def test_a_session_under_way_that_somebody_forgets(
    instance: dg.DagsterInstance, store: Store, receiver: Receiver, sensor: Sensor
) -> None:
    name = create(store, instance, mode="bulk")
    assert name
    sensor.look()
    cancel(instance, name)
    clean(instance, days=0)
    assert sensor.look() == "Ended: 0 sessions."
    assert name not in str(sensor.cursor)


def test_runs_that_make_no_tracks_are_no_sessions(
    instance: dg.DagsterInstance, store: Store, receiver: Receiver, sensor: Sensor
) -> None:
    assert defs.resolve_job_def("cleanup").execute_in_process(instance=instance).success
    assert sensor.look() == "Ended: 0 sessions."
    assert receiver.asked == []


# Services -------------------------------------------------------------------------------------------------------------


def test_every_service_is_told(
    instance: dg.DagsterInstance, store: Store, receiver: Receiver, sensor: Sensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    with receiving() as other:
        monkeypatch.setenv("TRACKGEN_NOTIFY", f"  {receiver.url}\n {other.url}?format=html ")
        generate(store, instance, workers=1)
        sensor.look()
    assert receiver.titles == other.titles != []
    assert "\n" in receiver.took[0]["message"]
    assert "<br" in other.took[0]["message"]  # a service that shows HTML would put it all on one line


def test_a_service_that_fails_is_asked_again_and_the_other_is_not(
    instance: dg.DagsterInstance, store: Store, receiver: Receiver, sensor: Sensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    with receiving() as other:
        monkeypatch.setenv("TRACKGEN_NOTIFY", f"{receiver.url} {other.url}")
        other.fails = 2
        generate(store, instance, workers=1)
        for _ in range(5):
            sensor.look()
    assert (len(receiver.asked), len(other.asked)) == (1, 3)
    assert receiver.titles == other.titles


def test_a_service_that_is_down_is_given_up_and_named_in_the_log(
    instance: dg.DagsterInstance, store: Store, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    log = logging.getLogger("test")
    _, cursor = tell(instance, store, None, log)
    receiver.fails = 99
    name = generate(store, instance, workers=1).session
    counts = []
    for _ in range(5):
        told, cursor = tell(instance, store, cursor, log)
        counts.append(told)
    assert counts == [1, 0, 0, 0, 0]
    assert len(receiver.asked) == 3
    said = [record.getMessage() for record in caplog.records if record.name == "test"]
    assert [line.rpartition("(")[2] for line in said] == ["try 1 of 3)", "try 2 of 3)", "try 3 of 3)"]
    assert all(name in line and f"127.0.0.1:{receiver.server_port}" in line for line in said)
    assert "hunter2" not in caplog.text + cursor


def test_a_message_in_vain_does_not_hold_up_the_retry_of_its_session(
    instance: dg.DagsterInstance, store: Store, receiver: Receiver, sensor: Sensor
) -> None:
    receiver.fails = 1
    refuse(store, FIRST + 1)
    name = generate(store, instance, workers=1).session
    sensor.look()
    allow(store)
    retry(store, instance, name, workers=1)
    for _ in range(3):
        sensor.look()
    assert [title.split()[-1] for title in receiver.titles] == ["completed"]
    assert json.loads(str(sensor.cursor))["missed"] == {}


def test_what_takes_too_long_is_left_for_the_next_look(
    instance: dg.DagsterInstance, store: Store, receiver: Receiver, sensor: Sensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifications, "OVERLAP", timedelta())
    name = generate(store, instance, workers=1).session
    with monkeypatch.context() as patch:
        patch.setattr(notifications, "LONGEST_S", 0.0)
        for _ in range(2):
            assert sensor.look() == "Ended: 0 sessions."
    assert sensor.look() == "Ended: 1 session."
    assert receiver.titles == [f"Trackgen: incremental session {name} completed"]


def test_without_services_a_session_is_a_line_in_the_log(
    instance: dg.DagsterInstance, store: Store, sensor: Sensor, caplog: pytest.LogCaptureFixture
) -> None:
    name = generate(store, instance, workers=1).session
    for _ in range(2):
        sensor.look()
    (line,) = [record.getMessage() for record in caplog.records if record.name == "trackgen.sessions"]
    said = json.loads(line)
    assert (said["event"], said["session"], said["status"], said["errors"]) == ("session_ended", name, "completed", [])


@pytest.mark.parametrize(
    "address", ["jsn://anna:hunter2@example.com", "json://anna:hunter2@:x/", "hunter2:8@example.com", "hunter2"]
)
def test_an_address_that_cannot_be_used_is_an_error_without_its_password(
    address: str, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TRACKGEN_NOTIFY", f"{receiver.url} {address}")
    with pytest.raises(NoService, match=r"TRACKGEN_NOTIFY: address 2\b.*apprise knows") as caught:
        send("title", "body")
    assert "hunter2" not in str(caught.value)
    assert receiver.asked == []


def test_sessions_that_end_while_an_address_cannot_be_used_are_told_later(
    instance: dg.DagsterInstance, store: Store, receiver: Receiver, sensor: Sensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate(store, instance, workers=1)
    with monkeypatch.context() as patch:
        patch.setenv("TRACKGEN_NOTIFY", f"{receiver.url} nobody://knows.this")
        with pytest.raises(NoService, match="nobody"):
            sensor.look()
    sensor.look()
    assert len(receiver.asked) == 1


def test_a_message_to_try_it(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    assert send("title", "body") == []
    assert (receiver.took[0]["title"], receiver.took[0]["message"]) == ("title", "body")
    receiver.fails = 9
    assert send("title", "body") == [f"json://anna:****@127.0.0.1:{receiver.server_port}/"]
    monkeypatch.delenv("TRACKGEN_NOTIFY")
    assert services() == send("title", "body") == []


# Who wants none -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("users", [[USER], []], ids=["named", "everybody there is"])
def test_a_user_who_wants_no_messages(
    users: list[str], instance: dg.DagsterInstance, store: Store, receiver: Receiver, sensor: Sensor
) -> None:
    store.set_notify(USER, False)
    generate(store, instance, users=users, workers=1)
    assert sensor.look() == "Ended: 1 session."
    assert receiver.asked == []
    store.set_notify(USER, True)
    generate(store, instance, mode="bulk", users=users, workers=1)
    sensor.look()
    assert len(receiver.took) == 1


def test_sessions_that_concern_others_too_are_told_without_the_silent_users_failures(
    instance: dg.DagsterInstance, store: Store, receiver: Receiver, sensor: Sensor
) -> None:
    for user in ("bob", "carl"):
        ride(store, range(DAYS), user)
    store.set_notify("bob", False)
    spoil(store, "bob")
    spoil(store, "carl")
    generate(store, instance, workers=1)
    sensor.look()
    (message,) = receiver.took
    assert "carl" in message["message"]
    assert "bob" not in message["message"]


def test_a_session_in_which_only_a_silent_user_failed_is_not_told(
    instance: dg.DagsterInstance, store: Store, receiver: Receiver, sensor: Sensor
) -> None:
    ride(store, range(DAYS), "bob")
    store.set_notify("bob", False)
    spoil(store, "bob")
    generate(store, instance, workers=1)
    assert sensor.look() == "Ended: 1 session."
    assert receiver.asked == []


def spoil(store: Store, user: str) -> None:
    """Give a user settings that nothing can be made with."""
    with store.write() as connection:
        connection.exec_driver_sql(f"UPDATE users SET settings = '{{\"no_such\": 1}}' WHERE name = '{user}'")
