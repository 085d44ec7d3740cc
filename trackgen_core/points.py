"""Points: what a fix is, as columns, and which fixes are refused.

A frame of points has the columns of `POINT_DTYPES`, whichever reader made it. Readers deliver what the file
says; `validate` decides what is kept, so that every format is judged by the same rules.
"""

from __future__ import annotations

import os
from collections import Counter
from datetime import UTC, date, datetime
from typing import Final, NamedTuple

import numpy as np
import pandas as pd

MS_PER_MINUTE: Final = 60_000
MS_PER_DAY: Final = 86_400_000
EPOCH: Final = date(1970, 1, 1)
MAX_FUTURE_MS: Final = MS_PER_DAY
"""Clocks of devices run ahead; a fix more than this many ms in the future is a broken clock."""

NO_TIME: Final = np.iinfo(np.int64).min
"""What a reader writes into `time_ms` where the file has no readable time."""

MAX_ALTITUDE_M: Final = 1_000_000.0
"""Beyond low Earth orbit an altitude is no measurement (and would overflow centimetres)."""

POINT_DTYPES: Final = {
    "user": "str",
    "device": "str",
    "time_ms": "int64",
    "lon": "float64",
    "lat": "float64",
    "altitude": "float64",
    "accuracy": "float64",
    "speed": "float64",
}
"""Columns of a frame of points: time in ms since the epoch (UTC), degrees (WGS84), altitude and accuracy in m,
speed in m/s; NaN where unknown."""

REFUSED: Final = "refused"
"""A further column, if a reader has found positions that are no fixes: why, '' for all other rows."""


def start_day() -> date:
    """Return the first day that may hold points: `TRACKGEN_START_DATE`, by default 2000-01-01.

    Raises
    ------
    ValueError
        If the variable is set to something that is no ISO date, or to a day before 1970.
    """
    text = os.environ.get("TRACKGEN_START_DATE") or "2000-01-01"
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise ValueError(f"TRACKGEN_START_DATE={text!r} is no date: write it as YYYY-MM-DD") from None
    if day < EPOCH:
        raise ValueError(f"TRACKGEN_START_DATE={text} lies before 1970-01-01, where days are counted from")
    return day


def now_ms() -> int:
    """Return the present instant in ms since the epoch."""
    return int(datetime.now(UTC).timestamp() * 1000)


def day_number(day: date) -> int:
    """Return the days between 1970-01-01 and `day`."""
    return day.toordinal() - EPOCH.toordinal()


def day_date(day: int) -> date:
    """Return the date that is `day` days after 1970-01-01."""
    return date.fromordinal(EPOCH.toordinal() + day)


def iso_time(time_ms: int) -> str:
    """Return an instant as ISO 8601 in UTC with milliseconds."""
    return f"{np.datetime_as_string(np.datetime64(int(time_ms), 'ms'), unit='ms')}Z"


class Validated(NamedTuple):
    """What `validate` made of a frame."""

    points: pd.DataFrame
    """The rows that are kept, with the columns and dtypes of `POINT_DTYPES`."""
    rejected: Counter[str]
    """Rows refused, by reason."""
    ignored: Counter[str]
    """Values of kept rows that were no measurement and became unknown, by column."""


def validate(rows: pd.DataFrame, *, now: int | None = None) -> Validated:
    """Keep the rows that are fixes, and count the others by reason.

    Parameters
    ----------
    rows : DataFrame
        n rows as a reader delivers them: `time_ms` (`NO_TIME` where unreadable), `lon` and `lat` (NaN where
        unreadable); `user`, `device`, `altitude`, `accuracy` and `speed` may hold missing values. They may have a
        column `REFUSED`.
    now : int, optional
        The present instant in ms; by default the clock.

    Returns
    -------
    Validated
        The kept points, the rejected rows by reason (a row counts once, under the first reason that applies)
        and the ignored values by column.

    Notes
    -----
    An accuracy or speed below zero means "unknown" on many devices, as does an infinite value; the fix itself
    is good, so only the value is dropped.
    """
    time = rows["time_ms"].to_numpy("int64")
    lon, lat = rows["lon"].to_numpy("float64"), rows["lat"].to_numpy("float64")
    first = day_number(start_day()) * MS_PER_DAY
    last = (now_ms() if now is None else now) + MAX_FUTURE_MS
    faults = {
        "no readable time": time == NO_TIME,
        "no readable position": ~(np.isfinite(lon) & np.isfinite(lat)),
        "latitude outside -90..90": np.abs(lat) > 90,
        "longitude outside -180..180": np.abs(lon) > 180,
        "position exactly 0, 0": (lon == 0) & (lat == 0),
        f"before {start_day()}": time < first,
        "more than 24 h in the future": time > last,
    }
    rejected: Counter[str] = Counter()
    keep = np.ones(len(rows), bool)
    if REFUSED in rows:
        keep = rows[REFUSED].to_numpy() == ""
        rejected.update(rows.loc[~keep, REFUSED])
    for reason, fault in faults.items():
        if count := int(np.count_nonzero(keep & fault)):
            rejected[reason] = count
            keep &= ~fault

    points = rows.loc[keep, list(POINT_DTYPES)].reset_index(drop=True)
    for column in ("user", "device"):
        points[column] = points[column].fillna("").astype("str")
    for column in ("lon", "lat"):
        points[column] = points[column].to_numpy("float64") + 0.0  # -0.0 and 0.0 are one place
    ignored: Counter[str] = Counter()
    for column, lowest in (("altitude", -MAX_ALTITUDE_M), ("accuracy", 0.0), ("speed", 0.0)):
        values = points[column].to_numpy("float64")
        with np.errstate(invalid="ignore"):
            unknown = ~((values >= lowest) & (values <= MAX_ALTITUDE_M))
        if column == "accuracy":
            unknown |= values == 0  # Traccar and Home Assistant mean by it that they do not know
        if count := int(np.count_nonzero(unknown & ~np.isnan(values))):
            ignored[column] = count
        points[column] = np.where(unknown, np.nan, values + 0.0)
    return Validated(points.astype(POINT_DTYPES), rejected, ignored)
