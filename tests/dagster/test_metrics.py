"""Figures as Prometheus reads them: about real sessions, a real queue and a real work list."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import dagster as dg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests import world
from tests.dagster.homes import DAYS, FIRST, execute, refuse
from tests.scenarios import at, fix
from trackgen_core.store import Store
from trackgen_dagster.definitions import defs
from trackgen_dagster.generate import UI_ORIGIN, Mode, create, generate, retry
from trackgen_dagster.metrics import exposition, write_textfile
from trackgen_dagster.sessions import cancel, find_session

MODES: tuple[Mode, ...] = ("incremental", "bulk")


def parsed(text: str) -> dict[str, float]:
    """The figures by name and label, as in `trackgen_sessions failed`."""
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {" ".join([sample.name, *sample.labels.values()]): sample.value for sample in samples}


def figures(instance: dg.DagsterInstance, store: Store) -> dict[str, float]:
    return parsed(exposition(instance, store).decode())


def test_nothing_has_happened_yet(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    assert figures(instance, world.open_store(tmp_path)) == {
        "trackgen_sessions pending": 0,
        "trackgen_sessions processing": 0,
        "trackgen_sessions completed": 0,
        "trackgen_sessions failed": 0,
        "trackgen_sessions cancelled": 0,
        "trackgen_last_success_timestamp_seconds": 0,
        "trackgen_points_per_second": 0,
        "trackgen_queued_runs incremental": 0,
        "trackgen_queued_runs daily": 0,
        "trackgen_queued_runs bulk": 0,
        "trackgen_queue_wait_seconds": 0,
        "trackgen_dirty_days segments": 0,
        "trackgen_dirty_days tracks": 0,
        "trackgen_dead_letters segments": 0,
        "trackgen_dead_letters tracks": 0,
        "trackgen_oldest_dirty_day_seconds": 0,
    }


def test_sessions_and_the_last_success(instance: dg.DagsterInstance, store: Store) -> None:
    before = time.time()
    generate(store, instance, workers=1)
    after = time.time()
    world.add(store, [fix(at("2 11:00"), 0.0), fix(at("3 11:00"), 0.0)])
    refuse(store, FIRST + 1)
    generate(store, instance, hi_day=FIRST + 1, workers=1)
    for mode in MODES:
        name = create(store, instance, mode=mode)
        assert name
        cancel(instance, name)
    create(store, instance, mode="bulk")
    found = figures(instance, store)
    assert {key: value for key, value in found.items() if key.startswith("trackgen_sessions")} == {
        "trackgen_sessions pending": 1,
        "trackgen_sessions processing": 0,
        "trackgen_sessions completed": 1,
        "trackgen_sessions failed": 1,
        "trackgen_sessions cancelled": 2,
    }
    assert before - 0.001 <= found["trackgen_last_success_timestamp_seconds"] <= after  # cut to ms


def test_points_a_second_are_those_of_the_session_that_ended_last(instance: dg.DagsterInstance, store: Store) -> None:
    generate(store, instance, workers=1)
    early = create(store, instance, mode="bulk")
    assert early
    cancel(instance, early)
    generate(store, instance, mode="bulk", workers=1)
    retry(store, instance, early, workers=1)
    create(store, instance, mode="bulk")  # it has not ended
    rate = find_session(instance, early).points_per_s
    assert figures(instance, store)["trackgen_points_per_second"] == rate != 0


def test_the_queue_by_mode_and_how_long_it_waits(instance: dg.DagsterInstance, store: Store) -> None:
    assert create(store, instance, mode="incremental")
    first = instance.get_run_records()[0].create_timestamp.timestamp()
    time.sleep(0.2)
    for _ in range(2):
        assert create(store, instance, mode="daily")
    queued = dg.DagsterRunStatus.QUEUED
    instance.create_run_for_job(defs.resolve_job_def("inbox"), status=queued, remote_job_origin=UI_ORIGIN)
    asked = time.time()
    found = figures(instance, store)
    depth = {key.split()[1]: value for key, value in found.items() if key.startswith("trackgen_queued_runs")}
    assert depth == {"incremental": 1, "daily": 2, "bulk": 0, "other": 1}
    assert asked - first <= found["trackgen_queue_wait_seconds"] <= time.time() - first


def test_dirty_days_and_the_age_of_the_oldest(instance: dg.DagsterInstance, store: Store) -> None:
    execute(store, f"UPDATE dirty_days SET listed_ms = listed_ms - 60000 WHERE day = {FIRST}")
    found = figures(instance, store)
    assert found["trackgen_dirty_days segments"] == DAYS
    assert 60 <= found["trackgen_oldest_dirty_day_seconds"] < 120
    execute(store, f"UPDATE dirty_days SET is_change = 0 WHERE day = {FIRST}")  # that nobody waits for
    found = figures(instance, store)
    assert found["trackgen_dirty_days segments"] == DAYS
    assert 0 < found["trackgen_oldest_dirty_day_seconds"] < 60
    generate(store, instance, workers=1)
    found = figures(instance, store)
    assert found["trackgen_dirty_days segments"] == found["trackgen_dirty_days tracks"] == 0
    assert found["trackgen_oldest_dirty_day_seconds"] == 0


def test_dead_letters_are_counted_apart_and_nobody_waits_for_them(instance: dg.DagsterInstance, store: Store) -> None:
    refuse(store, FIRST + 1)
    generate(store, instance, workers=1)
    found = figures(instance, store)
    assert (found["trackgen_dead_letters segments"], found["trackgen_dead_letters tracks"]) == (1, 0)
    assert found["trackgen_dirty_days segments"] == found["trackgen_oldest_dirty_day_seconds"] == 0


def test_days_that_no_run_reaches_are_no_work(instance: dg.DagsterInstance, store: Store) -> None:
    world.add(store, [fix(0, 0.0)])  # a clock that was not set: 1970
    generate(store, instance, workers=1)
    assert world.dirty(store) == 1
    found = figures(instance, store)
    assert found["trackgen_dirty_days segments"] == found["trackgen_oldest_dirty_day_seconds"] == 0


def test_a_textfile_is_never_seen_in_part(tmp_path: Path) -> None:
    path = tmp_path / "trackgen.prom"
    texts = {bytes([letter]) * 3_000_000 for letter in b"ab"}
    seen = set()
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            seen.add(path.read_bytes())

    write_textfile(min(texts), path)
    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(10):
        for text in texts:
            write_textfile(text, path)
    stop.set()
    reader.join()
    assert seen <= texts
    assert [file.name for file in tmp_path.iterdir()] == ["trackgen.prom"]
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask()  # node_exporter is another user


def umask() -> int:
    os.umask(mask := os.umask(0))
    return mask


def test_a_textfile_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "trackgen.prom"
    path.mkdir()
    with pytest.raises(OSError):
        write_textfile(b"text", path)
    assert [*tmp_path.iterdir()] == [path]


def test_figures_are_served_at_this_machine_only(instance: dg.DagsterInstance, store: Store, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "trackgen_dagster.cli", "metrics", "--port", str(port)]
    with subprocess.Popen(command) as process:
        try:
            assert parsed(served(port))["trackgen_dirty_days segments"] == DAYS
            generate(store, instance, workers=1)
            found = parsed(served(port))
            assert (found["trackgen_dirty_days segments"], found["trackgen_sessions completed"]) == (0, 1)
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.2", port))
        finally:
            process.kill()


def served(port: int, seconds: float = 60) -> str:
    until = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as response:
                assert response.headers["Content-Type"].startswith("text/plain; version=")
                return str(response.read().decode())
        except urllib.error.URLError:
            assert time.monotonic() < until
            time.sleep(0.1)
