"""What fails costs only itself: days that cannot be done become dead letters, and all the others are done."""

from __future__ import annotations

import os
import signal
import sqlite3
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.strategies import DataObject
from sqlalchemy import exc

from tests import reference, strategies, world
from tests.effort import examples
from tests.reference import Point, Track
from tests.strategies import DAY_MS, MINUTE_MS
from trackgen_core import database, generation, parallel
from trackgen_core.database import DatabaseError
from trackgen_core.failures import Backoff, classify
from trackgen_core.generation import Window, WindowResult, day_stats, mark_all, plan
from trackgen_core.parallel import WindowFailure, do_windows
from trackgen_core.settings import Settings, SettingsError
from trackgen_core.store import STAGES, Stage, Store, version_ms
from trackgen_core.verification import lost_points, overlaps, wrong_tracks

DAY = 19_800
USERS = ("anna", "bob", "zoë")
TWICE = Backoff(attempts=2, first_s=0.0)
NONSENSE = ["", "{", "[]", "5", '{"minuts_between_routes": 5}', '{"minutes_between_routes": "soon"}']
RUBBISH = ["'abc'", "x'00ff'", "CAST(x'ff' AS TEXT)"]
"""What SQLite takes for a longitude: a text, bytes, and a text that is none."""

Cell = tuple[str, int]
"""A user and a day."""


def history(users: Collection[str] = USERS, days: int = 5) -> list[Point]:
    """Rides of every user on every day, one of them across midnight."""
    return [
        Point(user, "phone", (DAY + day) * DAY_MS + start_ms + i * MINUTE_MS, 10.0 + i / 2000, 47.0, 400.0)
        for user in users
        for day in range(days)
        for start_ms in (DAY_MS // 2, DAY_MS - 10 * MINUTE_MS)
        for i in range(20)
    ]


def cells(points: Iterable[Point]) -> set[Cell]:
    return {(point.user, world.day(point)) for point in points}


def without(points: Sequence[Point], bad: Collection[Cell]) -> list[Point]:
    return [point for point in points if (point.user, world.day(point)) not in bad]


def execute(store: Store, statement: str, *values: object) -> None:
    with store.write() as connection:
        connection.exec_driver_sql(statement, values)


def plant(store: Store, bad: Iterable[Cell], rubbish: str = "'abc'") -> None:
    for user, day in bad:
        execute(
            store,
            f"""INSERT INTO points (device_id, time_ms, lon, lat) SELECT min(device_id), ?, {rubbish}, 47.0
                FROM devices JOIN users USING (user_id) WHERE users.name = ?""",
            day * DAY_MS + DAY_MS // 2,  # so far from midnight that no other day looks at it
            user,
        )


def weed(store: Store) -> None:
    execute(store, "DELETE FROM points WHERE typeof(lon) <> 'real'")


def revive(store: Store) -> None:
    with store.write() as connection:
        for stage in STAGES:
            store.revive(connection, stage)


def results_of(
    store: Store, stage: Stage, backoff: Backoff = TWICE, workers: int = 1
) -> Iterator[WindowResult | WindowFailure]:
    with store.read() as connection:
        windows = plan(store.dirty(connection, stage, dead=False))
    return do_windows(store, stage, windows, workers, backoff)


def do(store: Store, backoff: Backoff = TWICE, stages: Collection[Stage] = STAGES) -> list[WindowFailure]:
    """Do all that is listed, and return what failed."""
    return [
        result for stage in stages for result in results_of(store, stage, backoff) if isinstance(result, WindowFailure)
    ]


def cells_of(store: Store, windows: Iterable[Window]) -> Counter[Cell]:
    with store.read() as connection:
        devices = store.devices(connection)
    names = dict(zip(devices["user_id"], devices["user"], strict=True))
    return Counter(
        (names[user_id], day)
        for window in windows
        for user_id in window.user_ids
        for day in range(window.lo_day, window.hi_day + 1)
    )


def dead(store: Store) -> list[tuple[object, ...]]:
    """Stage, user, day and attempts of the dead letters."""
    with store.read() as connection:
        letters = store.dead_letters(connection)
    assert letters["error"].notna().all()
    return list(letters[["stage", "user", "day", "attempts"]].itertuples(index=False, name=None))


def tracks(found: Iterable[Track]) -> list[Track]:
    """Tracks, without telling those that start with the first point of the device from others after a pause."""
    return [replace(one, break_reason=one.break_reason.replace("start", "time_gap")) for one in found]


def expected(points: Sequence[Point], rules: dict[str, Settings] | None = None) -> list[Track]:
    return tracks(reference.tracks(points, rules or {})[0])


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return world.open_store(tmp_path)


@dataclass(frozen=True)
class Interrupted(Backoff):
    """A wait in which something happens, before the attempt with this number."""

    before: int = 2
    happens: Callable[[], object] = field(default=lambda: None)

    def delay(self, attempt: int) -> float:
        if attempt + 1 == self.before:
            self.happens()
        return self.first_s


# Settings that cannot be read


def break_settings(store: Store, user: str, nonsense: str = "{") -> None:
    execute(store, "UPDATE users SET settings = ? WHERE name = ?", nonsense, user)


@pytest.mark.parametrize("nonsense", NONSENSE)
def test_settings_that_cannot_be_read_stop_nobody_else(store: Store, nonsense: str) -> None:
    points = history()
    world.add(store, points)
    break_settings(store, "bob", nonsense)
    failures = do(store)
    assert cells_of(store, [failure.window for failure in failures]) == Counter(cells(history(["bob"])))
    assert {(failure.kind, failure.attempts) for failure in failures} == {("data", 2)}
    assert all("user 'bob'" in failure.error and "trackgen settings set" in failure.error for failure in failures)
    assert dead(store) == [("segments", "bob", DAY + day, 2) for day in range(6)]
    assert tracks(world.tracks(store)) == expected(history(["anna", "zoë"]))
    assert do(store) == []

    with pytest.raises(SettingsError, match="user 'bob'"):
        store.settings("bob")
    store.set_settings("bob", {"minutes_between_routes": 15})
    assert dead(store) == []
    assert do(store) == []
    rules = {"bob": Settings(minutes_between_routes=15)}
    assert (world.tracks(store), world.leftover(store)) == reference.tracks(points, rules)


def test_what_looks_at_all_users_goes_on_without_unreadable_settings(store: Store) -> None:
    lonely = Point("bob", "phone", (DAY + 9) * DAY_MS, 10.0, 47.0, None)
    world.add(store, [*history(), lonely])
    do(store)
    before = day_stats(store, DAY, DAY + 9)
    assert before.loc[DAY + 9, "leftover"] == 1
    break_settings(store, "bob")
    after = day_stats(store, DAY, DAY + 9)
    assert after.loc[DAY + 9, "leftover"] == 0
    assert after.drop(columns="leftover").equals(before.drop(columns="leftover"))
    assert lost_points(store, DAY, DAY + 9) == ([], 1)
    assert wrong_tracks(store, DAY, DAY + 9, sample=100) == ([], 1)
    assert overlaps(store, DAY, DAY + 9) == ([], 0)
    with store.read() as connection:
        assert len(store.settings_of(connection, readable_only=True)) == 2
        with pytest.raises(SettingsError, match="user 'bob'"):
            store.settings_of(connection)


def test_mended_settings_revive_tracks_of_which_no_segment_changes(store: Store) -> None:
    points = history()
    world.add(store, points)
    do(store, stages=["segments"])
    break_settings(store, "bob")
    do(store, stages=["tracks"])
    assert {letter[:2] for letter in dead(store)} == {("tracks", "bob")}
    store.set_settings("bob", {})
    assert do(store) == []
    assert world.tracks(store) == reference.tracks(points, {})[0]
    assert world.dirty(store) == 0


def test_mended_settings_revive_days_that_have_no_points_any_more(store: Store) -> None:
    points = history(["bob"])
    world.add(store, points)
    do(store)
    break_settings(store, "bob")
    store.delete_points("bob")
    do(store)
    assert len(dead(store)) == 6
    store.set_settings("bob", {"minutes_between_routes": 30})
    assert do(store) == []
    assert (world.rows(store, "segments"), world.tracks(store)) == ([], [])


def test_settings_that_cannot_be_read_are_only_replaced_by_good_ones(store: Store) -> None:
    world.add(store, history(["bob"]))
    break_settings(store, "bob", "nonsense")
    with pytest.raises(SettingsError, match="max_speed_kmh"):
        store.set_settings("bob", {"max_speed_kmh": 0})
    with pytest.raises(SettingsError, match="cannot be read"):
        store.settings("bob")


# Points that cannot be read


@pytest.mark.parametrize("rubbish", RUBBISH)
def test_a_point_that_cannot_be_read_costs_its_day_only(store: Store, tmp_path: Path, rubbish: str) -> None:
    points, bad = history(), ("bob", DAY + 2)
    world.add(store, points)
    plant(store, [bad], rubbish)
    (failure,) = do(store)
    assert cells_of(store, [failure.window]) == {bad: 1}
    assert (failure.kind, failure.attempts) == ("data", 2)
    assert dead(store) == [("segments", *bad, 2)]
    assert tracks(world.tracks(store)) == expected(without(points, {bad}))
    assert do(store) == []
    assert lost_points(store, DAY, DAY + 9) == ([], 1)

    weed(store)
    assert do(store) == []
    revive(store)
    assert do(store) == []
    clean = world.open_store(tmp_path / "clean")
    world.add(clean, points)
    do(clean)
    for table in ("points", "segments", "tracks"):
        assert world.rows(store, table) == world.rows(clean, table)
    assert world.dirty(store) == 0


def test_new_points_revive_a_dead_letter(store: Store) -> None:
    points, bad = history(), ("bob", DAY + 2)
    late = Point("bob", "phone", (DAY + 2) * DAY_MS + MINUTE_MS, 11.0, 47.0, None)
    world.add(store, points)
    plant(store, [bad])
    do(store)
    weed(store)
    world.add(store, [late])
    assert dead(store) == []
    assert do(store) == []
    assert (world.tracks(store), world.leftover(store)) == reference.tracks([*points, late], {})


def test_a_dead_letter_counts_its_attempts_until_it_is_revived(store: Store) -> None:
    bad = ("anna", DAY)
    world.add(store, history(["anna"], 1))
    plant(store, [bad])
    for backoff in (TWICE, Backoff(3, 0.0)):
        do(store, backoff)
        assert dead(store) == [("segments", *bad, backoff.attempts)]
        assert do(store) == []
        mark_all(store, "segments", DAY, DAY)
        assert dead(store) == []


def test_broken_segments_cost_their_surroundings_only(store: Store) -> None:
    points = history(days=20)
    world.add(store, points)
    do(store, stages=["segments"])
    execute(store, "UPDATE segments SET length_mm = 'abc' WHERE device_id = 2 AND day = ? AND number = 1", DAY + 10)
    failures = do(store)
    lost = cells_of(store, [failure.window for failure in failures])
    assert ("bob", DAY + 10) in lost
    assert all(user == "bob" and abs(day - DAY - 10) <= 5 for user, day in lost)
    assert {letter[1:3] for letter in dead(store)} == set(lost)
    others = expected(history(["anna", "zoë"], 20))
    assert [track for track in tracks(world.tracks(store)) if track.user != "bob"] == others
    (result,) = do_windows(store, "tracks", [Window(DAY, DAY + 12, (1, 2, 3))], 1, TWICE)
    assert isinstance(result, WindowResult)

    execute(store, "DELETE FROM segments WHERE typeof(length_mm) = 'text'")
    mark_all(store, "segments", *world.ALL_DAYS)
    revive(store)
    assert do(store) == []
    assert world.tracks(store) == reference.tracks(points, {})[0]


# Cutting


def test_cutting_finds_every_bad_day_of_a_large_window(store: Store) -> None:
    points = history(days=31)
    bad = {("anna", DAY), ("anna", DAY + 1), ("bob", DAY + 17), ("zoë", DAY + 31)}
    world.add(store, points)
    plant(store, bad)
    with store.read() as connection:
        (window,) = plan(store.dirty(connection, "segments"))
    assert window.user_days == 32 * 3
    results = list(results_of(store, "segments"))
    assert set(cells_of(store, [one.window for one in results if isinstance(one, WindowFailure)])) == bad
    assert cells_of(store, [one.window for one in results]) == cells_of(store, [window])
    assert do(store) == []
    assert tracks(world.tracks(store)) == expected(without(points, bad))


def test_halves_hold_the_window_and_nothing_else() -> None:
    window = Window(DAY, DAY + 4, (1, 2, 3))
    assert window.halves() == (Window(DAY, DAY + 4, (1,)), Window(DAY, DAY + 4, (2, 3)))
    assert Window(DAY, DAY + 4, (3,)).halves() == (Window(DAY, DAY + 2, (3,)), Window(DAY + 3, DAY + 4, (3,)))
    assert Window(DAY, DAY + 1, (3,)).halves() == (Window(DAY, DAY, (3,)), Window(DAY + 1, DAY + 1, (3,)))


@hypothesis_settings(max_examples=examples(6), deadline=None, suppress_health_check=list(HealthCheck))
@given(case=strategies.cases(), data=st.data())
def test_exactly_the_bad_days_fail(case: tuple[list[Point], dict[str, Settings]], data: DataObject) -> None:
    points, some = case
    # Without noise and stays: what a fix of another day is must not depend on one of a bad day.
    rules = {user: strategies.by_breaks_alone(some.get(user, Settings())) for user in strategies.USERS}
    every = sorted(cells(points))
    bad = set(data.draw(st.lists(st.sampled_from(every), unique=True))) if every else set()
    with tempfile.TemporaryDirectory() as folder:
        clean, store = world.open_store(Path(folder) / "clean"), world.open_store(Path(folder))
        for one in (clean, store):
            world.set_settings(one, rules)
            world.add(one, points)
        plant(store, bad)
        do(clean)
        failures = do(store)
        assert cells_of(store, [failure.window for failure in failures]) == Counter(bad)
        assert dead(store) == [("segments", user, day, 2) for day, user in sorted((day, user) for user, day in bad)]
        with store.read() as connection:
            devices = store.devices(connection)["user"]
        made, all_made = (world.rows(one, "segments") for one in (store, clean))
        assert made == [row for row in all_made if (devices[row[0]], row[1]) not in bad]
        assert tracks(world.tracks(store)) == expected(without(points, bad), rules)

        weed(store)
        revive(store)
        assert do(store) == []
        assert world.rows(store, "segments") == all_made
        assert world.rows(store, "tracks") == world.rows(clean, "tracks")


def test_after_many_failures_windows_are_not_cut_between_days(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "MOST_FAILURES", 3)
    monkeypatch.setattr(generation, "DAYS_PER_WINDOW", 5)
    points = history(days=20)
    world.add(store, points)
    break_settings(store, "bob")
    failures = do(store)
    assert len(dead(store)) == 3
    assert max(failure.window.days for failure in failures) == 5
    assert all(failure.attempts == 1 for failure in failures if failure.window.days > 1)
    assert set(cells_of(store, [failure.window for failure in failures])) == cells(history(["bob"], 20))
    assert tracks(world.tracks(store)) == expected(history(["anna", "zoë"], 20))


# Trying again


def fail_writes(store: Store) -> None:
    execute(store, "CREATE TRIGGER no_segments BEFORE INSERT ON segments BEGIN SELECT RAISE(FAIL, 'not now'); END")


def test_what_succeeds_in_the_end_leaves_no_trace(store: Store) -> None:
    points = history(["anna"], 1)[:20]
    world.add(store, points)
    fail_writes(store)
    backoff = Interrupted(4, 0.01, before=3, happens=lambda: execute(store, "DROP TRIGGER no_segments"))
    assert do(store, backoff) == []
    assert (world.dirty(store), dead(store)) == (0, [])
    assert world.tracks(store) == reference.tracks(points, {})[0]


def test_a_day_that_waits_does_not_keep_others_from_being_done(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation, "DAYS_PER_WINDOW", 1)
    world.add(store, history(days=2))
    plant(store, [(user, DAY) for user in USERS])
    results = list(results_of(store, "segments", Interrupted(2, 2.0)))
    assert [isinstance(one, WindowFailure) for one in results] == [False] * 2 + [True] * 3


def test_waits_double_and_vary() -> None:
    backoff = Backoff(attempts=5, first_s=0.5)
    for attempt in range(1, 5):
        delays = [backoff.delay(attempt) for _ in range(200)]
        assert 0.25 * 2 ** (attempt - 1) <= min(delays) < max(delays) <= 0.75 * 2 ** (attempt - 1)


@pytest.fixture
def locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[sqlite3.Connection]:
    """Another connection, which can lock the database so that nobody else waits long for it."""
    monkeypatch.setattr(database, "BUSY_TIMEOUT_MS", 20)
    world.open_store(tmp_path)
    connection = sqlite3.connect(tmp_path / "trackgen.db", isolation_level=None, check_same_thread=False)
    yield connection
    connection.close()


@pytest.mark.parametrize("stage", STAGES)
def test_a_database_that_comes_back_was_never_away(
    tmp_path: Path, locked: sqlite3.Connection, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generation, "DAYS_PER_WINDOW", 2)
    store, points = world.open_store(tmp_path), history()
    world.add(store, points)
    do(store, stages=STAGES[: STAGES.index(stage)])
    locked.execute("BEGIN EXCLUSIVE")
    assert do(store, Interrupted(4, 0.0, before=3, happens=lambda: locked.execute("ROLLBACK"))) == []
    assert world.dirty(store) == 0
    assert world.tracks(store) == reference.tracks(points, {})[0]


@pytest.mark.parametrize("stage", STAGES)
def test_if_the_database_stays_away_the_rest_is_not_tried(
    tmp_path: Path, locked: sqlite3.Connection, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generation, "DAYS_PER_WINDOW", 2)
    store, points = world.open_store(tmp_path), history()
    world.add(store, points)
    do(store, stages=STAGES[: STAGES.index(stage)])
    with store.read() as connection:
        listed = store.dirty(connection, stage)
        windows = plan(listed)
    locked.execute("BEGIN EXCLUSIVE")
    first, *rest = do_windows(store, stage, windows, 1, Backoff(3, 0.0))
    assert [first.window, *(failure.window for failure in rest)] == windows
    assert (first.kind, first.attempts) == ("database", 3)
    assert "database is locked" in first.error
    assert {(one.kind, one.attempts, one.error) for one in rest} == {("database", 0, f"not tried: {first.error}")}
    locked.execute("ROLLBACK")
    with store.read() as connection:
        assert store.dirty(connection, stage).equals(listed)
    assert do(store) == []
    assert world.tracks(store) == reference.tracks(points, {})[0]


def test_what_was_tried_before_the_database_was_given_up_says_so(tmp_path: Path, locked: sqlite3.Connection) -> None:
    store = world.open_store(tmp_path)
    world.add(store, history(["anna"]))
    plant(store, [("anna", DAY)])
    windows = [Window(day, day, (1,)) for day in (DAY, DAY + 1, DAY + 2)]
    locked.execute("BEGIN EXCLUSIVE")
    delays = iter([60.0, 0.0, 0.0])

    class Listed(Backoff):
        def delay(self, attempt: int) -> float:
            return next(delays)

    failures = list(do_windows(store, "segments", windows, 1, Listed(3)))
    assert {(one.window.lo_day, one.kind, one.attempts) for one in failures} == {
        (DAY, "data", 1),
        (DAY + 1, "database", 3),
        (DAY + 2, "database", 0),
    }


# Dead letters


def test_points_that_arrive_while_a_day_fails_keep_it_alive(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    points = history(["anna"], 1)[:20]
    late = points[-1]._replace(time_ms=points[-1].time_ms + MINUTE_MS)
    world.add(store, points)
    plant(store, [("anna", DAY)])
    make_segments = parallel.make_segments

    def make_late(*args):
        try:
            return make_segments(*args)
        finally:
            world.add(store, [late])

    monkeypatch.setattr(parallel, "make_segments", make_late)
    (failure,) = do(store, Backoff(1), ["segments"])
    assert failure.kind == "data"
    assert dead(store) == []
    weed(store)
    assert do(store) == []
    assert world.tracks(store) == reference.tracks([*points, late], {})[0]


def test_a_failure_that_cannot_be_noted_says_both(store: Store) -> None:
    world.add(store, history(["anna"], 1)[:20])
    plant(store, [("anna", DAY)])
    execute(store, "CREATE TRIGGER full BEFORE UPDATE ON dirty_days BEGIN SELECT RAISE(FAIL, 'no room'); END")
    (failure,) = do(store)
    assert "'abc'" in failure.error
    assert "could not be noted" in failure.error
    assert "no room" in failure.error
    assert dead(store) == []
    assert world.dirty(store) == 1


def test_dead_letters_are_left_alone_by_their_window(store: Store) -> None:
    world.add(store, history())
    plant(store, [("bob", DAY + 2)])
    do(store)
    (result,) = do_windows(store, "segments", [Window(DAY, DAY + 5, (1, 2, 3))], 1, TWICE)
    assert isinstance(result, WindowResult)
    # A window that has other work, too, is cut around the dead letter.
    with store.write() as connection:
        store.mark(connection, "segments", store.days_with_segments(connection, *world.ALL_DAYS), is_change=False)
    results = list(do_windows(store, "segments", [Window(DAY, DAY + 5, (1, 2, 3))], 1, TWICE))
    assert len(results) > 1
    assert all(isinstance(one, WindowResult) for one in results)
    assert dead(store) == [("segments", "bob", DAY + 2, 2)]


# Processes


@pytest.fixture
def workers_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is done before workers are there."""
    monkeypatch.setattr(parallel, "TRIAL_S", 0.0)
    monkeypatch.setattr(parallel, "START_S", 60.0)
    monkeypatch.setattr(parallel, "_warm", threading.Event())


def die_of_anna(url: str, stage: Stage, window: Window) -> WindowResult | WindowFailure:
    """Do what a worker does, unless the window holds a certain day of the first user."""
    if 1 in window.user_ids and window.lo_day <= DAY + 1 <= window.hi_day:
        os.kill(os.getpid(), signal.SIGKILL)
    return DO_IN_WORKER(url, stage, window)


DO_IN_WORKER = parallel._do_in_worker


@pytest.mark.usefixtures("workers_at_once")
def test_a_window_that_kills_its_worker_is_cut_down_to_the_day(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "_do_in_worker", die_of_anna)
    monkeypatch.setattr(generation, "DAYS_PER_WINDOW", 2)
    points, bad = history(["anna", "bob"]), ("anna", DAY + 1)
    world.add(store, points)
    results = list(results_of(store, "segments", TWICE, workers=2))
    (failure,) = (one for one in results if isinstance(one, WindowFailure))
    assert cells_of(store, [failure.window]) == {bad: 1}
    assert (failure.kind, failure.attempts) == ("bug", 2)
    assert dead(store) == [("segments", *bad, 2)]
    assert do(store) == []
    assert tracks(world.tracks(store)) == expected(without(points, {bad}))


def die_at_once() -> None:
    os._exit(1)


@pytest.mark.usefixtures("workers_at_once")
def test_workers_that_cannot_start_are_no_fault_of_a_day(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "_start_worker", die_at_once)
    monkeypatch.setattr(generation, "DAYS_PER_WINDOW", 1)
    world.add(store, history())
    failures = [one for one in results_of(store, "segments", TWICE, workers=2) if isinstance(one, WindowFailure)]
    assert {failure.kind for failure in failures} == {"database"}
    assert [failure.attempts for failure in failures] == [2]
    assert dead(store) == []
    assert do(store) == []


@pytest.mark.usefixtures("workers_at_once")
def test_workers_find_the_bad_days_too(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation, "DAYS_PER_WINDOW", 4)
    points, bad = history(days=30), {("anna", DAY), ("bob", DAY + 1), ("bob", DAY + 29), ("zoë", DAY + 14)}
    world.add(store, points)
    plant(store, bad)
    results = list(results_of(store, "segments", Backoff(2, 0.01), workers=2))
    assert set(cells_of(store, [one.window for one in results if isinstance(one, WindowFailure)])) == bad
    assert {letter[1:3] for letter in dead(store)} == bad
    assert do(store) == []
    assert tracks(world.tracks(store)) == expected(without(points, bad))


def test_a_worker_without_a_database_reports_it(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    failure = DO_IN_WORKER(f"sqlite:///{tmp_path}/file/trackgen.db", "segments", Window(DAY, DAY, (1,)))
    assert isinstance(failure, WindowFailure)
    assert failure.kind == "database"


# The work list


def listed(store: Store, stage: Stage = "segments") -> dict[int, dict[str, int]]:
    """The entries of a stage by day."""
    with store.read() as connection:
        entries = store.dirty(connection, stage)
    return entries.set_index("day").to_dict("index")


@pytest.fixture
def aged(store: Store) -> Store:
    """Two days of one user, listed long ago; the first is a dead letter."""
    world.add(store, history(["anna"], 1))
    execute(store, "UPDATE dirty_days SET listed_ms = 1")
    with store.write() as connection:
        version = listed(store)[DAY]["version"]
        store.note_failure(connection, "segments", 1, DAY, version, 3, "ValueError: no")
    return store


def days(store: Store, lo_day: int, hi_day: int) -> object:
    with store.read() as connection:
        return store.days_with_points(connection, [1], lo_day, hi_day)


def test_a_change_lists_days_anew_and_keeps_when_they_were_listed_first(aged: Store) -> None:
    before = listed(aged)
    with aged.write() as connection:
        aged.mark(connection, "segments", days(aged, DAY, DAY))
    after = listed(aged)
    version = after[DAY]["version"]
    assert version > before[DAY]["version"]
    assert after[DAY + 1] == before[DAY + 1]
    alive = {"user_id": 1, "version": version, "listed_ms": 1, "is_change": 1, "attempts": 0}
    assert after[DAY] == alive
    assert dead(aged) == []


def test_a_request_lists_only_what_is_not_listed_and_revives(aged: Store) -> None:
    world.add(aged, [Point("anna", "phone", (DAY + 5) * DAY_MS, 10.0, 47.0, None)])
    execute(aged, "DELETE FROM dirty_days WHERE day = ?", DAY + 5)
    before = listed(aged)
    mark_all(aged, "segments", *world.ALL_DAYS)
    after = listed(aged)
    assert after[DAY] == before[DAY] | {"attempts": 0}
    assert after[DAY + 1] == before[DAY + 1]
    version = after[DAY + 5]["version"]
    asked = {"user_id": 1, "version": version, "listed_ms": version_ms(version), "is_change": 0, "attempts": 0}
    assert after[DAY + 5] == asked
    assert dead(aged) == []


def test_requests_revive_dead_letters_of_days_that_have_nothing_any_more(aged: Store) -> None:
    execute(aged, "DELETE FROM points")
    mark_all(aged, "segments", DAY, DAY)
    assert dead(aged) == []
    assert do(aged) == []
    assert world.dirty(aged) == 0


def test_what_is_listed_anew_while_it_is_done_waits_from_then_on(aged: Store) -> None:
    with aged.read() as connection:
        seen = aged.dirty(connection, "segments")
    with aged.write() as connection:
        aged.mark(connection, "segments", days(aged, DAY, DAY))
        aged.clear(connection, "segments", seen)
    (entry,) = listed(aged).values()
    assert entry["version"] not in set(seen["version"])
    assert entry["listed_ms"] == version_ms(entry["version"])


def test_a_failure_of_what_was_listed_anew_is_not_noted(aged: Store) -> None:
    seen = listed(aged)[DAY + 1]["version"]
    world.add(aged, [Point("anna", "phone", (DAY + 1) * DAY_MS + DAY_MS // 2, 10.0, 47.0, None)])
    with aged.write() as connection:
        aged.note_failure(connection, "segments", 1, DAY + 1, seen, 1, "late")
    assert dead(aged) == [("segments", "anna", DAY, 3)]


def test_dead_letters_are_told_apart_and_revived_by_range(aged: Store) -> None:
    with aged.read() as connection:
        assert aged.dirty(connection, "segments", dead=False)["day"].tolist() == [DAY + 1]
        assert aged.dirty(connection, "segments")["day"].tolist() == [DAY, DAY + 1]
        (letter,) = aged.dead_letters(connection, [1]).to_dict("records")
        assert aged.dead_letters(connection, [2]).empty
    told = {"stage": "segments", "user": "anna", "day": DAY, "attempts": 3, "error": "ValueError: no", "listed_ms": 1}
    assert letter == told
    with aged.write() as connection:
        for scope in (("tracks",), ("segments", DAY + 1), ("segments", None, DAY - 1), ("segments", DAY, DAY, [2])):
            aged.revive(connection, *scope)
    assert len(dead(aged)) == 1
    with aged.write() as connection:
        aged.revive(connection, "segments", DAY, DAY, [1])
    assert dead(aged) == []


# Kinds


SQL = ("SELECT", {})


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ValueError(), "data"),
        (SettingsError(), "data"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, ""), "data"),
        (OverflowError(), "data"),
        (sqlite3.IntegrityError(), "data"),
        (exc.IntegrityError(*SQL, sqlite3.IntegrityError()), "data"),
        (exc.DataError(*SQL, sqlite3.DataError()), "data"),
        (sqlite3.OperationalError("Could not decode to UTF-8 column 'lon' with text"), "data"),
        (exc.OperationalError(*SQL, sqlite3.OperationalError("Could not decode to UTF-8 column 'lon'")), "data"),
        (sqlite3.OperationalError("database is locked"), "database"),
        (exc.OperationalError(*SQL, sqlite3.OperationalError("disk I/O error")), "database"),
        (exc.InterfaceError(*SQL, sqlite3.InterfaceError()), "database"),
        (exc.ProgrammingError(*SQL, sqlite3.ProgrammingError(), connection_invalidated=True), "database"),
        (exc.ProgrammingError(*SQL, sqlite3.ProgrammingError()), "bug"),
        (DatabaseError(), "database"),
        (OSError(), "database"),
        (ConnectionResetError(), "database"),
        (MemoryError(), "bug"),
        (TypeError(), "bug"),
        (KeyError(), "bug"),
        (AssertionError(), "bug"),
    ],
    ids=repr,
)
def test_kinds_of_failures(error: BaseException, kind: str) -> None:
    assert classify(error) == kind
