"""Clocks that jump inside a file: set back by an hour, or 1,024 weeks behind.

Only the order of a file shows it, so this is decided where files are read. Once points are sorted by time, an hour that
came twice is a zigzag between two places, and a walk of this year is one of twenty years ago.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from trackgen_core.geodesy import GEOD
from trackgen_core.points import MS_PER_DAY, MS_PER_MINUTE, NO_TIME, REFUSED, iso_time
from trackgen_core.words import counted

MS_PER_WEEK: Final = 7 * MS_PER_DAY
ROLLOVER_MS: Final = 1024 * MS_PER_WEEK
"""GPS counts weeks with ten bits. A receiver that does not know which 1,024 weeks these are is so much behind."""

FIRST_ROLLOVER_MS: Final = 1_554_595_200_000
"""2019-04-07, the last time that the counter began anew: no receiver in use was behind before."""

HALF_HOUR_MS: Final = 30 * MS_PER_MINUTE
MOST_HALF_HOURS: Final = 6
"""Clocks are set back by so many half hours at most. Files that are out of order jump by more, and by anything."""

MOST_BETWEEN_MS: Final = 5 * MS_PER_MINUTE
LEAST_BETWEEN_MS: Final = 2000
"""Time has passed between the two rows where a clock is set back: up to twice as much as between the two before, and
2 s; 5 minutes at most. The step back is shorter by that."""

NEAR_M: Final = 100.0
"""From one row to the next, a device moves at most so far, or three times as far as from the row before."""


class _Last(NamedTuple):
    """What is known of a device at the end of a batch."""

    rows: NDArray[np.void]
    """The last two rows: time as the file has it, longitude, latitude."""
    since_ms: int
    """When the times that ascend to the last row begin."""
    until_ms: int
    """Rows up to here come a second time."""
    hours: float
    """The clock was set back by so much."""
    is_behind: bool
    """Whether the receiver is 1,024 weeks behind."""


_ROW: Final = np.dtype([("time_ms", "int64"), ("lon", "float64"), ("lat", "float64")])
_NOTHING: Final = _Last(np.empty(0, _ROW), NO_TIME, NO_TIME, 0.0, False)


class ClockWatch:
    """Finds jumps of the clock in the rows of a file, batch after batch, for each device alone.

    Parameters
    ----------
    add_weeks : int
        All times are that much later than the file says.
    """

    def __init__(self, add_weeks: int = 0) -> None:
        self._added_ms = add_weeks * MS_PER_WEEK
        self._last: dict[Any, _Last] = {}
        self._corrected = 0
        self._latest_ms = NO_TIME

    def watch(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Put right what is 1,024 weeks behind, and refuse what comes a second time because a clock was set back.

        Parameters
        ----------
        rows : DataFrame
            n rows of a file in its order, with `user`, `device`, `time_ms`, `lon` and `lat` as a reader delivers them.

        Returns
        -------
        DataFrame
            n rows. Those that come a second time are `REFUSED`, and the next one begins after a pause.

        Notes
        -----
        A clock was set back if time goes back by 30 minutes or a multiple of it, up to 3 hours, while the device goes
        on from where it was, into a time that the file has already. Rows are refused until this time is over. A
        receiver is behind if time goes back by 1,024 weeks while the device goes on, until it leaps ahead by as much.
        """
        before_ms = rows["time_ms"].to_numpy("int64")
        found = np.empty(len(rows), _ROW)
        for name in ("time_ms", "lon", "lat"):
            found[name] = rows[name]
        found["time_ms"][before_ms != NO_TIME] += self._added_ms
        hours, resumes = np.zeros(len(rows)), np.zeros(len(rows), bool)
        readable = np.flatnonzero((before_ms != NO_TIME) & np.isfinite(found["lon"]) & np.isfinite(found["lat"]))
        for owner, places in rows.iloc[readable].groupby(["user", "device"], sort=False).indices.items():
            at = readable[places]
            last = self._last.get(owner, _NOTHING)
            found["time_ms"][at], hours[at], self._last[owner] = _watch_device(last, found[at])
            was_back = np.append(last.until_ms != NO_TIME, hours[at[:-1]] > 0)
            resumes[at] = was_back & (hours[at] == 0)
        self._latest_ms = max(self._latest_ms, int(found["time_ms"][readable].max(initial=NO_TIME)))
        changed = found["time_ms"] != before_ms
        if changed.any():
            rows = rows.assign(time_ms=found["time_ms"])
            self._corrected += int(np.count_nonzero(found["time_ms"] - before_ms > self._added_ms))
        again = hours > 0
        if not (again.any() or resumes.any()):
            return rows
        reasons = rows[REFUSED].to_numpy(object) if REFUSED in rows else np.full(len(rows), "", object)
        reasons[again] = [f"a time that came before: the clock was set back by {value:g} h" for value in hours[again]]
        pause = rows["pause"].to_numpy() if "pause" in rows else 0
        return rows.assign(**{REFUSED: reasons, "pause": np.maximum(pause, resumes)})

    def note(self, now_ms: int) -> str | None:
        """Return what the user has to know of the clock of the file, once all its rows were watched."""
        if self._corrected:
            rows = counted(self._corrected, "row")
            return f"{rows} 1,024 weeks behind those before: the receiver's week number rolled over; this was put right"
        would_be_ms = self._latest_ms + ROLLOVER_MS
        if self._added_ms or not FIRST_ROLLOVER_MS <= would_be_ms <= now_ms:
            return None
        old, new = (iso_time(time_ms)[:10] for time_ms in (self._latest_ms, would_be_ms))
        return (
            f"it ends on {old}; if it was recorded until {new}, the receiver's week number rolled over: "
            "import it with --add-weeks 1024"
        )


def _watch_device(last: _Last, rows: NDArray[np.void]) -> tuple[NDArray[np.int64], NDArray[np.float64], _Last]:
    """Return the right times of n rows, by how many hours the clock was set back (0: it is right), and the new end."""
    known, rows = len(last.rows), np.append(last.rows, rows)

    # A receiver is behind, or not, since the last leap by 1,024 weeks.
    step_ms = np.diff(rows["time_ms"], prepend=rows["time_ms"][0])
    is_leap = np.abs(np.abs(step_ms) - ROLLOVER_MS) <= MS_PER_DAY
    is_leap[:known] = False
    leaps = [row for row in np.flatnonzero(is_leap).tolist() if step_ms[row] > 0 or _goes_on(rows, row)]
    is_behind = np.full(len(rows), last.is_behind)
    for row in leaps:
        is_behind[row:] = step_ms[row] < 0
    time_ms = rows["time_ms"] + ROLLOVER_MS * is_behind

    step_ms = np.diff(time_ms, prepend=time_ms[0])
    number = np.arange(len(rows))
    is_fall = (step_ms < 0) & (number >= known)
    first = np.maximum.accumulate(np.where(is_fall, number, 0))  # where the ascending times of each row begin
    since_ms = np.where(first == 0, time_ms[0] if last.since_ms == NO_TIME else last.since_ms, time_ms[first])
    half_hours = -(step_ms // HALF_HOUR_MS)
    between_ms = step_ms + half_hours * HALF_HOUR_MS
    allowed_ms = np.minimum(MOST_BETWEEN_MS, 2 * np.abs(np.roll(step_ms, 1)) + LEAST_BETWEEN_MS)
    is_back = is_fall & (half_hours <= MOST_HALF_HOURS) & (between_ms <= allowed_ms) & (time_ms >= np.roll(since_ms, 1))

    hours = np.zeros(len(rows))
    until_ms = last.until_ms
    _fill(hours, last.hours, known, time_ms, until_ms)
    for row in np.flatnonzero(is_back).tolist():
        if _goes_on(rows, row):
            until_ms = max(until_ms, int(time_ms[row - 1])) if hours[row - 1] else int(time_ms[row - 1])
            _fill(hours, half_hours[row] / 2, row, time_ms, until_ms)
    end = _Last(rows[-2:], int(since_ms[-1]), until_ms if hours[-1] else NO_TIME, float(hours[-1]), bool(is_behind[-1]))
    return time_ms[known:], hours[known:], end


def _fill(hours: NDArray[np.float64], value: float, row: int, time_ms: NDArray[np.int64], until_ms: int) -> None:
    """Write a value into rows from one on, until their time is later."""
    is_later = time_ms[row:] > until_ms
    hours[row : row + int(is_later.argmax()) if is_later.any() else None] = value


def _goes_on(rows: NDArray[np.void], row: int) -> bool:
    """Whether a row is where the device may be, after the two rows before it."""
    some = rows[max(row - 2, 0) : row + 1]
    lengths = GEOD.line_lengths(some["lon"], some["lat"])
    return bool(lengths[-1] <= max(NEAR_M, 3 * lengths[:-1].sum()))
