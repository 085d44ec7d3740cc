"""Tracks, months and completion as a terminal shows them."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import world
from tests.command_line import clean_environment, run, trackgen
from tests.dagster.test_cli import HISTORY, ride
from tests.reference import Point
from trackgen_dagster.cli import main

WIDTH = 80


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with names longer than usual."""
    folder = tmp_path_factory.mktemp("reports")
    long = [
        *ride("maximilian-alexander", "a device with a name", "2024-05-02T10:00:00", 11, climb=3),
        *ride("maximilian-alexander", "a device with a name", "2024-05-02T11:00:00", 61),
    ]
    rest = [Point("bob", "", long[0].time_ms + n * 60_000, 8.5, 47.1) for n in range(40)]
    store = world.open_store(folder)
    world.add(store, [*HISTORY, *long, *rest])
    world.generate(store)
    return folder


def in_terminal(home: Path, *args: str) -> list[str]:
    """What a command writes to a terminal of 80 columns."""
    parent, child = pty.openpty()
    env = clean_environment(home) | {"COLUMNS": str(WIDTH), "LINES": "24", "TERM": "xterm-256color", "NO_COLOR": "1"}
    command = [sys.executable, "-m", "trackgen_dagster.cli", *args]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=child, stderr=child, env=env)
    os.close(child)
    written = b""
    while True:
        try:
            piece = os.read(parent, 1 << 16)
        except OSError:  # what Linux says when nobody holds the other end any more
            break
        if not piece:
            break
        written += piece
    os.close(parent)
    assert process.wait() == 0, written
    return written.decode().replace("\r\n", "\n").splitlines()


def test_tables_fit_a_terminal_and_lose_nothing(made: Path) -> None:
    commands = (("tracks", "list"), ("stays", "list"), ("timeline", "--start", "2024-05-01", "--end", "2024-05-03"))
    for command in commands:
        lines = in_terminal(made, *command)
        assert max(map(len, lines)) <= WIDTH, command
        assert not any("\x1b" in line for line in lines)
        piped = trackgen(made, *command)
        assert "".join("".join(lines).split()) == "".join(piped.split())
    assert len(in_terminal(made, "tracks", "list")) > len(trackgen(made, "tracks", "list").splitlines())


def test_a_track_is_shown(made: Path) -> None:
    listed = json.loads(trackgen(made, "tracks", "list", "--json", "--user", "maximilian-alexander"))
    track = listed[0]
    shown = trackgen(made, "tracks", "show", track["track_id"][:8])
    lines = shown.splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert lines[0] == f"Track {track['track_id']}"
    assert "  of       maximilian-alexander a device with a name" in lines
    assert "  begins   2024-05-02 10:00:00 UTC: first fix of this device" in lines
    assert re.search(r"^  ends     2024-05-02 10:10:00 UTC: gap of 50.0 min > 30 min$", shown, re.MULTILINE)
    assert f"{track['distance_m'] / 1000:,.2f} km in 0:10:00, 11 points" in shown
    assert "30 m up, 0 m down, from 400 to 430 m" in shown
    assert re.search(r"^  legs     10:00:00 \w+ +0.76 km +0:10:00", shown, re.MULTILINE)
    assert {"speed, km/h", "elevation, m"} <= set(lines)
    assert lines[-1].startswith("A")
    assert lines[-1].endswith("B")

    told = json.loads(trackgen(made, "tracks", "show", track["track_id"], "--json"))
    assert {name: told[name] for name in track} == track
    assert (told["began"], told["ended"]) == ("first fix of this device", "gap of 50.0 min > 30 min")
    assert [leg["track_id"] for leg in told["legs"]] == [track["track_id"]]

    done = run(made, "tracks", "show", "")
    assert (done.returncode, done.stderr) == (
        1,
        "Error: 2 tracks begin with '': `trackgen tracks list` shows their ids\n",
    )


def test_a_month_is_reported(made: Path) -> None:
    found = json.loads(trackgen(made, "report", "--user", "anna", "--month", "2024-05", "--json"))
    listed = json.loads(trackgen(made, "tracks", "list", "--json", "--user", "anna"))
    assert (found["start"], found["end"], found["timezone"]) == ("2024-05-01", "2024-05-31", "UTC")
    assert found["totals"]["distance_m"] == pytest.approx(sum(track["distance_m"] for track in listed))
    assert found["longest"] == max(listed, key=lambda track: track["distance_m"])
    lines = trackgen(made, "report", "--user", "anna", "--month", "2024-05").splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert lines[0] == "anna, 2024-05-01 to 2024-05-31 (UTC)"
    assert [line.split()[0] for line in lines[2:7]] == ["km", "05-01", "05-03", "all", "hours"]
    assert lines[5].split()[-2] == f"{found['totals']['distance_m'] / 1000:.1f}"
    assert found["longest"]["track_id"][:8] in next(line for line in lines if line.startswith("longest"))
    assert trackgen(made, "report", "--user", "anna", "--month", "2024-02") == (
        "anna, 2024-02-01 to 2024-02-29 (UTC)\nno tracks\n"
    )
    done = run(made, "report", "--user", "anna", "--month", "2024-13")
    assert (done.returncode, "write it as YYYY-MM" in done.stderr) == (2, True)


def test_exports_of_points_and_tracks(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "points.gpx"
    said = trackgen(made, "points", "export", "--user", "bob", "--format", "gpx", "-o", out)
    assert said.split()[0] == str(out.read_text().count("<trkpt"))
    lines = json.loads(trackgen(made, "tracks", "export", "--format", "geojson", "--points", "--simplify", "5"))
    assert all("coordTimes" in feature["properties"] for feature in lines["features"])
    done = run(made, "tracks", "export", "--points")
    assert (done.returncode, "csv holds tracks without their points" in done.stderr) == (2, True)


def test_bash_completes_commands(made: Path) -> None:
    """As an interactive bash would: it calls the function that the script declares, with the words so far."""
    scripts = {shell: trackgen(made, "completion", shell) for shell in ("bash", "zsh", "fish")}
    assert scripts["zsh"].startswith("#compdef trackgen")
    assert "complete --no-files --command trackgen" in scripts["fish"]
    program = f"""
{scripts["bash"]}
COMP_WORDS=(trackgen tracks e) COMP_CWORD=2
name=$(complete -p trackgen | sed 's/.*-F \\([^ ]*\\).*/\\1/')
$name trackgen
echo "${{COMPREPLY[@]}}"
"""
    env = clean_environment(made) | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, env=env)
    assert (done.stdout.split(), done.stderr) == (["export"], "")
    assert "completion" in main.commands
