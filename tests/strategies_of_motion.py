"""Strategies for Hypothesis: journeys at the speeds of every mode, with jitter, stops, pauses and activities."""

from __future__ import annotations

from datetime import UTC, datetime
from random import Random
from typing import NamedTuple

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy
from pyproj import Geod

from tests.reference import Edit, Point
from tests.reference_legs import ACTIVITIES
from trackgen_core.settings import Settings

WGS84 = Geod(ellps="WGS84")
SECOND_MS, MINUTE_MS, HOUR_MS, DAY_MS = 1000, 60_000, 3_600_000, 86_400_000

SPEEDS_M_S = {
    "stop": (0.0, 0.3),
    "walk": (0.8, 1.9),
    "run": (2.3, 4.1),
    "ride": (4.0, 8.5),
    "drive": (5.0, 33.0),
    "train": (15.0, 80.0),
    "flight": (60.0, 250.0),
}
"""The slowest and the fastest of each."""


class Way(NamedTuple):
    """A part of a journey at one kind of speed."""

    kind: str
    points: int
    every_ms: int
    jitter_m: float
    turn: float
    """How far the bearing changes from point to point, at most."""
    unsteadiness: float
    """How far the speed is from the mean one, at most, as a share of it."""
    pause: bool
    """Whether the recording was paused before it."""
    activity: int
    random: Random


def ways() -> SearchStrategy[Way]:
    seconds = [0.2, 0.5, 1, 1, 2, 5, 5, 10, 19, 20, 20, 30, 60, 60, 120, 300, 300, 601, 1200, 1500, 1801]
    return st.builds(
        Way,
        kind=st.sampled_from([*SPEEDS_M_S]),
        points=st.integers(1, 40),
        every_ms=st.sampled_from([int(1000 * second) for second in seconds]),
        jitter_m=st.sampled_from([0.0, 0.0, 0.004, 2.0, 5.0, 8.0]),
        turn=st.sampled_from([0.0, 5.0, 40.0, 180.0]),
        unsteadiness=st.sampled_from([0.0, 0.1, 0.9]),
        pause=st.sampled_from([False, False, False, True]),
        activity=st.sampled_from([0, 0, 0, *range(1, len(ACTIVITIES))]),
        random=st.randoms(use_true_random=False),
    )


def plain_settings() -> SearchStrategy[Settings]:
    """Settings by which there is no noise, and no stays: only the motion is left."""
    return st.builds(
        Settings,
        noise_filter=st.just(False),
        stay_minutes=st.just(0),
        silent_stay_m=st.sampled_from([0, 0, 500]),
        minutes_between_routes=st.sampled_from([30, 30, 1440, 5]),
        distance_rule=st.sampled_from(["implausible", "implausible", "off", "strict"]),
        split_at_midnight=st.booleans(),
        timezone=st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kolkata"]),
        length_smoothing=st.sampled_from(["on", "on", "off"]),
        unused_modes=st.sets(st.sampled_from(["walk", "run", "cycle", "drive", "train", "boat", "fly"]), max_size=3)
        | st.just(()),
    )


def usual_settings() -> SearchStrategy[Settings]:
    """Settings by which there is noise and there are stays."""
    return st.builds(
        Settings,
        split_at_midnight=st.booleans(),
        length_smoothing=st.sampled_from(["on", "on", "off"]),
        stay_minutes=st.sampled_from([10, 5]),
        unused_modes=st.sampled_from([(), ("drive",), ("cycle", "boat")]),
    )


@st.composite
def journeys(draw: DrawFn, max_points: int = 120, user: str = "anna", device: str = "phone") -> list[Point]:
    """Points of one device in the order of time, about a midnight in half of the cases."""
    lon, lat = draw(
        st.sampled_from([(10.0, 0.0), (13.4, 52.5), (179.999, 0.0), (-30.0, 40.0), (-25.6, 37.7), (30.0, 89.999)])
    )
    digits = draw(st.sampled_from([5, 7, None, None]))
    stamp_ms = draw(st.sampled_from([1, 1, 1000, 60_000]))
    start_ms = int(datetime(2024, 3, 1, tzinfo=UTC).timestamp()) * 1000
    time_ms = start_ms + draw(
        st.sampled_from([10 * HOUR_MS, DAY_MS - 1]) | st.integers(-HOUR_MS, 0) | st.integers(23 * HOUR_MS, DAY_MS)
    )
    points: list[Point] = []
    bearing = draw(st.sampled_from([90.0, 0.0, 225.0]))
    for way in draw(st.lists(ways(), min_size=1, max_size=8)):
        random = way.random
        slowest, fastest = SPEEDS_M_S[way.kind]
        mean_m_s = random.uniform(slowest, fastest)
        for number in range(way.points):
            if points:
                time_ms += way.every_ms
                metres = mean_m_s * random.uniform(1 - way.unsteadiness, 1 + way.unsteadiness) * way.every_ms / 1000
                bearing += random.uniform(-way.turn, way.turn)
                lon, lat = WGS84.fwd(lon, lat, bearing, metres)[:2]
            seen = WGS84.fwd(lon, lat, random.uniform(0, 360), way.jitter_m * random.random())[:2]
            if digits is not None:
                seen = round(seen[0], digits), round(seen[1], digits)
            stamp = time_ms // stamp_ms * stamp_ms
            is_tie = bool(points) and points[-1].time_ms == stamp
            points.append(
                Point(
                    user,
                    device,
                    stamp,
                    seen[0] + 0.0,
                    seen[1] + 0.0,
                    seq=points[-1].seq + 1 if is_tie else 0,
                    pause=int(way.pause and number == 0),
                    activity=way.activity,
                )
            )
    return points[:max_points]


@st.composite
def modes_by_hand(draw: DrawFn, points: list[Point]) -> list[Edit]:
    """Edits of modes, and merges, of some of the time of these points."""
    times = st.sampled_from(sorted({point.time_ms for point in points}))
    found = []
    for kind in draw(st.lists(st.sampled_from(["mode", "mode", "merge", "split"]), max_size=3)):
        before_ms, after_ms = sorted((draw(times), draw(times)))
        mode = draw(st.sampled_from(ACTIVITIES[1:])) if kind == "mode" else None
        found.append(Edit(points[0].user, points[0].device, kind, before_ms, after_ms, mode))
    return found
