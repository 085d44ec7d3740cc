"""XML: one pass of expat over a file of any size, and the texts of its points. What GPX, TCX and KML share."""

from __future__ import annotations

import codecs
import io
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import BinaryIO, Final, cast
from xml.parsers import expat

import numpy as np
import pandas as pd

from trackgen_core.readers import columns
from trackgen_core.readers.columns import make_frame, parse_numbers, parse_times, to_activities, to_texts
from trackgen_core.readers.sources import LATIN_1, NoFixes, Source, UnreadableFile

CHUNK_BYTES: Final = 1 << 16

MAX_TAG_BYTES: Final = 1 << 22
"""Expat holds an unfinished tag or comment in memory; one of 4 MiB is no recording."""

MAX_DEPTH: Final = 200
"""Elements that lie in so many others are no recording, and each takes memory that it gives back at its end."""

HEAD_BYTES: Final = 1024
"""The XML declaration, if there is one, is among the first bytes."""

MAX_TEXT_PIECES: Final = 64
"""Expat delivers a text in pieces of up to 8 KiB; a text of so many is no value, and must not fill the memory."""

MAX_KIND_CHARS: Final = 100
"""A longer text names no activity, and is kept with each point."""

TIME, LON, LAT, ALTITUDE, ACCURACY, SPEED, PAUSE, ACTIVITY = range(8)
"""Places of the texts of one point. That of `PAUSE` is there if the recording was stopped before the point."""

FIELDS: Final = 8

_BEFORE: Final = re.compile(rb"(?:\s|\xef\xbb\xbf)*")
_BEHIND: Final = re.compile(rb"(?:[\s\0]|\xef\xbb\xbf)*")
"""What may stand before a document and behind it: blanks, marks of UTF-8, and zeros that a program left."""

_ENCODING: Final = re.compile(rb"""<\?xml[^>]*?\sencoding\s*=\s*["']([A-Za-z][\w.:-]*)["']""")

_OF_SEVERAL_BYTES: Final = {
    *("gbk", "gb2312", "gb18030", "hz", "big5", "big5hkscs", "cp950", "shift_jis", "shift_jisx0213", "cp932"),
    *("euc_jp", "euc_jis_2004", "iso2022_jp", "euc_kr", "cp949", "johab", "iso2022_kr"),
}
"""Encodings, as Python calls them, that expat does not know."""

Start = Callable[[expat.XMLParserType, "Document"], None]
"""Called after the root element has begun, to set the handlers of what is in it."""


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
    counted : tuple of str
        Elements to count, outside of points.
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
    counted: tuple[str, ...] = ()


@dataclass
class Document:
    """A document that is being parsed: what its handlers keep of it."""

    path: str
    is_over: bool = False
    """Whether its root element has ended."""
    counts: Counter[str] = field(default_factory=Counter)


class _Found(Exception):
    """The root element has begun."""


def root_name(head: bytes) -> str | None:
    """Return the name of the root element of XML that begins like this, None if it is no XML."""
    roots: list[str] = []

    def begin(name: str, _: dict[str, str]) -> None:
        roots.append(name)
        raise _Found

    if codec := _codec(head):
        head = head.decode(codec, "ignore").encode()
    parser = expat.ParserCreate("utf-8" if codec else None)
    parser.StartElementHandler = begin
    # What counts is the root, which comes before most errors.
    with suppress(expat.ExpatError, LookupError, ValueError, _Found):
        parser.Parse(head[_end(_BEFORE, head) :], False)
    return local_name(roots[0]) if roots else None


def local_name(name: str) -> str:
    """Return the name of an element without its namespace prefix, which every program chooses for itself."""
    return name.rpartition(":")[2]


def read_texts(source: Source, layout: Layout, counts: Counter[str] | None = None) -> Iterator[list[str | None]]:
    """Read the points of a file in batches, each a list of `FIELDS` texts for every point.

    If the file breaks off, the points before that are a last batch. What the layout counts is added to `counts`.
    """
    texts: list[str | None] = []
    size = columns.BATCH_ROWS * FIELDS

    def start(parser: expat.XMLParserType, document: Document) -> None:
        if counts is not None:
            document.counts = counts
        _collect(parser, document, layout, texts)

    error: UnreadableFile | None = None
    try:
        for _ in parse(source, layout.format, layout.root, start):
            while len(texts) >= size:
                yield texts[:size]
                del texts[:size]
    except UnreadableFile as broken:
        error = broken
    while texts:
        yield texts[:size]
        del texts[:size]
    if error:
        raise error


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


def parse(source: Source, format: str, root: str, start: Start) -> Iterator[None]:
    """Parse a file, and yield after each of its chunks. Several documents may follow each other.

    Parameters
    ----------
    source : Source
        The file; blanks before an XML declaration are passed over.
    format, root : str
        The name of the format, and of its root element, whose prefix does not count.
    start : callable
        Called after the root element of a document has begun.

    Raises
    ------
    UnreadableFile
        If a document is not well-formed, has another root element, breaks off, or declares entities.
    NoFixes
        If there is none.
    """
    with source.open() as stream:
        codec = _codec(cast(io.BufferedReader, stream).peek(HEAD_BYTES))
        chunks = _Chunks(_Recoded(stream, codec) if codec else stream)
        parse_document = partial(_parse_document, chunks, source.path, format, root, start, "utf-8" if codec else None)
        if not chunks.skip(_BEFORE):
            raise NoFixes(source.path, "the file is empty")
        yield from parse_document()
        while chunks.skip(_BEHIND) and chunks.starts_with(b"<"):
            yield from parse_document()
        if rubbish := chunks.passed + chunks.drain():
            source.note(f"{rubbish} bytes behind its end were passed over")


class _Recoded:
    """A text in an encoding that expat does not know, as UTF-8."""

    def __init__(self, stream: BinaryIO, codec: str) -> None:
        self._text = io.TextIOWrapper(stream, codec, errors=LATIN_1, newline="")

    def read(self, size: int) -> bytes:
        return self._text.read(size).encode("utf-8", "replace")


class _Chunks:
    """The bytes of a stream in chunks, some of which can be given back."""

    def __init__(self, stream: BinaryIO | _Recoded) -> None:
        self._stream = stream
        self._held = b""
        self.passed = 0
        """How many zeros `skip` has passed over since the last document."""

    def next(self) -> bytes:
        """Return the next chunk, b"" at the end."""
        self.passed = 0
        chunk, self._held = self._held[:CHUNK_BYTES], self._held[CHUNK_BYTES:]
        return chunk or self._stream.read(CHUNK_BYTES)

    def peek(self) -> bytes:
        """Return what comes next, without taking it: at least `HEAD_BYTES`, if there are so many."""
        while len(self._held) < HEAD_BYTES and (more := self._stream.read(HEAD_BYTES)):
            self._held += more
        return self._held

    def give_back(self, rest: bytes) -> None:
        self._held = rest + self._held

    def skip(self, blanks: re.Pattern[bytes]) -> bool:
        """Pass over blanks, and tell whether anything comes behind them."""
        while head := self.peek():
            at = _end(blanks, head)
            self.passed += head.count(b"\0", 0, at)
            self._held = head[at:]
            if self._held:
                return True
        return False

    def starts_with(self, head: bytes) -> bool:
        return self.peek().startswith(head)

    def drain(self) -> int:
        """Return how many bytes are left, and take them."""
        count = len(self._held)
        while more := self._stream.read(CHUNK_BYTES):
            count += len(more)
        return count


def _parse_document(
    chunks: _Chunks, path: str, format: str, root: str, start: Start, encoding: str | None
) -> Iterator[None]:
    """Parse one document, and give back what comes behind it."""
    document = Document(path)
    parser = _parser(document, format, root, start, encoding)
    recent, recent_at = b"", 0  # the bytes that expat has not done with
    while True:
        chunk = chunks.next()
        recent += chunk
        if not _feed(parser, chunk, document):
            chunks.give_back(recent[parser.ErrorByteIndex - recent_at :])
            return
        yield
        if not chunk:
            return
        done = max(recent_at, parser.CurrentByteIndex)
        recent, recent_at = recent[done - recent_at :], done
        if len(recent) > MAX_TAG_BYTES:
            raise UnreadableFile(f"{path}: {_place(parser)}: a tag of more than {MAX_TAG_BYTES} bytes")


def _codec(head: bytes) -> str | None:
    """Return the encoding of a text that begins like this, if it is to be recoded for expat."""
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    declared = _ENCODING.match(head, _end(_BEFORE, head))
    try:
        codec = codecs.lookup(declared[1].decode("ascii")).name if declared else ""
    except LookupError:
        return None
    # Some programs declare UTF-16, and write UTF-8: a declaration that can be read is not in UTF-16. Of the names of
    # UTF-8, expat knows one.
    is_utf8 = codec.startswith("utf-16") or (codec == "utf-8" and declared and declared[1].lower() != b"utf-8")
    return codec if codec in _OF_SEVERAL_BYTES else "utf-8" if is_utf8 else None


def _end(pattern: re.Pattern[bytes], text: bytes) -> int:
    match = pattern.match(text)
    return match.end() if match else 0


def _parser(document: Document, format: str, root: str, start: Start, encoding: str | None) -> expat.XMLParserType:
    parser = expat.ParserCreate(encoding)
    parser.buffer_text = True
    path = document.path

    def begin(name: str, attributes: dict[str, str]) -> None:
        if local_name(name) != root:
            raise UnreadableFile(f"{path}: {_place(parser)}: XML, but no {format}: its root element is <{name[:40]}>")
        start(parser, document)

    def entity(name: str, *_: object) -> None:
        raise UnreadableFile(
            f"{path}: {_place(parser)}: declares entities ({name[:40]}), refused: they can make a small file "
            "endless; remove its DOCTYPE"
        )

    parser.StartElementHandler = begin
    parser.EntityDeclHandler = entity
    return parser


def too_deep(parser: expat.XMLParserType, document: Document) -> UnreadableFile:
    """Return the error of an element that lies in too many others."""
    return UnreadableFile(f"{document.path}: {_place(parser)}: more than {MAX_DEPTH} elements in each other")


def _feed(parser: expat.XMLParserType, chunk: bytes, document: Document) -> bool:
    """Parse a chunk; an empty one is the end of the file. Return False if the document has ended inside it."""
    try:
        parser.Parse(chunk, not chunk)
    except UnreadableFile:
        raise
    except (expat.ExpatError, LookupError, ValueError) as error:
        if isinstance(error, expat.ExpatError) and document.is_over:
            return False
        reason = expat.ErrorString(error.code) if isinstance(error, expat.ExpatError) else str(error)
        what = f"not well-formed XML ({reason})" if chunk else f"the file breaks off ({reason}); copy it again"
        raise UnreadableFile(f"{document.path}: {_place(parser)}: {what}") from error
    return True


def _place(parser: expat.XMLParserType) -> str:
    return f"line {parser.CurrentLineNumber}, column {parser.CurrentColumnNumber + 1}"


def _collect(parser: expat.XMLParserType, document: Document, layout: Layout, texts: list[str | None]) -> None:
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
            if level > MAX_DEPTH:
                raise too_deep(parser, document)
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
        if depth > MAX_DEPTH:
            raise too_deep(parser, document)
        if name in layout.counted:
            document.counts[name] += 1
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
                text = "".join(pieces) if len(pieces) < MAX_TEXT_PIECES else None
                # An empty element says nothing about what another one has said.
                if point[place] is None or (text and not text.isspace()):
                    point[place] = text
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
        document.is_over = depth < 0

    parser.StartElementHandler = start
    parser.EndElementHandler = end
