"""Scenarios with the right answer, as data: small histories that track generators are known to get wrong.

They are stated on points and settings alone, so that the same list checks the reference implementation, the
library and the whole system. `assert_expected` compares a result with what a scenario says.

Positions "in metres on a line" lie on the equator, eastward from 10 degrees, where the length of a geodesic
is exact to far below a millimetre. Unless a scenario says otherwise there is one user with one device, T
(`minutes_between_routes`) is 30, M (`meters_between_routes`) is 500 and the rule is `implausible`.

In `SCENARIOS`, those of `BOUNDARIES`, `RULES` and `LATE_DATA` state the rules of tracks, with neither noise nor stays
(`BREAKS_ALONE`); those of `STAYS_AND_NOISE` hold under the default settings.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import accumulate, groupby
from random import Random
from typing import Any

from pyproj import Geod

from tests.reference import Path, Point, Stay, Track

WGS84 = Geod(ellps="WGS84")
USER = "anna"
DEVICE = "phone"
ORIGIN = 10.0
SECOND, MINUTE, HOUR, DAY = 1000, 60_000, 3_600_000, 86_400_000
BREAKS_ALONE: Mapping[str, Any] = {"noise_filter": False, "stay_minutes": 0, "gap_rule": "fixed"}
"""Settings with which every fix is in a track or left over."""


@dataclass(frozen=True)
class Expected:
    """What is known of one track; None where the scenario does not say."""

    points: int
    length_m: float | None = None
    tolerance_m: float = 0.0
    started_ms: int | None = None
    ended_ms: int | None = None
    device: str | None = None
    break_reason: str | None = None
    gain_m: float | None = None
    loss_m: float | None = None
    has_elevation: bool | None = None
    path: Path | None = None
    moving_ms: int | None = None


@dataclass(frozen=True)
class ExpectedStay:
    """What is known of one stay; None where the scenario does not say."""

    points: int
    started_ms: int
    ended_ms: int
    at_m: float | None = None
    """Where on the line it is, within a metre."""
    break_reason: str | None = None
    is_ongoing: bool | None = None


@dataclass(frozen=True)
class Scenario:
    name: str
    points: tuple[Point, ...]
    """Every point that ever arrives, in the order of arrival."""
    tracks: int
    """The number of tracks in the end."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings that differ from the defaults, for every user."""
    expected: tuple[Expected, ...] = ()
    """The tracks one by one, sorted by user, device and start; empty if only their number is known."""
    leftover: int = 0
    """The number of points in no track in the end."""
    batches: tuple[tuple[Point, ...], ...] = ()
    """The points as they arrive one lot after the other; empty if they come all at once."""
    deleted: tuple[Point, ...] = ()
    """Points deleted after everything has arrived."""
    tracks_after: tuple[int, ...] = ()
    """The number of tracks after each batch (before anything is deleted); empty if not stated."""
    kept_ids: int | None = None
    """How many tracks that exist after the first batch still exist, by id, in the end."""
    points_per_day: Mapping[str, int] = field(default_factory=dict)
    """The number of points of each chunk; empty if not stated."""
    regenerate: tuple[str, ...] = ()
    """Days to be computed once more when all is done; nothing may change by it."""
    stays: int = 0
    """The number of stays in the end."""
    expected_stays: tuple[ExpectedStay, ...] = ()
    """The stays one by one, sorted by user, device and start; empty if only their number is known."""
    noise: Mapping[str, int] = field(default_factory=dict)
    """The number of points set aside in the end, by reason."""
    noise_after: tuple[int, ...] = ()
    """The number of points that are set aside after each batch; empty if not stated."""

    @property
    def arrivals(self) -> tuple[tuple[Point, ...], ...]:
        """The points as they arrive: at least one batch."""
        return self.batches or (self.points,)

    @property
    def remaining(self) -> tuple[Point, ...]:
        """The points that exist in the end."""
        gone = set(self.deleted)
        return tuple(point for point in self.points if point not in gone)


def assert_expected(
    scenario: Scenario,
    tracks: Sequence[Track],
    leftover: int,
    stays: Sequence[Stay] | None = None,
    noise: Sequence[tuple[Point, str]] | None = None,
) -> None:
    """Compare a result, sorted by user, device and start, with what the scenario says of its end.

    Stays and noise (each point that is set aside, with the reason) are compared if they are given.
    """
    name = scenario.name
    if stays is not None:
        assert_expected_stays(scenario, stays)
    if noise is not None:
        reasons = Counter(reason for _, reason in noise)
        assert reasons == Counter(scenario.noise), f"{name}: noise {dict(reasons)}, expected {dict(scenario.noise)}"
    assert len(tracks) == scenario.tracks, f"{name}: {len(tracks)} tracks, expected {scenario.tracks}"
    assert leftover == scenario.leftover, f"{name}: leftover {leftover}, expected {scenario.leftover}"
    if not scenario.expected:
        return
    for number, (track, expected) in enumerate(zip(tracks, scenario.expected, strict=True)):
        where = f"{name}: track {number}: "
        assert track.points == expected.points, f"{where}{track.points} points, expected {expected.points}"
        if expected.length_m is not None:
            off = abs(track.length_mm / 1000 - expected.length_m)
            assert off <= expected.tolerance_m, f"{where}{track.length_mm} mm, expected {expected.length_m} m"
        for attribute in ("started_ms", "ended_ms", "device", "break_reason", "path", "moving_ms"):
            want, got = getattr(expected, attribute), getattr(track, attribute)
            assert want is None or got == want, f"{where}{attribute} is {got!r}, expected {want!r}"
        if expected.started_ms is not None and expected.ended_ms is not None:
            assert track.duration_ms == expected.ended_ms - expected.started_ms, f"{where}{track.duration_ms} ms"
        for want, got in (
            (expected.gain_m, track.elevation_gain_cm),
            (expected.loss_m, track.elevation_loss_cm),
        ):
            assert want is None or got == want * 100, f"{where}elevation {got} cm, expected {want} m"
        if expected.has_elevation is not None:
            numbers = [
                track.elevation_gain_cm,
                track.elevation_loss_cm,
                track.elevation_min_cm,
                track.elevation_max_cm,
            ]
            known = [number is not None for number in numbers]
            assert known == [expected.has_elevation] * 4, f"{where}elevation {numbers}"


def assert_expected_stays(scenario: Scenario, stays: Sequence[Stay]) -> None:
    name = scenario.name
    assert len(stays) == scenario.stays, f"{name}: {len(stays)} stays, expected {scenario.stays}"
    if not scenario.expected_stays:
        return
    for number, (stay, expected) in enumerate(zip(stays, scenario.expected_stays, strict=True)):
        where = f"{name}: stay {number}: "
        for attribute in ("points", "started_ms", "ended_ms", "break_reason", "is_ongoing"):
            want, got = getattr(expected, attribute), getattr(stay, attribute)
            assert want is None or got == want, f"{where}{attribute} is {got!r}, expected {want!r}"
        if expected.at_m is not None:
            off_m = WGS84.inv(*place(expected.at_m), stay.lon, stay.lat)[2]
            assert off_m <= 1, f"{where}{off_m} m from where it is expected"


# Building blocks


def at(text: str) -> int:
    """Return the instant "hh:mm[:ss[.fff]]" of 2024-03-01, or "dd hh:mm…" of that March (UTC), in ms."""
    day, _, clock = text.rpartition(" ")
    instant = datetime.fromisoformat(f"2024-03-{int(day or 1):02}T{clock}+00:00")
    return (instant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def day_of(time_ms: int) -> str:
    """Return the chunk of an instant as YYYY-MM-DD."""
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=time_ms // DAY)).date().isoformat()


def place(metres: float) -> tuple[float, float]:
    """Return lon and lat of the place that is so many metres along the line."""
    lon, lat, _ = WGS84.fwd(ORIGIN, 0.0, 90.0, metres)
    return lon, lat


def fix(
    time_ms: int,
    metres: float = 0.0,
    *,
    device: str = DEVICE,
    lon_lat: tuple[float, float] | None = None,
    altitude: float | None = None,
    accuracy: float | None = None,
) -> Point:
    """Return a point on the line, or at `lon_lat`."""
    lon, lat = lon_lat or place(metres)
    return Point(USER, device, time_ms, lon, lat, altitude, accuracy)


def ride(
    start: str, count: int, *, every_ms: int = MINUTE, step_m: float = 600.0, from_m: float = 0.0
) -> tuple[Point, ...]:
    """Return `count` points at even steps of time and place."""
    return tuple(fix(at(start) + i * every_ms, from_m + i * step_m) for i in range(count))


def joined(batches: Iterable[Sequence[Point]]) -> tuple[Point, ...]:
    return tuple(point for batch in batches for point in batch)


def in_batches(name: str, batches: Sequence[Sequence[Point]], tracks: int, **rest: Any) -> Scenario:
    return Scenario(name, joined(batches), tracks, batches=tuple(map(tuple, batches)), **rest)


def per_day(points: Iterable[Point]) -> dict[str, int]:
    return dict(sorted(Counter(day_of(point.time_ms) for point in points).items()))


# Boundaries

NIGHT_DRIVE = ride("23:00", 121, step_m=900)
AT_HOME = ride("00:00", 433, every_ms=10 * MINUTE, step_m=0)
FORTY_DAYS = ride("00:00", 40 * 48, every_ms=30 * MINUTE, step_m=10)
DAILY_FIXES = ride("12:00", 40, every_ms=DAY, step_m=10)
EVENING_DRIVE = ride("22:00", 181)

BOUNDARIES = [
    Scenario(
        "drive 23:00-01:00",
        NIGHT_DRIVE,
        1,
        expected=(
            Expected(
                121,
                108_000,
                started_ms=at("23:00"),
                ended_ms=at("2 01:00"),
                device=DEVICE,
                break_reason="start",
            ),
        ),
        points_per_day={"2024-03-01": 60, "2024-03-02": 61},
    ),
    Scenario(
        "72 h at home by the gap rule alone",
        AT_HOME,
        1,
        expected=(Expected(433, 0, started_ms=at("00:00"), ended_ms=at("4 00:00")),),
        points_per_day={"2024-03-01": 144, "2024-03-02": 144, "2024-03-03": 144, "2024-03-04": 1},
    ),
    Scenario(
        "no hidden floor re-merges what T = 10 split",
        ride("10:00", 21) + ride("10:40", 21, from_m=12_000),
        2,
        settings={"minutes_between_routes": 10},
        expected=(
            Expected(21, 12_000, started_ms=at("10:00"), ended_ms=at("10:20"), break_reason="start"),
            Expected(21, 12_000, started_ms=at("10:40"), ended_ms=at("11:00"), break_reason="time_gap"),
        ),
    ),
    Scenario(
        "T = 90, trips 80 min apart on one day",
        ride("10:00", 31) + ride("11:50", 31, from_m=18_000),
        1,
        settings={"minutes_between_routes": 90},
        expected=(Expected(62, 36_000, started_ms=at("10:00"), ended_ms=at("12:20")),),
        regenerate=("2024-03-01",),
    ),
    Scenario(
        "T = 90, trips 80 min apart over midnight",
        ride("22:30", 31) + ride("2 00:20", 31, from_m=18_000),
        1,
        settings={"minutes_between_routes": 90},
        expected=(Expected(62, 36_000, started_ms=at("22:30"), ended_ms=at("2 00:50")),),
        regenerate=("2024-03-02",),
    ),
    Scenario(
        "T = 90, gaps of 80 and 95 min on one day",
        ride("10:00", 31) + ride("11:50", 31, from_m=18_000) + ride("13:55", 31, from_m=36_000),
        2,
        settings={"minutes_between_routes": 90},
        expected=(
            Expected(62, 36_000, started_ms=at("10:00"), ended_ms=at("12:20")),
            Expected(31, 18_000, started_ms=at("13:55"), ended_ms=at("14:25"), break_reason="time_gap"),
        ),
    ),
    Scenario(
        "T = 90, gaps of 80 and 95 min at two seams",
        ride("22:30", 31)
        + ride("2 00:20", 138, every_ms=10 * MINUTE, from_m=18_000)
        + ride("3 00:45", 31, from_m=100_200),
        2,
        settings={"minutes_between_routes": 90},
        expected=(
            Expected(169, 18_000 + 137 * 600, started_ms=at("22:30"), ended_ms=at("2 23:10")),
            Expected(31, 18_000, started_ms=at("3 00:45"), ended_ms=at("3 01:15"), break_reason="time_gap"),
        ),
        points_per_day={"2024-03-01": 31, "2024-03-02": 138, "2024-03-03": 31},
    ),
    Scenario(
        "33.3 m/s, a fix every 30 s, a seam at t = 900 s",
        ride("23:45", 61, every_ms=30 * SECOND, step_m=1000),
        1,
        expected=(Expected(61, 60_000, started_ms=at("23:45"), ended_ms=at("2 00:15")),),
        points_per_day={"2024-03-01": 30, "2024-03-02": 31},
    ),
    Scenario(
        "two ends being close is no reason to join",
        ride("10:00", 21) + ride("10:45", 21, step_m=-1000, from_m=32_000),
        2,
        settings={"minutes_between_routes": 10},
        expected=(
            Expected(21, 12_000, started_ms=at("10:00"), ended_ms=at("10:20")),
            Expected(21, 20_000, started_ms=at("10:45"), ended_ms=at("11:05"), break_reason="time_gap"),
        ),
    ),
    Scenario(
        "00:00:00 belongs to the new day: the ride ends there",
        ride("23:30", 31),
        1,
        expected=(Expected(31, 18_000, started_ms=at("23:30"), ended_ms=at("2 00:00")),),
        points_per_day={"2024-03-01": 30, "2024-03-02": 1},
    ),
    Scenario(
        "00:00:00 belongs to the new day: the ride starts there",
        ride("2 00:00", 31),
        1,
        expected=(Expected(31, 18_000, started_ms=at("2 00:00"), ended_ms=at("2 00:30")),),
        points_per_day={"2024-03-02": 31},
    ),
    Scenario(
        "23:59:59.999 belongs to the old day",
        (fix(at("23:59:59.999")), fix(at("2 00:00"), 5)),
        1,
        expected=(Expected(2, 5, started_ms=at("23:59:59.999"), ended_ms=at("2 00:00")),),
        points_per_day={"2024-03-01": 1, "2024-03-02": 1},
    ),
    Scenario(
        "a single fix at 23:59:50 and a single fix at 00:00:10",
        (fix(at("23:59:50")), fix(at("2 00:00:10"), 100)),
        1,
        expected=(Expected(2, 100, started_ms=at("23:59:50"), ended_ms=at("2 00:00:10")),),
        points_per_day={"2024-03-01": 1, "2024-03-02": 1},
    ),
    Scenario(
        "a 40-day unbroken chain",
        FORTY_DAYS,
        1,
        expected=(Expected(1920, 19_190, started_ms=at("00:00"), ended_ms=at("00:00") + 40 * DAY - 30 * MINUTE),),
        regenerate=("2024-03-20", "2024-03-01", "2024-04-09"),
    ),
    Scenario(
        "a 40-day chain of one fix a day",
        DAILY_FIXES,
        1,
        settings={"minutes_between_routes": 1440},
        expected=(Expected(40, 390, started_ms=at("12:00"), ended_ms=at("12:00") + 39 * DAY),),
        regenerate=("2024-03-20", "2024-03-01", "2024-04-09"),
    ),
    Scenario(
        "regenerating a day whose first track began the day before",
        EVENING_DRIVE + ride("2 10:00", 31),
        2,
        expected=(
            Expected(181, 108_000, started_ms=at("22:00"), ended_ms=at("2 01:00")),
            Expected(31, 18_000, started_ms=at("2 10:00"), ended_ms=at("2 10:30"), break_reason="time_gap"),
        ),
        points_per_day={"2024-03-01": 120, "2024-03-02": 92},
        regenerate=("2024-03-02",),
    ),
]


# Rules


def pairs(gap_ms: int = MINUTE, hop_m: float = 0.0) -> tuple[Point, ...]:
    """Return two points 60 s and 100 m apart and, after the gap and the hop, two more."""
    first = ride("10:00", 2, step_m=100)
    time_ms = first[-1].time_ms + gap_ms
    return (*first, fix(time_ms, 100 + hop_m), fix(time_ms + MINUTE, 200 + hop_m))


def one_of_four(length_m: float) -> dict[str, Any]:
    return {"tracks": 1, "expected": (Expected(4, length_m),)}


def two_of_two(reason: str) -> dict[str, Any]:
    return {"tracks": 2, "expected": (Expected(2, 100), Expected(2, 100, break_reason=reason))}


T_MS = 30 * MINUTE
M_M = 500.0
STRICT = {"distance_rule": "strict"}
OFF = {"distance_rule": "off"}

EUROPE = tuple(
    fix(at("10:00") + seconds * SECOND, lon_lat=(lon, 50.0))
    for seconds, lon in ((0, 10.0), (60, 10.001), (7260, 10.7), (7320, 10.701))
)
TWO_DEVICES = tuple(
    fix(at("10:00") + i * MINUTE + offset, device=device, lon_lat=(10.0, lat))
    for i in range(61)
    for device, lat, offset in (("phone", 50.0, 0), ("watch", 50.27, 30 * SECOND))
)
SAME_SECOND = tuple(fix(at("10:00"), metres) for metres in (70, 0, 40, 90, 20, 60, 10, 80, 30, 50))
TEN_HERTZ = ride("10:00:00.050", 101, every_ms=100, step_m=2)
WITH_HOLE = tuple(
    fix(at("10:00") + i * MINUTE, 100 * i, altitude=altitude) for i, altitude in enumerate((100.0, None, 150.0))
)
EAST, WEST = 179.9, -179.9
AHEAD = (((EAST, 0.0), (180.0, 0.0)), ((-180.0, 0.0), (WEST, 0.0)))
BACK = (((WEST, 0.0), (-180.0, 0.0)), ((180.0, 0.0), (EAST, 0.0)))

RULES = [
    Scenario("gap exactly T", pairs(T_MS), **one_of_four(200)),
    Scenario("gap T + 1 ms", pairs(T_MS + 1), **two_of_two("time_gap")),
    Scenario("gap T + 1 s", pairs(T_MS + SECOND), **two_of_two("time_gap")),
    Scenario("distance exactly M, strict", pairs(hop_m=M_M), settings=STRICT, **one_of_four(700)),
    Scenario("distance M + 1 mm, strict", pairs(hop_m=M_M + 0.001), settings=STRICT, **two_of_two("distance")),
    Scenario("distance rounds to M, strict", pairs(hop_m=M_M + 0.0004), settings=STRICT, **one_of_four(700)),
    Scenario(
        "time is the reason where both rules break",
        pairs(T_MS + 1, hop_m=M_M + 1),
        settings=STRICT,
        **two_of_two("time_gap"),
    ),
    Scenario("distance M + 1 mm, implausible", pairs(hop_m=M_M + 0.001), **one_of_four(700.001)),
    Scenario("1000 km/h exactly, implausible", pairs(3600, hop_m=1000), **one_of_four(1200)),
    Scenario("just over 1000 km/h, implausible", pairs(3599, hop_m=1000), **two_of_two("implausible_speed")),
    Scenario("no time for M, implausible", pairs(0, hop_m=M_M), **one_of_four(700)),
    Scenario(
        "no time for M + 1 mm, implausible: the two are spread", pairs(0, hop_m=M_M + 0.001), **one_of_four(700.001)
    ),
    Scenario("a hop of 1000 km in a minute, off", pairs(hop_m=1e6), settings=OFF, **one_of_four(1_000_200)),
    Scenario(
        "60 s fixes with hops of 1667 m for 30 min",
        ride("10:00", 31, step_m=1667),
        1,
        expected=(Expected(31, 50_010, started_ms=at("10:00"), ended_ms=at("10:30")),),
    ),
    Scenario(
        "the hop into a track is not part of it",
        EUROPE,
        2,
        expected=(
            Expected(2, 71.7, 0.1, started_ms=at("10:00"), ended_ms=at("10:01")),
            Expected(2, 71.7, 0.1, started_ms=at("12:01"), ended_ms=at("12:02"), break_reason="time_gap"),
        ),
    ),
    Scenario(
        "two devices are two tracks",
        TWO_DEVICES,
        2,
        expected=(
            Expected(61, 0, started_ms=at("10:00"), ended_ms=at("11:00"), device="phone", break_reason="start"),
            Expected(
                61,
                0,
                started_ms=at("10:00:30"),
                ended_ms=at("11:00:30"),
                device="watch",
                break_reason="start",
            ),
        ),
    ),
    Scenario(
        "ten points at the same instant",
        SAME_SECOND,
        1,
        expected=(
            Expected(
                10,
                90,
                started_ms=at("10:00"),
                ended_ms=at("10:00"),
                path=(tuple(place(metres) for metres in range(0, 100, 10)),),
            ),
        ),
    ),
    Scenario(
        "sub-second fixes keep their order and milliseconds",
        TEN_HERTZ[::-1],
        1,
        expected=(
            Expected(
                101,
                200,
                started_ms=at("10:00:00.050"),
                ended_ms=at("10:00:10.050"),
                path=(tuple((point.lon, point.lat) for point in TEN_HERTZ),),
            ),
        ),
    ),
    Scenario(
        "altitudes 100, unknown, 150",
        WITH_HOLE,
        1,
        expected=(Expected(3, 200, gain_m=50, loss_m=0, has_elevation=True),),
    ),
    Scenario("all altitudes unknown", ride("10:00", 3), 1, expected=(Expected(3, 1200, has_elevation=False),)),
    Scenario(
        "a single known altitude",
        (fix(at("10:00")), fix(at("10:01"), 100, altitude=100.0)),
        1,
        expected=(Expected(2, 100, gain_m=0, loss_m=0, has_elevation=True),),
    ),
    Scenario(
        "crossing 179.9 E to 179.9 W",
        (fix(at("10:00"), lon_lat=(EAST, 0.0)), fix(at("10:20"), lon_lat=(WEST, 0.0))),
        1,
        expected=(Expected(2, 22_264, 1, path=AHEAD),),
    ),
    Scenario(
        "crossing 179.9 W to 179.9 E",
        (fix(at("10:00"), lon_lat=(WEST, 0.0)), fix(at("10:20"), lon_lat=(EAST, 0.0))),
        1,
        expected=(Expected(2, 22_264, 1, path=BACK),),
    ),
    Scenario(
        "crossing the antimeridian at midnight",
        (fix(at("23:50"), lon_lat=(EAST, 0.0)), fix(at("2 00:10"), lon_lat=(WEST, 0.0))),
        1,
        expected=(Expected(2, 22_264, 1, path=AHEAD),),
        points_per_day={"2024-03-01": 1, "2024-03-02": 1},
    ),
]


# Late data

HOUR_RIDE = ride("10:00", 61)
HOLE = HOUR_RIDE[20:41]
AROUND_HOLE = HOUR_RIDE[:20] + HOUR_RIDE[41:]
AFTERNOON = ride("15:00", 31)
WHOLE_FILE = NIGHT_DRIVE + ride("2 08:00", 31) + ride("2 12:00", 1) + ride("3 23:59:30", 14)
FILE_TRACKS = (
    Expected(121, 108_000, started_ms=at("23:00"), ended_ms=at("2 01:00")),
    Expected(31, 18_000, started_ms=at("2 08:00"), ended_ms=at("2 08:30")),
    Expected(14, 7800, started_ms=at("3 23:59:30"), ended_ms=at("4 00:12:30")),
)


def shuffled(points: Sequence[Point], seed: int = 1) -> tuple[Point, ...]:
    return tuple(Random(seed).sample(points, len(points)))


def cut(points: Sequence[Point], size: int) -> list[Sequence[Point]]:
    return [points[i : i + size] for i in range(0, len(points), size)]


def by_day(points: Sequence[Point]) -> list[Sequence[Point]]:
    return [tuple(group) for _, group in groupby(points, key=lambda point: day_of(point.time_ms))]


def file_in_batches(name: str, batches: Sequence[Sequence[Point]], **rest: Any) -> Scenario:
    return in_batches(name, batches, 3, expected=FILE_TRACKS, leftover=1, **rest)


ARRIVALS = [
    file_in_batches("the whole file at once", [WHOLE_FILE]),
    file_in_batches("the file in trickles of five points", cut(WHOLE_FILE, 5)),
    file_in_batches("the file shuffled", [shuffled(WHOLE_FILE)]),
    file_in_batches("the file shuffled in trickles of twenty points", cut(shuffled(WHOLE_FILE), 20)),
    file_in_batches("the file twice", [WHOLE_FILE, WHOLE_FILE], tracks_after=(3, 3), kept_ids=3),
    file_in_batches("the file by days, the last first", by_day(WHOLE_FILE)[::-1], tracks_after=(1, 1, 3, 3)),
]
"""The same points in different arrivals: identical tracks and ids."""

LATE_DATA = [
    in_batches(
        "a hole inside a track is filled later",
        [AROUND_HOLE, HOLE],
        1,
        expected=(Expected(61, 36_000, started_ms=at("10:00"), ended_ms=at("11:00")),),
        tracks_after=(1, 1),
        kept_ids=1,
    ),
    in_batches(
        "a hole that had split a track is filled later",
        [AROUND_HOLE, HOLE],
        1,
        settings={"minutes_between_routes": 10},
        expected=(Expected(61, 36_000, started_ms=at("10:00"), ended_ms=at("11:00")),),
        tracks_after=(2, 1),
        kept_ids=1,
    ),
    in_batches(
        "late points 60 s before the start of a track",
        [HOUR_RIDE[11:] + AFTERNOON, HOUR_RIDE[:11]],
        2,
        expected=(
            Expected(61, 36_000, started_ms=at("10:00"), ended_ms=at("11:00")),
            Expected(31, 18_000, started_ms=at("15:00"), ended_ms=at("15:30")),
        ),
        tracks_after=(2, 2),
        kept_ids=1,
    ),
    in_batches(
        "late points 60 s before the start of a track, on the day before",
        [NIGHT_DRIVE[60:], NIGHT_DRIVE[:60]],
        1,
        expected=(Expected(121, 108_000, started_ms=at("23:00"), ended_ms=at("2 01:00")),),
        tracks_after=(1, 1),
        kept_ids=0,
    ),
    in_batches(
        "late points 60 s after the end of a track",
        [HOUR_RIDE[:50] + AFTERNOON, HOUR_RIDE[50:]],
        2,
        expected=(
            Expected(61, 36_000, started_ms=at("10:00"), ended_ms=at("11:00")),
            Expected(31, 18_000, started_ms=at("15:00"), ended_ms=at("15:30")),
        ),
        tracks_after=(2, 2),
        kept_ids=2,
    ),
    in_batches(
        "a late day between two days joins them",
        [AT_HOME[:144] + AT_HOME[288:], AT_HOME[144:288]],
        1,
        expected=(Expected(433, 0, started_ms=at("00:00"), ended_ms=at("4 00:00")),),
        tracks_after=(2, 1),
        kept_ids=1,
    ),
    in_batches(
        "a single late fix makes a leftover a track",
        [HOUR_RIDE[:1], HOUR_RIDE[1:2]],
        1,
        expected=(Expected(2, 600),),
        tracks_after=(0, 1),
        kept_ids=0,
    ),
    *ARRIVALS,
    in_batches(
        "deleting an import removes its track",
        [HOUR_RIDE, AFTERNOON],
        1,
        deleted=AFTERNOON,
        expected=(Expected(61, 36_000, started_ms=at("10:00"), ended_ms=at("11:00")),),
        tracks_after=(1, 2),
        kept_ids=1,
    ),
    in_batches(
        "deleting the end of a track shrinks it",
        [HOUR_RIDE],
        1,
        deleted=HOUR_RIDE[31:],
        expected=(Expected(31, 18_000, started_ms=at("10:00"), ended_ms=at("10:30")),),
        tracks_after=(1,),
        kept_ids=1,
    ),
    in_batches(
        "deleting the head of a track over midnight leaves the rest",
        [NIGHT_DRIVE],
        1,
        deleted=NIGHT_DRIVE[:60],
        expected=(Expected(61, 54_000, started_ms=at("2 00:00"), ended_ms=at("2 01:00")),),
        tracks_after=(1,),
        kept_ids=0,
    ),
    in_batches(
        "deleting the middle of a track splits it",
        [HOUR_RIDE],
        2,
        settings={"minutes_between_routes": 10},
        deleted=HOLE,
        expected=(
            Expected(20, 11_400, started_ms=at("10:00"), ended_ms=at("10:19")),
            Expected(20, 11_400, started_ms=at("10:41"), ended_ms=at("11:00"), break_reason="time_gap"),
        ),
        tracks_after=(1,),
        kept_ids=1,
    ),
    in_batches(
        "deleting all points but one leaves no track",
        [HOUR_RIDE],
        0,
        deleted=HOUR_RIDE[1:],
        leftover=1,
        tracks_after=(1,),
        kept_ids=0,
    ),
    in_batches(
        "deleting every point leaves nothing",
        [HOUR_RIDE],
        0,
        deleted=HOUR_RIDE,
        tracks_after=(1,),
        kept_ids=0,
    ),
]


# Stays and noise, under the default settings


def around(metres: float, off_m: float, bearing: float = 0.0) -> tuple[float, float]:
    """Return lon and lat of a place so far from the line's place at `metres`, northward unless told."""
    lon, lat, _ = WGS84.fwd(*place(metres), bearing, off_m)
    return lon, lat


def dwell(
    start: str,
    end: str,
    metres: float = 0.0,
    *,
    every_s: tuple[int, int] = (60, 480),
    jitter_m: float = 15.0,
    seed: int = 1,
) -> tuple[Point, ...]:
    """Return fixes in one place: the first and the last just there, those between scattered in time and place."""
    random = Random(seed)
    fixes = [fix(at(start), metres)]
    while (time_ms := fixes[-1].time_ms + random.randint(*every_s) * SECOND) < at(end):
        off_m, bearing = jitter_m * math.sqrt(random.random()), random.uniform(0, 360)
        fixes.append(fix(time_ms, lon_lat=around(metres, off_m, bearing)))
    return (*fixes, fix(at(end), metres))


def merged(*parts: Sequence[Point]) -> tuple[Point, ...]:
    """Return the points in their order, those that are in two parts once."""
    return tuple(sorted({*joined(parts)}))


def replaced(points: Sequence[Point], *others: Point) -> tuple[Point, ...]:
    """Return the points with `others` instead of those of the same instants."""
    times = {other.time_ms for other in others}
    return merged([point for point in points if point.time_ms not in times], others)


def at_speeds(start: str, speeds_ms: Sequence[float], *, every_ms: int, from_m: float = 0.0) -> tuple[Point, ...]:
    """Return points at even steps of time; each hop has its speed, in m/s."""
    ways = accumulate((speed * every_ms / SECOND for speed in speeds_ms), initial=from_m)
    return tuple(fix(at(start) + i * every_ms, metres) for i, metres in enumerate(ways))


def measured(points: Sequence[Point], accuracy: float) -> tuple[Point, ...]:
    return tuple(point._replace(accuracy=accuracy) for point in points)


HOME, WORK = 0.0, 18_000.0
TO_WORK, AT_WORK, FROM_WORK = (
    ride("10:00", 31),
    dwell("10:30", "18:30", WORK),
    ride("18:30", 31, step_m=-600, from_m=WORK),
)
WORKDAY = merged(TO_WORK, AT_WORK, FROM_WORK)
NIGHT = dwell("22:00", "2 07:00", WORK, every_s=(600, 600))
OVER_MIDNIGHT = merged(ride("21:30", 31), NIGHT, ride("2 07:00", 31, step_m=-600, from_m=WORK))
BEFORE, AFTER = dwell("06:00", "10:00", HOME), dwell("10:30", "15:00", WORK, seed=2)

FAR_AWAY = (fix(at("10:30"), 1e6), fix(at("10:31"), 1e6 + 10))
AT_HOME_BY_THE_MINUTE = ride("08:00", 121, step_m=0)
SPIKE = fix(at("10:30"), 80_000)
PLANE = ride("10:00", 31) + ride("10:31", 30, step_m=6000, from_m=24_000)
PLANE_BACK = ride("10:00", 30, step_m=6000, from_m=-180_000) + ride("10:30", 31)
WITH_DUPLICATES = merged(
    measured(ride("10:00", 31, step_m=50), 10.0),
    [fix(at("10:15"), 5750, accuracy=20.0)],  # 5 km from a fix of the same instant
    [fix(at("10:20"), lon_lat=around(1000, 300), accuracy=20.0)],  # 300 m: no spike, but one of the two is wrong
)

WALK = ride("10:00", 31, every_ms=5 * MINUTE, step_m=420)
"""2.5 hours at 1.4 m/s."""

TAXI, ROLL, CLIMB = [8.0] * 30, [20.0, 40.0, 60.0, 75.0], [80.0, 90.0, 100.0, 110.0] + [120.0] * 20
TAKE_OFF = at_speeds("10:00", TAXI + ROLL + CLIMB, every_ms=10 * SECOND)
LANDING = at_speeds("12:00", (TAXI + ROLL + CLIMB)[::-1], every_ms=10 * SECOND, from_m=5e5)
FERRY = (
    ride("10:00", 16)  # to the port,
    + ride("10:20", 9, every_ms=5 * MINUTE, step_m=3600, from_m=9100)  # over the water, with rare fixes,
    + ride("11:01", 15, from_m=38_500)  # and on
)
TRAFFIC = at_speeds("10:00", [1.0, 3.0, 1.5, 1.0] * 30, every_ms=30 * SECOND)
QUEUE = (
    ride("10:00", 31)
    + tuple(fix(at("10:30") + (150 * i + 30 * (i % 2)) * SECOND, WORK + 21 * i) for i in range(1, 49))
    + ride("12:31", 30, from_m=WORK + 1608)
)
PARK = tuple(fix(at("10:00") + i * 20 * SECOND, lon_lat=around(0, 150, 10 * i)) for i in range(181))
"""An hour on a circle of 300 m across, at 1.3 m/s."""

PINGS = ride("08:00", 13, every_ms=45 * MINUTE, step_m=0)
MORNING = dwell("08:00", "10:00", HOME, every_s=(60, 60))
WALK_OUT = tuple(fix(at("09:00:05") + i * 10 * SECOND, lon_lat=around(HOME, 120)) for i in range(13))
OFF_AT_NIGHT = dwell("18:00", "22:30", HOME) + dwell("2 07:00", "2 09:00", HOME, seed=2)
OFF_AT_WORK = TO_WORK + ride("18:30", 31, step_m=-600, from_m=WORK)
COMMUTE = dwell("06:00", "08:00", HOME) + dwell("08:25", "12:00", WORK, seed=2)
SAME_PLACE = ride("10:00", 31) + ride("11:50", 31, step_m=-600, from_m=WORK)
BERLIN_NIGHT = {"split_at_midnight": True, "timezone": "Europe/Berlin"}


def one_stay(points: Sequence[Point], count: int | None = None, **rest: Any) -> dict[str, Any]:
    """Return what is said of points that are one stay from the first to the last; `count` if some are noise."""
    stay = ExpectedStay(count or len(points), points[0].time_ms, points[-1].time_ms, None, "start", is_ongoing=True)
    return {"points": tuple(points), "tracks": 0, "stays": 1, "expected_stays": (stay,), **rest}


def one_track(
    points: Sequence[Point], length_m: float | None = None, tolerance_m: float = 0.01, **rest: Any
) -> dict[str, Any]:
    """Return what is said of points that are all of one track, but for those that are noise."""
    count = len(points) - sum(rest.get("noise", {}).values())
    track = Expected(count, length_m, tolerance_m, started_ms=points[0].time_ms, ended_ms=points[-1].time_ms)
    return {"points": tuple(points), "tracks": 1, "expected": (track,), **rest}


STAYS_AND_NOISE = [
    Scenario(
        "a stay of 8 h between two drives of 30 min",
        WORKDAY,
        2,
        expected=(
            Expected(
                30, 18_000, started_ms=at("10:00"), ended_ms=at("10:30"), break_reason="start", moving_ms=30 * MINUTE
            ),
            Expected(
                30, 18_000, started_ms=at("18:30"), ended_ms=at("19:00"), break_reason="stay", moving_ms=30 * MINUTE
            ),
        ),
        stays=1,
        expected_stays=(ExpectedStay(len(AT_WORK), at("10:30"), at("18:30"), WORK, "stay", is_ongoing=False),),
    ),
    Scenario("72 h at home are one stay", **one_stay(AT_HOME), points_per_day=per_day(AT_HOME)),
    Scenario(
        "a stay over midnight",
        OVER_MIDNIGHT,
        2,
        expected=(
            Expected(30, 18_000, started_ms=at("21:30"), ended_ms=at("22:00")),
            Expected(30, 18_000, started_ms=at("2 07:00"), ended_ms=at("2 07:30")),
        ),
        stays=1,
        expected_stays=(ExpectedStay(len(NIGHT), at("22:00"), at("2 07:00"), None, "stay", is_ongoing=False),),
        regenerate=("2024-03-01",),
    ),
    Scenario(
        "the stay before the first trip and the one that is going on",
        merged(BEFORE, TO_WORK, AFTER),
        1,
        expected=(Expected(29, 18_000, started_ms=at("10:00"), ended_ms=at("10:30"), break_reason="stay"),),
        stays=2,
        expected_stays=(
            ExpectedStay(len(BEFORE), at("06:00"), at("10:00"), None, "start", is_ongoing=False),
            ExpectedStay(len(AFTER), at("10:30"), at("15:00"), None, "stay", is_ongoing=True),
        ),
    ),
    # Spikes
    Scenario(
        "a spike of two fixes 1000 km away on a drive",
        **one_track(replaced(HOUR_RIDE, *FAR_AWAY), 36_000, noise={"spike": 2}),
    ),
    Scenario(
        "a spike of two fixes 1000 km away at home",
        **one_stay(replaced(ride("09:30", 121, step_m=0), *FAR_AWAY), 119, noise={"spike": 2}),
    ),
    Scenario(
        "a fix 5 km away for 60 s at home",
        **one_stay(replaced(AT_HOME_BY_THE_MINUTE, fix(at("09:00"), 5000)), 120, noise={"spike": 1}),
    ),
    in_batches(
        "a spike as last fix of an upload",
        [[*HOUR_RIDE[:30], SPIKE], HOUR_RIDE[31:]],
        1,
        expected=(Expected(60, 36_000, 0.01, started_ms=at("10:00"), ended_ms=at("11:00")),),
        noise={"spike": 1},
        tracks_after=(1, 1),
        noise_after=(1, 1),
    ),
    in_batches(
        "a spike as first fix of an upload",
        [[SPIKE, *HOUR_RIDE[31:]], HOUR_RIDE[:30]],
        1,
        expected=(Expected(60, 36_000, 0.01, started_ms=at("10:00"), ended_ms=at("11:00")),),
        noise={"spike": 1},
        tracks_after=(1, 1),
        noise_after=(1, 1),
    ),
    in_batches(
        "a last fix that seemed a spike was the first in the air",
        [PLANE[:32], PLANE[32:]],
        1,
        expected=(Expected(61, 18_000 + 30 * 6000, 0.01),),
        noise_after=(1, 0),
    ),
    in_batches(
        "a first fix that seemed a spike was the last in the air",
        [PLANE_BACK[29:], PLANE_BACK[:29]],
        1,
        expected=(Expected(61, 18_000 + 30 * 6000, 0.01),),
        noise_after=(1, 0),
    ),
    Scenario(
        "two fixes beside better ones of the same instant",
        **one_track(WITH_DUPLICATES, 1500, noise={"duplicate": 2}),
    ),
    Scenario("a take-off is not noise", **one_track(TAKE_OFF)),
    Scenario(
        "a flight with the phone off is not noise",
        TAKE_OFF + LANDING,
        1,
        expected=(Expected(len(TAKE_OFF) + len(LANDING)),),
    ),
    Scenario("a ferry is not noise", **one_track(FERRY)),
    # Other noise
    Scenario(
        "a train with an accuracy of 150 m is not noise",
        **one_track(measured(ride("10:00", 31, step_m=2500), 150.0), 75_000),
    ),
    Scenario(
        "coarse fixes among good ones",
        **one_track(
            replaced(
                measured(HOUR_RIDE, 10.0), *measured([fix(at(f"10:{m}"), 600 * m + 400) for m in (20, 40, 41)], 150.0)
            ),
            36_000,
            noise={"accuracy": 3},
        ),
    ),
    Scenario(
        "a cached fix replayed two hours later, too slow for a spike",
        **one_track(replaced(WALK, fix(at("12:00"), 0)), 12_600, noise={"replay": 1}),
    ),
    Scenario(
        "a cached fix replayed two hours later on a drive",
        **one_track(replaced(ride("10:00", 151), fix(at("12:00"), 0)), 90_000, noise={"spike": 1}),
    ),
    # No stays
    Scenario("slow traffic is not a stay", **one_track(TRAFFIC, 1.625 * 3600)),
    Scenario("a queue at a border is not a stay", **one_track(QUEUE, 18_000 + 48 * 21 + 600 + 29 * 600)),
    Scenario("a walk in a park is not a stay", **one_track(PARK)),
    # One stay
    Scenario("rare pings at home", **one_stay(PINGS)),
    Scenario("very rare pings at home", **one_stay(ride("00:00", 9, every_ms=5 * HOUR, step_m=0))),
    Scenario(
        "a fix 200 m away for a minute",
        **one_stay(replaced(MORNING, fix(at("09:00"), lon_lat=around(HOME, 200))), len(MORNING)),
    ),
    Scenario(
        "two minutes 120 m away, with a fix every 10 s",
        **one_stay(merged(MORNING, WALK_OUT), 126, noise={"spike": 8}),  # no way there and back was seen
    ),
    Scenario("the phone is off at night", **one_stay(OFF_AT_NIGHT), points_per_day=per_day(OFF_AT_NIGHT)),
    Scenario(
        "the phone is off at work",
        OFF_AT_WORK,
        2,
        expected=(
            Expected(31, 18_000, started_ms=at("10:00"), ended_ms=at("10:30"), break_reason="start"),
            Expected(31, 18_000, started_ms=at("18:30"), ended_ms=at("19:00"), break_reason="stay"),
        ),
        stays=1,
        expected_stays=(ExpectedStay(0, at("10:30"), at("18:30"), WORK, "stay", is_ongoing=False),),
    ),
    Scenario(
        "a commute of a single hop",
        COMMUTE,
        1,
        expected=(Expected(0, 18_000, started_ms=at("08:00"), ended_ms=at("08:25"), break_reason="stay"),),
        stays=2,
    ),
    Scenario(
        "T = 90, two trips 80 min apart at the same place",
        SAME_PLACE,
        2,
        settings={"minutes_between_routes": 90},
        expected=(
            Expected(31, 18_000, started_ms=at("10:00"), ended_ms=at("10:30"), break_reason="start"),
            Expected(31, 18_000, started_ms=at("11:50"), ended_ms=at("12:20"), break_reason="stay"),
        ),
        stays=1,
        expected_stays=(ExpectedStay(0, at("10:30"), at("11:50"), WORK, "stay", is_ongoing=False),),
    ),
    # Midnight
    Scenario(
        "a night drive is split at midnight",
        NIGHT_DRIVE,
        2,
        settings={"split_at_midnight": True},
        expected=(
            Expected(60, 53_100, started_ms=at("23:00"), ended_ms=at("23:59"), break_reason="start"),
            Expected(61, 54_900, started_ms=at("23:59"), ended_ms=at("2 01:00"), break_reason="midnight"),
        ),
    ),
    Scenario(
        "midnight is that of Berlin",
        NIGHT_DRIVE,
        1,
        settings=BERLIN_NIGHT,
        expected=(Expected(121, 108_000, started_ms=at("23:00"), ended_ms=at("2 01:00")),),
    ),
    Scenario(
        "a drive over midnight in Berlin",
        ride("22:30", 61),
        2,
        settings=BERLIN_NIGHT,
        expected=(
            Expected(30, 17_400, started_ms=at("22:30"), ended_ms=at("22:59"), break_reason="start"),
            Expected(31, 18_600, started_ms=at("22:59"), ended_ms=at("23:30"), break_reason="midnight"),
        ),
    ),
    Scenario(
        "a stay over midnight is not split",
        OVER_MIDNIGHT,
        2,
        settings={"split_at_midnight": True},
        stays=1,
    ),
    Scenario(
        "a gap is a gap where one comes back elsewhere",
        points=(*ride("08:00", 31, step_m=900), *ride("10:00", 31, step_m=900, from_m=40_000)),
        tracks=2,
    ),
    Scenario(
        "a queue at a border that stands for two minutes and then moves on",
        points=tuple(fix(at("08:00") + n * 20 * SECOND, 25 * (n // 8)) for n in range(360)),
        tracks=1,
    ),
    Scenario(
        "72 h at home without stays are one track",
        points=tuple(fix(at("00:00") + n * 10 * MINUTE) for n in range(433)),
        tracks=1,
        settings={"stay_minutes": 0},
    ),
]

SCENARIOS = [
    replace(scenario, settings={**BREAKS_ALONE, **scenario.settings}) for scenario in (*BOUNDARIES, *RULES, *LATE_DATA)
]
"""They are about breaks: noise and stays are off. Those that are about noise and stays are in `STAYS_AND_NOISE`."""
