"""The one law: tracks = f(points, settings), whatever the order of arrival and the grouping of days."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.strategies import DataObject

from tests import reference, strategies, world
from tests.effort import examples
from tests.scenarios import SCENARIOS, Scenario, assert_expected
from trackgen_core.settings import make_settings

slow = hypothesis_settings(
    max_examples=examples(5),
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)


@slow
@given(strategies.cases(), st.data())
def test_any_order_of_arrival_and_any_grouping_give_the_reference(case, data: DataObject) -> None:
    points, rules = case
    batches = data.draw(strategies.trickles(points))
    days = sorted({world.day(point) for point in points})
    with tempfile.TemporaryDirectory() as folder:
        store = world.open_store(Path(folder))
        early_rules = data.draw(st.booleans())
        if early_rules:
            world.set_settings(store, rules)
        for batch in batches:
            world.add(store, batch)
            for group in data.draw(st.lists(st.sampled_from(days), max_size=2)):
                world.generate(
                    store, [group], data.draw(st.sampled_from([["segments"], ["tracks"], ["segments", "tracks"]]))
                )
        if not early_rules:
            world.set_settings(store, rules)
        for group in data.draw(strategies.groupings(days)):
            world.generate(store, group)
        world.generate(store)

        expected, leftover = reference.tracks(points, rules)
        assert world.tracks(store) == expected
        assert world.leftover(store) == leftover
        assert world.dirty(store) == 0

        before = world.rows(store, "tracks"), world.rows(store, "segments")
        for group in data.draw(strategies.groupings(days)):
            world.generate(store, group)
        assert (world.rows(store, "tracks"), world.rows(store, "segments")) == before


@slow
@given(strategies.cases(), st.data())
def test_deleting_points_is_never_having_had_them(case, data: DataObject) -> None:
    points, rules = case
    gone = data.draw(st.lists(st.sampled_from(points), max_size=8)) if points else []
    times = {(point.user, point.device, point.time_ms) for point in gone}
    with tempfile.TemporaryDirectory() as folder:
        store = world.open_store(Path(folder))
        world.set_settings(store, rules)
        world.add(store, points)
        world.generate(store)
        world.delete(store, gone)
        world.generate(store)
        rest = [point for point in points if (point.user, point.device, point.time_ms) not in times]
        expected, leftover = reference.tracks(rest, rules)
        assert world.tracks(store) == expected
        assert world.leftover(store) == leftover


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_scenario(scenario: Scenario, tmp_path: Path) -> None:
    store = world.open_store(tmp_path)
    for user in {point.user for point in scenario.points}:
        store.set_settings(user, make_settings(scenario.settings).model_dump())
    for batch in scenario.arrivals:
        world.add(store, batch)
        world.generate(store)
    world.delete(store, scenario.deleted)
    world.generate(store)
    assert_expected(scenario, world.tracks(store), world.leftover(store))
