"""Hypothesis strategies: settings, adversarial histories, and the ways in which days and points can be cut up.

A history is built step by step: wait so long, then move so far. Waits and moves favour what sits on an edge of a
rule (exactly T, T + 1 ms, exactly M, the fastest believable hop, midnight, the antimeridian, the poles). Every
choice lists its simplest case first, so that a failing history shrinks to few, plain points.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from random import Random
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


def by_breaks_alone(settings: Settings) -> Settings:
    """The same settings without noise, stays and days of one's own: only breaks are left."""
    plain = {"noise_filter": False, "stop_minutes": 0, "split_at_midnight": False, "timezone": "UTC"}
    return settings.model_copy(update=plain)


def settings_of_rest() -> SearchStrategy[Settings]:
    """Settings by which there is noise and there are stays."""
    return st.builds(
        Settings,
        minutes_between_routes=st.sampled_from([30, 10, 90, 1440, 1]),
        distance_rule=st.sampled_from(["implausible", "strict", "off"]),
        noise_filter=st.sampled_from([True, True, True, False]),
        gps_accuracy_threshold=st.sampled_from([100, None, 30]),
        stop_minutes=st.sampled_from([10, 10, 5, 1, 30, 0]),
        stop_radius_m=st.sampled_from([75, 30, 150]),
        split_at_midnight=st.booleans(),
        timezone=st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Pacific/Auckland", "Asia/Kolkata"]),
    )


class Episode(NamedTuple):
    """A part of a life."""

    what: str
    fixes: int
    every_ms: int
    metres: float
    bearing: float
    accuracy: float | None
    random: Random
    """For what does not matter in detail: jitter, and how far a spike leads."""


@st.composite
def lives(draw: DrawFn, max_points: int = 60) -> list[Point]:
    """Points of one device of Anna: rests, journeys, spikes, replays, duplicates, creeping, pauses, in any order.

    Times and distances favour the edges of the rules. The points are in the order of time.
    """
    episodes = st.builds(
        Episode,
        what=st.sampled_from(["rest", "rest", "journey", "journey", "spike", "replay", "duplicates", "creep", "wait"]),
        fixes=st.integers(1, 14),
        every_ms=st.sampled_from([m * MINUTE_MS for m in (1, 2, 5, 10, 30, 45, 60, 90)])
        | st.sampled_from([0, 1000, 10_000, 30_000, 2 * HOUR_MS, 2 * HOUR_MS + 1, 3 * HOUR_MS])
        | st.sampled_from([10 * MINUTE_MS + 1, 30 * MINUTE_MS + 1, DAY_MS, DAY_MS + 1, 8 * HOUR_MS]),
        metres=st.sampled_from([0.0, 10.0, 20.0, 49.9, 50.1, 75.0, 75.1, 149.9, 150.1, 300.0, 900.0, 5000.0, 1e6]),
        bearing=st.sampled_from([90.0, 0.0, 270.0, 180.0, 45.0]),
        accuracy=st.sampled_from([None, 10.0, 150.0, 50.0]),
        random=st.randoms(use_true_random=False),
    )
    lon, lat = draw(st.sampled_from([(10.0, 0.0), (13.4, 52.5), (179.9995, 0.0), (-77.03, -12.05), (30.0, 89.9995)]))
    time_ms = int(datetime(2024, 3, 1, tzinfo=UTC).timestamp()) * 1000 + draw(
        st.sampled_from([8 * HOUR_MS, 23 * HOUR_MS, 0, -1]) | st.integers(-DAY_MS, DAY_MS)
    )
    points: list[Point] = []
    been = [(lon, lat)]

    def moved(metres: float, bearing: float) -> tuple[float, float]:
        return WGS84.fwd(lon, lat, bearing, metres)[:2]

    def see(where: tuple[float, float], accuracy: float | None, random: Random) -> None:
        altitude = random.choice([None, 100.0, round(random.uniform(50, 120), 1)])
        points.append(Point("anna", "phone", time_ms, where[0] + 0.0, where[1] + 0.0, altitude, accuracy))

    for what, fixes, every_ms, metres, bearing, accuracy, random in draw(st.lists(episodes, max_size=12)):
        if what == "wait":
            time_ms += every_ms
            continue
        been.append((lon, lat))
        elsewhere = moved(metres, bearing)
        for number in range(1 if what == "replay" else min(fixes, 6) if what in ("spike", "duplicates") else fixes):
            far = what in ("spike", "replay", "duplicates")
            time_ms += 0 if what == "duplicates" else min(every_ms, 5 * MINUTE_MS) if far else every_ms
            if what == "journey":
                lon, lat = moved(metres, bearing + random.uniform(-10, 10))
                see((lon, lat), accuracy, random)
            elif what == "creep":
                lon, lat = moved(min(metres, 30.0), bearing)
                see((lon, lat), accuracy, random)
            elif what == "rest":
                see(moved(random.uniform(0, min(metres, 80.0)), random.uniform(0, 360)), accuracy, random)
            elif what == "replay":
                see(random.choice(been), accuracy, random)
            else:
                see(moved(metres * (1 + 0.01 * number), bearing) if number else elsewhere, accuracy, random)
        if what in ("spike", "replay"):
            time_ms += min(every_ms, 5 * MINUTE_MS)
            see((lon, lat), None, random)
    return points[:max_points]


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
