"""Which points are no measurement of where the device was: the rules of `docs/rules.md`, section 1.

All functions look at the points of one or several devices as arrays: `clock_ms`, their times by the clock of the rules,
in which devices lie days apart, and `places` in cm. A link has the index of the point that it leads away from.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from trackgen_core.geodesy import FloatArray, IntArray, Mask, distances_cm
from trackgen_core.points import MS_PER_MINUTE
from trackgen_core.settings import Settings
from trackgen_core.windows import covered, ranges

NOISE_REASONS: Final = ("", "accuracy", "spike", "replay", "duplicate")
"""What a code of `find_noise` means; its index is the code."""
ACCURACY, SPIKE, REPLAY, DUPLICATE = range(1, len(NOISE_REASONS))

SECOND_MS: Final = 1_000
COPY_DECIMALS: Final = 5
"""To so many decimals of a degree programs round coordinates when they write a recording again."""

ALONE_MS: Final = 1 * MS_PER_MINUTE
"""How near one better point has to be to set a coarse one aside."""
BOTH_MS: Final = 10 * MS_PER_MINUTE
"""How near better points have to be on both sides of a coarse one."""
LINK_MS: Final = 30 * MS_PER_MINUTE
"""A longer link says nothing about speed; recordings end at it."""
RUN_MS: Final = 60 * MS_PER_MINUTE
"""The longest time away that is judged."""
RUN_POINTS: Final = 5
"""The most points that are noise together wherever they are."""
FEWEST_AROUND: Final = 3
"""How many points there have to be around the shortest run."""
LONG_RUN_MS: Final = 10 * MS_PER_MINUTE
"""The longest time away of more points than that, which have to be at one place."""
LONG_RUN_LEAPS: Final = 3
"""How many leaps back are tried for each leap away."""
SURROUNDINGS: Final = 3
"""Links on each side that say what is usual."""
SPIKE_KMH: Final = 150
NEAR_SPIKE_KMH: Final = 30
"""Enough to disbelieve a way out and back, if each takes no more than a minute."""
NEAR_SPIKE_MS: Final = 1 * MS_PER_MINUTE
END_SPIKE_KMH: Final = 250
"""Where no way back is seen, more speed is needed to disbelieve."""
TIMES_FASTER: Final = 3
FAR_CM: Final = 25 * 100
NEAR_SPIKE_CM: Final = 100 * 100
END_FAR_CM: Final = 50 * 100
REPLAY_FAR_CM: Final = 500 * 100
REPLAY_MS: Final = (10 * MS_PER_MINUTE, 180 * MS_PER_MINUTE)
"""How long ago a replayed point was true."""


def find_noise(
    clock_ms: IntArray, places: IntArray, lon: FloatArray, lat: FloatArray, accuracy: FloatArray, settings: Settings
) -> npt.NDArray[np.int8]:
    """Say which points are noise, other than copies.

    Parameters
    ----------
    clock_ms : (n,) int array
        Times by the clock of the rules, ascending; from one device to the next they jump by two days or more.
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
    if settings.gps_accuracy_threshold is not None:
        coarse = accuracy > settings.gps_accuracy_threshold
        reasons[_coarse_near_better(clock_ms, coarse)] = ACCURACY
    left = np.flatnonzero(reasons == 0)
    links = _Links(clock_ms[left], places[:, left])
    reasons[left[_replays(links, lon[left], lat[left])]] = REPLAY
    reasons[left[_spikes(links) | _end_spikes(links) | _end_spikes(links.reversed())[::-1]]] = SPIKE
    return reasons


def find_copies(
    device: IntArray, time_ms: IntArray, seq: IntArray, lon: FloatArray, lat: FloatArray, accuracy: FloatArray
) -> IntArray:
    """Return the points that are a copy of another one, with less exact times or places.

    Parameters
    ----------
    device, time_ms : (n,) int arrays
        The device and the time of each point, in this order.
    seq : (n,) int array
        The position of each point among those of its instant in its file.
    lon, lat, accuracy : (n,) float arrays
        Degrees and metres; an unknown accuracy is NaN.
    """
    copies = [np.zeros(0, np.int64)]
    same = (np.diff(time_ms) == 0) & (np.diff(seq) == 0) & (np.diff(device) == 0)
    among = np.flatnonzero(np.append(same, False) | np.append(False, same))
    if len(among):
        instant = np.cumsum(~np.append(False, same)[among])
        worth = np.where(np.isnan(accuracy[among]), np.inf, accuracy[among])
        order = np.lexsort((np.arange(len(among)), _is_rounded(lon[among], lat[among]), worth, instant))
        copies.append(among[order[np.diff(instant[order], prepend=-1) == 0]])
    whole = time_ms % SECOND_MS == 0
    if whole.any() and not whole.all():
        copies.append(_cut_to_seconds(device, time_ms, lon, lat, np.flatnonzero(whole), np.flatnonzero(~whole)))
    return np.concatenate(copies)


def _cut_to_seconds(
    device: IntArray, time_ms: IntArray, lon: FloatArray, lat: FloatArray, point: IntArray, exact: IntArray
) -> IntArray:
    """Return those points in full seconds that are beside their originals, which are no series of several a second."""
    after = np.searchsorted(exact, point)
    before = after - 1
    originals = [exact[np.clip(side, 0, len(exact) - 1)] for side in (before, after)]
    there = [(before >= 0) & (device[originals[0]] == device[point])]
    there.append((after < len(exact)) & (device[originals[1]] == device[point]))
    dense = there[0] & there[1] & (2 * (time_ms[originals[1]] - time_ms[originals[0]]) < SECOND_MS)
    is_copy = np.zeros(len(point), bool)
    for original, near in zip(originals, there, strict=True):
        near = near & (np.abs(time_ms[original] - time_ms[point]) < SECOND_MS)
        same = (lon[original] == lon[point]) & (lat[original] == lat[point])
        same |= (_rounded(lon[original]) == lon[point]) & (_rounded(lat[original]) == lat[point])
        is_copy |= near & same & ~dense
    return point[is_copy]


def _rounded(degrees: FloatArray) -> FloatArray:
    unit = 10.0**COPY_DECIMALS
    return np.round(degrees * unit) / unit


def _is_rounded(lon: FloatArray, lat: FloatArray) -> Mask:
    """Say which coordinates have no more than `COPY_DECIMALS` decimals."""
    rounded: Mask = (_rounded(lon) == lon) & (_rounded(lat) == lat)
    return rounded


class _Links:
    """Points and the links between them."""

    def __init__(self, clock_ms: IntArray, places: IntArray, cm: FloatArray | None = None) -> None:
        self.clock_ms, self.places = clock_ms, places
        self.cm = distances_cm(places[:, :-1], places[:, 1:]) if cm is None else cm
        self.ms = np.diff(clock_ms)
        self.short = self.ms <= LINK_MS
        self.long_before = np.concatenate([[0], np.cumsum(~self.short)])
        """Links before each point that take too long."""

    def reversed(self) -> _Links:
        """Return the same points, seen backwards."""
        return _Links(-self.clock_ms[::-1], self.places[:, ::-1], self.cm[::-1])

    def __len__(self) -> int:
        return len(self.clock_ms)

    def together(self, i: IntArray, j: IntArray) -> Mask:
        """Say where no link from point `i` to point `j` takes too long."""
        together: Mask = self.long_before[i] == self.long_before[j]
        return together

    def distance(self, i: IntArray, j: IntArray) -> FloatArray:
        """Return the distance of points, in cm."""
        return distances_cm(self.places[:, i], self.places[:, j])

    def kmh(self, links: IntArray) -> FloatArray:
        """Return the speed of links; a link in no time has an infinite one, unless it leads nowhere."""
        cm, ms = self.cm[links], self.ms[links]
        speed = np.divide(cm * 36, ms, out=np.full(cm.shape, np.inf), where=ms > 0)
        return np.where(cm > 0, speed, 0.0)

    def usual_kmh(self, i: IntArray, j: IntArray | None = None) -> FloatArray:
        """Return the median speed of the links before each point `i`, and after each point `j`."""
        sides = [(i, -1)] if j is None else [(i, -1), (j, 1)]
        columns = []
        for start, step in sides:
            goes_on = np.ones(len(start), bool)
            for n in range(1, SURROUNDINGS + 1):
                outer = start + step * n
                goes_on = goes_on & (outer >= 0) & (outer < len(self))
                outer = np.where(goes_on, outer, start)
                goes_on &= self.together(np.minimum(start, outer), np.maximum(start, outer))
                goes_on &= np.abs(self.clock_ms[outer] - self.clock_ms[start]) <= LINK_MS
                link = np.where(goes_on, np.minimum(outer, outer - step), 0)
                counts = goes_on & (self.ms[link] > 0)
                columns.append(np.where(counts, self.kmh(link), np.nan))
        speeds = np.sort(np.stack(columns), axis=0)  # unknown ones come last
        known = np.count_nonzero(~np.isnan(speeds), axis=0)
        median = speeds[np.minimum(known // 2, len(columns) - 1), np.arange(len(i))]
        return np.where(known > 0, median, 0.0)

    def too_fast(self, links: IntArray, usual_kmh: FloatArray, limit_kmh: float) -> Mask:
        """Say which links are faster than a limit and than their surroundings."""
        speed = self.kmh(links)
        too_fast: Mask = (speed > limit_kmh) & (speed > TIMES_FASTER * usual_kmh)
        return too_fast


def _coarse_near_better(clock_ms: IntArray, coarse: Mask) -> IntArray:
    """Return the indices of coarse points that have better ones near them."""
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


def _turns(links: _Links, entries: IntArray, points: int, far_cm: float) -> tuple[IntArray, FloatArray]:
    """Return the points before runs of `points` points that lead away and back, and how far away.

    `entries` are the links that may lead away.
    """
    i = entries[entries + points + 1 < len(links)]
    exits, j = i + points, i + points + 1
    reach = np.minimum(links.cm[i], links.cm[exits])
    turns = (reach > far_cm) & links.together(i, j) & (links.clock_ms[j] - links.clock_ms[i] <= RUN_MS)
    i, j, reach = i[turns], j[turns], reach[turns]
    back = links.distance(i, j) < reach
    return i[back], reach[back]


def _spikes(links: _Links) -> Mask:
    """Find runs that lead away and back too fast."""
    found = np.zeros(len(links), bool)
    away, back = _leaps(links)
    if not len(away):
        return found
    is_back = np.zeros(len(links) + RUN_POINTS, bool)
    is_back[back] = True
    pairs = []
    for points in range(1, RUN_POINTS + 1):
        before = away[is_back[away + points]]
        pairs.append(np.stack([before, before + points]))
    later = np.searchsorted(back, away + RUN_POINTS, "right")
    for n in range(LONG_RUN_LEAPS):
        there = np.flatnonzero(later + n < len(back))
        before, last = away[there], back[later[there] + n]
        brief = links.clock_ms[last + 1] - links.clock_ms[before] <= LONG_RUN_MS
        pairs.append(np.stack([before[brief], last[brief]]))
    before, last = np.concatenate(pairs, axis=1)  # the link away from `before`, and the one back from `last`
    reach = np.minimum(links.cm[before], links.cm[last])
    many = last - before > RUN_POINTS
    chord = links.distance(before, last + 1)
    turns = links.together(before, last + 1) & (links.clock_ms[last + 1] - links.clock_ms[before] <= RUN_MS)
    turns &= np.where(many, 2 * chord < reach, chord < reach) & _outnumbered(links, away, back, before, last)
    before, last, reach, many = before[turns], last[turns], reach[turns], many[turns]
    if not len(before):
        return found

    count = last - before
    run = np.repeat(np.arange(len(before)), count)
    point = before[run] + 1 + ranges(count)
    near = 2 * links.distance(before[run], point) <= reach[run]
    near |= many[run] & (2 * links.distance(before[run] + 1, point) > reach[run])
    far_off = np.bincount(run[near], minlength=len(before)) == 0
    before, last = before[far_off], last[far_off]
    if not len(before):
        return found
    usual = links.usual_kmh(before, last + 1)
    too_fast = (links.kmh(before) > TIMES_FASTER * usual) & (links.kmh(last) > TIMES_FASTER * usual)
    return covered(len(links), before[too_fast] + 1, last[too_fast] + 1)


def _leaps(links: _Links) -> tuple[IntArray, IntArray]:
    """Return the links that are too fast to be believed, and lead suddenly away or suddenly back."""
    cm, ms = links.cm, links.ms
    fast = (cm > FAR_CM) & links.short & (cm * 36 > SPIKE_KMH * ms)
    fast |= (cm > NEAR_SPIKE_CM) & (ms <= NEAR_SPIKE_MS) & (cm * 36 > NEAR_SPIKE_KMH * ms)
    candidates = np.flatnonzero(fast)
    if not len(candidates):
        return candidates, candidates
    speed = links.kmh(candidates)
    sudden = []
    for step in (-1, 1):
        slowest, goes_on = np.full(len(candidates), np.inf), np.ones(len(candidates), bool)
        alone = np.zeros(len(candidates), bool)
        for n in range(1, SURROUNDINGS + 1):
            near = candidates + step * n
            goes_on &= (near >= 0) & (near < len(cm))
            inner, outer = (candidates, near) if step < 0 else (candidates + 1, near + 1)
            outer = np.where(goes_on, outer, inner)
            goes_on &= np.abs(links.clock_ms[outer] - links.clock_ms[inner]) <= LINK_MS
            if n == 1:
                alone = ~goes_on
            there = np.flatnonzero(goes_on)
            slowest[there] = np.minimum(slowest[there], links.kmh(near[there]))
        sudden.append(candidates[alone | (speed > TIMES_FASTER * slowest)])
    away, back = sudden
    return away, back


def _outnumbered(links: _Links, away: IntArray, back: IntArray, before: IntArray, last: IntArray) -> Mask:
    """Say which runs, after the point `before` to `last`, have more points around them than in them.

    Points count back to a leap away, on to a leap back, as far as no link is too long, and at most an hour away.
    """
    ends = np.stack([~links.short, ~links.short])
    for leaps, end in zip((away, back), ends, strict=True):
        end[leaps] = True
    edges_before, edges = np.cumsum(np.pad(ends, ((0, 0), (1, 0))), axis=1)
    first = np.searchsorted(edges_before, edges_before[before])
    first = np.maximum(first, np.searchsorted(links.clock_ms, links.clock_ms[before] - RUN_MS))
    behind = np.searchsorted(edges, edges[last + 1], "right") - 1
    behind = np.minimum(behind, np.searchsorted(links.clock_ms, links.clock_ms[last + 1] + RUN_MS, "right") - 1)
    outnumbered: Mask = (before - first + 1) + (behind - last) > np.maximum(last - before, FEWEST_AROUND - 1)
    return outnumbered


def _end_spikes(links: _Links) -> Mask:
    """Find last points of recordings that are too far from all before them."""
    found = np.zeros(len(links), bool)
    ends = np.flatnonzero(np.append(~links.short, True))
    for points in range(1, RUN_POINTS + 1):
        others = max(3, points + 1)  # that have to be there before it
        last = ends[ends >= points + others - 1]
        first = last - points + 1
        before = first - 1
        judged = links.together(before - others + 1, last)
        judged &= links.clock_ms[last] - links.clock_ms[before] <= RUN_MS
        judged &= links.clock_ms[first] - links.clock_ms[before - others + 1] <= RUN_MS
        judged &= (links.cm[before] > END_FAR_CM) & (links.kmh(before) > END_SPIKE_KMH)
        first, before = first[judged], before[judged]
        if not len(first):
            continue
        usual = links.usual_kmh(before)
        apart = links.too_fast(before, usual, END_SPIKE_KMH) & ~links.too_fast(before - 1, usual, END_SPIKE_KMH)
        for n in range(points):
            apart &= 2 * links.distance(before, first + n) > links.cm[before]
            apart &= 2 * links.distance(first, first + n) < links.cm[before]
        found |= _marked(len(links), first[apart], points)
    return found


def _replays(links: _Links, lon: FloatArray, lat: FloatArray) -> Mask:
    """Find runs at exactly one position, where the device was some time before, but not now."""
    position = lon + 1j * lat
    entries = np.flatnonzero(links.short & (links.cm > REPLAY_FAR_CM))
    runs = []
    for points in range(1, RUN_POINTS + 1):
        first = _turns(links, entries, points, REPLAY_FAR_CM)[0] + 1
        same = np.ones(len(first), bool)
        for n in range(1, points):
            same &= position[first + n] == position[first]
        runs.append(first[same])
    suspects = np.concatenate(runs)
    found = np.zeros(len(links), bool)
    if not len(suspects):
        return found

    # Points at one of these positions, by position and time.
    wanted, code = np.unique(position[suspects], return_inverse=True)
    near = np.flatnonzero(pd.Series(lon).isin(wanted.real))  # by hashes: numpy would sort or compare each with each
    rank = np.minimum(np.searchsorted(wanted, position[near]), len(wanted) - 1)
    there = wanted[rank] == position[near]
    start_ms = links.clock_ms[0]
    span_ms = links.clock_ms[-1] - start_ms + 2 * REPLAY_MS[1]
    visits = np.sort(rank[there] * span_ms + links.clock_ms[near[there]] - start_ms + REPLAY_MS[1])
    now = code * span_ms + links.clock_ms[suspects] - start_ms + REPLAY_MS[1]
    latest, earliest = now - REPLAY_MS[0], now - REPLAY_MS[1]
    before = np.searchsorted(visits, latest, "right") > np.searchsorted(visits, earliest, "left")
    ends = np.cumsum([len(first) for first in runs])
    for points, (first, was_there) in enumerate(
        zip(np.split(suspects, ends[:-1]), np.split(before, ends[:-1]), strict=True), 1
    ):
        found |= _marked(len(links), first[was_there], points)
    return found
