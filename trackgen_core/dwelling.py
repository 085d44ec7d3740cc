"""Where a device stayed: the rules of `docs/rules.md`, section 2.

A stay is found as a stay point of Li et al. (2008): some time within some distance. It is found in cells, not in
points, and by windows of a fixed length, so that what is found depends on what is nearby alone.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

import numpy as np

from trackgen_core.cells import SILENCE_MS, Cells
from trackgen_core.geodesy import FloatArray, IntArray, Mask, box_sizes_cm, distances_cm
from trackgen_core.points import MS_PER_MINUTE
from trackgen_core.settings import Settings
from trackgen_core.windows import covered, ranges, runs, windows

LONGEST_SILENCE_MS: Final = 24 * 60 * MS_PER_MINUTE
"""Two points at one place say nothing about more time than this between them."""
LONG_MS: Final = 30 * MS_PER_MINUTE
"""Who stays for so long must not creep along meanwhile, and may be seen less exactly."""
WINDOW_MS: Final = 90 * MS_PER_MINUTE
"""The longest window that is looked at."""
EXCURSION_MS: Final = 25 * MS_PER_MINUTE
"""A shorter trip out and back, of which no way was recorded, does not end a stay."""
EXCURSION_CELLS: Final = 5
COMPANY_MS: Final = 15 * MS_PER_MINUTE
"""So near in time are the cells that say which of two places is the excursion."""
JOIN_MS: Final = 10 * MS_PER_MINUTE
"""A place that is reached again so soon was not left."""
ON_THE_WAY_MS: Final = 2 * MS_PER_MINUTE
"""Links of more time than this to the next cell are no way to or from a stay."""
VAGUE_CM: Final = 1_000 * 100
"""A cell of a worse accuracy says nothing about where the device was."""
EXACT_CM: Final = 60 * 100
"""The worst accuracy with which a stay of less than half an hour can be told."""
STEP_MS: Final = 30_000
"""Speed is measured between cells at least so long before and after."""
STEP_CM_S: Final = 60
"""A device is under way at more than this speed."""


class Stays(NamedTuple):
    """Which points are in a stay."""

    number: IntArray
    """The stay of each point, counted from 0, or -1."""
    at_rest: Mask
    """Points that say where the stay is: not those of excursions."""


def find_stays(points: int, cells: Cells, settings: Settings) -> Stays:
    """Find the stays, as far as points follow one another.

    Parameters
    ----------
    points : int
        How many points there are.
    cells : Cells
        The cells of these points.
    settings : Settings
        `stay_minutes` and `stay_radius_m`.
    """
    nowhere = Stays(np.full(points, -1), np.zeros(points, bool))
    if not settings.stay_minutes or len(cells.first) < 2:
        return nowhere
    stay_ms, radius_cm = settings.stay_minutes * MS_PER_MINUTE, settings.stay_radius_m * 100
    cells = without_vague(cells)
    moving_ms = _moving_ms(cells)
    settled = np.flatnonzero(~_away(cells, radius_cm))
    cells = cells.take(settled)
    first, last = _pieces(cells, moving_ms[settled], stay_ms, radius_cm)
    if not len(first):
        return nowhere
    joined = _joined(cells, first, last, radius_cm)
    begin, end = cells.first[first[np.append(True, ~joined)]], cells.last[last[np.append(~joined, True)]]
    inside = covered(points, begin, end + 1)
    starts = np.zeros(points, np.int64)
    starts[begin] = 1
    resting = covered(len(cells.first), first, last + 1)
    at_rest = covered(points, cells.first[resting], cells.last[resting] + 1)
    return Stays(np.where(inside, np.cumsum(starts) - 1, -1), at_rest)


def without_vague(cells: Cells) -> Cells:
    """Return the cells that say where the device was."""
    return cells.take(np.flatnonzero(cells.accuracy_cm <= VAGUE_CM))


def is_silent_stay(link_ms: IntArray, link_cm: FloatArray, settings: Settings) -> Mask:
    """Say which links are stays of a silent device: it was found near where it was, after a long time.

    Parameters
    ----------
    link_ms : (n,) int array
        Time between the two points.
    link_cm : (n,) float array
        Distance of their places.
    settings : Settings
        `stay_minutes` and `silent_stay_m`.
    """
    if not settings.stay_minutes or not settings.silent_stay_m:
        return np.zeros(len(link_ms), bool)
    near = link_cm <= settings.silent_stay_m * 100
    silent: Mask = (link_ms > SILENCE_MS) & (link_ms <= LONGEST_SILENCE_MS) & near
    return silent


def is_same_place(link_ms: IntArray, link_cm: FloatArray, settings: Settings) -> Mask:
    """Say which links are so short that stays before and after them are one; parameters as of `is_silent_stay`."""
    return (link_ms <= LONGEST_SILENCE_MS) & (link_cm <= settings.stay_radius_m * 100)


def dwell_radius_cm(radius_cm: int) -> int:
    """Return how far from its middle a device may be seen that does not move: 11/20 of the radius of a stay."""
    return radius_cm * 11 // 20


def _away(cells: Cells, radius_cm: int) -> Mask:
    """Mark the cells of excursions, which lead away and back within a few cells and minutes.

    Where two places take turns, as a phone at home and a mast that it sees now and then, the one with more company is
    no excursion from the other.
    """
    clock_ms, places = cells.clock_ms, cells.places
    away = np.zeros(len(clock_ms), bool)
    found = [np.empty((3, 0), np.int64)]  # a cell, one before it, one after it
    link_cm = distances_cm(places[:, :-1], places[:, 1:])
    way_cm = longest_cm = link_cm
    for links in range(2, EXCURSION_CELLS + 2):
        if links > len(link_cm):
            break
        way_cm = way_cm[:-1] + link_cm[links - 1 :]
        longest_cm = np.maximum(longest_cm[:-1], link_cm[links - 1 :])
        # A millimetre less than the shortest way out and back: sums of floats are not exact.
        before = np.flatnonzero((way_cm > 2 * radius_cm - 0.1) & (longest_cm > radius_cm))
        before = before[distances_cm(places[:, before], places[:, before + links]) <= radius_cm]
        before = before[clock_ms[before + links] - clock_ms[before] <= EXCURSION_MS]
        for n in range(1, links):
            one = places[:, before + n]
            far = distances_cm(places[:, before], one) > radius_cm
            far &= distances_cm(places[:, before + links], one) > radius_cm
            found.append(before[far] + np.array([[n], [0], [links]]))
    cell, first, last = np.concatenate(found, axis=1)
    if len(cell):
        company = _company(cells, radius_cm)
        away[cell[2 * company[cell] <= company[first] + company[last]]] = True
    return away


def _company(cells: Cells, radius_cm: int) -> IntArray:
    """Count the cells beside each, before and after it, that are near it in time and place."""
    company = np.zeros(len(cells.clock_ms), np.int64)
    for apart in range(1, min(EXCURSION_CELLS, len(company) - 1) + 1):
        near = cells.clock_ms[apart:] - cells.clock_ms[:-apart] <= COMPANY_MS
        near &= distances_cm(cells.places[:, apart:], cells.places[:, :-apart]) <= radius_cm
        company[apart:] += near
        company[:-apart] += near
    return company


class _Sums(NamedTuple):
    """Sums over all cells before each one, and over all cells at the end."""

    places: IntArray
    accuracy_cm: IntArray
    accurate: IntArray
    """How many cells have a known accuracy."""

    @classmethod
    def of(cls, cells: Cells) -> _Sums:
        known = cells.accuracy_cm >= 0
        columns = (*cells.places, np.where(known, cells.accuracy_cm, 0), known.astype(np.int64))
        sums = np.zeros((len(columns), len(known) + 1), np.int64)
        for sum_, column in zip(sums, columns, strict=True):
            np.cumsum(column, out=sum_[1:])
        return cls(sums[:3], sums[3], sums[4])

    def mean_accuracy_cm(self, first: IntArray, last: IntArray) -> IntArray:
        """Return the mean of the known accuracies of runs of cells, 0 where none is known."""
        known = self.accurate[last + 1] - self.accurate[first]
        mean: IntArray = (self.accuracy_cm[last + 1] - self.accuracy_cm[first]) // np.maximum(known, 1)
        return mean

    def mean_places(self, first: IntArray, last: IntArray) -> IntArray:
        """Return the mean place of runs of cells, (3, k)."""
        mean: IntArray = (self.places[:, last + 1] - self.places[:, first]) // (last - first + 1)
        return mean


def _pieces(cells: Cells, moving_ms: IntArray, stay_ms: int, radius_cm: int) -> tuple[IntArray, IntArray]:
    """Return the first and the last cell of the pieces of time in which a device dwelt, in order and apart."""
    sums, count = _Sums.of(cells), len(cells.first)
    dwell_cm, long_ms = dwell_radius_cm(radius_cm), max(stay_ms, LONG_MS)

    def pieces_of(first: IntArray, last: IntArray) -> tuple[IntArray, IntArray]:
        first, last = _trimmed(cells, sums, *_united(count, first, last), stay_ms, dwell_cm)
        kept = cells.clock_ms[last] - cells.clock_ms[first] >= stay_ms
        return first[kept], last[kept]

    begin, end = _windows(cells, long_ms)
    accuracy_cm, box_cm = sums.mean_accuracy_cm(begin, end), _box_sizes_cm(cells, begin, end, radius_cm)
    creeps_not = 2 * box_cm <= 3 * radius_cm
    coarse = 5 * box_cm <= 12 * accuracy_cm
    still = creeps_not | coarse
    first, last = pieces_of(begin[coarse], end[coarse])

    short, until = _windows(cells, stay_ms)
    exact = sums.mean_accuracy_cm(short, until) <= EXACT_CM
    exact &= box_sizes_cm(cells.places, short, until) <= 2 * dwell_cm
    short, until = pieces_of(short[exact], until[exact])
    brief = cells.clock_ms[until] - cells.clock_ms[short] < long_ms
    long_links = covered(max(count - 1, 0), short[~brief], until[~brief])
    long, long_until = runs(long_links & covered(max(count - 1, 0), begin[creeps_not], end[creeps_not]))
    kept = cells.clock_ms[long_until] - cells.clock_ms[long] >= stay_ms
    brief &= 2 * box_sizes_cm(cells.places, short, until) <= 3 * radius_cm
    first = np.concatenate([first, short[brief], long[kept]])
    last = np.concatenate([last, until[brief], long_until[kept]])
    first, last = _united(count, first, last)
    # Who walks about in a hall dwells nowhere in it.
    dwelt = np.append(0, np.cumsum(covered(count, first, last + 1)))
    wide = ~still & (box_cm <= 2 * radius_cm + 5 * accuracy_cm) & (dwelt[end + 1] == dwelt[begin])
    if wide.any():
        begin, end = begin[wide], end[wide]
        slow = 10 * (moving_ms[end] - moving_ms[begin]) <= 7 * (cells.clock_ms[end] - cells.clock_ms[begin])
        begin, end = pieces_of(begin[slow], end[slow])
        first, last = _united(count, np.append(first, begin), np.append(last, end))
    return first, last


def _windows(cells: Cells, length_ms: int) -> tuple[IntArray, IntArray]:
    """Return the windows that count."""
    first, last = windows(cells.clock_ms, length_ms)
    counts = np.flatnonzero(cells.part[last] == cells.part[first])
    counts = counts[cells.clock_ms[last[counts]] - cells.clock_ms[first[counts]] <= WINDOW_MS]
    return first[counts], last[counts]


def _box_sizes_cm(cells: Cells, first: IntArray, last: IntArray, radius_cm: int) -> FloatArray:
    """Return the box sizes of windows, exact where they are not certainly too large."""
    size = distances_cm(cells.places[:, first], cells.places[:, last])
    near = np.flatnonzero(size <= 2 * radius_cm + 5 * VAGUE_CM)
    size[near] = box_sizes_cm(cells.places, first[near], last[near])
    return size


def _moving_ms(cells: Cells) -> IntArray:
    """Return the time before each cell in links to cells that were under way."""
    clock_ms, part = cells.clock_ms, cells.part
    before = np.searchsorted(clock_ms, clock_ms - STEP_MS, "right") - 1
    after = np.searchsorted(clock_ms, clock_ms + STEP_MS)
    before = np.maximum(before, np.searchsorted(part, part))  # the first and the last cell of the part at most
    after = np.minimum(after, np.searchsorted(part, part, "right") - 1)
    way_cm = distances_cm(cells.places[:, before], cells.places[:, after])
    under_way = way_cm * 1000 > STEP_CM_S * (clock_ms[after] - clock_ms[before])
    return np.append(0, np.cumsum(np.where(under_way[1:], np.diff(clock_ms), 0)))


def _united(count: int, first: IntArray, last: IntArray) -> tuple[IntArray, IntArray]:
    """Return the unions of windows that have more than a cell in common."""
    links = covered(max(count - 1, 0), first, last)
    inner = covered(count, first + 1, np.maximum(last, first + 1))  # cells with which a window goes on
    begins = np.flatnonzero(links & ~(np.append(False, links[:-1]) & inner[:-1])[: len(links)])
    if not len(begins):
        return begins, begins
    # A union ends where the next one begins, or with its last link.
    ends_run = np.flatnonzero(links & ~np.append(links[1:], False)) + 1
    end = ends_run[np.searchsorted(ends_run, begins, "right")]
    return begins, np.minimum(end, np.append(begins[1:], count))


def _trimmed(
    cells: Cells, sums: _Sums, first: IntArray, last: IntArray, stay_ms: int, dwell_cm: int
) -> tuple[IntArray, IntArray]:
    """Take the way to a place, and the way from it, off each piece."""
    if not len(first):
        return first, last
    backwards = cells._replace(clock_ms=-cells.clock_ms)
    begin = _arrivals(cells, sums, first, last, 1, stay_ms, dwell_cm)
    end = _arrivals(backwards, sums, last, first, -1, stay_ms, dwell_cm)
    kept = begin <= end
    return begin[kept], end[kept]


def _arrivals(
    cells: Cells, sums: _Sums, edge: IntArray, other: IntArray, step: int, stay_ms: int, dwell_cm: int
) -> IntArray:
    """Return the cell with which each piece begins when the way there is left out; with `step` -1, seen backwards."""
    clock_ms = cells.clock_ms[::step]

    def at_or_after(time_ms: IntArray, side: Literal["left", "right"] = "left") -> IntArray:
        found: IntArray = np.searchsorted(clock_ms, time_ms, side)
        return found if step == 1 else len(clock_ms) - 1 - found

    edge_ms = cells.clock_ms[edge]
    clip = np.minimum if step == 1 else np.maximum
    middle = clip(at_or_after(edge_ms + stay_ms // 2), other)
    until = clip(at_or_after(edge_ms + stay_ms, "right") - step, other)
    until = np.maximum(until, middle) if step == 1 else np.minimum(until, middle)
    low, high = np.minimum(middle, until), np.maximum(middle, until)
    centres, accuracy_cm = sums.mean_places(low, high), sums.mean_accuracy_cm(low, high)
    count = np.abs(middle - edge)
    piece = np.repeat(np.arange(len(edge)), count)
    cell = edge[piece] + step * ranges(count)
    far = 4 * distances_cm(cells.places[:, cell], centres[:, piece])
    there = (far <= 3 * dwell_cm) | (5 * far <= 18 * accuracy_cm[piece])
    there |= cells.clock_ms[cell + step] - cells.clock_ms[cell] > ON_THE_WAY_MS
    # The first cell of each piece that is there, or the middle.
    found = middle.copy()
    at = np.flatnonzero(there)[::-1]
    found[piece[at]] = cell[at]
    return found


def _joined(cells: Cells, first: IntArray, last: IntArray, radius_cm: int) -> Mask:
    """Say which pieces and the next one are one stay, with only a short and near absence between them."""
    leave, back = last[:-1], first[1:]
    joined = cells.clock_ms[back] - cells.clock_ms[leave] <= JOIN_MS
    joined &= distances_cm(cells.places[:, leave], cells.places[:, back]) <= radius_cm
    pair = np.flatnonzero(joined)
    between = np.maximum(back[pair] - leave[pair] - 1, 0)  # pieces may share a cell
    pair_of = np.repeat(pair, between)
    cell = leave[pair_of] + 1 + ranges(between)
    too_far = distances_cm(cells.places[:, leave[pair_of]], cells.places[:, cell]) > 2 * radius_cm
    joined[pair_of[too_far]] = False
    return joined
