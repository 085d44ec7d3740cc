"""The parts of generation one by one: windows of work, counts, sums of segments, rounding, and doing things at once."""

from __future__ import annotations

import math
import multiprocessing
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from itertools import groupby, pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.strategies import DataObject

from tests import reference, strategies, world
from tests.effort import examples
from tests.reference import Point
from tests.reference_words import by_the_clock, link_mm
from tests.strategies import DAY_MS, MINUTE_MS
from trackgen_core import generation
from trackgen_core.breaks import BREAK_REASONS, NO_BREAK, break_reasons
from trackgen_core.generation import (
    DAYS_PER_WINDOW,
    FILL,
    USER_DAYS_PER_WINDOW,
    Window,
    day_stats,
    make_segments,
    make_tracks,
    mark_all,
    plan,
    user_by_device,
)
from trackgen_core.geodesy import link_lengths_mm, pair_lengths_mm, round_half_away
from trackgen_core.merging import merge
from trackgen_core.seams import Seams, connect
from trackgen_core.segmentation import segment
from trackgen_core.settings import Settings
from trackgen_core.store import Store

patient = hypothesis_settings(max_examples=examples(25), deadline=None, suppress_health_check=list(HealthCheck))
slow = hypothesis_settings(patient, max_examples=examples(8))

NOON = 19_800 * DAY_MS + DAY_MS // 2


def ride(start_ms: int, count: int, every_ms: int = MINUTE_MS, user: str = "anna", lon: float = 10.0) -> list[Point]:
    """Points 40 m apart, eastward."""
    return [
        Point(user, "phone", start_ms + i * every_ms, round(lon + i * 0.0005, 6), 47.0, 400.0) for i in range(count)
    ]


def whole_window(store: Store, points: Sequence[Point]) -> Window:
    days = [world.day(point) for point in points]
    return Window(min(days), max(days), tuple(store.user_ids({point.user for point in points})))


# Windows


@st.composite
def work_lists(draw: st.DrawFn) -> pd.DataFrame:
    """Days of a few users scattered as they come, and blocks of many users over many days, as a first import makes."""
    pairs = draw(st.sets(st.tuples(st.integers(0, 200), st.integers(1, 6)), max_size=60))
    for _ in range(draw(st.integers(0, 2))):
        first, days = draw(st.integers(0, 200)), draw(st.integers(1, 70))
        user, users = draw(st.integers(1, 50)), draw(st.sampled_from([1, 3, 62, 63, 150]) | st.integers(1, 150))
        pairs |= {(day, one) for day in range(first, first + days) for one in range(user, user + users)}
    return pd.DataFrame(sorted(pairs), columns=["day", "user_id"]).astype("int64")


def cells(window: Window) -> list[tuple[int, int]]:
    return [(day, user) for day in range(window.lo_day, window.hi_day + 1) for user in window.user_ids]


@patient
@given(work=work_lists())
@example(work=pd.DataFrame({"day": [], "user_id": []}, dtype="int64"))
@example(work=pd.DataFrame({"day": 5, "user_id": range(2 * USER_DAYS_PER_WINDOW + 1)}))
def test_windows_hold_all_work_once_and_are_bounded(work: pd.DataFrame) -> None:
    windows = plan(work)
    held = Counter(cell for window in windows for cell in cells(window))
    assert set(zip(work["day"], work["user_id"], strict=True)) <= held.keys()
    assert max(held.values(), default=1) == 1
    for window in windows:
        assert 1 <= window.days <= DAYS_PER_WINDOW
        assert 1 <= window.user_days <= USER_DAYS_PER_WINDOW
        assert window.user_days == len(cells(window))
        assert list(window.user_ids) == sorted(set(window.user_ids))
    assert len(work) >= FILL * held.total()
    assert [window.lo_day for window in windows] == sorted(window.lo_day for window in windows)


@patient
@given(first=st.integers(0, 20_000), days=st.integers(1, 400), users=st.integers(1, 5))
def test_an_unbroken_history_takes_as_few_windows_as_there_can_be(first: int, days: int, users: int) -> None:
    work = pd.DataFrame([(day, user) for day in range(first, first + days) for user in range(users)])
    assert len(plan(work.set_axis(["day", "user_id"], axis=1))) == math.ceil(days / DAYS_PER_WINDOW)


@slow
@given(case=strategies.cases(), size=st.sampled_from([1, 2, 5]))
def test_the_size_of_windows_changes_nothing(case, size: int) -> None:
    points, rules = case
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(generation, "DAYS_PER_WINDOW", size)
        patch.setattr(generation, "PATH_POINTS_AT_ONCE", size)
        store = world.open_store(Path(folder))
        world.set_settings(store, rules)
        world.add(store, points)
        world.generate(store)
        assert world.tracks(store) == reference.tracks(points, rules)[0]


# Counts of days


def expected_stats(points: Sequence[Point], rules: dict[str, Settings]) -> dict[str, Counter[int]]:
    line = reference.timeline(points, rules)
    lengths: Counter[int] = Counter()
    for track in line.tracks:
        lengths[track.started_ms // DAY_MS] += track.length_mm
    return {
        "points": Counter(map(world.day, reference.distinct(points))),
        "tracks": Counter(track.started_ms // DAY_MS for track in line.tracks),
        "length_mm": lengths,
        "stays": Counter(stay.started_ms // DAY_MS for stay in line.stays),
        "noise": Counter(world.day(point) for point, _ in line.noise),
        "leftover": Counter(map(world.day, line.leftover)),
    }


@slow
@given(case=strategies.cases(), margin=st.integers(-3, 3))
def test_the_counts_of_a_day_are_those_of_the_reference(case, margin: int) -> None:
    points, rules = case
    with tempfile.TemporaryDirectory() as folder:
        store = world.open_store(Path(folder))
        world.set_settings(store, rules)
        world.add(store, points)
        world.generate(store)
        days = [world.day(point) for point in points] or [19_800]
        lo_day, hi_day = min(days) - margin, max(max(days), min(days)) + margin
        stats = day_stats(store, lo_day, hi_day)
    assert list(stats.index) == list(range(lo_day, hi_day + 1))
    for name, counts in expected_stats(points, rules).items():
        assert stats[name].to_dict() == {day: counts[day] for day in range(lo_day, hi_day + 1)}, name


def test_counts_of_a_database_without_anything(tmp_path: Path) -> None:
    stats = day_stats(world.open_store(tmp_path), 19_800, 19_802)
    assert (stats.to_numpy() == 0).all()
    assert list(stats.index) == [19_800, 19_801, 19_802]


# Sums of segments


def segments_of(points: Sequence[Point], rules: Settings) -> pd.DataFrame:
    distinct = reference.distinct(points)
    numbers: dict[tuple[str, str], int] = {}
    frame = world.frame(distinct)
    frame["device_id"] = [numbers.setdefault((point.user, point.device), len(numbers)) for point in distinct]
    return segment(frame, rules).segments


def cut(segments: pd.DataFrame, seams: Seams, cuts: Sequence[int]) -> Iterator[tuple[pd.DataFrame, Seams]]:
    """Cut segments into parts; what a part begins with joins nothing in it."""
    for a, b in pairwise([0, *cuts, len(segments)]):
        if a < b:
            part = Seams(*(column[a:b].copy() for column in seams))
            part.reason[0] = BREAK_REASONS.index("time_gap")
            yield segments.iloc[a:b], part


@patient
@given(data=st.data(), rules=strategies.settings())
def test_merging_parts_first_changes_no_column(data: DataObject, rules: Settings) -> None:
    segments, seams = connect(segments_of(data.draw(strategies.histories(rules=rules)), rules), rules)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(segments)), max_size=5)))
    at_once = merge(segments, seams)
    if len(segments):
        merged = pd.concat([merge(*part) for part in cut(segments, seams, cuts)])
        starts = (seams.reason != NO_BREAK) | np.isin(np.arange(len(segments)), cuts)
        by_parts = merge(merged, Seams(*(column[starts] for column in seams)))
        pd.testing.assert_frame_equal(by_parts.reset_index(drop=True), at_once.reset_index(drop=True), check_exact=True)


@patient
@given(data=st.data(), rules=strategies.settings())
def test_merged_segments_are_the_runs_of_the_reference(data: DataObject, rules: Settings) -> None:
    rules = strategies.by_breaks_alone(rules)
    points = data.draw(strategies.histories(rules=rules))
    chains = merge(*connect(segments_of(points, rules), rules))
    runs = []
    for _, trail in groupby(reference.distinct(points), key=lambda point: (point.user, point.device)):
        own = list(trail)
        cuts = [n + 1 for n in sorted(reference.breaks_among(by_the_clock(own), rules))]
        runs += [own[a:b] for a, b in pairwise([0, *cuts, len(own)])]
    assert chains["points"].tolist() == [len(run) for run in runs]
    lengths = [sum(link_mm(a, b) for a, b in pairwise(run) if not b.pause) for run in runs]
    assert chains["length_mm"].tolist() == lengths
    paths = [np.frombuffer(path, "<f8").reshape(-1, 2).tolist() for path in chains["path"]]
    assert paths == [[[point.lon, point.lat] for point in run] for run in runs]


# Numbers


@patient
@given(value=st.floats(-(2.0**62), 2.0**62) | st.integers(-(2**54), 2**54).map(lambda n: n / 2))
@example(0.49999999999999994)
@example(-0.49999999999999994)
@example(0.5)
@example(-0.5)
@example(1.5)
@example(2.5)
@example(-2.5)
@example(4503599627370497.5)
@example(4503599627370495.5)
@example(9007199254740993.0)
@example(5e-324)
def test_rounding_is_half_away_from_zero(value: float) -> None:
    expected = int(Decimal(value).to_integral_value(ROUND_HALF_UP))
    assert round_half_away(np.array([value])).tolist() == [expected]


vertices = st.tuples(
    st.sampled_from([-180.0, 180.0, 0.0, 179.9999999]) | st.floats(-180, 180),
    st.sampled_from([-90.0, 90.0, 0.0]) | st.floats(-90, 90),
)


@patient
@given(line=st.lists(vertices, min_size=2, max_size=20), data=st.data())
def test_a_pair_is_as_long_as_the_link_between_the_same_points(line, data: DataObject) -> None:
    lon, lat = np.array(line).T
    links = link_lengths_mm(lon, lat)
    picked = np.array(data.draw(st.lists(st.integers(0, len(links) - 1), max_size=8)), np.int64)
    pairs = pair_lengths_mm(lon[picked], lat[picked], lon[picked + 1], lat[picked + 1])
    assert pairs.dtype == links.dtype == np.int64
    assert pairs.tolist() == links[picked].tolist()


def reason_of(gap_ms: int, gap_mm: int, **values: object) -> str:
    unknown = np.zeros(1, np.int64)
    (code,) = break_reasons(np.array([gap_ms]), np.array([gap_mm]), unknown, unknown, Settings(**values))
    return BREAK_REASONS[code]


T, M = 30 * MINUTE_MS, 500_000


@pytest.mark.parametrize(
    ("rule", "gap_ms", "gap_mm", "reason"),
    [
        ("off", T, 10**10, ""),
        ("off", T + 1, 0, "time_gap"),
        ("strict", T, M, ""),
        ("strict", T, M + 1, "distance"),
        ("strict", T + 1, M, "time_gap"),
        ("strict", T + 1, M + 1, "time_gap"),
        ("strict", 0, M, ""),
        ("strict", 0, M + 1, "distance"),
        ("implausible", T, M, ""),
        ("implausible", T, M + 1, ""),
        # 1000 km/h: 18 ms a 5 m
        ("implausible", 1800, M, ""),
        ("implausible", 1801, M + 1, ""),
        ("implausible", 1800, M + 1, "implausible_speed"),
        ("implausible", 3600, 2 * M, ""),
        ("implausible", 3600, 2 * M + 1, "implausible_speed"),
        ("implausible", 3599, 2 * M, "implausible_speed"),
        ("implausible", 0, M, ""),
        ("implausible", 0, M + 1, "implausible_speed"),
        ("implausible", T + 1, 10**10, "time_gap"),
    ],
)
def test_the_limits_of_the_break_rule_are_exact(rule: str, gap_ms: int, gap_mm: int, reason: str) -> None:
    assert reason_of(gap_ms, gap_mm, distance_rule=rule, gap_rule="fixed") == reason


@patient
@given(rules=strategies.settings(), data=st.data())
def test_breaks_are_those_of_exact_fractions(rules: Settings, data: DataObject) -> None:
    gap_ms = data.draw(st.integers(0, 60 * 366 * DAY_MS) | st.integers(0, rules.minutes_between_routes * MINUTE_MS + 9))
    limit_mm = rules.max_speed_kmh * gap_ms * 5 // 18
    near = st.sampled_from([rules.meters_between_routes * 1000, min(limit_mm, 20_004_000_000)])
    gap_mm = data.draw(st.builds(lambda mm, more: max(0, mm + more), near, st.integers(-2, 2)))
    far = gap_mm > rules.meters_between_routes * 1000
    too_fast = gap_ms == 0 or Fraction(gap_mm, gap_ms) * Fraction(18, 5) > rules.max_speed_kmh
    if gap_ms > rules.minutes_between_routes * MINUTE_MS:
        expected = "time_gap"
    elif far and rules.distance_rule == "strict":
        expected = "distance"
    elif far and rules.distance_rule == "implausible" and too_fast:
        expected = "implausible_speed"
    else:
        expected = ""
    assert reason_of(gap_ms, gap_mm, **rules.model_dump() | {"gap_rule": "fixed"}) == expected


# At once, and in between


HISTORY = [
    *(point for day in range(3) for point in ride(NOON + day * DAY_MS, 300, user="anna")),
    *ride(NOON, 2200, user="bob", lon=20.0),
]


def do_both(url_folder: str, window: Window) -> None:
    """Make segments and tracks of a window in a database of one's own connections."""
    store = world.open_store(Path(url_folder))
    make_segments(store, window)
    make_tracks(store, window)


@pytest.mark.parametrize("attempt", range(3))
def test_threads_that_do_the_same_window_at_once_make_the_same_tracks(tmp_path: Path, attempt: int) -> None:
    store = world.open_store(tmp_path)
    world.add(store, HISTORY)
    window = whole_window(store, HISTORY)
    barrier = threading.Barrier(4)

    def work(same_store: bool) -> None:
        own = store if same_store else world.open_store(tmp_path)
        barrier.wait()
        make_segments(own, window)
        make_tracks(own, window)

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(work, number % 2 == 0) for number in range(4)]:
            done.result()
    assert (world.tracks(store), world.leftover(store)) == reference.tracks(HISTORY, {})
    assert world.dirty(store) == 0


def test_processes_that_do_overlapping_windows_at_once_make_the_same_tracks(tmp_path: Path) -> None:
    store = world.open_store(tmp_path)
    world.add(store, HISTORY)
    whole = whole_window(store, HISTORY)
    windows = [whole, Window(whole.lo_day + 1, whole.hi_day, whole.user_ids), whole]
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        for done in [pool.submit(do_both, str(tmp_path), window) for window in windows]:
            done.result()
    assert (world.tracks(store), world.leftover(store)) == reference.tracks(HISTORY, {})
    assert world.dirty(store) == 0


def make_segments_with(store: Store, window: Window, meanwhile: Callable[[], object]) -> None:
    """Do what `make_segments` does, with something that happens after the points were read and before the write."""
    with store.read() as connection:
        claimed = store.dirty(connection, "segments", window.lo_day, window.hi_day, window.user_ids)
    with store.read() as connection:
        user_of = user_by_device(store.devices(connection))
        batches = store.read_points(connection, window.lo_day, window.hi_day, window.user_ids)
        made = [segment(batch, Settings()) for batch in batches]
        segments, noise = (pd.concat(frames, ignore_index=True) for frames in zip(*made, strict=True))
    meanwhile()
    with store.write() as connection:
        store.note_settings(connection, [Settings()])
        store.replace_segments(connection, segments, noise, user_of, claimed)


def listed(store: Store, stage: str) -> list[int]:
    with store.read() as connection:
        return store.dirty(connection, stage)["day"].tolist()


def test_points_that_arrive_between_reading_and_writing_stay_on_the_list(tmp_path: Path) -> None:
    store = world.open_store(tmp_path)
    early, late = ride(NOON, 30), ride(NOON + 10 * MINUTE_MS, 5, every_ms=777, lon=10.0042)
    other_day = ride(NOON + DAY_MS, 10)
    world.add(store, early + other_day)
    window = whole_window(store, early + other_day)
    make_segments_with(store, window, lambda: world.add(store, late))
    assert listed(store, "segments") == [window.lo_day]
    make_tracks(store, window)
    world.generate(store)
    assert world.dirty(store) == 0
    assert world.tracks(store) == reference.tracks(early + late + other_day, {})[0]


def test_points_deleted_between_reading_and_writing_stay_on_the_list(tmp_path: Path) -> None:
    store = world.open_store(tmp_path)
    points = ride(NOON, 30)
    world.add(store, points)
    make_segments_with(store, whole_window(store, points), lambda: world.delete(store, points[20:]))
    assert listed(store, "segments") == [world.day(points[0])]
    world.generate(store)
    assert world.tracks(store) == reference.tracks(points[:20], {})[0]


def test_settings_changed_between_reading_and_writing_are_followed(tmp_path: Path) -> None:
    store = world.open_store(tmp_path)
    points = ride(NOON, 30, every_ms=2 * MINUTE_MS)
    world.add(store, points)
    rules = Settings(minutes_between_routes=1, gap_rule="fixed")
    make_segments_with(store, whole_window(store, points), lambda: world.set_settings(store, {"anna": rules}))
    assert listed(store, "segments") == [world.day(points[0])]
    world.generate(store)
    assert (world.tracks(store), world.leftover(store)) == ([], 30)


def test_a_day_that_somebody_else_finished_with_newer_points_is_left_alone(tmp_path: Path) -> None:
    store = world.open_store(tmp_path)
    early, late = ride(NOON, 30), ride(NOON + 30 * MINUTE_MS, 30, lon=10.015)
    world.add(store, early)

    def overtake() -> None:
        world.add(store, late)
        world.generate(store)

    make_segments_with(store, whole_window(store, early), overtake)
    assert world.dirty(store) == 0
    assert world.tracks(store) == reference.tracks(early + late, {})[0]


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize(("before_ms", "minutes"), [(1, 5), (10 * MINUTE_MS, 5), (10 * MINUTE_MS, 16 * 60)])
def test_whose_the_last_fix_of_a_day_is_may_be_told_by_the_next_day(
    tmp_path: Path, before_ms: int, minutes: int, split: bool, backwards: bool
) -> None:
    """Alone behind a pause it is a fix of the stay, otherwise one of a track, whichever day comes in first."""
    midnight, rules = 19_800 * DAY_MS, {"anna": Settings(split_at_midnight=split)}
    times = [-16 * 60 * MINUTE_MS, -before_ms, 5 * MINUTE_MS, (5 + minutes) * MINUTE_MS]
    places = [10.0, 10.0, 10.02, 10.04 if minutes == 5 else 10.02]
    points = [Point("anna", "", midnight + time, place, 47.0) for time, place in zip(times, places, strict=True)]
    store = world.open_store(tmp_path)
    world.set_settings(store, rules)
    for _, of_day in groupby(reversed(points) if backwards else points, world.day):
        world.add(store, of_day)
        world.generate(store)
    expected = reference.timeline(points, rules)
    assert world.stays(store) == expected.stays
    assert world.tracks(store) == expected.tracks
    assert world.leftover(store) == len(expected.leftover)


def test_a_point_before_a_track_changes_how_it_moved(tmp_path: Path) -> None:
    """A link is unsteady by the speed of the link before it, which may be no link of the track: here as long, later."""
    rules = {"anna": Settings(distance_rule="strict")}
    early, late = (Point("anna", "phone", NOON - seconds * 1000, 9.99, 47.0) for seconds in (1200, 60))
    points = [point._replace(lon=10 + i * 1e-4) for i, point in enumerate(ride(NOON + 11_000, 10, every_ms=1000))]
    store = world.open_store(tmp_path)
    world.set_settings(store, rules)
    world.add(store, [early, *points])
    world.generate(store)
    *_, before = world.tracks(store)
    world.add(store, [late])
    world.generate(store)
    *_, after = world.tracks(store)
    assert after == reference.tracks([early, late, *points], rules)[0][-1]
    assert (before.points, before.mode, after.points, after.mode) == (10, "cycle", 10, "drive")


def test_what_does_not_change_is_not_written_again(tmp_path: Path) -> None:
    store = world.open_store(tmp_path)
    world.add(store, HISTORY)
    world.generate(store)
    before = world.rows(store, "segments"), world.rows(store, "tracks")
    window = whole_window(store, HISTORY)
    mark_all(store, "segments", window.lo_day, window.hi_day)
    make_segments(store, window)
    assert listed(store, "tracks") == []
    assert (world.rows(store, "segments"), world.rows(store, "tracks")) == before


def test_a_window_that_somebody_else_has_done_is_nothing_to_do(tmp_path: Path) -> None:
    store = world.open_store(tmp_path)
    world.add(store, HISTORY)
    window = whole_window(store, HISTORY)
    do_both(str(tmp_path), window)
    before = world.rows(store, "segments"), world.rows(store, "tracks")
    do_both(str(tmp_path), window)
    assert (world.rows(store, "segments"), world.rows(store, "tracks")) == before


def test_a_window_leaves_other_users_and_other_days_on_the_list(tmp_path: Path) -> None:
    store = world.open_store(tmp_path)
    world.add(store, HISTORY)
    (bob,) = store.user_ids(["bob"])
    first = world.day(HISTORY[0])
    with store.read() as connection:
        before = store.dirty(connection, "segments")
    make_segments(store, Window(first + 1, first + 1, (bob,)))
    with store.read() as connection:
        after = store.dirty(connection, "segments")
        assert store.dirty(connection, "tracks")[["user_id", "day"]].values.tolist() == [[bob, first + 1]]
    done = before.merge(after, how="left", indicator=True).query("_merge == 'left_only'")
    assert done[["user_id", "day"]].values.tolist() == [[bob, first + 1]]
