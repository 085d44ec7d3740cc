"""The law once more, with PostgreSQL in the place of SQLite, and that both come to the same."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests import postgres, strategies, world
from tests.core import test_importing, test_law, test_stays
from tests.effort import examples
from trackgen_core import demo, parallel
from trackgen_core.database import Database, DatabaseError
from trackgen_core.generation import plan_work
from trackgen_core.importing import add_points
from trackgen_core.parallel import do_windows
from trackgen_core.points import MS_PER_DAY
from trackgen_core.schema import VIEWS
from trackgen_core.store import STAGES, Store

pytestmark = pytest.mark.xdist_group("postgresql")

few = settings(
    max_examples=examples(3), deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate]
)

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
        test_stays.test_any_order_of_arrival_and_any_grouping_give_the_reference.hypothesis.inner_test
    )
)
test_dry_runs = few(
    given(there=test_importing.OWNED_ROWS, files=test_importing.SOME_FILES)(
        test_importing.test_a_dry_run_says_what_an_import_will_do_and_changes_nothing.hypothesis.inner_test
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
    longest = []
    for store in stores:
        with store.read() as connection:
            found = store.longest_tracks(connection, *world.ALL_DAYS, 2)
            longest.append((found.to_dict("list"), store.paths_of(connection, found["track_id"])))
    assert longest[0] == longest[1]
    assert set(longest[0][0]["panel"]) == {0, 1}


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


def foreign(url: str, *statements: str) -> None:
    """What another program does, in a transaction of its own."""
    with psycopg.connect(url) as connection:
        for statement in statements:
            connection.execute(statement)


def listed(store: Store) -> list[tuple[int, int]]:
    with store.read() as connection:
        entries = store.dirty(connection, "segments")
    return list(zip(entries["user_id"].tolist(), entries["day"].tolist(), strict=True))


def partitions(store: Store) -> list[str]:
    with store.read() as connection:
        query = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'points'::regclass ORDER BY 1"
        return list(connection.exec_driver_sql(query).scalars())


def test_days_of_points_that_others_write_are_listed(databases: postgres.Databases) -> None:
    url = databases.new()
    store = Store(Database(url))
    day, hour = 86_400_000, 3_600_000
    foreign(
        url,
        "INSERT INTO users (name) VALUES ('anna'), ('bob')",
        "INSERT INTO devices (user_id, name) VALUES (1, 'phone'), (2, '')",
        f"INSERT INTO points (device_id, time_ms, lon, lat) SELECT 1 + n % 2, {19_800 * day + 12 * hour} + n, 9, 48 "
        "FROM generate_series(0, 9) AS n",
    )
    assert listed(store) == [(1, 19_800), (2, 19_800)]
    world.generate(store)
    assert listed(store) == []

    # In the six hours behind midnight, the day before is listed if it has points in its last six hours, or else not.
    foreign(url, f"INSERT INTO points (device_id, time_ms, lon, lat) VALUES (1, {19_801 * day + hour}, 9, 48)")
    assert listed(store) == [(1, 19_801)]
    foreign(url, f"INSERT INTO points (device_id, time_ms, lon, lat) VALUES (1, {19_801 * day - hour}, 9, 48)")
    assert listed(store) == [(1, 19_800), (1, 19_801)]
    world.generate(store)
    foreign(url, f"UPDATE points SET time_ms = time_ms + {5 * day} WHERE time_ms = {19_801 * day - hour}")
    assert listed(store) == [(1, 19_800), (1, 19_801), (1, 19_805)]
    world.generate(store)
    foreign(url, "DELETE FROM points WHERE device_id = 2")
    assert listed(store) == [(2, 19_800)]
    world.generate(store)
    assert world.rows(store, "tracks") != []
    with pytest.raises(psycopg.errors.ForeignKeyViolation, match="not in the table devices"):
        foreign(url, "INSERT INTO points (device_id, time_ms, lon, lat) VALUES (3, 0, 9, 48)")
    store.database.close()


def test_points_are_kept_by_month(databases: postgres.Databases) -> None:
    url = databases.new()
    store = Store(Database(url))
    foreign(
        url,
        "INSERT INTO users (name) VALUES ('anna')",
        "INSERT INTO devices (user_id, name) VALUES (1, 'phone')",
        "INSERT INTO points (device_id, time_ms, lon, lat) VALUES (1, 1710000000000, 9, 48), (1, 1720000000000, 9, 48)",
    )
    assert partitions(store) == ["points_other"]
    march_ms, april_ms = 1_709_251_200_000, 1_711_929_600_000
    points = pd.DataFrame(
        {"time_ms": [march_ms, april_ms - 1, march_ms - 1], "lon": 9.0, "lat": 48.0, "user": "anna", "device": "phone"}
    )
    assert add_points(store, points.assign(altitude=np.nan, accuracy=np.nan, speed=np.nan)) == 3
    assert partitions(store) == ["points_2024_02", "points_2024_03", "points_other"]
    counts = [world.rows(store, f"(SELECT count(*) FROM {name}) AS counted")[0][0] for name in partitions(store)]
    assert counts == [1, 3, 1]
    assert len(world.rows(store, "points")) == 5
    store.database.close()


def test_imports_at_once_make_each_month_once(databases: postgres.Databases) -> None:
    store = Store(Database(databases.new()))
    months_ms = [1_704_067_200_000 + 31 * 86_400_000 * month for month in range(6)]
    points = pd.DataFrame({"time_ms": months_ms, "lon": 9.0, "lat": 48.0, "device": ""})
    points[["altitude", "accuracy", "speed"]] = np.nan
    with ThreadPoolExecutor(4) as pool:
        added = [pool.submit(add_points, store, points.assign(user=f"user {number}")) for number in range(8)]
        assert [future.result(timeout=60) for future in added] == [6] * 8
    assert partitions(store) == [f"points_2024_{month:02}" for month in range(1, 7)] + ["points_other"]
    store.database.close()


def test_writers_for_other_users_do_not_wait(databases: postgres.Databases) -> None:
    store = Store(Database(databases.new()))
    waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"

    def write(user_ids: list[int] | None) -> None:
        with store.write(user_ids) as connection:
            connection.exec_driver_sql("SELECT 1")

    with ThreadPoolExecutor() as pool, store.write([1, 2]) as connection:
        connection.exec_driver_sql("SELECT 1")
        pool.submit(write, [3, 4]).result(timeout=20)
        for waiting in (pool.submit(write, [2]), pool.submit(write, None)):
            with pytest.raises(TimeoutError):
                waiting.result(timeout=0.5)
        assert connection.exec_driver_sql(waits).scalar_one() == 2
    store.database.close()


def test_the_server_knows_how_much_there_is_after_many_points(
    databases: postgres.Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would take new years of a history for empty, and join whatever is about them row by row."""
    store = Store(Database(databases.new()))
    points = demo.demo_history().query("user == 'ada'")
    add_points(store, points)
    monkeypatch.setattr(parallel, "MANY_POINTS", len(points) // 2)
    for stage in STAGES:
        list(do_windows(store, stage, plan_work(store, stage, *world.ALL_DAYS), workers=1))
    with store.read() as connection:
        known = dict(connection.exec_driver_sql("SELECT relname, reltuples FROM pg_class").tuples().all())
        for table in ("segments", "tracks", "stays", "legs", "item_days"):
            assert known[table] == connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one() > 0
    store.database.close()


def test_what_was_asked_about_before_takes_no_time(databases: postgres.Databases) -> None:
    """Nobody vacuums temporary tables: pages of rows that were deleted would be read again with every question."""
    store = Store(Database(databases.new()))
    days = pd.DataFrame({"user_id": np.repeat(np.arange(1, 51), 400), "day": np.tile(np.arange(19_000, 19_400), 50)})
    with store.write() as connection:
        connection.exec_driver_sql("INSERT INTO users (name) SELECT 'user ' || n FROM generate_series(1, 50) AS n")
        for part in (days, days[:10]):
            for _ in range(3):
                store.mark(connection, "segments", part)
        assert connection.exec_driver_sql("SELECT count(*) FROM listed").scalar_one() == 10
        assert connection.exec_driver_sql("SELECT pg_relation_size('listed')").scalar_one() <= 8192
        known = "SELECT reltuples FROM pg_class WHERE relname = 'dirty_days'"
        assert connection.exec_driver_sql(known).scalar_one() == len(days)
    store.database.close()


def test_points_are_estimated_about_right(databases: postgres.Databases) -> None:
    """Windows are cut by it, so a window's worth of points may not be far off, also where all are on a few days."""
    store = Store(Database(databases.new()))
    rng = np.random.default_rng(3)
    day = np.repeat([19_000, 19_001, 19_040, 19_100], [150_000, 50_000, 100_000, 100_000])
    made = {"time_ms": day * MS_PER_DAY + np.arange(len(day)), "lon": rng.uniform(5, 15, len(day)), "lat": 50.0}
    missing = dict.fromkeys(("altitude", "accuracy", "speed"), np.nan)
    add_points(store, pd.DataFrame({"user": "ada", "device": "phone", **made, **missing}))
    with store.read() as connection:
        exact = store.count_points(connection, *world.ALL_DAYS)
        about = store.estimate_points(connection, *world.ALL_DAYS)
    assert exact == {19_000: 150_000, 19_001: 50_000, 19_040: 100_000, 19_100: 100_000}
    for days in ((19_000, 19_001), (19_040, 19_100)):
        assert sum(about[day] for day in days) == pytest.approx(200_000, rel=0.25)
    store.database.close()
