"""Readers: from files of several formats to frames of raw points.

`find_sources` finds the files, `recognise` tells their format, `read` delivers their rows in batches, with the
columns of `POINT_DTYPES`. A row that cannot be understood has no time or no place, so that `points.validate` counts
it, and a position that is no fix says so in a column `points.REFUSED`; a file that cannot be read to its end raises
`UnreadableFile`, and one in which nothing is a fix may raise `NoFixes`. No file is ever held in memory as a whole.

To add a format, write a module with `read(source)` and a test of its first bytes, and name both here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import pandas as pd

from trackgen_core.readers import (
    csv,
    dawarich,
    fit,
    geojson,
    google,
    gpx,
    home_assistant,
    kml,
    nmea,
    owntracks,
    parquet,
    tcx,
    traccar,
)
from trackgen_core.readers.columns import BATCH_ROWS
from trackgen_core.readers.sources import (
    LATIN_1,
    ZIP_MAGICS,
    NoFixes,
    Source,
    UnreadableFile,
    count_bytes,
    encoding_of,
    find_sources,
)

__all__ = [
    "BATCH_ROWS",
    "FORMATS",
    "NoFixes",
    "Source",
    "UnreadableFile",
    "count_bytes",
    "find_sources",
    "read",
    "recognise",
]

SNIFF_BYTES: Final = 1 << 16

_READERS: Final[dict[str, Callable[[Source], Iterator[pd.DataFrame]]]] = {
    "csv": csv.read,
    "gpx": gpx.read,
    "geojson": geojson.read,
    "owntracks": owntracks.read,
    "fit": fit.read,
    "tcx": tcx.read,
    "kml": kml.read,
    "nmea": nmea.read,
    "parquet": parquet.read,
    "google": google.read,
    "dawarich": dawarich.read,
    "traccar": traccar.read,
    "home-assistant": home_assistant.read,
}

_BYTES: Final[dict[str, Callable[[bytes], bool]]] = {
    "fit": fit.recognises,
    "parquet": parquet.recognises,
    "gpx": gpx.recognises,
    "tcx": tcx.recognises,
    "kml": kml.recognises,
    "nmea": nmea.recognises,
}

_TEXTS: Final[dict[str, Callable[[str], bool]]] = {
    "owntracks": owntracks.recognises,
    "geojson": geojson.recognises,
    "google": google.recognises,
    "dawarich": dawarich.recognises,
    "traccar": traccar.recognises,
    "home-assistant": home_assistant.recognises,
}

FORMATS: Final = tuple(_READERS)
"""Names of the formats that can be read."""


def recognise(source: Source) -> str | None:
    """Tell the format of a source from its first bytes.

    Returns
    -------
    str or None
        One of `FORMATS`; None if it is none of them.

    Raises
    ------
    UnreadableFile
        If the file is empty, or cannot be opened or unpacked.
    NoFixes
        If it is an archive inside an archive.
    """
    with source.open() as stream:
        head = stream.read(SNIFF_BYTES)
    if not head:
        raise UnreadableFile(f"{source.path}: the file is empty")
    if head[:4] in ZIP_MAGICS:
        raise NoFixes(source.path, "an archive inside an archive: unpack it, and import what is in it")
    for name, of_bytes in _BYTES.items():
        if of_bytes(head):
            return name
    text = head.decode(encoding_of(head), LATIN_1)
    if "\0" in text:
        return None
    for name, of_text in _TEXTS.items():
        if of_text(text):
            return name
    return "csv" if csv.recognises(text, source.path) else None


def read(source: Source, format: str) -> Iterator[pd.DataFrame]:
    """Read the rows of a source, as raw as they are, in frames of at most `BATCH_ROWS`.

    Parameters
    ----------
    source : Source
        The file.
    format : str
        One of `FORMATS`.

    Yields
    ------
    DataFrame
        Rows with the columns of `POINT_DTYPES`: `NO_TIME` and NaN where the file says nothing that can be
        understood, and '' for a user or device that it does not name.

    Raises
    ------
    UnreadableFile
        If the file breaks off or is not of this format, possibly after rows were delivered: a file is to be
        imported whole or not at all.
    NoFixes
        If it is whole, but nothing in it is a fix.
    """
    if format not in _READERS:
        raise ValueError(f"no format {format!r}: choose one of {', '.join(FORMATS)}")
    return _READERS[format](source)
