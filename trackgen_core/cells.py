"""Cells: the points of 20 seconds as one, so that rules see the same of a watch and of a phone (`docs/rules.md`)."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from trackgen_core.geodesy import FloatArray, IntArray
from trackgen_core.points import MS_PER_MINUTE

CELL_MS: Final = 20_000
"""The length of a cell; cells begin at full multiples of it since 1970."""
SILENCE_MS: Final = 30 * MS_PER_MINUTE
"""What happened during a longer link is not known: no window reaches over it."""
UNKNOWN_CM: Final = -1
"""The accuracy of a cell where no point has one."""


class Cells(NamedTuple):
    """Cells of one or several devices, in the order of device and time."""

    first: IntArray
    """The first point of each cell."""
    last: IntArray
    """The last point of each cell."""
    clock_ms: IntArray
    """The middle of the times of these two."""
    places: IntArray
    """(3, n): the mean of the places of the points, in cm, rounded down."""
    accuracy_cm: IntArray
    """The best accuracy of the points, or `UNKNOWN_CM`."""
    part: IntArray
    """A number that changes where a silence or another device begins."""

    def take(self, which: IntArray) -> Cells:
        """Return some of the cells."""
        return Cells(*(field[..., which] for field in self))


def make_cells(
    device: IntArray,
    time_ms: IntArray,
    clock_ms: IntArray,
    places: IntArray,
    accuracy: FloatArray,
    cell_ms: int = CELL_MS,
) -> Cells:
    """Put points into cells.

    Parameters
    ----------
    device, time_ms : (n,) int arrays
        The device and the time of each point, in this order.
    clock_ms : (n,) int array
        The time by the clock of the rules (`clock.rule_clock`).
    places : (3, n) int array
        Places in cm.
    accuracy : (n,) float array
        Metres, NaN where unknown.
    cell_ms : int
        The length of a cell.
    """
    number = time_ms // cell_ms
    begins = np.ones(len(number), bool)
    begins[1:] = (number[1:] != number[:-1]) | (device[1:] != device[:-1])
    first = np.flatnonzero(begins)
    last = np.append(first[1:], len(number))[: len(first)] - 1
    if len(first) == len(number):
        mean, best = places, accuracy
    else:
        mean = np.add.reduceat(places, first, axis=1) // (last - first + 1)
        best = np.fmin.reduceat(accuracy, first)
    accuracy_cm = np.where(np.isnan(best), UNKNOWN_CM, best * 100).astype(np.int64)
    silent = clock_ms[first[1:]] - clock_ms[last[:-1]] > SILENCE_MS
    part = np.concatenate([np.zeros(1, np.int64), np.cumsum(silent)])[: len(first)]
    return Cells(first, last, (clock_ms[first] + clock_ms[last]) // 2, mean, accuracy_cm, part)
