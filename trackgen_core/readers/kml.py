"""KML: the fixes of every `gx:Track`, and Points of placemarks with a TimeStamp. Lines and areas have no times.

A track names all its times before its first place. They are held until their places come, in eight bytes each.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator
from typing import Any, Final
from xml.parsers import expat

import numpy as np
import pandas as pd
import pyarrow.compute as pc
from numpy.typing import NDArray

from trackgen_core.readers import columns
from trackgen_core.readers.columns import make_frame, parse_numbers, parse_times, to_texts
from trackgen_core.readers.sources import NoFixes, Source
from trackgen_core.readers.xml import MAX_TEXT_PIECES, local_name, parse, root_name

ROOT: Final = "kml"

TIMELESS: Final = ("Point", "LineString", "Polygon")

_TEXTS: Final = {
    ("Track", "when"),
    ("Track", "coord"),
    ("Track", "altitudeMode"),
    ("TimeStamp", "when"),
    ("Point", "coordinates"),
    ("Point", "altitudeMode"),
}
"""Elements whose texts are wanted, each with its parent."""

_PLACE: Final = r"^(?P<lon>[^\s,]+)[\s,]+(?P<lat>[^\s,]+)(?:[\s,]+(?P<altitude>[^\s,]+))?$"
"""Blanks between the numbers of a `gx:coord`, commas between those of `coordinates`."""


def recognises(head: bytes) -> bool:
    """Tell whether bytes that begin like this are XML with the root element `kml`."""
    return root_name(head) == ROOT


def read(source: Source) -> Iterator[pd.DataFrame]:
    """Read the fixes of a KML file, in batches."""
    times = _Queue(lambda texts: parse_times(to_texts(texts)))
    places = _Queue(_parse_places)
    timeless: Counter[str] = Counter()
    pauses: list[int] = []  # which of all fixes come first behind a pause
    found = 0
    for _ in parse(source, "KML", ROOT, lambda parser: _collect(parser, times.texts, places.texts, timeless, pauses)):
        times.settle(columns.BATCH_ROWS)
        places.settle(columns.BATCH_ROWS)
        while min(len(times), len(places)) >= columns.BATCH_ROWS:
            yield _frame(times.take(columns.BATCH_ROWS), places.take(columns.BATCH_ROWS), pauses, found)
            found += columns.BATCH_ROWS
    if rest := len(times):
        yield _frame(times.take(rest), places.take(rest), pauses, found)
    elif not found:
        shapes = ", ".join(f"{count} {shape}" for shape, count in timeless.items())
        has = (
            f"none of its shapes has a TimeStamp ({shapes})"
            if shapes
            else "it holds no gx:Track and no Point with a TimeStamp"
        )
        raise NoFixes(source.path, f"no fixes: {has}; export it as GPX, or as KML with gx:Track")


class _Queue:
    """A column that grows: texts, of which numbers are made a batch at a time, taken from the front."""

    def __init__(self, parse_texts: Callable[[list[str | None]], NDArray[Any]]) -> None:
        self.texts: list[str | None] = []
        self._parse_texts = parse_texts
        self._parts: deque[NDArray[Any]] = deque()

    def __len__(self) -> int:
        return sum(map(len, self._parts)) + len(self.texts)

    def settle(self, count: int = 1) -> None:
        """Make numbers of the texts, if there are so many."""
        if len(self.texts) >= count:
            self._parts.append(self._parse_texts(self.texts))
            self.texts.clear()

    def take(self, count: int) -> NDArray[Any]:
        """Return and forget the first values."""
        self.settle()
        taken = []
        while count:
            part = self._parts.popleft()
            taken.append(part[:count])
            if len(part) > count:
                self._parts.appendleft(part[count:])
            count -= len(taken[-1])
        return np.concatenate(taken)


def _parse_places(texts: list[str | None]) -> NDArray[np.float64]:
    """Return lon, lat and altitude of n texts: n x 3, NaN where they cannot be read."""
    parts = pc.extract_regex(to_texts(texts), _PLACE)
    numbers = [parse_numbers(pc.fill_null(pc.struct_field(parts, name), "")) for name in ("lon", "lat", "altitude")]
    return np.column_stack(numbers)


def _frame(times: NDArray[np.int64], places: NDArray[np.float64], pauses: list[int], fixes_before: int) -> pd.DataFrame:
    lon, lat, altitude = places.T
    pause = np.isin(np.arange(fixes_before, fixes_before + len(times)), pauses).astype(np.int64)
    return make_frame(times, lon, lat, altitude=altitude, pause=pause)


def _collect(
    parser: expat.XMLParserType,
    times: list[str | None],
    places: list[str | None],
    timeless: Counter[str],
    pauses: list[int],
) -> None:
    """Set handlers that append the time and the place of every fix to these lists, and count shapes without times."""
    fixes = 0  # whose time was appended so far
    tracks = 0  # of the gx:MultiTrack, so far
    path = [ROOT]
    text_level = 0  # of the element whose text is being collected, 0 if there is none
    pieces: list[str] = []
    above_sea = True
    lead = 0  # how many more times than places the track has named so far
    moment: str | None = None
    place: str | None = None

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal text_level, above_sea, lead, moment, place, tracks
        name = local_name(name) if ":" in name else name
        parent = path[-1]
        path.append(name)
        if (parent, name) in _TEXTS:
            if not text_level:
                text_level = len(path)
                parser.CharacterDataHandler = characters
        elif name == "Placemark":
            moment = place = None
        elif name == "MultiTrack":
            tracks = 0
        elif name == "Track":
            above_sea, lead = True, 0
            tracks = tracks + 1 if parent == "MultiTrack" else 0
            if tracks > 1:
                pauses.append(fixes)
        elif name in TIMELESS:
            above_sea = True
            timeless[name] += 1

    def characters(data: str) -> None:
        if len(pieces) < MAX_TEXT_PIECES:
            pieces.append(data)

    def end(name: str) -> None:
        nonlocal text_level, fixes
        name = path[-1]
        if len(path) == text_level:
            use(path[-2], name, "".join(pieces) if len(pieces) < MAX_TEXT_PIECES else "")
            pieces.clear()
            text_level = 0
            parser.CharacterDataHandler = None
        elif name == "Track":
            places.extend([None] * lead)
            times.extend([None] * -lead)
            fixes += max(-lead, 0)
        elif name == "Placemark" and place is not None and moment is not None:
            times.append(moment)
            fixes += 1
            places.append(place)
        path.pop()

    def use(parent: str, name: str, text: str) -> None:
        nonlocal above_sea, lead, moment, place, fixes
        if name == "altitudeMode":
            above_sea = text.strip() == "absolute"
        elif parent == "TimeStamp":
            # That of a view, or of a folder, says nothing about the placemark.
            moment = text if path[-3] == "Placemark" else moment
        elif parent == "Point":
            place = seen_from_above(text) if path[-3] == "Placemark" else place
        elif name == "when":
            times.append(text)
            fixes += 1
            lead += 1
        else:
            places.append(seen_from_above(text))
            lead -= 1

    def seen_from_above(text: str) -> str:
        """Return a place without its altitude, if that is not above the sea."""
        return text if above_sea else " ".join(text.replace(",", " ").split()[:2])

    parser.StartElementHandler = start
    parser.EndElementHandler = end
