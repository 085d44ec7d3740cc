"""The revisions make the very tables that `schema` says, out of nothing and out of those of every older version."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, MetaData, event, inspect

from tests import postgres, reference, world
from tests.core.test_failures import DAY, dead, do, history
from trackgen_core import migrations
from trackgen_core.database import Database, DatabaseError, bulk_insert
from trackgen_core.points import MS_PER_DAY
from trackgen_core.schema import REVISION, VIEWS, metadata
from trackgen_core.store import Store, version_ms

pytestmark = pytest.mark.xdist_group("postgresql")

NewDatabase = Callable[[], str]

VERSION_1 = """
CREATE TABLE users (user_id INTEGER NOT NULL, name VARCHAR NOT NULL, settings VARCHAR DEFAULT '{}' NOT NULL,
    PRIMARY KEY (user_id), UNIQUE (name));
CREATE TABLE settings_used (settings_id VARCHAR NOT NULL, settings VARCHAR NOT NULL, PRIMARY KEY (settings_id));
CREATE TABLE devices (device_id INTEGER NOT NULL, user_id INTEGER NOT NULL, name VARCHAR NOT NULL,
    PRIMARY KEY (device_id), UNIQUE (user_id, name), FOREIGN KEY(user_id) REFERENCES users (user_id));
CREATE TABLE dirty_days (stage VARCHAR NOT NULL, user_id INTEGER NOT NULL, day INTEGER NOT NULL,
    version BIGINT NOT NULL, PRIMARY KEY (stage, user_id, day), FOREIGN KEY(user_id) REFERENCES users (user_id))
    WITHOUT ROWID;
CREATE TABLE points (device_id INTEGER NOT NULL, time_ms BIGINT NOT NULL, lon FLOAT NOT NULL, lat FLOAT NOT NULL,
    altitude FLOAT, accuracy FLOAT, speed FLOAT, PRIMARY KEY (device_id, time_ms, lon, lat),
    FOREIGN KEY(device_id) REFERENCES devices (device_id)) WITHOUT ROWID;
CREATE TABLE segments (device_id INTEGER NOT NULL, day INTEGER NOT NULL, number INTEGER NOT NULL,
    first_ms BIGINT NOT NULL, first_lon FLOAT NOT NULL, first_lat FLOAT NOT NULL, last_ms BIGINT NOT NULL,
    last_lon FLOAT NOT NULL, last_lat FLOAT NOT NULL, points INTEGER NOT NULL, length_mm BIGINT NOT NULL,
    gain_cm BIGINT, loss_cm BIGINT, min_cm BIGINT, max_cm BIGINT, first_cm BIGINT, last_cm BIGINT,
    settings_id VARCHAR NOT NULL, digest BIGINT NOT NULL, path BLOB NOT NULL, PRIMARY KEY (device_id, day, number),
    FOREIGN KEY(device_id) REFERENCES devices (device_id),
    FOREIGN KEY(settings_id) REFERENCES settings_used (settings_id));
CREATE TABLE tracks (track_id VARCHAR NOT NULL, device_id INTEGER NOT NULL, started_ms BIGINT NOT NULL,
    ended_ms BIGINT NOT NULL, start_lon FLOAT NOT NULL, start_lat FLOAT NOT NULL, end_lon FLOAT NOT NULL,
    end_lat FLOAT NOT NULL, points INTEGER NOT NULL, length_mm BIGINT NOT NULL, duration_ms BIGINT NOT NULL,
    avg_speed_kmh FLOAT NOT NULL, elevation_gain_cm BIGINT, elevation_loss_cm BIGINT, elevation_min_cm BIGINT,
    elevation_max_cm BIGINT, break_reason VARCHAR NOT NULL, settings_id VARCHAR NOT NULL, digest BIGINT NOT NULL,
    path BLOB NOT NULL, PRIMARY KEY (track_id), FOREIGN KEY(device_id) REFERENCES devices (device_id),
    FOREIGN KEY(settings_id) REFERENCES settings_used (settings_id));
CREATE INDEX tracks_by_start ON tracks (device_id, started_ms);
"""
"""The tables as version 1 made them in SQLite."""

MORE = {
    "sqlite": (
        "SELECT name, wr FROM pragma_table_list WHERE schema = 'main'",
        "SELECT name FROM sqlite_master WHERE sql LIKE '%AUTOINCREMENT%'",
        "SELECT name, sql FROM sqlite_master WHERE type IN ('trigger', 'view')",
    ),
    "postgresql": (
        "SELECT relname, relkind, pg_get_partkeydef(oid), pg_get_expr(relpartbound, oid) FROM pg_class "
        "WHERE relnamespace = 'public'::regnamespace AND relname !~ '^points_[0-9]'",
        "SELECT tgrelid::regclass::text, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal",
        "SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'public'::regnamespace",
        "SELECT viewname, definition FROM pg_views WHERE schemaname = 'public'",
    ),
}
"""What SQLAlchemy's inspector does not tell."""


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def new_database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NewDatabase]:
    """What makes an empty database and returns its URL."""
    if request.param == "postgresql":
        with postgres.running_server() as server:
            yield postgres.Databases(server).new
    else:
        yield lambda: f"sqlite:///{tmp_path_factory.mktemp('database')}/trackgen.db"


def unprepared(url: str) -> Database:
    """A database whose tables nobody looks after."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Database, "_create_schema", lambda _: None)
        return Database(url)


def describe(database: Database) -> dict[str, Any]:
    """Everything there is in a database but rows, months of points, defaults, and the order of columns."""
    with database.read() as connection:
        inspector = inspect(connection)
        told: dict[str, Any] = {
            table: {
                "columns": sorted(
                    (one["name"], repr(one["type"]), one["nullable"], one.get("comment"), one.get("autoincrement"))
                    for one in inspector.get_columns(table)
                ),
                "key": inspector.get_pk_constraint(table),
                "foreign keys": sorted(map(repr, inspector.get_foreign_keys(table))),
                "unique": sorted(map(repr, inspector.get_unique_constraints(table))),
                "indexes": sorted(map(repr, inspector.get_indexes(table))),
            }
            for table in inspector.get_table_names()
            if not table.startswith("points_2")
        }
        for query in MORE[connection.dialect.name]:
            told[query] = sorted(map(repr, connection.exec_driver_sql(query)))
        return told


def make_old(url: str, revision: str, rows_of: Database | None = None) -> Database:
    """Make a database of an older revision, with the rows of another as far as it has their columns."""
    database = unprepared(url)
    with database.write() as connection:
        migrations.upgrade(connection, revision)
        if rows_of:
            (old := MetaData()).reflect(connection, only=lambda name, _: name in metadata.tables)
            for table in old.sorted_tables:
                known = [column.name for column in table.columns if column.name in metadata.tables[table.name].columns]
                values = list(known)
                if table.name == "legs":  # which did not name the source of a mode before revision 0010
                    known.append("by_hand")
                    values.append("CASE source WHEN 'hand' THEN 1 ELSE 0 END")
                rows = world.rows(Store(rows_of), f"(SELECT {', '.join(values)} FROM {table.name})")
                bulk_insert(connection, table.name, pd.DataFrame(rows, columns=known, dtype=object))
                if "digest" in known and revision < "0004":  # the legs are in the digests since then
                    connection.exec_driver_sql(f"UPDATE {table.name} SET digest = digest / 2")
        for name in VIEWS:  # of what later revisions change
            connection.exec_driver_sql(f"CREATE VIEW {name} AS SELECT * FROM segments")
    return database


def count_as_version(database: Database, version: int) -> None:
    """Make it a database of the time when versions were counted."""
    with database.write() as connection:
        connection.exec_driver_sql("DROP TABLE schema_revision")
        connection.exec_driver_sql("CREATE TABLE schema_version (version INTEGER NOT NULL, PRIMARY KEY (version))")
        connection.exec_driver_sql(f"INSERT INTO schema_version VALUES ({version})")


def open_at_once(url: str) -> Database:
    """Open a database three times, and return one of them."""
    with ThreadPoolExecutor(3) as pool:
        database, *others = pool.map(Database, [url] * 3)
    for other in others:
        other.close()
    return database


def test_revisions_are_numbered_one_after_the_other(tmp_path: Path) -> None:
    with closing(Database(f"sqlite:///{tmp_path}/trackgen.db")) as database, database.read() as connection:
        script = ScriptDirectory.from_config(migrations.configure(connection))
    found = [revision.revision for revision in script.walk_revisions()]
    assert found == [f"{number:04}" for number in range(int(REVISION), 0, -1)]


def test_all_revisions_make_what_a_new_database_has(new_database: NewDatabase) -> None:
    make_old(url := new_database(), f"{int(REVISION) - 1:04}").close()
    with closing(open_at_once(url)) as database, closing(open_at_once(new_database())) as new:
        assert describe(database) == describe(new)
        assert (
            world.rows(Store(database), "schema_revision") == world.rows(Store(new), "schema_revision") == [(REVISION,)]
        )
        for one in (database, new):
            with one.write() as connection:
                command.check(migrations.configure(connection))


def test_revision_0001_makes_the_tables_of_version_1(tmp_path: Path) -> None:
    one, other = (unprepared(f"sqlite:///{tmp_path}/{name}.db") for name in ("one", "other"))
    with one.write() as connection:
        migrations.upgrade(connection, "0001")
        connection.exec_driver_sql("DROP TABLE schema_revision")
    with other.write() as connection:
        for statement in VERSION_1.split(";"):
            connection.exec_driver_sql(statement)
    assert describe(one) == describe(other)
    one.close()
    other.close()


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """A database with tracks of one of its users, and something to do for the other."""
    store = world.open_store(tmp_path_factory.mktemp("filled"))
    world.add(store, history(["anna"]))
    do(store)
    world.add(store, history(["bob"]))
    yield store.database
    store.database.close()


@pytest.mark.parametrize(
    ("version", "is_counted"),
    [(1, True), (2, True), (3, True), (4, True), (1, False), (4, False)],
    ids=["1", "2", "3", "4", "0001", "0004"],
)
def test_an_older_database_is_brought_up_to_date(
    new_database: NewDatabase, filled: Database, version: int, is_counted: bool
) -> None:
    with closing(make_old(url := new_database(), f"{version:04}", filled)) as old:
        if is_counted:
            count_as_version(old, version)
    with closing(open_at_once(url)) as database, closing(Database(new_database())) as new:
        store = Store(database)
        assert world.rows(store, "schema_revision") == [(REVISION,)]
        assert describe(database) == describe(new)
        with store.read() as connection:
            entries = store.dirty(connection, "segments").to_dict("records")
        # Bob's days were listed before; those of Anna were made with other digests, if not without legs or stays.
        assert sorted((entry["user_id"], entry["day"]) for entry in entries) == [
            (user_id, DAY + day) for user_id in (1, 2) for day in range(6)
        ]
        for entry in entries:
            assert entry["listed_ms"] == version_ms(entry["version"]) > 0
            assert (entry["is_change"], entry["attempts"]) == (1, 0)
        assert dead(store) == []
        assert world.rows(store, "points") == world.rows(Store(filled), "points")
        assert do(store) == []
        assert world.tracks(store) == reference.tracks(history(["anna", "bob"]), {})[0]


def test_revision_0009_lists_the_days_on_which_points_share_a_time_stamp(new_database: NewDatabase) -> None:
    with closing(make_old(url := new_database(), "0008")) as old, old.write() as connection:
        for statement in (
            "INSERT INTO users (user_id, name) VALUES (1, 'anna'), (2, 'bob')",
            "INSERT INTO devices (device_id, user_id, name) VALUES (1, 1, ''), (2, 2, '')",
            f"INSERT INTO points (device_id, time_ms, lon, lat) VALUES (1, {DAY * MS_PER_DAY}, 8, 47), "
            f"(1, {DAY * MS_PER_DAY}, 9, 47), (1, {(DAY + 1) * MS_PER_DAY}, 9, 47), (2, {DAY * MS_PER_DAY}, 9, 47)",
            "DELETE FROM dirty_days",
            "INSERT INTO dawarich_users (user_id, dawarich_id, state, token) "
            "VALUES (1, 1, 'on', 't'), (2, 2, 'on', 't')",
            "INSERT INTO dawarich_days (user_id, day, points, digest) "
            f"VALUES (1, {DAY}, 2, 0), (1, {DAY + 1}, 1, 0), (2, {DAY}, 1, 0)",
        ):
            connection.exec_driver_sql(statement)
        migrations.upgrade(connection, "0009")
        listed = connection.exec_driver_sql("SELECT user_id, day FROM dirty_days").all()
        assert listed == [(1, DAY)]
    with closing(Database(url)) as database:
        store = Store(database)
        assert sorted(world.rows(store, "dawarich_days"))[0][:2] == (1, DAY + 1)
        tokens = world.rows(store, "(SELECT user_id, token FROM dawarich_users) AS of_users")
        assert sorted(tokens) == [(1, None), (2, "t")]
        ((_, pause, activity), *_) = world.rows(store, "(SELECT seq, pause, activity FROM points) AS facts")
        assert (pause, activity) == (0, 0)


@pytest.mark.parametrize("is_counted", [True, False], ids=["version", "revision"])
@pytest.mark.parametrize("version", [0, int(REVISION) + 1])
def test_other_versions_are_refused(new_database: NewDatabase, version: int, is_counted: bool) -> None:
    with closing(make_old(url := new_database(), "0001")) as old:
        if is_counted:
            count_as_version(old, version)
        else:
            with old.write() as connection:
                connection.exec_driver_sql(f"UPDATE schema_revision SET version_num = '{version:04}'")
        before = describe(old)
        with pytest.raises(DatabaseError, match=f"made by another version of Trackgen .schema {version:04}"):
            Database(url)
        assert describe(old) == before


@pytest.mark.parametrize("make", [unprepared, lambda url: make_old(url, "0001")], ids=["empty", "0001"])
def test_tables_of_others_are_not_taken_for_ours(new_database: NewDatabase, make: Callable[[str], Database]) -> None:
    with closing(make(url := new_database())) as database:
        with database.write() as connection:
            connection.exec_driver_sql("CREATE TABLE legs (legs INTEGER)")
        before = describe(database)
        with pytest.raises(DatabaseError, match=r"cannot be used as Trackgen's database: .*legs.* already exists"):
            Database(url)
        assert describe(database) == before


def test_opening_is_one_query_and_no_alembic(new_database: NewDatabase) -> None:
    open_twice = (
        "import sys; from trackgen_core.database import Database; [Database(sys.argv[1]) for _ in '12']; "
        "sys.exit('alembic' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", open_twice, url := new_database()], check=True)
    statements: list[str] = []
    event.listen(Engine, "before_cursor_execute", listener := lambda *args: statements.append(args[2]))
    try:
        Database(url).close()
    finally:
        event.remove(Engine, "before_cursor_execute", listener)
    begin, *rest = statements
    assert begin.startswith(("BEGIN", "SET TRANSACTION"))
    assert len(rest) == 1
