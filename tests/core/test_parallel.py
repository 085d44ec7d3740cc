"""Worker processes: what they do is what one process would do, and one that dies costs nothing but time."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from tests import reference, world
from tests.scenarios import DAY, MINUTE, at, fix
from trackgen_core import generation, parallel
from trackgen_core.generation import WindowResult, plan
from trackgen_core.parallel import do_windows
from trackgen_core.settings import Settings
from trackgen_core.store import Store

DAYS = 24
POINTS = [fix(at("10:00") + day * DAY + i * MINUTE, 50.0 * i) for day in range(DAYS) for i in range(30)]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A history of many small windows, for which workers are started at once."""
    monkeypatch.setattr(parallel, "TRIAL_S", 0.0)
    monkeypatch.setattr(parallel, "_do", slowly(parallel._do))  # so that workers get their share
    monkeypatch.setattr(generation, "DAYS_PER_WINDOW", 2)
    store = world.open_store(tmp_path)
    world.add(store, POINTS)
    return store


def slowly(do):
    def do_slowly(*args):
        time.sleep(0.5)
        return do(*args)

    return do_slowly


def workers() -> list[psutil.Process]:
    """The processes that were forked to work; other tests have children of other kinds."""
    servers = [child for child in psutil.Process().children() if "forkserver" in " ".join(child.cmdline())]
    return [worker for server in servers for worker in server.children()]


@pytest.mark.parametrize("killed", [False, True], ids=["undisturbed", "a worker is killed"])
def test_all_windows_are_done(store: Store, killed: bool) -> None:
    with store.read() as connection:
        windows = plan(store.dirty(connection, "segments"))
    assert len(windows) == DAYS / 2
    results, victims = [], []
    for result in do_windows(store, "segments", windows, workers=2):
        results.append(result)
        if killed and not victims and len(results) >= 3 and (victims := workers()):
            os.kill(victims[0].pid, signal.SIGKILL)
    assert bool(victims) == killed
    assert all(isinstance(result, WindowResult) for result in results)
    assert {result.window for result in results} == set(windows)
    world.generate(store)
    assert (world.tracks(store), world.leftover(store)) == reference.tracks(POINTS, Settings())
    assert not workers()
