"""Two engines, one result: what SQL makes of the points is what is stored, whatever the points and settings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DataObject

from tests import postgres, strategies, world
from tests.scenarios import SCENARIOS, STAYS_AND_NOISE, at, ride
from trackgen_core.database import Database, DatabaseError
from trackgen_core.points import MS_PER_DAY
from trackgen_core.settings import Settings, make_settings
from trackgen_core.sql_engine import Comparison, compare, read_sql_tracks
from trackgen_core.store import Store

pytestmark = pytest.mark.xdist_group("postgresql")

few = settings(
    max_examples=5, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.generate]
)


@pytest.fixture(scope="module")
def databases() -> Iterator[postgres.Databases]:
    with postgres.running_server() as server:
        with psycopg.connect(server, autocommit=True) as connection:
            found = connection.execute("SELECT FROM pg_available_extensions WHERE name = 'postgis'").fetchone()
        if found is None:
            pytest.skip("PostGIS is not installed (Debian's package `postgresql-postgis`)")
        yield postgres.Databases(server)


def open_store(databases: postgres.Databases) -> Store:
    url = databases.new()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION postgis")
    return Store(Database(url))


@pytest.fixture(scope="module")
def store(databases: postgres.Databases) -> Iterator[Store]:
    store = open_store(databases)
    yield store
    store.database.close()


@pytest.fixture(autouse=True)
def empty(store: Store) -> None:
    clear(store)


def clear(store: Store) -> None:
    with store.write() as connection:
        tables = "users, devices, points, dirty_days, segments, tracks, legs, edits, stays, noise, item_days"
        connection.exec_driver_sql(f"TRUNCATE {tables} CASCADE")


def assert_agreed(found: Comparison, tracks: int | None = None) -> None:
    assert found.first == []
    assert (found.differences, found.left_out, found.users_left_out) == (0, 0, [])
    assert found.tracks == found.stored
    assert tracks is None or found.tracks == tracks


def assert_engines_agree(store: Store, days: list[int]) -> None:
    assert_agreed(compare(store))
    for day in {day for one in days for day in (one - 1, one, one + 1)}:
        assert_agreed(compare(store, None, day, day))
    if days:
        assert_agreed(compare(store, None, days[0], days[len(days) // 2]))
    parts = (
        [len(batch) for day in range(min(days) - 1, max(days) + 2) for batch in read_sql_tracks(store, None, day, day)]
        if days
        else []
    )
    assert sum(parts) == compare(store).stored


@few
@given(strategies.cases())
def test_breaks_noise_stays_and_midnight(store: Store, case) -> None:
    points, rules = case
    clear(store)
    world.set_settings(store, rules)
    world.add(store, points)
    world.generate(store)
    assert_engines_agree(store, sorted({world.day(point) for point in points}))


@few
@given(strategies.lives(), strategies.settings_of_rest(), st.data())
def test_edits(store: Store, points, rules: Settings, data: DataObject) -> None:
    clear(store)
    store.set_settings("anna", rules.model_dump())
    world.add(store, points)
    world.edit(store, data.draw(strategies.edits(points)))
    world.generate(store)
    assert_engines_agree(store, sorted({world.day(point) for point in points}))
