"""Lengths, moving times, modes and legs are those of the reference, to the last bit, in whole and in chunks."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import hypothesis
from hypothesis import HealthCheck, Phase, given
from hypothesis import strategies as st
from hypothesis.strategies import DataObject

from tests import reference, strategies, world
from tests.effort import examples
from tests.reference import Point, Track
from tests.strategies_of_motion import journeys, modes_by_hand, plain_settings, usual_settings

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
    assert motion(world.whole(points, rules, edits).tracks) == motion(reference.timeline(points, rules, edits).tracks)


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
