"""Legs: the parts of a track that somebody did in one way, and which way that was (`docs/rules.md`, section 6)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

import numpy as np
import pandas as pd

from trackgen_core.geodesy import IntArray, Mask
from trackgen_core.pace import FLYING, HIDDEN, STILL, WALKING
from trackgen_core.points import ACTIVITIES, MS_PER_MINUTE
from trackgen_core.speeds import BANDS

MODES: Final = ("stationary", "walk", "run", "cycle", "drive", "train", "boat", "fly")
STATIONARY, WALK, RUN, CYCLE, DRIVE, TRAIN, BOAT, FLY = range(len(MODES))

PACE_BITS: Final = 3
BY_HAND: Final = 1 << 7
"""What tells the mode of a stretch is a pace, with an activity of its file above `PACE_BITS`; or, from this code on, a
mode that somebody set."""

SOURCES: Final = ("rule", "file", "hand")
RULE, FILE, HAND = range(len(SOURCES))
"""Where a mode is from."""

MODE_OF_TOP: Final = (WALK, WALK, CYCLE, CYCLE, DRIVE, DRIVE, TRAIN, FLY)
"""The mode of a stretch by the band that its speed reaches, before anything else tells it from others."""

TOP_SHARE: Final = 90
"""Percent of the moving time that is not faster than the top speed of a stretch."""
STATIONARY_SHARE: Final = 50
RUN_SHARE: Final = 50
ENGINE_SHARE: Final = 50
"""Percent of all time that even a slow engine changes its speed as no cyclist does."""
CYCLIST_SHARE: Final = 20
"""Percent of all time that a fast cyclist may do so at most."""
CYCLIST_FASTER: Final = 3
"""Percent of the moving time that a fast cyclist may be faster than 10 m/s."""
CYCLIST_STOPS: Final = 15
"""Percent of all time that a fast cyclist may stand."""
TRAIN_STRAIGHT: Final = 955
"""How straight the way of a train is at least, in permille."""
CURVED_STRAIGHT: Final = 840
RAIL_SHARE: Final = 70
"""Or so straight, with so many percent of all time in which it changes its speed, between stops near each other."""
TRAIN_MM_S: Final = 8_000
"""How fast a train is on average at least."""
HIDDEN_MM: Final = 2_000_000
HIDDEN_MM_S: Final = 5_000
"""Who walks, is hidden for some minutes and walks on so far away has taken a train under the ground."""
FLIGHT_MM: Final = 50_000_000
"""No flight is shorter."""
SEA_SHARE: Final = 80
"""Percent of all time that a boat is on the open sea, if nothing else says that it is one."""
BOAT_MS: Final = 30 * MS_PER_MINUTE
BOAT_MM: Final = 10_000_000
"""Less time or way at sea is none: maps of coasts are not exact."""
BOAT_MM_S: Final = 15_000
"""Few boats are faster on average."""
BOAT_UNSTEADY: Final = 20
"""Percent of all time in which boats change their speed fast, at most; cars on a bridge or a coast do more often."""
ABSURD_SHARE: Final = 10
"""Percent of the moving time at speeds that an activity cannot have that contradict what the file says."""

FILE_CONFIDENCE: Final = 90
"""Percent of confidence in what a file says, at least."""

SHORTEST_MS: Final = tuple(minutes * MS_PER_MINUTE for minutes in (10, 3, 3, 3, 2, 3, 10, 5))
"""Shorter legs between two of one mode are none; of each of `MODES`."""
ABOARD_MS: Final = 60 * MS_PER_MINUTE
"""Shorter legs between two on a boat are none: one does not leave it at sea."""
END_MS: Final = MS_PER_MINUTE
"""Shorter legs at the beginning and the end of a track are none."""


class Look(NamedTuple):
    """What a mode looks like from its speeds."""

    bands: tuple[int, ...]
    """Bands that its speeds are in."""
    at_best: int
    """Percent of confidence that speed alone allows: others look the same."""
    fastest: int
    """The last band that is not absurd for it."""
    next_best: tuple[int, ...]
    """What it is taken for by one who does not use it, the likeliest first."""


LOOKS: Final = (
    Look((0,), 95, 1, ()),
    Look((1,), 95, 2, (RUN, CYCLE, DRIVE)),
    Look((2,), 60, 3, (CYCLE, WALK, DRIVE)),
    Look((2, 3, 4), 70, 4, (RUN, DRIVE, WALK)),
    Look((2, 3, 4, 5), 80, 5, (TRAIN, CYCLE, RUN, WALK)),
    Look((3, 4, 5, 6), 70, 6, (DRIVE, CYCLE, RUN, WALK)),
    Look((1, 2, 3, 4, 5), 80, 5, (DRIVE, CYCLE, RUN, WALK)),
    Look((6, 7), 95, 7, (TRAIN, DRIVE)),
)
"""Of each of `MODES`."""

_MOST: Final = max(len(look.next_best) for look in LOOKS)
NEXT_BEST: Final = np.array([(*look.next_best, *[mode] * _MOST)[:_MOST] for mode, look in enumerate(LOOKS)])
"""What each of `MODES` is taken for by one who does not use it, the likeliest first, and at the end by itself."""


class StretchModes(NamedTuple):
    """The modes of n stretches."""

    mode: IntArray
    """Indices into `MODES`."""
    source: IntArray
    """Indices into `SOURCES`."""


def tell_modes(
    told_by: IntArray,
    band_ms: IntArray,
    length_mm: IntArray,
    unsteady_ms: IntArray,
    straight: IntArray,
    sea_ms: IntArray,
    unused: IntArray,
) -> StretchModes:
    """Tell the modes of stretches at one pace.

    Parameters
    ----------
    told_by : (n,) int array
        Indices into `PACES`, with an activity of the file; or `BY_HAND` and an index into `MODES`.
    band_ms : (n, 8) int array
        The time that each stretch spent at the speeds of each band.
    length_mm, unsteady_ms, sea_ms : (n,) int arrays
        Its length, and the time that it changed its speed as engines do, and was on the open sea.
    straight : (n,) int array
        The sum of the times of its links by how straight the way was there, in permille.
    unused : (n,) int array
        Modes that the user does not use, a bit each (`mode_bits`).
    """
    pace, activity = told_by & (1 << PACE_BITS) - 1, np.where(told_by < BY_HAND, told_by >> PACE_BITS, 0)
    all_ms, up_to = band_ms.sum(axis=1), np.cumsum(band_ms[:, 1:], axis=1)
    moving_ms = up_to[:, -1]
    top = 1 + (100 * up_to < TOP_SHARE * moving_ms[:, None]).sum(axis=1)
    mode = np.array(MODE_OF_TOP)[top]
    mode[(top == 2) & (100 * band_ms[:, 2] >= RUN_SHARE * moving_ms)] = RUN
    mode[(top == 3) & (100 * unsteady_ms > ENGINE_SHARE * all_ms)] = DRIVE
    faster_ms = band_ms[:, 5:].sum(axis=1)
    gentle = (100 * unsteady_ms <= CYCLIST_SHARE * all_ms) & (100 * faster_ms <= CYCLIST_FASTER * moving_ms)
    gentle &= 100 * band_ms[:, 0] <= CYCLIST_STOPS * all_ms
    mode[(top == 4) & gentle] = CYCLE
    rails = straight >= TRAIN_STRAIGHT * all_ms
    rails |= (straight >= CURVED_STRAIGHT * all_ms) & (100 * unsteady_ms >= RAIL_SHARE * all_ms)
    rails &= 1_000 * length_mm >= TRAIN_MM_S * all_ms
    mode[(mode == DRIVE) & rails] = TRAIN
    mode[pace == WALKING] = WALK
    hidden = (pace == HIDDEN) & (length_mm >= HIDDEN_MM) & (1_000 * length_mm >= HIDDEN_MM_S * all_ms)
    mode[hidden] = TRAIN
    mode[pace == FLYING] = FLY
    mode[(mode == FLY) & (length_mm < FLIGHT_MM)] = TRAIN
    at_sea = (all_ms >= BOAT_MS) & (length_mm >= BOAT_MM) & (100 * sea_ms >= SEA_SHARE * all_ms)
    at_sea &= 100 * unsteady_ms <= BOAT_UNSTEADY * all_ms
    mode[(mode != FLY) & at_sea & (1_000 * length_mm <= BOAT_MM_S * all_ms)] = BOAT
    mode[(pace == STILL) & (100 * band_ms[:, 0] >= STATIONARY_SHARE * all_ms)] = STATIONARY
    mode = _used(mode, unused)

    of_file = np.array([MODES.index(name) if name else -1 for name in ACTIVITIES])[activity]
    fits = (activity > 0) & ~_is_absurd(of_file, band_ms, moving_ms, all_ms)
    by_hand = told_by >= BY_HAND
    mode = np.where(by_hand, told_by - BY_HAND, np.where(fits, of_file, mode))
    return StretchModes(mode, np.where(by_hand, HAND, np.where(fits, FILE, RULE)))


def _is_absurd(mode: IntArray, band_ms: IntArray, moving_ms: IntArray, all_ms: IntArray) -> Mask:
    """Say which modes cannot have such speeds; those of no activity do not matter."""
    fastest = np.array([look.fastest for look in LOOKS])[mode]
    too_fast_ms = np.where(np.arange(BANDS) > fastest[:, None], band_ms, 0).sum(axis=1)
    still = (mode == STATIONARY) & (2 * moving_ms > all_ms)
    absurd: Mask = still | (100 * too_fast_ms > ABSURD_SHARE * moving_ms)
    return absurd


def mode_bits(modes: Iterable[str]) -> int:
    """Return a set of modes as an integer with a bit for each of `MODES`."""
    return sum(1 << MODES.index(mode) for mode in modes)


def _used(mode: IntArray, unused: IntArray) -> IntArray:
    """Replace modes that a user does not use by what is likeliest then."""
    if not unused.any():
        return mode
    used = mode.copy()
    open_ = unused >> mode & 1 == 1
    for candidates in NEXT_BEST[mode].T:
        fits = open_ & (unused >> candidates & 1 == 0)
        used[fits] = candidates[fits]
        open_ &= ~fits
    return used


def confidence(mode: IntArray, band_ms: IntArray) -> IntArray:
    """Return how sure modes are that were told by speed, in percent.

    Parameters
    ----------
    mode : (n,) int array
        Indices into `MODES`.
    band_ms : (n, 8) int array
        As of `tell_modes`.
    """
    in_bands = np.array([[band in look.bands for band in range(BANDS)] for look in LOOKS])
    like_it = np.where(in_bands[mode], band_ms, 0).sum(axis=1)
    of_ms = np.where(mode == STATIONARY, band_ms.sum(axis=1), band_ms[:, 1:].sum(axis=1))
    percent: IntArray = np.array([look.at_best for look in LOOKS])[mode] * like_it // np.maximum(of_ms, 1)
    return percent


def without_short_legs(mode: list[int], source: list[int], ms: list[int]) -> list[int]:
    """Return the leg that each stretch of a track belongs to, counted from 0.

    Parameters
    ----------
    mode, source, ms : list of int
        Mode, source and time of the stretches, in their order.

    Notes
    -----
    Stretches of one mode and source that follow one another are a leg. Then the shortest leg that is none, the first of
    equals, becomes a part of the one before it (the first leg of the one after it), and so on. What somebody set by
    hand stays.
    """
    legs: list[list[int]] = []  # mode, source, ms, stretches
    for one, where, time in zip(mode, source, ms, strict=True):
        _append(legs, [one, where, time, 1])
    while len(legs) > 1:
        short = [n for n in range(len(legs)) if _is_no_leg(legs, n)]
        if not short:
            break
        n = min(short, key=lambda n: legs[n][2])
        into = legs[n - 1 if n else 1]
        into[2:] = [into[2] + legs[n][2], into[3] + legs[n][3]]
        del legs[n]
        rest, legs = legs, []
        for leg in rest:
            _append(legs, leg)
    return [number for number, leg in enumerate(legs) for _ in range(leg[3])]


def _append(legs: list[list[int]], leg: list[int]) -> None:
    if legs and legs[-1][:2] == leg[:2]:
        legs[-1][2:] = [legs[-1][2] + leg[2], legs[-1][3] + leg[3]]
    else:
        legs.append(list(leg))


def _is_no_leg(legs: list[list[int]], n: int) -> bool:
    mode, source, ms, _ = legs[n]
    around = [legs[k] for k in (n - 1, n + 1) if 0 <= k < len(legs)]
    if source == HAND or all(leg[1] == HAND for leg in around):
        return False
    if len(around) == 1:
        return ms < END_MS
    shortest_ms = ABOARD_MS if around[0][0] == BOAT else SHORTEST_MS[mode]
    return around[0][:2] == around[1][:2] and ms < shortest_ms


def main_modes(legs: pd.DataFrame) -> pd.Series:
    """Return the mode of each chain: the one in which it was for the longest time, if it can be other than stationary.

    Parameters
    ----------
    legs : DataFrame
        Legs in the order of time, with `chain`, `mode` and the `ms` of their links.

    Returns
    -------
    Series
        By `chain`.
    """
    is_still = (legs["mode"] == MODES[STATIONARY]).to_numpy()
    times = pd.DataFrame({"chain": legs["chain"], "mode": legs["mode"], "is_still": is_still, "ms": legs["ms"]})
    times["ms"] = times.groupby(["chain", "mode"])["ms"].transform("sum")
    # The longest first, and of those that took equally long the one that came first.
    ordered = times.sort_values(["chain", "is_still", "ms"], ascending=[True, True, False], kind="stable")
    return ordered.drop_duplicates("chain").set_index("chain")["mode"]
