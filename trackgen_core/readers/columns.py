"""Columns: from texts to values, and from values to a frame of points. All readers share these rules."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from typing import Final, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from trackgen_core.points import MS_PER_DAY, NO_TIME, POINT_DTYPES, REFUSED, activity_code
from trackgen_core.readers.sources import NoFixes, UnreadableFile

BATCH_ROWS: Final = 50_000
"""The most rows in one frame: enough for whole-column work to pay, little enough to be a few MB."""

MS_FROM: Final = 100_000_000_000
US_FROM: Final = 1000 * MS_FROM
NS_FROM: Final = 1000 * US_FROM
"""From these sizes on a number is a time in ms, in us, in ns, below all of them one in s: each means 1973-03-03, and as
one of the unit below the year 5138."""

NEW_DAY_S: Final = 3600
"""A time of day that is earlier than the one before by more than this is one of the next day."""

SPEED_UNITS: Final = {
    **dict.fromkeys(("ms", "mps", "msec"), 1.0),
    **dict.fromkeys(("kmh", "kph", "kmph", "kmhr"), 3.6),
    **dict.fromkeys(("kn", "knot", "knots", "kt", "kts"), 3600 / 1852),
    "mph": 3600 / 1609.344,
}
"""How many of a unit are 1 m/s, by its name as `plain_name` writes it."""

LENGTH_UNITS: Final = {**dict.fromkeys(("m", "meters", "metres"), 1.0), **dict.fromkeys(("ft", "feet"), 1 / 0.3048)}
ANGLE_UNITS: Final = {**dict.fromkeys(("deg", "dd", "degrees", "wgs84"), 1.0), "e7": 1e7, "e6": 1e6}


def _in_units(names: tuple[str, ...], units: Iterable[str]) -> tuple[str, ...]:
    return (*names, *(f"{name}{unit}" for name in names for unit in units))


NAMES: Final = {
    "time": (
        *("timestamp", "time", "datetime", "ts", "utc", "tst", "timestamputc", "utctimestamp", "timeutc"),
        *("utctime", "datetimeutc", "utcdatetime", "timestampms", "timems", "timestamps", "times", "isotime"),
        *("epoch", "epochms", "epochs", "unixtime", "unixtimestamp", "recordedat", "fixtime", "gpstime", "date"),
        *("trackedat", "capturedat", "measuredat", "loggedat", "observedat", "devicetime", "locationtime", "dt", "t"),
        *("timestampus", "timestampns", "unixtimems", "unixtimestampms", "unixms", "epochtime", "epochseconds"),
        *("gpsdatetime", "fixdatetime", "locationtimestamp", "locationtimestampsince1970s"),
    ),
    "lon": _in_units(
        ("lon", "longitude", "lng", "long", "x", "gpslongitude", "gpslon", "locationlongitude", "longitudeew"),
        ANGLE_UNITS,
    ),
    "lat": _in_units(("lat", "latitude", "y", "gpslatitude", "gpslat", "locationlatitude", "latitudens"), ANGLE_UNITS),
    "user": ("user", "userid", "username", "uid"),
    "device": ("device", "deviceid", "trackerid", "devicename", "tracker"),
    "altitude": _in_units(
        (
            "altitude",
            "alt",
            "ele",
            "elevation",
            "elem",
            "height",
            "z",
            "gpsaltitude",
            "locationaltitude",
            "altitudemsl",
        ),
        LENGTH_UNITS,
    ),
    "accuracy": _in_units(
        (
            *("accuracy", "acc", "horizontalaccuracy", "hacc", "gpsaccuracy", "accuracyhorizontal"),
            "locationhorizontalaccuracy",
        ),
        LENGTH_UNITS,
    ),
    "speed": _in_units(("speed", "velocity", "gpsspeed", "groundspeed", "locationspeed"), SPEED_UNITS),
    "activity": ("activity", "sport", "mode"),
    "pause": ("pause",),
}
"""What a column of a file may be called, the best name first, as `plain_name` writes it. An `hdop` is no accuracy,
and a `vel` is in km/h in some formats: neither is listed."""

UNITS: Final = {
    **dict.fromkeys(("lon", "lat"), ANGLE_UNITS),
    **dict.fromkeys(("altitude", "accuracy"), LENGTH_UNITS),
    "speed": SPEED_UNITS,
}

NEEDED: Final = ("time", "lon", "lat")
"""Quantities without which a row is no fix."""

_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_INTEGER = r"^[+-]?\d{1,18}$"
_NANOSECONDS = r"^\d{19}$"
NS_DIGITS: Final = 19
MS_DIGITS: Final = 13
"""Digits of the same instant, from 2001 to 2262."""
_ISO_TIME = (
    r"^(?P<year>\d{4})[-/]?(?P<month>\d\d)[-/]?(?P<day>\d\d)(?:[Tt]|\s+)"
    r"(?P<hour>\d\d):?(?P<minute>\d\d)(?::?(?P<second>\d\d)(?:[.,](?P<fraction>\d+))?)?"
    r"\s*(?:[Zz]|UTC|GMT|(?P<sign>[+-])(?P<zone_hour>\d\d):?(?P<zone_minute>\d\d)?)?$"
)

_DECIMAL: Final = re.compile(_NUMBER, re.ASCII)

T = TypeVar("T")

Fix = (
    tuple[str | None, float, float, float, float, float, str | None, str | None]
    | tuple[str | None, float, float, float, float, float, str | None, str | None, int, int]
)
"""One fix of a JSON document: time as text, lon, lat, altitude, accuracy, speed, user, device; and, in some formats,
the code of an activity, and whether the recording was stopped before."""

Refusal = str
"""A position of a JSON document that is no fix: the reason."""

_NOTHING: Final[Fix] = (None, math.nan, math.nan, math.nan, math.nan, math.nan, None, None)


def plain_name(name: str) -> str:
    """Return the name of a column without case, blanks, underscores and brackets: `Device_ID` is `deviceid`."""
    return re.sub(r"[\s_().\[\]/-]+", "", name).lower()


@lru_cache(maxsize=256)
def find_columns(names: tuple[str, ...]) -> dict[str, int]:
    """Return where each quantity of `NAMES` stands among the names of a file; one that is absent is left out."""
    plain = [plain_name(name) for name in names]
    found = ((quantity, next((a for a in aliases if a in plain), None)) for quantity, aliases in NAMES.items())
    return {quantity: plain.index(alias) for quantity, alias in found if alias is not None}


@lru_cache(maxsize=1024)
def units_per_ours(quantity: str, name: str) -> float | None:
    """Return how many of the units that a column's name says are one of ours (degree, m, m/s); None if it says none."""
    plain = plain_name(name)
    for unit, count in UNITS.get(quantity, {}).items():
        if plain.endswith(unit) and plain.removesuffix(unit) in NAMES[quantity]:
            return count
    return None


def require_columns(found: Collection[str], names: Sequence[str], path: str, holder: str) -> None:
    """Raise an error that says which of the quantities needed have no column in a table, if any has none.

    Parameters
    ----------
    found : collection of str
        Quantities that have one.
    names : sequence of str
        What the columns are called.
    path, holder : str
        The file, and what in it names the columns.

    Raises
    ------
    NoFixes
        If all but one of them are missing: a table of something else, not one of fixes with a fault.
    UnreadableFile
        If one is missing.
    """
    missing = [quantity for quantity in NEEDED if quantity not in found]
    if not missing:
        return
    wanted = " and ".join(f"{quantity} ({', '.join(NAMES[quantity][:4])}, …)" for quantity in missing)
    what = f"{holder} has no column for {wanted}; it has: {shown_names(names)}. Rename the column, or add it"
    if len(NEEDED) - len(missing) < 2:
        raise NoFixes(path, what)
    raise UnreadableFile(f"{path}: {what}")


def shown_names(names: Sequence[str]) -> str:
    """Return names of columns as an error shows them."""
    return ", ".join(name.strip()[:40] or "''" for name in names[:20])


def batches(rows: Iterable[T]) -> Iterator[list[T]]:
    """Cut rows into lists of `BATCH_ROWS`. If a file breaks off, the rows before that are a last batch."""
    iterator = iter(rows)
    error: UnreadableFile | None = None
    while error is None:
        batch: list[T] = []
        try:
            batch.extend(islice(iterator, BATCH_ROWS))  # which keeps what came before an error
        except UnreadableFile as broken:
            error = broken
        if not batch and error is None:
            return
        if batch:
            yield batch
    raise error


def to_texts(values: Iterable[str | None]) -> pa.StringArray:
    """Return values as a column of texts without surrounding blanks; None becomes ''."""
    values = list(values)
    try:
        texts = pa.array(values, pa.string())
    except UnicodeEncodeError:
        # JSON can spell half a surrogate pair, which no database stores.
        texts = pa.array([value and value.encode("utf-8", "replace").decode() for value in values], pa.string())
    return pc.ascii_trim_whitespace(pc.fill_null(texts, ""))


def parse_numbers(texts: pa.StringArray) -> NDArray[np.float64]:
    """Return the numbers that texts hold; NaN where a text is no finite decimal number.

    Parameters
    ----------
    texts : array of n texts
        Decimal notation with a point, with or without an exponent.

    Returns
    -------
    ndarray of n float64
        The nearest double of each text, whatever stands in the other rows.
    """
    plain = pc.ascii_ltrim(_where(pc.match_substring_regex(texts, _NUMBER), texts), "+")
    numbers: NDArray[np.float64] = pc.cast(plain, pa.float64()).to_numpy(zero_copy_only=False).copy()
    numbers[~np.isfinite(numbers)] = np.nan
    return numbers


def parse_times(texts: pa.StringArray) -> NDArray[np.int64]:
    """Return the instants that texts hold, each in its own notation.

    Parameters
    ----------
    texts : array of n texts
        ISO 8601 (with `T` or a blank; without a zone it is UTC) or a number: seconds since the epoch, or from
        certain sizes on (`MS_FROM`, `US_FROM`, `NS_FROM`) milliseconds, microseconds or nanoseconds.

    Returns
    -------
    ndarray of n int64
        ms since the epoch, `NO_TIME` where a text is neither.

    Notes
    -----
    Digits of an ISO time or an integer beyond the millisecond are cut, seconds with a fraction are rounded to the
    nearest millisecond. A second 60 is the first second of the next minute, and 24:00 the
    midnight that ends the day.
    """
    numeric = pc.match_substring_regex(texts, _NUMBER)
    count = pc.sum(numeric).as_py() or 0
    if count == len(texts):
        return _epoch_times(texts)
    if count == 0:
        return _iso_times(texts)
    numbers = numeric.to_numpy(zero_copy_only=False)
    return np.where(numbers, _epoch_times(_where(numeric, texts)), _iso_times(_where(pc.invert(numeric), texts)))


def make_frame(
    time_ms: NDArray[np.int64],
    lon: NDArray[np.float64],
    lat: NDArray[np.float64],
    *,
    altitude: NDArray[np.float64] | None = None,
    accuracy: NDArray[np.float64] | None = None,
    speed: NDArray[np.float64] | None = None,
    user: pa.StringArray | None = None,
    device: pa.StringArray | None = None,
    pause: NDArray[np.int64] | None = None,
    activity: NDArray[np.int64] | None = None,
) -> pd.DataFrame:
    """Return a frame with the columns and dtypes of `POINT_DTYPES`; what is not given is NaN, '' or 0."""
    unknown = np.full(len(time_ms), np.nan)
    nobody = pa.repeat(pa.scalar("", pa.string()), len(time_ms))
    values = {"user": user, "device": device, "time_ms": time_ms, "lon": lon, "lat": lat}
    for name, texts in (("user", user), ("device", device)):
        # PostgreSQL stores no NUL.
        values[name] = pc.replace_substring(nobody if texts is None else texts, "\0", "\ufffd").to_pandas()
    for name, numbers in (("altitude", altitude), ("accuracy", accuracy), ("speed", speed)):
        values[name] = unknown if numbers is None else numbers
    for name, codes in (("seq", None), ("pause", pause), ("activity", activity)):
        values[name] = np.zeros(len(time_ms), np.int64) if codes is None else codes
    return pd.DataFrame(values).astype(POINT_DTYPES)


def to_number(value: object) -> float:
    """Return a number of a JSON document; NaN for anything else, and for a number too large for a double."""
    if type(value) is float:
        return value
    if type(value) is not int:
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.nan


def to_decimal(value: object) -> float:
    """Return a number of a JSON document whose writer puts some numbers into texts."""
    return float(value) if isinstance(value, str) and _DECIMAL.match(value) else to_number(value)


def to_time_text(value: object) -> str | None:
    """Return a time of a JSON document, which may be a text or a number, as `parse_times` reads it."""
    if isinstance(value, str):
        return value
    return repr(value) if type(value) in (int, float) else None


def to_name(value: object) -> str | None:
    """Return the name of a user or a device in a JSON document, which may be a text or a number."""
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else None


def to_activities(texts: Iterable[str | None]) -> NDArray[np.int64]:
    """Return the codes of activities, 0 where one is unknown."""
    return np.array([activity_code(text) if text else 0 for text in texts], np.int64)


def to_activity(named: object) -> int:
    """Return the code of the activity that a value of a JSON document names; of several, the largest."""
    names = named if isinstance(named, list) else [named]
    return max((activity_code(name) for name in names if isinstance(name, str)), default=0)


def to_pauses(texts: pa.StringArray) -> NDArray[np.int64]:
    """Return which texts say that the recording was stopped before: `1` or `true`."""
    pauses: NDArray[np.int64] = pc.cast(pc.is_in(pc.ascii_lower(texts), pa.array(["1", "true"])), pa.int64()).to_numpy()
    return pauses


def frame_of_fixes(fixes: Sequence[Fix | Refusal]) -> pd.DataFrame:
    """Return the frame of fixes that a JSON document holds; with a column `REFUSED` if it holds refusals."""
    refused = [fix if isinstance(fix, str) else "" for fix in fixes]
    rows = [_NOTHING if isinstance(fix, str) else fix for fix in fixes]
    time, lon, lat, altitude, accuracy, speed, user, device, *_ = zip(*rows, strict=False)
    frame = make_frame(
        parse_times(to_texts(time)),
        np.array(lon, np.float64),
        np.array(lat, np.float64),
        altitude=np.array(altitude, np.float64),
        accuracy=np.array(accuracy, np.float64),
        speed=np.array(speed, np.float64),
        user=to_texts(user),
        device=to_texts(device),
        activity=np.array([row[8] if len(row) > 8 else 0 for row in rows], np.int64),
        pause=np.array([row[9] if len(row) > 8 else 0 for row in rows], np.int64),
    )
    return frame.assign(**{REFUSED: refused}) if any(refused) else frame


def _where(mask: pa.BooleanArray, texts: pa.StringArray) -> pa.StringArray:
    return pc.if_else(mask, texts, pa.scalar(None, pa.string()))


def _epoch_times(texts: pa.StringArray) -> NDArray[np.int64]:
    """Return the instants of numbers. A double holds no more than 53 bits, so integers take their own way."""
    plain = pc.ascii_ltrim(texts, "+")
    if (pc.max(pc.binary_length(plain)).as_py() or 0) >= NS_DIGITS:
        # Nanoseconds of today do not fit into the integers that are read exactly: cut to ms.
        nanoseconds = pc.match_substring_regex(plain, _NANOSECONDS)
        plain = pc.if_else(nanoseconds, pc.utf8_slice_codeunits(plain, 0, stop=MS_DIGITS), plain)
    integer = pc.fill_null(pc.match_substring_regex(plain, _INTEGER), False)
    whole = pc.fill_null(pc.cast(_where(integer, plain), pa.int64()), 0).to_numpy()
    size = np.abs(whole)
    whole_ms = np.select(
        [size < MS_FROM, size < US_FROM, size < NS_FROM], [whole * 1000, whole, whole // 1000], whole // 10**6
    )

    decimal = pc.cast(plain, pa.float64()).to_numpy(zero_copy_only=False)
    with np.errstate(invalid="ignore", over="ignore"):
        size = np.abs(decimal)
        per_ms = np.select([size < MS_FROM, size < US_FROM, size < NS_FROM], [1e-3, 1.0, 1e3], 1e6)
        decimal_ms = np.rint(np.where(size < MS_FROM, decimal * 1000, decimal / per_ms))
        representable = np.abs(decimal_ms) < 2.0**63
    decimal_ms = np.where(representable, decimal_ms, 0.0).astype(np.int64)
    return np.where(integer.to_numpy(zero_copy_only=False), whole_ms, np.where(representable, decimal_ms, NO_TIME))


def _iso_times(texts: pa.StringArray) -> NDArray[np.int64]:
    parts = pc.extract_regex(texts, _ISO_TIME)
    readable = parts.is_valid().to_numpy(zero_copy_only=False)

    def part(name: str) -> pa.StringArray:
        return pc.struct_field(parts, name)

    def integers(digits: pa.StringArray) -> NDArray[np.int64]:
        values: NDArray[np.int64] = pc.fill_null(pc.cast(digits, pa.int64()), 0).to_numpy()
        return values

    def optional(name: str) -> NDArray[np.int64]:
        return integers(pc.binary_join_element_wise("0", part(name), ""))

    year, month, day, hour, minute = (integers(part(n)) for n in ("year", "month", "day", "hour", "minute"))
    second, zone_hour, zone_minute = (optional(name) for name in ("second", "zone_hour", "zone_minute"))
    ms = integers(pc.utf8_slice_codeunits(pc.ascii_rpad(part("fraction"), 3, "0"), 0, 3))
    months = (year - 1970) * 12 + month - 1
    first_day = months.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    next_first_day = (months + 1).astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    of_day_ms = ((hour * 60 + minute) * 60 + second) * 1000 + ms
    readable &= (month >= 1) & (month <= 12) & (day >= 1) & (day <= next_first_day - first_day)
    readable &= (hour < 24) | ((hour == 24) & (of_day_ms == MS_PER_DAY))
    readable &= (minute < 60) & (second <= 60) & (zone_hour < 24) & (zone_minute < 60)

    west = pc.fill_null(pc.equal(part("sign"), "-"), False).to_numpy(zero_copy_only=False)
    offset_ms = np.where(west, -1, 1) * (zone_hour * 60 + zone_minute) * 60_000
    return np.where(readable, (first_day + day - 1) * MS_PER_DAY + of_day_ms - offset_ms, NO_TIME)
