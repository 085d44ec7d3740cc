"""OwnTracks: the recorder's `.rec` files, what its API answers, and messages in an array or one a line.

A line of a `.rec` file has the time of arrival, the kind of the message, and its JSON, between tabs or blanks.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import pandas as pd

from trackgen_core.readers.columns import Fix, batches, frame_of_fixes, to_activity, to_decimal, to_name, to_time_text
from trackgen_core.readers.sources import Source, UnreadableFile, open_text
from trackgen_core.readers.values import CHUNK_CHARS, Values, as_object, frames, opening

KMH_PER_MS: Final = 3.6

MAX_LINE_BYTES: Final = 1 << 22
"""A longer line is no message (a card with a picture has some 100 KB): it is cut into pieces, which are bad rows."""

_LINE: Final = re.compile(r"^\d{4}-\d\d-\d\dT\S*[ \t]+[^\n{]*[ \t]\{", re.MULTILINE)
_TYPE: Final = re.compile(r'"_type"\s*:')


def recognises(text: str) -> bool:
    """Tell whether a text that begins like this has a line with time, kind and JSON, or is JSON with messages."""
    if text.lstrip()[:1] not in ("{", "["):
        return _LINE.search(text) is not None
    depth, first = opening(text)
    return depth <= 1 and ("_type" in first or (depth == 0 and "data" in first and _TYPE.search(text) is not None))


def read(source: Source) -> Iterator[pd.DataFrame]:
    """Read the locations, in batches."""
    with open_text(source) as text:
        head = text.read(CHUNK_CHARS)
    if head.lstrip()[:1] not in ("{", "["):
        return map(frame_of_fixes, batches(_fixes_of_lines(source)))
    depth, first = opening(head)
    messages = _elements if depth else _answer if "data" in first and "_type" not in first else Values.records
    return frames(source, lambda values: _fixes_of_messages(messages(values)))


def _fixes_of_lines(source: Source) -> Iterator[Fix]:
    with source.open() as stream:
        for number, line in enumerate(iter(partial(stream.readline, MAX_LINE_BYTES), b""), 1):
            if not line.strip():
                continue
            head, brace, rest = line.partition(b"{")
            message = _decode(brace + rest)
            if message is None and not line.endswith(b"\n") and len(line) < MAX_LINE_BYTES:
                raise UnreadableFile(f"{source.path}: line {number}: the file breaks off; copy it again")
            if message is None or message.get("_type", "location") == "location":
                arrival = head.split(maxsplit=1)[:1]
                yield _fix(message or {}, arrival[0].decode("ascii", "replace") if arrival else "")


def _fixes_of_messages(messages: Iterator[Any]) -> Iterator[Fix]:
    for message in map(as_object, messages):
        if message.get("_type", "location") == "location":
            yield _fix(message, None)


def _elements(values: Values) -> Iterator[Any]:
    return values.elements()


def _answer(values: Values) -> Iterator[Any]:
    """Yield the messages of an answer of the recorder's API."""
    for key in values.members():
        if key == "data" and values.peek() == "[":
            yield from values.elements()
        else:
            values.next()


def _decode(text: bytes) -> dict[str, Any] | None:
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) else None


def _fix(message: dict[str, Any], arrival: str | None) -> Fix:
    tst, topic = message.get("tst"), message.get("topic")
    levels = topic.split("/") if isinstance(topic, str) else []
    return (
        arrival if tst is None else to_time_text(tst),
        to_decimal(message.get("lon")),
        to_decimal(message.get("lat")),
        to_decimal(message.get("alt")),
        to_decimal(message.get("acc")),
        to_decimal(message.get("vel")) / KMH_PER_MS,
        None,
        levels[2] if len(levels) > 2 else to_name(message.get("device")),
        to_activity(message.get("motionactivities")),
        0,
    )
