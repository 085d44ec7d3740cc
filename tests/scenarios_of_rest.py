"""Scenarios about noise and stays, with the right answer, under the default settings unless one says otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

from tests.reference import Point, Timeline
from tests.scenarios import HOUR, MINUTE, SECOND, at, fix, ride


@dataclass(frozen=True)
class Rest:
    """What becomes of some points."""

    name: str
    points: tuple[Point, ...]
    """In the order of arrival."""
    line: str
    """Tracks, stays, gaps between them and leftovers in the order of time, as letters: T, S, |, and a dot."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    noise: Mapping[str, int] = field(default_factory=dict)
    hours: tuple[float, ...] = ()
    """How long the tracks and stays are, if the scenario says."""
    metres: tuple[float, ...] = ()
    """How long the tracks are."""
    ongoing: bool = False
    """Whether the last stay is still going on."""

    @property
    def users(self) -> set[str]:
        return {point.user for point in self.points}


def spell(line: Timeline) -> str:
    """Return a time line of one device as the letters of `Rest.line`."""
    rows = [(one.started_ms, one.ended_ms, "T") for one in line.tracks]
    rows += [(one.started_ms, one.ended_ms, "S") for one in line.stays]
    rows += [(one.time_ms, one.time_ms, ".") for one in line.leftover]
    letters, reached = "", None
    for started_ms, ended_ms, letter in sorted(rows):
        letters += ("|" if reached is not None and started_ms > reached else "") + letter
        reached = ended_ms
    return letters


def home(start: str, count: int, every_ms: int = MINUTE, metres: float = 0.0, jitter_m: float = 0.0) -> list[Point]:
    """Return fixes at one place, the same in every run."""
    random = Random(7)
    return [fix(at(start) + n * every_ms, metres + random.uniform(-jitter_m, jitter_m)) for n in range(count)]


def coarse(points: list[Point], accuracy: float) -> list[Point]:
    return [point._replace(accuracy=accuracy) for point in points]


def jittery_rest() -> list[Point]:
    """A drive, eight hours of fixes every 60 to 480 s within 15 m, and a drive on from there."""
    random = Random(3)
    drive = list(ride("08:00", 31, step_m=900))
    arrived = at("08:30")
    waits: list[Point] = []
    time_ms = arrived
    while (time_ms := time_ms + random.choice([60, 120, 300, 480]) * SECOND) < arrived + 8 * HOUR:
        waits.append(fix(time_ms, 27_000 + random.uniform(-15, 15)))
    return [*drive, *waits, *ride("16:30", 31, step_m=900, from_m=27_000)]


HOME = home("08:00", 60)
TAKE_OFF_KMH = (8, 15, 20, 60, 180, 260, 320, 410, 520, 610, 700, 760, 800, 820)


def take_off() -> list[Point]:
    points, metres = [], 0.0
    for minute, kmh in enumerate(TAKE_OFF_KMH):
        points.append(fix(at("09:00") + minute * MINUTE, metres))
        metres += kmh / 3.6 * 60
    return points


def spike(minute: int, metres: float) -> Point:
    return fix(at("08:00") + minute * MINUTE, metres)


RESTS = [
    Rest(
        "drive, eight hours of jitter, drive",
        tuple(jittery_rest()),
        "TST",
        hours=(0.5, 8.0, 0.5),
        metres=(27_000, 27_000),
    ),
    Rest("72 h at home", tuple(home("00:00", 433, 10 * MINUTE)), "S", hours=(72.0,), ongoing=True),
    Rest(
        "a stay over midnight, before the first trip and after it",
        (
            *home("20:00", 61, 5 * MINUTE, jitter_m=20),
            *(fix(at("2 01:00") + n * MINUTE, n * 900) for n in range(1, 21)),
            *home("2 01:21", 30, 5 * MINUTE, 18_000, 20),
        ),
        "STS",
        ongoing=True,
    ),
    Rest(
        "two fixes 1 000 km away and back",
        (*HOME[:30], spike(30, 1e6), spike(31, 1e6 + 30), *HOME[32:]),
        "S",
        noise={"spike": 2},
        ongoing=True,
    ),
    Rest(
        "one fix 5 km away for 60 s",
        (*HOME[:30], spike(30, 5000), *HOME[31:]),
        "S",
        noise={"spike": 1},
        ongoing=True,
    ),
    Rest("a spike as the last fix", (*HOME[:30], spike(30, 5000)), "S", noise={"spike": 1}, ongoing=True),
    Rest("a spike as the first fix", (spike(-1, 5000), *HOME), "S", noise={"spike": 1}, ongoing=True),
    Rest(
        "a spike as the last fix, judged again when it goes on from there",
        (*HOME[:30], spike(30, 5000), *(spike(30 + n, 5000 + n * 900) for n in range(1, 20))),
        "ST",
    ),
    Rest(
        "a spike beside a duplicate timestamp",
        (*HOME[:31], spike(30, 5000), *HOME[31:]),
        "S",
        noise={"spike": 1},
        ongoing=True,
    ),
    Rest(
        "a train with 150 m accuracy",
        tuple(coarse(list(ride("08:00", 41, step_m=2500)), 150.0)),
        "T",
        metres=(100_000,),
    ),
    Rest(
        "coarse fixes among better ones",
        tuple(
            point._replace(accuracy=1500.0 if n % 5 == 2 else 10.0)
            for n, point in enumerate(ride("08:00", 31, step_m=900))
        ),
        "T",
        noise={"accuracy": 6},
        metres=(27_000,),
    ),
    Rest(
        "a cached fix is replayed two hours later, far from both neighbours",
        (
            *home("08:00", 30),
            *(fix(at("08:30") + n * MINUTE, n * 130) for n in range(31)),
            *home("09:01", 30, 3 * MINUTE, 3900),
            *home("10:31", 1),
            *home("10:34", 20, 3 * MINUTE, 3900),
        ),
        "STS",
        noise={"replay": 1},
        ongoing=True,
    ),
    Rest("a take-off", tuple(take_off()), "T"),
    Rest("a ferry with a fix every 20 min", tuple(ride("08:00", 13, every_ms=20 * MINUTE, step_m=10_000)), "T"),
    Rest("slow traffic", tuple(ride("08:00", 80, every_ms=30 * SECOND, step_m=45)), "T"),
    Rest(
        "a queue at a border: a kilometre in two hours",
        tuple(ride("08:00", 48, every_ms=150 * SECOND, step_m=22)),
        "T",
    ),
    Rest(
        "a queue at a border that stands for two minutes and then moves on",
        tuple(fix(at("08:00") + n * 20 * SECOND, 25 * (n // 8)) for n in range(360)),
        "T",
    ),
    Rest(
        "a walk in a park, around a pond of 250 m",
        tuple(
            fix(at("08:00") + n * 10 * SECOND, lon_lat=(10 + 0.0011 * x, 0.0011 * y))
            for n in range(360)
            for x, y in [[(0, 0), (1, 0), (2, 0), (2, 1), (2, 2), (1, 2), (0, 2), (0, 1)][n // 12 % 8]]
        ),
        "T",
    ),
    Rest("sparse pings at home", tuple(home("20:00", 13, 45 * MINUTE, jitter_m=20)), "S", hours=(9.0,), ongoing=True),
    Rest("rare pings at home", tuple(home("20:00", 5, 3 * HOUR, jitter_m=20)), "S", hours=(12.0,), ongoing=True),
    Rest("one fix 200 m away", (*HOME[:30], spike(30, 200), *HOME[31:]), "S", ongoing=True),
    Rest(
        "two minutes 120 m away",
        tuple(fix(at("08:00") + n * 10 * SECOND, 120 if 180 <= n < 192 else 0) for n in range(360)),
        "S",
        hours=(359 / 360,),
        ongoing=True,
    ),
    Rest(
        "the phone is off from 22:30 to 07:00 at home",
        (*home("20:00", 31, 5 * MINUTE, jitter_m=20), *home("2 07:00", 13, 5 * MINUTE, jitter_m=20)),
        "S",
        hours=(12.0,),
        ongoing=True,
    ),
    Rest(
        "home in the evening, off in the morning, and nothing in between",
        (*ride("18:00", 31, step_m=900), *ride("2 08:00", 31, step_m=-900, from_m=27_000)),
        "TST",
        hours=(0.5, 13.5, 0.5),
    ),
    Rest(
        "a commute of a single hop",
        (*home("08:00", 6, 5 * MINUTE), *home("08:45", 6, 5 * MINUTE, 10_000)),
        "STS",
        metres=(10_000,),
        ongoing=True,
    ),
    Rest(
        "a night drive cut at midnight loses no metre",
        ride("23:00", 121, step_m=900),
        "TT",
        {"split_at_midnight": True},
        hours=(59 / 60, 61 / 60),
        metres=(53_100, 54_900),
    ),
    Rest(
        "T = 90, two trips with 80 min at the same place between them",
        (*ride("08:00", 31, step_m=900), *ride("09:50", 31, step_m=-900, from_m=27_000)),
        "TST",
        {"minutes_between_routes": 90},
        hours=(0.5, 4 / 3, 0.5),
    ),
    Rest(
        "a gap is a gap where one comes back elsewhere",
        (*ride("08:00", 31, step_m=900), *ride("10:00", 31, step_m=900, from_m=40_000)),
        "T|T",
    ),
    Rest("72 h at home without stays", tuple(home("00:00", 433, 10 * MINUTE)), "T", {"stop_minutes": 0}),
]
