"""Lengths, moving times, modes and legs are those of the reference, to the last bit, in whole and in chunks."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import hypothesis
import numpy as np
from hypothesis import HealthCheck, Phase, given
from hypothesis import strategies as st
from hypothesis.strategies import DataObject

from tests import reference, strategies, world
from tests.effort import examples
from tests.reference import Point, Track
from tests.strategies_of_motion import journeys, modes_by_hand, plain_settings, usual_settings
from trackgen_core.cells import make_cells
from trackgen_core.clock import DEVICE_JUMP_MS
from trackgen_core.legs import CYCLE, DRIVE, TRAIN, WALK, without_short_legs
from trackgen_core.settings import Settings
from trackgen_core.speeds import PACE_MS, STRAIGHT_MS, find_chords
from trackgen_core.verification import wrong_tracks

START_MS = 1_709_287_200_000

slow = hypothesis.settings(
    max_examples=examples(8),
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)


def motion(tracks: Sequence[Track]) -> list[tuple[object, ...]]:
    return [
        (one.user, one.device, one.started_ms, one.ended_ms, one.length_mm, one.moving_ms, one.mode, one.legs)
        for one in tracks
    ]


@hypothesis.settings(slow, max_examples=examples(40))
@given(journeys(), plain_settings(), st.data())
def test_motion_alone(points: list[Point], rules, data: DataObject) -> None:
    edits = data.draw(modes_by_hand(points))
    tracks = world.whole(points, rules, edits).tracks
    assert motion(tracks) == motion(reference.timeline(points, rules, edits).tracks)
    for track in tracks:
        assert all((a.mode, a.source) != (b.mode, b.source) for a, b in pairwise(track.legs))


@hypothesis.settings(slow, max_examples=examples(20))
@given(journeys(), usual_settings(), st.data())
def test_motion_beside_stays_and_noise(points: list[Point], rules, data: DataObject) -> None:
    edits = data.draw(modes_by_hand(points))
    assert motion(world.whole(points, rules, edits).tracks) == motion(reference.timeline(points, rules, edits).tracks)


@slow
@given(
    st.tuples(journeys(60), journeys(40, device="watch") | st.just([]), journeys(40, user="bob") | st.just([])),
    plain_settings() | usual_settings(),
    st.data(),
)
def test_motion_in_chunks_and_beside_other_devices(devices, rules, data: DataObject) -> None:
    points = [point for one in devices for point in one]
    edits = data.draw(modes_by_hand(devices[0]))
    days = sorted({world.day(point) for point in points})
    with tempfile.TemporaryDirectory() as folder:
        store = world.open_store(Path(folder))
        world.set_settings(store, {"anna": rules, "bob": rules})
        world.add(store, points)
        world.edit(store, edits)
        for group in data.draw(strategies.groupings(days)):
            world.generate(store, group)
        world.generate(store)
        assert motion(world.tracks(store)) == motion(reference.timeline(points, rules, edits).tracks)


def every(seconds: float, count: int, step_m: float, device: str = "phone", **facts: int) -> list[Point]:
    """Return points after even steps to the east."""
    degrees = step_m / 111_320
    return [
        Point("anna", device, START_MS + int(n * seconds * 1000), 10 + n * degrees, 0.0, **facts) for n in range(count)
    ]


def test_a_point_alone_has_no_legs() -> None:
    assert world.whole(every(1, 1, 0), Settings(stay_minutes=0)).tracks == []


def test_chords_at_the_end_of_a_device_do_not_depend_on_what_follows() -> None:
    time_ms = START_MS + np.arange(40) * 10_000
    places = np.stack([np.arange(40) * 1000, np.zeros(40, int), np.zeros(40, int)])
    unknown = np.full(40, np.nan)
    alone = make_cells(np.zeros(40, int), time_ms, time_ms - START_MS, places, unknown)
    both = make_cells(
        np.repeat([0, 1], 40),
        np.tile(time_ms, 2),
        np.append(time_ms - START_MS, time_ms - START_MS + DEVICE_JUMP_MS),
        np.tile(places, 2),
        np.tile(unknown, 2),
    )
    for reach_ms in (PACE_MS, STRAIGHT_MS):
        one, other = find_chords(alone, reach_ms), find_chords(both, reach_ms)
        assert one.last.tolist() == other.last[: len(one.last)].tolist()


def test_links_of_some_millimetres_are_the_same_beside_a_watch(tmp_path: Path) -> None:
    points = [*every(10, 60, 0.004), *every(0.25, 400, 1, "watch")]
    rules = Settings(stay_minutes=0, noise_filter=False)
    store = world.open_store(tmp_path)
    world.set_settings(store, {"anna": rules})
    world.add(store, points)
    world.generate(store)
    assert motion(world.tracks(store)) == motion(reference.tracks(points, rules)[0])
    assert world.tracks(store)[0].length_mm > 200


def test_tracks_of_several_devices_are_what_each_gives_alone(tmp_path: Path) -> None:
    store = world.open_store(tmp_path)
    world.add(store, [*every(10, 60, 50), *every(10, 60, 50, "tablet"), *every(10, 60, 50, "watch")])
    world.generate(store)
    assert len(world.tracks(store)) == 3
    assert not wrong_tracks(store, *world.ALL_DAYS).faults


def test_a_long_link_over_midnight_is_at_sea_as_any_other() -> None:
    times = [START_MS + minutes * 60_000 for minutes in (13 * 60, 13 * 60 + 50, 14 * 60 + 40)]
    points = [Point("anna", "", time_ms, -30 + n * 0.2, 40.0) for n, time_ms in enumerate(times)]
    rules = Settings(minutes_between_routes=60, stay_minutes=0)
    (track,) = world.whole(points, rules).tracks
    assert track.mode == "boat"
    assert [track] == reference.tracks(points, rules)[0]


def test_a_pause_is_no_time_of_a_leg() -> None:
    """Half a minute on foot after a pause of an hour is no leg of its own."""
    names = [CYCLE, WALK, CYCLE]
    assert without_short_legs(names, [0, 0, 0], [600_000, 30_000, 600_000]) == [0, 0, 0]
    ride, walk = every(5, 120, 25), every(5, 61, 7)
    again = every(5, 120, 25)

    def later(points: list[Point], minutes: float, degrees: float) -> list[Point]:
        moved = [p._replace(time_ms=p.time_ms + int(minutes * 60_000), lon=p.lon + degrees) for p in points]
        return [moved[0]._replace(pause=1), *moved[1:]]

    points = [*ride, *later(walk[:24], 30, 0.02673), *later(again, 33, 0.02818)]
    (track,) = world.whole(points, Settings(stay_minutes=0)).tracks
    assert [track] == reference.tracks(points, Settings(stay_minutes=0))[0]
    assert [leg.mode for leg in track.legs] == ["cycle"]


def test_what_is_too_short_leaves_one_leg_of_what_is_beside_it() -> None:
    minutes = [10, 20 / 60, 110 / 60, 20 / 60, 10]
    names = [TRAIN, WALK, DRIVE, WALK, TRAIN]
    assert without_short_legs(names, [0] * 5, [int(minute * 60_000) for minute in minutes]) == [0] * 5
