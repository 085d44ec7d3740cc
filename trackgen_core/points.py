"""Points: what a fix is, as columns, and which fixes are refused.

A frame of points has the columns of `POINT_DTYPES`, whichever reader made it. Readers deliver what the file
says; `validate` decides what is kept, so that every format is judged by the same rules.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

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
    "seq": "int64",
    "pause": "int64",
    "activity": "int64",
}
"""Columns of a frame of points: time in ms since the epoch (UTC), degrees (WGS84), altitude and accuracy in m,
speed in m/s; NaN where unknown. Then what their file says of them: their position among points of one time stamp,
whether the recording was stopped on purpose before (1) or not (0), and a code, a place in `ACTIVITIES`."""

FILE_FACTS: Final = ("seq", "pause", "activity")
"""Columns that may be missing in the frame of a reader: they are 0 where the file says nothing."""

MAX_SEQ: Final = 32_767
"""Points of one time stamp beyond so many are not counted on: the database keeps 16 bits."""

ACTIVITIES: Final = ("", "stationary", "walk", "run", "cycle", "drive", "train", "boat", "fly")
"""How somebody moved, by code; the first one is unknown."""

_WORDS: Final = {
    "stationary": "stationary still",
    "walk": "walk walking foot hike hiking trekking mountaineering snowshoe snowshoeing",
    "run": "run running jogging",
    "cycle": "cycle cycling bike biking bicycle bicycling ride ebike ebiking handcycle",
    "drive": "drive driving car bus taxi vehicle automotive motorcycle motorcycling motorbike",
    "train": "train rail railway subway metro tram",
    "boat": "boat boating ferry sail sailing row rowing kayak kayaking canoe canoeing paddling",
    "fly": "fly flying flight airplane plane aircraft",
    "": "exiting",  # a vehicle
}
"""Words for each activity in the files of other programs."""

_CODES: Final = {word: ACTIVITIES.index(activity) for activity, words in _WORDS.items() for word in words.split()}

_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")

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


@lru_cache(maxsize=1024)
def activity_code(text: str) -> int:
    """Return the code of an activity that a program names in its own way, 0 where it is none of `ACTIVITIES`.

    The first word that is known counts.

    Examples
    --------
    >>> [ACTIVITIES[activity_code(text)] for text in ("cycling_road", "IN_RAIL_VEHICLE", "EBikeRide", "yoga")]
    ['cycle', 'train', 'cycle', '']
    """
    words = (word.lower() for word in _WORD.findall(text))
    return next((_CODES[word] for word in words if word in _CODES), 0)


class TieCounter:
    """Counts points that share a device and a time stamp in the order of their file, batch after batch."""

    def __init__(self) -> None:
        self._last: dict[tuple[str, str], tuple[int, int]] = {}

    def count(self, points: pd.DataFrame) -> pd.DataFrame:
        """Return valid points with `seq`: how many points of the same device and time stand directly before each.

        Points of other devices between them do not matter. Positions from `MAX_SEQ` on are one.
        """
        if points.empty:
            return points
        names = points[["user", "device"]].to_numpy()
        owner = points.groupby(["user", "device"], sort=False).ngroup().to_numpy("int64")
        order = np.argsort(owner, kind="stable")
        owner, time_ms = owner[order], points["time_ms"].to_numpy()[order]
        seq = tie_places(owner, time_ms)
        starts = np.flatnonzero(np.append(True, np.diff(owner) != 0))
        ends = np.append(starts[1:], len(owner))
        for name, start, end in zip(map(tuple, names[order[starts]]), starts.tolist(), ends.tolist(), strict=True):
            last_ms, count = self._last.get(name, (None, 0))
            if last_ms == time_ms[start]:
                tied = np.minimum.accumulate(time_ms[start:end] == last_ms)
                seq[start:end][tied] += count
            self._last[name] = int(time_ms[end - 1]), int(seq[end - 1]) + 1
        counted = np.empty(len(points), np.int64)
        counted[order] = np.minimum(seq, MAX_SEQ)
        return points.assign(seq=counted)


def tie_places(owner: NDArray[np.integer[Any]], time_ms: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many points of the same owner and time stand directly before each of n points."""
    place = np.arange(len(time_ms))
    is_first = np.append(True, (np.diff(owner) != 0) | (np.diff(time_ms) != 0))[: len(time_ms)]
    places: NDArray[np.int64] = place - np.maximum.accumulate(np.where(is_first, place, 0))
    return places


def completed(points: pd.DataFrame) -> pd.DataFrame:
    """Return points with the columns and dtypes of `POINT_DTYPES`: a missing one of `FILE_FACTS` is 0."""
    missing = dict.fromkeys((name for name in FILE_FACTS if name not in points), 0)
    return points.assign(**missing)[list(POINT_DTYPES)].astype(POINT_DTYPES)


def in_order(points: pd.DataFrame) -> pd.DataFrame:
    """Return points that are sorted by device, time, lon and lat in the order of device, time, seq, lon and lat."""
    device_id, time_ms, seq = (points[name].to_numpy() for name in ("device_id", "time_ms", "seq"))
    tied = (time_ms[1:] == time_ms[:-1]) & (device_id[1:] == device_id[:-1])
    if not (tied & (seq[1:] < seq[:-1])).any():
        return points
    return points.iloc[np.lexsort((seq, time_ms, device_id))].reset_index(drop=True)


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
        column `REFUSED`, and those of `FILE_FACTS`.
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

    A refused point passes its pause on to the next kept one of its device in the frame.
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

    if "pause" in rows and (rows["pause"].to_numpy() * ~keep).any():
        rows = rows.assign(pause=_passed_on(rows, keep))
    points = rows[keep].reset_index(drop=True)
    for column in ("user", "device"):
        points[column] = points[column].fillna("").astype("str")
    for column in ("lon", "lat"):
        points[column] = points[column].to_numpy("float64") + 0.0  # -0.0 and 0.0 are one place
    ignored: Counter[str] = Counter()
    for column, lowest in (("altitude", -MAX_ALTITUDE_M), ("accuracy", 0.0), ("speed", 0.0)):
        values = points[column].to_numpy("float64")
        with np.errstate(invalid="ignore"):
            unknown = ~((values >= lowest) & (values <= MAX_ALTITUDE_M))
        if count := int(np.count_nonzero(unknown & ~np.isnan(values))):
            ignored[column] = count
        points[column] = np.where(unknown, np.nan, values + 0.0)
    return Validated(completed(points), rejected, ignored)


def _passed_on(rows: pd.DataFrame, keep: NDArray[np.bool_]) -> pd.Series:
    """Return the pauses of rows, where those of rows that are not kept count for the next kept row of the device."""
    owners = [rows["user"].fillna("").to_numpy(), rows["device"].fillna("").to_numpy()]
    passed = rows["pause"].groupby(owners).cumsum()
    before = passed.where(keep).groupby(owners).ffill().groupby(owners).shift().fillna(0)
    return (passed > before).astype("int64")
