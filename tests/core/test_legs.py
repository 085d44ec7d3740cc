"""Modes of transport: journeys whose mode is beyond doubt, and what edits make of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest

from tests import reference, world
from tests.reference import Leg, Point
from tests.scenarios import MINUTE, SECOND, at, fix
from trackgen_core.settings import Settings
from trackgen_core.timeline import timeline


def journey(kmh: Sequence[float], every_ms: int = 10 * SECOND, start: str = "08:00", from_m: float = 0) -> list[Point]:
    """Return fixes after hops at these speeds."""
    points, metres = [fix(at(start), from_m)], from_m
    for n, speed in enumerate(kmh, 1):
        metres += speed / 3.6 * every_ms / 1000
        points.append(fix(at(start) + n * every_ms, metres))
    return points


def about(kmh: float, spread: float, count: int) -> list[float]:
    random = Random(5)
    return [kmh * random.uniform(1 - spread, 1 + spread) for _ in range(count)]


CITY = ([0] * 3 + [15, 30, 45, 50, 48, 40, 30, 12]) * 12
PLANE = [400, 600, 750, *[850] * 60, 700, 500, 350]


def told(tmp_path: Path, points: list[Point]) -> list[tuple[str, float]]:
    """Return modes and minutes of the legs of the only track."""
    store = world.open_store(tmp_path)
    world.add(store, points)
    world.generate(store)
    (track,) = world.tracks(store)
    assert track == reference.tracks(points, Settings())[0][0]
    assert_tiled(track.legs, track)
    assert timeline(store, None, *world.ALL_DAYS)["mode"].dropna().tolist() == [track.mode]
    return [(leg.mode, round((leg.ended_ms - leg.started_ms) / MINUTE, 1)) for leg in track.legs]


def assert_tiled(legs: Sequence[Leg], track: reference.Track) -> None:
    assert [leg.started_ms for leg in legs] == [track.started_ms, *(leg.ended_ms for leg in legs[:-1])]
    assert legs[-1].ended_ms == track.ended_ms
    assert sum(leg.length_mm for leg in legs) == track.length_mm
    assert sum(leg.moving_ms for leg in legs) == track.moving_ms


@pytest.mark.parametrize(
    ("mode", "points"),
    [
        ("walk", journey(about(5, 0.3, 180))),
        ("run", journey(about(11, 0.2, 180))),
        ("cycle", journey(about(18, 0.4, 180))),
        ("drive", journey(CITY)),
        ("train", journey(about(120, 0.1, 60), MINUTE)),  # for it leads straight on
        ("train", journey(about(250, 0.1, 60), MINUTE)),
        ("fly", journey(PLANE, MINUTE)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_one_mode(mode: str, points: list[Point], tmp_path: Path) -> None:
    assert [one for one, _ in told(tmp_path, points)] == [mode]


def test_a_walk_to_a_bus_a_wait_a_ride_and_a_walk(tmp_path: Path) -> None:
    speeds = [*about(5, 0.2, 60), *[0] * 36, *CITY, *about(5, 0.2, 60)]
    assert told(tmp_path, journey(speeds)) == [
        ("walk", pytest.approx(16, abs=1)),  # the wait of 6 minutes is between two walks
        ("drive", pytest.approx(22, abs=1.5)),
        ("walk", pytest.approx(10, abs=1)),
    ]


def test_a_bus_that_waits_at_lights_is_still_a_bus(tmp_path: Path) -> None:
    assert told(tmp_path, journey([*CITY, *[0] * 9, *CITY])) == [("drive", pytest.approx(45.5, abs=1))]


def test_a_few_seconds_of_haste_on_a_walk_are_no_ride(tmp_path: Path) -> None:
    speeds = [*about(5, 0.2, 60), *[20] * 6, *about(5, 0.2, 60)]
    assert [mode for mode, _ in told(tmp_path, journey(speeds))] == ["walk"]
