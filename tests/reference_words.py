"""The words of `docs/rules.md`: points, links, places, and the clock of the rules. See `tests/reference.py`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import NamedTuple

from pyproj import Geod

WGS84 = Geod(ellps="WGS84")
AXIS_M = 6378137.0
E2 = WGS84.es

SECOND_MS, MINUTE_MS, HOUR_MS = 1000, 60_000, 3_600_000
METRE_CM = 100

Place = tuple[int, int, int]


class Point(NamedTuple):
    user: str
    device: str
    time_ms: int
    lon: float
    lat: float
    altitude: float | None = None
    accuracy: float | None = None
    seq: int = 0
    """Its place among the points of one time stamp in its file."""
    pause: int = 0
    """1: the recording was stopped on purpose before it."""
    activity: int = 0
    """How somebody moved, by the file: a place in `ACTIVITIES` of the product, 0 where unknown."""


class Edit(NamedTuple):
    """What somebody said about a device."""

    user: str
    device: str
    kind: str
    """`split`, `merge` or `mode`."""
    before_ms: int
    after_ms: int
    mode: str | None = None


@dataclass(frozen=True)
class Fix:
    """A point, and what the rules know of it."""

    point: Point
    clock_ms: int
    """Its time by the clock of the rules."""
    is_after_pause: bool = False
    """Whether the way to it was not recorded, because the recording was paused."""
    resumes: bool = False
    """The same, unless somebody merged over it."""
    altitude_cm: int | None = None
    """After cleaning."""

    @property
    def time_ms(self) -> int:
        """Its time stamp."""
        return self.point.time_ms

    @property
    def lon(self) -> float:
        return self.point.lon

    @property
    def lat(self) -> float:
        return self.point.lat

    @property
    def accuracy(self) -> float | None:
        """Its accuracy in metres; 0 means unknown."""
        return self.point.accuracy or None


def by_the_clock(points: Sequence[Point]) -> list[Fix]:
    """Return the points of one device with their times by the clock of the rules."""
    times = [point.time_ms for point in points]
    fixes = []
    for n, point in enumerate(points):
        later = next((time_ms for time_ms in times[n:] if time_ms > point.time_ms), None)
        earlier = next((time_ms for time_ms in times[:n][::-1] if time_ms < point.time_ms), None)
        if later is not None and later - point.time_ms <= 10 * MINUTE_MS:
            span = later - point.time_ms
        elif earlier is not None and point.time_ms - earlier <= 10 * MINUTE_MS:
            span = point.time_ms - earlier
        else:
            span = 0
        first = times.index(point.time_ms)
        late_ms = (n - first) * span // times.count(point.time_ms)
        fixes.append(Fix(point, point.time_ms + late_ms))
    return fixes


@cache
def place_cm(lon: float, lat: float) -> Place:
    """Return the geocentric position at height 0."""
    lam, phi = math.radians(lon), math.radians(lat)
    normal = AXIS_M / math.sqrt(1 - E2 * math.sin(phi) ** 2)
    x = normal * math.cos(phi) * math.cos(lam)
    y = normal * math.cos(phi) * math.sin(lam)
    z = normal * (1 - E2) * math.sin(phi)
    return half_away(x * 100), half_away(y * 100), half_away(z * 100)


def place_of(fix: Fix) -> Place:
    return place_cm(fix.lon, fix.lat)


def diagonal_cm(extents: Iterable[int]) -> float:
    """Return the root of the sum of squares, which is an integer."""
    return math.sqrt(sum(extent * extent for extent in extents))


def apart_cm(a: Place, b: Place) -> float:
    """Return the length of the straight line between two places."""
    return diagonal_cm(q - p for p, q in zip(a, b, strict=True))


def distance_cm(a: Fix, b: Fix) -> float:
    return apart_cm(place_of(a), place_of(b))


def box_cm(places: Iterable[Place]) -> float:
    """Return the diagonal of the smallest box along the axes that holds all places; 0 if there are none."""
    return diagonal_cm(max(axis) - min(axis) for axis in zip(*places, strict=True))


def mean(values: Sequence[int]) -> int:
    return sum(values) // len(values)


def mean_place(places: Sequence[Place]) -> Place:
    x, y, z = (mean(axis) for axis in zip(*places, strict=True))
    return x, y, z


def gap_ms(a: Fix, b: Fix) -> int:
    """Return the time between two points, whichever comes first."""
    return abs(b.clock_ms - a.clock_ms)


def link_kmh(a: Fix, b: Fix) -> float:
    """Return the speed of a link; in no time it is infinite, unless it leads nowhere."""
    way_cm, time_ms = distance_cm(a, b), gap_ms(a, b)
    if way_cm == 0:
        return 0.0
    return math.inf if time_ms == 0 else way_cm * 36 / time_ms


def link_mm(a: Fix | Point, b: Fix | Point) -> int:
    """Return the length of the geodesic from `a` to `b`."""
    metres = WGS84.line_lengths([a.lon, b.lon], [a.lat, b.lat])[0]
    return half_away(metres * 1000)


def half_away(value: float) -> int:
    """Round to the nearest integer, a half away from zero."""
    nearest = math.floor(abs(Fraction(value)) + Fraction(1, 2))
    return -nearest if value < 0 else nearest


def consecutive(numbers: Iterable[int]) -> list[list[int]]:
    """Return the numbers in order, cut wherever one is missing."""
    found: list[list[int]] = []
    for number in sorted(numbers):
        if found and found[-1][-1] == number - 1:
            found[-1].append(number)
        else:
            found.append([number])
    return found
