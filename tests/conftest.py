"""Tests that wait for daemons come first, so that the others are done meanwhile."""

from __future__ import annotations

import os
import signal

import pytest

# Partitions otherwise begin with whatever the home of whoever runs the tests holds; commands in processes of their own
# have homes of their own.
os.environ["TRACKGEN_START_DATE"] = "2000-01-01"

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that starts us in the background has it ignored

LONGEST_FIRST = ("test_backfill.py", "test_daemon.py::test_tracks", "test_daemon.py::test_everything", "test_kill.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the tests for `--dist loadgroup`, which hands them out one by one, and modules marked as a group whole."""
    items.sort(key=lambda item: next((n for n, name in enumerate(LONGEST_FIRST) if name in item.nodeid), 99))
