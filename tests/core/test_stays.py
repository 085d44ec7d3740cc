"""Noise and stays: the scenarios, and histories made of stays, journeys and everything that goes wrong on the way."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.strategies import DataObject

from tests import reference, strategies, world
from tests.effort import examples
from tests.reference import Edit, Point, Timeline
from tests.scenarios import STAYS_AND_NOISE, Scenario, assert_expected, ride
from tests.travels import settings_of_travels, travels
from trackgen_core.points import MS_PER_DAY
from trackgen_core.segmentation import BUFFER_MS, segment
from trackgen_core.settings import Settings, make_settings
from trackgen_core.store import Store
from trackgen_core.timeline import compare, preview, timeline
from trackgen_core.verification import lost_points, overlaps, wrong_days, wrong_legs, wrong_tracks

slow = hypothesis_settings(max_examples=examples(5), deadline=None, suppress_health_check=list(HealthCheck))


def assert_whole(points: Sequence[Point], rules: Settings, edits: Sequence[Edit] = ()) -> None:
    """Compare what the library makes of the whole history with the reference."""
    expected, found = reference.timeline(points, rules, edits), world.whole(points, rules, edits)
    assert found.noise == expected.noise
    assert found.stays == expected.stays
    assert found.tracks == expected.tracks
    assert found.leftover == len(expected.leftover)


@slow
@given(travels(), settings_of_travels(), st.data())
def test_travels_are_those_of_the_reference(points, rules: Settings, data: DataObject) -> None:
    edits = data.draw(strategies.edits(points)) if data.draw(st.booleans()) else []
    assert_whole(points, rules, edits)
    device = frame_of(points)
    whole = segment(device, rules)
    for day in sorted({world.day(point) for point in points}):
        emit = device["time_ms"] // MS_PER_DAY == day
        near = device["time_ms"].between(day * MS_PER_DAY - BUFFER_MS, (day + 1) * MS_PER_DAY + BUFFER_MS - 1)
        part = segment(device.assign(emit=emit)[near], rules)
        own = whole.segments[whole.segments["day"] == day].reset_index(drop=True)
        pd.testing.assert_frame_equal(part.segments.reset_index(drop=True), own)


@slow
@given(travels(max_points=80), settings_of_travels(), st.data())
def test_travels_in_any_grouping_are_those_of_the_reference(points, rules: Settings, data: DataObject) -> None:
    expected = reference.timeline(points, rules)
    days = sorted({world.day(point) for point in points})
    with tempfile.TemporaryDirectory() as folder:
        store = world.open_store(Path(folder))
        world.set_settings(store, {"anna": rules})
        world.add(store, points)
        for group in data.draw(strategies.groupings(days)):
            world.generate(store, group)
        world.generate(store)
        assert line_of(store, expected) == expected
        assert_sound(store)


def frame_of(points: Sequence[Point]) -> pd.DataFrame:
    return world.frame(points).assign(device_id=7)


def line_of(store: Store, expected_leftover: Timeline) -> Timeline:
    """What is stored, with the leftover points of the reference: the database only tells how many they are."""
    assert world.leftover(store) == len(expected_leftover.leftover)
    return Timeline(world.tracks(store), world.stays(store), world.noise(store), expected_leftover.leftover)


@pytest.mark.parametrize("scenario", STAYS_AND_NOISE, ids=lambda scenario: scenario.name)
def test_scenario(scenario: Scenario, tmp_path: Path) -> None:
    expected = reference.timeline(scenario.remaining, make_settings(scenario.settings))
    store = world.open_store(tmp_path)
    store.set_settings("anna", scenario.settings)
    for batch in scenario.arrivals:  # judged again each time
        world.add(store, batch)
        world.generate(store)
    line = line_of(store, expected)
    assert line == expected
    assert_expected(scenario, line.tracks, len(line.leftover), line.stays, line.noise)
    assert_sound(store)


def assert_sound(store: Store) -> None:
    """Ask every question of the asset checks."""
    for ask in (lost_points, overlaps, wrong_tracks, wrong_days, wrong_legs):
        assert ask(store, *world.ALL_DAYS).faults == []
    assert world.dirty(store) == 0


@slow
@given(strategies.lives(), strategies.settings_of_rest(), st.data())
def test_any_order_of_arrival_and_any_grouping_give_the_reference(points, rules: Settings, data: DataObject) -> None:
    batches = data.draw(strategies.trickles(points))
    days = sorted({world.day(point) for point in points})
    with tempfile.TemporaryDirectory() as folder:
        store = world.open_store(Path(folder))
        store.set_settings("anna", rules.model_dump())
        edits = data.draw(strategies.edits(points))
        for number, batch in enumerate(batches):
            world.add(store, batch)
            if number == 0:
                world.edit(store, edits)
            for group in data.draw(st.lists(st.sampled_from(days), max_size=2)):
                world.generate(
                    store, [group], data.draw(st.sampled_from([["segments"], ["tracks"], ["segments", "tracks"]]))
                )
        for group in data.draw(strategies.groupings(days)):
            world.generate(store, group)
        world.generate(store)
        expected = reference.timeline(points, rules, edits)
        assert line_of(store, expected) == expected
        assert_sound(store)

        before = [world.rows(store, table) for table in world.RESULTS]
        for group in data.draw(strategies.groupings(days)):
            world.generate(store, group)
        assert [world.rows(store, table) for table in world.RESULTS] == before


@slow
@given(strategies.lives(), strategies.settings_of_rest(), st.data())
def test_deleting_points_is_never_having_had_them(points, rules: Settings, data: DataObject) -> None:
    gone = set(data.draw(st.lists(st.sampled_from(points), max_size=8))) if points else set()
    times = {point.time_ms for point in gone}
    rest = [point for point in points if point.time_ms not in times]
    with tempfile.TemporaryDirectory() as folder:
        store = world.open_store(Path(folder))
        store.set_settings("anna", rules.model_dump())
        world.add(store, points)
        world.generate(store)
        world.delete(store, sorted(gone, key=repr))
        world.generate(store)
        expected = reference.timeline(rest, rules)
        assert line_of(store, expected) == expected
        assert_sound(store)


@slow
@given(strategies.lives(), strategies.settings_of_rest(), st.data())
def test_edits_made_late_and_undone_are_as_if_they_had_always_or_never_been(
    points, rules: Settings, data: DataObject
) -> None:
    edits = data.draw(strategies.edits(points))
    gone = data.draw(st.sets(st.sampled_from(range(len(edits))))) if edits else set()
    with tempfile.TemporaryDirectory() as folder:
        store = world.open_store(Path(folder))
        store.set_settings("anna", rules.model_dump())
        world.add(store, points)
        world.generate(store)
        numbers = world.edit(store, edits)
        world.generate(store)
        with store.write() as connection:
            for n in gone:
                store.remove_edit(connection, numbers[n])
        world.generate(store)
        expected = reference.timeline(points, rules, [edit for n, edit in enumerate(edits) if n not in gone])
        assert line_of(store, expected) == expected
        assert_sound(store)


@slow
@given(strategies.lives(), strategies.settings_of_rest())
def test_the_time_line_has_no_hole_and_the_days_add_up(points, rules: Settings) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = world.open_store(Path(folder))
        store.set_settings("anna", rules.model_dump())
        world.add(store, points)
        world.generate(store)
        line = timeline(store, None, *world.ALL_DAYS)
        for _, rows in line.groupby("device"):
            assert rows["started_ms"].tolist()[1:] == rows["ended_ms"].tolist()[:-1]
            assert (rows["ended_ms"] >= rows["started_ms"]).all()
            assert (rows["reason"] != "").all()
        assert line["points"].sum() + len(world.noise(store)) == len(reference.distinct(points))

        tracks, stays = world.tracks(store), world.stays(store)
        sums = store.day_sums().sum(numeric_only=True)
        assert sums["length_mm"] == sum(track.length_mm for track in tracks)
        assert sums["moving_ms"] == sum(track.moving_ms for track in tracks)
        assert sums["gain_cm"] == sum(track.elevation_gain_cm or 0 for track in tracks)
        assert sums["rest_ms"] == sum(stay.ended_ms - stay.started_ms for stay in stays)

        # A preview by the settings in force is what there is; first and last are told from others only there.
        (seen, noise), days = preview(store, "anna", *world.ALL_DAYS, rules), world.ALL_DAYS
        assert noise == len(world.noise(store))
        assert compare(seen, timeline(store, None, *days))[1].empty


def test_a_journey_over_midnight_counts_on_both_days(tmp_path: Path) -> None:
    store = world.open_store(tmp_path)
    night = ride("23:00", 121, step_m=900)
    store.set_settings("anna", {"timezone": "Europe/Berlin"})
    world.add(store, night)
    world.generate(store)
    (track,) = world.tracks(store)
    days = store.day_sums()
    assert (days["local_day"] - track.started_ms // MS_PER_DAY).tolist() == [1]  # 23:00 UTC is midnight in Berlin
    store.set_settings("anna", {"timezone": "UTC"})
    world.generate(store)
    days = store.day_sums()
    assert days["length_mm"].tolist() == [53_100_000, 54_900_000]
    assert days["tracks"].tolist() == [1, 1]
    assert len(world.tracks(store)) == 1
