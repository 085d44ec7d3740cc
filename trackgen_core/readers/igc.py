"""IGC, as flight recorders of gliders write it: a B record is a fix, and HFDTE says the day of the first of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date
from functools import partial
from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from trackgen_core.points import MS_PER_DAY, NO_TIME, day_number
from trackgen_core.readers.columns import NEW_DAY_S, batches, make_frame, parse_numbers, to_texts
from trackgen_core.readers.sources import NoFixes, Source, open_text

MAX_LINE_CHARS: Final = 1 << 12

MS_PER_SECOND: Final = 1000
MINUTES_PER_UNIT: Final = 1 / 1000

_FIX: Final = (
    r"^B(?P<hour>\d\d)(?P<minute>\d\d)(?P<second>\d\d)(?P<lat>\d\d)(?P<lat_minutes>\d{5})(?P<north>[NS])"
    r"(?P<lon>\d{3})(?P<lon_minutes>\d{5})(?P<east>[EW])(?P<validity>[AV])(?P<pressure>[-\d]\d{4})(?P<gnss>[-\d]\d{4})"
)
_DATE: Final = re.compile(r"^H[A-Z]DTE(?:DATE)?:?\s*(\d\d)(\d\d)(\d\d)")
_EXTENSION: Final = re.compile(r"(\d\d)(\d\d)([A-Z]{3})")
_RECOGNISED: Final = re.compile(r"^B\d{13}[NS]\d{8}[EW][AV][-\d]\d{4}[-\d]\d{4}", re.MULTILINE)
_HEAD: Final = re.compile(r"^A[A-Z0-9]{3}[^\n]*\r?\n(?:[^\n]*\n)*?H[A-Z]DTE")


def recognises(text: str) -> bool:
    """Tell whether a text that begins like this has a B record, or the head of a flight."""
    return _RECOGNISED.search(text) is not None or _HEAD.match(text) is not None


def read(source: Source) -> Iterator[pd.DataFrame]:
    """Read the fixes, in batches."""
    flight = _Flight()
    found = False
    with open_text(source) as text:
        lines = iter(partial(text.readline, MAX_LINE_CHARS), "")
        for block in batches(_records(lines, flight)):
            found = True
            yield flight.frame(block)
    if not found:
        raise NoFixes(source.path, "no fixes: it has no B record")
    if flight.days_s is None:
        source.note("no HFDTE record says the date")


def _records(lines: Iterator[str], flight: _Flight) -> Iterator[tuple[str, int]]:
    """Yield the B records, each with the number of the date record that it follows."""
    for line in lines:
        if line.startswith("B"):
            yield line, len(flight.dates) - 1
        elif (found := _DATE.match(line)) is not None:
            flight.add_date(*found.groups())
        elif line.startswith("I"):
            flight.extensions = {
                name: (int(first) - 1, int(last)) for first, last, name in _EXTENSION.findall(line[3:])
            }


class _Flight:
    """What earlier records say about later ones."""

    def __init__(self) -> None:
        self.dates: list[int] = []
        """The days of all date records, counted from 1970-01-01."""
        self.extensions: dict[str, tuple[int, int]] = {}
        self.days_s: int | None = None
        self._last_s = 0
        self._rolls = 0
        self._last_date = -1
        self._has_pressure: bool | None = None

    def add_date(self, day: str, month: str, year: str) -> None:
        century = 1900 if int(year) >= 80 else 2000
        try:
            self.dates.append(day_number(date(century + int(year), int(month), int(day))))
        except ValueError:
            return
        self.days_s = self.dates[-1]

    def frame(self, records: list[tuple[str, int]]) -> pd.DataFrame:
        lines = to_texts([line for line, _ in records])
        parts = pc.extract_regex(lines, _FIX)

        def number(name: str) -> NDArray[np.float64]:
            return parse_numbers(pc.fill_null(pc.struct_field(parts, name), ""))

        def is_side(name: str, side: str) -> NDArray[np.bool_]:
            found: NDArray[np.bool_] = pc.fill_null(pc.equal(pc.struct_field(parts, name), side), False).to_numpy(
                zero_copy_only=False
            )
            return found

        lat = number("lat") + number("lat_minutes") * MINUTES_PER_UNIT / 60
        lon = number("lon") + number("lon_minutes") * MINUTES_PER_UNIT / 60
        pressure = number("pressure")
        gnss = np.where(is_side("validity", "A"), number("gnss"), np.nan)
        if self._has_pressure is None:
            # A recorder without a barometer writes zeros. That of the others is the better altitude, but for its level.
            self._has_pressure = bool(np.nan_to_num(pressure).any())
        time_s = (number("hour") * 60 + number("minute")) * 60 + number("second")
        return make_frame(
            self._times(time_s, np.array([place for _, place in records])),
            np.where(is_side("east", "W"), -lon, lon),
            np.where(is_side("north", "S"), -lat, lat),
            altitude=pressure if self._has_pressure else gnss,
            accuracy=self._extension(lines, "FXA"),
        )

    def _times(self, time_s: NDArray[np.float64], places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return instants of times of day; each date record begins a day, and midnight another."""
        readable = np.isfinite(time_s) & (places >= 0) & (time_s < MS_PER_DAY / MS_PER_SECOND)
        times = np.full(len(time_s), NO_TIME, np.int64)
        of_day, of_date = time_s[readable].astype(np.int64), places[readable]
        if not len(of_day):
            return times
        before = np.concatenate([[self._last_s], of_day[:-1]])
        is_new_date = np.diff(of_date, prepend=self._last_date) != 0
        is_roll = (before - of_day > NEW_DAY_S) & ~is_new_date
        total = np.cumsum(is_roll) + self._rolls
        # Rolls before a date record are none of its business.
        starts = np.maximum.accumulate(np.where(is_new_date, total, 0))
        base = np.where(np.cumsum(is_new_date) > 0, starts, 0)
        days = np.array(self.dates)[of_date] + total - base
        times[readable] = days * MS_PER_DAY + of_day * MS_PER_SECOND
        self._last_s, self._last_date = int(of_day[-1]), int(of_date[-1])
        self._rolls = int(total[-1] - base[-1])
        return times

    def _extension(self, lines: pa.StringArray, name: str) -> NDArray[np.float64] | None:
        if name not in self.extensions:
            return None
        first, last = self.extensions[name]
        return parse_numbers(pc.utf8_slice_codeunits(lines, first, stop=last))
