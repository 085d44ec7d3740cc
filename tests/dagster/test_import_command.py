"""What `trackgen import` says of files that are damaged or estimated, and what names may not do to a terminal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.command_line import run, trackgen
from trackgen_core.words import printable

CSV = "ts,lat,lon\n1714557600,47.1,8.1\n1714557601,47.2,8.1\n"
ESCAPE = "\x1b]0;title\x07"
SHOWN = "\\x1b]0;title\\x07"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def test_recover_is_named_where_it_helps_and_says_what_it_kept(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(CSV + '1714557602,"47.3')
    done = run(home, "import", path, "--user", "anna")
    assert (done.returncode, "or import the 2 rows before this place with --recover" in done.stderr) == (1, True)
    out = trackgen(home, "import", path, "--user", "anna", "--recover")
    first, note = out.splitlines()
    assert first == "read 2  new 2  duplicate 0  rejected 0"
    assert note.startswith(f"  note {path}: the 2 rows before damage were kept: ")
    report = json.loads(trackgen(home, "import", path, "--user", "anna", "--recover", "--json"))
    assert report["files"][0]["notes"] == [note.partition(": ")[2]]


def test_visits_of_google_only_if_asked_for(home: Path, tmp_path: Path) -> None:
    visit = {"topCandidate": {"placeLocation": "geo:47.1,8.1"}}
    path = tmp_path / "location-history.json"
    path.write_text(
        json.dumps([{"startTime": "2024-05-01T10:00:00Z", "endTime": "2024-05-01T11:00:00Z", "visit": visit}])
    )
    done = run(home, "import", path, "--user", "anna")
    assert done.returncode == 1
    assert "1 estimate of Google alone" in done.stderr
    assert "--visits" in done.stderr
    assert trackgen(home, "import", path, "--user", "anna", "--visits").startswith("read 2  new 2 ")


def test_names_do_not_reach_the_terminal_raw(home: Path, tmp_path: Path) -> None:
    path = tmp_path / f"{ESCAPE}.csv"
    path.write_text("ts,lon,lat\n" + "".join(f"{1714557600 + 30 * i},{8.1 + i / 1000},47.1\n" for i in range(20)))
    bad = tmp_path / f"bad{ESCAPE}.csv"
    bad.write_text("ts,lat,lon\n")
    trackgen(home, "import", path, "--user", ESCAPE, "--device", ESCAPE)
    trackgen(home, "generate")
    commands = [
        ["import", path, "--user", "x", "--dry-run"],
        ["tracks", "list"],
        ["timeline", "--user", ESCAPE, "--start", "2024-05-01"],
        ["settings", "show", "--user", ESCAPE],
    ]
    for command in commands:
        out = trackgen(home, *command)
        assert not [character for character in out if not character.isprintable() and character not in "\n\t"]
        assert SHOWN in out or command[0] == "settings"
    for command in (["import", bad, "--user", "x"], ["settings", "show", "--user", f"nobody{ESCAPE}"]):
        done = run(home, *command)
        assert done.returncode == 1
        assert SHOWN in done.stderr
        assert "\x1b" not in done.stdout + done.stderr


def test_exported_names_start_no_formula_and_come_back(home: Path, tmp_path: Path) -> None:
    names = ["=1+2", "+49", "-x", "@y", "'=z", "'plain"]
    path = tmp_path / "a.csv"
    path.write_text("user,device,ts,lat,lon\n" + "".join(f"{name},{name},1714557600,47.1,8.1\n" for name in names))
    trackgen(home, "import", path)
    out = tmp_path / "points.csv"
    trackgen(home, "points", "export", "-o", out)
    cells = [cell for line in out.read_text().splitlines()[1:] for cell in line.split(",")[:2]]
    assert not [cell for cell in cells if cell[0] in "=+-@"]
    again = json.loads(trackgen(home, "import", out, "--json"))
    assert (again["new"], again["duplicate"]) == (0, len(names))


def test_printable_keeps_what_is_harmless() -> None:
    assert printable("Zoë\t北京 🚶\n") == "Zoë\t北京 🚶\n"
    assert printable("a\x00\x1b\r\x7f\x9b\u202e") == "a\\x00\\x1b\\x0d\\x7f\\x9b\\u202e"
