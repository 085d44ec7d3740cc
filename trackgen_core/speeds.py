"""How fast a device went, how straight, and how far, over chords instead of links (`docs/rules.md`, sections 5 and 6).

A chord is the straight way between two cells around a link. Jitter is short and goes everywhere; over a chord of a
minute little of it is left.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np

from trackgen_core.cells import SILENCE_MS, Cells
from trackgen_core.geodesy import FloatArray, IntArray, Mask, distances_cm
from trackgen_core.points import MS_PER_MINUTE

BANDS_M_S: Final[FloatArray] = np.array([0.5, 2.2, 4.2, 8.0, 10.0, 45.0, 88.0])
"""Where one band of speeds ends and the next begins."""
BANDS: Final = len(BANDS_M_S) + 1

PACE_MS: Final = 30_000
"""Pace is told by the speed from so long before the middle of a link to so long after it, at least."""
JITTER_MS: Final = 25_000
"""So is jitter."""
STRAIGHT_MS: Final = 90_000
"""And how straight a way is."""
FARTHEST_MS: Final = 10 * MS_PER_MINUTE
"""A cell farther away than this from the middle of a link says nothing about it."""
FINE_MS: Final = 5_000
"""What a device measures several times in so much time is averaged over it, if that shortens the way."""
NOISE: Final = 0.95
"""By so much at least."""
SLOW_JITTER: Final = 0.7
"""A slow way is jitter if its chord is less than so much of it."""
JITTER: Final = 0.5
"""A fast one, which turns more in the same time, if it is less than this."""
LAPS: Final = 0.8
LAPS_DM_S: Final = 22
"""Who is so fast, in 0.1 m/s, from cell to cell, on a way hardly shorter than the links, does not jitter but turns."""
WALK: Final = 1
"""The last band of slow ways."""
UNSTEADY_M_S2: Final = 0.12
"""Engines change their speed faster than legs."""
UNSTEADY_MS: Final = 1_000, 15_000
"""How long a change takes, at least and at most: a halt within a minute changes more than is seen."""
PERMILLE: Final = 1000


class Chords(NamedTuple):
    """The chords around the links to n cells; of the first cell of a part, that of the link to the second."""

    first: IntArray
    last: IntArray
    cm: FloatArray
    ms: IntArray

    @property
    def m_s(self) -> FloatArray:
        """Metres per second; 0 in no time."""
        return np.divide(10 * self.cm, self.ms, out=np.zeros(len(self.cm)), where=self.ms > 0)


class Links(NamedTuple):
    """What is known of the link to each of n points, over the cells around it; 0 of the first of a device."""

    mm: IntArray
    """Its length without jitter."""
    band: IntArray
    """The band of its speed (see `speed_bands`), over the cell alone; 0 if it does not move."""
    straight: IntArray
    """How straight the way around it is, in permille."""
    unsteady: Mask
    """Whether the speed changes as only engines do."""


def speed_bands(ms: IntArray, mm: IntArray) -> IntArray:
    """Return the band of the speed of ways; of one that takes no time, it is the first.

    Parameters
    ----------
    ms, mm : (n,) int arrays
        Time and length.

    Returns
    -------
    (n,) int array
        From 0 to `BANDS` - 1.
    """
    # A quotient of integers of this size is never rounded over the float that is nearest to a limit.
    return _bands(np.divide(mm, ms, out=np.zeros(len(ms)), where=ms > 0))


def _bands(m_s: FloatArray) -> IntArray:
    return np.searchsorted(BANDS_M_S, m_s, "right")


def find_chords(cells: Cells, reach_ms: int) -> Chords:
    """Return the chords that reach so far to both sides of the middle of each link, at least.

    Parameters
    ----------
    cells : Cells
        The cells of all points that are no noise.
    reach_ms : int
        How far; 0 gives the links themselves.
    """
    clock_ms, part = cells.clock_ms, cells.part
    number = np.arange(len(clock_ms))
    change = part[1:] != part[:-1]
    begins, ends = np.append(True, change), np.append(change, True)
    into = np.where(begins & ~ends, number + 1, number)
    before = np.where(begins & ends, number, into - 1)
    if not reach_ms:
        first, last = before, into
    else:
        middle_ms = (clock_ms[before] + clock_ms[into]) // 2
        first = np.searchsorted(clock_ms, middle_ms - reach_ms, "right") - 1
        found = np.searchsorted(clock_ms, middle_ms + reach_ms)
        last = np.minimum(found, len(clock_ms) - 1)
        near = (part[first] == part) & (first >= 0) & (middle_ms - clock_ms[first] <= FARTHEST_MS)
        first = np.where(near, np.minimum(first, before), before)
        near = (found == last) & (part[last] == part) & (clock_ms[last] - middle_ms <= FARTHEST_MS)
        last = np.where(near, np.maximum(last, into), into)
    cm = distances_cm(cells.places[:, first], cells.places[:, last])
    return Chords(first, last, cm, clock_ms[last] - clock_ms[first])


def pace_bands(cells: Cells) -> IntArray:
    """Return the band of the speed around the link to each cell, by which pace is told."""
    return _bands(find_chords(cells, PACE_MS).m_s)


def find_links(cells: Cells, fine: Cells, link_ms: IntArray, link_mm: IntArray, *, smooth: bool) -> Links:
    """Return what is known of links.

    Parameters
    ----------
    cells, fine : Cells
        The cells of n points, and their cells of `FINE_MS`.
    link_ms, link_mm : (n,) int arrays
        Time and plain length of the link to each point, 0 of the first.
    smooth : bool
        Whether jitter counts for no length.
    """
    count = cells.last - cells.first + 1

    def of_points(of_cells: Any) -> Any:  # noqa: ANN401 - an array of any kind, of which it returns one
        return of_cells if len(count) == len(link_ms) else np.repeat(of_cells, count)

    around = find_chords(cells, JITTER_MS)

    def way_mm(mm: IntArray) -> IntArray:
        """Return the way along the chords, from the mean of one cell to that of another."""
        so_far = np.add.reduceat(np.cumsum(mm), cells.first) // count
        way: IntArray = so_far[around.last] - so_far[around.first]
        return way

    plain_band = speed_bands(link_ms, link_mm)
    long = link_ms > SILENCE_MS
    smooth_mm, noisy = link_mm, np.zeros(len(link_ms), bool)
    if len(fine.first) < len(link_ms):
        speed = np.repeat(find_chords(fine, 0).m_s, fine.last - fine.first + 1)
        fine_mm = np.where(long, link_mm, (speed * link_ms).astype(np.int64))
        more = cells.last + 1 - 2 * np.searchsorted(fine.first, cells.last, "right")  # points than twice the fine cells
        several = more[around.last] >= np.append(0, more)[around.first]
        noisy = of_points(several & (way_mm(fine_mm) < NOISE * way_mm(link_mm)))
        smooth_mm = np.where(noisy, fine_mm, link_mm)
    links = find_chords(cells, 0)
    so_far_cm = np.cumsum(links.cm.astype(np.int64))  # within a part: that of its first cell is in both ends of a way
    way, by_cells_mm = way_mm(smooth_mm), 10 * (so_far_cm[around.last] - so_far_cm[around.first])
    slow = _bands(around.m_s) <= WALK
    jitters = 10 * around.cm < np.where(slow, SLOW_JITTER, JITTER) * way
    laps = (by_cells_mm >= LAPS * way) & (10 * by_cells_mm >= LAPS_DM_S * around.ms)
    jitter = of_points(jitters & ~laps) & (link_ms <= FARTHEST_MS)
    smooth_mm = np.where(jitter, (of_points(around.m_s) * link_ms).astype(np.int64), smooth_mm)

    m_s = links.m_s
    cell_band = of_points(_bands(m_s))
    moves = np.where(jitter | noisy, cell_band, plain_band) > 0
    band = np.where(moves, np.maximum(cell_band, 1), 0)

    change = np.abs(np.diff(m_s, prepend=m_s[:1]))
    shorter_ms = np.minimum(links.ms, np.append(links.ms[:1], links.ms[:-1]))
    unsteady = 1_000 * change > UNSTEADY_M_S2 * np.clip(shorter_ms, *UNSTEADY_MS)
    unsteady &= np.append(False, cells.part[1:] == cells.part[:-1])

    chords = find_chords(cells, STRAIGHT_MS)
    path_cm = so_far_cm[chords.last] - so_far_cm[chords.first]
    straight = np.divide(PERMILLE * chords.cm, path_cm, out=np.full(len(path_cm), float(PERMILLE)), where=path_cm > 0)
    straight = np.minimum(straight, PERMILLE).astype(np.int64)
    return Links(
        smooth_mm if smooth else link_mm,
        np.where(long, plain_band, band),
        np.where(long, 0, of_points(straight)),
        of_points(unsteady) & ~long,
    )
