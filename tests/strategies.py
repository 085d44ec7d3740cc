"""Hypothesis strategies: settings, adversarial histories, and the ways in which days and points can be cut up.

A history is built step by step: wait so long, then move so far. Waits and moves favour what sits on an edge of a
rule (exactly T, T + 1 ms, exactly M, the fastest believable hop, midnight, the antimeridian, the poles). Every
choice lists its simplest case first, so that a failing history shrinks to few, plain points.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple, TypeVar

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy
from pyproj import Geod

from tests.reference import Point
from trackgen_core.settings import Settings

T = TypeVar("T")

WGS84 = Geod(ellps="WGS84")
SECOND_MS, MINUTE_MS, HOUR_MS, DAY_MS = 1000, 60_000, 3_600_000, 86_400_000
USERS = ("anna", "bob", "zoë")
DEVICES = ("", "phone")
LONGEST_MS = 45 * DAY_MS
"""No history lasts longer; what would come later is left out."""


class Step(NamedTuple):
    """One step of a history."""

    wait: int | str
    """ms, or an edge of time: see `_waited`."""
    move: tuple[float, float] | str
    """Bearing in degrees and metres, or an edge of distance: see `_moved`."""
    jump: tuple[float, float] | None
    """Where to be instead, whatever the move says."""
    altitude: float | None
    times: int
    """How often the step is made: chains over many days need few choices and shrink well."""


def settings() -> SearchStrategy[Settings]:
    """Any settings, mostly those at which something happens in `histories`."""
    return st.builds(
        Settings,
        minutes_between_routes=st.sampled_from([30, 1440, 1, 10, 90, 1439]) | st.integers(1, 1440),
        meters_between_routes=st.sampled_from([500, 1, 5, 100, 10_000, 40_000_000]) | st.integers(1, 40_000_000),
        distance_rule=st.sampled_from(["implausible", "strict", "off"]),
        max_speed_kmh=st.sampled_from([1000, 1, 5, 120, 100_000]) | st.integers(1, 100_000),
    )


@st.composite
def histories(
    draw: DrawFn, max_points: int = 40, rules: Mapping[str, Settings] | Settings | None = None
) -> list[Point]:
    """Points of one to three users with one or two devices each, in the order of the clock of each device.

    The edges of T, M and speed are those of `rules` (of one user's settings, by user), or of any settings if
    there are none. Points may be repeated, also with another altitude; none is at exactly (0, 0), which is no
    position.
    """
    start = draw(st.sampled_from(["2024-03-01", "2024-02-29", "2023-12-31", "2024-03-31", "2024-10-27"]))
    start_ms = int(datetime.fromisoformat(start).replace(tzinfo=UTC).timestamp()) * 1000
    trails = draw(
        st.lists(st.tuples(st.sampled_from(USERS), st.sampled_from(DEVICES)), min_size=1, max_size=4, unique=True)
    )
    points: list[Point] = []
    for user, device in trails:
        limits = rules if isinstance(rules, Settings) else (rules or {}).get(user) or draw(settings())
        points += draw(_trails(user, device, start_ms, limits, max_points // len(trails)))
    return points


@st.composite
def cases(draw: DrawFn, max_points: int = 40) -> tuple[list[Point], dict[str, Settings]]:
    """A history and the settings of its users, whose edges it walks along. Some users have the defaults."""
    rules = draw(st.dictionaries(st.sampled_from(USERS), settings()))
    return draw(histories(max_points, {user: rules.get(user, Settings()) for user in USERS})), rules


@st.composite
def groupings(draw: DrawFn, days: Sequence[T]) -> list[list[T]]:
    """The sorted `days` cut into contiguous ranges, in any order, some of them more than once."""
    ranges = draw(_cut(days))
    repeats = draw(st.lists(st.sampled_from(ranges), max_size=3)) if ranges else []
    return draw(st.permutations(ranges + repeats))


@st.composite
def trickles(draw: DrawFn, points: Sequence[Point]) -> list[list[Point]]:
    """The `points` in any order, cut into any number of batches, some of which arrive more than once."""
    batches = draw(_cut(draw(st.permutations(points))))
    repeats = draw(st.lists(st.sampled_from(batches), max_size=3)) if batches else []
    return draw(st.permutations(batches + repeats))


@st.composite
def _cut(draw: DrawFn, items: Sequence[T]) -> list[list[T]]:
    """The items in their order, in pieces of one or more."""
    pieces = [[item] for item in items[:1]]
    for item in items[1:]:
        if draw(st.booleans()):
            pieces.append([item])
        else:
            pieces[-1].append(item)
    return pieces


@st.composite
def _trails(draw: DrawFn, user: str, device: str, start_ms: int, limits: Settings, max_points: int) -> list[Point]:
    """The points of one device."""
    digits = draw(st.sampled_from([3, 5, 7, None]))
    steps = [step for step in draw(st.lists(_steps(limits), max_size=max_points)) for _ in range(step.times)]
    time_ms = start_ms + draw(
        st.sampled_from([0, 10 * HOUR_MS, 23 * HOUR_MS + 45 * MINUTE_MS, DAY_MS - 1, -1, -15 * MINUTE_MS])
        | st.integers(-DAY_MS, DAY_MS)
    )
    lon, lat = draw(_places())
    points = []
    for step in steps[:max_points]:
        waited_ms = _waited(time_ms, step.wait, limits)
        lon, lat = step.jump or _moved(lon, lat, step.move, waited_ms, limits, digits)
        time_ms += waited_ms
        if time_ms > start_ms + LONGEST_MS:
            break
        if (lon, lat) == (0, 0):
            lon = 0.001
        points.append(Point(user, device, time_ms, lon + 0.0, lat + 0.0, step.altitude))  # no -0.0
    return points


def _steps(limits: Settings) -> SearchStrategy[Step]:
    """A step that goes on, as a rule; or one on an edge, or one that leads far away."""
    gap_ms = limits.minutes_between_routes * MINUTE_MS
    bearings = st.sampled_from([90.0, 270.0, 0.0, 180.0]) | st.floats(0, 360)
    near = (
        st.just((90.0, 0.0))
        | st.tuples(bearings, st.sampled_from([1.0, 5.0, 300.0]) | st.floats(0, limits.meters_between_routes % 2000))
        | st.just("other side")
    )
    far = st.tuples(bearings, st.sampled_from([1667.0, 20_000.0, 1e6]) | st.floats(0, 3e6))
    soon = st.sampled_from([MINUTE_MS, SECOND_MS, 0, 1]) | st.integers(0, gap_ms)
    late = st.sampled_from([HOUR_MS, 6 * HOUR_MS, DAY_MS - 1, DAY_MS, DAY_MS + 1, 2 * DAY_MS, 3 * DAY_MS])

    def step(
        wait: SearchStrategy,
        move: SearchStrategy,
        jump: SearchStrategy = st.none(),  # noqa: B008 - strategies are immutable
        times: SearchStrategy = st.just(1),  # noqa: B008
    ) -> SearchStrategy[Step]:
        return st.builds(Step, wait, move, jump, _altitudes(), times)

    return (
        step(soon, near)
        | step(st.just(0), st.just((90.0, 0.0)))  # the same point again, perhaps with another altitude
        | step(st.sampled_from([gap_ms, gap_ms, gap_ms - 1, gap_ms + 1]), near, times=st.integers(1, 6))
        | step(soon, st.sampled_from(["M", "M + 1 mm"]))
        | step(st.just("limit"), st.sampled_from(["limit", "limit + 1 mm", "M + 1 mm"]))
        | step(st.sampled_from(["midnight", "before midnight"]), near)
        | step(soon | late, near | far)
        | step(soon | late, near, _places())
    )


def _altitudes() -> SearchStrategy[float | None]:
    """Unknown, plain, exact and inexact ties of half a centimetre, below sea level, or any in cm or mm."""
    return (
        st.none()
        | st.sampled_from([100.0, 0.0, 150.0, 0.125, 0.375, -0.125, -0.375, 1.005, 1.115, -2.675, 8848.865])
        | st.integers(-50_000, 900_000).map(lambda cm: cm / 100)
        | st.integers(-500_000, 9_000_000).map(lambda mm: mm / 1000)
        | st.floats(-500, 9000)
    )


def _places() -> SearchStrategy[tuple[float, float]]:
    """Somewhere; often around the antimeridian or a pole."""
    near_antimeridian = st.sampled_from([180.0, -180.0, 179.9995, -179.9995, 179.9, -179.9])
    near_pole = st.sampled_from([90.0, -90.0, 89.9999, -89.9999])
    lons = st.integers(-180_000, 180_000).map(lambda x: x / 1000) | st.floats(-180, 180)
    lats = st.integers(-90_000, 90_000).map(lambda x: x / 1000) | st.floats(-90, 90)
    return (
        st.sampled_from([(10.0, 0.0), (10.0, 50.0), (10.001, 50.0), (13.4, 52.5), (0.0, 51.5), (-77.03, -12.05)])
        | st.tuples(near_antimeridian, st.sampled_from([0.0, -17.5, 65.0]))
        | st.tuples(near_antimeridian | lons, near_pole)
        | st.tuples(near_antimeridian, lats)
        | st.tuples(lons, lats)
    )


def _waited(time_ms: int, wait: int | str, limits: Settings) -> int:
    """Return how many ms the step takes."""
    if wait == "midnight":
        return DAY_MS - time_ms % DAY_MS
    if wait == "before midnight":
        return DAY_MS - 1 - time_ms % DAY_MS
    if wait == "limit":  # the fastest believable hop is just longer than M, and a whole number of mm
        per_18_ms = 5 * limits.max_speed_kmh
        return min(18 * (limits.meters_between_routes * 1000 // per_18_ms + 1), DAY_MS)
    assert isinstance(wait, int)
    return wait


def _moved(
    lon: float,
    lat: float,
    move: tuple[float, float] | str,
    waited_ms: int,
    limits: Settings,
    digits: int | None,
) -> tuple[float, float]:
    """Return where the move leads; edges of distance go east and are not rounded to `digits`."""
    if move == "other side":
        return (-lon, lat) if abs(lon) > 179 else (lon, lat)
    if not isinstance(move, str):
        bearing, metres = move
        if metres == 0:
            return lon, lat
        lon, lat, _ = WGS84.fwd(lon, lat, bearing, metres)
        return (lon, lat) if digits is None else (round(lon, digits), round(lat, digits))
    believable_mm = limits.max_speed_kmh * waited_ms * 10 // 36
    mm = limits.meters_between_routes * 1000 if move.startswith("M") else believable_mm
    if move.endswith("+ 1 mm"):
        mm += 1
    if mm > 19_000_000_000:  # more than half around the earth: the geodesic would be another one
        return lon, lat
    lon, lat, _ = WGS84.fwd(lon, lat, 90.0, mm / 1000)
    return lon, lat
