"""What is exported: the columns of tracks, stays, legs and points in the units of people, and how each is written.

Lengths, times and heights are integers, and become text without the errors of a float.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from trackgen_core.geodesy import FloatArray
from trackgen_core.paths import encode_point
from trackgen_core.points import ACTIVITIES

Kind = Literal["text", "time", "count", "flag", "amount", "rounded", "number"]


class Column(NamedTuple):
    """A column of a file."""

    of: str
    """The column of the batch."""
    kind: Kind = "text"
    """`amount` is an integer of 10**-`places`; `rounded` and `number` are floats, the former shown with `places`
    decimals, the latter with as many as it takes."""
    places: int = 0


ARROW_TYPES: Final[dict[Kind, pa.DataType]] = {
    "text": pa.string(),
    "time": pa.timestamp("ms", tz="UTC"),
    "count": pa.int64(),
    "flag": pa.bool_(),
    "amount": pa.float64(),
    "rounded": pa.float64(),
    "number": pa.float64(),
}

_OWNER: Final = {"user": Column("user"), "device": Column("device")}
_TIMES: Final = {"started_at": Column("started_ms", "time"), "ended_at": Column("ended_ms", "time")}

TRACKS: Final = {
    "track_id": Column("track_id"),
    **_OWNER,
    **_TIMES,
    "points": Column("points", "count"),
    "distance_m": Column("length_mm", "amount", 3),
    "duration_s": Column("duration_ms", "amount", 3),
    "avg_speed_kmh": Column("avg_speed_kmh", "rounded", 3),
    **{f"elevation_{name}_m": Column(f"elevation_{name}_cm", "amount", 2) for name in ("gain", "loss", "min", "max")},
    "break_reason": Column("break_reason"),
    "moving_s": Column("moving_ms", "amount", 3),
    "moving_speed_kmh": Column("moving_speed_kmh", "rounded", 3),
    "mode": Column("mode"),
}
CSV_COLUMNS: Final = tuple(TRACKS)[: -len(("moving_s", "moving_speed_kmh", "mode"))]
"""What the CSV of tracks holds: scripts depend on it."""

STAYS: Final = {
    "stay_id": Column("stay_id"),
    **_OWNER,
    **_TIMES,
    "points": Column("points", "count"),
    "duration_s": Column("duration_ms", "amount", 3),
    "lon": Column("lon", "number"),
    "lat": Column("lat", "number"),
    "radius_m": Column("radius_cm", "amount", 2),
    "ongoing": Column("is_ongoing", "flag"),
    "break_reason": Column("break_reason"),
}
LEGS: Final = {
    "track_id": Column("track_id"),
    "number": Column("number", "count"),
    **_OWNER,
    **_TIMES,
    "mode": Column("mode"),
    "confidence": Column("confidence", "count"),
    "by_hand": Column("by_hand", "flag"),
    "distance_m": Column("length_mm", "amount", 3),
    "duration_s": Column("duration_ms", "amount", 3),
    "moving_s": Column("moving_ms", "amount", 3),
}
POINTS: Final = {
    **_OWNER,
    "timestamp": Column("time_ms", "time"),
    **{name: Column(name, "number") for name in ("lon", "lat", "altitude", "accuracy", "speed")},
    "noise": Column("noise"),
    "pause": Column("pause", "count"),
    "activity": Column("activity_name"),
}

Columns = Mapping[str, Column]


def derived(batch: pd.DataFrame) -> pd.DataFrame:
    """Return a batch with the columns that follow from others: moving speeds, durations, names of activities."""
    if "activity" in batch:
        batch = batch.assign(activity_name=activity_names(batch["activity"]))
    if "moving_ms" in batch:
        batch = batch.assign(moving_speed_kmh=moving_speeds_kmh(batch))
    if "started_ms" in batch and "duration_ms" not in batch:
        batch = batch.assign(duration_ms=batch["ended_ms"] - batch["started_ms"])
    return batch


def values(batch: pd.DataFrame, columns: Columns) -> dict[str, list[Any]]:
    """Return columns as JSON shows them: None where unknown, times in ISO 8601, numbers in the units of the names."""
    batch = derived(batch)
    return {name: _VALUES[column.kind](batch[column.of], column.places) for name, column in columns.items()}


def texts(batch: pd.DataFrame, columns: Columns) -> dict[str, list[str]]:
    """Return columns as texts: empty where unknown, with a fixed number of decimals where they are exact."""
    batch = derived(batch)
    return {name: _TEXTS[column.kind](batch[column.of], column.places) for name, column in columns.items()}


def objects(batch: pd.DataFrame, columns: Columns) -> Iterator[dict[str, Any]]:
    """Return the rows of a batch as JSON objects."""
    found = values(batch, columns)
    return (dict(zip(found, row, strict=True)) for row in zip(*found.values(), strict=True))


def schema(columns: Columns, *geometry_types: str) -> pa.Schema:
    """Return the Arrow schema of columns, and of their `geometry` (https://geoparquet.org/releases/v1.1.0/).

    Without "crs" it is OGC:CRS84. The types tell nothing that reading a file would not: `geometry` is WKB.
    """
    geometry = {"encoding": "WKB", "geometry_types": list(geometry_types)}
    geo = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": geometry}}
    fields = [(name, ARROW_TYPES[column.kind]) for name, column in columns.items()]
    return pa.schema([*fields, ("geometry", pa.binary())], metadata={"geo": json.dumps(geo)})


TRACK_SCHEMA: Final = schema(TRACKS, "LineString", "MultiLineString")
STAY_SCHEMA: Final = schema(STAYS, "Point")
POINT_SCHEMA: Final = schema(POINTS, "Point")


def table(batch: pd.DataFrame, columns: Columns, schema: pa.Schema) -> pa.Table:
    """Return a batch as an Arrow table; `geometry` is its `path`, or its places as points."""
    batch = derived(batch)
    arrays = [
        pa.array(
            _ARROW.get(column.kind, _VALUES[column.kind])(batch[column.of], column.places), ARROW_TYPES[column.kind]
        )
        for column in columns.values()
    ]
    if "path" in batch:
        geometry = batch["path"].tolist()
    else:
        geometry = [
            encode_point(lon, lat) for lon, lat in zip(batch["lon"].tolist(), batch["lat"].tolist(), strict=True)
        ]
    return pa.Table.from_arrays([*arrays, pa.array(geometry, pa.binary())], schema=schema)


def activity_names(codes: pd.Series) -> pd.Series:
    """Return the names of activities, None where unknown."""
    names = np.array([None, *ACTIVITIES[1:]], object)
    return pd.Series(names[codes.to_numpy("int64")], codes.index, object)


def moving_speeds_kmh(batch: pd.DataFrame) -> FloatArray:
    """Return the lengths of tracks over the time in which they moved; 0 if they never did."""
    length_mm, moving_ms = batch["length_mm"].to_numpy("float64"), batch["moving_ms"].to_numpy("float64")
    speeds: FloatArray = np.divide(length_mm * 3.6, moving_ms, out=np.zeros(len(batch)), where=moving_ms > 0)
    return speeds


def iso_times(times_ms: pd.Series) -> list[str]:
    """Return times (ms since the epoch) as ISO 8601 in UTC with milliseconds."""
    instants = times_ms.to_numpy("int64").astype("datetime64[ms]")
    return [f"{text}Z" for text in np.datetime_as_string(instants, unit="ms").tolist()]


def decimal_texts(amounts: pd.Series, places: int) -> list[str]:
    """Return integers of 10**-`places` as decimal text with exactly `places` decimals, empty where missing."""
    unit = 10**places
    return [
        "" if pd.isna(amount) else f"{'-' * (amount < 0)}{abs(amount) // unit}.{abs(amount) % unit:0{places}}"
        for amount in amounts.tolist()
    ]


def in_units(amounts: pd.Series, unit: int) -> list[float | None]:
    """Return integers divided by `unit`, None where missing.

    Python divides integers with one rounding, so the shortest text of the result is the exact decimal.
    """
    return [None if pd.isna(amount) else amount / unit for amount in amounts.tolist()]


def known(texts: pd.Series) -> list[str | None]:
    """Return texts, None where missing: pandas has several ways to say so, and JSON and Arrow have one."""
    return [None if pd.isna(text) else text for text in texts.tolist()]


def plain_decimal(number: float) -> str:
    """Return the shortest text that reads back as `number`, never with an exponent: xsd:decimal has none."""
    text = repr(number)
    return np.format_float_positional(number, trim="0") if "e" in text else text


def plain_decimals(numbers: Iterable[float]) -> list[str]:
    """Return numbers as `plain_decimal` does, empty where they are NaN."""
    return ["" if math.isnan(number) else plain_decimal(number) for number in numbers]


_VALUES: Final[dict[Kind, Callable[[pd.Series, int], list[Any]]]] = {
    "text": lambda column, _: known(column),
    "time": lambda column, _: iso_times(column),
    "count": lambda column, _: column.tolist(),
    "flag": lambda column, _: column.astype(bool).tolist(),
    "amount": lambda column, places: in_units(column, 10**places),
    "rounded": lambda column, places: [round(number, places) for number in column.tolist()],
    "number": lambda column, _: [None if math.isnan(number) else number for number in column.tolist()],
}
_TEXTS: Final[dict[Kind, Callable[[pd.Series, int], list[str]]]] = {
    "text": lambda column, _: [text or "" for text in known(column)],
    "time": lambda column, _: iso_times(column),
    "count": lambda column, _: list(map(str, column.tolist())),
    "flag": lambda column, _: ["true" if flag else "false" for flag in column.tolist()],
    "amount": decimal_texts,
    "rounded": lambda column, places: [f"{number:.{places}f}" for number in column.tolist()],
    "number": lambda column, _: plain_decimals(column.tolist()),
}
_ARROW: Final[dict[Kind, Callable[[pd.Series, int], Any]]] = {
    "time": lambda column, _: column.to_numpy("int64").astype("datetime64[ms]"),
    "rounded": lambda column, _: column.tolist(),
}
