"""KML: the fixes of every `gx:Track`, and Points of placemarks with a TimeStamp, or at the begin of their TimeSpan.

Lines and areas have no times. A track names all its times before its first place. They are held until their places
come, in eight bytes each.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final
from xml.parsers import expat

import numpy as np
import pandas as pd
import pyarrow.compute as pc
from numpy.typing import NDArray

from trackgen_core.readers import columns
from trackgen_core.readers.columns import make_frame, parse_numbers, parse_times, to_texts
from trackgen_core.readers.sources import NoFixes, Source, UnreadableFile
from trackgen_core.readers.xml import (
    MAX_DEPTH,
    MAX_TEXT_PIECES,
    Document,
    local_name,
    parse,
    root_name,
    too_deep,
)

ROOT: Final = "kml"

TIMELESS: Final = ("Point", "LineString", "Polygon")
TIMED: Final = "TimeStamp"
"""What counts placemarks that have a line or an area, and a time."""

_TEXTS: Final = {
    ("Track", "when"),
    ("Track", "coord"),
    ("Track", "altitudeMode"),
    ("TimeStamp", "when"),
    ("TimeSpan", "begin"),
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
    so_far = _SoFar(times.texts, places.texts)
    error: UnreadableFile | None = None
    found = 0
    try:
        for _ in parse(source, "KML", ROOT, partial(_collect, so_far=so_far)):
            times.settle(columns.BATCH_ROWS)
            places.settle(columns.BATCH_ROWS)
            while min(len(times), len(places)) >= columns.BATCH_ROWS:
                yield _frame(times.take(columns.BATCH_ROWS), places.take(columns.BATCH_ROWS), so_far.pauses, found)
                found += columns.BATCH_ROWS
    except UnreadableFile as broken:
        error = broken
    while rest := min(len(times), len(places), columns.BATCH_ROWS):
        yield _frame(times.take(rest), places.take(rest), so_far.pauses, found)
        found += rest
    if error:
        raise error
    if not found:
        raise NoFixes(source.path, f"no fixes: {_why_none(so_far.shapes)}; export it as GPX, or as KML with gx:Track")


def _why_none(shapes: Counter[str]) -> str:
    if not shapes:
        return "it holds no gx:Track and no Point with a TimeStamp"
    named = ", ".join(f"{count} {shape}" for shape, count in shapes.items() if shape != TIMED)
    if shapes[TIMED]:
        return f"one TimeStamp is no time for each point of a line ({named})"
    return f"none of its shapes has a TimeStamp ({named})"


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


@dataclass
class _SoFar:
    """What has been found in a file, which may have several documents."""

    times: list[str | None]
    places: list[str | None]
    shapes: Counter[str] = field(default_factory=Counter)
    pauses: list[int] = field(default_factory=list)
    """Which of all fixes come first behind a pause."""
    fixes: int = 0
    """How many have a time."""


def _collect(parser: expat.XMLParserType, document: Document, so_far: _SoFar) -> None:
    """Set handlers that append the time and the place of every fix, and count shapes."""
    times, places, shapes, pauses = so_far.times, so_far.places, so_far.shapes, so_far.pauses
    tracks = 0  # of the gx:MultiTrack, so far
    path = [ROOT]
    text_level = 0  # of the element whose text is being collected, 0 if there is none
    pieces: list[str] = []
    above_sea = True
    lead = 0  # how many more times than places the track has named so far
    moment: str | None = None
    points: list[str] = []
    is_line = False

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal text_level, above_sea, lead, moment, is_line, tracks
        name = local_name(name) if ":" in name else name
        parent = path[-1]
        path.append(name)
        if len(path) > MAX_DEPTH:
            raise too_deep(parser, document)
        if (parent, name) in _TEXTS:
            if not text_level:
                text_level = len(path)
                parser.CharacterDataHandler = characters
        elif name == "Placemark":
            moment, is_line = None, False
            points.clear()
        elif name == "MultiTrack":
            tracks = 0
        elif name == "Track":
            above_sea, lead = True, 0
            tracks = tracks + 1 if parent == "MultiTrack" else 0
            if tracks > 1:
                pauses.append(so_far.fixes)
        elif name in TIMELESS:
            above_sea = True
            is_line |= name != "Point"
            shapes[name] += 1

    def characters(data: str) -> None:
        if len(pieces) < MAX_TEXT_PIECES:
            pieces.append(data)

    def end(name: str) -> None:
        nonlocal text_level
        name = path[-1]
        if len(path) == text_level:
            use(path[-2], name, "".join(pieces) if len(pieces) < MAX_TEXT_PIECES else "")
            pieces.clear()
            text_level = 0
            parser.CharacterDataHandler = None
        elif name == "Track":
            places.extend([None] * lead)
            times.extend([None] * -lead)
            so_far.fixes += max(-lead, 0)
        elif name == "Placemark" and moment is not None:
            times.extend([moment] * len(points))
            places.extend(points)
            so_far.fixes += len(points)
            shapes[TIMED] += is_line
        path.pop()
        if not path:
            document.is_over = True

    def use(parent: str, name: str, text: str) -> None:
        nonlocal above_sea, lead, moment
        if name == "altitudeMode":
            above_sea = text.strip() == "absolute"
        elif parent in ("TimeStamp", "TimeSpan"):
            # That of a view, or of a folder, says nothing about the placemark.
            moment = text if path[-3] == "Placemark" else moment
        elif parent == "Point":
            if path[-3] in ("Placemark", "MultiGeometry"):
                points.append(seen_from_above(text))
        elif name == "when":
            times.append(text)
            so_far.fixes += 1
            lead += 1
        else:
            places.append(seen_from_above(text))
            lead -= 1

    def seen_from_above(text: str) -> str:
        """Return a place without its altitude, if that is not above the sea."""
        return text if above_sea else " ".join(text.replace(",", " ").split()[:2])

    parser.StartElementHandler = start
    parser.EndElementHandler = end
