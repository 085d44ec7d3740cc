"""Runs of points: windows of time, the links that lie in some of them, and the points of each."""

from __future__ import annotations

import numpy as np

from trackgen_core.geodesy import IntArray, Mask


def windows(clock_ms: IntArray, length_ms: int) -> tuple[IntArray, IntArray]:
    """Return the first and the last fix of the windows at all fixes, each window once.

    They go up to the first fix that is at least `length_ms` later, and back to the last one that is at least
    `length_ms` earlier, where there is one.

    Parameters
    ----------
    clock_ms : (n,) int array
        Times in ascending order.
    length_ms : int
        At least 1.
    """
    number = np.arange(len(clock_ms))
    later = np.searchsorted(clock_ms, clock_ms + length_ms)
    # The last fix that is so much earlier: one less than the number of fixes that have come as far.
    earlier = np.cumsum(np.bincount(later, minlength=len(clock_ms) + 1))[:-1] - 1
    forward = number[later < len(clock_ms)]
    backward = number[earlier >= 0]
    backward = backward[later[earlier[backward]] != backward]  # the others are there already, seen from their other end
    return np.concatenate([forward, earlier[backward]]), np.concatenate([later[forward], backward])


def covered(hops: int, first: IntArray, last: IntArray) -> Mask:
    """Mark the hops between the first and the last fix of any of some windows.

    Parameters
    ----------
    hops : int
        How many hops there are.
    first, last : (k,) int arrays
        Fixes; hop i is between fixes i and i + 1.
    """
    change = np.bincount(first, minlength=hops + 1) - np.bincount(last, minlength=hops + 1)
    return np.cumsum(change[:hops]) > 0


def ranges(count: IntArray) -> IntArray:
    """Return 0, 1, ... for each of some runs, one after the other, given how many each of them has."""
    return np.arange(int(count.sum())) - np.repeat(np.cumsum(count) - count, count)


def runs(hops: Mask) -> tuple[IntArray, IntArray]:
    """Return the first and last fix of each maximal run of marked hops."""
    edges = np.flatnonzero(np.diff(hops, prepend=False, append=False))
    return edges[::2], edges[1::2]
