"""What nobody but its owner shall see: passwords in messages, and the home."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.command_line import clean_environment, run, trackgen
from trackgen_core.redaction import redact, shown_url

PASSWORD = "geheim@s/1#x"
CSV = "timestamp,lon,lat\n2025-06-02T10:00:00Z,8.1,47.1\n2025-06-02T10:01:00Z,8.101,47.1\n"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:{}@there/tracks", "postgresql://me:***@there/tracks"),
        ("postgresql://there/tracks?user=me&password={}", "postgresql://there/tracks?user=me&password=***"),
        ("postgresql://me@there/tracks?sslpassword={}&a=b", "postgresql://me@there/tracks?sslpassword=***&a=b"),
        ("host=there user=me password={}", "host=there user=me password=***"),
        ("host=there password = '{}' user=me", "host=there password = *** user=me"),
        ("postgresql://me@there/tracks", "postgresql://me@there/tracks"),
        ("sqlite:////var/lib/trackgen.db", "sqlite:////var/lib/trackgen.db"),
        ("redis://:{}@there:6379/0", "redis://:***@there:6379/0"),
    ],
)
def test_urls_are_shown_without_passwords(url: str, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for password in (PASSWORD, quote(PASSWORD, safe=""), "simple"):
        if "#" in password and "://" in url and "?" in url:
            continue  # that ends a URL
        assert shown_url(url.format(password)) == shown
    monkeypatch.setenv("TRACKGEN_DATABASE_URL", url.format(quote(PASSWORD, safe="")))
    if "***" in shown:
        assert redact(f'connection to "{PASSWORD}" failed') == 'connection to "***" failed'
    assert redact("a plain message: 12:30, me@example.org") == "a plain message: 12:30, me@example.org"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:{}@127.0.0.1:1/tracks",
        "postgresql://127.0.0.1:1/tracks?user=me&password={}",
        "host=127.0.0.1 port=1 user=me password={}",
        "postgresql://me:{}@127.0.0.1:port/tracks",
        "mysql://me:{}@127.0.0.1:1/tracks",
        "postgresql://me@127.0.0.1:1/tracks?password={}&no_such_option=1",
    ],
)
def test_no_message_shows_a_password(tmp_path: Path, url: str) -> None:
    password = quote(PASSWORD, safe="")
    environment = {"TRACKGEN_DATABASE_URL": url.format(password)}
    for command in (["doctor"], ["doctor", "--json"], ["tracks", "list"], ["tracks", "list", "--debug"]):
        done = run(tmp_path, *command, env=environment)
        assert done.returncode == 1
        for text in (done.stdout, done.stderr):
            assert password not in text
            assert PASSWORD not in text
        assert "***" in done.stdout + done.stderr
    done = run(tmp_path, "init", "--postgres", url.format(password))
    assert done.returncode == 1
    assert password not in done.stdout + done.stderr


def rights(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def files_of_others(home: Path) -> list[Path]:
    """What in a home somebody else might read, the home itself among it."""
    return [path for path in (home, *home.rglob("*")) if rights(path) & 0o077]


def test_a_home_is_for_its_owner_alone(tmp_path: Path) -> None:
    home, points = tmp_path / "home", tmp_path / "points.csv"
    points.write_text(CSV)
    before = os.umask(0o022)
    try:
        trackgen(home, "import", points, "--user", "me")
        trackgen(home, "generate")
        trackgen(home, "tracks", "export", "-o", tmp_path / "tracks.csv")
    finally:
        os.umask(before)
    assert rights(home) == 0o700
    assert rights(home / "trackgen.db") == 0o600
    assert not files_of_others(home)
    assert rights(tmp_path / "tracks.csv") == 0o644  # what somebody asks for is as any new file of theirs


def test_a_home_that_was_open_is_closed(tmp_path: Path) -> None:
    home, points = tmp_path / "home", tmp_path / "points.csv"
    points.write_text(CSV)
    trackgen(home, "import", points, "--user", "me")
    trackgen(home, "generate")
    for path in (home, *home.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    trackgen(home, "sessions", "list")
    assert not files_of_others(home)


def test_what_else_is_in_a_home_keeps_its_rights(tmp_path: Path) -> None:
    home, points = tmp_path / "home", tmp_path / "points.csv"
    points.write_text(CSV)
    (home / "site").mkdir(parents=True)
    (home / "site" / "index.html").write_text("")
    for path in (home, home / "site"):
        path.chmod(0o755)
    trackgen(home, "import", points, "--user", "me")
    assert (rights(home), rights(home / "site"), rights(home / "trackgen.db")) == (0o755, 0o755, 0o600)


def test_a_home_that_can_only_be_read_is_read(tmp_path: Path) -> None:
    home, points = tmp_path / "home", tmp_path / "points.csv"
    points.write_text(CSV)
    trackgen(home, "import", points, "--user", "me")
    trackgen(home, "generate")
    for path in (home, *home.rglob("*")):
        path.chmod(0o500 if path.is_dir() else 0o400)
    # Rights do not bind root, unless it has given that up.
    bound = ["setpriv", "--bounding-set", "-dac_override"] if os.geteuid() == 0 else []
    if bound and not shutil.which("setpriv"):
        pytest.skip("setpriv is not installed (Debian's package `util-linux`)")

    def reader(*command: str) -> subprocess.CompletedProcess[str]:
        program = [*bound, sys.executable, "-m", "trackgen_dagster.cli", *command]
        return subprocess.run(program, env=clean_environment(home), capture_output=True, text=True)

    before = {path: path.stat().st_mtime_ns for path in home.rglob("*")}
    done = reader("tracks", "list")
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 2
    done = reader("settings", "set", "--user", "me", "stop_minutes=5")
    assert done.returncode == 1
    assert done.stderr == (
        f"Error: {home / 'trackgen.db'}: it or its folder is read-only, so nothing can be changed in it\n"
    )
    assert {path: path.stat().st_mtime_ns for path in home.rglob("*")} == before
    for path in (home, *home.rglob("*")):
        path.chmod(0o700)
