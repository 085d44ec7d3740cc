"""The slow, obviously right implementation of the time line = f(points, settings, edits): tracks, stays and noise.

It says what the result has to be, so that the product can be compared with it on any history and any
settings. It is written from the words of `docs/rules.md`, in the order of that page, and shares no code with the
product (the class that holds the settings is all it imports): one point at a time, over the whole history at
once, with no chunks, segments, seams or database. Nothing here may be made faster at the price of being less
plain.

Times are integer ms. The length of a link is its WGS84 geodesic in metres times 1000, a float64 product, then
rounded half away from zero to integer mm; altitudes become integer cm in the same way. From there on all
arithmetic is exact, and mm/ms are m/s. What is noise or a stay is decided by places, integer cm along three axes, and
by the straight lines between them: square roots of integers.
"""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from functools import cache
from itertools import groupby, pairwise
from typing import NamedTuple
from zoneinfo import ZoneInfo

from pyproj import Geod

from trackgen_core.settings import Settings

NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://github.com/trackgen/trackgen/track")
STAY_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://github.com/trackgen/trackgen/stay")
WGS84 = Geod(ellps="WGS84")
AXIS_M = 6378137.0
FLATTENING = 1 / 298.257223563
E2 = WGS84.es

MINUTE_MS, HOUR_MS = 60_000, 3_600_000
METRE_CM = 100

LONGEST_RUN = 5
"""No more consecutive fixes than these are a spike, a replay, or an excursion."""

BANDS_DM_S = (0, 5, 22, 42, 83, 140, 450, 880)
"""The speeds at which the bands begin, in 0.1 m/s."""

MODES = {
    "stationary": ((0,), 95),
    "walk": ((1,), 95),
    "run": ((2,), 60),
    "cycle": ((2, 3), 70),
    "drive": ((2, 3, 4, 5), 80),
    "boat": ((3, 4), 50),
    "train": ((5, 6), 80),
    "fly": ((6, 7), 95),
}
"""The bands of each mode, and what speed alone can tell about it at best, in percent."""

Vertex = tuple[float, float]
Path = tuple[tuple[Vertex, ...], ...]
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


class Leg(NamedTuple):
    """A part of a track."""

    mode: str
    confidence: int
    started_ms: int
    ended_ms: int
    length_mm: int
    moving_ms: int
    by_hand: bool


class Pace(NamedTuple):
    """How somebody came to a fix: `still`, `walking`, `riding` or `none`; or a mode, if somebody said so."""

    word: str
    by_hand: bool = False


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
        fixes = list(trail)
        noise = noise_among(fixes, rules)
        line.noise += [(fix, noise[fix]) for fix in fixes if fix in noise]
        own_edits = [edit for edit in edits if (edit.user, edit.device) == (user, device)]
        add_items(line, [fix for fix in fixes if fix not in noise], rules, own_edits)
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


# Words


@cache
def place_cm(lon: float, lat: float) -> Place:
    """Return the geocentric position at height 0."""
    lam, phi = math.radians(lon), math.radians(lat)
    normal = AXIS_M / math.sqrt(1 - E2 * math.sin(phi) ** 2)
    x = normal * math.cos(phi) * math.cos(lam)
    y = normal * math.cos(phi) * math.sin(lam)
    z = normal * (1 - E2) * math.sin(phi)
    return half_away(x * 100), half_away(y * 100), half_away(z * 100)


def place_of(fix: Point) -> Place:
    return place_cm(fix.lon, fix.lat)


def diagonal_cm(extents: Iterable[int]) -> float:
    """Return the root of the sum of squares, which is an integer."""
    return math.sqrt(sum(extent * extent for extent in extents))


def distance_cm(a: Point, b: Point) -> float:
    """Return the length of the straight line between two places."""
    return diagonal_cm(q - p for p, q in zip(place_of(a), place_of(b), strict=True))


def box_cm(fixes: Iterable[Point]) -> float:
    """Return the diagonal of the smallest box along the axes that holds all places."""
    return diagonal_cm(max(axis) - min(axis) for axis in zip(*map(place_of, fixes), strict=True))


def gap_ms(a: Point, b: Point) -> int:
    """Return the time between two fixes, whichever comes first."""
    return abs(b.time_ms - a.time_ms)


def hop_kmh(a: Point, b: Point) -> float:
    """Return the speed of the straight hop; in no time it is infinite, unless it leads nowhere."""
    way_cm, time_ms = distance_cm(a, b), gap_ms(a, b)
    if way_cm == 0:
        return 0.0
    return math.inf if time_ms == 0 else way_cm * 36 / time_ms


# Noise


def noise_among(fixes: Sequence[Point], rules: Settings) -> dict[Point, str]:
    """Return the fixes of one device that are set aside, with the reason."""
    if not rules.noise_filter:
        return {}
    noise = dict.fromkeys(coarse_beside_better(fixes, rules), "accuracy")
    left = [fix for fix in fixes if fix not in noise]
    noise |= dict.fromkeys(replays(left), "replay")
    noise |= dict.fromkeys(spikes(left) | last_spikes(left) | last_spikes(left[::-1]), "spike")
    left = [fix for fix in fixes if fix not in noise]
    return noise | dict.fromkeys(duplicates(left), "duplicate")


def coarse_beside_better(fixes: Sequence[Point], rules: Settings) -> set[Point]:
    """Return the coarse fixes near better ones."""
    found = set()
    for n, fix in enumerate(fixes):
        if is_coarse(fix, rules):
            before = next((gap_ms(a, fix) for a in fixes[:n][::-1] if not is_coarse(a, rules)), math.inf)
            after = next((gap_ms(fix, b) for b in fixes[n + 1 :] if not is_coarse(b, rules)), math.inf)
            if min(before, after) <= MINUTE_MS or max(before, after) <= 10 * MINUTE_MS:
                found.add(fix)
    return found


def is_coarse(fix: Point, rules: Settings) -> bool:
    threshold_m = rules.gps_accuracy_threshold
    return threshold_m is not None and fix.accuracy is not None and fix.accuracy > threshold_m


def runs_between(fixes: Sequence[Point]) -> Iterator[tuple[int, int]]:
    """Yield every run that has a fix before and after it, as `fixes[start:stop]`."""
    for start in range(1, len(fixes)):
        for stop in range(start + 1, min(start + LONGEST_RUN, len(fixes) - 1) + 1):
            yield start, stop


def is_quick(way: Sequence[Point]) -> bool:
    """Tell whether no hop takes more than 30 minutes, and all of them no more than an hour."""
    hops_ms = [gap_ms(a, b) for a, b in pairwise(way)]
    return max(hops_ms) <= 30 * MINUTE_MS and sum(hops_ms) <= HOUR_MS


def reach_cm(way: Sequence[Point]) -> float:
    """Return the shorter one of the hops into and out of a run; `way` begins right before it and ends right after."""
    return min(distance_cm(way[0], way[1]), distance_cm(way[-2], way[-1]))


def turns_back(way: Sequence[Point]) -> bool:
    return distance_cm(way[0], way[-1]) < reach_cm(way)


def spikes(fixes: Sequence[Point]) -> set[Point]:
    """Return the fixes that lead away and back faster than anything around them."""
    found = set()
    for start, stop in runs_between(fixes):
        if is_spike(fixes, start, stop):
            found |= set(fixes[start:stop])
    return found


def is_spike(fixes: Sequence[Point], start: int, stop: int) -> bool:
    way = fixes[start - 1 : stop + 1]
    i, run, j = way[0], way[1:-1], way[-1]
    if not is_quick(way) or not turns_back(way):
        return False
    reach = reach_cm(way)
    if reach <= 50 * METRE_CM or any(distance_cm(i, fix) <= reach / 2 for fix in run):
        return False

    before = fixes[max(0, start - 4) : start][::-1]
    after = fixes[stop : stop + 4]
    usual = median(speeds_outward(before) + speeds_outward(after))

    def is_too_fast(a: Point, b: Point) -> bool:
        return hop_kmh(a, b) > 150 and hop_kmh(a, b) > 3 * usual

    def does_not_stand(outward: Sequence[Point]) -> bool:
        return len(outward) > 1 and gap_ms(*outward[:2]) <= 30 * MINUTE_MS and is_too_fast(*outward[:2])

    if not (is_too_fast(i, run[0]) and is_too_fast(run[-1], j)):
        return False
    return not (does_not_stand(before) and does_not_stand(after))


def speeds_outward(fixes: Sequence[Point]) -> list[float]:
    """Return the speeds of those of the first three hops that take any time and end within 30 minutes."""
    speeds = []
    for a, b in pairwise(fixes[:4]):
        if gap_ms(a, b) > 30 * MINUTE_MS or gap_ms(fixes[0], b) > 30 * MINUTE_MS:
            break
        if gap_ms(a, b) > 0:
            speeds.append(hop_kmh(a, b))
    return speeds


def median(speeds: Sequence[float]) -> float:
    """Return the middle one, the larger one of two; that of nothing is 0."""
    return sorted(speeds)[len(speeds) // 2] if speeds else 0.0


def last_spikes(fixes: Sequence[Point]) -> set[Point]:
    """Return the spikes at the ends of recordings. Of fixes that are backwards in time, those at the beginnings."""
    found = set()
    for stop in range(1, len(fixes) + 1):
        is_last = stop == len(fixes) or gap_ms(fixes[stop - 1], fixes[stop]) > 30 * MINUTE_MS
        for start in range(max(1, stop - LONGEST_RUN), stop) if is_last else ():
            if is_last_spike(fixes, start, stop):
                found |= set(fixes[start:stop])
    return found


def is_last_spike(fixes: Sequence[Point], start: int, stop: int) -> bool:
    i, run = fixes[start - 1], fixes[start:stop]
    if not is_quick([i, *run]):
        return False

    more = 0
    for n in range(start - 1, -1, -1):
        if gap_ms(fixes[n], run[0]) > HOUR_MS or (n < start - 1 and gap_ms(fixes[n], fixes[n + 1]) > 30 * MINUTE_MS):
            break
        more += 1
    if more < 3 or more <= len(run):
        return False

    in_cm, in_kmh = distance_cm(i, run[0]), hop_kmh(i, run[0])
    usual = median(speeds_outward(fixes[max(0, start - 4) : start][::-1]))
    if in_cm <= 50 * METRE_CM or in_kmh <= 250 or in_kmh <= 3 * usual:
        return False
    to_i_kmh = hop_kmh(fixes[start - 2], i)
    if to_i_kmh > 250 and to_i_kmh > 3 * usual:
        return False
    return all(distance_cm(i, fix) > in_cm / 2 > distance_cm(run[0], fix) for fix in run)


def replays(fixes: Sequence[Point]) -> set[Point]:
    """Return the fixes that repeat where the device was before."""
    found = set()
    for start, stop in runs_between(fixes):
        way, run = fixes[start - 1 : stop + 1], fixes[start:stop]
        is_far = is_quick(way) and turns_back(way) and reach_cm(way) > 500 * METRE_CM
        if is_far and all(same_position(run[0], fix) for fix in run) and was_there_before(fixes[:start], run[0]):
            found |= set(run)
    return found


def was_there_before(before: Sequence[Point], fix: Point) -> bool:
    return any(same_position(a, fix) and 10 * MINUTE_MS <= gap_ms(a, fix) <= 3 * HOUR_MS for a in before)


def same_position(a: Point, b: Point) -> bool:
    return (a.lon, a.lat) == (b.lon, b.lat)


def duplicates(fixes: Sequence[Point]) -> set[Point]:
    """Return the fixes that are far from the best one of their instant."""
    found = set()
    for _, group in groupby(fixes, key=lambda fix: fix.time_ms):
        same = list(group)
        best = min(same, key=lambda fix: math.inf if fix.accuracy is None else fix.accuracy)  # the first of equals
        found |= {fix for fix in same if distance_cm(best, fix) > 50 * METRE_CM}
    return found


# Stays. A hop is known by the number of the fix with which it begins.


@dataclass(frozen=True)
class Rests:
    """Where the device rested, by the numbers of its fixes."""

    hops: set[int]
    """Hops that lie in a stay. Those that follow one another are one stay, but for fixes that an edit took."""
    fixes: set[int]
    """Fixes that are in a stay for another reason than a pause."""
    left_out: set[int]
    """Fixes that do not count for the position of their stay."""


def rests_among(fixes: Sequence[Point], rules: Settings, taken: Set[int], freed: Set[int]) -> Rests:
    """Find the stays among the fixes of one device that are not noise, but for what was merged by hand."""
    if rules.stop_minutes == 0:
        return Rests(set(), set(), set())
    radius_cm = rules.stop_radius_m * METRE_CM
    away = away_fixes(fixes, radius_cm)
    settled = [n for n in range(len(fixes)) if n not in away]
    still = still_hops([fixes[n] for n in settled], rules)

    pieces = [(settled[run[0]], settled[run[-1] + 1]) for run in consecutive(still)]  # first and last fix

    hops = {n for first, last in pieces for n in range(first, last)}
    left_out = set(away)
    for (_, end), (begin, _) in pairwise(pieces):
        between = [n for n in settled if end < n < begin]
        if (
            gap_ms(fixes[end], fixes[begin]) <= 10 * MINUTE_MS
            and distance_cm(fixes[end], fixes[begin]) <= radius_cm
            and all(distance_cm(fixes[end], fixes[n]) <= 2 * radius_cm for n in between)
        ):
            hops |= set(range(end, begin))
            left_out |= set(between)
        elif (
            begin == end + 1
            and end not in freed
            and gap_ms(fixes[end], fixes[begin]) <= 24 * HOUR_MS
            and distance_cm(fixes[end], fixes[begin]) <= radius_cm
        ):
            hops.add(end)

    hops = {hop for hop in hops if hop not in taken and hop + 1 not in taken}
    rested = {n for hop in hops for n in (hop, hop + 1)}
    pauses = {n for n, (a, b) in enumerate(pairwise(fixes)) if n not in freed and is_pause(a, b, radius_cm)}
    return Rests(hops | pauses, rested, left_out - taken)


def away_fixes(fixes: Sequence[Point], radius_cm: int) -> set[int]:
    """Return the fixes of brief excursions."""
    away = set()
    for i in range(len(fixes)):
        for j in range(i + 2, min(i + 1 + LONGEST_RUN, len(fixes) - 1) + 1):
            if gap_ms(fixes[i], fixes[j]) <= 10 * MINUTE_MS and distance_cm(fixes[i], fixes[j]) <= radius_cm:
                away |= {
                    n
                    for n in range(i + 1, j)
                    if distance_cm(fixes[i], fixes[n]) > radius_cm and distance_cm(fixes[n], fixes[j]) > radius_cm
                }
    return away


def still_hops(settled: Sequence[Point], rules: Settings) -> set[int]:
    """Return the hops between settled fixes in which the device rested."""
    largest_cm = 2 * rules.stop_radius_m * METRE_CM
    short_ms = rules.stop_minutes * MINUTE_MS
    long_ms = max(30 * MINUTE_MS, short_ms)
    still = hops_in_still_windows(settled, long_ms, largest_cm)
    for rest in consecutive(hops_in_still_windows(settled, short_ms, largest_cm)):
        visited = settled[rest[0] : rest[-1] + 2]
        if gap_ms(visited[0], visited[-1]) < long_ms and box_cm(visited) <= largest_cm:
            still |= set(rest)
    return still


def hops_in_still_windows(settled: Sequence[Point], length_ms: int, largest_cm: int) -> set[int]:
    """Return the hops that lie in a still window of this length."""
    still = set()
    for n, fix in enumerate(settled):
        later = next((m for m in range(n, len(settled)) if settled[m].time_ms - fix.time_ms >= length_ms), None)
        earlier = next((m for m in range(n, -1, -1) if fix.time_ms - settled[m].time_ms >= length_ms), None)
        for m in (later, earlier):
            if m is not None and gap_ms(fix, settled[m]) <= 2 * HOUR_MS:
                first, last = min(n, m), max(n, m)
                if box_cm(settled[first : last + 1]) <= largest_cm:
                    still |= set(range(first, last))
    return still


def consecutive(numbers: Iterable[int], cuts: Set[int] = frozenset()) -> list[list[int]]:
    """Return the numbers in order, cut wherever one is missing, and before each of `cuts`."""
    found: list[list[int]] = []
    for number in sorted(numbers):
        if found and found[-1][-1] == number - 1 and number not in cuts:
            found[-1].append(number)
        else:
            found.append([number])
    return found


def is_pause(a: Point, b: Point, radius_cm: int) -> bool:
    return 2 * HOUR_MS < gap_ms(a, b) <= 24 * HOUR_MS and distance_cm(a, b) <= radius_cm


# Breaks, and what is between them


def add_items(line: Timeline, fixes: Sequence[Point], rules: Settings, edits: Sequence[Edit]) -> None:
    """Add the tracks, stays and leftovers of one device, whose fixes are not noise."""
    taken, freed = fixes_taken(fixes, edits), hops_freed(fixes, edits)
    rests = rests_among(fixes, rules, taken, freed)
    breaks = {
        n: reason
        for n, (a, b) in enumerate(pairwise(fixes))
        if n not in rests.hops and n not in freed and (reason := break_between(a, b, rules))
    }
    for n in hops_within_a_place(fixes, rests, breaks.keys(), taken, rules):
        del breaks[n]
        rests.hops.add(n)

    of_stays: set[int] = set()
    for hops in consecutive(rests.hops, taken):
        first, last = hops[0], hops[-1] + 1
        of_stay = set(range(first, last + 1)) - taken
        if first not in rests.fixes and first > 0 and first - 1 not in breaks:
            of_stay.discard(first)  # it remains that of the track which ends there
        if last not in rests.fixes and last < len(fixes) - 1 and last not in breaks:
            of_stay.discard(last)
        of_stays |= of_stay
        reason = "start" if first == 0 else breaks.get(first - 1, "stay")
        whole = fixes[first : last + 1]
        visited = [fixes[n] for n in range(first, last + 1) if n not in rests.left_out] or whole[:1]
        line.stays.append(make_stay(reason, whole, visited, len(of_stay), is_ongoing=last == len(fixes) - 1))

    paces = paces_of(fixes, rules, edits)
    wishes = midnights(fixes, rules, freed) | splits(fixes, edits)
    for chain in chains(len(fixes), rests.hops | breaks.keys()):
        reason = "start" if chain[0] == 0 else breaks.get(chain[0] - 1, "stay")
        for number, part in enumerate(cut_as_wished(chain, wishes.keys(), of_stays)):
            if number > 0 and part[0] > 0:
                reason = wishes[part[0]]
            own = [n for n in part if n not in of_stays and not (number > 0 and n == part[0])]
            if len(part) > 1:
                run = [fixes[n] for n in part]
                line.tracks.append(make_track(reason, run, [paces[n] for n in part], len(own), rules))
            else:
                line.leftover += [fixes[n] for n in own]


def hops_within_a_place(
    fixes: Sequence[Point], rests: Rests, breaks: Set[int], taken: Set[int], rules: Settings
) -> list[int]:
    """Return the breaks between two fixes of stays, one of them or both alone, that are near each other."""
    ends = {-1, len(fixes) - 1, *breaks, *rests.hops}
    alone = {n for n in range(len(fixes)) if {n - 1, n} <= ends and {n - 1, n} & rests.hops}
    of_stays = (rests.fixes | alone) - taken
    return [
        n
        for n in breaks
        if {n, n + 1} <= of_stays
        and gap_ms(fixes[n], fixes[n + 1]) <= 24 * HOUR_MS
        and distance_cm(fixes[n], fixes[n + 1]) <= rules.stop_radius_m * METRE_CM
    ]


def chains(count: int, cuts: set[int]) -> list[list[int]]:
    """Return the numbers of so many fixes, cut at these hops."""
    found: list[list[int]] = []
    for n in range(count):
        if found and n - 1 not in cuts:
            found[-1].append(n)
        else:
            found.append([n])
    return found


def cut_as_wished(chain: Sequence[int], wishes: Set[int], of_stays: Set[int]) -> list[list[int]]:
    """Cut a chain of fixes at these hops, if both fixes are its own; each part begins with the last fix of another."""
    parts = [[chain[0]]]
    for a, b in pairwise(chain):
        if a in wishes and a not in of_stays and b not in of_stays:
            parts.append([a])
        parts[-1].append(b)
    return parts


def midnights(fixes: Sequence[Point], rules: Settings, freed: Set[int]) -> dict[int, str]:
    """Return the hops over midnight, if the user wants tracks to end there."""
    if not rules.split_at_midnight:
        return {}
    return {
        n: "midnight"
        for n, (a, b) in enumerate(pairwise(fixes))
        if n not in freed and local_date(a, rules) != local_date(b, rules)
    }


def local_date(fix: Point, rules: Settings) -> date:
    """Return the date in the user's time zone."""
    instant = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=fix.time_ms)
    return instant.astimezone(ZoneInfo(rules.timezone)).date()


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


def make_track(reason: str, run: Sequence[Point], paces: Sequence[Pace], own: int, rules: Settings) -> Track:
    """Describe the track of two or more vertices, so many of which are fixes of its own."""
    first, last = run[0], run[-1]
    altitudes = [half_away(point.altitude * 100) for point in run if point.altitude is not None]
    gain_cm, loss_cm = climb_cm(altitudes, rules.climb_threshold_m * METRE_CM)
    legs = legs_of(run, paces)
    return Track(
        track_id=id_of(NAMESPACE, first),
        user=first.user,
        device=first.device,
        started_ms=first.time_ms,
        ended_ms=last.time_ms,
        start_lon=first.lon,
        start_lat=first.lat,
        end_lon=last.lon,
        end_lat=last.lat,
        points=own,
        length_mm=sum(link_mm(a, b) for a, b in pairwise(run)),
        duration_ms=last.time_ms - first.time_ms,
        moving_ms=sum(gap_ms(a, b) for a, b in pairwise(run) if 2 * link_mm(a, b) >= gap_ms(a, b)),  # 0.5 m/s
        elevation_gain_cm=gain_cm if altitudes else None,
        elevation_loss_cm=loss_cm if altitudes else None,
        elevation_min_cm=min(altitudes) if altitudes else None,
        elevation_max_cm=max(altitudes) if altitudes else None,
        break_reason=reason,
        mode=mode_of(legs),
        legs=legs,
        path=cut_path([(point.lon, point.lat) for point in run]),
    )


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


def make_stay(reason: str, whole: Sequence[Point], visited: Sequence[Point], points: int, *, is_ongoing: bool) -> Stay:
    """Describe the stay from the first to the last of these fixes; its position is that of those it visited."""
    first, last = whole[0], whole[-1]
    x, y, z = (sum(axis) / len(visited) for axis in zip(*map(place_of, visited), strict=True))
    return Stay(
        stay_id=id_of(STAY_NAMESPACE, first),
        user=first.user,
        device=first.device,
        started_ms=first.time_ms,
        ended_ms=last.time_ms,
        points=points,
        lon=round(math.degrees(math.atan2(y, x)), 7),
        lat=round(math.degrees(math.atan2(z, (1 - E2) * math.hypot(x, y))), 7),
        radius_cm=half_away(box_cm(visited) / 2),
        break_reason=reason,
        is_ongoing=is_ongoing,
    )


# Legs


def paces_of(fixes: Sequence[Point], rules: Settings, edits: Sequence[Edit]) -> list[Pace]:
    """Return the pace of each fix of one device that is not noise: that of the hop to it, or what somebody said."""
    hops = hop_paces(fixes, rules)
    found = []
    for n, fix in enumerate(fixes):
        pace = Pace(hops.get(n - 1, "none"))
        for edit in edits:
            if edit.kind == "mode" and edit.mode and edit.before_ms < fix.time_ms <= edit.after_ms:
                pace = Pace(edit.mode, by_hand=True)
        found.append(pace)
    return found


def hop_paces(fixes: Sequence[Point], rules: Settings) -> dict[int, str]:
    """Return the pace of each hop that has one."""
    paced = [
        n for n, (a, b) in enumerate(pairwise(fixes)) if not break_between(a, b, rules) and gap_ms(a, b) <= HOUR_MS
    ]
    paces: dict[int, str] = {}
    for hops in consecutive(paced):
        paces |= dict(zip(hops, part_paces(fixes[hops[0] : hops[-1] + 2]), strict=True))
    return paces


def part_paces(part: Sequence[Point]) -> list[str]:
    """Return the pace of each hop of a part."""
    still: set[int] = set()
    walking: set[int] = set()
    for first, last in pace_windows(part):
        bands = {n: band(link_mm(part[n], part[n + 1]), gap_ms(part[n], part[n + 1])) for n in range(first, last)}
        whole_ms, slow_ms, fast_ms = (
            sum(gap_ms(part[n], part[n + 1]) for n in bands if bands[n] in chosen)
            for chosen in (range(8), range(1), range(2, 8))
        )
        if 100 * slow_ms >= 90 * whole_ms:
            still |= from_first_to_last(n for n in bands if bands[n] == 0)
        if 100 * fast_ms <= 10 * (whole_ms - slow_ms):
            walking |= from_first_to_last(n for n in bands if bands[n] < 2)
    hops = range(len(part) - 1)
    paces = ["still" if n in still else "walking" if n in walking else "riding" for n in hops]
    for run in consecutive(n for n, pace in enumerate(paces) if pace == "riding"):
        is_between = run[0] > 0 and run[-1] < len(paces) - 1
        if is_between and gap_ms(part[run[0]], part[run[-1] + 1]) < 2 * MINUTE_MS:
            for n in run:
                paces[n] = "walking"
    return paces


def from_first_to_last(numbers: Iterable[int]) -> set[int]:
    """Return the numbers with all that are between them."""
    ordered = sorted(numbers)
    return set(range(ordered[0], ordered[-1] + 1)) if ordered else set()


def pace_windows(part: Sequence[Point]) -> set[tuple[int, int]]:
    """Return the first and the last fix of every window of a part that counts."""
    length_ms = 4 * MINUTE_MS
    windows = set()
    for n, fix in enumerate(part):
        later = next((m for m in range(n, len(part)) if part[m].time_ms - fix.time_ms >= length_ms), None)
        earlier = next((m for m in range(n, -1, -1) if fix.time_ms - part[m].time_ms >= length_ms), None)
        windows |= {(min(n, m), max(n, m)) for m in (later, earlier) if m is not None}
    if gap_ms(part[0], part[-1]) < length_ms:
        windows.add((0, len(part) - 1))
    return {(first, last) for first, last in windows if gap_ms(part[first], part[last]) <= HOUR_MS}


def legs_of(run: Sequence[Point], paces: Sequence[Pace]) -> tuple[Leg, ...]:
    """Tile a track by legs; `paces` are those of its vertices, of which the first one tells nothing."""
    stretches = []
    first = 0
    for pace, hops in groupby(paces[1:]):
        last = first + len(list(hops))
        mode = pace.word if pace.by_hand else mode_by_speed(pace.word, time_by_band(run[first : last + 1]))
        stretches.append((Pace(mode, pace.by_hand), first, last))
        first = last
    legs = []
    for pace, same in groupby(stretches, key=lambda stretch: stretch[0]):
        parts = list(same)
        legs.append(make_leg(pace, run[parts[0][1] : parts[-1][2] + 1]))
    return tuple(legs)


def time_by_band(run: Sequence[Point]) -> list[int]:
    """Return the time that the hops of some vertices spent in each band of speeds."""
    by_band = [0] * len(BANDS_DM_S)
    for a, b in pairwise(run):
        by_band[band(link_mm(a, b), gap_ms(a, b))] += gap_ms(a, b)
    return by_band


def make_leg(mode: Pace, run: Sequence[Point]) -> Leg:
    """Describe the leg of two or more vertices."""
    by_band = time_by_band(run)
    return Leg(
        mode=mode.word,
        confidence=100 if mode.by_hand else confidence(mode.word, by_band),
        started_ms=run[0].time_ms,
        ended_ms=run[-1].time_ms,
        length_mm=sum(link_mm(a, b) for a, b in pairwise(run)),
        moving_ms=sum(by_band[1:]),
        by_hand=mode.by_hand,
    )


def band(length_mm: int, time_ms: int) -> int:
    """Return the band of the speed of a hop."""
    if time_ms == 0:
        return 0
    return max(number for number, from_dm_s in enumerate(BANDS_DM_S) if 10 * length_mm >= from_dm_s * time_ms)


def mode_by_speed(pace: str, by_band: Sequence[int]) -> str:
    """Return the mode of a leg that spent so many ms in each band."""
    whole_ms, moving_ms = sum(by_band), sum(by_band[1:])
    if pace == "still" and 100 * by_band[0] >= 50 * whole_ms:
        return "stationary"
    if pace == "walking":
        return "walk"
    top = next(top for top in range(1, len(by_band)) if 100 * sum(by_band[1 : top + 1]) >= 90 * moving_ms)
    if top == 2:
        return "run" if 100 * by_band[2] >= 70 * moving_ms else "cycle"
    if top == 4:
        is_boat = whole_ms >= 30 * MINUTE_MS and 100 * (by_band[3] + by_band[4]) >= 95 * whole_ms
        return "boat" if is_boat else "drive"
    return {1: "walk", 3: "cycle", 5: "drive", 6: "train", 7: "fly"}[top]


def confidence(mode: str, by_band: Sequence[int]) -> int:
    """Return how sure it is that this is the mode, in percent."""
    bands, at_best = MODES[mode]
    all_ms = sum(by_band) if mode == "stationary" else sum(by_band[1:])
    return sum(by_band[number] for number in bands) * at_best // all_ms if all_ms else 0


def mode_of(legs: Sequence[Leg]) -> str:
    """Return the mode of the track of these legs."""
    others = [leg for leg in legs if leg.mode != "stationary"] or legs
    by_mode: dict[str, int] = {}
    for leg in others:
        by_mode[leg.mode] = by_mode.get(leg.mode, 0) + leg.ended_ms - leg.started_ms
    return max(by_mode, key=lambda mode: by_mode[mode])  # the first of equals


# Edits


def splits(fixes: Sequence[Point], edits: Sequence[Edit]) -> dict[int, str]:
    """Return the hops at which somebody said that a track ends."""
    found = {}
    for edit in edits:
        earlier = [n for n, fix in enumerate(fixes) if fix.time_ms <= edit.before_ms]
        if edit.kind == "split" and earlier:
            found[earlier[-1]] = "split"
    return found


def fixes_taken(fixes: Sequence[Point], edits: Sequence[Edit]) -> set[int]:
    """Return the fixes that are in no stay, because somebody said that they are of a track."""
    return {
        n
        for n, fix in enumerate(fixes)
        for edit in edits
        if edit.kind == "merge" and edit.before_ms <= fix.time_ms <= edit.after_ms
    }


def hops_freed(fixes: Sequence[Point], edits: Sequence[Edit]) -> set[int]:
    """Return the hops that are no break, no pause and no midnight, and do not join stays."""
    return {
        n
        for n, (a, b) in enumerate(pairwise(fixes))
        for edit in edits
        if edit.kind == "merge"
        and a.time_ms < edit.after_ms
        and b.time_ms > edit.before_ms
        and gap_ms(a, b) <= 24 * HOUR_MS
    }


def id_of(namespace: uuid.UUID, first: Point) -> str:
    """Return the id of the track or stay that starts with `first`."""
    name = json.dumps([first.user, first.device, first.time_ms, first.lon, first.lat])
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
