"""Partitions begin with the month of the first point, and follow older points without losing any."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from docs.screenshots import free_port, wait_for
from tests import world
from tests.command_line import clean_environment, run, trackgen
from tests.dagster.homes import FIRST, ride
from tests.dagster.test_services import started
from trackgen_core.points import day_date
from trackgen_dagster.partitions import key_of

FIRST_KEY = "from trackgen_dagster.partitions import daily; print(daily.get_first_partition_key())"
KEYS = (
    '{ assetNodes(assetKeys: [{path: ["tracks"]}]) { partitionKeyConnection(limit: 1, ascending: true) { results } } }'
)


def first_key(home: Path, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", FIRST_KEY], env=clean_environment(home) | environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def month_of(day: int) -> str:
    return day_date(day).replace(day=1).isoformat()


def test_partitions_begin_with_the_month_of_the_first_point(tmp_path: Path) -> None:
    this_month = datetime.now(UTC).date().replace(day=1).isoformat()
    assert first_key(tmp_path) == this_month
    assert list(tmp_path.iterdir()) == []  # to look makes no database
    store = world.open_store(tmp_path)
    ride(store, [0])
    assert first_key(tmp_path) == month_of(FIRST)
    assert first_key(tmp_path, TRACKGEN_START_DATE="2015-07-04") == "2015-07-04"
    assert first_key(tmp_path, TRACKGEN_DATABASE_URL=f"sqlite:///{tmp_path}/trackgen.db") == month_of(FIRST)
    ride(store, [-400])
    assert first_key(tmp_path) == month_of(FIRST - 400)
    store.database.close()
    # A database that is away keeps nothing from loading.
    away = "postgresql://me@127.0.0.1:1/none"
    assert first_key(tmp_path, TRACKGEN_DATABASE_URL=away) == "2000-01-01"


def test_a_date_that_is_none_is_refused_by_every_command(tmp_path: Path) -> None:
    ride(store := world.open_store(tmp_path), [0])
    store.database.close()
    for command in (["tracks", "list"], ["generate"], ["ui"], ["daemon"], ["settings", "show", "--user", "anna"]):
        done = run(tmp_path, *command, env={"TRACKGEN_START_DATE": "yesterday"})
        assert done.returncode == 1
        assert done.stderr == "Error: TRACKGEN_START_DATE='yesterday' is no date: write it as YYYY-MM-DD\n"


def ask(port: int, query: str) -> Any:
    body = json.dumps({"query": query}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/graphql", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)["data"]


def test_older_points_move_the_partitions_of_a_running_ui_and_get_their_tracks(tmp_path: Path) -> None:
    store = world.open_store(tmp_path)
    ride(store, [0])
    trackgen(tmp_path, "generate")
    port = free_port()

    def shown() -> str:
        (node,) = ask(port, KEYS)["assetNodes"]
        return str(node["partitionKeyConnection"]["results"][0])

    with started(tmp_path, port, TRACKGEN_DEBOUNCE_SECONDS="1"):
        wait_for("the definitions", lambda: ask(port, KEYS)["assetNodes"], 60)
        assert shown() == month_of(FIRST)
        ride(store, [-800])
        wait_for("partitions of older points", lambda: shown() == month_of(FIRST - 800), 60)
        wait_for("their tracks", lambda: len(world.tracks(store)) == 2, 180)
        assert " - DEBUG - " not in (tmp_path / "err").read_text() + (tmp_path / "out").read_text()
    store.database.close()
    assert key_of(FIRST - 800) in trackgen(tmp_path, "tracks", "list")


@pytest.mark.parametrize("days", [[0], [0, 40]])
def test_work_before_the_partitions_stays_listed(tmp_path: Path, days: list[int]) -> None:
    store = world.open_store(tmp_path)
    ride(store, days)
    start = {"TRACKGEN_START_DATE": key_of(FIRST + 30)}
    done = run(tmp_path, "generate", env=start)
    assert done.returncode == 0
    assert "left out: 1 day before the first partition" in done.stderr
    trackgen(tmp_path, "generate")
    assert len(world.tracks(store)) == len(days)
    store.database.close()
