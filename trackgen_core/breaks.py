"""Between which points a track ends: the rules of `docs/rules.md`, section 3."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from trackgen_core.geodesy import IntArray, Mask
from trackgen_core.points import MS_PER_MINUTE
from trackgen_core.settings import Settings

NO_BREAK: Final = 0
BREAK_REASONS: Final = ("", "time_gap", "distance", "implausible_speed", "stay", "midnight", "split")
"""What a code of `break_reasons` and of a seam means; its index is the code."""
TIME_GAP, DISTANCE, IMPLAUSIBLE_SPEED, STAY, MIDNIGHT, SPLIT = range(1, len(BREAK_REASONS))

MM_PER_M: Final = 1_000
LONGEST_LINK_MS: Final = 1440 * MS_PER_MINUTE
"""The longest gap that settings may allow inside a track, and that an edit may close."""

INTERVAL_LINKS: Final = 3
"""Links of which the interval of a device is the median."""
INTERVAL_MS: Final = 150 * MS_PER_MINUTE
"""How far from a point its interval is looked for."""
LONGEST_ADAPTED_MS: Final = 180 * MS_PER_MINUTE
"""No gap is bridged because of the interval that is longer than this: so few points are no recording."""
FLIGHT_MM: Final = 100_000 * MM_PER_M
FLIGHT_KMH: Final = 200
"""Who is found so far away after such a speed has flown, though nothing was recorded."""


def intervals_ms(clock_ms: IntArray, at: IntArray, step: int) -> IntArray:
    """Return how much time a device leaves between points around some of them.

    Parameters
    ----------
    clock_ms : (n,) int array
        Times of all points by the clock of the rules.
    at : (k,) int array
        The points.
    step : int
        -1: the links before each point count; 1: those after it.

    Returns
    -------
    (k,) int array
        The median of the first `INTERVAL_LINKS` links (the larger of two), as far as they end at most `INTERVAL_MS`
        away; 0 where there are none.
    """
    far = np.iinfo(np.int64).max
    links = np.full((INTERVAL_LINKS, len(at)), far)
    for n in range(INTERVAL_LINKS):
        near, outer = at + step * n, at + step * (n + 1)
        there = np.flatnonzero((outer >= 0) & (outer < len(clock_ms)))
        there = there[np.abs(clock_ms[outer[there]] - clock_ms[at[there]]) <= INTERVAL_MS]
        links[n, there] = np.abs(clock_ms[outer[there]] - clock_ms[near[there]])
    known = np.count_nonzero(links < far, axis=0)
    links.sort(axis=0)
    return np.where(known > 0, links[known // 2, np.arange(len(at))], 0)


def break_reasons(
    link_ms: IntArray, link_mm: IntArray, before_ms: IntArray, after_ms: IntArray, settings: Settings
) -> npt.NDArray[np.int8]:
    """Decide between which consecutive points of one device a new track starts.

    Parameters
    ----------
    link_ms, link_mm : (n,) int arrays
        Time and distance between the two points of each pair.
    before_ms, after_ms : (n,) int arrays
        The interval of the device before the first point and after the second one, 0 where unknown.
    settings : Settings
        The rule.

    Returns
    -------
    (n,) int8 array
        `NO_BREAK`, or the index of the reason in `BREAK_REASONS`. A gap outranks a distance.

    Notes
    -----
    Only integers are compared, so the borders are exact: a link of exactly the limit joins.
    """
    reasons = np.zeros(len(link_ms), np.int8)
    if settings.distance_rule != "off":
        far = link_mm > settings.meters_between_routes * MM_PER_M
        if settings.distance_rule == "strict":
            reasons[far] = DISTANCE
        else:
            # mm/ms is m/s and 3.6 km/h: mm / ms * 18 / 5 > limit, without a division.
            far &= link_mm * 18 > link_ms * (5 * settings.max_speed_kmh)
            reasons[far] = IMPLAUSIBLE_SPEED
    long = np.flatnonzero(link_ms > settings.minutes_between_routes * MS_PER_MINUTE)
    if settings.gap_rule == "adaptive" and len(long):
        long = long[~_is_bridged(link_ms[long], link_mm[long], before_ms[long], after_ms[long])]
    reasons[long] = TIME_GAP
    return reasons


def _is_bridged(link_ms: IntArray, link_mm: IntArray, before_ms: IntArray, after_ms: IntArray) -> Mask:
    """Say which long links are none for a device that reports so rarely, or were flown."""
    least, most = np.minimum(before_ms, after_ms), np.maximum(before_ms, after_ms)
    interval_ms = np.where(least > 0, least, most)
    usual = (2 * link_ms <= 5 * interval_ms) & (link_ms <= LONGEST_ADAPTED_MS)
    flown = (link_mm >= FLIGHT_MM) & (link_mm * 18 >= link_ms * (5 * FLIGHT_KMH)) & (link_ms <= LONGEST_LINK_MS)
    bridged: Mask = usual | flown
    return bridged
