"""The clock of the rules: times in which the points of one instant follow one another (`docs/rules.md`)."""

from __future__ import annotations

from typing import Final

import numpy as np

from trackgen_core.geodesy import IntArray
from trackgen_core.points import MS_PER_DAY, MS_PER_MINUTE
from trackgen_core.windows import ranges

DEVICE_JUMP_MS: Final = 2 * MS_PER_DAY
"""How far apart devices are put on the clock of the rules, which look less far."""
SPREAD_MS: Final = 10 * MS_PER_MINUTE
"""The longest time over which the points of one instant are spread: a point farther away says nothing about it."""


def late_ms(device: IntArray, time_ms: IntArray) -> IntArray:
    """Return how much later than its time each point is by the clock of the rules.

    Programs cut times to full seconds or minutes, or stamp all points of a batch with one time. The points of one
    instant are therefore spread evenly over the time until the next one, or, if that is far away, over as much time as
    there was before it.

    Parameters
    ----------
    device, time_ms : (n,) int arrays
        The device and the time of each point, in this order.

    Returns
    -------
    (n,) int array
        Milliseconds; 0 for a point that is alone at its instant, or the first one there.
    """
    late = np.zeros(len(time_ms), np.int64)
    same = (time_ms[1:] == time_ms[:-1]) & (device[1:] == device[:-1])
    if not same.any():
        return late
    begins = np.flatnonzero(np.append(True, ~same))
    count = np.diff(begins, append=len(time_ms))
    several = np.flatnonzero(count > 1)
    begin, count = begins[several], count[several]
    before, behind = np.maximum(begin - 1, 0), np.minimum(begin + count, len(time_ms) - 1)
    follows = (before < begin) & (device[before] == device[begin])
    goes_on = (behind >= begin + count) & (device[behind] == device[begin])
    goes_on &= time_ms[behind] - time_ms[begin] <= SPREAD_MS
    follows &= time_ms[begin] - time_ms[before] <= SPREAD_MS
    before_ms = np.where(follows, time_ms[begin] - time_ms[before], 0)
    until_ms = np.where(goes_on, time_ms[behind] - time_ms[begin], before_ms)
    number = ranges(count)
    late[np.repeat(begin, count) + number] = number * np.repeat(until_ms, count) // np.repeat(count, count)
    return late


def rule_clock(device: IntArray, time_ms: IntArray) -> IntArray:
    """Return times from the first one on that ascend over all devices: each begins long after the one before it ended.

    Parameters
    ----------
    device, time_ms : (n,) int arrays
        As of `late_ms`, with which the times are late already.
    """
    step_ms = np.diff(time_ms, prepend=time_ms[:1])
    step_ms[1:][device[1:] != device[:-1]] = DEVICE_JUMP_MS
    return np.cumsum(step_ms)
