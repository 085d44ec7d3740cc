"""Home Assistant: the states of trackers and persons, as `/api/history/period` and `/api/states` report them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pandas as pd

from trackgen_core.readers.columns import Fix, to_name, to_number, to_time_text
from trackgen_core.readers.sources import Source
from trackgen_core.readers.values import Values, as_object, frames, opening

TRACKED: Final = ("device_tracker.", "person.")
"""Whose positions are fixes. Zones, for one, have a place, too."""


def recognises(text: str) -> bool:
    """Tell whether a text that begins like this is a history, an array for each entity, or one array of states."""
    depth, first = opening(text)
    return depth in (1, 2) and first.keys() >= {"entity_id", "state"}


def read(source: Source) -> Iterator[pd.DataFrame]:
    """Read the positions, in batches."""
    return frames(source, _fixes)


def _fixes(values: Values) -> Iterator[Fix]:
    for element in values.elements(nested=1):
        state = as_object(element)
        entity = to_name(state.get("entity_id")) or ""
        attributes = as_object(state.get("attributes"))
        if not entity.startswith(TRACKED) or "latitude" not in attributes:
            continue
        updated, changed = state.get("last_updated"), state.get("last_changed")
        yield (
            to_time_text(changed if updated is None else updated),
            to_number(attributes.get("longitude")),
            to_number(attributes["latitude"]),
            to_number(attributes.get("altitude")),
            to_number(attributes.get("gps_accuracy")),
            to_number(attributes.get("speed")),
            None,
            # A person is where the tracker is that it names: one device, not two that travel together.
            to_name(attributes.get("source")) or entity,
        )
