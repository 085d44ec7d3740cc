"""Views: times on the clock of each user, and something to read where there is nothing to see."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest

from tests import world
from tests.command_line import run, trackgen
from tests.reference import Point
from trackgen_core.points import MS_PER_DAY, day_number

DAY = "2024-07-01"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home of somebody in Berlin, with a track that begins at 22:30 UTC, and one a year and a month before."""
    home = tmp_path_factory.mktemp("home")
    store = world.open_store(home)
    points = []
    for day, minute in (("2023-05-10", 720), (DAY, 1350)):
        start_ms = day_number(date.fromisoformat(day)) * MS_PER_DAY + minute * 60_000
        points += [Point("anna", "", start_ms + n * 60_000, 13.4 + n / 300, 52.5, 40.0) for n in range(6)]
    world.add(store, points)
    store.set_settings("anna", {"timezone": "Europe/Berlin"})
    world.generate(store)
    store.database.close()
    return home


def test_times_are_those_of_the_user_or_utc(home: Path) -> None:
    for command in (["tracks", "list"], ["legs", "list"]):
        lines = trackgen(home, *command, "--start", DAY).splitlines()
        assert "started (local)" in lines[0]
        assert "2024-07-02 00:30" in lines[1]
        lines = trackgen(home, *command, "--start", DAY, "--utc").splitlines()
        assert "started (UTC)" in lines[0]
        assert "2024-07-01 22:30" in lines[1]
    (track,) = json.loads(trackgen(home, "tracks", "list", "--start", DAY, "--json"))
    assert track["started_at"] == "2024-07-01T22:30:00.000Z"
    shown = trackgen(home, "tracks", "show", track["track_id"])
    assert "begins   2024-07-02 00:30:00 CEST: " in shown
    assert "begins   2024-07-01 22:30:00 UTC: " in trackgen(home, "tracks", "show", track["track_id"], "--utc")
    assert "2024-07-02 00:30 CEST" in trackgen(home, "report", "--user", "anna", "--month", "2024-07")
    assert "2024-07-01T22:30:00.000Z" in trackgen(home, "tracks", "export", "--start", DAY)


def test_a_time_line_shows_the_date_of_an_end_on_another_day(home: Path) -> None:
    head, line = trackgen(home, "timeline", "--user", "anna", "--start", DAY).splitlines()
    assert head.endswith("(Europe/Berlin)")
    assert line.startswith("2024-07-02 00:30 to 00:35 ")
    first = trackgen(home, "timeline", "--start", "2023-05-10", "--end", DAY).splitlines()
    assert any(row.startswith("2023-05-10 14:05 to 2024-07-02 00:30 ") for row in first), first


def test_a_report_is_about_the_latest_month_or_a_year(home: Path) -> None:
    lines = trackgen(home, "report", "--user", "anna").splitlines()
    assert lines[0] == "anna, 2024-07-01 to 2024-07-31 (Europe/Berlin)"
    lines = trackgen(home, "report", "--user", "anna", "--year", "2023").splitlines()
    assert lines[0] == "anna, 2023-01-01 to 2023-12-31 (Europe/Berlin)"
    assert [line.split()[0] for line in lines[2:6]] == ["km", "05", "all", "hours"]
    assert run(home, "report", "--user", "anna", "--year", "2023", "--month", "2023-05").returncode == 2


def test_headers_come_after_what_is_wrong(home: Path) -> None:
    for command in ("tracks", "legs", "stays", "edits"):
        done = run(home, command, "list", "--user", "nobody")
        assert (done.returncode, done.stdout) == (1, "")
    missing = home / "none" / "tracks.csv"
    done = run(home, "tracks", "export", "-o", missing)
    assert (done.returncode, done.stderr) == (
        1,
        f"Error: {missing}: there is no folder {missing.parent}: make it first\n",
    )


def test_empty_homes_say_what_to_do(tmp_path: Path, home: Path) -> None:
    for command in (["tracks", "list"], ["stays", "list"], ["legs", "list"], ["days"], ["timeline", "--start", DAY]):
        assert trackgen(tmp_path, *command).startswith("There are no points yet: `trackgen import ")
    store = world.open_store(tmp_path)
    world.add(store, [Point("anna", "", 1_700_000_000_000 + n * 60_000, 13.4, 52.5) for n in range(3)])
    store.database.close()
    assert "1 day with work left: `trackgen generate` does it" in trackgen(tmp_path, "tracks", "list")
    assert trackgen(home, "tracks", "list", "--start", "2030-01-01") == "No tracks here.\n"
    assert "`trackgen edits split`" in trackgen(home, "edits", "list")
