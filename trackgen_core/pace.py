"""At which pace a device moved: still, walking, riding or flying (`docs/rules.md`, section 6)."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from trackgen_core.cells import Cells
from trackgen_core.geodesy import IntArray, Mask
from trackgen_core.points import MS_PER_MINUTE
from trackgen_core.speeds import BANDS
from trackgen_core.windows import covered, windows

SLOW, WALK, FLIGHT = 0, 1, BANDS - 1
"""The bands below those of riding, and the one above."""

PACES: Final = ("none", "still", "walking", "riding", "flying", "hidden")
"""What a code of `find_pace` means; its index is the code."""
NONE, STILL, WALKING, RIDING, FLYING, HIDDEN = range(len(PACES))

WINDOW_MS: Final = 150_000
"""Who waits or walks does so for some minutes."""
LONGEST_MS: Final = 60 * MS_PER_MINUTE
"""A longer link or window says nothing about pace."""
HIDDEN_MS: Final = 5 * MS_PER_MINUTE
"""Who rides for so long without a point between is hidden."""
RIDE_MS: Final = 2 * MS_PER_MINUTE
"""What is shorter, amid something else, is no ride."""


def find_pace(cells: Cells, bands: IntArray, breaks: Mask) -> npt.NDArray[np.int8]:
    """Return the pace of each cell: that of the link to it; of a cell with no such link, that of the next one.

    Parameters
    ----------
    cells : Cells
        n cells.
    bands : (n,) int array
        The bands of the speeds around the links to them.
    breaks : (n - 1,) bool array
        Between which cells a track ends whatever surrounds them.

    Returns
    -------
    (n,) int8 array
        Indices into `PACES`.
    """
    clock_ms = cells.clock_ms
    pace = np.full(len(clock_ms), NONE, np.int8)
    if len(clock_ms) < 2:
        return pace
    link_ms, bands = np.diff(clock_ms), bands[1:]
    unknown = breaks | (cells.part[1:] != cells.part[:-1])
    slow_ms = np.append(0, np.cumsum(np.where(bands == SLOW, link_ms, 0)))
    fast_ms = np.append(0, np.cumsum(np.where(bands > WALK, link_ms, 0)))

    first, last = _windows(clock_ms, unknown)
    all_ms = clock_ms[last] - clock_ms[first]
    slow_ms, fast_ms = slow_ms[last] - slow_ms[first], fast_ms[last] - fast_ms[first]
    still = 10 * slow_ms >= 9 * all_ms
    walking = 10 * fast_ms <= all_ms - slow_ms
    link_pace = np.where(bands == FLIGHT, FLYING, RIDING).astype(np.int8)
    link_pace[covered(len(link_ms), *_trimmed(first[walking], last[walking], bands <= WALK))] = WALKING
    link_pace[covered(len(link_ms), *_trimmed(first[still], last[still], bands == SLOW))] = STILL
    link_pace[unknown] = NONE

    begins = np.flatnonzero(np.diff(link_pace, prepend=-1))
    ends = np.append(begins[1:], len(link_pace))
    paces = link_pace[begins]
    amid = np.zeros(len(begins), bool)
    amid[1:-1] = (paces[:-2] != NONE) & (paces[2:] != NONE)
    short = amid & (paces == RIDING) & (clock_ms[ends] - clock_ms[begins] < RIDE_MS)
    short[1:-1] &= (paces[:-2] != FLYING) & (paces[2:] != FLYING)
    pace[1:] = np.repeat(np.where(short, WALKING, paces), ends - begins)
    pace[1:][_hidden(link_ms, pace[1:])] = HIDDEN
    lone = np.flatnonzero(np.append(True, unknown)[:-1] & ~unknown)  # the first cells of parts of several
    pace[lone] = pace[lone + 1]
    return pace


def _hidden(link_ms: IntArray, pace: npt.NDArray[np.int8]) -> IntArray:
    """Return the long links of riding that are alone between walking or standing."""
    long = np.flatnonzero((pace == RIDING) & (link_ms >= HIDDEN_MS))
    long = long[(long > 0) & (long < len(pace) - 1)]
    on_foot = (pace == STILL) | (pace == WALKING)
    hidden: IntArray = long[on_foot[long - 1] & on_foot[long + 1]]
    return hidden


def _trimmed(first: IntArray, last: IntArray, kind: Mask) -> tuple[IntArray, IntArray]:
    """Shorten windows so that they begin and end with a link of a kind; those without any are left out."""
    links = np.flatnonzero(kind)
    begin, end = np.searchsorted(links, first), np.searchsorted(links, last)
    some = begin < end
    return links[begin[some]], links[end[some] - 1] + 1


def _windows(clock_ms: IntArray, unknown: Mask) -> tuple[IntArray, IntArray]:
    """Return the first and the last fix of the windows in which pace is judged."""
    edge = np.flatnonzero(unknown)
    part = np.append(0, np.cumsum(unknown))
    begin, end = np.append(0, edge + 1), np.append(edge, len(clock_ms) - 1)
    whole = (clock_ms[end] - clock_ms[begin] < WINDOW_MS) & (end > begin)
    first, last = windows(clock_ms, WINDOW_MS)
    counts = (part[first] == part[last]) & (clock_ms[last] - clock_ms[first] <= LONGEST_MS)
    return np.append(first[counts], begin[whole]), np.append(last[counts], end[whole])
