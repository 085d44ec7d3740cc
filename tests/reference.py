"""The slow, obviously right implementation of the time line = f(points, settings, edits): tracks, stays and noise.

It says what the result has to be, so that the product can be compared with it on any history and any
settings. It is written from the words of `docs/rules.md`, in the order of that page, and shares no code with the
product (the class that holds the settings is all it imports): one point at a time, over the whole history at
once, with no chunks, segments, seams or database. Nothing here may be made faster at the price of being less
plain.

`reference_words` says what words mean, `reference_noise` is section 1, `reference_dwelling` and `reference_stays` are
section 2, `reference_motion`, `reference_pace` and `reference_legs` are section 6 with the lengths of section 5, and
this module is the rest.

Times are integer ms. The length of a link is its WGS84 geodesic in metres times 1000, a float64 product, then
rounded half away from zero to integer mm; altitudes become integer cm in the same way. From there on all
arithmetic is exact, and mm/ms are m/s. What is noise or a stay is decided by places, integer cm along three axes, and
by the straight lines between them: square roots of integers.

A point is known by its number among those of its device that are not noise, a link by the number of the point with
which it begins.
"""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import groupby, pairwise

from tests.reference_altitudes import cleaned_altitudes
from tests.reference_legs import Leg, Pace, legs_of
from tests.reference_motion import links_of
from tests.reference_noise import fixes_and_noise
from tests.reference_pace import paces_of_points
from tests.reference_stays import DAY_MS, Given, Stays, consecutive_points, local_date, stays_of
from tests.reference_words import (
    E2,
    HOUR_MS,
    METRE_CM,
    MINUTE_MS,
    Edit,
    Fix,
    Point,
    box_cm,
    gap_ms,
    half_away,
    link_mm,
    place_of,
)
from trackgen_core.settings import Settings

__all__ = ["Edit", "Leg", "Point", "Stay", "Timeline", "Track", "distinct", "half_away", "timeline", "tracks"]

NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://github.com/trackgen/trackgen/track")
STAY_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://github.com/trackgen/trackgen/stay")

Vertex = tuple[float, float]
Path = tuple[tuple[Vertex, ...], ...]


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
    moving_ms: int
    elevation_gain_cm: int | None
    elevation_loss_cm: int | None
    elevation_min_cm: int | None
    elevation_max_cm: int | None
    break_reason: str
    mode: str
    legs: tuple[Leg, ...]
    path: Path


@dataclass(frozen=True)
class Stay:
    stay_id: str
    user: str
    device: str
    started_ms: int
    ended_ms: int
    points: int
    lon: float
    lat: float
    radius_cm: int
    break_reason: str
    is_ongoing: bool


@dataclass
class Timeline:
    """What has become of every fix, sorted by user, device and time."""

    tracks: list[Track] = field(default_factory=list)
    stays: list[Stay] = field(default_factory=list)
    noise: list[tuple[Point, str]] = field(default_factory=list)
    leftover: list[Point] = field(default_factory=list)


def tracks(
    points: Iterable[Point], settings: Mapping[str, Settings] | Settings, edits: Sequence[Edit] = ()
) -> tuple[list[Track], int]:
    """Return the tracks sorted by user, device and start, and the number of points that are left over."""
    line = timeline(points, settings, edits)
    return line.tracks, len(line.leftover)


def timeline(
    points: Iterable[Point], settings: Mapping[str, Settings] | Settings, edits: Sequence[Edit] = ()
) -> Timeline:
    """Return what becomes of the points.

    `settings` holds for everyone, or is by user (a user who is not in it has the defaults). `edits` are in the order
    in which they were made.
    """
    line = Timeline()
    for (user, device), trail in groupby(distinct(points), key=lambda point: (point.user, point.device)):
        rules = settings if isinstance(settings, Settings) else settings.get(user, Settings())
        own = list(trail)
        fixes, noise = fixes_and_noise(own, rules)
        line.noise += [(point, noise[point]) for point in own if point in noise]
        own_edits = [edit for edit in edits if (edit.user, edit.device) == (user, device)]
        add_items(line, fixes, rules, own_edits)
    return line


def distinct(points: Iterable[Point]) -> list[Point]:
    """Return the points in the order of (user, device, time, seq, lon, lat), each key (without seq) once.

    Where one key came several times, the smallest seq stands, the largest pause and the largest activity; of altitudes,
    a known one beats an unknown one, and the larger of two stands; and so it is, independently, with accuracies.
    """
    known: dict[tuple[str, str, int, float, float], Point] = {}
    for point in points:
        key = (point.user, point.device, point.time_ms, float(point.lon) + 0.0, float(point.lat) + 0.0)  # no -0.0
        before = known.get(key, point)
        known[key] = Point(
            *key,
            larger(before.altitude, point.altitude),
            larger(before.accuracy, point.accuracy),
            min(before.seq, point.seq),
            max(before.pause, point.pause),
            max(before.activity, point.activity),
        )
    return sorted(
        known.values(), key=lambda point: (point.user, point.device, point.time_ms, point.seq, point.lon, point.lat)
    )


def larger(a: float | None, b: float | None) -> float | None:
    """Return the larger one of those that are known."""
    return max((value for value in (a, b) if value is not None), default=None)


# Breaks


def breaks_among(fixes: Sequence[Fix], rules: Settings) -> dict[int, str]:
    """Return the links that are a break if there are neither stays nor edits, with the reason."""
    return {n: reason for n in range(len(fixes) - 1) if (reason := break_at(fixes, n, rules))}


def break_at(fixes: Sequence[Fix], n: int, rules: Settings) -> str | None:
    """Return why a new track starts behind a link, or None if it goes on."""
    a, b = fixes[n], fixes[n + 1]
    link_ms, length_mm = gap_ms(a, b), link_mm(a, b)
    if link_ms > rules.minutes_between_routes * MINUTE_MS:
        bridged = is_usual(fixes, n) or (length_mm >= 100_000_000 and is_flown(length_mm, link_ms))
        if rules.gap_rule == "fixed" or not bridged:
            return "time_gap"
    far = length_mm > rules.meters_between_routes * 1000
    if far and rules.distance_rule == "strict":
        return "distance"
    if far and rules.distance_rule == "implausible" and speed_kmh(length_mm, link_ms) > rules.max_speed_kmh:
        return "implausible_speed"
    return None


def is_usual(fixes: Sequence[Fix], n: int) -> bool:
    """Tell whether the device leaves so much time between its points anyway."""
    known = [ms for ms in (interval_ms(fixes[: n + 1][::-1]), interval_ms(fixes[n + 1 :])) if ms]
    link_ms = gap_ms(fixes[n], fixes[n + 1])
    return bool(known) and 2 * link_ms <= 5 * min(known) and link_ms <= 3 * HOUR_MS


def interval_ms(outward: Sequence[Fix]) -> int:
    """Return the interval of the device after the first of some points; before it, if they are backwards in time."""
    near = [fix for fix in outward[:4] if gap_ms(outward[0], fix) <= 2.5 * HOUR_MS]
    links_ms = sorted(gap_ms(a, b) for a, b in pairwise(near))
    return links_ms[len(links_ms) // 2] if links_ms else 0


def is_flown(length_mm: int, link_ms: int) -> bool:
    return speed_kmh(length_mm, link_ms) >= 200 and link_ms <= DAY_MS


def speed_kmh(length_mm: int, time_ms: int) -> Fraction | float:
    """Return the exact speed that the link needs; a link in no time needs an infinite one."""
    if time_ms == 0:
        return math.inf
    kilometres = Fraction(length_mm, 1_000_000)
    hours = Fraction(time_ms, 3_600_000)
    return kilometres / hours


# Tracks


def add_items(line: Timeline, fixes: Sequence[Fix], rules: Settings, edits: Sequence[Edit]) -> None:
    """Add the tracks, stays and leftovers of one device, whose fixes are not noise."""
    freed = links_freed(fixes, edits)
    fixes = [
        replace(fix, resumes=fix.is_after_pause and n - 1 not in freed, altitude_cm=altitude_cm)
        for n, (fix, altitude_cm) in enumerate(zip(fixes, cleaned_altitudes(fixes, rules), strict=True))
    ]
    breaks = {n: reason for n, reason in breaks_among(fixes, rules).items() if n not in freed}
    by_hand = splits(fixes, edits)
    wishes = midnights(fixes, rules, freed) | by_hand
    stays = stays_of(Given(fixes, rules, breaks, points_taken(fixes, edits), freed, by_hand.keys()))
    breaks = {n: reason for n, reason in breaks.items() if n not in stays.inside | stays.nowhere}
    for run in stays.runs:
        line.stays.append(
            make_stay(
                reason_at(run.first, breaks),
                [fixes[n] for n in (run.first, run.last)],
                [fixes[n] for n in run.visited],
                len(run.own),
                is_ongoing=run.last == len(fixes) - 1,
            )
        )
    add_tracks(line, fixes, rules, edits, stays, breaks, wishes)


def reason_at(first: int, breaks: Mapping[int, str]) -> str:
    """Return why something that begins with this point does not go on with what was before."""
    return "start" if first == 0 else breaks.get(first - 1, "stay")


def add_tracks(
    line: Timeline,
    fixes: Sequence[Fix],
    rules: Settings,
    edits: Sequence[Edit],
    stays: Stays,
    breaks: Mapping[int, str],
    wishes: Mapping[int, str],
) -> None:
    """Add the tracks and leftovers: what is left between breaks and stays."""
    of_stays = stays.points
    paces = paces_of(fixes, rules, edits)
    links = links_of(fixes, rules)
    for chain in consecutive_points(range(len(fixes)), stays.inside | stays.nowhere | breaks.keys()):
        reason = reason_at(chain[0], breaks)
        for number, part in enumerate(cut_as_wished(chain, wishes.keys(), of_stays)):
            if number > 0 and part[0] > 0:
                reason = wishes[part[0]]
            own = [n for n in part if n not in of_stays and not (number > 0 and n == part[0])]
            if len(part) > 1:
                run = [fixes[n] for n in part]
                legs, mode = legs_of(run, [paces[n] for n in part], [links[n] for n in part], rules.unused_modes)
                line.tracks.append(make_track(reason, run, legs, mode, len(own), rules))
            else:
                line.leftover += [fixes[n].point for n in own]


def cut_as_wished(chain: Sequence[int], wishes: Set[int], of_stays: Set[int]) -> list[list[int]]:
    """Cut a chain of fixes at these hops, if both fixes are its own; each part begins with the last fix of another."""
    parts = [[chain[0]]]
    for a, b in pairwise(chain):
        if a in wishes and a not in of_stays and b not in of_stays:
            parts.append([a])
        parts[-1].append(b)
    return parts


def midnights(fixes: Sequence[Fix], rules: Settings, freed: Set[int]) -> dict[int, str]:
    """Return the links over midnight, if the user wants tracks to end there."""
    if not rules.split_at_midnight:
        return {}
    return {
        n: "midnight"
        for n, (a, b) in enumerate(pairwise(fixes))
        if n not in freed and local_date(a, rules) != local_date(b, rules)
    }


# What is counted


def make_track(reason: str, run: Sequence[Fix], legs: tuple[Leg, ...], mode: str, own: int, rules: Settings) -> Track:
    """Describe the track of two or more vertices, so many of which are points of its own."""
    first, last = run[0], run[-1]
    altitudes = [fix.altitude_cm for fix in run if fix.altitude_cm is not None]
    gain_cm, loss_cm = 0, 0
    for recording in recordings(run):
        known = [fix.altitude_cm for fix in recording if fix.altitude_cm is not None]
        gain, loss = climb_cm(known, rules.climb_threshold_m * METRE_CM)
        gain_cm, loss_cm = gain_cm + gain, loss_cm + loss
    duration_ms = last.time_ms - first.time_ms
    return Track(
        track_id=id_of(NAMESPACE, first),
        user=first.point.user,
        device=first.point.device,
        started_ms=first.time_ms,
        ended_ms=last.time_ms,
        start_lon=first.lon,
        start_lat=first.lat,
        end_lon=last.lon,
        end_lat=last.lat,
        points=own,
        length_mm=sum(leg.length_mm for leg in legs),
        duration_ms=duration_ms,
        moving_ms=sum(leg.moving_ms for leg in legs),
        elevation_gain_cm=gain_cm if altitudes else None,
        elevation_loss_cm=loss_cm if altitudes else None,
        elevation_min_cm=min(altitudes) if altitudes else None,
        elevation_max_cm=max(altitudes) if altitudes else None,
        break_reason=reason,
        mode=mode,
        legs=legs,
        path=cut_path([(fix.lon, fix.lat) for fix in run]),
    )


def recordings(run: Sequence[Fix]) -> list[list[Fix]]:
    """Cut the vertices of a track at the pauses."""
    found = [[run[0]]]
    for fix in run[1:]:
        if fix.resumes:
            found.append([])
        found[-1].append(fix)
    return found


def climb_cm(altitudes: Sequence[int], threshold_cm: int) -> tuple[int, int]:
    """Return gain and loss: the sums of the rises and of the falls that are no wavering."""
    turns: list[int] = []  # where the first rise or fall begins, where the way turned, and how far it has come
    is_rise = True
    for n, altitude in enumerate(altitudes):
        if not turns:
            lowest, highest = min(altitudes[: n + 1]), max(altitudes[: n + 1])
            if highest - lowest >= threshold_cm:
                is_rise = altitude == highest
                turns = [lowest, highest] if is_rise else [highest, lowest]
        elif altitude >= turns[-1] if is_rise else altitude <= turns[-1]:
            turns[-1] = altitude
        elif abs(altitude - turns[-1]) >= threshold_cm:
            turns.append(altitude)
            is_rise = not is_rise
    climbs = [b - a for a, b in pairwise(turns)]
    return sum(climb for climb in climbs if climb > 0), sum(-climb for climb in climbs if climb < 0)


def make_stay(reason: str, whole: Sequence[Fix], visited: Sequence[Fix], points: int, *, is_ongoing: bool) -> Stay:
    """Describe the stay from the first to the last of these fixes; its position is that of those it visited."""
    first, last = whole[0], whole[-1]
    x, y, z = (sum(axis) / len(visited) for axis in zip(*map(place_of, visited), strict=True))
    return Stay(
        stay_id=id_of(STAY_NAMESPACE, first),
        user=first.point.user,
        device=first.point.device,
        started_ms=first.time_ms,
        ended_ms=last.time_ms,
        points=points,
        lon=round(math.degrees(math.atan2(y, x)), 7),
        lat=round(math.degrees(math.atan2(z, (1 - E2) * math.hypot(x, y))), 7),
        radius_cm=half_away(box_cm(map(place_of, visited)) / 2),
        break_reason=reason,
        is_ongoing=is_ongoing,
    )


# Legs


def paces_of(fixes: Sequence[Fix], rules: Settings, edits: Sequence[Edit]) -> list[Pace]:
    """Return the pace of each point of one device that is not noise, or the mode that somebody said."""
    found = []
    for fix, word in zip(fixes, paces_of_points(fixes, set(breaks_among(fixes, rules))), strict=True):
        pace = Pace(word)
        for edit in edits:
            if edit.kind == "mode" and edit.mode and edit.before_ms < fix.time_ms <= edit.after_ms:
                pace = Pace(edit.mode, is_by_hand=True)
        found.append(pace)
    return found


# Edits


def splits(fixes: Sequence[Fix], edits: Sequence[Edit]) -> dict[int, str]:
    """Return the links at which somebody said that a track ends."""
    found = {}
    for edit in edits:
        earlier = [n for n, fix in enumerate(fixes) if fix.time_ms <= edit.before_ms]
        if edit.kind == "split" and earlier:
            found[earlier[-1]] = "split"
    return found


def points_taken(fixes: Sequence[Fix], edits: Sequence[Edit]) -> set[int]:
    """Return the points that are in no stay, because somebody said that they are of a track."""
    return {
        n
        for n, fix in enumerate(fixes)
        for edit in edits
        if edit.kind == "merge" and edit.before_ms <= fix.time_ms <= edit.after_ms
    }


def links_freed(fixes: Sequence[Fix], edits: Sequence[Edit]) -> set[int]:
    """Return the links that are no break, no silent stay, no pause and no midnight, and do not join stays."""
    return {
        n
        for n, (a, b) in enumerate(pairwise(fixes))
        for edit in edits
        if edit.kind == "merge" and a.time_ms < edit.after_ms and b.time_ms > edit.before_ms and gap_ms(a, b) <= DAY_MS
    }


def id_of(namespace: uuid.UUID, first: Fix) -> str:
    """Return the id of the track or stay that starts with `first`."""
    name = json.dumps([first.point.user, first.point.device, first.time_ms, first.lon, first.lat])
    return str(uuid.uuid5(namespace, name))


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
