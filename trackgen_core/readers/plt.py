"""Tracks of OziExplorer, and trajectories of GeoLife, which have the same form.

Behind a head of six lines, each line is a fix: latitude, longitude, a code, the altitude in feet, days since
1899-12-30, a date and a time of day.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from itertools import islice
from typing import Final

import numpy as np
import pandas as pd
import pyarrow.compute as pc

from trackgen_core.points import MS_PER_DAY, NO_TIME
from trackgen_core.readers.columns import LENGTH_UNITS, batches, make_frame, parse_numbers, parse_times, to_texts
from trackgen_core.readers.sources import NoFixes, Source, UnreadableFile, open_text

HEAD_LINES: Final = 6
MAX_LINE_CHARS: Final = 1 << 12

FIELDS: Final = (
    r"^\s*(?P<lat>[^,]*),(?P<lon>[^,]*),[^,]*,?(?P<altitude>[^,]*),?(?P<days>[^,]*),?(?P<date>[^,]*),?(?P<clock>[^,]*)"
)

UNIX_EPOCH_DAYS: Final = 25569
"""Days from 1899-12-30, from which OziExplorer counts, to 1970-01-01."""

NO_ALTITUDE: Final = -777

_HEAD: Final = re.compile(r"^(?:OziExplorer Track Point File|Geolife trajectory)", re.IGNORECASE)
_DATUM: Final = re.compile(r"WGS\s*84", re.IGNORECASE)


def recognises(text: str) -> bool:
    """Tell whether a text begins like a track of OziExplorer or a trajectory of GeoLife."""
    return _HEAD.match(text) is not None


def read(source: Source) -> Iterator[pd.DataFrame]:
    """Read the fixes, in batches."""
    found = False
    with open_text(source) as text:
        lines = iter(partial(text.readline, MAX_LINE_CHARS), "")
        head = list(islice(lines, HEAD_LINES))
        datum = head[1].strip() if len(head) > 1 else ""
        if not _DATUM.match(datum):
            raise UnreadableFile(f"{source.path}: line 2: its datum is {datum[:40]!r}; export it in WGS 84")
        per_m = 1.0 if "meter" in head[2].lower() or "metre" in head[2].lower() else LENGTH_UNITS["feet"]
        for block in batches(line for line in lines if line.strip()):
            found = True
            yield _frame(block, per_m)
    if not found:
        raise NoFixes(source.path, "no fixes: it has a head, but no track")


def _frame(lines: list[str], per_m: float) -> pd.DataFrame:
    parts = pc.extract_regex(to_texts(lines), FIELDS)
    lat, lon, altitude, days, date, clock = (
        pc.ascii_trim_whitespace(pc.fill_null(pc.struct_field(parts, name), ""))
        for name in ("lat", "lon", "altitude", "days", "date", "clock")
    )
    # The date is written as somebody likes it, but where it can be read, it has no error of rounding.
    times = parse_times(pc.binary_join_element_wise(date, clock, "T"))
    since_1970 = (parse_numbers(days) - UNIX_EPOCH_DAYS) * MS_PER_DAY
    known = np.abs(since_1970) < 2.0**62
    by_days = np.where(known, np.rint(np.where(known, since_1970, 0)).astype(np.int64), NO_TIME)
    height = parse_numbers(altitude)
    height[height == NO_ALTITUDE] = np.nan
    return make_frame(
        np.where(times == NO_TIME, by_days, times), parse_numbers(lon), parse_numbers(lat), altitude=height / per_m
    )
