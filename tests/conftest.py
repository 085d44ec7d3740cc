"""Tests that wait for daemons come first, so that the others are done meanwhile."""

from __future__ import annotations

import os
import signal
from typing import Final

import pytest

# Partitions otherwise begin with whatever the home of whoever runs the tests holds; commands in processes of their own
# have homes of their own.
os.environ["TRACKGEN_START_DATE"] = "2000-01-01"

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that starts us in the background has it ignored

LONGEST_FIRST = ("test_backfill.py", "test_daemon.py::test_tracks", "test_daemon.py::test_everything", "test_kill.py")


REQUIRED: Final = "TEST_REQUIRES_ALL"
"""If this is set, as in the gate, a test that is skipped because a package of Debian is missing has failed."""


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Let the tests fail where some were skipped that are to be run."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or not os.environ.get(REQUIRED):
        return
    skipped = [(report.nodeid, str(report.longrepr[-1])) for report in reporter.stats.get("skipped", [])]
    skipped = [(name, reason) for name, reason in skipped if "Debian's package" in reason or "is missing" in reason]
    for name, reason in skipped:
        reporter.write_line(f"not run: {name}: {reason}", red=True)
    if skipped and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the tests for `--dist loadgroup`, which hands them out one by one, and modules marked as a group whole."""
    items.sort(key=lambda item: next((n for n, name in enumerate(LONGEST_FIRST) if name in item.nodeid), 99))
