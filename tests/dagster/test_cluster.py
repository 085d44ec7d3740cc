"""Several machines: PostgreSQL, a broker, a daemon and two workers, and what becomes of a session when one dies."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import psutil
import pytest
import yaml

from docs.screenshots import wait_for
from tests import postgres, world
from tests.command_line import clean_environment, run, trackgen
from trackgen_core.database import Database
from trackgen_core.demo import demo_history
from trackgen_core.importing import add_points
from trackgen_core.points import MS_PER_DAY
from trackgen_core.store import Stage, Store
from trackgen_dagster import tags
from trackgen_dagster.assets import progress_of
from trackgen_dagster.instance import daemon_is_alive, open_instance
from trackgen_dagster.sessions import cancel, find_session

pytestmark = pytest.mark.xdist_group("cluster")

ROOT = Path(__file__).parents[2]
REDIS = shutil.which("redis-server")
WORKERS = ("worker-1", "worker-2")
DAEMON = ("trackgen_dagster.cli", "daemon")
WORKER = ("celery", "-A", "trackgen_dagster.celery_app", "worker", "-Q", "dagster", "--concurrency", "1")
HALF_YEAR = 184
START_DATE = "2023-01-01"
START_S, SESSION_S = 60.0, 120.0
Made = tuple[list[Any], list[Any]]


class Supervised:
    """A process that is started again whenever it ends, as a supervisor does."""

    def __init__(self, command: list[str], environment: dict[str, str], log: Path) -> None:
        self.command, self.environment, self.log = command, environment, log
        self.wanted = True
        self.starts = 0
        self.process = self._start()
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()

    def _start(self) -> subprocess.Popen[bytes]:
        self.starts += 1
        with self.log.open("ab") as log:
            return subprocess.Popen(
                self.command,
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=self.log.parent,
            )

    def _watch(self) -> None:
        while self.wanted:
            if self.process.poll() is not None:
                kill_all(self.process.pid)
                time.sleep(1)
                if self.wanted:
                    self.process = self._start()
            time.sleep(0.2)

    def kill(self) -> None:
        """Kill it with its children, and start it no more."""
        if not self.wanted:
            return
        self.wanted = False
        self.thread.join()
        kill_all(self.process.pid)
        self.process.wait()


def kill_all(session: int) -> None:
    """Kill every process of a session, whatever became of the one that leads it."""
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == session:
                process.kill()
        except (psutil.NoSuchProcess, ProcessLookupError):
            pass


class Cluster:
    """A home that a daemon and workers share, with all data in PostgreSQL, and what runs on it."""

    def __init__(self, home: Path, server: postgres.Server, redis: Path) -> None:
        self.home, self.server = home, server
        self.databases = postgres.Databases(server.url)
        self.tracks_url, dagster_url = self.databases.new(), self.databases.new()
        self.environment = {
            "TRACKGEN_HOME": str(home),
            "TRACKGEN_DATABASE_URL": self.tracks_url,
            "TRACKGEN_DAGSTER_POSTGRES_URL": dagster_url,
            "TRACKGEN_BROKER_URL": f"redis+socket://{redis}",
            "TRACKGEN_DEBOUNCE_SECONDS": "1e6",
            "TRACKGEN_START_DATE": START_DATE,
        }
        (home / "dagster").mkdir(parents=True)
        config = yaml.safe_load((ROOT / "deploy/dagster-celery.yaml").read_text())
        config["run_monitoring"]["poll_interval_seconds"] = 2
        config["concurrency"]["runs"]["max_concurrent_runs"] = len(WORKERS)
        config["concurrency"]["runs"]["tag_concurrency_limits"][0]["limit"] = len(WORKERS)
        (home / "dagster" / "dagster.yaml").write_text(yaml.safe_dump(config))
        self.store = Store(Database(self.tracks_url))
        self.processes: dict[str, Supervised] = {}

    def trackgen(self, *arguments: object) -> str:
        return trackgen(self.home, *arguments, env=self.environment)

    def start(self, name: str) -> None:
        """Start the daemon or a worker, which has a host name of its own if that can be had, unless it is there."""
        if name in self.processes:
            return
        line = [sys.executable, "-m", *(DAEMON if name == "daemon" else [*WORKER, "-n", name])]
        if name in WORKERS and has_host_names():
            line = ["unshare", "--uts", "sh", "-c", f'hostname {name} && exec "$@"', "sh", *line]
        environment = clean_environment(self.home) | self.environment
        self.processes[name] = Supervised(line, environment, self.home / f"{name}.log")

    def stop(self) -> None:
        """Kill everything that was started."""
        for process in self.processes.values():
            process.kill()

    def worker_of(self, run: dg.DagsterRun) -> Supervised:
        """The worker that executes a run."""
        pid = int(run.tags[tags.PROCESS].rpartition("/")[2].partition("@")[0])
        leader = os.getsid(pid)
        return next(process for process in self.processes.values() if process.process.pid == leader)

    @contextmanager
    def instance(self) -> Iterator[dg.DagsterInstance]:
        with pytest.MonkeyPatch.context() as patch:
            for variable, value in self.environment.items():
                patch.setenv(variable, value)
            patch.setenv("DAGSTER_HOME", str(self.home / "dagster"))
            with open_instance() as instance:
                yield instance


@cache
def has_host_names() -> bool:
    """Whether a process may be given a host name of its own, so that it seems to be on another machine."""
    return subprocess.run(["unshare", "--uts", "hostname", "worker"], capture_output=True).returncode == 0


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Server]:
    with postgres.running() as server:
        yield server


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    if not REDIS:
        pytest.skip("no broker is installed (Debian's package `redis-server`)")
    folder = tmp_path_factory.mktemp("redis")
    path = folder / "socket"
    options = ["--port", "0", "--unixsocket", str(path), "--save", "", "--dir", str(folder)]
    process = subprocess.Popen([REDIS, *options], stdout=subprocess.DEVNULL)
    try:
        wait_for("the broker", path.exists, START_S)
        yield path
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def cluster(server: postgres.Server, redis: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with ExitStack() as stack:
        cluster = Cluster(tmp_path_factory.mktemp("cluster"), server, redis)
        stack.callback(cluster.store.database.close)
        add_history(cluster.store)
        stack.callback(cluster.stop)
        for name in WORKERS:
            cluster.start(name)
        yield cluster


def add_history(store: Store) -> None:
    """Add a year and a half of a person, more than a run takes: a half year thrice, with every third fix of it."""
    half = demo_history()
    half = half[half["user"] == "ada"][::3]
    shifts = [number * HALF_YEAR * MS_PER_DAY for number in range(3)]
    add_points(store, pd.concat([half.assign(time_ms=half["time_ms"] - shift) for shift in shifts], ignore_index=True))


@contextmanager
def undisturbed(folder: Path) -> Iterator[Callable[[], Made]]:
    """Make tracks of the same points in another database, by a single process, while something else goes on."""
    store = world.open_store(folder)
    add_history(store)
    with ThreadPoolExecutor() as pool:
        done = pool.submit(trackgen, folder, "generate", env={"TRACKGEN_START_DATE": START_DATE})
        yield lambda: (done.result(), made(store))[1]
    store.database.close()


def made(store: Store) -> Made:
    store.database.close()  # connections from before the server was restarted
    return world.tracks(store), world.stays(store)


def test_a_session_outlives_a_worker_and_a_crash_of_the_database(cluster: Cluster, tmp_path: Path) -> None:
    with undisturbed(tmp_path) as expected, cluster.instance() as instance:
        # Before the daemon starts, for that looks after backfills at once, and then every 30 s.
        name = run(cluster.home, "sessions", "create", "--mode", "bulk", env=cluster.environment).stdout.strip()
        cluster.start("daemon")

        def working_on(stage: Stage) -> dg.DagsterRun | None:
            runs = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
            return next((one for one in runs if (progress_of(one, stage) or (0, 0))[1] > 300), None)

        victim = wait_for("a run on a worker", lambda: working_on("segments"), SESSION_S, 0.02)
        cluster.worker_of(victim).kill()
        assert instance.get_run_by_id(victim.run_id).status == dg.DagsterRunStatus.STARTED
        wait_for("somebody to notice", lambda: instance.get_run_by_id(victim.run_id).is_finished, SESSION_S)
        (end,) = instance.all_logs(victim.run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
        assert "No worker works on it any more" in end.message or not has_host_names()

        wait_for("a run of tracks", lambda: working_on("tracks"), SESSION_S, 0.02)
        cluster.server.restart()
        wait_for("the end of the session", lambda: find_session(instance, name).is_over, SESSION_S)
        session = find_session(instance, name)
        assert (session.status, session.percent) == ("completed", 100.0)
        again = [one for one in instance.get_runs() if one.parent_run_id == victim.run_id]
        assert [(one.status, one.tags[tags.RETRY_NUMBER]) for one in again] == [(dg.DagsterRunStatus.SUCCESS, "1")]
        found = made(cluster.store)
        assert len(found[0]) > 1_000
        assert found == expected()


def is_over(instance: dg.DagsterInstance, name: str) -> bool:
    return find_session(instance, name).is_over


def test_a_run_on_a_worker_can_be_stopped(cluster: Cluster) -> None:
    cluster.trackgen("settings", "set", "--user", "ada", "minutes_between_routes=7")
    cluster.start("daemon")
    with cluster.instance() as instance:
        wait_for("the daemon", lambda: daemon_is_alive(instance), START_S)
        name = cluster.trackgen("sessions", "create", "--mode", "incremental").strip()
        started = dg.RunsFilter(tags={tags.SESSION: name}, statuses=[dg.DagsterRunStatus.STARTED])
        wait_for("a run on a worker", lambda: instance.get_runs(started), SESSION_S, 0.02)
        cancel(instance, name)  # at once: a command needs seconds to start, and the run may be over
        wait_for("the end of the session", lambda: find_session(instance, name).is_over, SESSION_S)
        session = find_session(instance, name)
        assert session.status == "cancelled"
        assert world.dirty(cluster.store) > 0
        # What it did not come to is queued for the worker that is left.
        cluster.trackgen("sessions", "retry", name, "--queue")
        wait_for("the rest", lambda: find_session(instance, name).attempts == 2 and is_over(instance, name), SESSION_S)
        session = find_session(instance, name)
        assert session.status == "completed", [(one.status, one.tags) for one in instance.get_runs()]
        assert world.dirty(cluster.store) == 0
