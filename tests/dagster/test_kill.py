"""kill -9 at any moment: whatever was going on, the next `trackgen generate` ends where an undisturbed one does."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import psutil
import pytest

from tests.command_line import clean_environment, trackgen
from tests.dagster.homes import embedded_instance
from tests.effort import examples
from trackgen_core.database import Database
from trackgen_core.demo import write_demo
from trackgen_core.points import MS_PER_DAY, day_date
from trackgen_core.settings import Settings
from trackgen_core.store import Store
from trackgen_dagster.instance import UNFINISHED

HOMES = examples(2)
KILLS_PER_HOME = 3
WORKERS_DIE_WITHIN_S = 5.0
FILES = ("ada-phone.csv", "ada-watch.csv", "chloe-phone.csv")


COMMAND_LINE = ("-m", "trackgen_dagster.cli")
pytestmark = pytest.mark.xdist_group("kill")  # its fixtures are dear: one process makes them once

WORKERS_AT_ONCE = (
    "-c",
    "from trackgen_core import generation, parallel; parallel.TRIAL_S = 0; "
    "generation.POINTS_PER_WINDOW = {'segments': 1, 'tracks': 1}\n"
    "from trackgen_dagster.cli import main; main()",
)
"""The command line, but with workers for any work, however little, and a window for every day."""


def start(home: Path, *args: object, program: tuple[str, str] = COMMAND_LINE) -> subprocess.Popen[str]:
    """Start the command line in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, *program, *map(str, args)],
        env=clean_environment(home),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def kill(process: subprocess.Popen[str], *, whole_group: bool) -> None:
    """Kill a process, alone or with its children, and see that no child outlives it for long."""
    try:
        children = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        children = []
    if whole_group:
        os.killpg(process.pid, signal.SIGKILL)  # nobody has waited for it, so its number is still its own
    else:
        process.kill()
    process.communicate()
    _, alive = psutil.wait_procs(children, timeout=WORKERS_DIE_WITHIN_S)
    assert alive == []


def query(home: Path, sql: str) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(f"file:{home / 'trackgen.db'}?mode=ro", uri=True, timeout=60)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def copy(source: Path, target: Path) -> Path:
    """Copy a home before its first session: Dagster's folder knows where it is."""
    assert not (source / "dagster").exists()
    shutil.copytree(source, target)
    return target


def made(home: Path) -> dict[str, list[tuple[object, ...]]]:
    """Everything that was made, and what is still to do."""
    return {
        table: sorted(query(home, f"SELECT * FROM {table}"), key=repr) for table in ("segments", "tracks", "dirty_days")
    }


def assert_settled(home: Path) -> None:
    """Assert that nothing is left to do, that Dagster knows of every day, and that no run is left open."""
    assert query(home, "SELECT * FROM dirty_days") == []
    days = {
        day_date(int(str(day))).isoformat()
        for (day,) in query(home, f"SELECT DISTINCT time_ms / {MS_PER_DAY} FROM points")
    }
    with embedded_instance(home) as instance:
        for name in ("segments", "tracks"):
            assert days <= instance.get_materialized_partitions(dg.AssetKey(name))
        assert instance.get_runs(dg.RunsFilter(statuses=UNFINISHED)) == []


def chunks_done(home: Path, stage: str) -> int:
    """Return how many days the latest run worked on."""
    with embedded_instance(home) as instance:
        tags = instance.get_runs(limit=1)[0].tags
    done, total = tags[f"trackgen/{stage}"].split("/")
    assert done == total
    return int(total)


@dataclass(frozen=True)
class History:
    """A history that is imported, and one of which everything is made, undisturbed."""

    files: list[Path]
    imported: Path
    undisturbed: Path
    export: str
    seconds: float
    """How long it took to make everything."""


def undisturbed(imported: Path, folder: Path, files: list[Path]) -> History:
    home = copy(imported, folder / "undisturbed")
    started = time.monotonic()
    trackgen(home, "generate")
    seconds = time.monotonic() - started
    assert_settled(home)
    return History(files, imported, home, trackgen(home, "tracks", "export"), seconds)


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> History:
    """Some 230 000 points of half a year."""
    folder = tmp_path_factory.mktemp("history")
    files = [path for path in write_demo(folder / "files") if path.name in FILES]
    trackgen(folder / "imported", "import", *files)
    return undisturbed(folder / "imported", folder, files)


# generate


@pytest.mark.parametrize("number", range(HOMES))
def test_a_killed_session_is_simply_started_again(history: History, tmp_path: Path, number: int) -> None:
    home = copy(history.imported, tmp_path / "home")
    rng = random.Random(number)
    # The first kills are spread over the whole length, those after them hit what is still to do.
    moments = [(number + rng.random()) / HOMES * history.seconds]
    moments += [rng.uniform(0, history.seconds) for _ in range(KILLS_PER_HOME - 1)]
    for attempt, moment in enumerate(moments):
        process = start(home, "generate")
        time.sleep(moment)
        kill(process, whole_group=(number + attempt) % 2 == 0)

    trackgen(home, "generate")
    assert trackgen(home, "tracks", "export") == history.export
    assert made(home) == made(history.undisturbed)
    assert_settled(home)


def test_a_killed_bulk_session_goes_on_where_it_was_broken_off(history: History) -> None:
    home = history.undisturbed
    before = made(home)
    chunks = f"SELECT DISTINCT user_id, time_ms / {MS_PER_DAY} FROM points JOIN devices USING (device_id)"
    all_chunks = len(query(home, chunks))
    listed = "SELECT count(*) FROM dirty_days WHERE stage = 'segments'"

    process = start(home, "generate", "--mode", "bulk")
    most = 0
    while (left := int(str(query(home, listed)[0][0]))) >= most or left == 0:
        most = max(most, left)
        assert process.poll() is None, "the session ended before it could be killed"
        time.sleep(0.01)
    kill(process, whole_group=True)
    assert most == all_chunks
    left = int(str(query(home, listed)[0][0]))
    assert 0 < left < all_chunks
    assert trackgen(home, "tracks", "export") == history.export

    trackgen(home, "generate", "--mode", "bulk")
    assert left <= chunks_done(home, "segments") < all_chunks
    assert made(home) == before
    assert_settled(home)

    # That one came to its end, so bulk means everything again.
    trackgen(home, "generate", "--mode", "bulk")
    assert chunks_done(home, "segments") == chunks_done(home, "tracks") == all_chunks
    assert made(home) == before


# Worker processes


@pytest.fixture(scope="module")
def fragments(history: History, tmp_path_factory: pytest.TempPathFactory) -> History:
    """A history by settings that cut it to pieces: so much work that it is shared among processes."""
    folder = tmp_path_factory.mktemp("fragments")
    imported = copy(history.imported, folder / "imported")
    rules = Settings(minutes_between_routes=1, meters_between_routes=5, distance_rule="strict")
    store = Store(Database(f"sqlite:///{imported / 'trackgen.db'}"))
    store.set_settings("ada", rules.model_dump())
    store.database.close()
    return undisturbed(imported, folder, history.files)


def wait_for_workers(process: subprocess.Popen[str], count: int) -> None:
    """Wait until a process has worker processes: they are the children of a child, which forks them."""
    session = psutil.Process(process.pid)
    while len(session.children(recursive=True)) - len(session.children()) < count:
        assert process.poll() is None, "the session ended without worker processes"
        time.sleep(0.05)


@pytest.mark.parametrize("after_s", [0.1, 2.0], ids=["while they start", "while they work"])
def test_workers_die_with_their_parent(fragments: History, tmp_path: Path, after_s: float) -> None:
    home = copy(fragments.imported, tmp_path / "home")
    process = start(home, "generate", "--workers", 3, program=WORKERS_AT_ONCE)
    wait_for_workers(process, 2)
    time.sleep(after_s)
    assert process.poll() is None
    kill(process, whole_group=False)
    if after_s > 1:
        trackgen(home, "generate", "--workers", 2)
        assert trackgen(home, "tracks", "export") == fragments.export
        assert made(home) == made(fragments.undisturbed)
        assert_settled(home)


# import


def test_a_killed_import_leaves_every_file_whole_or_out(history: History, tmp_path: Path) -> None:
    per_device = "SELECT count(*) FROM points GROUP BY device_id ORDER BY device_id"
    whole = [count for (count,) in query(history.imported, per_device)]
    assert len(whole) > 1

    def devices(home: Path) -> int:
        if not (home / "trackgen.db").exists() or not query(home, "SELECT * FROM sqlite_master WHERE name = 'tracks'"):
            return 0
        return len(query(home, "SELECT * FROM devices"))

    trials, rng, seen = 5, random.Random(3), set()
    for number in range(trials):
        home = tmp_path / str(number)
        process = start(home, "import", *history.files)
        # At some moment after so many files are in, in the middle of the next.
        while process.poll() is None and not ((home / "trackgen.db").exists() and devices(home) >= number % len(whole)):
            time.sleep(0.005)
        time.sleep(rng.uniform(0.0, 0.2))
        kill(process, whole_group=number % 2 == 0)
        there = []
        if not devices(home):
            seen.add(0)
            continue
        there = [count for (count,) in query(home, per_device)]
        assert there == whole[: len(there)]
        assert len(query(home, "SELECT * FROM devices")) == len(there)
        with_points = query(
            home, f"SELECT DISTINCT user_id, time_ms / {MS_PER_DAY} FROM points JOIN devices USING (device_id)"
        )
        assert sorted(query(home, "SELECT user_id, day FROM dirty_days")) == sorted(with_points)
        seen.add(len(there))
    assert len(seen) > 1
    out = trackgen(home, "import", *history.files)
    assert f"new {sum(whole) - sum(there):,}  duplicate {sum(there):,}  rejected 0" in out
    assert query(home, "SELECT * FROM points") == query(history.imported, "SELECT * FROM points")
