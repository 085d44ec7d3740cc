"""Hypothesis strategies: settings, adversarial histories, and the ways in which days and points can be cut up.

A history is built of episodes: a step (wait so long, then move so far), a drive, a time in one place, a trip away and
back (a spike, if it is fast), an old position repeated, a second fix of the same instant. Waits and moves favour what
sits on an edge of a rule (exactly T, T + 1 ms, exactly M, the fastest believable hop, midnight, the antimeridian,
the poles; the radius and the numbers of `docs/rules.md`). At (90, 0), where many histories begin, north and east are
axes of places, so that moves along them are exact to the centimetre. Every choice lists its simplest case first, so
that a failing history shrinks to few, plain points.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from operator import add
from random import Random
from typing import NamedTuple, TypeVar
from zoneinfo import ZoneInfo

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy
from pyproj import Geod

from tests.reference import Edit, Point
from trackgen_core.legs import MODES
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
    plain = {
        "noise_filter": False,
        "stay_minutes": 0,
        "climb_threshold_m": 0,
        "split_at_midnight": False,
        "timezone": "UTC",
        "length_smoothing": "off",
    }
    return settings.model_copy(update=plain)


def settings_of_rest() -> SearchStrategy[Settings]:
    """Settings by which there is noise and there are stays."""
    return st.builds(
        Settings,
        minutes_between_routes=st.sampled_from([30, 10, 90, 1440, 1]),
        distance_rule=st.sampled_from(["implausible", "strict", "off"]),
        noise_filter=st.sampled_from([True, True, True, False]),
        gps_accuracy_threshold=st.sampled_from([100, None, 30]),
        stay_minutes=st.sampled_from([10, 10, 5, 1, 30, 0]),
        stay_radius_m=st.sampled_from([75, 30, 150]),
        climb_threshold_m=st.sampled_from([5, 0, 1, 20]),
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


@st.composite
def edits(draw: DrawFn, points: Sequence[Point]) -> list[Edit]:
    """Edits by hand of a device that has these points, most of them at times where something is."""
    if not points:
        return []
    times = sorted({point.time_ms for point in points})
    instants = st.sampled_from(times) | st.builds(
        add, st.sampled_from(times), st.sampled_from([-1, 1, MINUTE_MS, -MINUTE_MS, HOUR_MS])
    )
    found = []
    for kind in draw(st.lists(st.sampled_from(["split", "merge", "merge", "mode"]), max_size=4)):
        before_ms, after_ms = sorted((draw(instants), draw(instants)))
        mode = draw(st.sampled_from(MODES)) if kind == "mode" else None
        found.append(Edit(points[0].user, points[0].device, kind, before_ms, after_ms, mode))
    return found


TIMEZONES = ("UTC", "Europe/Berlin", "America/New_York", "Pacific/Auckland", "Asia/Kolkata")


@dataclass
class Walk:
    """The points of one device so far, and where it is."""

    user: str
    device: str
    time_ms: int
    lon: float
    lat: float
    limits: Settings
    digits: int | None
    points: list[Point] = field(default_factory=list)

    def fix(
        self,
        wait_ms: int,
        lon_lat: tuple[float, float],
        altitude: float | None = None,
        accuracy: float | None = None,
    ) -> None:
        """Add a point; the device stays where it was."""
        self.time_ms += wait_ms
        lon, lat = lon_lat if lon_lat != (0, 0) else (0.001, 0.0)
        self.points.append(Point(self.user, self.device, self.time_ms, lon + 0.0, lat + 0.0, altitude, accuracy))

    def off(self, bearing: float, metres: float) -> tuple[float, float]:
        """Return a place so far from where the device is."""
        return _offset(self.lon, self.lat, bearing, metres)


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
    accuracy: float | None

    def walk(self, walk: Walk) -> None:
        for _ in range(self.times):
            wait_ms = _waited(walk.time_ms, self.wait, walk.limits)
            here = walk.lon, walk.lat
            walk.lon, walk.lat = self.jump or _moved(*here, self.move, wait_ms, walk.limits, walk.digits)
            walk.fix(wait_ms, (walk.lon, walk.lat), self.altitude, self.accuracy)


class Drive(NamedTuple):
    """Even steps in one direction."""

    count: int
    every_ms: int
    metres: float
    bearing: float
    accuracies: tuple[float | None, ...]
    """Those of the fixes, over and over."""

    def walk(self, walk: Walk) -> None:
        for number in range(self.count):
            walk.lon, walk.lat = walk.off(self.bearing, self.metres)
            walk.fix(self.every_ms, (walk.lon, walk.lat), accuracy=_nth(self.accuracies, number))


class Dwell(NamedTuple):
    """Fixes around one place: every other one just there, those between `spread_m` away, all around."""

    count: int
    every_ms: int
    spread_m: float
    creep_m: float
    """How far the place moves from fix to fix, eastward."""
    accuracies: tuple[float | None, ...]

    def walk(self, walk: Walk) -> None:
        for number in range(self.count):
            walk.lon, walk.lat = walk.off(90.0, self.creep_m)
            spread_m = self.spread_m if number % 2 else 0.0
            lon_lat = walk.off((90.0, 0.0, 270.0, 180.0)[number // 2 % 4], spread_m)
            walk.fix(self.every_ms, lon_lat, accuracy=_nth(self.accuracies, number))


class Trip(NamedTuple):
    """Away and back: a spike, an excursion, or a way to the shop."""

    count: int
    metres: float
    bearing: float
    out_ms: int
    back_ms: int
    every_ms: int
    """The time of the hops between."""
    spread: float
    """How much farther each fix is than the one before, in `metres`."""
    drift_m: float
    """How far from the beginning the trip ends, eastward."""
    turn: float
    """By how many degrees the direction of each fix differs from that of the one before."""
    accuracies: tuple[float | None, ...]

    def walk(self, walk: Walk) -> None:
        for number in range(self.count):
            lon_lat = walk.off(self.bearing + number * self.turn, self.metres * (1 + number * self.spread))
            accuracy = _nth(self.accuracies, number)
            walk.fix(self.every_ms if number else self.out_ms, lon_lat, accuracy=accuracy)
        walk.lon, walk.lat = walk.off(90.0, self.drift_m)
        walk.fix(self.back_ms, (walk.lon, walk.lat))


class Replay(NamedTuple):
    """The position of an earlier fix once more, and back to where the device is."""

    ago: int
    """How many fixes ago."""
    out: int | str
    """ms, or how long the earlier fix was ago: "10 min" or "3 h", plus or minus 1 ms."""
    count: int
    back_ms: int

    def walk(self, walk: Walk) -> None:
        if not walk.points:
            return
        old = walk.points[-1 - self.ago % len(walk.points)]
        for number in range(self.count):
            walk.fix(MINUTE_MS if number else _since(old.time_ms, walk.time_ms, self.out), (old.lon, old.lat))
        walk.fix(self.back_ms, (walk.lon, walk.lat))


class Twin(NamedTuple):
    """A fix of the same instant as the one before, some way off."""

    metres: float
    bearing: float
    accuracy: float | None

    def walk(self, walk: Walk) -> None:
        walk.fix(0, walk.off(self.bearing, self.metres), accuracy=self.accuracy)


Part = Step | Drive | Dwell | Trip | Replay | Twin


def settings() -> SearchStrategy[Settings]:
    """Any settings, mostly those at which something happens in `histories`; often with neither noise nor stays."""
    noise_and_stays = st.sampled_from(
        [(False, 0), (False, 0), (True, 10), (True, 10), (True, 10), (True, 0), (False, 10), (True, 1), (True, 30)]
    ) | st.tuples(st.booleans(), st.integers(0, 30))

    def build(labels: tuple[bool, int], **others: object) -> Settings:
        return Settings(noise_filter=labels[0], stay_minutes=labels[1], **others)

    return st.builds(
        build,
        noise_and_stays,
        minutes_between_routes=st.sampled_from([30, 1440, 1, 10, 90, 1439]) | st.integers(1, 1440),
        meters_between_routes=st.sampled_from([500, 1, 5, 100, 10_000, 40_000_000]) | st.integers(1, 40_000_000),
        distance_rule=st.sampled_from(["implausible", "strict", "off"]),
        max_speed_kmh=st.sampled_from([1000, 1, 5, 120, 100_000]) | st.integers(1, 100_000),
        gps_accuracy_threshold=st.sampled_from([100, None, 1, 10]) | st.integers(1, 5000),
        stay_radius_m=st.sampled_from([75, 75, 75, 1, 10, 300, 1000]) | st.integers(1, 1000),
        split_at_midnight=st.sampled_from([False, True, True]),
        timezone=st.sampled_from(TIMEZONES),
    )


@st.composite
def histories(
    draw: DrawFn, max_points: int = 60, rules: Mapping[str, Settings] | Settings | None = None
) -> list[Point]:
    """Points of one to three users with one or two devices each, in the order of the clock of each device.

    The edges of T, M, speed, radius and so on are those of `rules` (of one user's settings, by user), or of any
    settings if there are none. Points may be repeated, also with another altitude or accuracy; none is at exactly
    (0, 0), which is no position.
    """
    start = draw(st.sampled_from(["2024-03-01", "2024-02-29", "2023-12-31", "2024-03-31", "2024-10-27"]))
    start_ms = int(datetime.fromisoformat(start).replace(tzinfo=UTC).timestamp()) * 1000
    count = draw(st.sampled_from([1, 1, 1, 2, 2, 3, 4]))
    one = st.tuples(st.sampled_from(USERS), st.sampled_from(DEVICES))
    trails = draw(st.lists(one, min_size=count, max_size=count, unique=True))
    points: list[Point] = []
    for user, device in trails:
        limits = rules if isinstance(rules, Settings) else (rules or {}).get(user) or draw(settings())
        points += draw(_trails(user, device, start_ms, limits, max_points // len(trails)))
    return points


@st.composite
def cases(draw: DrawFn, max_points: int = 60) -> tuple[list[Point], dict[str, Settings]]:
    """A history and the settings of its users, whose edges it walks along. Some users have the defaults."""
    rules = {user: draw(settings()) for user in USERS if draw(st.integers(0, 3))}
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
    start_ms += draw(
        st.sampled_from([0, 10 * HOUR_MS, 23 * HOUR_MS + 45 * MINUTE_MS, DAY_MS - 1, -1, -15 * MINUTE_MS])
        | st.integers(-DAY_MS, DAY_MS)
    )
    walk = Walk(user, device, start_ms, *draw(_places()), limits, digits)
    for episodes in draw(st.lists(_parts(limits), max_size=max(1, max_points // 2))):
        for episode in episodes:
            episode.walk(walk)
        if len(walk.points) > max_points or walk.time_ms > start_ms + LONGEST_MS:
            break
    return [point for point in walk.points[:max_points] if point.time_ms <= start_ms + LONGEST_MS]


@lru_cache(maxsize=200)
def _parts(limits: Settings) -> SearchStrategy[list[Part]]:
    """One episode, or several that are only of interest one after the other."""
    drive, dwell, trip = _drives(limits), _dwells(limits), _trips(limits)
    sparse, dense = _roomy_dwells(limits, 5, 10 * MINUTE_MS), _roomy_dwells(limits, 9, 5 * MINUTE_MS)
    some_drive, some_dwell = (st.lists(episode, max_size=1) for episode in (drive, dwell))

    def together(*parts: SearchStrategy[list[Part]]) -> SearchStrategy[list[Part]]:
        return st.tuples(*parts).map(lambda lists: [episode for part in lists for episode in part])

    def single(episode: SearchStrategy[Part]) -> SearchStrategy[list[Part]]:
        return episode.map(lambda one: [one])

    return (
        single(_steps(limits))
        | single(drive)
        | single(dwell)
        | together(some_drive, single(trip), some_drive)
        | together(some_dwell, single(trip), some_dwell)
        | together(single(_evenings(limits)), single(drive), single(drive | dwell))
        | together(single(_evenings(limits)), single(dwell), some_drive)
        | together(single(drive), single(_spikes(limits)), single(drive))
        | together(single(drive), single(_spikes(limits)), single(drive))
        | together(single(drive), single(_spikes(limits)), some_drive)
        | together(some_dwell, single(_spikes(limits)), some_dwell)
        | together(single(_walks()), single(_replays()), some_drive)
        | together(single(sparse), single(_outings(limits)), single(sparse))
        | together(single(sparse), single(_outings(limits)), single(sparse))
        | together(single(dense), single(_shifts(limits)), single(dense))
        | together(some_drive, single(_twins(limits)), some_drive)
        | together(single(dwell), single(_pauses(limits)), some_dwell)
        | together(single(drive), single(_pauses(limits)), some_drive)
        | together(single(drive), single(dwell), single(drive))
        | together(single(dwell), single(_steps(limits)), single(dwell))
    )


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
        return st.builds(Step, wait, move, jump, _altitudes(), times, _accuracies(limits))

    return (
        step(soon, near)
        | step(st.just(0), st.just((90.0, 0.0)))  # the same point again, perhaps with another altitude
        | step(st.sampled_from([gap_ms, gap_ms, gap_ms - 1, gap_ms + 1]), near, times=st.integers(1, 6))
        | step(soon, st.sampled_from(["M", "M + 1 mm"]))
        | step(st.just("limit"), st.sampled_from(["limit", "limit + 1 mm", "M + 1 mm"]))
        | step(st.sampled_from(["midnight", "before midnight", "UTC midnight", "before UTC midnight"]), near)
        | step(soon | late, near | far)
        | step(soon | late, near, _places())
    )


def _evenings(limits: Settings) -> SearchStrategy[Step]:
    """Wait until soon before the user's midnight."""
    waits = st.sampled_from(["evening", "evening", "before midnight"])
    return st.builds(Step, waits, st.just((90.0, 0.0)), st.none(), st.none(), st.just(1), st.none())


def _drives(limits: Settings) -> SearchStrategy[Drive]:
    """Steps of some speed; 36 s and 2500 m are 250 km/h."""
    return st.builds(
        Drive,
        st.integers(1, 10),
        st.sampled_from([MINUTE_MS, MINUTE_MS, 36 * SECOND_MS, 5 * MINUTE_MS, 10 * MINUTE_MS]),
        st.sampled_from([600.0, 2000.0, 100.0, 2500.0, 7000.0]) | st.floats(10, 20_000),
        st.sampled_from([90.0, 0.0, 270.0]),
        _patterns(limits),
    )


def _dwells(limits: Settings) -> SearchStrategy[Dwell]:
    """Times in one place, dense and sparse; some of them creep."""
    radius_m = limits.stay_radius_m
    edges = [limits.stay_minutes * MINUTE_MS, 10 * MINUTE_MS, 30 * MINUTE_MS, HOUR_MS, 2 * HOUR_MS]
    every = st.sampled_from([5 * MINUTE_MS, 5 * MINUTE_MS, MINUTE_MS, 45 * MINUTE_MS, 110 * MINUTE_MS])
    spreads = [0.0, 10.0, radius_m / 2, *_around(radius_m), *_around(2 * radius_m)]
    return st.builds(
        Dwell,
        st.integers(3, 9),
        every | every | _edges(edges) | st.integers(0, 2 * HOUR_MS),
        st.sampled_from(spreads) | st.floats(0, radius_m),
        st.sampled_from([0.0, 0.0, 0.0, 1.0, radius_m / 3, radius_m / 2]),
        _patterns(limits),
    )


def _trips(limits: Settings) -> SearchStrategy[Trip]:
    """Ways that turn back: 2500 m in a minute are 150 km/h, 6000 m are three times a drive of 2000 m in a minute."""
    radius_m = limits.stay_radius_m
    waits = (
        st.sampled_from([MINUTE_MS, MINUTE_MS, MINUTE_MS, 0, 1000, 36 * SECOND_MS, 5 * MINUTE_MS])
        | _edges([10 * MINUTE_MS, 30 * MINUTE_MS])
        | st.sampled_from([3 * HOUR_MS, 8 * HOUR_MS, 2 * DAY_MS])
    )
    metres = st.sampled_from([80_000.0, 5000.0, 1e6, 200.0, 1.5 * radius_m]) | st.sampled_from(
        [edge for middle in (50.0, 500.0, 2500.0, 6000.0, radius_m, 2 * radius_m) for edge in _around(middle)]
    )
    return st.builds(
        Trip,
        st.sampled_from([1, 1, 2, 3, 5, 6, 7]),
        metres,
        st.sampled_from([0.0, 90.0, 180.0, 270.0]),
        waits,
        waits,
        st.sampled_from([MINUTE_MS, MINUTE_MS, 10 * SECOND_MS, 0, 10 * MINUTE_MS, 15 * MINUTE_MS]),
        st.sampled_from([0.0, 0.0, 0.001, 0.1, 0.5, -0.5, -0.6]),
        st.sampled_from([0.0, 0.0, 10.0, 600.0]) | metres,
        st.sampled_from([0.0, 0.0, 90.0, 10.0]),
        _patterns(limits),
    )


def _spikes(limits: Settings) -> SearchStrategy[Trip]:
    """Trips that are far and fast, if not just not; at the end of a recording there is no way back for long."""
    waits = st.sampled_from([MINUTE_MS, MINUTE_MS, 36 * SECOND_MS, 0])
    late = st.sampled_from([30 * MINUTE_MS + 1, 30 * MINUTE_MS, 2 * HOUR_MS, 2 * DAY_MS])
    return st.builds(
        Trip,
        st.sampled_from([1, 1, 1, 2, 2, 3, 4, 5, 6]),
        st.sampled_from([80_000.0, 80_000.0, 1e6]) | st.sampled_from([7000.0, *_around(2500.0), *_around(6000.0)]),
        st.sampled_from([0.0, 180.0, 270.0]),
        waits | waits | waits | waits | late,
        waits | waits | waits | waits | late,
        st.sampled_from([MINUTE_MS, MINUTE_MS, MINUTE_MS, SECOND_MS, 0, 15 * MINUTE_MS]),
        st.sampled_from([0.0, 0.0, 0.0, 0.001, 0.1, -0.1, 0.5, -0.5]),
        st.sampled_from([0.0, 0.0, 600.0, 2500.0]),
        st.sampled_from([0.0, 0.0, 0.0, 30.0, 90.0]),
        _patterns(limits),
    )


def _walks() -> SearchStrategy[Drive]:
    """Slow enough that a way back to where it began is no spike."""
    metres = st.sampled_from([420.0, 600.0, 1000.0])
    return st.builds(
        Drive,
        st.integers(3, 9),
        st.sampled_from([5, 10, 20]).map(lambda m: m * MINUTE_MS),
        metres,
        st.just(90.0),
        st.just((None,)),
    )


def _roomy_dwells(limits: Settings, count: int, every_ms: int) -> SearchStrategy[Dwell]:
    """Times in one place that fill the box of a stay, so that there is no room in it for anything beside."""
    return st.just(Dwell(count, every_ms, 0.85 * limits.stay_radius_m, 0.0, (None,)))


def _outings(limits: Settings) -> SearchStrategy[Trip]:
    """Too many fixes for an excursion, to several sides, so that they do not fit into the stay, and soon back."""
    radius_m = limits.stay_radius_m
    return st.builds(
        Trip,
        st.sampled_from([6, 6, 6, 5, 7]),
        st.sampled_from([1.8 * radius_m, 1.8 * radius_m, *_around(2 * radius_m), 1.5 * radius_m]),
        st.just(240.0),
        st.just(MINUTE_MS),
        st.sampled_from([MINUTE_MS, MINUTE_MS, 4 * MINUTE_MS]) | _edges([4 * MINUTE_MS]),
        st.just(MINUTE_MS),
        st.just(0.0),
        st.sampled_from([0.0, 0.0, radius_m / 2, *_around(radius_m)]),
        st.sampled_from([-60.0, -60.0, -60.0, 90.0]),
        st.just((None,)),
    )


def _shifts(limits: Settings) -> SearchStrategy[Step]:
    """From one stay to the next, so near that they may be one."""
    waits = st.sampled_from([12, 15, 11, 25]).map(lambda minutes: minutes * MINUTE_MS) | _edges([10 * MINUTE_MS])
    moves = st.tuples(st.just(90.0), st.sampled_from([*_around(limits.stay_radius_m)]))
    return st.builds(Step, waits, moves, st.none(), st.none(), st.just(1), st.none())


def _replays() -> SearchStrategy[Replay]:
    outs = st.sampled_from([5 * MINUTE_MS, 10 * MINUTE_MS, MINUTE_MS, 20 * MINUTE_MS, 30 * MINUTE_MS])
    sinces = st.sampled_from(["10 min", "3 h", "10 min - 1", "10 min + 1", "3 h - 1", "3 h + 1"])
    backs = st.sampled_from([5 * MINUTE_MS, MINUTE_MS, 20 * MINUTE_MS]) | _edges([30 * MINUTE_MS])
    return st.builds(Replay, st.integers(2, 9), outs | outs | sinces, st.sampled_from([1, 1, 1, 2, 5, 6]), backs)


def _twins(limits: Settings) -> SearchStrategy[Twin]:
    metres = st.sampled_from([300.0, 5000.0, *_around(50.0), 0.0])
    return st.builds(Twin, metres, st.sampled_from([90.0, 270.0, 0.0]), _accuracies(limits))


def _pauses(limits: Settings) -> SearchStrategy[Step]:
    """Nothing for hours, and then a fix not far away."""
    waits = _edges([8 * HOUR_MS, 2 * HOUR_MS, DAY_MS]) | st.integers(2 * HOUR_MS, DAY_MS)
    metres = st.sampled_from([0.0, 10.0, *_around(limits.stay_radius_m)])
    moves = st.tuples(st.sampled_from([90.0, 0.0]), metres)
    return st.builds(Step, waits, moves, st.none(), st.none(), st.sampled_from([1, 1, 2]), st.none())


def _edges(times_ms: Sequence[int]) -> SearchStrategy[int]:
    """Each of these times, or 1 ms less or more."""
    return st.sampled_from([edge for time_ms in times_ms for edge in (time_ms, time_ms + 1, max(0, time_ms - 1))])


def _around(metres: float) -> tuple[float, float, float]:
    """These metres, and a centimetre more or less."""
    return metres, metres + 0.01, metres - 0.01


def _patterns(limits: Settings) -> SearchStrategy[tuple[float | None, ...]]:
    """The accuracies of fixes that follow one another: unknown, good, or with coarse ones among them."""
    good, coarse = 1.0, (limits.gps_accuracy_threshold or 100) + 0.5
    return st.sampled_from(
        [(None,)] * 6 + [(good,), (coarse,), (good, good, coarse), (None, coarse), (good, *[coarse] * 4)]
    )


def _accuracies(limits: Settings) -> SearchStrategy[float | None]:
    threshold = limits.gps_accuracy_threshold or 100
    return st.none() | st.sampled_from([1.0, float(threshold), threshold + 0.5, 5000.0]) | st.floats(0, 2 * threshold)


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
        st.sampled_from(
            [
                (10.0, 0.0),
                (90.0, 0.0),
                (90.0, 0.0),
                (10.0, 50.0),
                (10.001, 50.0),
                (13.4, 52.5),
                (0.0, 51.5),
                (-77.03, -12.05),
            ]
        )
        | st.tuples(near_antimeridian, st.sampled_from([0.0, -17.5, 65.0]))
        | st.tuples(near_antimeridian | lons, near_pole)
        | st.tuples(near_antimeridian, lats)
        | st.tuples(lons, lats)
    )


def _nth(pattern: Sequence[float | None], number: int) -> float | None:
    return pattern[number % len(pattern)]


def _since(old_ms: int, time_ms: int, out: int | str) -> int:
    """Return how long to wait, if possible until the earlier fix is so long ago."""
    if isinstance(out, int):
        return out
    number, unit, *more = out.split(maxsplit=2)
    ago_ms = int(number) * (HOUR_MS if unit == "h" else MINUTE_MS) + int("".join(more).replace(" ", "") or 0)
    return max(0, old_ms + ago_ms - time_ms)


def _waited(time_ms: int, wait: int | str, limits: Settings) -> int:
    """Return how many ms the step takes."""
    if isinstance(wait, int):
        return wait
    if wait == "limit":  # the fastest believable hop is just longer than M, and a whole number of mm
        per_18_ms = 5 * limits.max_speed_kmh
        return min(18 * (limits.meters_between_routes * 1000 // per_18_ms + 1), DAY_MS)
    if wait == "evening":
        until_midnight_ms = _waited(time_ms, "midnight", limits) - 20 * MINUTE_MS
        return until_midnight_ms if until_midnight_ms >= 0 else until_midnight_ms + DAY_MS
    zone = ZoneInfo("UTC" if wait.endswith("UTC midnight") else limits.timezone)
    day = datetime.fromtimestamp(time_ms // 1000, zone).date()
    midnight = datetime.combine(day + timedelta(days=1), datetime.min.time(), zone)
    wait_ms = int(midnight.timestamp()) * 1000 - time_ms
    return max(0, wait_ms - 1) if wait.startswith("before") else wait_ms


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
        lon, lat = _offset(lon, lat, bearing, metres)
        return (lon, lat) if digits is None else (round(lon, digits), round(lat, digits))
    believable_mm = limits.max_speed_kmh * waited_ms * 10 // 36
    mm = limits.meters_between_routes * 1000 if move.startswith("M") else believable_mm
    if move.endswith("+ 1 mm"):
        mm += 1
    if mm > 19_000_000_000:  # more than half around the earth: the geodesic would be another one
        return lon, lat
    return _offset(lon, lat, 90.0, mm / 1000)


def _offset(lon: float, lat: float, bearing: float, metres: float) -> tuple[float, float]:
    """Return the place so many metres away; where nothing is to move, not a bit is changed."""
    if metres == 0:
        return lon, lat
    lon, lat, _ = WGS84.fwd(lon, lat, bearing, metres)
    return lon, lat
