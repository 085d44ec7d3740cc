"""Climb without the wavering of altitudes: rises and falls that are large enough (`docs/rules.md`, section 5).

The climb of a way is a column of eight integers, the `CLIMB_COLUMNS`, and ways are joined by `join`: a monoid, so it
does not matter how a way is cut. A way that has not come as far as the threshold yet has no run (rise or fall), and
is known by its extremes alone; where no altitude is known, the lowest one is above the highest.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from trackgen_core.geodesy import FloatArray, IntArray, round_half_away

CLIMB_COLUMNS: Final = (
    "min_cm",
    "max_cm",
    "first_turn_cm",
    "last_turn_cm",
    "first_run",
    "last_run",
    "gain_cm",
    "loss_cm",
)
"""The extremes; where the first run begins and the last one has come to; 1 for a rise, -1 for a fall, 0 for neither."""

MIN, MAX, FIRST_TURN, LAST_TURN, FIRST_RUN, LAST_RUN, GAIN, LOSS = range(len(CLIMB_COLUMNS))

NOWHERE_CM: Final = 10**10
"""The lowest of no altitudes; minus this is the highest."""

BLOCK: Final = 16
"""Points that are looked at together first."""


def climb_of(altitude: FloatArray, first: IntArray, threshold_cm: int) -> IntArray:
    """Return the climb of runs of points.

    Parameters
    ----------
    altitude : (n,) float array
        Metres, NaN where unknown.
    first : (k,) int array
        The first point of each run, in ascending order and beginning with 0.
    threshold_cm : int
        The least rise or fall that is no noise, at least 1.

    Returns
    -------
    (8, k) int array
        The `CLIMB_COLUMNS`.

    Notes
    -----
    Within a few points hardly anything exceeds the threshold; then their extremes are all there is to know. Where
    everything counts, climb is a plain sum.
    """
    unknown = np.isnan(altitude)
    cm = round_half_away(np.where(unknown, 0, altitude) * 100)
    lowest, highest = np.where(unknown, NOWHERE_CM, cm), np.where(unknown, -NOWHERE_CM, cm)
    if threshold_cm == 1:
        return _all_climb(lowest, highest, first)
    number = _number(len(altitude), first)
    begins_block = number % BLOCK == 0
    block = np.flatnonzero(begins_block)
    far = np.maximum.reduceat(highest, block) - np.minimum.reduceat(lowest, block) >= threshold_cm
    way = np.flatnonzero(begins_block | far[np.cumsum(begins_block) - 1])
    climb = np.zeros((len(CLIMB_COLUMNS), len(way)), np.int64)
    climb[MIN], climb[MAX] = np.minimum.reduceat(lowest, way), np.maximum.reduceat(highest, way)
    return join_at(climb, np.searchsorted(way, first), threshold_cm)


def _all_climb(lowest: IntArray, highest: IntArray, first: IntArray) -> IntArray:
    """Return the climb of runs of points of which every centimetre counts, given the extremes of each point."""
    climb = np.zeros((len(CLIMB_COLUMNS), len(first)), np.int64)
    climb[MIN], climb[MAX] = np.minimum.reduceat(lowest, first), np.maximum.reduceat(highest, first)
    known = np.flatnonzero(lowest <= highest)
    cm, run = lowest[known], np.searchsorted(first, known, "right") - 1
    step = np.diff(cm)
    change = np.flatnonzero((step != 0) & (run[1:] == run[:-1]))  # between this known altitude and the next
    step, of_run = step[change], run[change + 1]
    begin = np.flatnonzero(np.diff(of_run, prepend=-1))
    end = np.append(begin[1:], len(change))[: len(begin)] - 1
    climbing = of_run[begin]
    climb[FIRST_TURN, climbing], climb[LAST_TURN, climbing] = cm[change[begin]], cm[change[end] + 1]
    climb[FIRST_RUN, climbing], climb[LAST_RUN, climbing] = np.sign(step[begin]), np.sign(step[end])
    if len(begin):
        climb[GAIN, climbing] = np.add.reduceat(np.maximum(step, 0), begin)
        climb[LOSS, climbing] = np.add.reduceat(np.maximum(-step, 0), begin)
    return climb


def join(a: IntArray, b: IntArray, threshold_cm: int | IntArray) -> IntArray:
    """Return the climb of n ways, each of which is one of `a` and then one of `b`.

    Parameters
    ----------
    a, b : (8, n) int arrays
        The `CLIMB_COLUMNS`.
    threshold_cm : int or (n,) int array
        The least rise or fall that is no noise, at least 1.
    """
    threshold_cm = np.broadcast_to(threshold_cm, a.shape[1])
    joined = np.empty_like(a)
    joined[MIN] = np.minimum(a[MIN], b[MIN])
    joined[MAX] = np.maximum(a[MAX], b[MAX])
    joined[FIRST_TURN], joined[FIRST_RUN] = a[FIRST_TURN], a[FIRST_RUN]
    joined[LAST_TURN], joined[LAST_RUN] = b[LAST_TURN], b[LAST_RUN]
    joined[GAIN:] = a[GAIN:] + b[GAIN:]

    runs_a, runs_b = a[FIRST_RUN] != 0, b[FIRST_RUN] != 0
    far = joined[MAX] - joined[MIN] >= threshold_cm
    for run in (1, -1):
        # Seen upside down, what is said of rises is true of falls.
        low, high, gain, loss = (MIN, MAX, GAIN, LOSS) if run == 1 else (MAX, MIN, LOSS, GAIN)

        n = np.flatnonzero(far & ~runs_a & ~runs_b)  # the first run of all
        n = n[run * (b[high, n] - a[low, n]) >= threshold_cm[n]]
        joined[FIRST_TURN, n], joined[LAST_TURN, n] = a[low, n], b[high, n]
        joined[FIRST_RUN, n] = joined[LAST_RUN, n] = run
        joined[gain, n] = run * (b[high, n] - a[low, n])

        n = np.flatnonzero(~runs_a & (b[FIRST_RUN] == run))
        bottom = b[FIRST_TURN, n]
        fall = run * (a[high, n] - bottom)
        turns = fall >= threshold_cm[n]  # another run before the first
        joined[FIRST_RUN, n] = np.where(turns, -run, run)
        start = run * np.minimum(run * a[low, n], run * bottom)
        joined[FIRST_TURN, n] = np.where(turns, a[high, n], start)
        joined[loss, n] += np.where(turns, fall, 0)
        joined[gain, n] += np.where(turns, 0, run * (bottom - start))

        n = np.flatnonzero((a[LAST_RUN] == run) & ~runs_b)
        top = a[LAST_TURN, n]
        fall = run * (top - b[low, n])
        turns = fall >= threshold_cm[n]  # another run behind the last
        joined[LAST_RUN, n] = np.where(turns, -run, run)
        end = run * np.maximum(run * top, run * b[high, n])
        joined[LAST_TURN, n] = np.where(turns, b[low, n], end)
        joined[loss, n] += np.where(turns, fall, 0)
        joined[gain, n] += np.where(turns, 0, run * (end - top))

        n = np.flatnonzero((a[LAST_RUN] == run) & (b[FIRST_RUN] == run))
        fall = run * (a[LAST_TURN, n] - b[FIRST_TURN, n])
        turns = fall >= threshold_cm[n]  # otherwise both runs are one
        joined[loss, n] += np.where(turns, fall, 0)
        joined[gain, n] -= np.where(turns, 0, fall)

        n = np.flatnonzero((a[LAST_RUN] == run) & (b[FIRST_RUN] == -run))
        top = run * np.maximum(run * a[LAST_TURN, n], run * b[FIRST_TURN, n])
        joined[gain, n] += run * (top - a[LAST_TURN, n])
        joined[loss, n] += run * (top - b[FIRST_TURN, n])
    return joined


def join_at(climb: IntArray, first: IntArray, threshold_cm: int | IntArray) -> IntArray:
    """Join runs of ways, neighbours first, then what came of them, and so on.

    Parameters
    ----------
    climb : (8, n) int array
        The `CLIMB_COLUMNS` of n ways in their order.
    first : (k,) int array
        The first way of each run, in ascending order and beginning with 0.
    threshold_cm : int or (k,) int array
        As of `join`, of each run.

    Returns
    -------
    (8, k) int array
        The climb of each run.
    """
    number = _number(climb.shape[1], first)
    threshold_cm = np.repeat(np.broadcast_to(threshold_cm, len(first)), np.diff(first, append=len(number)))
    while (right := np.flatnonzero(number & 1)).size:
        left = right - 1
        joined = join(climb[:, left], climb[:, right], threshold_cm[left])
        kept = np.flatnonzero(number & 1 == 0)
        climb, threshold_cm = climb[:, kept], threshold_cm[kept]
        climb[:, np.searchsorted(kept, left)] = joined
        number = number[kept] >> 1
    return climb


def join_up_to(climb: IntArray, first: IntArray, threshold_cm: int | IntArray) -> IntArray:
    """Return the climb of each way together with those before it in its run.

    Parameters
    ----------
    climb, first : int arrays
        As of `join_at`.
    threshold_cm : int or (n,) int array
        As of `join`, of each way.
    """
    number = _number(climb.shape[1], first)
    threshold_cm = np.broadcast_to(threshold_cm, len(number))
    step = 1
    while (later := np.flatnonzero(number >= step)).size:
        joined = join(climb[:, later - step], climb[:, later], threshold_cm[later])
        climb = climb.copy()
        climb[:, later] = joined
        step *= 2
    return climb


def _number(n: int, first: IntArray) -> IntArray:
    """Count n things from 0 in each run."""
    return np.arange(n) - np.repeat(first, np.diff(first, append=n))
