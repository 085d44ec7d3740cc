"""Tables: what the columns of a CSV file mean together: a date and a time of day, a number and its side, a unit.

Whatever a column says about its unit (`speed_kmh`, `latitudeE7`, `20.0 km/h`) is obeyed. Programs whose columns do not
say theirs are known by their headers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from trackgen_core.points import NO_TIME, REFUSED
from trackgen_core.readers.columns import (
    SPEED_UNITS,
    UNITS,
    find_columns,
    make_frame,
    parse_numbers,
    parse_times,
    plain_name,
    to_activities,
    to_pauses,
    units_per_ours,
)
from trackgen_core.readers.sources import Source
from trackgen_core.readers.speeds import SpeedCheck

Cells = Callable[[int], pa.StringArray]
"""The texts in a column of some rows, without surrounding blanks."""

INVALID: Final = "marked as invalid by the tracker"

DATES: Final = ("utcdate", "dateutc", "gpsdate", "date")
CLOCKS: Final = ("utctime", "timeutc", "gpstime", "time")
MILLISECONDS: Final = ("ms", "milliseconds", "millisecond", "msec")
SIDES: Final = {
    "lat": ("ns", "northsouth", "nsindicator", "latdir", "latref", "lathemisphere", "latitudens"),
    "lon": ("ew", "eastwest", "ewindicator", "londir", "lonref", "lonhemisphere", "longitudeew"),
}
VALID: Final = ("valid", "isvalid", "fixvalid", "gpsvalid")
NOT_VALID: Final = ("false", "0", "no", "f", "n", "v", "no fix", "nofix", "invalid", "void")

NO_ACCURACY: Final = 0.0
"""What Traccar writes where a tracker does not say how accurate it is."""

TRACCAR: Final = {"deviceid", "protocol", "servertime", "devicetime", "fixtime", "valid"}
GEOPULSE: Final = {"velocity", "deviceid", "sourcetype"}
COLUMBUS: Final = {"index", "tag", "latitudens", "longitudeew"}
SPEED_UNIT_OF: Final = ((TRACCAR, "knots"), (GEOPULSE, "kmh"), (COLUMBUS, "kmh"))
"""The unit of speeds in tables that have these columns."""

E7_LAT: Final = 90e6
"""A latitude beyond this is in 1e-7 degrees: in 1e-6 degrees, it would lie beyond the pole."""

ZONES_LOOKED_AT: Final = 1000
"""So many times of each batch tell whether they say their zone."""

UTC_ASSUMED: Final = "its times do not say their zone: they were taken as UTC"
AMBIGUOUS: Final = "dates such as 05/01/2024 do not say whether the day or the month is first: write 2024-05-01"

_SIDED: Final = r"^(?P<before>[NSEWnsew]?)\s*(?P<number>[-+]?\d+(?:\.\d+)?)\s*°?\s*(?P<behind>[NSEWnsew]?)$"
_MEASURE: Final = r"^(?P<number>[-+]?\d+(?:\.\d+)?)\s*(?P<unit>[A-Za-z]+(?:/[A-Za-z]+)?)$"
_CLOCK_ALONE: Final = r"^\d{1,6}(?:\.\d*)?$"
_ZONE: Final = r"(?:[Zz]|UTC|GMT|\d\s*[+-]\d\d:?\d?\d?)$"
_NUMBER_ALONE: Final = r"^[-+.\d]*$"
_FORMULA: Final = r"^'('*[=+\-@])"
"""A text that a spreadsheet would take for a formula, as `export` writes it."""


class Table:
    """The columns of a table, and how rows of it become fixes.

    Parameters
    ----------
    names : sequence of str
        The names of its columns.
    source : Source
        Where notes go.
    decimal_comma : bool
        Whether numbers may be written with a comma.
    """

    def __init__(self, names: Sequence[str], source: Source, decimal_comma: bool) -> None:
        plain = [plain_name(name) for name in names]

        def first(wanted: Sequence[str]) -> int | None:
            return next((plain.index(name) for name in wanted if name in plain), None)

        self.columns = find_columns(tuple(names))
        self._units = {quantity: units_per_ours(quantity, names[place]) for quantity, place in self.columns.items()}
        known = next((unit for wanted, unit in SPEED_UNIT_OF if wanted <= set(plain)), None)
        if "speed" in self.columns and self._units["speed"] is None and known:
            self._units["speed"] = SPEED_UNITS[known]
        self._speeds = SpeedCheck(source) if "speed" in self.columns and self._units["speed"] is None else None
        self._is_traccar = set(plain) >= TRACCAR
        self._is_columbus = set(plain) >= COLUMBUS
        date, clock = first(DATES), first(CLOCKS)
        self._date_and_clock: tuple[int, int] | None = None
        if date is not None and clock is not None and self.columns.get("time") in (date, clock):
            self._date_and_clock = date, clock
        self._milliseconds = first(MILLISECONDS)
        self._sides = {
            quantity: place
            for quantity, wanted in SIDES.items()
            if (place := first(wanted)) is not None and place != self.columns.get(quantity)
        }
        self._valid = first(VALID)
        self._says_utc = "time" in self.columns and "utc" in plain[self.columns["time"]]
        self._source = source
        self._decimal_comma = decimal_comma
        self._is_e7 = False

    def frame(self, cells: Cells) -> pd.DataFrame:
        """Return the frame of some rows."""
        columns = self.columns
        numbers: dict[str, Any] = {
            quantity: self._measures(quantity, self._numerals(cells, columns[quantity]))
            for quantity in columns.keys() & {"altitude", "accuracy", "speed"}
        }
        if self._is_traccar and "accuracy" in numbers:
            numbers["accuracy"][numbers["accuracy"] == NO_ACCURACY] = np.nan
        lon, lat = (self._angles(cells, quantity) for quantity in ("lon", "lat"))
        if not self._is_e7 and self._units["lat"] is None:
            self._is_e7 = bool((np.abs(lat) > E7_LAT).any())
        if self._is_e7:
            lon, lat = lon / 1e7, lat / 1e7
        texts = {quantity: _names(cells(columns[quantity])) for quantity in columns.keys() & {"user", "device"}}
        if "pause" in columns:
            numbers["pause"] = to_pauses(cells(columns["pause"]))
        if "activity" in columns:
            numbers["activity"] = to_activities(cells(columns["activity"]).to_pylist())
        frame = make_frame(self._times(cells), lon, lat, **numbers, **texts)
        if self._speeds:
            frame = self._speeds.checked(frame)
        if self._valid is not None:
            flags = pc.ascii_lower(cells(self._valid))
            refused = pc.is_in(flags, pa.array(NOT_VALID)).to_numpy(zero_copy_only=False)
            if refused.any():
                return frame.assign(**{REFUSED: np.where(refused, INVALID, "")})
        return frame

    def _numerals(self, cells: Cells, column: int) -> pa.StringArray:
        return pc.replace_substring(cells(column), ",", ".") if self._decimal_comma else cells(column)

    def _measures(self, quantity: str, texts: pa.StringArray) -> NDArray[np.float64]:
        """Return numbers in our units. A unit behind a number counts more than that of the column."""
        numbers: NDArray[np.float64] = parse_numbers(texts) / (self._units[quantity] or 1.0)
        unread = _unread(numbers, texts)
        if unread.any():
            parts = pc.extract_regex(texts, _MEASURE)
            units = pc.dictionary_encode(pc.fill_null(pc.struct_field(parts, "unit"), ""))
            counts = np.array([UNITS[quantity].get(plain_name(unit), np.nan) for unit in units.dictionary.to_pylist()])
            written = parse_numbers(pc.fill_null(pc.struct_field(parts, "number"), ""))
            numbers = np.where(unread, written / counts[units.indices.to_numpy()], numbers)
        return numbers

    def _angles(self, cells: Cells, quantity: str) -> NDArray[np.float64]:
        """Return longitudes or latitudes: signed, or with their side before, behind or beside them."""
        texts = self._numerals(cells, self.columns[quantity])
        angles = parse_numbers(texts)
        unread = _unread(angles, texts)
        positive, negative = ("N", "S") if quantity == "lat" else ("E", "W")
        if unread.any():
            parts = pc.extract_regex(texts, _SIDED)
            side = pc.utf8_upper(
                pc.binary_join_element_wise(pc.struct_field(parts, "before"), pc.struct_field(parts, "behind"), "")
            )
            known = pc.fill_null(pc.is_in(side, pa.array([positive, negative])), False)
            written = parse_numbers(pc.if_else(known, pc.struct_field(parts, "number"), ""))
            angles = np.where(unread, np.where(_is(side, negative), -np.abs(written), written), angles)
        if quantity in self._sides:
            side = pc.ascii_upper(cells(self._sides[quantity]))
            angles = np.where(_is(side, negative), -np.abs(angles), angles)
        return angles / (self._units[quantity] or 1.0)

    def _times(self, cells: Cells) -> NDArray[np.int64]:
        if self._date_and_clock is None:
            texts = self._numerals(cells, self.columns["time"])
            times = parse_times(texts)
        else:
            dates, clocks = (cells(column) for column in self._date_and_clock)
            texts = self._joined(dates, clocks, cells)
            times = parse_times(texts)
            for other in (clocks, dates):  # one of the columns may hold all of it
                if (times == NO_TIME).any():
                    whole = pc.if_else(pc.match_substring_regex(other, _CLOCK_ALONE), "", other)
                    times = np.where(times == NO_TIME, parse_times(whole), times)
        self._note_zone(texts, times)
        return times

    def _joined(self, dates: pa.StringArray, clocks: pa.StringArray, cells: Cells) -> pa.StringArray:
        if self._is_columbus:
            dates = pc.replace_substring_regex(dates, r"^(\d\d)(\d\d)(\d\d)$", r"20\1-\2-\3")
        if pc.any(pc.match_substring_regex(dates, r"^\d\d?/\d\d?/\d{4}$")).as_py():
            self._source.note(AMBIGUOUS)
        for _ in range(2):  # neighbours share what is between them
            dates = pc.replace_substring_regex(dates, r"(^|[-/.])(\d)([-/.]|$)", r"\10\2\3")
        dates = pc.replace_substring_regex(dates, r"^(\d\d)\.(\d\d)\.(\d{4})$", r"\3-\2-\1")
        dates = pc.replace_substring(dates, ".", "-")
        clocks = pc.replace_substring_regex(clocks, r"^(\d)(:|\d{4}(?:\.|$))", r"0\1\2")
        if self._milliseconds is not None:
            rest = pc.ascii_lpad(cells(self._milliseconds), 3, "0")
            whole = pc.and_(pc.match_substring_regex(rest, r"^\d{3}$"), pc.match_substring_regex(clocks, r"^[\d:]+$"))
            clocks = pc.if_else(whole, pc.binary_join_element_wise(clocks, rest, "."), clocks)
        return pc.binary_join_element_wise(dates, clocks, "T")

    def _note_zone(self, texts: pa.StringArray, times: NDArray[np.int64]) -> None:
        """Note that times do not say their zone, where they are written ones."""
        if self._says_utc or UTC_ASSUMED in self._source.notes:
            return
        texts, times = texts.slice(0, ZONES_LOOKED_AT), times[:ZONES_LOOKED_AT]
        zoned = pc.or_(pc.match_substring_regex(texts, _ZONE), pc.match_substring_regex(texts, _NUMBER_ALONE))
        if (~zoned.to_numpy(zero_copy_only=False) & (times != NO_TIME)).any():
            self._source.note(UTC_ASSUMED)


def _names(texts: pa.StringArray) -> pa.StringArray:
    """Return names without the apostrophe that keeps a spreadsheet from taking them for a formula."""
    quoted = pc.any(pc.starts_with(texts, "'")).as_py()
    return pc.replace_substring_regex(texts, _FORMULA, r"\1") if quoted else texts


def _unread(numbers: NDArray[np.float64], texts: pa.StringArray) -> NDArray[np.bool_]:
    """Return which texts hold something else than a number."""
    unread = np.isnan(numbers)
    return unread & (pc.binary_length(texts).to_numpy() > 0) if unread.any() else unread


def _is(texts: pa.StringArray, value: str) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = pc.fill_null(pc.equal(texts, value), False).to_numpy(zero_copy_only=False)
    return found
