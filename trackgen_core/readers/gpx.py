"""GPX 1.0 and 1.1: the points of tracks, in one pass of expat. Waypoints and routes are no recordings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Final
from xml.parsers import expat

import pandas as pd

from trackgen_core.readers import columns
from trackgen_core.readers.columns import make_frame, parse_numbers, parse_times, to_texts
from trackgen_core.readers.sources import Source, UnreadableFile

CHUNK_BYTES: Final = 1 << 16

MAX_TAG_BYTES: Final = 1 << 22
"""Expat holds an unfinished tag or comment in memory; one of 4 MiB is no GPX."""

MAX_TEXT_PIECES: Final = 64
"""Expat delivers a text in pieces of up to 8 KiB; a text of so many is no value, and must not fill the memory."""

FIELDS: Final = 6
"""Texts of one point: time, lon, lat, altitude, accuracy, speed."""

_CHILDREN: Final = {"time": 0, "ele": 3, "speed": 5}
_EXTENSIONS: Final = {"accuracy": 4, "speed": 5}
"""Which of the texts an element holds directly under a track point, and which deeper, in its extensions."""


def recognises(head: bytes) -> bool:
    """Tell whether bytes that begin like this are XML with the root element `gpx`."""
    roots: list[str] = []
    parser = expat.ParserCreate()
    parser.StartElementHandler = lambda name, _: roots.append(name)
    # What counts is the root, which comes before most errors.
    with suppress(expat.ExpatError, LookupError, ValueError):
        parser.Parse(head.lstrip(), False)
    return bool(roots) and _local(roots[0]) == "gpx"


def read(source: Source) -> Iterator[pd.DataFrame]:
    """Read the track points of a GPX file, in batches."""
    texts: list[str | None] = []
    size = columns.BATCH_ROWS * FIELDS
    for _ in _parse(source, texts):
        while len(texts) >= size:
            yield _frame(texts[:size])
            del texts[:size]
    if texts:
        yield _frame(texts)


def _frame(texts: list[str | None]) -> pd.DataFrame:
    time, lon, lat, altitude, accuracy, speed = (to_texts(texts[place::FIELDS]) for place in range(FIELDS))
    return make_frame(
        parse_times(time),
        parse_numbers(lon),
        parse_numbers(lat),
        altitude=parse_numbers(altitude),
        accuracy=parse_numbers(accuracy),
        speed=parse_numbers(speed),
    )


def _parse(source: Source, texts: list[str | None]) -> Iterator[None]:
    """Append the texts of all track points, one after the other; yield after each chunk of the file."""
    parser = _parser(source.path, texts)
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


def _local(name: str) -> str:
    """Return the name of an element without its namespace prefix, which every program chooses for itself."""
    return name.rpartition(":")[2]


def _parser(path: str, texts: list[str | None]) -> expat.XMLParserType:
    """Return a parser that appends the texts of every track point to `texts`.

    The handlers run for every tag of a file, which takes most of the time of reading it: plain closures that keep
    nothing but strings.
    """
    parser = expat.ParserCreate()
    parser.buffer_text = True
    level = 0  # of the open element: 1 for a track point, 0 outside of one
    point: list[str | None] = []
    place: int | None = None
    place_level = 0
    pieces: list[str] = []

    def root(name: str, attributes: dict[str, str]) -> None:
        if _local(name) != "gpx":
            raise UnreadableFile(f"{path}: {_place(parser)}: XML, but no GPX: its root element is <{name[:40]}>")
        parser.StartElementHandler = start

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal level, point, place, place_level
        if ":" in name:
            name = _local(name)
        if level:
            level += 1
            if place is None:
                place = (_CHILDREN if level == 2 else _EXTENSIONS).get(name)
                if place is not None:
                    place_level = level
                    parser.CharacterDataHandler = characters
        elif name == "trkpt":
            level = 1
            point = [None, attributes.get("lon"), attributes.get("lat"), None, None, None]

    def characters(data: str) -> None:
        if len(pieces) < MAX_TEXT_PIECES:
            pieces.append(data)

    def end(name: str) -> None:
        nonlocal level, place
        if level:
            if place is not None and level == place_level:
                point[place] = "".join(pieces) if len(pieces) < MAX_TEXT_PIECES else None
                pieces.clear()
                place = None
                parser.CharacterDataHandler = None
            level -= 1
            if not level:
                texts.extend(point)

    def entity(name: str, *_: object) -> None:
        raise UnreadableFile(
            f"{path}: {_place(parser)}: declares entities ({name[:40]}), refused: they can make a small file "
            "endless; remove its DOCTYPE"
        )

    parser.StartElementHandler = root
    parser.EndElementHandler = end
    parser.EntityDeclHandler = entity
    return parser
