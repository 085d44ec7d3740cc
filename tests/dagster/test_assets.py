"""The assets in real runs: the law, what a run says of itself, checks, failures, and the event log."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby, pairwise
from pathlib import Path
from random import Random
from typing import Any

import dagster as dg
import pytest
import sqlalchemy
from dagster._core.storage.event_log import SqliteEventLogStorage
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.strategies import DataObject

from tests import reference, strategies, world
from tests.dagster.homes import embedded_instance
from tests.effort import examples
from tests.reference import Point
from tests.scenarios import SCENARIOS, Scenario, assert_expected
from trackgen_core import generation
from trackgen_core.settings import Settings, make_settings
from trackgen_core.store import Store
from trackgen_dagster.definitions import defs
from trackgen_dagster.event_log import BatchedSqliteEventLogStorage
from trackgen_dagster.partitions import RANGE_TAGS, day_of, key_of

BOTH = ("segments", "tracks")
CHECKS = {"points_conserved", "no_overlap", "sample_recomputed", "days_add_up", "legs_tile"}
MINUTE = 60_000


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dg.DagsterInstance]:
    """One embedded instance for all tests that ask Dagster about single runs only."""
    with embedded_instance(tmp_path_factory.mktemp("instance")) as instance:
        yield instance


@pytest.fixture
def fresh_instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with embedded_instance(tmp_path / "instance") as instance:
        yield instance


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with stored_in(tmp_path) as store:
        yield store


@contextmanager
def stored_in(folder: Path) -> Iterator[Store]:
    """A fresh database, and the assets work on it."""
    with pytest.MonkeyPatch.context() as patch:
        store = world.open_store(folder)
        patch.setenv("TRACKGEN_DATABASE_URL", store.database.url)
        yield store
        store.database.close()


def run(
    instance: dg.DagsterInstance,
    days: Collection[int],
    assets: Sequence[str] = BOTH,
    **config: Any,
) -> dg.ExecuteInProcessResult:
    """Run the job over all days from the first to the last of `days`, as the UI does it: by tags."""
    lo, hi = key_of(min(days)), key_of(max(days))
    return defs.resolve_job_def("generate").execute_in_process(
        instance=instance,
        tags={RANGE_TAGS[0]: lo, RANGE_TAGS[1]: hi},
        asset_selection=[dg.AssetKey(name) for name in assets],
        run_config={
            "ops": {name: {"config": {"workers": 1} | config} for name in assets},
            "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
        },
        raise_on_error=False,
    )


def failed_checks(result: dg.ExecuteInProcessResult) -> set[str]:
    checks = result.get_asset_check_evaluations()
    assert {check.check_name for check in checks} == CHECKS
    return {check.check_name for check in checks if not check.passed}


def materialised(instance: dg.DagsterInstance, asset: str) -> set[str]:
    return instance.get_materialized_partitions(dg.AssetKey(asset))


def metadata_by_day(result: dg.ExecuteInProcessResult, asset: str) -> dict[str, dict[str, Any]]:
    found = {}
    for event in result.asset_materializations_for_node(asset):
        assert event.partition not in found
        found[event.partition] = {name: value.value for name, value in event.metadata.items()}
    return found


def ride(user: str, start_ms: int, count: int, lon: float = 10.0) -> list[Point]:
    """A fix a minute, 360 m apart."""
    return [Point(user, "phone", start_ms + i * MINUTE, lon + i * 0.005, 45.0, 100.0 + i) for i in range(count)]


def rides(users: Sequence[str], days: Sequence[int]) -> list[Point]:
    """Every user rides every day at noon, over every other midnight between, and is seen once more in the evening."""
    points = []
    for user in users:
        for day in days:
            noon = day * strategies.DAY_MS + strategies.DAY_MS // 2
            points += ride(user, noon, 20) + ride(user, noon + 6 * 60 * MINUTE, 1)
            if day % 2 and day < days[-1]:
                points += ride(user, noon + (12 * 60 - 5) * MINUTE, 15, lon=11.0)
    return points


DAYS = range(19_800, 19_806)


# The law


def days_of(points: Collection[Point]) -> list[int]:
    return sorted({world.day(point) for point in points})


MIDNIGHT_SCENARIOS = [scenario for scenario in SCENARIOS if len(days_of(scenario.points)) > 1]


def of_user(scenario: Scenario, points: Sequence[Point]) -> list[Point]:
    """The points of a scenario, as those of a user of its own: so all scenarios fit into one database."""
    return [point._replace(user=scenario.name) for point in points]


def in_random_order(days: Sequence[int], random: Random) -> list[Sequence[int]]:
    """The first days, where most scenarios meet midnight, each by itself; of the others some ranges."""
    cuts = [0, 1, 2, 3, 4, *sorted(random.sample(range(5, len(days)), 3)), len(days)]
    ranges = [days[a:b] for a, b in pairwise(cuts)]
    random.shuffle(ranges)
    return ranges


@pytest.mark.parametrize("grouping", ["at once", "day by day"])
def test_scenarios_in_any_grouping_of_days(grouping: str, instance: dg.DagsterInstance, store: Store) -> None:
    days = days_of([point for scenario in MIDNIGHT_SCENARIOS for point in scenario.points])
    random = Random(grouping)
    parts = [days] if grouping == "at once" else in_random_order(days, random)
    for scenario in MIDNIGHT_SCENARIOS:
        store.set_settings(scenario.name, make_settings(scenario.settings).model_dump())
        for batch in scenario.arrivals[:2] if len(scenario.arrivals) > 1 else ():
            world.add(store, of_user(scenario, batch))
    assert run(instance, days).success
    for scenario in MIDNIGHT_SCENARIOS:
        world.add(store, of_user(scenario, scenario.points))
    if grouping == "at once":
        assert run(instance, days).success
    for scenario in MIDNIGHT_SCENARIOS:
        world.delete(store, of_user(scenario, scenario.deleted))

    for part in parts:
        for assets in random.choice([[BOTH], [["segments"], ["tracks"]]]):
            result = run(instance, part, assets)
            assert result.success
            assert "tracks" not in assets or not failed_checks(result)
    for scenario in MIDNIGHT_SCENARIOS:
        tracks = [track for track in world.tracks(store) if track.user == scenario.name]
        left = len(reference.distinct(scenario.remaining)) - sum(track.points for track in tracks)
        assert_expected(scenario, tracks, left)
    assert world.dirty(store) == 0


@hypothesis_settings(
    max_examples=examples(3),
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
@given(strategies.cases(max_points=30), st.data())
def test_any_runs_that_cover_the_days_give_the_reference(instance: dg.DagsterInstance, case, data: DataObject) -> None:
    points, rules = case
    days = days_of(points) or list(DAYS)
    chunks = data.draw(strategies.groupings(days[:2] + days[2:][-1:]))[:3]
    with tempfile.TemporaryDirectory() as folder, stored_in(Path(folder)) as store:
        world.set_settings(store, rules)
        world.add(store, points)
        for chunk in chunks:
            # Tracks on their own may come before their segments: what is missing then is made up for below.
            for assets in data.draw(st.sampled_from([[BOTH], [["segments"], ["tracks"]], [["tracks"], ["segments"]]])):
                assert run(instance, chunk, assets).success
        for assets in data.draw(st.sampled_from([[BOTH], [["segments"], ["tracks"]]])):
            assert run(instance, days, assets, only_dirty=data.draw(st.booleans())).success

        expected, leftover = reference.tracks(points, rules)
        assert world.tracks(store) == expected
        assert world.leftover(store) == leftover
        assert world.dirty(store) == 0

        before = world.rows(store, "tracks"), world.rows(store, "segments")
        result = run(instance, data.draw(st.sampled_from(chunks)))
        assert result.success
        assert not failed_checks(result)
        assert (world.rows(store, "tracks"), world.rows(store, "segments")) == before


def test_single_partition_run(fresh_instance: dg.DagsterInstance, store: Store) -> None:
    world.add(store, rides(["anna"], DAYS))
    run(fresh_instance, DAYS)
    before = world.rows(store, "tracks")
    day = key_of(DAYS[2])
    result = defs.resolve_job_def("generate").execute_in_process(instance=fresh_instance, partition_key=day)
    assert result.success
    assert not failed_checks(result)
    assert set(metadata_by_day(result, "tracks")) == {day}
    assert world.rows(store, "tracks") == before


# Narrowing


def test_a_run_for_some_users_touches_only_them(instance: dg.DagsterInstance, store: Store) -> None:
    points = rides(["anna", "bob"], DAYS)
    world.add(store, points)
    assert run(instance, DAYS, users=["bob"]).success
    of_bob, _ = reference.tracks([point for point in points if point.user == "bob"], Settings())
    assert world.tracks(store) == of_bob
    (anna,) = store.user_ids(["anna"])
    with store.read() as connection:
        assert set(store.dirty(connection, "segments")["user_id"]) == {anna}

    assert run(instance, DAYS, users=["anna"]).success
    assert world.tracks(store) == reference.tracks(points, Settings())[0]


def test_a_run_for_a_user_who_does_not_exist_fails_and_says_so(instance: dg.DagsterInstance, store: Store) -> None:
    world.add(store, rides(["anna"], DAYS))
    result = run(instance, DAYS, users=["nobody"])
    assert not result.success
    assert "no such user: nobody" in str(result.get_step_failure_events()[0].step_failure_data.error)
    assert world.tracks(store) == []


# What a run says of itself


def counts(points: Sequence[Point], rules: Settings) -> dict[str, Counter[str]]:
    """What the metadata has to say, counted by the reference: of each day, by name."""
    line = reference.timeline(points, rules)
    lengths: Counter[str] = Counter()
    for track in line.tracks:
        lengths[key_of(track.started_ms // strategies.DAY_MS)] += track.length_mm
    return {
        "points": Counter(key_of(world.day(point)) for point in reference.distinct(points)),
        "tracks": Counter(key_of(track.started_ms // strategies.DAY_MS) for track in line.tracks),
        "stays": Counter(key_of(stay.started_ms // strategies.DAY_MS) for stay in line.stays),
        "mm": lengths,
        "noise": Counter(key_of(world.day(point)) for point, _ in line.noise),
        "leftover": Counter(key_of(world.day(point)) for point in line.leftover),
    }


def test_metadata_of_each_partition_is_what_the_reference_counts(
    fresh_instance: dg.DagsterInstance, store: Store
) -> None:
    points = rides(["anna", "bob"], DAYS)
    world.add(store, points)
    with_a_day_more = [*DAYS, DAYS[-1] + 1, DAYS[-1] + 2]
    result = run(fresh_instance, with_a_day_more)
    expected = counts(points, Settings())
    for asset, names in (
        ("segments", ("points", "noise")),
        ("tracks", ("points", "tracks", "stays", "noise", "leftover")),
    ):
        found = metadata_by_day(result, asset)
        assert list(found) == [key_of(day) for day in with_a_day_more]
        assert materialised(fresh_instance, asset) == set(found)
        for day, values in found.items():
            assert {name: values.pop(name) for name in names} == {name: expected[name][day] for name in names}
            if asset == "tracks":
                assert ("picture" in values) == (expected["mm"][day] > 0)
                values.pop("picture", None)
                starts = expected["tracks"][day] + expected["stays"][day]
                assert values.pop("map", None) == (f"/trackgen/map?start={day}" if starts else None)
                assert values.pop("km") == pytest.approx(expected["mm"][day] / 1e6, abs=1e-9)
            busy = expected["points"][day] > 0
            assert (values.pop("segments") > 0) == busy
            assert (values.pop("seconds") > 0) == (values.pop("peak_memory_mb") > 0) == busy
            assert not values
    assert expected["leftover"].total() > 0
    assert expected["stays"].total() >= len(DAYS)
    assert expected["tracks"].total() > 2 * len(DAYS)

    tags = fresh_instance.get_run_by_id(result.run_id).tags
    assert (tags["trackgen/segments"], tags["trackgen/tracks"]) == ("12/12", "12/12")


# Checks


PLANTED = {
    "a segment is gone": (
        "DELETE FROM segments WHERE number = 0 AND day = (SELECT min(day) FROM segments)",
        {"points_conserved"},
    ),
    "a track is gone": (
        "DELETE FROM tracks WHERE started_ms = (SELECT min(started_ms) FROM tracks)",
        {"points_conserved"},
    ),
    "a track is there twice, a second later": (
        "INSERT INTO tracks SELECT 'twin', device_id, started_ms + 1000, ended_ms + 1000, start_lon, start_lat, "
        "end_lon, end_lat, points, length_mm, duration_ms, moving_ms, avg_speed_kmh, elevation_gain_cm, "
        "elevation_loss_cm, elevation_min_cm, elevation_max_cm, mode, break_reason, settings_id, digest, path "
        "FROM tracks ORDER BY started_ms LIMIT 1",
        {"points_conserved", "no_overlap", "sample_recomputed", "days_add_up", "legs_tile"},
    ),
    "a track ends too late": (
        "UPDATE tracks SET ended_ms = ended_ms + 86400000 WHERE started_ms = (SELECT min(started_ms) FROM tracks)",
        {"points_conserved", "no_overlap", "sample_recomputed", "legs_tile"},
    ),
    "a leg is gone": ("DELETE FROM legs WHERE track_id = (SELECT min(track_id) FROM legs)", {"legs_tile"}),
    "a leg begins late": (
        "UPDATE legs SET started_ms = started_ms + 1 WHERE track_id = (SELECT min(track_id) FROM legs)",
        {"legs_tile"},
    ),
    "a length is wrong by 1 mm": (
        "UPDATE tracks SET length_mm = length_mm + 1 WHERE started_ms = (SELECT min(started_ms) FROM tracks)",
        {"sample_recomputed", "days_add_up", "legs_tile"},
    ),
    "a point is moved behind the work list's back": (
        "UPDATE points SET lat = 45.001 WHERE time_ms = (SELECT min(time_ms) + 60000 FROM points)",
        {"sample_recomputed"},
    ),
    "a point is gone behind the work list's back": (
        "DELETE FROM points WHERE time_ms = (SELECT min(time_ms) + 60000 FROM points)",
        {"points_conserved", "sample_recomputed"},
    ),
}


@pytest.mark.parametrize("fault", PLANTED)
def test_checks_find_what_is_wrong_and_nothing_else(fault: str, instance: dg.DagsterInstance, store: Store) -> None:
    days = DAYS[:3]  # five tracks are a sample: all of them are computed anew
    world.add(store, rides(["anna"], days))
    world.generate(store)
    assert len(world.tracks(store)) <= 5

    statement, noticed_by = PLANTED[fault]
    with store.write() as connection:
        assert connection.exec_driver_sql(statement).rowcount == 1
    result = run(instance, days, only_dirty=True)
    assert result.success  # a check that fails stops nothing
    assert failed_checks(result) == noticed_by
    for check in result.get_asset_check_evaluations():
        faults = check.metadata["first_faults"].value
        assert check.metadata["faults"].value == len(faults)
        assert bool(faults) == (not check.passed)


def test_checks_say_nothing_of_work_that_is_still_listed(instance: dg.DagsterInstance, store: Store) -> None:
    points = rides(["anna"], DAYS)
    world.add(store, points[::2])
    run(instance, DAYS)
    world.add(store, points[1::2])
    assert not failed_checks(run(instance, DAYS, ["tracks"], only_dirty=True))


# Failures


@pytest.mark.parametrize("stage", BOTH)
def test_a_window_that_fails_is_named_and_the_others_are_done(
    stage: str, fresh_instance: dg.DagsterInstance, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKGEN_RETRY_SECONDS", "0.05")
    monkeypatch.setattr(generation, "DAYS_PER_WINDOW", 2)
    days = range(19_800, 19_810)
    points = [point for point in rides(["anna"], days) if point.time_ms % strategies.DAY_MS < 18 * 60 * MINUTE]
    world.add(store, points)
    column = {"segments": "new.day", "tracks": "new.started_ms / 86400000"}[stage]
    with store.write() as connection:
        connection.exec_driver_sql(
            f"CREATE TRIGGER fault BEFORE INSERT ON {stage} WHEN {column} = {days[5]} "
            "BEGIN SELECT raise(ABORT, 'the disk is made of cheese'); END"
        )
    result = run(fresh_instance, days)
    assert not result.success
    failure = result.get_step_failure_events()[0].step_failure_data.user_failure_data
    bad = key_of(days[5])
    assert failure.description.startswith(f"1 of 10 days of {stage} failed: {bad} of anna: ")
    assert "the disk is made of cheese" in failure.description
    (chunk,) = failure.metadata["failures"].value
    assert (chunk["start"], chunk["end"], chunk["users"], chunk["attempts"]) == (bad, bad, ["anna"], 4)

    whole = {key_of(day) for day in days}
    assert materialised(fresh_instance, stage) == whole - {bad}
    other = {"segments": "tracks", "tracks": "segments"}[stage]
    assert materialised(fresh_instance, other) == (whole - {bad} if stage == "segments" else whole)
    # The tracks of the others are there, whichever stage failed.
    expected = reference.tracks(points, Settings())[0]
    assert world.tracks(store) == [track for track in expected if track.started_ms // strategies.DAY_MS != days[5]]

    with store.write() as connection:
        for one in BOTH:
            store.revive(connection, one)
    with store.write() as connection:
        connection.exec_driver_sql("DROP TRIGGER fault")
    again = run(fresh_instance, days, only_dirty=True)
    assert again.success
    assert not failed_checks(again)
    assert materialised(fresh_instance, stage) == whole
    assert world.tracks(store) == reference.tracks(points, Settings())[0]
    assert world.dirty(store) == 0


def test_unreadable_settings_fail_the_run_and_repair_is_a_rerun(
    fresh_instance: dg.DagsterInstance, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKGEN_RETRY_SECONDS", "0.05")
    points = rides(["anna", "bob"], DAYS)
    world.add(store, points)
    with store.write() as connection:
        connection.exec_driver_sql("UPDATE users SET settings = '{\"minutes' WHERE name = 'bob'")
    assert not run(fresh_instance, DAYS).success
    assert materialised(fresh_instance, "segments") == materialised(fresh_instance, "tracks") == set()
    of_anna = [point for point in points if point.user == "anna"]
    assert world.tracks(store) == reference.tracks(of_anna, Settings())[0]

    with store.write() as connection:
        connection.exec_driver_sql("UPDATE users SET settings = '{}' WHERE name = 'bob'")
    assert run(fresh_instance, DAYS).success
    assert world.tracks(store) == reference.tracks(points, Settings())[0]


# The event log


EVENT_TABLES = ("event_logs", "asset_keys", "asset_event_tags", "asset_check_executions")


def contents(folder: Path) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of all databases of an event log, in order."""
    found = {}
    for path in sorted(folder.glob("*.db")):
        engine = sqlalchemy.create_engine(f"sqlite:///{path}")
        with engine.connect() as connection:
            tables = set(sqlalchemy.inspect(connection).get_table_names())
            for table in tables & set(EVENT_TABLES):
                names = [column["name"] for column in sqlalchemy.inspect(connection).get_columns(table)]
                kept = [name for name in names if name not in {"id", "create_timestamp"} or table == "event_logs"]
                rows = connection.exec_driver_sql(f"SELECT {', '.join(kept)} FROM {table}")
                # The stock storage plans checks for every partition, and forgets about it.
                found[f"{path.name}/{table}"] = sorted(
                    (row for row in map(tuple, rows) if "PLANNED" not in row), key=repr
                )
        engine.dispose()
    return found


@pytest.fixture
def events(fresh_instance: dg.DagsterInstance, store: Store) -> list[dg.EventLogEntry]:
    """All events of a real run."""
    world.add(store, rides(["anna"], DAYS))
    result = run(fresh_instance, DAYS)
    entries = list(fresh_instance.all_logs(result.run_id))
    made = [entry for entry in entries if entry.dagster_event_type == dg.DagsterEventType.ASSET_MATERIALIZATION]
    assert len(made) == 4 * len(DAYS)  # points, segments, tracks and daily summaries
    return entries


def test_batches_leave_the_same_event_log_as_the_stock_storage(events: list[dg.EventLogEntry], tmp_path: Path) -> None:
    stock = SqliteEventLogStorage(str(tmp_path / "stock"))
    for event in events:
        stock.store_event(event)
    batched = BatchedSqliteEventLogStorage(str(tmp_path / "batched"))
    batched.store_event_batch([])
    # Dagster batches events of one type; what else a batch may hold is stored in its order, too.
    for _, batch in groupby(events, key=lambda event: event.dagster_event_type):
        batched.store_event_batch(list(batch))
    expected, found = contents(tmp_path / "stock"), contents(tmp_path / "batched")
    assert any(rows for name, rows in expected.items() if name.endswith("asset_keys"))
    assert found == expected
    planned = "SELECT count(*) FROM asset_check_executions WHERE execution_status = 'PLANNED'"
    with batched.index_connection() as connection:
        assert connection.exec_driver_sql(planned).scalar() == 0

    for asset in BOTH:
        key = dg.AssetKey(asset)
        assert batched.get_materialized_partitions(key) == stock.get_materialized_partitions(key)
        assert batched.get_event_tags_for_asset(key) == stock.get_event_tags_for_asset(key)
        assert batched.get_latest_materialization_events([key]) == stock.get_latest_materialization_events([key])
    assert batched.get_records_for_run(events[0].run_id) == stock.get_records_for_run(events[0].run_id)
    stock.dispose()
    batched.dispose()


def test_a_mixed_batch_shows_the_latest_event_of_each_kind(events: list[dg.EventLogEntry], tmp_path: Path) -> None:
    wanted = (dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED, dg.DagsterEventType.ASSET_MATERIALIZATION)
    mixed = [event for event in events if event.dagster_event_type in wanted]
    for order in (mixed, mixed[::-1]):
        folder = tmp_path / str(order is mixed)
        stock = SqliteEventLogStorage(str(folder / "stock"))
        for event in order:
            stock.store_event(event)
        batched = BatchedSqliteEventLogStorage(str(folder / "batched"))
        batched.store_event_batch(order)
        keys = [dg.AssetKey(name) for name in BOTH]
        assert contents(folder / "batched") == contents(folder / "stock")
        assert all(batched.get_latest_materialization_events(keys).values())
        stock.dispose()
        batched.dispose()


@contextmanager
def counted_statements() -> Iterator[Counter[str]]:
    """Count what any engine executes and commits."""
    counter: Counter[str] = Counter()

    def on_execute(*_args: object) -> None:
        counter["statements"] += 1

    def on_commit(_connection: object) -> None:
        counter["commits"] += 1

    listeners: Mapping[str, Any] = {"before_cursor_execute": on_execute, "commit": on_commit}
    for name, listener in listeners.items():
        sqlalchemy.event.listen(sqlalchemy.engine.Engine, name, listener)
    yield counter
    for name, listener in listeners.items():
        sqlalchemy.event.remove(sqlalchemy.engine.Engine, name, listener)


def test_the_cost_of_a_batch_does_not_grow_with_its_events(events: list[dg.EventLogEntry], tmp_path: Path) -> None:
    made = [event for event in events if event.dagster_event_type == dg.DagsterEventType.ASSET_MATERIALIZATION]
    storage = BatchedSqliteEventLogStorage(str(tmp_path / "log"))
    storage.store_event_batch(made)
    costs = []
    one_of_each_asset = {event.get_dagster_event().asset_key: event for event in made}
    for batch in ([*one_of_each_asset.values()], made * 50):
        with counted_statements() as counter:
            storage.store_event_batch(batch)
        costs.append(dict(counter))
    small, large = costs
    assert large == small
    assert small["commits"] <= 2
    storage.dispose()


def test_a_run_commits_the_same_number_of_times_for_more_days(fresh_instance: dg.DagsterInstance, store: Store) -> None:
    world.add(store, rides(["anna"], DAYS[:2]))
    run(fresh_instance, DAYS)
    costs = []
    for days in (range(19_900, 19_910), range(20_000, 20_300)):
        with counted_statements() as counter:
            assert run(fresh_instance, days).success
        costs.append(counter["commits"])
    few, many = costs
    assert many < few + 30, f"{few} commits for 10 days, {many} for 300"


def test_day_keys_are_days() -> None:
    assert key_of(DAYS[0]) == "2024-03-18"
    assert [day_of(key_of(day)) for day in DAYS] == list(DAYS)
