"""Dawarich beside Trackgen: what is mirrored, what is wrong with its tracks, and what is written in their place."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DataObject

from tests import dawarich, postgres, world
from tests.command_line import run, trackgen
from tests.effort import examples
from trackgen_core.database import Database, DatabaseError
from trackgen_core.dawarich import changes, transactions
from trackgen_core.dawarich.comparison import KINDS, Comparison, classify, compare_user
from trackgen_core.dawarich.mirror import STATES, State, mirror, mirrored_users, set_state, states
from trackgen_core.dawarich.rollback import rollback_user
from trackgen_core.dawarich.rows import line, rounded_degrees, speeds_kmh, track_rows
from trackgen_core.dawarich.source import TRACK_DTYPES, open_dawarich, read_settings
from trackgen_core.dawarich.transactions import WRITER, WriteReport, in_transaction
from trackgen_core.dawarich.writing import write_user
from trackgen_core.paths import decode_path, encode_path
from trackgen_core.points import MS_PER_DAY
from trackgen_core.store import Store, UnknownUser

pytestmark = pytest.mark.xdist_group("postgresql")

few = settings(
    max_examples=examples(4),
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],
)
ANNA, BOB = "anna@example.org", "bob@example.org"


def fill(url: str, days: int = 9, fixes_a_day: int = 300, minutes: int = 10, email: str = ANNA) -> int:
    """Add a user with a history, and the tracks that Dawarich makes of it."""
    with dawarich.connect(url) as connection:
        user_id = dawarich.add_user(connection, email, json.dumps({"minutes_between_routes": str(minutes)}))
        dawarich.add_points(connection, user_id, dawarich.history(days, fixes_a_day, user_id))
        dawarich.generate_as_dawarich(connection, user_id, minutes)
    return user_id


def mirrored(store: Store, url: str) -> list[Any]:
    """Mirror all users, and make the tracks."""
    reports = mirror(store, url=url)
    world.generate(store)
    return reports


def compared(store: Store, url: str, name: str = ANNA) -> Comparison:
    with open_dawarich(url) as there:
        return compare_user(store, there, *mirrored_users(store, [name]))


# What is mirrored -----------------------------------------------------------------------------------------------------

POINTS = st.lists(
    st.tuples(
        st.sampled_from([*range(0, 3 * 86_400, 14_400), 86_399, 86_401]),
        st.sampled_from([8.0, 8.0001, -179.5]),
        st.sampled_from([50.0, -0.0, 0.0]),
        st.sampled_from(["phone", "Uhr ü", "", None]),
        st.sampled_from([None, 12.34, -3.5]),
        st.sampled_from([None, 10]),
        st.sampled_from([None, False, True]),
    ),
    max_size=12,
    unique_by=lambda row: (row[0], row[1], row[2] + 0.0),
)


@few
@given(st.lists(POINTS, min_size=1, max_size=3), st.data())
def test_a_mirror_shows_what_is_there(
    databases: postgres.Databases, current: str, steps: list, data: DataObject
) -> None:
    """Whatever is inserted, changed and deleted between one time and the next."""
    with dawarich.connect(current) as connection:
        connection.autocommit = True
        dawarich.empty(current)
        user_id = dawarich.add_user(connection, ANNA)
        store = shared_store(databases)
        for rows in steps:
            # Some stay as they are, some change, the others go.
            kept = data.draw(st.sets(st.integers(1, 40)))
            connection.execute("DELETE FROM points WHERE NOT id = ANY(%s)", [list(kept)])
            for time, lon, lat, tracker, altitude, accuracy, anomaly in rows:
                connection.execute(
                    "INSERT INTO points (user_id, timestamp, lonlat, tracker_id, altitude_decimal, accuracy, anomaly, "
                    "created_at, updated_at) VALUES (%s, %s, ST_MakePoint(%s, %s)::geography, %s, %s, %s, %s, now(), "
                    "now()) ON CONFLICT (lonlat, timestamp, user_id) DO UPDATE SET tracker_id = excluded.tracker_id, "
                    "altitude_decimal = excluded.altitude_decimal, anomaly = excluded.anomaly, "
                    "accuracy = excluded.accuracy",
                    [user_id, dawarich.START_S + time, lon, lat, tracker, altitude, accuracy, anomaly],
                )
            before = set(world.rows(store, "points"))
            (report,) = mirror(store, url=current)
            expected = connection.execute(
                "SELECT coalesce(tracker_id, ''), timestamp::int8 * 1000, ST_X(lonlat::geometry), "
                "ST_Y(lonlat::geometry) + 0.0, altitude_decimal::float8, accuracy::float8, NULL FROM points "
                "WHERE anomaly IS NOT TRUE"
            ).fetchall()
            columns = "name, time_ms, lon, lat, altitude, accuracy, speed"
            here = world.rows(store, f"(SELECT {columns} FROM points JOIN devices USING (device_id)) AS p")
            assert here == sorted(expected, key=repr)
            after = set(world.rows(store, "points"))
            assert (report.new, report.gone) == (len(after - before), len(before - after))
            days = {row[1] // MS_PER_DAY for row in after ^ before}
            with store.read() as reading:
                listed = set(store.dirty(reading, "segments")["day"].tolist())
            assert days <= listed
            world.generate(store)
            (again,) = mirror(store, url=current)
            assert (again.days, again.new, again.gone, world.dirty(store)) == (0, 0, 0, 0)
            (again,) = mirror(store, url=current, again=True)
            assert (again.new, again.gone, world.dirty(store)) == (0, 0, 0)


def add_triggers(url: str) -> None:
    with open_dawarich(url, to="write") as there:
        in_transaction(there, WriteReport(""), changes.install)


def listed(url: str) -> list[tuple[int | None, int | None]]:
    """The days that the triggers have listed, from the first one of the histories on."""
    with dawarich.connect(url) as connection:
        rows = connection.execute("SELECT user_id, day FROM trackgen.changed_days ORDER BY 1, 2").fetchall()
    return [(user_id, day and day - dawarich.START_S // dawarich.DAY_S) for user_id, day in rows]


CHANGES = {
    "insert": "INSERT INTO points (user_id, timestamp, lonlat, tracker_id, created_at, updated_at) SELECT {user}, "
    "{time}, ST_MakePoint(8 + {writer}, 50)::geography, 'phone', now(), now() ON CONFLICT (lonlat, timestamp, user_id) "
    "DO UPDATE SET altitude_decimal = coalesce(points.altitude_decimal, 0) + 1",
    "delete": "DELETE FROM points WHERE {mine} AND timestamp % 3 = {third}",
    "move in time": "UPDATE points SET timestamp = timestamp + 86400 WHERE {mine} AND timestamp % 3 = {third}",
    "move in space": "UPDATE points SET lonlat = ST_Translate(lonlat::geometry, 0, 0.001) WHERE {mine} "
    "AND timestamp % 3 = {third}",
    "give away": "UPDATE points SET user_id = 3 - user_id WHERE {mine} AND timestamp % 3 = {third}",
    "leave out": "UPDATE points SET anomaly = anomaly IS NOT TRUE WHERE {mine} AND timestamp % 3 = {third}",
    "rename": "UPDATE points SET tracker_id = {third} WHERE {mine} AND timestamp % 3 = {third}",
    "other columns": "UPDATE points SET track_id = NULL, battery = {third} WHERE {mine}",
}
STEPS = st.lists(
    st.one_of(
        st.tuples(st.integers(0, 1), st.sampled_from([*CHANGES]), st.integers(0, 2), st.integers(0, 300_000)),
        st.tuples(st.integers(0, 1), st.sampled_from(["commit", "commit", "rollback"])),
        st.just(("mirror",)),
        st.tuples(st.just("commit meanwhile"), st.integers(0, 1)),
        st.tuples(st.just("break off"), st.sampled_from(["_mirror_days", "_note_days", "_keep_token"])),
        st.sampled_from([("only anna",), ("bob off",), ("bob on",), ("reinstall",)]),
    ),
    min_size=8,
    max_size=25,
)


@few
@given(STEPS)
def test_with_triggers_a_mirror_is_what_it_is_without(databases: postgres.Databases, current: str, steps: list) -> None:
    """Whatever two writers do, committed or not when somebody mirrors; and if that breaks off."""
    dawarich.empty(current)
    with dawarich.connect(current) as connection:
        for user, email in enumerate((ANNA, BOB)):
            dawarich.add_user(connection, email)
            for writer in (0, 1):
                for hour in range(0, 72, 10):
                    second = dawarich.START_S + hour * 3600 + hour % 3
                    values = {"user": user + 1, "writer": writer, "time": second}
                    connection.execute(CHANGES["insert"].format(**values))
    store = shared_store(databases)
    add_triggers(current)
    with dawarich.connect(current) as one, dawarich.connect(current) as other:
        follow(store, current, steps, (one, other))


def follow(store: Store, current: str, steps: list, writers: tuple[psycopg.Connection, psycopg.Connection]) -> None:
    """Do what writers and others do, and look each time whether the mirror is right."""
    bob: State = "on"

    def look(**how: Any) -> None:
        mirror(store, url=current, **how)
        assert_mirrored(store, current, [ANNA] if how.get("names") or bob == "off" else [ANNA, BOB])

    def break_off(*_: object) -> None:
        raise KeyboardInterrupt

    look()
    for step in steps:
        match step:
            case (int(n), "commit" | "rollback" as how):
                getattr(writers[n], how)()
            case (int(n), change, third, time):
                values = {"mine": f"floor(ST_X(lonlat::geometry)) = {8 + n}", "writer": n, "third": third}
                values |= {"user": 1 + time % 2, "time": dawarich.START_S + time}
                writers[n].execute("SAVEPOINT before")
                try:
                    writers[n].execute(CHANGES[change].format(**values))
                except psycopg.errors.UniqueViolation:
                    writers[n].execute("ROLLBACK TO before")
            case ("mirror",):
                look()
            case ("only anna",):
                look(names=[ANNA])
            case ("commit meanwhile", n):
                take, writer = changes.take, writers[n]

                def take_and_commit(*args: Any, take: Any = take, writer: psycopg.Connection = writer) -> pd.DataFrame:
                    found: pd.DataFrame = take(*args)
                    writer.commit()
                    return found

                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(changes, "take", take_and_commit)
                    mirror(store, url=current)
            case ("break off", where):
                with pytest.MonkeyPatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
                    patch.setattr(f"trackgen_core.dawarich.mirror.{where}", break_off)
                    mirror(store, url=current)
            case ("reinstall",):
                for writer in writers:
                    writer.commit()
                add_triggers(current)
            case (what,):
                bob = "off" if what == "bob off" else "on"
                set_state(store, bob, [user.user_id for user in mirrored_users(store, [BOB])])
    for writer in writers:
        writer.commit()
    look()
    assert [user for user, _ in listed(current)] == []
    assert [(one.new, one.gone) for one in mirror(store, url=current, again=True)] == [(0, 0)] * (1 + (bob == "on"))


def assert_mirrored(store: Store, url: str, names: list[str]) -> None:
    """What users have there is what they have here."""
    with dawarich.connect(url) as connection:
        expected = connection.execute(
            "SELECT email, coalesce(tracker_id, ''), timestamp::int8 * 1000, ST_X(lonlat::geometry), "
            "ST_Y(lonlat::geometry), altitude_decimal::float8 FROM points JOIN users ON users.id = user_id "
            "WHERE anomaly IS NOT TRUE AND email = ANY(%s)",
            [names],
        ).fetchall()
    columns = "users.name AS email, devices.name, time_ms, lon, lat, altitude"
    tables = "points JOIN devices USING (device_id) JOIN users USING (user_id)"
    here = world.rows(store, f"(SELECT {columns} FROM {tables}) AS p")
    assert [row for row in here if row[0] in names] == sorted(expected, key=repr)


def test_only_what_is_read_is_listed(url: str, store: Store) -> None:
    """Nothing by our own writing, or by Dawarich's; and after a column is not what it was, everything is read."""
    fill(url, 3)
    add_triggers(url)
    mirrored(store, url)
    written(store, url, take_over=True)
    with dawarich.connect(url) as connection:
        connection.execute("UPDATE points SET track_id = (SELECT max(id) FROM tracks) WHERE id > 100")
        connection.execute("UPDATE points SET geodata = '{\"city\": 1}', updated_at = now()")
    rolled_back(store, url)
    assert listed(url) == []
    with dawarich.connect(url) as connection:
        connection.execute("UPDATE points SET accuracy = 7 WHERE timestamp < %s", [dawarich.START_S + dawarich.DAY_S])
        connection.execute("DELETE FROM points WHERE id = (SELECT max(id) FROM points)")
    assert listed(url) == [(1, 0), (1, 2)]
    (report,) = mirrored(store, url)
    assert (report.days, listed(url)) == (2, [])
    with dawarich.connect(url) as connection:
        connection.execute("ALTER TABLE points RENAME COLUMN altitude_decimal TO height")
        connection.execute("UPDATE points SET accuracy = 8 WHERE id = 1")
        connection.execute("ALTER TABLE points RENAME COLUMN height TO altitude_decimal")
    assert listed(url) == [(None, None)]
    (report,) = mirrored(store, url)
    assert (report.days, listed(url)) == (1, [])
    with dawarich.connect(url) as connection:
        connection.execute("TRUNCATE points CASCADE")
    assert listed(url) == [(None, None)]
    (report,) = mirrored(store, url)
    assert (report.days, world.rows(store, "points")) == (3, [])


def test_two_who_mirror_take_nothing_from_each_other(url: str, store: Store) -> None:
    fill(url, 2, 60)
    add_triggers(url)
    other = Store(Database(f"sqlite:///{store.database.name}.other"))
    for number in range(3):
        with dawarich.connect(url) as connection:
            connection.execute("UPDATE points SET accuracy = %s WHERE id = 3", [number])
        for one in (store, other):
            (report,) = mirror(one, url=url)
            assert report.new == 1 or (number, report.new > 100) == (0, True)
    with open_dawarich(url, to="mirror"), pytest.raises(DatabaseError, match="somebody else mirrors it at the moment"):
        mirror(store, url=url)
    other.database.close()


def test_triggers_that_are_gone_are_not_relied_on(url: str, store: Store) -> None:
    fill(url, 2, 60)
    add_triggers(url)
    mirror(store, url=url)
    for statement, said in (
        ("ALTER TABLE points DISABLE TRIGGER trackgen_updated", "not as they should be"),
        ("DROP TRIGGER trackgen_updated ON points", "not as they should be"),
        ("DROP SCHEMA trackgen CASCADE", "none"),
    ):
        with dawarich.connect(url) as connection:
            connection.execute(statement)
            connection.execute("UPDATE points SET accuracy = accuracy + 1 WHERE id = 3")
            functions = "SELECT count(*) FROM pg_proc WHERE proname = 'list_changed_days'"
            assert connection.execute(functions).fetchone() == (int(said != "none"),)
        with open_dawarich(url) as there:
            assert changes.state(there).startswith(said)
        (report,) = mirror(store, url=url)
        assert (report.days, report.new) == (1, 1)


def shared_store(databases: postgres.Databases) -> Store:
    """A store in PostgreSQL that knows nobody."""
    if not hasattr(databases, "shared"):
        databases.shared = Store(Database(databases.new()))  # type: ignore[attr-defined]
    store: Store = databases.shared  # type: ignore[attr-defined]
    with store.write() as connection:
        connection.exec_driver_sql(
            "TRUNCATE users, devices, points, dirty_days, segments, tracks, legs, edits, stays, noise, item_days, "
            "dawarich_users, dawarich_days CASCADE"
        )
    return store


@pytest.mark.parametrize("version", [dawarich.OLD, dawarich.VERSION_1_7, dawarich.NEXT])
def test_other_versions(databases: postgres.Databases, store: Store, version: str) -> None:
    dawarich.create(url := databases.new(), version)
    fill(url, 2, 100)
    (report,) = mirrored(store, url)
    with open_dawarich(url) as there:
        assert there.schema_version == version
        assert report.new == there.counts()["points"] > 100
    assert compared(store, url).counts["lost"] == 0
    with store.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM points WHERE altitude IS NULL").scalar() == 0


def test_what_is_no_fix_or_nobodys_is_left_out(url: str, store: Store) -> None:
    user_id, gone = fill(url, 1, 60), fill(url, 1, 60, email="gone@example.org")
    with dawarich.connect(url) as connection:
        connection.execute("UPDATE points SET anomaly = true WHERE id <= 5")
        connection.execute("UPDATE points SET user_id = NULL WHERE id BETWEEN 6 AND 10")
        connection.execute("UPDATE points SET lonlat = 'POINT EMPTY' WHERE id = 11")
        connection.execute("UPDATE points SET lonlat = 'POINT(0 0)' WHERE id = 12")
        connection.execute("UPDATE points SET lonlat = NULL WHERE id = 13")
        connection.execute("UPDATE users SET deleted_at = now() WHERE id = %s", [gone])
        (count,) = connection.execute("SELECT count(*) FROM points WHERE user_id = %s", [user_id]).fetchone() or (0,)
    (report,) = mirrored(store, url)
    assert report.rejected == Counter({"no readable position": 1, "position exactly 0, 0": 1})
    assert report.new == count - 8
    with open_dawarich(url) as there:
        counts = there.counts()
    assert (counts["users"], counts["points_without_user"], counts["points_left_out"]) == (1, 5, 6)
    with dawarich.connect(url) as connection:  # and what was there goes when a user goes
        connection.execute("UPDATE users SET deleted_at = now()")
    (report,) = mirrored(store, url)
    assert (report.new, report.gone) == (0, count - 8)
    assert (world.tracks(store), world.rows(store, "points")) == ([], [])


@pytest.mark.parametrize(
    ("stored", "minutes", "metres", "notes"),
    [
        ({}, 30, 500, 0),
        (None, 30, 500, 0),
        ("text", 30, 500, 0),
        ({"minutes_between_routes": "60", "meters_between_routes": 1000}, 60, 1000, 0),
        ({"minutes_between_routes": 45.9, "meters_between_routes": " 12m"}, 45, 12, 0),
        ({"minutes_between_routes": None, "meters_between_routes": "far"}, 30, 500, 2),
        ({"minutes_between_routes": "0", "meters_between_routes": -5}, 30, 500, 2),
        ({"minutes_between_routes": 5000, "meters_between_routes": True}, 1440, 500, 2),
        ({"minutes_between_routes": 1e300, "timezone": "Mars/Olympus"}, 30, 500, 2),
    ],
)
def test_settings_are_read_as_dawarich_reads_them(stored: object, minutes: int, metres: int, notes: int) -> None:
    values, said = read_settings(stored)
    assert values == {"minutes_between_routes": minutes, "meters_between_routes": metres}
    assert len(said) == notes


def test_settings_are_mirrored_and_the_others_stay(url: str, store: Store) -> None:
    user_id = fill(url, 1, 60)
    mirrored(store, url)
    assert store.settings(ANNA).changed() == {
        **{"distance_rule": "off", "gap_rule": "fixed", "noise_filter": False, "stay_minutes": 0},
        **{"climb_threshold_m": 0, "length_smoothing": "off", "minutes_between_routes": 10},
    }
    store.set_settings(ANNA, {"stay_minutes": 5})
    with dawarich.connect(url) as connection:
        stored = json.dumps({"minutes_between_routes": 20, "timezone": "Europe/Berlin"})
        connection.execute("UPDATE users SET settings = %s, email = 'new@example.org' WHERE id = %s", [stored, user_id])
    (report,) = mirrored(store, url)
    assert (report.user, report.days) == (ANNA, 0)  # who was known stays who he is
    changed = store.settings(ANNA)
    assert (changed.minutes_between_routes, changed.timezone, changed.stay_minutes) == (20, "Europe/Berlin", 5)


def test_points_of_one_second_are_in_the_order_in_which_they_came(url: str, store: Store) -> None:
    with dawarich.connect(url) as connection:
        user_id = dawarich.add_user(connection, ANNA)
        rows = {"timestamp": np.arange(40) // 4 + 1_700_000_000, "lon": 8.5 - np.arange(40) * 1e-4, "lat": 50.0}
        dawarich.add_points(connection, user_id, pd.DataFrame(rows))
    mirrored(store, url)
    (points,) = store.read_all_points()
    assert points["seq"].tolist() == [0, 1, 2, 3] * 10
    assert points["lon"].is_monotonic_decreasing
    # What a file says of one of them stays when the mirror writes it anew.
    first = world.Point(ANNA, "", 1_700_000_000_000, 8.5, 50.0, pause=1, activity=2)
    world.add(store, [first])
    with dawarich.connect(url) as connection:
        connection.execute("UPDATE points SET accuracy = 7")
    mirrored(store, url)
    (points,) = store.read_all_points()
    assert points[["accuracy", "seq", "pause", "activity"]].values.tolist()[:2] == [[7, 0, 1, 2], [7, 1, 0, 0]]
    assert len(points) == 40


def test_points_of_another_origin_are_not_touched(url: str, store: Store) -> None:
    fill(url, 1, 60)
    with dawarich.connect(url) as connection:
        dawarich.add_user(connection, "")
    points = [world.Point(ANNA, "phone", 1_700_000_000_000, 8.0, 50.0, None, None)]
    world.add(store, points)
    refused, other = mirror(store, url=url)
    assert "points that do not come from Dawarich" in str(refused.error)
    assert (refused.user, other.user, other.error) == (ANNA, "dawarich-2", None)
    assert [one.user for one in mirror(store, ["dawarich-2"], url=url)] == ["dawarich-2"]
    with pytest.raises(UnknownUser, match="no such user in Dawarich: eve"):
        mirror(store, ["eve"], url=url)
    with pytest.raises(UnknownUser, match=f"not mirrored from Dawarich: {ANNA}"):
        mirrored_users(store, [ANNA])
    assert len(world.rows(store, "points")) == 1


@pytest.mark.parametrize("state", STATES)
def test_who_comes_later_begins_as_everyone_shall(url: str, store: Store, state: State) -> None:
    """What is said of one user is said of that one alone; what is said of everyone is said of those to come, too."""
    for email in ("eve@example.org", ANNA):
        fill(url, 1, 60, email=email)
        mirror(store, [email], url=url)
    set_state(store, "on", [user.user_id for user in mirrored_users(store, [ANNA])])
    with dawarich.connect(url) as connection:
        dawarich.add_user(connection, BOB)
    with open_dawarich(url) as there:
        users = there.users()
        assert states(store, users) == (
            {ANNA: "on", "eve@example.org": "shadow", BOB: "shadow"},
            "shadow",
        )
        set_state(store, "on")
        set_state(store, state)
        everyone = {user.email: state for user in users}
        assert states(store, users) == (everyone, state)
        mirror(store, url=url)
        assert {user.name: user.state for user in mirrored_users(store)} == everyone


# What is wrong with Dawarich's tracks ---------------------------------------------------------------------------------

NAMES = "id, start_at, end_at, user_id, original_path, distance, created_at, updated_at"
"""Columns that a track has in every version, and cannot be without."""


def test_every_planted_fault_is_counted_by_its_kind(url: str, store: Store) -> None:
    fill(url)
    with dawarich.connect(url) as connection:

        def tracks(condition: str) -> list[int]:
            rows = connection.execute(f"SELECT id FROM tracks WHERE {condition} ORDER BY start_at").fetchall()
            return [id for (id,) in rows]

        noon = tracks("extract(hour FROM start_at) = 12 AND extract(hour FROM end_at) = 13")
        evening = tracks("extract(hour FROM start_at) = 17")
        lost, late, cut, moved = noon[0], noon[1], noon[2], evening[0]
        connection.execute("UPDATE points SET track_id = NULL WHERE track_id = %s", [lost])
        connection.execute("DELETE FROM track_segments WHERE track_id = %s", [lost])
        connection.execute("DELETE FROM tracks WHERE id = %s", [lost])
        # Points that came late: the track ends before them.
        connection.execute(
            "UPDATE points SET track_id = NULL WHERE track_id = %s AND timestamp > %s",
            [late, (middle := dawarich.START_S + dawarich.DAY_S + int(12.5 * 3600))],
        )
        connection.execute(
            "UPDATE tracks SET end_at = to_timestamp(%s) AT TIME ZONE 'UTC' WHERE id = %s", [middle, late]
        )
        # Cut at half past twelve, as at the edge of a chunk.
        half = dawarich.START_S + 2 * dawarich.DAY_S + int(12.5 * 3600)
        connection.execute("UPDATE tracks SET end_at = to_timestamp(%s) AT TIME ZONE 'UTC' WHERE id = %s", [half, cut])
        connection.execute(
            f"INSERT INTO tracks ({NAMES}) SELECT 77, to_timestamp(%s + 40) AT TIME ZONE 'UTC', "
            "end_at + interval '30 min', user_id, original_path, 7, now(), now() FROM tracks WHERE id = %s",
            [half, cut],
        )
        connection.execute("UPDATE points SET track_id = 77 WHERE track_id = %s AND timestamp > %s", [cut, half])
        connection.execute("UPDATE tracks SET distance = distance * 1.5 WHERE id = %s", [moved])
        # Where nothing was recorded that counts.
        connection.execute(
            f"INSERT INTO tracks ({NAMES}) SELECT 78, start_at - interval '3 h', start_at - interval '2 h', user_id, "
            "original_path, 7, now(), now() FROM tracks WHERE id = %s",
            [moved],
        )
        connection.execute("UPDATE points SET track_id = 78 WHERE track_id = %s AND id %% 3 = 0", [evening[1]])
        (lost_points,) = connection.execute("SELECT count(*) FROM points WHERE track_id IS NULL").fetchone() or (0,)
        tracks_there = len(tracks("true"))
        ghosts = len(tracks("(SELECT count(*) FROM points WHERE track_id = tracks.id) < 2"))
    mirrored(store, url)
    found = compared(store, url)
    # Every morning's two rides are fused; of three nights, up to one track is a ghost, and two are over another one.
    wanted = {"fused": 9, "ghost": ghosts, "duplicate": 2, "lost": 1, "extra": 1, "split": 1, "changed": 3}
    assert found.counts == {kind: wanted.get(kind, 0) for kind in KINDS} | {"equal": tracks_there - 16 - ghosts}
    assert found.lost_points == lost_points - 1  # the first fix of all is in no track
    assert (len(found.rows), found.listed_days) == (17 + ghosts, 0)
    fused = found.rows[found.rows["kind"] == "fused"]
    assert (fused["tracks"] == 2).all()
    assert ((fused["our_m"] / fused["distance_m"]).astype(float).between(0.99, 1.01)).all()


INTERVALS = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20), st.integers(0, 9)), max_size=12)


@settings(max_examples=examples(25), deadline=None)
@given(INTERVALS, INTERVALS)
def test_every_track_is_of_one_kind(theirs: list, ours: list) -> None:
    there = frame(theirs)
    here = there.assign(length_mm=0)[:0] if not ours else frame(ours).assign(length_mm=5_000)
    rows = classify(there, here)
    judged, lost = rows[rows["kind"] != "lost"], rows[rows["kind"] == "lost"]
    assert sorted(judged["id"]) == sorted(there["id"])
    assert len(judged[judged["kind"].isin(["equal", "changed"])]) + judged.loc[
        judged["kind"] == "fused", "tracks"
    ].sum() + len(lost) <= len(here)
    assert (judged["kind"] == "ghost").sum() == (there["points"] < 2).sum()
    # What is there as it is here is right.
    apart = there[(there["points"] > 1) & (there["started_s"] > there["ended_s"].cummax().shift(fill_value=-1))]
    same = classify(apart, apart.assign(length_mm=apart["distance_m"] * 1000))
    assert (same["kind"] == "equal").all()
    assert len(same) == len(apart)


def frame(intervals: list[tuple[int, int, int]]) -> pd.DataFrame:
    rows = [
        (n, start, start + length, 5, points, "phone") for n, (start, length, points) in enumerate(sorted(intervals))
    ]
    return pd.DataFrame(rows, columns=[*TRACK_DTYPES]).astype(TRACK_DTYPES)


# What is written in their place ---------------------------------------------------------------------------------------

HUNDREDTH, METRE, FIFTH = Decimal("0.01"), Decimal(1), Decimal("0.00001")


@given(
    length_mm=st.integers(0, 2 * 10**14) | st.integers(0, 10**6).map(lambda n: n * 500),
    seconds=st.integers(0, 10**7),
    climb_cm=st.none() | st.integers(0, 10**7),
    altitude_cm=st.integers(-(10**6), 10**6),
)
def test_a_row_is_rounded_as_dawarich_rounds(
    length_mm: int, seconds: int, climb_cm: int | None, altitude_cm: int
) -> None:
    track = {"length_mm": length_mm, "started_ms": 0, "ended_ms": seconds * 1000, "mode": "train"}
    extreme = None if climb_cm is None else altitude_cm
    track |= {"elevation_gain_cm": climb_cm, "elevation_loss_cm": climb_cm}
    track |= {"elevation_min_cm": extreme, "elevation_max_cm": extreme}
    numbers = {name: "Int64" for name in track if name.startswith("elevation")}
    (row,) = track_rows(pd.DataFrame([track]).astype(numbers)).to_dict("records")
    metres = min((Decimal(length_mm) / 1000).quantize(METRE, ROUND_HALF_UP), Decimal(100_000_000))
    assert (row["distance"], row["duration"], row["dominant_mode"]) == (metres, seconds, 7)
    speed = (metres * 36 / 10 / seconds).quantize(HUNDREDTH, ROUND_HALF_UP) if seconds else Decimal(0)
    assert row["avg_speed"] == float(min(speed, Decimal("999999.99")))
    climb = int((Decimal(climb_cm or 0) / 100).quantize(METRE, ROUND_HALF_UP))
    assert (row["elevation_gain"], row["elevation_loss"]) == (climb, climb)
    assert row["elevation_min"] == row["elevation_max"] == int(Decimal(extreme or 0) / 100)


def test_a_speed_has_a_limit() -> None:
    assert speeds_kmh(np.array([10**8, 5]), np.array([1, 0])).tolist() == [999_999.99, 0.0]


@given(st.floats(-180, 180) | st.integers(-36_000_000, 36_000_000).map(lambda n: n / 200_000))
def test_degrees_are_rounded_as_they_are_written(degrees: float) -> None:
    for near in (degrees, np.nextafter(degrees, 400), np.nextafter(degrees, -400)):
        expected = Decimal(repr(float(near))).quantize(FIFTH, ROUND_HALF_UP)
        assert rounded_degrees(np.array([near]))[0] == float(expected)


def test_a_path_over_the_antimeridian_is_one_line() -> None:
    path = encode_path(np.array([[179.9, 1.0], [-179.9, 1.0], [-179.8, 1.0]]))
    (whole,) = decode_path(line(path))
    assert whole.tolist() == [[179.9, 1], [180, 1], [-180, 1], [-179.9, 1], [-179.8, 1]]


def written(store: Store, url: str, name: str = ANNA, **how: Any) -> WriteReport:
    (user,) = mirrored_users(store, [name])
    with open_dawarich(url, to="read" if how.get("dry_run") else "write") as there:
        return write_user(store, there, user, **how)


def rolled_back(store: Store, url: str, name: str = ANNA) -> None:
    (user,) = mirrored_users(store, [name])
    with open_dawarich(url, to="write") as there:
        rollback_user(there, user)


def dumped(url: str) -> dict[str, list[str]]:
    with dawarich.connect(url) as connection:
        return dawarich.dump(connection)


def assert_right(store: Store, url: str, user_id: int = 1, name: str = ANNA) -> None:
    """Dawarich's tables say what ours say, and what its own rules ask for."""
    found = compared(store, url, name)
    assert found.counts == dict.fromkeys(KINDS, 0) | {"equal": sum(found.counts.values())}
    assert found.lost_points == 0
    with dawarich.connect(url) as connection:
        rows = connection.execute(
            "SELECT extract(epoch FROM start_at) * 1000, extract(epoch FROM end_at) * 1000, "
            "(SELECT count(*) FROM points WHERE track_id = t.id), ST_NPoints(original_path), ST_SRID(original_path), "
            "duration, (SELECT array_agg(start_index || '-' || end_index ORDER BY start_index) "
            "FROM track_segments WHERE track_id = t.id) "
            "FROM tracks AS t WHERE user_id = %s ORDER BY start_at",
            [user_id],
        ).fetchall()
        ours = [track for track in world.tracks(store) if track.user == name]
        assert [row[:3] for row in rows] == [(track.started_ms, track.ended_ms, track.points) for track in ours]
        for (start, end, points, vertices, srid, duration, segments), track in zip(rows, ours, strict=True):
            assert (vertices, srid, duration * 1000) == (points, 4326, end - start)
            assert (segments[0][:2], segments[-1].split("-")[1]) == ("0-", str(points - 1))
            assert len(segments) == len(track.legs)
        dangling = (
            "SELECT count(*) FROM points AS p WHERE user_id = %s AND track_id IS NOT NULL AND NOT EXISTS ("
            "SELECT FROM tracks AS t WHERE t.id = p.track_id AND t.user_id = p.user_id)"
        )
        assert connection.execute(dangling, [user_id]).fetchone() == (0,)


@pytest.mark.parametrize("version", [dawarich.VERSION_1_7, dawarich.VERSION_1_7_5, dawarich.NEWEST])
def test_after_a_take_over_nothing_is_wrong_and_a_rollback_puts_everything_back(
    databases: postgres.Databases, store: Store, version: str
) -> None:
    dawarich.create(url := databases.new(), version)
    fill(url)
    other = fill(url, 2, email=BOB)
    with dawarich.connect(url) as connection:
        # What somebody corrected, a track of its own, points of a track that is not there any more.
        connection.execute("UPDATE track_segments SET source = 'user', max_speed = 33.3 WHERE id % 4 = 0")
        if version != dawarich.NEWEST:  # where a foreign key forbids it
            connection.execute("UPDATE points SET track_id = 4711 WHERE id % 50 = 0")
        ids = {id for (id,) in connection.execute("SELECT id FROM tracks WHERE user_id = 1").fetchall()}
    before = dumped(url)
    mirrored(store, url)
    dry = written(store, url, take_over=True, dry_run=True)
    assert dumped(url) == before
    report = written(store, url, take_over=True)
    assert {**vars(dry), "points": 0, "longest_s": 0.0} == {**vars(report), "points": 0, "longest_s": 0.0}
    ours = len([track for track in world.tracks(store) if track.user == ANNA])
    assert 0 < report.adopted < ours
    assert (report.new, report.removed, report.held_back) == (ours - report.adopted, len(ids) - report.adopted, 0)
    assert_right(store, url)
    with dawarich.connect(url) as connection:
        now = {id for (id,) in connection.execute("SELECT id FROM tracks WHERE user_id = 1").fetchall()}
    assert len(now & ids) == report.adopted  # links to them live on
    assert [row for row in dumped(url)["tracks"] if f",{other}," in row] == [
        row for row in before["tracks"] if f",{other}," in row
    ]
    rolled_back(store, url)
    assert dumped(url) == before
    rolled_back(store, url)
    assert dumped(url) == before
    assert written(store, url, take_over=True).adopted == report.adopted
    assert_right(store, url)


def test_what_does_not_change_keeps_its_row_and_what_does_its_id(url: str, store: Store) -> None:
    fill(url, 3)
    mirrored(store, url)
    written(store, url, take_over=True)
    before = dumped(url)
    assert written(store, url).equal == len(before["tracks"])
    assert dumped(url) == before
    with dawarich.connect(url) as connection:
        # Late points before a track begins: another first point, but the same track.
        query = (
            "SELECT id, start_at, points.id FROM tracks JOIN points ON track_id = tracks.id ORDER BY timestamp LIMIT 1"
        )
        id, start, first = connection.execute(query.replace("SELECT id", "SELECT tracks.id")).fetchone() or (0, 0, 0)
        connection.execute(
            "INSERT INTO points (user_id, timestamp, lonlat, tracker_id, created_at, updated_at) SELECT user_id, "
            "timestamp - 60, lonlat, tracker_id, now(), now() FROM points WHERE id = %s",
            [first],
        )
        # Of the last track, somebody has deleted the row; of another one, changed it.
        last, *_ = connection.execute("SELECT max(id) FROM tracks").fetchone() or (0,)
        connection.execute("UPDATE points SET track_id = NULL WHERE track_id = %s", [last])
        connection.execute("DELETE FROM track_segments WHERE track_id = %s", [last])
        connection.execute("DELETE FROM tracks WHERE id = %s", [last])
        connection.execute(
            "UPDATE tracks SET distance = 1 WHERE id = (SELECT min(id) FROM tracks WHERE id <> %s)", [id]
        )
        connection.execute("UPDATE tracks SET dominant_mode = 6")  # which people may
    mirrored(store, url)
    report = written(store, url)
    assert (report.new, report.changed, report.removed, report.held_back) == (1, 2, 0, 0)
    assert_right(store, url)
    with dawarich.connect(url) as connection:
        moved = connection.execute("SELECT start_at FROM tracks WHERE id = %s", [id]).fetchone()
        assert moved == (start - timedelta(seconds=60),)
        assert len(dumped(url)["tracks"]) == len(before["tracks"])
        kept = connection.execute("SELECT count(*) FROM tracks WHERE dominant_mode = 6").fetchone()
        assert kept == (len(before["tracks"]) - 3,)
        connection.execute("DELETE FROM points WHERE timestamp > %s", [dawarich.START_S + 2 * dawarich.DAY_S])
    mirrored(store, url)
    assert written(store, url).removed > 0
    assert_right(store, url)


def test_without_a_take_over_dawarichs_tracks_are_left_alone(url: str, store: Store) -> None:
    fill(url, 3)
    with dawarich.connect(url) as connection:
        gone = "SELECT id FROM tracks WHERE extract(hour FROM start_at) = 12"
        connection.execute(f"UPDATE points SET track_id = NULL WHERE track_id IN ({gone})")
        connection.execute(f"DELETE FROM track_segments WHERE track_id IN ({gone})")
        connection.execute("DELETE FROM tracks WHERE extract(hour FROM start_at) = 12")
    before = dumped(url)
    mirrored(store, url)
    report = written(store, url)
    assert (report.new, report.adopted, report.removed) == (3, 0, 0)
    assert report.held_back == len(world.tracks(store)) - 3
    after = dumped(url)
    assert set(before["tracks"]) < set(after["tracks"])
    assert len(set(after["points"]) - set(before["points"])) == report.points > 0
    assert compared(store, url).counts["lost"] == 0
    rolled_back(store, url)
    assert dumped(url) == before


def test_devices_noise_and_stays(url: str, store: Store) -> None:
    """Two devices at once, by the default settings: fixes that are set aside, or of a stay, are of no track."""
    with dawarich.connect(url) as connection:
        user_id = dawarich.add_user(connection, ANNA)
        ride = dawarich.history(1, 240, 3)
        spike = ride.iloc[[40]].assign(lon=20.0, timestamp=lambda rows: rows["timestamp"] + 1)
        home = ride.iloc[[-1]].loc[lambda rows: rows.index.repeat(60)]
        home = home.assign(
            timestamp=home["timestamp"] + 30 * np.arange(1, 61), lon=home["lon"] + np.arange(60) % 3 / 1e5
        )
        watch = ride.iloc[20:60].assign(tracker_id=None, timestamp=lambda rows: rows["timestamp"] + 7)
        for points in (ride, spike, home, watch):
            dawarich.add_points(connection, user_id, points)
    mirrored(store, url)
    store.set_settings(ANNA, {"preset": "default"})
    world.generate(store)
    assert len(world.noise(store)) == 1
    assert len(world.stays(store)) > 0
    report = written(store, url)
    assert report.new == len(world.tracks(store))
    assert {track.device for track in world.tracks(store)} == {"", "phone"}
    with dawarich.connect(url) as connection:
        (aside,) = connection.execute(
            "SELECT count(*) FROM points WHERE ST_X(lonlat::geometry) = 20 AND track_id > 0"
        ).fetchone() or (9,)
        # Where it gives points without a track back to the track around them, noise is of that track.
        assert aside == int(dawarich.has(connection, "tracks", "tracker_id"))
        numbers = connection.execute(
            "SELECT t.duration, max(timestamp) - min(timestamp), "
            f"count(DISTINCT coalesce({dawarich.device(connection)}, '')) "
            "FROM tracks AS t JOIN points ON track_id = t.id GROUP BY t.id"
        ).fetchall()
        assert len(numbers) == report.new
        assert all(duration == seconds and devices == 1 for duration, seconds, devices in numbers)
    assert written(store, url).equal == report.new


@pytest.mark.parametrize("finishes", [True, False])
def test_a_write_that_breaks_off_is_finished_or_put_back(
    url: str, store: Store, monkeypatch: pytest.MonkeyPatch, finishes: bool
) -> None:
    fill(url, 4, 200)
    before = dumped(url)
    mirrored(store, url)
    monkeypatch.setattr(transactions, "POINTS_AT_ONCE", 50)  # fewer than a night has

    def break_off(report: WriteReport, share: float) -> None:
        if share > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        written(store, url, take_over=True, progress=break_off)
    half = dumped(url)
    assert half != before
    if finishes:
        assert written(store, url, take_over=True).equal > 0
        assert_right(store, url)
        assert dumped(url) != half
    rolled_back(store, url)
    assert dumped(url) == before


def test_a_rollback_that_breaks_off_is_finished(url: str, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(url, 4, 200)
    before = dumped(url)
    mirrored(store, url)
    written(store, url, take_over=True)
    monkeypatch.setattr(transactions, "POINTS_AT_ONCE", 50)
    monkeypatch.setattr(transactions, "ATTEMPTS", 2)
    with dawarich.connect(url) as connection:
        changed = "SELECT max(p.id) FROM points AS p JOIN trackgen.saved_points AS s USING (id)"
        changed += " WHERE p.track_id <> s.track_id"
        connection.execute(f"SELECT FROM points WHERE id = ({changed}) FOR UPDATE")
        with pytest.raises(DatabaseError, match="are locked by somebody else for too long"):
            rolled_back(store, url)
    assert dumped(url) != before
    rolled_back(store, url)
    assert dumped(url) == before


def test_what_dawarich_makes_after_a_take_over_stays(url: str, store: Store) -> None:
    fill(url, 2)
    mirrored(store, url)
    written(store, url, take_over=True)
    with dawarich.connect(url) as connection:
        (last,) = connection.execute("SELECT max(id) FROM points").fetchone() or (0,)
        for name, hours in ((9_000_001, 0), (9_000_002, 30)):
            connection.execute(
                f"INSERT INTO tracks ({NAMES}) SELECT %s, start_at + %s * interval '1 h', end_at + %s * interval '1 h' "
                "+ interval '1 s', user_id, original_path, 7, now(), now() FROM tracks ORDER BY start_at DESC LIMIT 1",
                [name, hours, hours],
            )
            connection.execute("UPDATE points SET track_id = %s WHERE id > %s", [name, last - 5])
            connection.execute("UPDATE points SET track_id = %s WHERE id = %s", [9_000_001, last - 5])
    report = written(store, url)  # what lies over ours goes, and what lies elsewhere stays
    assert (report.points, report.removed, report.held_back) == (1, 1, 0)
    rolled_back(store, url)
    with dawarich.connect(url) as connection:
        assert connection.execute("SELECT count(*) FROM points WHERE track_id = 9000002").fetchone() == (5,)
        assert connection.execute("SELECT count(*) FROM tracks WHERE id = 9000001").fetchone() == (0,)
    assert written(store, url, take_over=True).removed > 0
    assert_right(store, url)


def test_where_we_have_no_track_none_is_left(url: str, store: Store) -> None:
    fill(url, 1)
    with dawarich.connect(url) as connection:
        connection.execute("UPDATE points SET user_id = NULL")
    before = dumped(url)
    mirrored(store, url)
    assert compared(store, url).counts["extra"] == len(before["tracks"])
    assert written(store, url).equal == 0
    assert dumped(url) == before
    assert written(store, url, take_over=True).removed == len(before["tracks"])
    assert dumped(url)["tracks"] == dumped(url)["track_segments"] == []
    rolled_back(store, url)
    assert dumped(url) == before


def test_nothing_is_written_while_work_is_listed(url: str, store: Store) -> None:
    fill(url, 1, 60)
    mirror(store, url=url)
    before = dumped(url)
    with pytest.raises(ValueError, match=r"work is listed on \d days of anna@example.org: `trackgen generate` first"):
        written(store, url, take_over=True)
    assert dumped(url) == before


def test_nobody_waits_for_long_and_locks_of_others_are_waited_for(url: str, store: Store) -> None:
    fill(url, 3)
    mirrored(store, url)
    with dawarich.connect(url) as connection:
        connection.execute("UPDATE points SET battery = 7 WHERE id % 100 = 0")
        done: list[WriteReport] = []
        writer = threading.Thread(target=lambda: done.append(written(store, url, take_over=True)))
        writer.start()
        time.sleep(1.0)  # it holds its own locks for less than that, and then waits without any
        with dawarich.connect(url) as other:
            other.execute("SET lock_timeout = '1s'")
            assert other.execute("UPDATE points SET battery = 8 WHERE id % 100 <> 0").rowcount > 800
        assert not done
    writer.join(60)
    assert (done[0].adopted, done[0].held_back) == (len(world.tracks(store)) - 3, 0)
    assert_right(store, url)


def test_only_one_writes_for_a_user(url: str, store: Store) -> None:
    fill(url, 1, 60)
    mirrored(store, url)
    with dawarich.connect(url) as connection:
        connection.execute("SELECT pg_advisory_lock(%s, 1)", [WRITER])
        with pytest.raises(DatabaseError, match="somebody else writes tracks of anna"):
            written(store, url)


@pytest.mark.parametrize("with_triggers", [False, True])
def test_in_the_shadow_of_a_busy_dawarich(url: str, store: Store, with_triggers: bool) -> None:
    """Points come, change and go all the while, and tracks are written; in the end it is as if all had come at once."""
    fill(url, 3)
    if with_triggers:
        add_triggers(url)
    mirrored(store, url)
    stop = threading.Event()

    def live() -> int:
        rng = np.random.default_rng(1)
        changes = 0
        with dawarich.connect(url) as connection:
            connection.autocommit = True
            connection.execute("SET lock_timeout = '1s'")  # nobody has to wait for longer
            while not stop.is_set():
                started = time.perf_counter()
                second = dawarich.START_S + int(rng.integers(0, 3 * dawarich.DAY_S))
                connection.execute(
                    "INSERT INTO points (user_id, timestamp, lonlat, tracker_id, created_at, updated_at) "
                    "SELECT 1, %s + n, ST_MakePoint(8 + n / 1e4, 50)::geography, 'phone', now(), now() "
                    "FROM generate_series(1, 10) AS n ON CONFLICT DO NOTHING",
                    [second],
                )
                connection.execute("UPDATE points SET anomaly = true WHERE id = %s", [int(rng.integers(1, 900))])
                connection.execute("DELETE FROM points WHERE id = %s", [int(rng.integers(1, 900))])
                changes += 1
                time.sleep(max(0.0, started + 12 / 500 - time.perf_counter()))  # 500 rows a second
        return changes

    with ThreadPoolExecutor(1) as pool:
        busy = pool.submit(live)
        try:
            for _ in range(4):
                mirrored(store, url)
                compared(store, url)
                written(store, url, take_over=True)
        finally:
            stop.set()
        assert busy.result() > 10
    mirrored(store, url)
    written(store, url, take_over=True)
    assert_right(store, url)
    fresh = Store(Database(f"sqlite:///{store.database.name}.fresh"))
    mirrored(fresh, url)
    assert world.tracks(fresh) == world.tracks(store)
    assert written(fresh, url).equal == len(world.tracks(fresh))
    fresh.database.close()


# The database itself --------------------------------------------------------------------------------------------------


def test_a_database_that_is_none_of_dawarich_is_refused(databases: postgres.Databases) -> None:
    with pytest.raises(DatabaseError, match="table users lacks id, email, settings"), open_dawarich(databases.new()):
        pass
    with (
        pytest.raises(DatabaseError, match="does not exist"),
        open_dawarich(databases.server.replace("/postgres?", "/x?")),
    ):
        pass


def test_it_is_opened_to_read_alone(url: str) -> None:
    with pytest.raises(DatabaseError, match="read-only transaction"), open_dawarich(url) as there:
        there.connection.execute("UPDATE points SET track_id = 7")


def test_who_may_only_read_may_do_so(url: str, store: Store) -> None:
    fill(url, 1, 60)
    with dawarich.connect(url) as connection:
        connection.execute("DROP ROLE IF EXISTS reader")
        connection.execute("CREATE ROLE reader LOGIN")
        connection.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader")
    reader = url.replace("trackgen@", "reader@")
    mirrored(store, reader)
    assert compared(store, reader).counts["lost"] == 0
    with open_dawarich(reader) as there:
        assert not there.may_write()
    with open_dawarich(url) as there:
        assert there.may_write()
    with dawarich.connect(url) as connection:
        connection.execute("DROP OWNED BY reader; DROP ROLE reader")


def test_triggers_need_few_rights(url: str, store: Store) -> None:
    """Who installs them need not own the points, and who writes points needs no right on what they write."""
    fill(url, 2, 60)
    roles = {"reader": "SELECT", "installer": "SELECT, TRIGGER", "app": "SELECT, INSERT, UPDATE, DELETE"}
    as_role = {role: url.replace("trackgen@", f"{role}@") for role in roles}
    with dawarich.connect(url) as connection:
        for role, rights in roles.items():
            connection.execute(f"DROP ROLE IF EXISTS {role}")
            connection.execute(f"CREATE ROLE {role} LOGIN")
            connection.execute(f"GRANT {rights} ON ALL TABLES IN SCHEMA public TO {role}")
        connection.execute(f"GRANT CREATE ON DATABASE {connection.info.dbname} TO installer")
    add_triggers(as_role["installer"])
    mirror(store, url=as_role["installer"])
    with dawarich.connect(as_role["app"]) as connection:
        connection.execute("UPDATE points SET accuracy = 7 WHERE id = 3")
    assert listed(url) == [(1, 0)]
    (report,) = mirror(store, url=as_role["reader"])  # reads everything, and takes nothing
    assert (report.new, listed(url)) == (1, [(1, 0)])
    for _ in range(2):
        (report,) = mirror(store, url=as_role["installer"])
        assert (report.new, listed(url)) == (0, [])
    with dawarich.connect(as_role["app"]) as connection:
        connection.execute("UPDATE points SET accuracy = 8 WHERE id = 3")
    (report,) = mirror(store, url=as_role["installer"])
    assert (report.new, listed(url)) == (1, [])
    with open_dawarich(as_role["installer"], to="write") as there:
        in_transaction(there, WriteReport(""), changes.remove)
        assert changes.state(there) == "none"
    with dawarich.connect(url) as connection:
        connection.execute("DROP OWNED BY reader, installer, app; DROP ROLE reader, installer, app")


def test_on_the_command_line(url: str, tmp_path: Path) -> None:
    fill(url)
    env = {"TRACKGEN_DAWARICH_URL": url.replace("postgresql://", "postgis://")}
    assert "TRACKGEN_DAWARICH_URL is not set" in run(tmp_path, "dawarich", "mirror").stderr
    before = dumped(url)
    found = f"{len(before['tracks'])} tracks"
    assert found in trackgen(tmp_path, "dawarich", "connect", env=env)
    (report,) = json.loads(trackgen(tmp_path, "dawarich", "mirror", "--json", env=env))
    assert report["new"] > 2000
    done = run(tmp_path, "dawarich", "compare", env=env)
    assert done.stderr == "work is listed on 9 days: `trackgen generate` does it\n"
    store = world.open_store(tmp_path)
    world.generate(store)
    store.database.close()
    assert "9 fused     several of ours in one" in trackgen(tmp_path, "dawarich", "compare", env=env)
    (found,) = json.loads(trackgen(tmp_path, "dawarich", "compare", "--user", ANNA, "--json", env=env))
    assert found["counts"]["fused"] == len([row for row in found["rows"] if row["kind"] == "fused"]) == 9
    nothing = trackgen(tmp_path, "dawarich", "write", "--user", ANNA, "--take-over", "--dry-run", env=env)
    assert nothing.endswith("nothing was written\n")
    assert "not on: anna" in run(tmp_path, "dawarich", "write", "--user", ANNA, env=env).stderr
    assert dumped(url) == before
    assert f"  shadow: {ANNA}\n  who comes later will be: shadow\n" in trackgen(
        tmp_path, "dawarich", "connect", env=env
    )
    assert trackgen(tmp_path, "dawarich", "enable") == f"{ANNA}: on\nwho comes later: on\n"
    assert "triggers are installed" in trackgen(tmp_path, "dawarich", "triggers", "install", env=env)
    assert json.loads(trackgen(tmp_path, "dawarich", "connect", "--json", env=env))["triggers"] == "installed"
    assert "27 taken over" in trackgen(tmp_path, "dawarich", "write", "--take-over", env=env)
    assert f"{len(before['tracks'])} put back" in trackgen(tmp_path, "dawarich", "rollback", "--user", ANNA, env=env)
    assert dumped(url) == before
    assert trackgen(tmp_path, "dawarich", "write", "--json", env=env) == "[]\n"  # it is in the shadow again
    assert "triggers are removed" in trackgen(tmp_path, "dawarich", "triggers", "remove", env=env)
    assert trackgen(tmp_path, "dawarich", "disable", "--user", ANNA) == f"{ANNA}: off\n"
    assert trackgen(tmp_path, "dawarich", "mirror", "--json", env=env) == "[]\n"
