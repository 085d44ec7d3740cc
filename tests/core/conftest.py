"""What the tests of Dawarich start from: its database, as it was and as it is, and an empty store of ours."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import dawarich, postgres, world
from trackgen_core.store import Store


@pytest.fixture(scope="module")
def databases() -> Iterator[postgres.Databases]:
    with postgres.postgis_databases() as databases:
        yield databases


@pytest.fixture(scope="module", params=[dawarich.VERSION_1_7_5, dawarich.NEWEST], ids=["1.7.5", "1.15"])
def current(databases: postgres.Databases, request: pytest.FixtureRequest) -> str:
    dawarich.create(url := databases.new(), request.param)
    return url


@pytest.fixture
def url(current: str) -> str:
    """An empty database of Dawarich, as it was and as it is."""
    dawarich.empty(current)
    return current


@pytest.fixture(scope="module")
def shared_newest(databases: postgres.Databases) -> str:
    dawarich.create(url := databases.new(), dawarich.NEWEST)
    return url


@pytest.fixture
def newest(shared_newest: str) -> str:
    """An empty database of Dawarich as it is."""
    dawarich.empty(shared_newest)
    return shared_newest


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = world.open_store(tmp_path)
    yield store
    store.database.close()
