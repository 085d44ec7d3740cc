"""XML: one pass of expat over a file of any size, and the texts of its points. What GPX, TCX and KML share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final
from xml.parsers import expat

import numpy as np
import pandas as pd

from trackgen_core.readers import columns
from trackgen_core.readers.columns import make_frame, parse_numbers, parse_times, to_activities, to_texts
from trackgen_core.readers.sources import Source, UnreadableFile

CHUNK_BYTES: Final = 1 << 16

MAX_TAG_BYTES: Final = 1 << 22
"""Expat holds an unfinished tag or comment in memory; one of 4 MiB is no recording."""

MAX_TEXT_PIECES: Final = 64
"""Expat delivers a text in pieces of up to 8 KiB; a text of so many is no value, and must not fill the memory."""

MAX_KIND_CHARS: Final = 100
"""A longer text names no activity, and is kept with each point."""

TIME, LON, LAT, ALTITUDE, ACCURACY, SPEED, PAUSE, ACTIVITY = range(8)
"""Places of the texts of one point. That of `PAUSE` is there if the recording was stopped before the point."""

FIELDS: Final = 8


@dataclass(frozen=True)
class Layout:
    """Where a format keeps its points.

    Parameters
    ----------
    format, root : str
        Its name, and that of its root element.
    point : str
        The element of a point, whose attributes may be `lon` and `lat`.
    children, deeper : mapping from str to int
        Which of the texts an element holds directly under a point, and which deeper.
    plan : str
        An element whose points were planned, not recorded.
    part, segment : str
        The elements of a recording, and of what lies between two pauses in it.
    kind : str
        The element directly in a `part` whose text says how somebody moved.
    sport : str
        The element whose attribute `Sport` says so.
    """

    format: str
    root: str
    point: str
    children: Mapping[str, int]
    deeper: Mapping[str, int]
    plan: str = ""
    part: str = ""
    segment: str = ""
    kind: str = ""
    sport: str = ""


def root_name(head: bytes) -> str | None:
    """Return the name of the root element of XML that begins like this, None if it is no XML."""
    roots: list[str] = []
    parser = expat.ParserCreate()
    parser.StartElementHandler = lambda name, _: roots.append(name)
    # What counts is the root, which comes before most errors.
    with suppress(expat.ExpatError, LookupError, ValueError):
        parser.Parse(head.lstrip(), False)
    return local_name(roots[0]) if roots else None


def local_name(name: str) -> str:
    """Return the name of an element without its namespace prefix, which every program chooses for itself."""
    return name.rpartition(":")[2]


def read_texts(source: Source, layout: Layout) -> Iterator[list[str | None]]:
    """Read the points of a file in batches, each a list of `FIELDS` texts for every point."""
    texts: list[str | None] = []
    size = columns.BATCH_ROWS * FIELDS
    for _ in parse(source, layout.format, layout.root, lambda parser: _collect(parser, layout, texts)):
        while len(texts) >= size:
            yield texts[:size]
            del texts[:size]
    if texts:
        yield texts


def frame_of_texts(texts: list[str | None]) -> pd.DataFrame:
    """Return the frame of a batch of `read_texts`."""
    time, lon, lat, altitude, accuracy, speed = (to_texts(texts[place::FIELDS]) for place in range(PAUSE))
    return make_frame(
        parse_times(time),
        parse_numbers(lon),
        parse_numbers(lat),
        altitude=parse_numbers(altitude),
        accuracy=parse_numbers(accuracy),
        speed=parse_numbers(speed),
        pause=np.array([text is not None for text in texts[PAUSE::FIELDS]], np.int64),
        activity=to_activities(texts[ACTIVITY::FIELDS]),
    )


def parse(source: Source, format: str, root: str, start: Callable[[expat.XMLParserType], None]) -> Iterator[None]:
    """Parse a file, and yield after each of its chunks.

    Parameters
    ----------
    source : Source
        The file; blanks before its XML declaration are passed over.
    format, root : str
        The name of the format, and of its root element, whose prefix does not count.
    start : callable
        Called after the root element has begun, to set the handlers of what is in it.

    Raises
    ------
    UnreadableFile
        If the file is not well-formed, has another root element, breaks off, or declares entities.
    """
    parser = _parser(source.path, format, root, start)
    fed = 0
    with source.open() as stream:
        chunk = stream.read(CHUNK_BYTES).lstrip()
        if not chunk:
            raise UnreadableFile(f"{source.path}: the file is empty")
        while chunk:
            _feed(parser, chunk, source.path)
            yield
            fed += len(chunk)
            if fed - parser.CurrentByteIndex > MAX_TAG_BYTES:
                raise UnreadableFile(f"{source.path}: {_place(parser)}: a tag of more than {MAX_TAG_BYTES} bytes")
            chunk = stream.read(CHUNK_BYTES)
    _feed(parser, b"", source.path)
    yield


def _parser(path: str, format: str, root: str, start: Callable[[expat.XMLParserType], None]) -> expat.XMLParserType:
    parser = expat.ParserCreate()
    parser.buffer_text = True

    def begin(name: str, attributes: dict[str, str]) -> None:
        if local_name(name) != root:
            raise UnreadableFile(f"{path}: {_place(parser)}: XML, but no {format}: its root element is <{name[:40]}>")
        start(parser)

    def entity(name: str, *_: object) -> None:
        raise UnreadableFile(
            f"{path}: {_place(parser)}: declares entities ({name[:40]}), refused: they can make a small file "
            "endless; remove its DOCTYPE"
        )

    parser.StartElementHandler = begin
    parser.EntityDeclHandler = entity
    return parser


def _feed(parser: expat.XMLParserType, chunk: bytes, path: str) -> None:
    """Parse a chunk; an empty one says that the file has ended."""
    try:
        parser.Parse(chunk, not chunk)
    except UnreadableFile:
        raise
    except (expat.ExpatError, LookupError, ValueError) as error:
        reason = expat.ErrorString(error.code) if isinstance(error, expat.ExpatError) else str(error)
        what = f"not well-formed XML ({reason})" if chunk else f"the file breaks off ({reason}); copy it again"
        raise UnreadableFile(f"{path}: {_place(parser)}: {what}") from error


def _place(parser: expat.XMLParserType) -> str:
    return f"line {parser.CurrentLineNumber}, column {parser.CurrentColumnNumber + 1}"


def _collect(parser: expat.XMLParserType, layout: Layout, texts: list[str | None]) -> None:
    """Set handlers that append the texts of every point to `texts`.

    They run for every tag of a file, which takes most of the time of reading it: plain closures that keep nothing
    but strings.
    """
    children, deeper, point_name = layout.children, layout.deeper, layout.point
    depth = part_depth = 0  # of the open element outside of points, below the root; and of the part
    segments = 0  # of the part, so far
    pause: str | None = None
    activity: str | None = None
    level = 0  # of the open element: 1 for a point, 0 outside of one
    planned = False
    point: list[str | None] = []
    place: int | None = None
    place_level = 0
    pieces: list[str] = []

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal level, planned, point, place, place_level, pause
        if ":" in name:
            name = local_name(name)
        if level:
            level += 1
            if place is None:
                place = (children if level == 2 else deeper).get(name)
                if place is not None:
                    place_level = level
                    parser.CharacterDataHandler = characters
        elif name == point_name and not planned:
            level = 1
            point = [None, attributes.get("lon"), attributes.get("lat"), None, None, None, pause, activity]
        else:
            start_outside(name, attributes)

    def start_outside(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth, part_depth, segments, pause, activity, planned
        depth += 1
        if name == layout.plan:
            planned = True
        elif name == layout.part:
            part_depth, segments, pause = depth, 0, None
            if layout.kind:
                activity = None
        elif name == layout.segment:
            segments += 1
            pause = "1" if segments > 1 else None
        elif name == layout.sport:
            activity = attributes.get("Sport")
        elif name == layout.kind and depth == part_depth + 1:
            parser.CharacterDataHandler = characters

    def characters(data: str) -> None:
        if len(pieces) < MAX_TEXT_PIECES:
            pieces.append(data)

    def end(name: str) -> None:
        nonlocal level, place, pause
        if level:
            if place is not None and level == place_level:
                point[place] = "".join(pieces) if len(pieces) < MAX_TEXT_PIECES else None
                pieces.clear()
                place = None
                parser.CharacterDataHandler = None
            level -= 1
            if not level:
                texts.extend(point)
                if point[LON] is not None or point[LAT] is not None:
                    pause = None
        else:
            end_outside(local_name(name))

    def end_outside(name: str) -> None:
        nonlocal depth, activity, planned
        if name == layout.plan:
            planned = False
        elif parser.CharacterDataHandler is not None:
            activity = "".join(pieces)[:MAX_KIND_CHARS].strip()
            pieces.clear()
            parser.CharacterDataHandler = None
        depth -= 1

    parser.StartElementHandler = start
    parser.EndElementHandler = end
