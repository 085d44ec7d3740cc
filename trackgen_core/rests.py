"""Where a device rested: the rules of `docs/rules.md`, section 2.

As in `noise`, fixes are arrays over one or several devices, here without those that are noise.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from trackgen_core.geodesy import FloatArray, IntArray, Mask, box_sizes_cm, distances_cm
from trackgen_core.points import MS_PER_MINUTE
from trackgen_core.settings import Settings
from trackgen_core.windows import covered, runs, windows

EXCURSION_MS: Final = 10 * MS_PER_MINUTE
"""Who is back so soon has not left."""
EXCURSION_FIXES: Final = 5
LONG_MS: Final = 30 * MS_PER_MINUTE
"""Who rests for so long must not creep along meanwhile."""
WINDOW_MS: Final = 120 * MS_PER_MINUTE
"""How far rests look; what takes longer is a pause, which only depends on the fixes at its ends."""
PAUSE_MS: Final = 24 * 60 * MS_PER_MINUTE
"""Two fixes at one place say nothing about more time than this between them."""


class Stays(NamedTuple):
    """Which fixes are in a stay."""

    number: IntArray
    """The stay of each fix, counted from 0, or -1."""
    at_rest: Mask
    """Fixes that say where the stay is: not those of excursions."""


def find_stays(clock_ms: IntArray, places: IntArray, settings: Settings) -> Stays:
    """Find the stays, as far as fixes follow one another.

    Parameters
    ----------
    clock_ms : (n,) int array
        Times in the order of the fixes; from one device to the next they jump by two days or more.
    places : (3, n) int array
        Places in cm.
    settings : Settings
        `stop_minutes` and `stop_radius_m`.
    """
    number, at_rest = np.full(len(clock_ms), -1), np.zeros(len(clock_ms), bool)
    stop_ms, radius_cm = settings.stop_minutes * MS_PER_MINUTE, settings.stop_radius_m * 100
    if not stop_ms or len(clock_ms) < 2:
        return Stays(number, at_rest)
    settled = np.flatnonzero(~_away(clock_ms, places, radius_cm))
    still = _still_hops(clock_ms[settled], places[:, settled], stop_ms, 2 * radius_cm)
    at_rest[settled[:-1][still]] = True
    at_rest[settled[1:][still]] = True

    first, last = runs(still)
    if not len(first):
        return Stays(number, at_rest)
    joined = _one_place(clock_ms[settled], places[:, settled], first, last, radius_cm)
    first, last = settled[first[np.append(True, ~joined)]], settled[last[np.append(~joined, True)]]
    change = np.zeros(len(clock_ms) + 1, np.int64)
    change[first] += 1
    change[last + 1] -= 1  # no fix is in two stays
    inside = np.cumsum(change[:-1]) > 0
    begins = np.zeros(len(clock_ms), np.int64)
    begins[first] = 1
    return Stays(np.where(inside, np.cumsum(begins) - 1, -1), at_rest)


def is_pause(hop_ms: IntArray, hop_cm: FloatArray, settings: Settings) -> Mask:
    """Say which hops are pauses: the device was found where it was, hours later.

    Parameters
    ----------
    hop_ms : (n,) int array
        Time between the two fixes.
    hop_cm : (n,) float array
        Distance of their places.
    settings : Settings
        `stop_minutes` and `stop_radius_m`.
    """
    if not settings.stop_minutes:
        return np.zeros(len(hop_ms), bool)
    return (hop_ms > WINDOW_MS) & is_same_place(hop_ms, hop_cm, settings)


def is_same_place(hop_ms: IntArray, hop_cm: FloatArray, settings: Settings) -> Mask:
    """Say which hops are so short that stays before and after them are one; parameters as of `is_pause`."""
    return (hop_ms <= PAUSE_MS) & (hop_cm <= settings.stop_radius_m * 100)


def _away(clock_ms: IntArray, places: IntArray, radius_cm: int) -> Mask:
    """Mark the fixes of excursions, which lead away and back within a few fixes and minutes."""
    away = np.zeros(len(clock_ms), bool)
    hop_cm = distances_cm(places[:, :-1], places[:, 1:])
    way_cm = hop_cm
    for hops in range(2, EXCURSION_FIXES + 2):
        if hops > len(hop_cm):
            break
        way_cm = way_cm[:-1] + hop_cm[hops - 1 :]
        # A millimetre less than the shortest way out and back: sums of floats are not exact.
        leads_back = distances_cm(places[:, :-hops], places[:, hops:]) <= radius_cm
        leads_back &= way_cm > 2 * radius_cm - 0.1
        before = np.flatnonzero(leads_back)
        before = before[clock_ms[before + hops] - clock_ms[before] <= EXCURSION_MS]
        for n in range(1, hops):
            one = places[:, before + n]
            far = distances_cm(places[:, before], one) > radius_cm
            far &= distances_cm(places[:, before + hops], one) > radius_cm
            away[before[far] + n] = True
    return away


def _still_hops(clock_ms: IntArray, places: IntArray, stop_ms: int, limit_cm: int) -> Mask:
    """Mark the hops that lie in a rest."""
    # No rest goes over a hop that is too long; on a journey, hardly any time is left between two of these.
    too_long = distances_cm(places[:, :-1], places[:, 1:]) > limit_cm
    first, last = runs(~too_long)
    slow = clock_ms[last] - clock_ms[first] >= stop_ms
    kept = np.flatnonzero(covered(len(clock_ms), first[slow], last[slow] + 1))
    part = np.append(0, np.cumsum(too_long))[kept]
    clock_ms, places = clock_ms[kept], places[:, kept]

    long_ms = max(stop_ms, LONG_MS)
    still = _in_still_window(clock_ms, places, part, long_ms, limit_cm)
    if stop_ms < long_ms:
        first, last = runs(_in_still_window(clock_ms, places, part, stop_ms, limit_cm))
        short = clock_ms[last] - clock_ms[first] < long_ms
        first, last = first[short], last[short]
        small = box_sizes_cm(places, first, last) <= limit_cm
        still |= covered(len(still), first[small], last[small])
    all_hops = np.zeros(len(too_long), bool)
    all_hops[kept[:-1][still]] = True
    return all_hops


def _in_still_window(clock_ms: IntArray, places: IntArray, part: IntArray, length_ms: int, limit_cm: int) -> Mask:
    """Mark the hops inside windows of a length whose fixes are of one part and fit into a small box."""
    first, last = windows(clock_ms, length_ms)
    # All three spare most of the work.
    near = np.flatnonzero(part[last] == part[first])
    near = near[clock_ms[last[near]] - clock_ms[first[near]] <= WINDOW_MS]
    near = near[distances_cm(places[:, first[near]], places[:, last[near]]) <= limit_cm]
    first, last = first[near], last[near]
    still = box_sizes_cm(places, first, last) <= limit_cm
    return covered(max(len(clock_ms) - 1, 0), first[still], last[still])


def _one_place(clock_ms: IntArray, places: IntArray, first: IntArray, last: IntArray, radius_cm: int) -> Mask:
    """Say which runs and the next one are one stay, with only a short and near absence between them."""
    leave, back = last[:-1], first[1:]
    joined = clock_ms[back] - clock_ms[leave] <= EXCURSION_MS
    joined &= distances_cm(places[:, leave], places[:, back]) <= radius_cm
    pair = np.flatnonzero(joined)
    between = back[pair] - leave[pair] - 1
    pair_of = np.repeat(pair, between)
    fix = np.arange(len(pair_of)) - np.repeat(np.cumsum(between) - between, between) + leave[pair_of] + 1
    too_far = distances_cm(places[:, leave[pair_of]], places[:, fix]) > 2 * radius_cm
    joined[pair_of[too_far]] = False
    return joined
