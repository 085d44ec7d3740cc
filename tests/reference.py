"""The slow, obviously right implementation of tracks = f(points, settings).

It says what the result has to be, so that the product can be compared with it on any history and any
settings. It is written from the words of the design and shares no code with the product (the class that holds
the settings is all it imports): one point at a time, over the whole history at once, with no chunks, segments,
seams or database. Nothing here may be made faster at the price of being less plain.

Times are integer ms. The length of a link is its WGS84 geodesic in metres times 1000, a float64 product, then
rounded half away from zero to integer mm; altitudes become integer cm in the same way. From there on all
arithmetic is exact.
"""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby, pairwise
from typing import NamedTuple

from pyproj import Geod

from trackgen_core.settings import Settings

NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://github.com/trackgen/trackgen/track")
WGS84 = Geod(ellps="WGS84")

Vertex = tuple[float, float]
Path = tuple[tuple[Vertex, ...], ...]


class Point(NamedTuple):
    user: str
    device: str
    time_ms: int
    lon: float
    lat: float
    altitude: float | None = None


@dataclass(frozen=True)
class Track:
    track_id: str
    user: str
    device: str
    started_ms: int
    ended_ms: int
    start_lon: float
    start_lat: float
    end_lon: float
    end_lat: float
    points: int
    length_mm: int
    duration_ms: int
    elevation_gain_cm: int | None
    elevation_loss_cm: int | None
    elevation_min_cm: int | None
    elevation_max_cm: int | None
    break_reason: str
    path: Path


def tracks(points: Iterable[Point], settings: Mapping[str, Settings] | Settings) -> tuple[list[Track], int]:
    """Return the tracks sorted by user, device and start, and the number of points that are left over.

    `settings` holds for everyone, or is by user (a user who is not in it has the defaults).
    """
    found = []
    leftover = 0
    for (user, _device), trail in groupby(distinct(points), key=lambda point: (point.user, point.device)):
        rules = settings if isinstance(settings, Settings) else settings.get(user, Settings())
        for reason, run in runs(trail, rules):
            if len(run) < 2:
                leftover += len(run)
            else:
                found.append(make_track(reason, run))
    return found, leftover


def distinct(points: Iterable[Point]) -> list[Point]:
    """Return the points in the order of (user, device, time, lon, lat), each of these keys once.

    Where one key came with several altitudes, a known one beats an unknown one, and the larger of two stands.
    """
    altitudes: dict[tuple[str, str, int, float, float], float | None] = {}
    for user, device, time_ms, lon, lat, altitude in points:
        key = (user, device, time_ms, float(lon) + 0.0, float(lat) + 0.0)  # -0.0 + 0.0 is 0.0
        before = altitudes.get(key)
        if altitude is None or (before is not None and before > altitude):
            altitude = before
        altitudes[key] = altitude
    return [Point(*key, altitudes[key]) for key in sorted(altitudes)]


def runs(trail: Iterable[Point], rules: Settings) -> list[tuple[str, list[Point]]]:
    """Cut the points of one device at every break: (reason of the break before it, its points)."""
    found: list[tuple[str, list[Point]]] = []
    for point in trail:
        reason = break_between(found[-1][1][-1], point, rules) if found else "start"
        if reason is None:
            found[-1][1].append(point)
        else:
            found.append((reason, [point]))
    return found


def break_between(a: Point, b: Point, rules: Settings) -> str | None:
    """Return why a new track starts at `b`, the point right after `a`, or None if it goes on."""
    gap_ms = b.time_ms - a.time_ms
    if gap_ms > rules.minutes_between_routes * 60_000:
        return "time_gap"
    far = link_mm(a, b) > rules.meters_between_routes * 1000
    if far and rules.distance_rule == "strict":
        return "distance"
    if far and rules.distance_rule == "implausible" and speed_kmh(link_mm(a, b), gap_ms) > rules.max_speed_kmh:
        return "implausible_speed"
    return None


def speed_kmh(length_mm: int, gap_ms: int) -> Fraction | float:
    """Return the exact speed that the hop needs; a hop in no time needs an infinite one."""
    if gap_ms == 0:
        return math.inf
    kilometres = Fraction(length_mm, 1_000_000)
    hours = Fraction(gap_ms, 3_600_000)
    return kilometres / hours


def link_mm(a: Point, b: Point) -> int:
    """Return the length of the geodesic from `a` to `b`."""
    metres = WGS84.line_lengths([a.lon, b.lon], [a.lat, b.lat])[0]
    return half_away(metres * 1000)


def half_away(value: float) -> int:
    """Round to the nearest integer, a half away from zero."""
    nearest = math.floor(abs(Fraction(value)) + Fraction(1, 2))
    return -nearest if value < 0 else nearest


def make_track(reason: str, run: Sequence[Point]) -> Track:
    """Describe the track of two or more points."""
    first, last = run[0], run[-1]
    altitudes = [half_away(point.altitude * 100) for point in run if point.altitude is not None]
    climbs = [b - a for a, b in pairwise(altitudes)]
    return Track(
        track_id=track_id(first),
        user=first.user,
        device=first.device,
        started_ms=first.time_ms,
        ended_ms=last.time_ms,
        start_lon=first.lon,
        start_lat=first.lat,
        end_lon=last.lon,
        end_lat=last.lat,
        points=len(run),
        length_mm=sum(link_mm(a, b) for a, b in pairwise(run)),
        duration_ms=last.time_ms - first.time_ms,
        elevation_gain_cm=sum(climb for climb in climbs if climb > 0) if altitudes else None,
        elevation_loss_cm=sum(-climb for climb in climbs if climb < 0) if altitudes else None,
        elevation_min_cm=min(altitudes) if altitudes else None,
        elevation_max_cm=max(altitudes) if altitudes else None,
        break_reason=reason,
        path=cut_path([(point.lon, point.lat) for point in run]),
    )


def track_id(first: Point) -> str:
    """Return the id of the track that starts with `first`."""
    name = json.dumps([first.user, first.device, first.time_ms, first.lon, first.lat])
    return str(uuid.uuid5(NAMESPACE, name))


def cut_path(vertices: Sequence[Vertex]) -> Path:
    """Cut the line wherever it crosses the antimeridian (RFC 7946, 3.1.9).

    A vertex on the antimeridian is inserted on either side of a crossing, unless the vertex beside it is that
    very place. Pieces of a single vertex are dropped; if no piece is left, all vertices are one place on the
    antimeridian, and the line stays whole, on the side of the first.
    """
    pieces = [[vertices[0]]]
    for a, b in pairwise(vertices):
        if abs(b[0] - a[0]) > 180:
            edge, lat = crossing(a, b)
            if a != (edge, lat):
                pieces[-1].append((edge, lat))
            pieces.append([] if b == (-edge, lat) else [(-edge, lat)])
        pieces[-1].append(b)
    lines = tuple(tuple(piece) for piece in pieces if len(piece) > 1)
    return lines or (tuple((vertices[0][0], lat) for _, lat in vertices),)


def crossing(a: Vertex, b: Vertex) -> Vertex:
    """Return where the line from `a` to `b` reaches the antimeridian: the edge on a's side, and the latitude.

    The arithmetic is float64 in exactly this order, so that results can be compared bit by bit.
    """
    (lon_a, lat_a), (lon_b, lat_b) = a, b
    eastward = lon_b - lon_a < -180
    edge = 180.0 if eastward else -180.0
    unwrapped = lon_b + 360 if eastward else lon_b - 360
    if unwrapped == lon_a:
        return edge, lat_a
    return edge, lat_a + (edge - lon_a) / (unwrapped - lon_a) * (lat_b - lat_a)
