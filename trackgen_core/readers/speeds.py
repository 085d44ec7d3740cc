"""Speeds of columns that do not say their unit, compared with distance over time."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from trackgen_core.readers.columns import SPEED_UNITS
from trackgen_core.readers.sources import Source

EARTH_RADIUS_M: Final = 6_371_000
"""A sphere will do: a unit is told by a factor, not by a percentage."""

MAX_LINK_MS: Final = 30_000
MIN_LINK_M: Final = 5.0
"""Links that last longer may have a bend, and shorter ones may be an error of the position."""

UNIT_TOLERANCE: Final = 0.1
FACTOR_TOLERANCE: Final = 0.2
MOST: Final = 0.5
"""More than this share of the links must agree on a factor."""

MIN_LINKS: Final = 10
"""Fewer links do not tell a factor of two or so from chance."""

USUAL: Final = (0.5, 2.0)

UNITS: Final = {"km/h": SPEED_UNITS["kmh"], "mph": SPEED_UNITS["mph"], "knots": SPEED_UNITS["knots"]}


class SpeedCheck:
    """Compares the speeds of a file with distance over time, and sets them aside if they are in another unit than m/s.

    The first rows that tell decide for the file.

    Parameters
    ----------
    source : Source
        Where the note goes.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._is_decided = self._is_aside = False

    def checked(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return a frame of points whose speeds may have become unknown."""
        if not self._is_decided:
            self._decide(speed_ratios(frame))
        return frame.assign(speed=np.nan) if self._is_aside else frame

    def _decide(self, ratios: NDArray[np.float64]) -> None:
        if not len(ratios):
            return
        self._is_decided = True
        for unit, factor in UNITS.items():
            enough = len(ratios) >= MIN_LINKS or unit == "km/h"
            if enough and np.mean(np.abs(ratios / factor - 1) < UNIT_TOLERANCE) > MOST:
                self._is_aside = True
                name = f"speed_{unit.replace('/', '')}"
                self._source.note(
                    f"most of its speeds are {factor:.1f} times distance over time, as if they were in {unit}: "
                    f"speeds were set aside; to keep them, name the column {name}"
                )
                return
        factor = float(np.median(ratios))
        agree = np.mean(np.abs(ratios / factor - 1) < FACTOR_TOLERANCE) > MOST
        if len(ratios) >= MIN_LINKS and not USUAL[0] < factor < USUAL[1] and agree:
            self._source.note(f"most of its speeds are {factor:.1f} times distance over time; they were kept as m/s")


def speed_ratios(frame: pd.DataFrame) -> NDArray[np.float64]:
    """Return how many times distance over time the speed is, of the links between neighbouring rows that tell."""
    owner = frame[["user", "device"]]
    same = (owner.iloc[1:].to_numpy() == owner.iloc[:-1].to_numpy()).all(axis=1)
    lon, lat = (np.radians(frame[name].to_numpy("float64")) for name in ("lon", "lat"))
    speed, time_ms = frame["speed"].to_numpy("float64"), frame["time_ms"].to_numpy("int64")
    with np.errstate(invalid="ignore", over="ignore"):
        east, north = np.diff(lon) * np.cos(lat[1:]), np.diff(lat)
        length_m = EARTH_RADIUS_M * np.hypot(east, north)
        link_ms = np.diff(time_ms)
        mean = (speed[1:] + speed[:-1]) / 2
        is_compared = same & (link_ms > 0) & (link_ms <= MAX_LINK_MS) & (length_m >= MIN_LINK_M) & (mean > 0)
        ratios: NDArray[np.float64] = mean[is_compared] / (length_m[is_compared] / (link_ms[is_compared] / 1000))
    return ratios[np.isfinite(ratios)]
