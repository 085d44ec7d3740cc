"""GPX 1.0 and 1.1: the points of tracks. Waypoints and routes are no recordings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pandas as pd

from trackgen_core.readers.sources import Source
from trackgen_core.readers.xml import (
    ACCURACY,
    ACTIVITY,
    ALTITUDE,
    FIELDS,
    SPEED,
    TIME,
    Layout,
    frame_of_texts,
    read_texts,
    root_name,
)

_LAYOUT: Final = Layout(
    format="GPX",
    root="gpx",
    point="trkpt",
    children={"time": TIME, "ele": ALTITUDE, "speed": SPEED},
    deeper={"accuracy": ACCURACY, "speed": SPEED, "activity": ACTIVITY},
    part="trk",
    segment="trkseg",
    kind="type",
)

_STRAVA: Final = {"1": "ride", "4": "hike", "9": "run", "10": "walk"}
"""What the numbers mean that Strava wrote as the type of a track."""


def recognises(head: bytes) -> bool:
    """Tell whether bytes that begin like this are XML with the root element `gpx`."""
    return root_name(head) == _LAYOUT.root


def read(source: Source) -> Iterator[pd.DataFrame]:
    """Read the track points of a GPX file, in batches."""
    return map(_frame, read_texts(source, _LAYOUT))


def _frame(texts: list[str | None]) -> pd.DataFrame:
    texts[ACTIVITY::FIELDS] = [_STRAVA.get(text or "", text) for text in texts[ACTIVITY::FIELDS]]
    return frame_of_texts(texts)
