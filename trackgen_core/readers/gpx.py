"""GPX 1.0 and 1.1: the points of tracks. Routes are planned; waypoints are fixes only where a file has no track."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import pandas as pd

from trackgen_core.readers.sources import NoFixes, Source
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
from trackgen_core.words import counted

ACCURACIES: Final = (
    "accuracy",
    "hAcc",
    "hacc",
    "h_acc",
    "accuracy_horizontal",
    "horizontalAccuracy",
    "accuracyHorizontal",
)
"""What programs call the accuracy in extensions: Apple, OpenTracks and others have names of their own."""

_TRACKS: Final = Layout(
    format="GPX",
    root="gpx",
    point="trkpt",
    children={"time": TIME, "ele": ALTITUDE, "speed": SPEED},
    deeper={"speed": SPEED, "activity": ACTIVITY, **dict.fromkeys(ACCURACIES, ACCURACY)},
    part="trk",
    segment="trkseg",
    kind="type",
    counted=("wpt", "rte", "trk"),
)
_WAYPOINTS: Final = replace(_TRACKS, point="wpt", counted=())

_STRAVA: Final = {"1": "ride", "4": "hike", "9": "run", "10": "walk"}
"""What the numbers mean that Strava wrote as the type of a track."""


def recognises(head: bytes) -> bool:
    """Tell whether bytes that begin like this are XML with the root element `gpx`."""
    return root_name(head) == _TRACKS.root


def read(source: Source) -> Iterator[pd.DataFrame]:
    """Read the track points of a GPX file, in batches; or, if it has none, its waypoints that have a time."""
    counts: Counter[str] = Counter()
    found = False
    for texts in read_texts(source, _TRACKS, counts):
        found = True
        yield _frame(texts)
    if found:
        return
    for texts in read_texts(source, _WAYPOINTS) if counts["wpt"] else ():
        timed = [time is not None for time in texts[TIME::FIELDS]]
        if any(timed):
            found = True
            source.note("it has no track; its waypoints with a time are its points")
            yield frame_of_texts(texts).loc[timed].reset_index(drop=True)
    if not found:
        waypoints = f"{counted(counts['wpt'], 'waypoint')} without a time" if counts["wpt"] else ""
        others = [counted(counts[name], word) for name, word in (("rte", "route"), ("trk", "track")) if counts[name]]
        there = " and ".join(filter(None, (waypoints, *others)))
        raise NoFixes(source.path, f"no fixes: it has {there or 'no track'}{', but no point of a track' * bool(there)}")


def _frame(texts: list[str | None]) -> pd.DataFrame:
    texts[ACTIVITY::FIELDS] = [_STRAVA.get(text or "", text) for text in texts[ACTIVITY::FIELDS]]
    return frame_of_texts(texts)
