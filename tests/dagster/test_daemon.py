"""The real thing runs by itself: webserver, daemon, sensors and queue, and nobody types a command but `import`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import psutil
import pytest

from docs.screenshots import demo_slice, running_ui, wait_for
from tests import world
from tests.dagster.homes import embedded_instance
from trackgen_core.importing import add_points
from trackgen_core.points import MS_PER_DAY, TieCounter, day_date, now_ms
from trackgen_dagster.partitions import RANGE_TAGS, day_of
from trackgen_dagster.sessions import Session, find_session, list_sessions

DAYS = 30
DEBOUNCE_S = 4
SOON_S = 90.0
"""Debounce, the sensor's interval, the queue's, and 5 s for a process to start: half of it on an idle machine."""

BACKFILL_S = 300.0
"""The backfill daemon looks every 30 s, and must look four times; a killed run is started again on top of that."""


class Home:
    """A home of its own, with what somebody there would type."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = world.open_store(folder)
        self.last_day = now_ms() // MS_PER_DAY - 1
        self.points = demo_slice(DAYS, last_day=self.last_day)
        self.held_back = pd.DataFrame()

    def environment(self) -> dict[str, str]:
        return {
            "TRACKGEN_START_DATE": day_date(self.last_day - 99).isoformat(),
            "TRACKGEN_DEBOUNCE_SECONDS": str(DEBOUNCE_S),
        }

    def trackgen(self, *args: object) -> str:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("TRACKGEN_", "DAGSTER_"))}
        done = subprocess.run(
            [sys.executable, "-m", "trackgen_dagster.cli", *map(str, args)],
            env=clean | {"TRACKGEN_HOME": str(self.folder)} | self.environment(),
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def import_(self, points: pd.DataFrame) -> None:
        file = self.folder / "points.csv"
        points.rename(columns={"time_ms": "timestamp"}).to_csv(file, index=False)
        self.trackgen("import", file)

    def sessions(self) -> list[Session]:
        with embedded_instance(self.folder) as instance:
            return list_sessions(instance)

    def ranges(self, session: Session) -> list[tuple[int, int]]:
        """The days of each run of a session."""
        with embedded_instance(self.folder) as instance:
            runs = [instance.get_run_by_id(run) for run in session.runs]
            return [(day_of(run.tags[RANGE_TAGS[0]]), day_of(run.tags[RANGE_TAGS[1]])) for run in runs if run]

    def is_settled(self) -> bool:
        """Whether nothing is listed, and nothing under way."""
        time.sleep(1)  # looking takes time that those who work need
        return world.dirty(self.store) == 0 and all(session.is_over for session in self.sessions())


@pytest.fixture
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    home = Home(tmp_path_factory.mktemp("home"))
    yield home
    home.store.database.close()


@pytest.fixture
def late(home: Home) -> pd.Series:
    """Some hours of one user in the middle, which come in late."""
    lo_ms = (home.last_day - 15) * MS_PER_DAY + 7 * 3_600_000
    is_late = home.points["time_ms"].between(lo_ms, lo_ms + 4 * 3_600_000) & (home.points["user"] == "ada")
    assert is_late.sum() > 50
    return is_late


def clean_pass(folder: Path, *files: pd.DataFrame) -> list[Any]:
    store = world.open_store(folder)
    for points in files:
        add_points(store, TieCounter().count(points))
    world.generate(store)
    tracks = world.tracks(store)
    store.database.close()
    return tracks


def test_tracks_make_themselves_and_late_points_mend_their_days_only(
    home: Home, late: pd.Series, tmp_path: Path
) -> None:
    with running_ui(home.folder, **home.environment()) as ui:
        home.import_(home.points[~late])
        wait_for("the sensor's first session", lambda: home.is_settled() and bool(home.sessions()), SOON_S)
        (first,) = home.sessions()
        assert (first.mode, first.status) == ("incremental", "completed")
        with_data = set(home.points["time_ms"] // MS_PER_DAY)
        assert home.ranges(first) == [(min(with_data), max(with_data))]
        (tmp_path / "first").mkdir()
        assert world.tracks(home.store) == clean_pass(tmp_path / "first", home.points[~late])

        home.import_(home.points[late])
        wait_for("the session of the late points", lambda: home.is_settled() and len(home.sessions()) > 1, SOON_S)
        second, _ = home.sessions()
        assert (second.mode, second.status, second.users) == ("incremental", "completed", '["ada"]')
        touched = home.last_day - 15
        assert home.ranges(second) == [(touched, touched)]
        (tmp_path / "second").mkdir()
        assert world.tracks(home.store) == clean_pass(tmp_path / "second", home.points[~late], home.points[late])

        # A file in the drop folder needs not even a command.
        inbox = home.folder / "inbox" / "zoe" / "phone"
        inbox.mkdir(parents=True)
        of_ada = home.points[home.points["user"] == "ada"].drop(columns=["user", "device"])
        of_ada.rename(columns={"time_ms": "timestamp"}).to_csv(inbox / "zoe.csv", index=False)
        wait_for("the import", lambda: "zoe" in home.store.user_names() and home.is_settled(), SOON_S)
        assert (home.folder / "done" / "zoe" / "phone" / "zoe.csv").exists()
        assert not (inbox / "zoe.csv").exists()
        assert "zoe" in {track.user for track in world.tracks(home.store)}

        family = psutil.Process(ui.process.pid).children(recursive=True)
        assert len(family) > 2  # webserver, daemon, code server
        ui.process.terminate()
        assert ui.process.wait(SOON_S) == 0
        wait_for("everybody's end", lambda: not any(map(is_alive, family)), SOON_S)


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_everything_again_while_points_arrive_and_all_is_killed(home: Home, tmp_path: Path) -> None:
    """kill -9 of webserver, daemon and run in the middle of a backfill; then they are started again."""
    between = home.points.assign(time_ms=home.points["time_ms"] + 7_000)[::5]
    arriving = [part for _, part in between.groupby(np.arange(len(between)) % 8)]
    home.import_(home.points)
    with running_ui(home.folder, **home.environment()) as ui:
        name = home.trackgen("sessions", "create", "--mode", "bulk")
        wait_for("a run of the backfill", lambda: is_running(home, name), BACKFILL_S)
        os.killpg(ui.process.pid, signal.SIGKILL)
    home.import_(arriving[0])
    with running_ui(home.folder, **home.environment()):
        for part in arriving[1:]:
            home.import_(part)
        wait_for("the end of the session", lambda: is_over(home, name), BACKFILL_S)
        wait_for("the rest", home.is_settled, SOON_S)
    session = session_of(home, name)
    assert (session.status, session.mode, session.percent) == ("completed", "bulk", 100.0)
    assert {one.status for one in home.sessions()} == {"completed"}
    assert world.tracks(home.store) == clean_pass(tmp_path, home.points, *arriving)


def is_running(home: Home, name: str) -> bool:
    with embedded_instance(home.folder) as instance:
        until = time.monotonic() + 20
        while time.monotonic() < until:  # a run takes a second or two
            runs = instance.get_runs(dg.RunsFilter(tags={"trackgen/session": name}))
            if any(run.status == dg.DagsterRunStatus.STARTED for run in runs):
                return True
            time.sleep(0.02)
    return False


def is_over(home: Home, name: str) -> bool:
    time.sleep(1)
    return session_of(home, name).is_over


def session_of(home: Home, name: str) -> Session:
    with embedded_instance(home.folder) as instance:
        return find_session(instance, name)
