"""How fast a device moved, and at which pace: still, walking or riding (`docs/rules.md`, section 6).

As in `noise`, fixes are arrays over one or several devices, here without those that are noise.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from trackgen_core.geodesy import FloatArray, IntArray, Mask
from trackgen_core.points import MS_PER_MINUTE
from trackgen_core.windows import covered, windows

BANDS_M_S: Final[FloatArray] = np.array([0.5, 2.2, 4.2, 8.3, 14.0, 45.0, 88.0])
"""Where one band of speeds ends and the next begins."""
BANDS: Final = len(BANDS_M_S) + 1
SLOW, WALK = 0, 1
"""The bands below those of riding."""

PACES: Final = ("none", "still", "walking", "riding")
"""What a code of `find_pace` means; its index is the code."""
NONE, STILL, WALKING, RIDING = range(len(PACES))

WINDOW_MS: Final = 4 * MS_PER_MINUTE
"""Who waits or walks does so for some minutes."""
LONGEST_MS: Final = 60 * MS_PER_MINUTE
"""A longer hop or window says nothing about pace."""
RIDE_MS: Final = 2 * MS_PER_MINUTE
"""What is shorter, amid something else, is no ride."""


def speed_bands(hop_ms: IntArray, hop_mm: IntArray) -> IntArray:
    """Return the band of the speed of each hop; of one that takes no time, it is the first.

    Parameters
    ----------
    hop_ms, hop_mm : (n,) int arrays
        Time and length of the hops.

    Returns
    -------
    (n,) int array
        From 0 to `BANDS` - 1.
    """
    # A quotient of integers of this size is never rounded over the float that is nearest to a limit.
    speed = np.divide(hop_mm, hop_ms, out=np.zeros(len(hop_ms)), where=hop_ms > 0)
    return np.searchsorted(BANDS_M_S, speed, "right")


def find_pace(clock_ms: IntArray, bands: IntArray, breaks: Mask) -> npt.NDArray[np.int8]:
    """Return the pace of each fix: that of the hop to it.

    Parameters
    ----------
    clock_ms : (n,) int array
        Times in the order of the fixes; from one device to the next they jump by two days or more.
    bands : (n - 1,) int array
        The bands of the speeds of the hops.
    breaks : (n - 1,) bool array
        Which hops end a track whatever surrounds them.

    Returns
    -------
    (n,) int8 array
        Indices into `PACES`.
    """
    pace = np.full(len(clock_ms), NONE, np.int8)
    if len(clock_ms) < 2:
        return pace
    hop_ms = np.diff(clock_ms)
    unknown = breaks | (hop_ms > LONGEST_MS)
    slow_ms = np.append(0, np.cumsum(np.where(bands == SLOW, hop_ms, 0)))
    fast_ms = np.append(0, np.cumsum(np.where(bands > WALK, hop_ms, 0)))

    first, last = _windows(clock_ms, unknown)
    all_ms = clock_ms[last] - clock_ms[first]
    slow_ms, fast_ms = slow_ms[last] - slow_ms[first], fast_ms[last] - fast_ms[first]
    still = 10 * slow_ms >= 9 * all_ms
    walking = 10 * fast_ms <= all_ms - slow_ms
    hop_pace = np.full(len(hop_ms), RIDING, np.int8)
    hop_pace[covered(len(hop_ms), *_trimmed(first[walking], last[walking], bands <= WALK))] = WALKING
    hop_pace[covered(len(hop_ms), *_trimmed(first[still], last[still], bands == SLOW))] = STILL
    hop_pace[unknown] = NONE

    begins = np.flatnonzero(np.diff(hop_pace, prepend=-1))
    ends = np.append(begins[1:], len(hop_pace))
    paces = hop_pace[begins]
    amid = np.zeros(len(begins), bool)
    amid[1:-1] = (paces[:-2] != NONE) & (paces[2:] != NONE)
    short = amid & (paces == RIDING) & (clock_ms[ends] - clock_ms[begins] < RIDE_MS)
    pace[1:] = np.repeat(np.where(short, WALKING, paces), ends - begins)
    return pace


def _trimmed(first: IntArray, last: IntArray, kind: Mask) -> tuple[IntArray, IntArray]:
    """Shorten windows so that they begin and end with a hop of a kind; those without any are left out."""
    hops = np.flatnonzero(kind)
    begin, end = np.searchsorted(hops, first), np.searchsorted(hops, last)
    some = begin < end
    return hops[begin[some]], hops[end[some] - 1] + 1


def _windows(clock_ms: IntArray, unknown: Mask) -> tuple[IntArray, IntArray]:
    """Return the first and the last fix of the windows in which pace is judged."""
    edge = np.flatnonzero(unknown)
    part = np.append(0, np.cumsum(unknown))
    begin, end = np.append(0, edge + 1), np.append(edge, len(clock_ms) - 1)
    whole = (clock_ms[end] - clock_ms[begin] < WINDOW_MS) & (end > begin)
    first, last = windows(clock_ms, WINDOW_MS)
    counts = (part[first] == part[last]) & (clock_ms[last] - clock_ms[first] <= LONGEST_MS)
    return np.append(first[counts], begin[whole]), np.append(last[counts], end[whole])
