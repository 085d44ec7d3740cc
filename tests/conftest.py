"""Tests that wait for daemons come first, one group for each of four workers, so that the others are done meanwhile."""

from __future__ import annotations

import pytest

WAIT_LONG = ("test_daemon.py::test_tracks", "test_daemon.py::test_everything", "test_backfill.py", "test_kill.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the tests for `--dist worksteal`, which begins by giving each worker a stretch of them."""
    groups = [[item for item in items if name in item.nodeid] for name in WAIT_LONG]
    others = [item for item in items if not any(item in group for group in groups)]
    stretch = len(items) // len(WAIT_LONG)
    items.clear()
    for number, group in enumerate(groups):
        share = len(others) if number == len(groups) - 1 else max(0, stretch - len(group))
        items += [*group, *others[:share]]
        others = others[share:]
