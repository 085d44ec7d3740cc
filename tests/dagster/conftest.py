"""What most tests with Dagster begin with: an instance, and three days with a track each."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from tests import world
from tests.dagster.homes import DAYS, embedded_instance, ride
from trackgen_core.store import Store


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    gc.callbacks.clear()  # Hypothesis measures in one, and Python drops what a signal raises there, such as Ctrl-C
    with embedded_instance(tmp_path / "home") as instance:
        yield instance


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A track on each of some days; what fails is tried again at once."""
    monkeypatch.setenv("TRACKGEN_RETRY_SECONDS", "0.05")
    store = world.open_store(tmp_path)
    monkeypatch.setenv("TRACKGEN_DATABASE_URL", store.database.url)
    ride(store, range(DAYS))
    return store
