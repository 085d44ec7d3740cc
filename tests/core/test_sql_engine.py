"""Two engines, one result: what SQL makes of the points is what is stored, whatever the points and settings."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DataObject

from tests import postgres, strategies, world
from tests.command_line import run, trackgen
from tests.core.test_ties import tied
from tests.effort import examples
from tests.reference import Point
from tests.scenarios import MINUTE, SCENARIOS, STAYS_AND_NOISE, at, fix, ride
from trackgen_core.database import Database, DatabaseError, bulk_insert
from trackgen_core.merging import TRACK_DTYPES
from trackgen_core.points import MS_PER_DAY
from trackgen_core.settings import Settings, make_settings
from trackgen_core.sql_engine import Comparison, compare, read_sql_tracks
from trackgen_core.store import Store

pytestmark = pytest.mark.xdist_group("postgresql")

few = settings(
    max_examples=examples(4),
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],
)


@pytest.fixture(scope="module")
def databases() -> Iterator[postgres.Databases]:
    with postgres.postgis_databases() as databases:
        yield databases


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
    """All at once, from each day on, and day by day, which adds up to all."""
    whole = compare(store)
    assert_agreed(whole)
    if not days:
        return
    every_day = range(days[0] - 1, days[-1] + 2) if days[-1] - days[0] < 10 else days
    parts = [compare(store, None, day, day) for day in every_day]
    for part in [*parts, compare(store, None, days[0], days[len(days) // 2])]:
        assert_agreed(part)
    assert sum(part.tracks for part in parts) == whole.tracks


@st.composite
def rules_of_gaps(draw: st.DrawFn, settings: Settings) -> Settings:
    """The same settings with any rule of gaps and silences, and mostly with plain lengths, which are compared."""
    values = {
        "gap_rule": draw(st.sampled_from(["adaptive", "fixed"])),
        "silent_stay_m": draw(st.sampled_from([500, 0, 75, 10_000])),
        "length_smoothing": draw(st.sampled_from(["off", "off", "on"])),
    }
    return settings.model_copy(update=values)


@st.composite
def recordings(draw: st.DrawFn, points: list[Point]) -> list[Point]:
    """The same points with pauses, and with some of them at the time of the one before, in the order of a file."""
    found: list[Point] = []
    kinds = st.sampled_from(["", "", "", "", "pause", "same time"])
    for point in points:
        kind, before = draw(kinds), found[-1] if found else None
        if before and kind == "same time" and (before.user, before.device) == (point.user, point.device):
            point = point._replace(time_ms=before.time_ms, seq=before.seq + 1)
        found.append(point._replace(pause=int(kind == "pause")))
    return found


@few
@given(strategies.cases(), st.data())
def test_breaks_noise_stays_and_midnight(store: Store, case, data: DataObject) -> None:
    points, rules = case
    rules = {user: data.draw(rules_of_gaps(rules.get(user, Settings()))) for user in strategies.USERS}
    points = data.draw(recordings(points))
    clear(store)
    world.set_settings(store, rules)
    world.add(store, points)
    world.generate(store)
    assert_engines_agree(store, sorted({world.day(point) for point in points}))


@few
@given(tied(), strategies.settings_of_rest(), st.data())
def test_points_of_one_instant(store: Store, points, rules: Settings, data: DataObject) -> None:
    rules = data.draw(rules_of_gaps(rules))
    clear(store)
    for user in {point.user for point in points}:
        store.set_settings(user, rules.model_dump())
    world.add(store, points)
    world.generate(store)
    assert_engines_agree(store, sorted({world.day(point) for point in points}))


@few
@given(strategies.lives(), strategies.settings_of_rest(), st.data())
def test_edits(store: Store, points, rules: Settings, data: DataObject) -> None:
    rules, points = data.draw(rules_of_gaps(rules)), data.draw(recordings(points))
    clear(store)
    store.set_settings("anna", rules.model_dump())
    world.add(store, points)
    world.edit(store, data.draw(strategies.edits(points)))
    world.generate(store)
    assert_engines_agree(store, sorted({world.day(point) for point in points}))


def test_all_scenarios_at_once(store: Store) -> None:
    everything = [*SCENARIOS, *STAYS_AND_NOISE]
    tracks = 0
    for number, scenario in enumerate(everything):
        tracks += scenario.tracks
        points = [point._replace(user=f"{number:03} {point.user}") for point in scenario.remaining]
        for user in {point.user for point in points}:
            store.set_settings(user, make_settings(scenario.settings).model_dump())
        world.add(store, points)
    world.generate(store)
    assert_agreed(compare(store), tracks)
    with store.read() as connection:
        names = store.names_of(connection).values()
    for user in names:
        store.set_settings(user, {"length_smoothing": "off"})
    world.generate(store)
    plain = compare(store)
    assert_agreed(plain, tracks)
    assert plain.smoothed == 0
    expected, found = ([*read(store)] for read in (Store.read_tracks, read_sql_tracks))
    names = ["track_id", "user", "device", "started_ms", "ended_ms", "points", "length_mm", "avg_speed_kmh"]
    assert pd.concat(expected)[names].to_dict("list") == pd.concat(found)[names].to_dict("list")


def every(minutes: float, metres: list[float], start: str = "10:00") -> list[Point]:
    return [fix(at(start) + round(n * minutes * MINUTE), m) for n, m in enumerate(metres)]


RULES_BETWEEN_STAYS: dict[str, tuple[list[Point], dict[str, object], int]] = {
    "a silent stay ends two tracks": (
        [*every(1, [500.0 * n for n in range(31)]), *every(1, [14_800.0 - 500.0 * n for n in range(31)], "13:00")],
        {},
        2,
    ),
    "a link that leads too far is no silent stay": (
        [*every(1, [500.0 * n for n in range(31)]), *every(1, [14_800.0 - 500.0 * n for n in range(31)], "10:45")],
        {"silent_stay_m": 100, "gap_rule": "fixed"},
        1,
    ),
    "a point every 40 minutes is a track": (every(40, [9000.0 * n for n in range(8)]), {}, 1),
    "a point every 40 minutes, by fixed gaps": (every(40, [9000.0 * n for n in range(8)]), {"gap_rule": "fixed"}, 0),
    "two and a half times the interval": (
        [*every(20, [9000.0 * n for n in range(4)]), *every(20, [90_000 + 9000.0 * n for n in range(4)], "11:50")],
        {},
        1,
    ),
    "more than two and a half times the interval": (
        [*every(20, [9000.0 * n for n in range(4)]), *every(20, [90_000 + 9000.0 * n for n in range(4)], "11:51")],
        {},
        2,
    ),
    "the interval is a median": (
        [
            fix(at(time), 9000.0 * n)
            for n, time in enumerate(("10:00", "10:20", "10:40", "10:45", "11:35", "11:55", "12:15"))
        ],
        {},
        1,
    ),
    "two stays with a silence between": (
        [*every(1, [0.0] * 15), *every(1, [300.0] * 15, "11:00")],
        {"minutes_between_routes": 90},
        0,
    ),
    "a flight of 900 km": (
        [*every(1, [500.0 * n for n in range(31)]), *every(1, [9e5 + 500.0 * n for n in range(31)], "13:00")],
        {},
        1,
    ),
    "a phone that wakes up at night": (
        [
            *every(1, [500.0 * n - 7000 for n in range(15)], "09:46"),
            *(fix(at("11:30"), 20.0), fix(at("11:33"), 60.0), fix(at("13:00"), 10.0)),
            *every(1, [500.0 * n for n in range(15)], "15:00"),
        ],
        {},
        2,
    ),
    "a stay that creeps is cut, and no track goes over the cut": (every(5, [10.0 * n for n in range(100)]), {}, 0),
    "two points in one minute are half a minute apart": (
        [
            point._replace(time_ms=point.time_ms // MINUTE * MINUTE, seq=n % 2)
            for n, point in enumerate(every(0.5, [700.0 * n for n in range(60)]))
        ],
        {},
        1,
    ),
    "a pause has no length": (
        [point._replace(pause=int(n == 20)) for n, point in enumerate(every(1, [500.0 * n for n in range(31)]))],
        {},
        1,
    ),
    "a pause before noise has no length": (
        [
            fix(at("10:00") + n * MINUTE, 500.0 * n + 90_000.0 * (n == 20))._replace(pause=int(n == 20))
            for n in range(31)
        ],
        {},
        1,
    ),
    "the same place every hour, without silent stays": (
        every(60, [0.0] * 6),
        {"stay_minutes": 10, "silent_stay_m": 0},
        1,
    ),
}


@pytest.mark.parametrize("case", RULES_BETWEEN_STAYS)
def test_a_rule_between_stays(store: Store, case: str) -> None:
    points, rules, tracks = RULES_BETWEEN_STAYS[case]
    store.set_settings("anna", {"length_smoothing": "off", **rules})
    world.add(store, points)
    world.generate(store)
    assert_agreed(compare(store), tracks)


def test_a_day_is_read_with_what_reaches_into_it_and_no_more(store: Store) -> None:
    """A chain of ten days is one track: of the day on which it starts, wherever one looks from."""
    store.set_settings("anna", {"noise_filter": False, "stay_minutes": 0, "gap_rule": "fixed"})
    points = [fix(at("10:00") + n * 20 * MINUTE, 100.0 * n) for n in range(720)]
    world.add(store, [*ride("05:00", 10), *points, *ride("15 05:00", 10)])
    world.generate(store)
    first_day = at("00:00") // MS_PER_DAY
    tracks = {day: sum(map(len, read_sql_tracks(store, None, day, day))) for day in range(first_day, first_day + 16)}
    assert tracks == {day: {first_day: 2, first_day + 14: 1}.get(day, 0) for day in tracks}
    assert compare(store, None, first_day + 5, first_day + 13).links == 720  # one leads to the track
    assert compare(store, None, first_day + 14, first_day + 14).links == 10
    assert_agreed(compare(store, ["anna"], first_day, first_day), 2)


def links(count: int) -> np.ndarray:
    """Links of every kind, (n, 4): longitude and latitude of one end and of the other."""
    rng = np.random.default_rng(1)
    lon, lat = rng.uniform(-180, 180, count), rng.uniform(-85, 85, count)

    def off(degrees: float) -> np.ndarray:
        return rng.uniform(-degrees, degrees, count)

    opposite = np.where(lon > 0, lon - 180, lon + 180)
    none, pole = np.zeros(count), 90 - np.abs(off(1e-4))
    kinds = [
        (lon, lat, lon + off(0.01), lat + off(0.01)),
        (lon.round(5), lat.round(5), (lon + off(0.001)).round(5), (lat + off(0.001)).round(5)),
        (lon, lat, lon + off(1e-8), lat + off(1e-8)),  # shorter than a millimetre
        (lon, lat, lon, lat),
        (lon, lat, off(180), off(90)),
        (lon, lat, opposite, -lat),
        (lon, lat, opposite + off(0.25), -lat + off(0.5)),
        (off(180), pole, off(180), pole),
        (off(180), none + 90, off(180), np.where(lon > 0, 90.0, -90.0)),
        (180 - np.abs(off(1e-3)), lat, -180 + np.abs(off(1e-3)), lat + off(1e-3)),
        (none + 180, lat, none - 180, lat + off(1e-3)),
        (off(180), none, off(180), none),
    ]
    return np.clip(np.concatenate([np.column_stack(kind) for kind in kinds]), [-180, -90] * 2, [180, 90] * 2)


def test_a_million_links_have_the_same_length_in_both(store: Store) -> None:
    ends = links(42_000)
    with store.write() as connection:
        connection.exec_driver_sql("INSERT INTO users (user_id, name) VALUES (1, 'anna')")
        connection.exec_driver_sql("INSERT INTO devices (device_id, user_id, name) VALUES (1, 1, '')")
        # Every other link joins two of these; by far the most of them are of other kinds than those.
        columns = {
            "time_ms": np.arange(2 * len(ends)) * 1000,
            "lon": ends[:, ::2].ravel(),
            "lat": ends[:, 1::2].ravel(),
        }
        bulk_insert(connection, "points", {"device_id": np.ones(2 * len(ends), np.int64), **columns})
    store.set_settings("anna", {"noise_filter": False, "stay_minutes": 0, "distance_rule": "off"})
    with store.write() as connection:
        connection.exec_driver_sql("DELETE FROM dirty_days")
    found = compare(store)
    assert (found.links, found.tracks) == (2 * len(ends) - 1, 1)
    (missing,) = found.first
    assert "follows from the points, but is not stored" in missing
    # What differs lies within `NEAR_HALF_MM` of a half: about one in 30,000 does, and few of them fall apart.
    assert found.near_half <= 20


FAULTS = {
    "UPDATE tracks SET length_mm = length_mm + 1 WHERE started_ms = {0}": (
        "length_mm is 18000001, but SQL gives 18000000"
    ),
    "DELETE FROM tracks WHERE started_ms = {0}": "follows from the points, but is not stored",
    "INSERT INTO tracks SELECT 'x' || track_id, {columns} FROM tracks WHERE started_ms = {0}": "is stored once more",
    "UPDATE tracks SET points = 7 WHERE started_ms = {0}": "points is 7, but SQL gives 31",
    "UPDATE tracks SET break_reason = 'distance' WHERE started_ms <> {0}": "SQL gives 'time_gap'",
    "UPDATE tracks SET ended_ms = ended_ms - 1000 WHERE started_ms = {0}": "ended_ms is",
    "UPDATE tracks SET started_ms = started_ms - 1 WHERE started_ms = {0}": "does not follow from the points",
    "UPDATE tracks SET path = overlay(path PLACING '\\x00'::bytea FROM 17) WHERE started_ms = {0}": "31 vertices",
    "DELETE FROM points WHERE time_ms = {0} + 600000": "points is 31, but SQL gives 30",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found_and_named(store: Store, fault: str) -> None:
    store.set_settings("anna", {"noise_filter": False, "stay_minutes": 0, "length_smoothing": "off"})
    world.add(store, [*ride("10:00", 31), *ride("15:00", 31)])
    world.generate(store)
    assert_agreed(compare(store), 2)
    columns = ", ".join(name for name in TRACK_DTYPES if name != "track_id")
    with store.write() as connection:
        connection.exec_driver_sql(fault.format(at("10:00"), columns=columns))
    found = compare(store)
    assert found.differences
    assert any(FAULTS[fault] in difference for difference in found.first)
    assert all(difference.startswith("anna, phone, 2024-03-01T") for difference in found.first)


def test_lengths_without_jitter_are_not_compared(store: Store, tmp_path: Path) -> None:
    world.add(store, ride("10:00", 31))
    world.generate(store)
    with store.write() as connection:
        connection.exec_driver_sql("UPDATE tracks SET length_mm = 17")
    found = compare(store)
    assert_agreed(found, 1)
    assert found.smoothed == 1
    env = {"TRACKGEN_DATABASE_URL": store.database.url}
    assert "lengths of 1 track not compared" in trackgen(tmp_path, "verify", "--engine", "sql", env=env)
    assert json.loads(trackgen(tmp_path, "verify", "--engine", "sql", "--json", env=env))["lengths_left_out"] == 1
    store.set_settings("anna", {"length_smoothing": "off"})
    with store.write() as connection:
        connection.exec_driver_sql("DELETE FROM dirty_days")
    found = compare(store)
    assert (found.smoothed, found.differences) == (0, 1)
    assert "length_mm is 17, but SQL gives" in found.first[0]


def test_work_that_is_listed_is_no_difference(store: Store) -> None:
    world.add(store, ride("10:00", 31))
    found = compare(store)
    assert (found.differences, found.left_out, found.tracks, found.stored) == (0, 1, 1, 0)
    world.generate(store)
    assert_agreed(compare(store), 1)


def test_on_the_command_line(store: Store, tmp_path: Path) -> None:
    env = {"TRACKGEN_DATABASE_URL": store.database.url}
    store.set_settings("anna", {"noise_filter": False, "stay_minutes": 0, "length_smoothing": "off"})
    world.add(store, ride("10:00", 31))
    world.generate(store)
    for engine in ("python", "sql"):
        trackgen(tmp_path, "verify", "--engine", engine, "--user", "anna", "--start", "2024-02-01", env=env)
    stored, made = (
        list(csv.DictReader(io.StringIO(trackgen(tmp_path, "tracks", "export", "--engine", engine, env=env))))
        for engine in ("python", "sql")
    )
    unknown = dict.fromkeys((name for name in stored[0] if name.startswith("elevation")), "")
    assert made == [track | unknown for track in stored]
    assert run(tmp_path, "tracks", "export", "--engine", "sql", "--format", "gpx", env=env).returncode == 2

    with store.write() as connection:
        connection.exec_driver_sql("UPDATE tracks SET length_mm = 17")
    for engine, word in (("python", "length_mm is 17"), ("sql", "length_mm is 17, but SQL gives 18000000")):
        done = run(tmp_path, "verify", "--engine", engine, env=env)
        assert done.returncode == 1
        assert word in done.stdout
        report = run(tmp_path, "verify", "--engine", engine, "--json", env=env)
        assert (report.returncode, json.loads(report.stdout)["passed"]) == (1, False)

    world.add(store, ride("20:00", 31))
    done = run(tmp_path, "verify", "--engine", "sql", env=env)
    assert (done.returncode, done.stderr) == (
        0,
        "work is listed on 1 day, left out: `trackgen generate` does it\n",
    )


def test_without_postgis_it_says_what_to_do(databases: postgres.Databases, tmp_path: Path) -> None:
    bare = Store(Database(databases.new()))
    with pytest.raises(DatabaseError, match="CREATE EXTENSION postgis"):
        compare(bare)
    bare.database.close()
    with pytest.raises(DatabaseError, match="needs PostgreSQL with PostGIS"):
        next(read_sql_tracks(Store(Database(f"sqlite:///{tmp_path}/trackgen.db"))))
