"""Traccar: positions as its API reports them (`/api/positions`, `/api/reports/route`)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final

import pandas as pd

from trackgen_core.readers.columns import Fix, Refusal, to_name, to_number, to_time_text
from trackgen_core.readers.sources import Source
from trackgen_core.readers.values import Values, as_object, frames, opening

INVALID: Final = "marked as invalid by the tracker"

KNOT_MS: Final = 1852 / 3600
"""One knot in m/s: Traccar keeps speeds in knots."""


def recognises(text: str) -> bool:
    """Tell whether a text that begins like this is an array of positions."""
    depth, first = opening(text)
    return depth == 1 and first.keys() >= {"deviceId", "fixTime", "latitude", "longitude"}


def read(source: Source) -> Iterator[pd.DataFrame]:
    """Read the positions, in batches."""
    return frames(source, _fixes)


def _fixes(values: Values) -> Iterator[Fix | Refusal]:
    for position in values.elements():
        yield _fix(as_object(position))


def _fix(position: dict[str, Any]) -> Fix | Refusal:
    if position.get("valid") is False:
        return INVALID
    return (
        to_time_text(position.get("fixTime")),
        to_number(position.get("longitude")),
        to_number(position.get("latitude")),
        to_number(position.get("altitude")),
        to_number(position.get("accuracy")) or math.nan,  # 0 where the protocol has none
        to_number(position.get("speed")) * KNOT_MS,
        None,
        to_name(position.get("deviceId")),
    )
