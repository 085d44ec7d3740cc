"""Which fixes are no measurement of where the device was: the rules of `docs/rules.md`, section 1.

All functions look at the fixes of one or several devices as arrays: `clock_ms`, their times moved so that devices lie
days apart, and `places` in cm. A hop has the index of the fix that it leads away from.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from trackgen_core.geodesy import FloatArray, IntArray, Mask, distances_cm
from trackgen_core.points import MS_PER_MINUTE
from trackgen_core.settings import Settings

NOISE_REASONS: Final = ("", "accuracy", "spike", "replay", "duplicate")
"""What a code of `find_noise` means; its index is the code."""

ALONE_MS: Final = 1 * MS_PER_MINUTE
"""How near one better fix has to be to set a coarse one aside."""
BOTH_MS: Final = 10 * MS_PER_MINUTE
"""How near better fixes have to be on both sides of a coarse one."""
HOP_MS: Final = 30 * MS_PER_MINUTE
"""A longer hop says nothing about speed; recordings end at it."""
RUN_MS: Final = 60 * MS_PER_MINUTE
"""The longest time away that is judged."""
RUN_FIXES: Final = 5
"""The most fixes that are noise together."""
SURROUNDINGS: Final = 3
"""Hops on each side that say what is usual."""
SPIKE_KMH: Final = 150
END_SPIKE_KMH: Final = 250
"""Where no way back is seen, more speed is needed to disbelieve."""
TIMES_FASTER: Final = 3
FAR_CM: Final = 50 * 100
REPLAY_FAR_CM: Final = 500 * 100
REPLAY_MS: Final = (10 * MS_PER_MINUTE, 180 * MS_PER_MINUTE)
"""How long ago a replayed fix was true."""


def find_noise(
    clock_ms: IntArray, places: IntArray, lon: FloatArray, lat: FloatArray, accuracy: FloatArray, settings: Settings
) -> npt.NDArray[np.int8]:
    """Say which fixes are noise.

    Parameters
    ----------
    clock_ms : (n,) int array
        Times in the order of the fixes; from one device to the next they jump by two days or more.
    places : (3, n) int array
        Places in cm.
    lon, lat : (n,) float arrays
        Degrees.
    accuracy : (n,) float array
        Metres, NaN where unknown.
    settings : Settings
        The rule.

    Returns
    -------
    (n,) int8 array
        0, or the index of the reason in `NOISE_REASONS`.
    """
    reasons = np.zeros(len(clock_ms), np.int8)
    if not settings.noise_filter:
        return reasons
    if settings.gps_accuracy_threshold is not None:
        coarse = accuracy > settings.gps_accuracy_threshold
        reasons[_coarse_near_better(clock_ms, coarse)] = NOISE_REASONS.index("accuracy")

    left = np.flatnonzero(reasons == 0)
    hops = _Hops(clock_ms[left], places[:, left])
    reasons[left[_replays(hops, lon[left], lat[left])]] = NOISE_REASONS.index("replay")
    reasons[left[_spikes(hops) | _end_spikes(hops) | _end_spikes(hops.reversed())[::-1]]] = NOISE_REASONS.index("spike")

    left = np.flatnonzero(reasons == 0)
    reasons[left[_duplicates(clock_ms[left], places[:, left], accuracy[left])]] = NOISE_REASONS.index("duplicate")
    return reasons


class _Hops:
    """Fixes and the hops between them."""

    def __init__(self, clock_ms: IntArray, places: IntArray, cm: FloatArray | None = None) -> None:
        self.clock_ms, self.places = clock_ms, places
        self.cm = distances_cm(places[:, :-1], places[:, 1:]) if cm is None else cm
        self.ms = np.diff(clock_ms)
        self.short = self.ms <= HOP_MS
        self.long_before = np.concatenate([[0], np.cumsum(~self.short)])
        """Hops before each fix that take too long."""

    def reversed(self) -> _Hops:
        """Return the same fixes, seen backwards."""
        return _Hops(-self.clock_ms[::-1], self.places[:, ::-1], self.cm[::-1])

    def __len__(self) -> int:
        return len(self.clock_ms)

    def together(self, i: IntArray, j: IntArray) -> Mask:
        """Say where no hop from fix `i` to fix `j` takes too long."""
        together: Mask = self.long_before[i] == self.long_before[j]
        return together

    def distance(self, i: IntArray, j: IntArray) -> FloatArray:
        """Return the distance of fixes, in cm."""
        return distances_cm(self.places[:, i], self.places[:, j])

    def kmh(self, hops: IntArray) -> FloatArray:
        """Return the speed of hops; a hop in no time has an infinite one, unless it leads nowhere."""
        cm, ms = self.cm[hops], self.ms[hops]
        speed = np.divide(cm * 36, ms, out=np.full(cm.shape, np.inf), where=ms > 0)
        return np.where(cm > 0, speed, 0.0)

    def usual_kmh(self, i: IntArray, j: IntArray | None = None) -> FloatArray:
        """Return the median speed of the hops before each fix `i`, and after each fix `j`."""
        sides = [(i, -1)] if j is None else [(i, -1), (j, 1)]
        columns = []
        for start, step in sides:
            goes_on = np.ones(len(start), bool)
            for n in range(1, SURROUNDINGS + 1):
                outer = start + step * n
                goes_on = goes_on & (outer >= 0) & (outer < len(self))
                outer = np.where(goes_on, outer, start)
                goes_on &= self.together(np.minimum(start, outer), np.maximum(start, outer))
                goes_on &= np.abs(self.clock_ms[outer] - self.clock_ms[start]) <= HOP_MS
                hop = np.where(goes_on, np.minimum(outer, outer - step), 0)
                counts = goes_on & (self.ms[hop] > 0)
                columns.append(np.where(counts, self.kmh(hop), np.nan))
        speeds = np.sort(np.stack(columns), axis=0)  # unknown ones come last
        known = np.count_nonzero(~np.isnan(speeds), axis=0)
        median = speeds[np.minimum(known // 2, len(columns) - 1), np.arange(len(i))]
        return np.where(known > 0, median, 0.0)

    def too_fast(self, hops: IntArray, usual_kmh: FloatArray, limit_kmh: float) -> Mask:
        """Say which hops are faster than a limit and than their surroundings."""
        speed = self.kmh(hops)
        too_fast: Mask = (speed > limit_kmh) & (speed > TIMES_FASTER * usual_kmh)
        return too_fast


def _coarse_near_better(clock_ms: IntArray, coarse: Mask) -> IntArray:
    """Return the indices of coarse fixes that have better ones near them."""
    suspects, better = np.flatnonzero(coarse), np.flatnonzero(~coarse)
    if not len(suspects) or not len(better):
        return suspects[:0]
    after = np.searchsorted(better, suspects)
    before_ms = clock_ms[suspects] - clock_ms[better[np.maximum(after - 1, 0)]]
    after_ms = clock_ms[better[np.minimum(after, len(better) - 1)]] - clock_ms[suspects]
    nobody_ms = RUN_MS
    before_ms = np.where(after > 0, before_ms, nobody_ms)
    after_ms = np.where(after < len(better), after_ms, nobody_ms)
    nearest, farthest = np.minimum(before_ms, after_ms), np.maximum(before_ms, after_ms)
    near: IntArray = suspects[(nearest <= ALONE_MS) | (farthest <= BOTH_MS)]
    return near


def _marked(count: int, first: IntArray, length: int) -> Mask:
    """Return a mask of runs of the same length."""
    mask = np.zeros(count, bool)
    for n in range(length):
        mask[first + n] = True
    return mask


def _turns(hops: _Hops, entries: IntArray, fixes: int, far_cm: float) -> tuple[IntArray, FloatArray]:
    """Return the fixes before runs of `fixes` fixes that lead away and back, and how far away.

    `entries` are the hops that may lead away.
    """
    i = entries[entries + fixes + 1 < len(hops)]
    exits, j = i + fixes, i + fixes + 1
    reach = np.minimum(hops.cm[i], hops.cm[exits])
    turns = (reach > far_cm) & hops.together(i, j) & (hops.clock_ms[j] - hops.clock_ms[i] <= RUN_MS)
    i, j, reach = i[turns], j[turns], reach[turns]
    back = hops.distance(i, j) < reach
    return i[back], reach[back]


def _spikes(hops: _Hops) -> Mask:
    """Find runs that lead away and back too fast."""
    found = np.zeros(len(hops), bool)
    fast = hops.cm * 36 > SPIKE_KMH * hops.ms
    entries = np.flatnonzero(fast & hops.short & (hops.cm > FAR_CM))
    for fixes in range(1, RUN_FIXES + 1):
        before, reach = _turns(hops, entries, fixes, FAR_CM)
        after = before + fixes + 1
        far_off = np.ones(len(before), bool)
        for n in range(1, fixes + 1):
            far_off &= 2 * hops.distance(before, before + n) > reach
        far_off &= fast[after - 1]
        before, after = before[far_off], after[far_off]
        if not len(before):
            continue
        usual = hops.usual_kmh(before, after)
        too_fast = hops.too_fast(before, usual, SPIKE_KMH) & hops.too_fast(after - 1, usual, SPIKE_KMH)
        into, out_of = np.maximum(before - 1, 0), np.minimum(after, len(hops.cm) - 1)
        fast_into = (before > 0) & hops.short[into] & hops.too_fast(into, usual, SPIKE_KMH)
        fast_out_of = (after < len(hops.cm)) & hops.short[out_of] & hops.too_fast(out_of, usual, SPIKE_KMH)
        found |= _marked(len(hops), before[too_fast & ~(fast_into & fast_out_of)] + 1, fixes)
    return found


def _end_spikes(hops: _Hops) -> Mask:
    """Find last fixes of recordings that are too far from all before them."""
    found = np.zeros(len(hops), bool)
    ends = np.flatnonzero(np.append(~hops.short, True))
    for fixes in range(1, RUN_FIXES + 1):
        others = max(3, fixes + 1)  # that have to be there before it
        last = ends[ends >= fixes + others - 1]
        first = last - fixes + 1
        before = first - 1
        judged = hops.together(before - others + 1, last)
        judged &= hops.clock_ms[last] - hops.clock_ms[before] <= RUN_MS
        judged &= hops.clock_ms[first] - hops.clock_ms[before - others + 1] <= RUN_MS
        judged &= (hops.cm[before] > FAR_CM) & (hops.kmh(before) > END_SPIKE_KMH)
        first, before = first[judged], before[judged]
        if not len(first):
            continue
        usual = hops.usual_kmh(before)
        apart = hops.too_fast(before, usual, END_SPIKE_KMH) & ~hops.too_fast(before - 1, usual, END_SPIKE_KMH)
        for n in range(fixes):
            apart &= 2 * hops.distance(before, first + n) > hops.cm[before]
            apart &= 2 * hops.distance(first, first + n) < hops.cm[before]
        found |= _marked(len(hops), first[apart], fixes)
    return found


def _replays(hops: _Hops, lon: FloatArray, lat: FloatArray) -> Mask:
    """Find runs at exactly one position, where the device was some time before, but not now."""
    position = lon + 1j * lat
    entries = np.flatnonzero(hops.short & (hops.cm > REPLAY_FAR_CM))
    runs = []
    for fixes in range(1, RUN_FIXES + 1):
        first = _turns(hops, entries, fixes, REPLAY_FAR_CM)[0] + 1
        same = np.ones(len(first), bool)
        for n in range(1, fixes):
            same &= position[first + n] == position[first]
        runs.append(first[same])
    suspects = np.concatenate(runs)
    found = np.zeros(len(hops), bool)
    if not len(suspects):
        return found

    # Fixes at one of these positions, by position and time.
    wanted, code = np.unique(position[suspects], return_inverse=True)
    near = np.flatnonzero(pd.Series(lon).isin(wanted.real))  # by hashes: numpy would sort or compare each with each
    rank = np.minimum(np.searchsorted(wanted, position[near]), len(wanted) - 1)
    there = wanted[rank] == position[near]
    start_ms = hops.clock_ms[0]
    span_ms = hops.clock_ms[-1] - start_ms + 2 * REPLAY_MS[1]
    visits = np.sort(rank[there] * span_ms + hops.clock_ms[near[there]] - start_ms + REPLAY_MS[1])
    now = code * span_ms + hops.clock_ms[suspects] - start_ms + REPLAY_MS[1]
    latest, earliest = now - REPLAY_MS[0], now - REPLAY_MS[1]
    before = np.searchsorted(visits, latest, "right") > np.searchsorted(visits, earliest, "left")
    ends = np.cumsum([len(first) for first in runs])
    for fixes, (first, was_there) in enumerate(
        zip(np.split(suspects, ends[:-1]), np.split(before, ends[:-1]), strict=True), 1
    ):
        found |= _marked(len(hops), first[was_there], fixes)
    return found


def _duplicates(clock_ms: IntArray, places: IntArray, accuracy: FloatArray) -> IntArray:
    """Return the indices of fixes that are far from the best of the same instant."""
    same = np.diff(clock_ms) == 0
    among = np.flatnonzero(np.append(same, False) | np.append(False, same))
    if not len(among):
        return among
    instant = np.cumsum(np.diff(clock_ms[among], prepend=clock_ms[among[0]]) != 0)
    worth = np.where(np.isnan(accuracy[among]), np.inf, accuracy[among])
    order = np.lexsort((np.arange(len(among)), worth, instant))
    is_best = np.diff(instant[order], prepend=-1) != 0
    best = among[order[is_best]][instant]
    return among[distances_cm(places[:, among], places[:, best]) > FAR_CM]
