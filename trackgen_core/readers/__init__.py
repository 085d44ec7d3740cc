"""Readers: from files of several formats to frames of raw points.

`find_sources` finds the files, `recognise` tells their format, `read` delivers their rows in batches, with the
columns of `POINT_DTYPES`. A row that cannot be understood has no time or no place, so that `points.validate` counts
it, and a position that is no fix says so in a column `points.REFUSED`; a file that cannot be read to its end raises
`UnreadableFile`, after it has delivered all that comes before, and one in which nothing is a fix may raise `NoFixes`.
What is no reason to refuse a file goes into the notes of its source. No file is ever held in memory as a whole.

To add a format, write a module with `read(source)` and a test of its first bytes, and add it to `_FORMATS`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

import pandas as pd

from trackgen_core.readers import (
    apps,
    csv,
    dawarich,
    fit,
    geojson,
    google,
    gpx,
    home_assistant,
    igc,
    kml,
    nmea,
    owntracks,
    parquet,
    plt,
    tcx,
    traccar,
)
from trackgen_core.readers.columns import BATCH_ROWS
from trackgen_core.readers.finding import count_bytes, find_sources
from trackgen_core.readers.sources import LATIN_1, NoFixes, Options, Source, UnreadableFile, encoding_of

__all__ = [
    "BATCH_ROWS",
    "FORMATS",
    "NoFixes",
    "Options",
    "Source",
    "UnreadableFile",
    "count_bytes",
    "find_sources",
    "read",
    "recognise",
]

SNIFF_BYTES: Final = 1 << 16


class _Format(NamedTuple):
    """A format: how it is read, and how its first bytes, or the text that they are, tell it."""

    read: Callable[[Source], Iterator[pd.DataFrame]]
    of_bytes: Callable[[bytes], bool] | None = None
    of_text: Callable[[str], bool] | None = None


_FORMATS: Final[dict[str, _Format]] = {
    "csv": _Format(csv.read),
    "gpx": _Format(gpx.read, of_bytes=gpx.recognises),
    "geojson": _Format(geojson.read, of_text=geojson.recognises),
    "owntracks": _Format(owntracks.read, of_text=owntracks.recognises),
    "fit": _Format(fit.read, of_bytes=fit.recognises),
    "tcx": _Format(tcx.read, of_bytes=tcx.recognises),
    "kml": _Format(kml.read, of_bytes=kml.recognises),
    "nmea": _Format(nmea.read, of_text=nmea.recognises),
    "parquet": _Format(parquet.read, of_bytes=parquet.recognises),
    "google": _Format(google.read, of_text=google.recognises),
    "dawarich": _Format(dawarich.read, of_text=dawarich.recognises),
    "traccar": _Format(traccar.read, of_text=traccar.recognises),
    "home-assistant": _Format(home_assistant.read, of_text=home_assistant.recognises),
    "plt": _Format(plt.read, of_text=plt.recognises),
    "igc": _Format(igc.read, of_text=igc.recognises),
    **{name: _Format(app.read, of_text=app.recognises) for name, app in apps.APPS.items()},
}

FORMATS: Final = tuple(_FORMATS)
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
        If the file cannot be opened or unpacked.
    NoFixes
        If it is empty.
    """
    with source.open() as stream:
        head = stream.read(SNIFF_BYTES)
    if not head:
        raise NoFixes(source.path, "the file is empty")
    try:
        return _recognise(head, source.path)
    except Exception as error:
        raise UnreadableFile(f"{source.path}: its format cannot be recognised ({_shown(error)})") from error


def _recognise(head: bytes, path: str) -> str | None:
    for name, format in _FORMATS.items():
        if format.of_bytes and format.of_bytes(head):
            return name
    text = head.decode(encoding_of(head), LATIN_1)
    # The first line of a text has no NUL. Further on, a logger that lost its power may have left some.
    if "\0" in re.split(r"[\r\n]", text.lstrip(), maxsplit=1)[0]:
        return None
    for name, format in _FORMATS.items():
        if format.of_text and format.of_text(text):
            return name
    return "csv" if csv.recognises(text, path) else None


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
        If the file breaks off or is not of this format, after the rows before that were delivered: a file is to be
        imported whole or not at all, unless somebody asks for what is whole of it.
    NoFixes
        If it is whole, but nothing in it is a fix.
    """
    if format not in _FORMATS:
        raise ValueError(f"no format {format!r}: choose one of {', '.join(FORMATS)}")
    return _guarded(source, format)


def _guarded(source: Source, format: str) -> Iterator[pd.DataFrame]:
    """Read a source; whatever its reader raises concerns this file alone."""
    try:
        yield from _FORMATS[format].read(source)
    except UnreadableFile:
        raise
    except Exception as error:
        what = f"the reader of {format} failed ({_shown(error)}); please report this with the file"
        raise UnreadableFile(f"{source.path}: {what}") from error


def _shown(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error)[:200]}"
