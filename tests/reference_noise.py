"""Section 1 of `docs/rules.md`: noise is set aside. See `tests/reference.py`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby, pairwise

from tests.reference_dwelling import SILENCE_MS
from tests.reference_words import (
    HOUR_MS,
    METRE_CM,
    MINUTE_MS,
    SECOND_MS,
    Fix,
    Point,
    by_the_clock,
    distance_cm,
    gap_ms,
    link_kmh,
)
from trackgen_core.settings import Settings

LONGEST_LINK_MS = 30 * MINUTE_MS
"""No rule about noise looks over a link that takes longer."""
FEW = 5
"""A run of more points than these has to be a place of its own."""


def fixes_and_noise(points: Sequence[Point], rules: Settings) -> tuple[list[Fix], dict[Point, str]]:
    """Return the points of one device that are no noise, and the others with the reason."""
    if not rules.noise_filter:
        return with_pauses(by_the_clock(points), {}), {}
    copies = duplicates(points)
    fixes = by_the_clock([point for point in points if point not in copies])
    coarse = coarse_beside_better(fixes, rules)
    left = [fix for fix in fixes if fix not in coarse]
    spiky = spikes(left) | last_spikes(left) | last_spikes(left[::-1])
    noise = dict.fromkeys(copies, "duplicate")
    noise |= dict.fromkeys((fix.point for fix in coarse), "accuracy")
    noise |= dict.fromkeys((fix.point for fix in replays(left)), "replay")
    noise |= dict.fromkeys((fix.point for fix in spiky), "spike")
    return with_pauses(fixes, noise), noise


def with_pauses(fixes: Sequence[Fix], noise: Mapping[Point, str]) -> list[Fix]:
    """Return the points that are no noise, with the pauses before them and before the noise that they soon follow."""
    kept: list[Fix] = []
    paused = False
    for fix in fixes:
        paused = paused or fix.point.pause == 1
        if fix.point not in noise:
            if not kept or gap_ms(kept[-1], fix) > SILENCE_MS:
                paused = fix.point.pause == 1
            kept.append(replace(fix, is_after_pause=paused))
            paused = False
    return kept


# Duplicates


def duplicates(points: Sequence[Point]) -> set[Point]:
    """Return the copies of others."""
    found = set()
    for _, group in groupby(points, key=lambda point: (point.time_ms, point.seq)):
        same = list(group)
        found |= set(same) - {min(same, key=lambda point: (point.accuracy or math.inf, is_rounded(point)))}
    for n, point in enumerate(points):
        if point.time_ms % SECOND_MS == 0:
            before = next((a for a in points[:n][::-1] if a.time_ms % SECOND_MS), None)
            after = next((b for b in points[n + 1 :] if b.time_ms % SECOND_MS), None)
            if before and after and after.time_ms - before.time_ms < SECOND_MS / 2:
                continue
            if (before and is_original(before, point)) or (after and is_original(after, point)):
                found.add(point)
    return found


def is_rounded(point: Point) -> bool:
    return rounded(point) == (point.lon, point.lat)


def rounded(point: Point) -> tuple[float, float]:
    return round(point.lon * 100_000) / 100_000, round(point.lat * 100_000) / 100_000


def is_original(one: Point, copy: Point) -> bool:
    is_there = (copy.lon, copy.lat) in ((one.lon, one.lat), rounded(one))
    return abs(one.time_ms - copy.time_ms) < SECOND_MS and is_there


# Accuracy


def coarse_beside_better(fixes: Sequence[Fix], rules: Settings) -> set[Fix]:
    """Return the coarse points near better ones."""
    found = set()
    for n, fix in enumerate(fixes):
        if is_coarse(fix, rules):
            before = next((gap_ms(a, fix) for a in fixes[:n][::-1] if not is_coarse(a, rules)), math.inf)
            after = next((gap_ms(fix, b) for b in fixes[n + 1 :] if not is_coarse(b, rules)), math.inf)
            if min(before, after) <= MINUTE_MS or max(before, after) <= 10 * MINUTE_MS:
                found.add(fix)
    return found


def is_coarse(fix: Fix, rules: Settings) -> bool:
    threshold_m = rules.gps_accuracy_threshold
    return threshold_m is not None and fix.accuracy is not None and fix.accuracy > threshold_m


# Spikes


def spikes(fixes: Sequence[Fix]) -> set[Fix]:
    """Return the points that lead away and back faster than anything around them."""
    links = [n for n, (a, b) in enumerate(pairwise(fixes)) if is_too_fast(a, b)]
    away = [n for n in links if link_kmh(*fixes[n : n + 2]) > 3 * slowest(outward(fixes, n, -1))]
    back = [n for n in links if link_kmh(*fixes[n : n + 2]) > 3 * slowest(outward(fixes, n + 1, 1))]
    found = set()
    for leap in away:
        later = [n for n in back if n > leap]
        long = [n for n in later if n - leap > FEW][:3]
        for end in later:
            run = fixes[leap + 1 : end + 1]
            may_be = len(run) <= FEW or (end in long and gap_ms(fixes[leap], fixes[end + 1]) <= 10 * MINUTE_MS)
            more = around(fixes, leap, -1, away) + around(fixes, end + 1, 1, back)
            if may_be and more > max(len(run), 2) and is_spike(fixes, leap + 1, end + 1):
                found |= set(run)
    return found


def is_too_fast(a: Fix, b: Fix) -> bool:
    time_ms, way_cm, kmh = gap_ms(a, b), distance_cm(a, b), link_kmh(a, b)
    if time_ms > LONGEST_LINK_MS:
        return False
    return (way_cm > 25 * METRE_CM and kmh > 150) or (time_ms <= MINUTE_MS and way_cm > 100 * METRE_CM and kmh > 30)


def outward(fixes: Sequence[Fix], n: int, step: int) -> list[Fix]:
    """Return a point and up to three others before it (`step` -1) or after it, at most 30 minutes away."""
    others = fixes[max(0, n - 3) : n][::-1] if step < 0 else fixes[n + 1 : n + 4]
    return [fixes[n], *(fix for fix in others if gap_ms(fixes[n], fix) <= LONGEST_LINK_MS)]


def slowest(way: Sequence[Fix]) -> float:
    """Return the speed of the slowest link; if there is none, everything is faster."""
    return min((link_kmh(a, b) for a, b in pairwise(way)), default=-1.0)


def is_spike(fixes: Sequence[Fix], start: int, stop: int) -> bool:
    way = fixes[start - 1 : stop + 1]
    i, run, j = way[0], way[1:-1], way[-1]
    reach, chord = reach_cm(way), distance_cm(i, j)
    if not is_quick(way) or not chord < (reach if len(run) <= FEW else reach / 2):
        return False
    if not all(distance_cm(i, fix) > reach / 2 for fix in run):
        return False
    if len(run) > FEW and not all(distance_cm(run[0], fix) <= reach / 2 for fix in run):
        return False
    usual = median(speeds(outward(fixes, start - 1, -1)) + speeds(outward(fixes, stop, 1)))
    return link_kmh(i, run[0]) > 3 * usual and link_kmh(run[-1], j) > 3 * usual


def is_quick(way: Sequence[Fix]) -> bool:
    """Tell whether no link takes more than 30 minutes, and all of them no more than an hour."""
    links_ms = [gap_ms(a, b) for a, b in pairwise(way)]
    return max(links_ms) <= LONGEST_LINK_MS and sum(links_ms) <= HOUR_MS


def reach_cm(way: Sequence[Fix]) -> float:
    """Return the shorter one of the links into and out of a run; `way` begins right before it and ends right after."""
    return min(distance_cm(way[0], way[1]), distance_cm(way[-2], way[-1]))


def around(fixes: Sequence[Fix], start: int, step: int, leaps: Sequence[int]) -> int:
    """Count the points from this one on, before it (`step` -1) or after it, up to one of these links."""
    count, n = 1, start
    while 0 <= n + step < len(fixes):
        a, b = fixes[n], fixes[n + step]
        if min(n, n + step) in leaps or gap_ms(a, b) > LONGEST_LINK_MS or gap_ms(fixes[start], b) > HOUR_MS:
            break
        count, n = count + 1, n + step
    return count


def speeds(way: Sequence[Fix]) -> list[float]:
    """Return the speeds of those links that take any time."""
    return [link_kmh(a, b) for a, b in pairwise(way) if gap_ms(a, b) > 0]


def median(values: Sequence[float]) -> float:
    """Return the middle one, the larger one of two; that of nothing is 0."""
    return sorted(values)[len(values) // 2] if values else 0.0


def last_spikes(fixes: Sequence[Fix]) -> set[Fix]:
    """Return the spikes at the ends of recordings. Of points that are backwards in time, those at the beginnings."""
    found = set()
    for stop in range(1, len(fixes) + 1):
        is_last = stop == len(fixes) or gap_ms(fixes[stop - 1], fixes[stop]) > LONGEST_LINK_MS
        for start in range(max(1, stop - FEW), stop) if is_last else ():
            if is_last_spike(fixes, start, stop):
                found |= set(fixes[start:stop])
    return found


def is_last_spike(fixes: Sequence[Fix], start: int, stop: int) -> bool:
    i, run = fixes[start - 1], fixes[start:stop]
    if not is_quick([i, *run]):
        return False
    more = 0
    for n in range(start - 1, -1, -1):
        if gap_ms(fixes[n], run[0]) > HOUR_MS or (n < start - 1 and gap_ms(fixes[n], fixes[n + 1]) > LONGEST_LINK_MS):
            break
        more += 1
    if more < 3 or more <= len(run):
        return False

    usual = median(speeds(outward(fixes, start - 1, -1)))

    def is_so_fast(a: Fix, b: Fix) -> bool:
        return link_kmh(a, b) > 250 and link_kmh(a, b) > 3 * usual

    in_cm = distance_cm(i, run[0])
    if in_cm <= 50 * METRE_CM or not is_so_fast(i, run[0]) or is_so_fast(fixes[start - 2], i):
        return False
    return all(distance_cm(i, fix) > in_cm / 2 > distance_cm(run[0], fix) for fix in run)


# Replays


def replays(fixes: Sequence[Fix]) -> set[Fix]:
    """Return the points that repeat where the device was before."""
    found = set()
    for start, stop in runs_between(fixes):
        way, run = fixes[start - 1 : stop + 1], fixes[start:stop]
        if not all(same_position(run[0], fix) for fix in run):
            continue
        reach = reach_cm(way)
        turns_back = distance_cm(way[0], way[-1]) < reach
        if is_quick(way) and turns_back and reach > 500 * METRE_CM and was_there_before(fixes[:start], run[0]):
            found |= set(run)
    return found


def runs_between(fixes: Sequence[Fix]) -> Iterator[tuple[int, int]]:
    """Yield every run of few points that has a point before and after it, as `fixes[start:stop]`."""
    for start in range(1, len(fixes)):
        for stop in range(start + 1, min(start + FEW, len(fixes) - 1) + 1):
            yield start, stop


def was_there_before(before: Sequence[Fix], fix: Fix) -> bool:
    return any(same_position(a, fix) and 10 * MINUTE_MS <= gap_ms(a, fix) <= 3 * HOUR_MS for a in before)


def same_position(a: Fix, b: Fix) -> bool:
    return (a.lon, a.lat) == (b.lon, b.lat)
