"""OwnTracks `.rec`: one message per line, with the time of its arrival, its kind and its JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import pandas as pd

from trackgen_core.readers.columns import Fix, batches, frame_of_fixes, to_activity, to_number, to_time_text
from trackgen_core.readers.sources import Source, UnreadableFile

KMH_PER_MS: Final = 3.6

MAX_LINE_BYTES: Final = 1 << 22
"""A longer line is no message (a card with a picture has some 100 KB): it is cut into pieces, which are bad rows."""

_LINE: Final = re.compile(r"^\d{4}-\d\d-\d\dT[^\t\n]*\t[^\t\n]*\t\s*\{", re.MULTILINE)


def recognises(text: str) -> bool:
    """Tell whether a text that begins like this has a line with time, kind and JSON."""
    return _LINE.search(text) is not None


def read(source: Source) -> Iterator[pd.DataFrame]:
    """Read the locations of an OwnTracks recording, in batches."""
    for fixes in batches(_fixes(source)):
        yield frame_of_fixes(fixes)


def _fixes(source: Source) -> Iterator[Fix]:
    with source.open() as stream:
        for number, line in enumerate(iter(partial(stream.readline, MAX_LINE_BYTES), b""), 1):
            if not line.strip():
                continue
            time, _, rest = line.partition(b"\t")
            message = _message(rest.partition(b"\t")[2])
            if message is None and not line.endswith(b"\n") and len(line) < MAX_LINE_BYTES:
                raise UnreadableFile(f"{source.path}: line {number}: the file breaks off; copy it again")
            if message is None or message.get("_type", "location") == "location":
                yield _fix(message or {}, time.decode("ascii", "replace"))


def _message(text: bytes) -> dict[str, Any] | None:
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) else None


def _fix(message: dict[str, Any], arrival: str) -> Fix:
    tst, topic = message.get("tst"), message.get("topic")
    levels = topic.split("/") if isinstance(topic, str) else []
    return (
        arrival if tst is None else to_time_text(tst),
        to_number(message.get("lon")),
        to_number(message.get("lat")),
        to_number(message.get("alt")),
        to_number(message.get("acc")),
        to_number(message.get("vel")) / KMH_PER_MS,
        None,
        levels[2] if len(levels) > 2 else None,
        to_activity(message.get("motionactivities")),
        0,
    )
