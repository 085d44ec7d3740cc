"""`trackgen ui` as a process: it is there once, says where, and leaves nothing behind, however it ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from docs.screenshots import free_port, wait_for
from tests.command_line import clean_environment, run

START_S = 120.0
END_S = 60.0


@contextmanager
def started(home: Path, port: int, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start `trackgen ui`, and end all that is left of it."""
    home.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "trackgen_dagster.cli", "ui", "--port", str(port)]
    with (home / "out").open("wb") as out, (home / "err").open("wb") as err:
        process = subprocess.Popen(command, env=clean_environment(home) | environment, stdout=out, stderr=err)
    family: list[psutil.Process] = []
    try:
        wait_for("the address", lambda: b"http" in (home / "out").read_bytes() or process.poll() is not None, START_S)
        family += psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        yield process
    finally:
        process.kill()
        process.wait()
        for one in family:
            with suppress(psutil.NoSuchProcess):
                one.kill()


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def processes_of(home: Path) -> list[psutil.Process]:
    """Every process that works on a home."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("TRACKGEN_HOME") == str(home) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_is_left_of_it(tmp_path: Path, number: signal.Signals) -> None:
    port = free_port()
    with started(tmp_path, port) as process:
        # One line, no warnings of a home that is new, no notices of Dagster.
        expected = f"Trackgen's UI is at http://127.0.0.1:{port} (Ctrl-C stops it)\n"
        assert ((tmp_path / "out").read_text(), (tmp_path / "err").read_text()) == (expected, "")
        assert listens(port)
        assert len(processes_of(tmp_path)) >= 4  # with the code server, the webserver and the daemon
        os.kill(process.pid, number)
        process.wait(END_S)
        wait_for("all processes to end", lambda: not processes_of(tmp_path), END_S)
        assert not listens(port)
        assert process.returncode == (-signal.SIGKILL if number == signal.SIGKILL else 0)


def test_there_is_one(tmp_path: Path) -> None:
    port, other = free_port(), free_port()
    with started(tmp_path, port) as process:
        for command in (["ui", "--port", other], ["daemon"]):
            done = run(tmp_path, *command)
            assert (done.returncode, done.stdout) == (1, "")
            assert done.stderr == (
                f"Error: `trackgen ui` is running on this home already at http://127.0.0.1:{port} (process "
                f"{process.pid}): use that one, or stop it first\n"
            )
        process.kill()
        process.wait()
        with started(tmp_path, port) as second:  # which waits until the port is free
            assert second.poll() is None, (tmp_path / "err").read_text()


def test_a_port_in_use_is_refused_at_once(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run(tmp_path, "ui", "--port", port)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith(f"Error: port {port} is in use; try --port ")
        free = int(done.stderr.split()[-1])
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", free))
