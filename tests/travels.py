"""Hypothesis strategy: days of one device that walk along the edges of the rules about stays, noise and altitudes.

A day is a list of episodes; each is drawn as plain choices, so that a failing day shrinks to few and simple episodes.
What does not matter in detail (the scatter of measurements) comes from a `Random` whose seed is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from tests.reference import Point, distinct
from trackgen_core.settings import Settings

S, M, H = 1000, 60_000, 3_600_000
START_MS = 1_709_251_200_000
"""2024-03-01 00:00 UTC."""
METRES = 111_319.49
"""In a degree of longitude at the equator."""


class Episode(NamedTuple):
    what: str
    every_ms: int
    metres: float
    count: int
    random: Random


@dataclass
class Travel:
    """The points so far, and where the device is."""

    time_ms: int
    lon: float
    lat: float
    digits: int
    accuracy: float | None
    altitude_noise_m: float | None
    x: float = 0.0
    y: float = 0.0
    pause: int = 0
    points: list[Point] = field(default_factory=list)

    def see(self, random: Random, x: float | None = None, y: float | None = None, scatter_m: float = 0.0) -> None:
        east = (self.x if x is None else x) + random.gauss(0, scatter_m)
        north = (self.y if y is None else y) + random.gauss(0, scatter_m)
        lat = round(self.lat + north / METRES, self.digits) + 0.0
        lon = round(self.lon + east / METRES / math.cos(math.radians(self.lat)), self.digits) + 0.0
        lon = lon - 360 if lon > 180 else lon
        altitude = None
        if self.altitude_noise_m is not None and random.random() > 0.03:
            altitude = 400 + 0.05 * self.x + random.gauss(0, self.altitude_noise_m)
            altitude += random.choice([30, -40, 100]) if random.random() < 0.02 else 0
        self.points.append(Point("anna", "phone", self.time_ms, lon, lat, altitude, self.accuracy, pause=self.pause))
        self.pause = 0

    def move(self, metres: float, random: Random) -> None:
        angle = random.uniform(0, math.tau)
        self.x, self.y = self.x + metres * math.cos(angle), self.y + metres * math.sin(angle)

    def dwell(self, one: Episode) -> None:
        for _ in range(2 * one.count):
            self.time_ms += one.every_ms
            self.see(one.random, scatter_m=min(one.metres / 5, 60))

    def walk(self, one: Episode) -> None:
        for _ in range(one.count):
            self.time_ms += one.every_ms
            self.x += one.metres
            self.see(one.random, scatter_m=3)

    def silence(self, one: Episode) -> None:
        self.time_ms += one.random.choice([25 * M, 30 * M, 30 * M + 1, 2 * H, 8 * H, 24 * H, 24 * H + 1, 25 * H])
        self.move(one.metres, one.random)

    def bursts(self, one: Episode) -> None:
        for _ in range(min(one.count, 4)):
            for _ in range(one.random.randrange(1, 5)):
                self.time_ms += one.random.choice([30 * S, M, 2 * M, 3 * M])
                self.see(one.random, scatter_m=one.random.choice([3, 15]))
            self.silence(one)

    def away(self, one: Episode) -> None:
        """Go somewhere in no time, and come back."""
        for _ in range(one.count):
            self.time_ms += one.every_ms
            self.see(one.random, self.x + 2 * one.metres, self.y, scatter_m=2)
        self.time_ms += one.every_ms
        self.see(one.random)

    def hall(self, one: Episode) -> None:
        for _ in range(3 * one.count):
            self.time_ms += max(one.every_ms, 20 * S)
            x, y = self.x + one.random.uniform(-60, 60), self.y + one.random.uniform(-60, 60)
            self.see(one.random, x, y)

    def creep(self, one: Episode) -> None:
        for _ in range(3 * one.count):
            self.time_ms += one.random.choice([10, 20, 28, 45]) * M
            self.x += min(one.metres, 30)
            self.see(one.random, scatter_m=5)

    def tracker(self, one: Episode) -> None:
        wait = one.random.choice([20, 30, 60, 70, 150]) * M
        for _ in range(one.count):
            self.time_ms += wait + one.random.randrange(-20 * S, 20 * S)
            self.x += 10 * one.metres
            self.see(one.random)

    def fly(self, one: Episode) -> None:
        metres = one.random.choice([99e3, 101e3, 400e3])
        self.time_ms += int(metres / one.random.choice([40, 56, 100, 250]) * S)
        self.x += metres
        self.see(one.random)

    def rest(self, one: Episode) -> None:
        """Stop the recording on purpose."""
        self.pause = 1
        self.time_ms += one.random.choice([S, M, 20 * M, 40 * M])
        self.move(one.metres, one.random)
        self.see(one.random)

    def copies(self, one: Episode) -> None:
        for point in self.points[-one.count :]:
            what = one.random.choice(["rounded", "cut", "both"])
            lon, lat, time_ms = point.lon, point.lat, point.time_ms
            if what != "cut":
                lon, lat = round(lon, 5) + 0.0, round(lat, 5) + 0.0
            if what != "rounded":
                time_ms = time_ms // S * S
            self.points.append(point._replace(lon=lon, lat=lat, time_ms=time_ms))

    def ties(self, one: Episode) -> None:
        for _ in range(one.count):
            self.x += min(one.metres, 60)
            self.see(one.random)
        self.time_ms += one.random.choice([1, 3, S, M])

    def vague(self, one: Episode) -> None:
        self.time_ms += M
        usual, self.accuracy = self.accuracy, one.random.choice([150.0, 900.0, 1500.0])
        self.see(one.random, self.x + one.metres)
        self.accuracy = usual


EPISODES: dict[str, Callable[[Travel, Episode], None]] = {
    "dwell": Travel.dwell,
    "walk": Travel.walk,
    "silence": Travel.silence,
    "bursts": Travel.bursts,
    "away": Travel.away,
    "hall": Travel.hall,
    "creep": Travel.creep,
    "tracker": Travel.tracker,
    "fly": Travel.fly,
    "rest": Travel.rest,
    "copies": Travel.copies,
    "ties": Travel.ties,
    "vague": Travel.vague,
}


@st.composite
def travels(draw: DrawFn, max_points: int = 150) -> list[Point]:
    """Points of one device of Anna, in the order of time."""
    often = ["dwell", "dwell", "silence", "walk"]
    episodes = st.builds(
        Episode,
        st.sampled_from([*often, *EPISODES]),
        st.sampled_from([M, 20 * S, 10 * S, 5 * S, S, 2 * M, 5 * M]),
        st.sampled_from([10.0, 0.0, 40.0, 74.0, 76.0, 160.0, 300.0, 499.0, 501.0, 2000.0]),
        st.integers(1, 14),
        st.integers(0, 999).map(Random),
    )
    lon, lat = draw(st.sampled_from([(13.4, 52.5), (10.0, 0.0), (179.9995, 0.0), (-77.03, -12.05), (90.0, 0.0)]))
    travel = Travel(
        START_MS + draw(st.sampled_from([8 * H, 22 * H, 23 * H + 50 * M, 0]) | st.integers(0, 24 * H)),
        lon,
        lat,
        draw(st.sampled_from([7, 5, 12])),
        draw(st.sampled_from([None, 5.0, 30.0, 80.0])),
        draw(st.sampled_from([None, 0.0, 0.3, 2.0, 8.0])),
    )
    for one in draw(st.lists(episodes, min_size=1, max_size=8)):
        EPISODES[one.what](travel, one)
    in_file_order = draw(st.booleans())
    points: list[Point] = []
    for point in sorted(travel.points, key=lambda point: point.time_ms):
        is_tie = bool(points) and points[-1].time_ms == point.time_ms
        points.append(point._replace(seq=points[-1].seq + 1 if is_tie and in_file_order else 0))
    return distinct(points)[:max_points]


def settings_of_travels() -> st.SearchStrategy[Settings]:
    """Mostly the defaults, and the edges of what may be set."""
    return st.builds(
        Settings,
        minutes_between_routes=st.sampled_from([30, 30, 1, 10, 90, 1440]),
        gap_rule=st.sampled_from(["adaptive", "adaptive", "fixed"]),
        distance_rule=st.sampled_from(["implausible", "strict", "off"]),
        noise_filter=st.sampled_from([True, True, True, False]),
        gps_accuracy_threshold=st.sampled_from([100, None, 30]),
        stay_minutes=st.sampled_from([10, 10, 5, 1, 20, 30, 0]),
        stay_radius_m=st.sampled_from([75, 75, 51, 30, 150]),
        silent_stay_m=st.sampled_from([500, 500, 0, 50, 1000]),
        climb_threshold_m=st.sampled_from([5, 0, 1]),
        split_at_midnight=st.booleans(),
        timezone=st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata"]),
    )
