"""Ctrl-C at a terminal: a command ends with a line, whatever it was about to do."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import world
from tests.command_line import clean_environment, run, trackgen
from tests.dagster.homes import ride

DAYS = 300
LONGEST_S = 60.0
CTRL_C = b"\x03"
STARTED = "started"
"""What the program shows first: what Python itself does before, nobody else can answer for."""


def at_terminal(home: Path, *args: str, interrupt: Callable[[str, float], bool]) -> tuple[int, str]:
    """Run a command at a terminal, press Ctrl-C when that is due, and return its exit code and all that was shown."""
    environment = clean_environment(home) | {"TERM": "xterm", "COLUMNS": "100"}
    command = [
        sys.executable,
        "-c",
        f"from trackgen_dagster.start import main; print('{STARTED}', flush=True); main()",
        *args,
    ]
    child, terminal = pty.fork()
    if child == 0:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.execve(command[0], command, environment)
    shown, pressed = b"", False
    begun = started = time.monotonic()
    while time.monotonic() < begun + LONGEST_S:
        if select.select([terminal], [], [], 0.005)[0]:
            try:
                part = os.read(terminal, 65536)
            except OSError:  # nobody is there any more
                break
            if not part:
                break
            if not shown:
                started = time.monotonic()
            shown += part
        if shown and not pressed and interrupt(shown.decode(errors="replace"), time.monotonic() - started):
            os.write(terminal, CTRL_C)
            pressed = True
    os.close(terminal)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code, re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode(errors="replace"))


@pytest.mark.parametrize("after_s", [0.08, 0.15, 0.3, 0.6])
def test_nothing_is_thrown_while_it_loads(tmp_path: Path, after_s: float) -> None:
    code, shown = at_terminal(tmp_path, "settings", "show", "--user", "me", interrupt=lambda _, age: age > after_s)
    assert code != 0
    assert "Traceback" not in shown


def test_a_cancelled_session_shows_no_full_bar(tmp_path: Path) -> None:
    ride(world.open_store(tmp_path), range(DAYS))
    code, shown = at_terminal(tmp_path, "generate", "--workers", "1", interrupt=lambda seen, _: "checks" in seen)
    assert code == 1
    assert "Traceback" not in shown
    assert "100%" not in shown
    assert "90%" in shown  # it was as far as that
    assert "Error: stopped; run it again to go on from here" in shown
    listed = trackgen(tmp_path, "sessions", "list")
    assert "cancelled" in listed
    assert "100%" not in listed
    assert run(tmp_path, "generate").returncode == 0
