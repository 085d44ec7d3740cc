"""Where the history begins: by points and by work that is left, in both databases."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import postgres, world
from tests.reference import Point
from trackgen_core.database import Database
from trackgen_core.extent import first_day
from trackgen_core.points import MS_PER_DAY
from trackgen_core.store import Store


@pytest.fixture(scope="module")
def databases() -> Iterator[postgres.Databases]:
    with postgres.running_server() as server:
        yield postgres.Databases(server)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.xdist_group("extent"))])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "sqlite":
        store = world.open_store(tmp_path)
    else:
        store = Store(Database(request.getfixturevalue("databases").new()))
    yield store
    store.database.close()


def first(store: Store) -> int | None:
    with store.read() as connection:
        return first_day(connection)


def add(store: Store, day: int, user: str = "anna") -> None:
    world.add(
        store, [Point(user, "phone", day * MS_PER_DAY + minute * 60_000, 8.0, 47.0) for minute in range(600, 603)]
    )


def test_it_begins_with_the_first_point_of_anybody_and_with_work_that_is_left(store: Store) -> None:
    assert first(store) is None
    add(store, 20_000)
    assert first(store) == 20_000
    add(store, 19_000, "bob")
    add(store, 19_500)
    assert first(store) == 19_000
    world.generate(store)
    assert first(store) == 19_000
    store.delete_points("bob")
    assert first(store) == 19_000  # its tracks are still there
    world.generate(store)
    assert first(store) == 19_500


def test_points_of_other_programs_count(databases: postgres.Databases) -> None:
    store = Store(Database(databases.new()))
    add(store, 20_000)
    world.generate(store)
    with store.write() as connection:
        connection.exec_driver_sql(
            f"INSERT INTO points (device_id, time_ms, lon, lat) VALUES (1, {MS_PER_DAY * 15_000}, 8, 47)"
        )
        connection.exec_driver_sql("DELETE FROM dirty_days")
    assert first(store) == 15_000
    store.database.close()
