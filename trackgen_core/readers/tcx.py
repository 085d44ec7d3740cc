"""TCX: the trackpoints of activities that have a position. Courses are planned, not recorded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pandas as pd

from trackgen_core.readers.sources import NoFixes, Source
from trackgen_core.readers.xml import (
    ALTITUDE,
    FIELDS,
    LAT,
    LON,
    SPEED,
    TIME,
    Layout,
    frame_of_texts,
    read_texts,
    root_name,
)

_LAYOUT: Final = Layout(
    format="TCX",
    root="TrainingCenterDatabase",
    point="Trackpoint",
    children={"Time": TIME, "AltitudeMeters": ALTITUDE},
    deeper={"LongitudeDegrees": LON, "LatitudeDegrees": LAT, "Speed": SPEED},
    plan="Courses",
    part="Lap",
    segment="Track",
    sport="Activity",
)


def recognises(head: bytes) -> bool:
    """Tell whether bytes that begin like this are XML with the root element of TCX."""
    return root_name(head) == _LAYOUT.root


def read(source: Source) -> Iterator[pd.DataFrame]:
    """Read the positions of a TCX file, in batches. A trackpoint without any, as those recorded indoors, is no fix."""
    trackpoints = found = 0
    for texts in read_texts(source, _LAYOUT):
        places = zip(texts[LON::FIELDS], texts[LAT::FIELDS], strict=True)
        placed = [lon is not None or lat is not None for lon, lat in places]
        trackpoints += len(placed)
        if any(placed):
            found += sum(placed)
            yield frame_of_texts(texts).loc[placed].reset_index(drop=True)
    if not found:
        none = f"none of its {trackpoints} trackpoints has a position" if trackpoints else "it holds no activity"
        raise NoFixes(source.path, f"no fixes: {none}")
