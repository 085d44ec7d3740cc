"""The law once more, with PostgreSQL in the place of SQLite, and that both come to the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests import postgres, strategies, world
from tests.core import test_law, test_rest
from trackgen_core import demo
from trackgen_core.database import Database, DatabaseError
from trackgen_core.importing import add_points
from trackgen_core.schema import VIEWS
from trackgen_core.store import Store

pytestmark = pytest.mark.xdist_group("postgresql")

few = settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate])

test_breaks = few(
    given(strategies.cases(), st.data())(
        test_law.test_any_order_of_arrival_and_any_grouping_give_the_reference.hypothesis.inner_test
    )
)
test_deleting_points = few(
    given(strategies.cases(), st.data())(test_law.test_deleting_points_is_never_having_had_them.hypothesis.inner_test)
)
test_stays_legs_and_edits = few(
    given(strategies.lives(), strategies.settings_of_rest(), st.data())(
        test_rest.test_any_order_of_arrival_and_any_grouping_give_the_reference.hypothesis.inner_test
    )
)


@pytest.fixture(scope="module")
def databases() -> Iterator[postgres.Databases]:
    with postgres.running_server() as server:
        yield postgres.Databases(server)


@pytest.fixture(autouse=True)
def on_postgresql(databases: postgres.Databases, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever opens a store opens one in PostgreSQL: one database a folder."""
    stores: dict[Path, Store] = {}

    def open_store(folder: Path) -> Store:
        if folder not in stores:
            for store in stores.values():
                store.database.close()
            stores[folder] = Store(Database(databases.new()))
        return stores[folder]

    monkeypatch.setattr(world, "open_store", open_store)
    yield
    for store in stores.values():
        store.database.close()
    databases.drop_all()


def test_the_sample_history_is_the_same_in_both(tmp_path: Path, databases: postgres.Databases) -> None:
    points = demo.demo_history()
    stores = [world.open_store(tmp_path), Store(Database(f"sqlite:///{tmp_path}/trackgen.db"))]
    for store in stores:
        add_points(store, points[points["time_ms"] < points["time_ms"].min() + 14 * 86_400_000])
        world.generate(store)
    tables = ("segments", "tracks", "legs", "stays", "noise", "daily_summaries")
    for table in (*tables, *(f"{name}_readable" for name in ("points", "tracks", "legs", "stays", "noise"))):
        one, other = (
            sorted((tuple(map(plain, row)) for row in world.rows(store, table)), key=repr) for store in stores
        )
        assert one == other, table
        assert one or table in ("noise", "noise_readable")


def plain(value: object) -> object:
    """What the databases have different types for: decimals, and truth."""
    return value if isinstance(value, str | bytes | int | None) else round(float(value), 9)  # type: ignore[arg-type]


def test_a_database_is_made_once_and_others_are_refused(databases: postgres.Databases) -> None:
    url = databases.new()
    for _ in range(2):
        database = Database(url)
        with database.write() as connection:
            connection.exec_driver_sql("INSERT INTO users (name) VALUES ('anna') ON CONFLICT DO NOTHING")
            for view in VIEWS:
                connection.exec_driver_sql(f"SELECT * FROM {view}").all()
        database.close()
    with database.write() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM users").scalar_one() == 1
        connection.exec_driver_sql("UPDATE schema_revision SET version_num = '9999'")
    database.close()
    with pytest.raises(DatabaseError, match="made by another version"):
        Database(url)
    with pytest.raises(DatabaseError, match="cannot be used as Trackgen's database"):
        Database(url.replace("/trackgen_", "/no_such_"))
    with pytest.raises(DatabaseError) as failure:
        Database("postgresql://me:secret@127.0.0.1:1/trackgen")
    assert "secret" not in str(failure.value)
