"""Legs: the parts of a track that somebody did in one way, and which way that was (`docs/rules.md`, section 6)."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import pandas as pd

from trackgen_core.geodesy import IntArray
from trackgen_core.pace import BANDS, PACES, STILL, WALKING
from trackgen_core.points import MS_PER_MINUTE

MODES: Final = ("stationary", "walk", "run", "cycle", "drive", "train", "boat", "fly")
STATIONARY, WALK, RUN, CYCLE, DRIVE, TRAIN, BOAT, FLY = range(len(MODES))

BY_HAND: Final = len(PACES)
"""What a stretch is told by is a pace, or, from this code on, a mode that somebody set."""

MODE_OF_TOP: Final = (WALK, WALK, CYCLE, CYCLE, DRIVE, DRIVE, TRAIN, FLY)
"""The mode of a stretch by the band that its speed reaches, before a run and a boat are told from it."""

TOP_SHARE: Final = 90
"""Percent of the moving time that is not faster than the top speed of a leg."""
STATIONARY_SHARE: Final = 50
RUN_SHARE: Final = 70
BOAT_SHARE: Final = 95
"""Percent of all time that a boat goes at an even speed."""
BOAT_MS: Final = 30 * MS_PER_MINUTE
"""As long nothing on a road goes at an even speed."""


class Look(NamedTuple):
    """What a mode looks like from its speeds."""

    bands: tuple[int, ...]
    """Bands that its speeds are in."""
    at_best: int
    """Percent of confidence that speed alone allows: others look the same."""


LOOKS: Final = (
    Look((0,), 95),
    Look((1,), 95),
    Look((2,), 60),
    Look((2, 3), 70),
    Look((2, 3, 4, 5), 80),
    Look((5, 6), 80),
    Look((3, 4), 50),
    Look((6, 7), 95),
)
"""Of each of `MODES`."""


def tell_modes(told_by: IntArray, band_ms: IntArray) -> IntArray:
    """Tell the modes of stretches at one pace.

    Parameters
    ----------
    told_by : (n,) int array
        Indices into `PACES`; or `BY_HAND` and an index into `MODES`.
    band_ms : (n, 8) int array
        The time that each stretch spent at the speeds of each band.

    Returns
    -------
    (n,) int array
        Indices into `MODES`.
    """
    all_ms, up_to = band_ms.sum(axis=1), np.cumsum(band_ms[:, 1:], axis=1)
    moving_ms = up_to[:, -1]
    top = 1 + (100 * up_to < TOP_SHARE * moving_ms[:, None]).sum(axis=1)
    mode = np.array(MODE_OF_TOP)[top]
    mode[(top == 2) & (100 * band_ms[:, 2] >= RUN_SHARE * moving_ms)] = RUN
    even_ms = band_ms[:, 3] + band_ms[:, 4]
    mode[(top == 4) & (all_ms >= BOAT_MS) & (100 * even_ms >= BOAT_SHARE * all_ms)] = BOAT
    mode[told_by == WALKING] = WALK
    mode[(told_by == STILL) & (100 * band_ms[:, 0] >= STATIONARY_SHARE * all_ms)] = STATIONARY
    return np.where(told_by >= BY_HAND, told_by - BY_HAND, mode)


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


def main_modes(legs: pd.DataFrame) -> pd.Series:
    """Return the mode of each chain: the one in which it was for the longest time, if it can be other than stationary.

    Parameters
    ----------
    legs : DataFrame
        Legs in the order of time, with `chain`, `mode`, `started_ms` and `ended_ms`.

    Returns
    -------
    Series
        By `chain`.
    """
    is_still = (legs["mode"] == MODES[STATIONARY]).to_numpy()
    times = pd.DataFrame({"chain": legs["chain"], "mode": legs["mode"], "is_still": is_still})
    times["ms"] = legs["ended_ms"] - legs["started_ms"]
    times["ms"] = times.groupby(["chain", "mode"])["ms"].transform("sum")
    # The longest first, and of those that took equally long the one that came first.
    ordered = times.sort_values(["chain", "is_still", "ms"], ascending=[True, True, False], kind="stable")
    return ordered.drop_duplicates("chain").set_index("chain")["mode"]
