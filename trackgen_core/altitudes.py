"""Altitudes without jumps and noise, as far as they are that: the rules of `docs/rules.md`, section 5.

The noise of altitudes is measured from themselves: a way over ground bends up and down less than noise does.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from trackgen_core.cells import Cells
from trackgen_core.geodesy import FloatArray, IntArray, Mask, distances_cm, round_half_away
from trackgen_core.points import MS_PER_MINUTE

JUMP_CM: Final = 20 * 100
JUMP_CM_S: Final = 5 * 100
"""Nothing but a fall or a lift is so fast, and neither is back within two minutes."""
JUMP_MS: Final = 2 * MS_PER_MINUTE
JUMP_LINKS: Final = 3
"""How many jumps back are tried for each jump away."""

BEND_MS: Final = 2 * MS_PER_MINUTE
"""Over longer links, a bend says nothing about noise."""
GROUND: Final = 25
"""The ground bends by at most 1/25 of the way to and from a place: the slope changes by eight in a hundred."""
AROUND_MS: Final = 5 * MS_PER_MINUTE
"""Roughness is the mean of all bends so near."""
ROUGH_CM: Final = 50
SMOOTHING: Final = ((400, 20 * MS_PER_MINUTE), (100, 5 * MS_PER_MINUTE), (50, 2 * MS_PER_MINUTE), (0, 0))
"""From which roughness on altitudes are the mean of so much time before and after."""


def clean_altitudes(clock_ms: IntArray, places: IntArray, altitude: FloatArray, cells: Cells) -> FloatArray:
    """Return altitudes without jumps and noise.

    Parameters
    ----------
    clock_ms : (n,) int array
        Times by the clock of the rules.
    places : (3, n) int array
        Places in cm.
    altitude : (n,) float array
        Metres, NaN where unknown.
    cells : Cells
        The cells of these points.

    Returns
    -------
    (n,) float array
        Metres in whole centimetres, NaN where unknown or a jump.
    """
    known = np.flatnonzero(~np.isnan(altitude))
    clean = np.full(len(altitude), np.nan)
    if not len(known):
        return clean
    cm = round_half_away(altitude[known] * 100)
    sound = ~_jumps(clock_ms[known], cm)
    known, cm = known[sound], cm[sound]
    clean[known] = cm / 100

    cell = np.searchsorted(cells.first, known, "right") - 1
    begins = np.flatnonzero(np.append(True, np.diff(cell) != 0))
    count = np.diff(begins, append=len(cell))
    of_cell = cell[begins]
    mean_cm = np.add.reduceat(cm, begins) // count
    cell_ms = cells.clock_ms[of_cell]
    bend, bends = _bends(clock_ms[known], places[:, known], cm)
    bend, bends = np.add.reduceat(bend, begins), np.add.reduceat(bends, begins)
    first = np.searchsorted(cell_ms, cell_ms - AROUND_MS)
    last = np.searchsorted(cell_ms, cell_ms + AROUND_MS, "right")
    fine_cm = _mean(bend, bends, first, last)
    coarse_cm = _mean(*_bends(cell_ms, cells.places[:, of_cell], mean_cm), first, last)
    rough = np.flatnonzero(np.maximum(fine_cm, coarse_cm) >= ROUGH_CM)
    if not len(rough):
        return clean

    at_least = np.array([limit for limit, _ in SMOOTHING])
    reach_ms = np.array([ms for _, ms in SMOOTHING])[np.argmax(coarse_cm[rough, None] >= at_least, axis=1)]
    first = np.searchsorted(cell_ms, cell_ms[rough] - reach_ms)
    last = np.searchsorted(cell_ms, cell_ms[rough] + reach_ms, "right")
    smooth_cm = mean_cm.copy()
    smooth_cm[rough] = _mean(mean_cm, np.ones(len(mean_cm), np.int64), first, last)
    is_rough = np.zeros(len(mean_cm), bool)
    is_rough[rough] = True
    clean[known] = np.where(np.repeat(is_rough, count), np.repeat(smooth_cm, count), cm) / 100
    return clean


def _jumps(clock_ms: IntArray, cm: IntArray) -> Mask:
    """Say which altitudes are reached by a jump and left by a jump back, with no other one right before or after."""
    found = np.zeros(len(cm), bool)
    rise_cm, ms = np.diff(cm), np.diff(clock_ms)
    height_cm = np.abs(rise_cm)
    fast = (height_cm >= JUMP_CM) & (ms <= JUMP_MS) & (1_000 * height_cm > JUMP_CM_S * ms)
    jump = np.flatnonzero(fast)
    for n in range(1, JUMP_LINKS + 1):
        away, back = jump[:-n], jump[n:]
        turns = (rise_cm[away] > 0) != (rise_cm[back] > 0)
        turns &= clock_ms[back + 1] - clock_ms[away] <= JUMP_MS
        turns &= 2 * np.abs(cm[back + 1] - cm[away]) <= np.minimum(height_cm[away], height_cm[back])
        turns &= ~np.append(False, fast)[away] & ~np.append(fast, False)[back + 1]
        for start, stop in zip(away[turns].tolist(), back[turns].tolist(), strict=True):
            found[start + 1 : stop + 1] = True
    return found


def _bends(clock_ms: IntArray, places: IntArray, cm: IntArray) -> tuple[IntArray, IntArray]:
    """Return by how much more than the ground a way bends up or down at each point, and 1 where that can be said."""
    bend, bends = np.zeros((2, len(cm)), np.int64)
    if len(cm) < 3:
        return bend, bends
    near = np.diff(clock_ms) <= BEND_MS
    way_cm = distances_cm(places[:, :-1], places[:, 1:]).astype(np.int64)
    bends[1:-1] = near[:-1] & near[1:]
    over_ground = (way_cm[:-1] + way_cm[1:]) // GROUND
    bend[1:-1] = np.maximum(np.abs(cm[:-2] - 2 * cm[1:-1] + cm[2:]) - over_ground, 0) * bends[1:-1]
    return bend, bends


def _mean(values: IntArray, counts: IntArray, first: IntArray, last: IntArray) -> IntArray:
    """Return the means over runs of sums of so many values, rounded down; 0 where there are none."""
    value, count = (np.append(0, np.cumsum(column)) for column in (values, counts))
    mean: IntArray = (value[last] - value[first]) // np.maximum(count[last] - count[first], 1)
    return mean
