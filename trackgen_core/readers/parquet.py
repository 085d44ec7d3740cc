"""Parquet and GeoParquet: one fix per row, in columns named as in a CSV file. A Point may hold its place."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from trackgen_core.points import NO_TIME
from trackgen_core.readers import columns
from trackgen_core.readers.columns import (
    find_columns,
    make_frame,
    parse_numbers,
    parse_times,
    require_columns,
    to_activities,
    to_pauses,
    to_texts,
    units_per_ours,
)
from trackgen_core.readers.sources import Source, UnreadableFile, open_seekable
from trackgen_core.readers.speeds import SpeedCheck

MAGIC: Final = b"PAR1"

BUFFER_BYTES: Final = 1 << 20
"""So much of a column is read at a time, rather than all of a row group."""

GEOMETRIES: Final = ("geometry", "geom", "wkb_geometry", "point", "location")
"""What a column of Points is called in files whose metadata do not say it."""

_WKB_POINT: Final = 1
_EWKB_Z: Final = 0x8000_0000
_EWKB_SRID: Final = 0x2000_0000
_WKB_BYTES: Final = 9 + 3 * 8
"""The longest head of a Point that matters: byte order, type, SRID, three coordinates."""


def recognises(head: bytes) -> bool:
    """Tell whether bytes that begin like this are Parquet."""
    return head.startswith(MAGIC)


def read(source: Source) -> Iterator[pd.DataFrame]:
    """Read the rows of a Parquet file, in batches."""
    with open_seekable(source) as stream:
        try:
            file = pq.ParquetFile(stream, buffer_size=BUFFER_BYTES, pre_buffer=False, page_checksum_verification=True)
            schema = file.schema_arrow
            plain = {field.name for field in schema if not pa.types.is_nested(field.type)}
            places = find_columns(tuple(name if name in plain else "" for name in schema.names))
            found = {quantity: schema.names[place] for quantity, place in places.items()}
            geometry = None if {"lon", "lat"} <= found.keys() else _geometry(schema, source.path)
            covered = found.keys() | ({"lon", "lat"} if geometry else set())
            require_columns(covered, schema.names, source.path, "the file")
            wanted = [*found.values(), *([geometry] if geometry else [])]
            has_unit = "speed" not in found or units_per_ours("speed", found["speed"]) is not None
            speeds = None if has_unit else SpeedCheck(source)
            for batch in file.iter_batches(columns.BATCH_ROWS, columns=wanted):
                if len(batch):
                    frame = _frame(batch, found, geometry)
                    yield speeds.checked(frame) if speeds else frame
        except UnreadableFile:
            raise
        except pa.ArrowNotImplementedError as error:
            what = f"it has something that cannot be read ({error}); write it with another program"
            raise UnreadableFile(f"{source.path}: {what}") from error
        except (pa.ArrowException, OSError, ValueError, UnicodeError) as error:
            what = f"the Parquet data are damaged or break off ({error}); copy it again"
            raise UnreadableFile(f"{source.path}: {what}") from error


def _geometry(schema: pa.Schema, path: str) -> str | None:
    """Return the name of the column of Points, None if there is none; raise an error if they are not in WGS84."""
    try:
        metadata = json.loads((schema.metadata or {}).get(b"geo", b"null"))
    except (ValueError, RecursionError) as error:
        what = f"its metadata of GeoParquet cannot be read ({error}); write columns lon and lat instead"
        raise UnreadableFile(f"{path}: {what}") from error
    described = metadata.get("columns") if isinstance(metadata, dict) else None
    if isinstance(described, dict) and metadata.get("primary_column") in schema.names:
        name = str(metadata["primary_column"])
        column = described.get(name)
        _require_wgs84(column.get("crs") if isinstance(column, dict) else None, path)
        return name
    by_name = {name.lower(): name for name in schema.names}
    return next(
        (by_name[name] for name in GEOMETRIES if name in by_name and _may_be_point(schema, by_name[name])), None
    )


def _may_be_point(schema: pa.Schema, name: str) -> bool:
    kind = schema.field(name).type
    return bool(pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _require_wgs84(crs: object, path: str) -> None:
    """Raise an error if coordinates are not in degrees of WGS84, as they are where GeoParquet says nothing."""
    if not isinstance(crs, dict):
        return
    from pyproj import CRS  # not at import: most imports need no CRS
    from pyproj.exceptions import CRSError

    try:
        known = CRS.from_json_dict(crs).to_2d()
    except (CRSError, RecursionError) as error:
        raise UnreadableFile(f"{path}: its coordinate reference system cannot be understood ({error})") from error
    if not known.equals(CRS("OGC:CRS84"), ignore_axis_order=True):
        raise UnreadableFile(f"{path}: its coordinates are in {known.name}; export it in WGS 84 (EPSG:4326)")


def _frame(batch: pa.RecordBatch, found: dict[str, str], geometry: str | None) -> pd.DataFrame:
    numbers: dict[str, Any] = {
        quantity: _numbers(batch.column(found[quantity])) / (units_per_ours(quantity, found[quantity]) or 1.0)
        for quantity in ("lon", "lat", "altitude", "accuracy", "speed")
        if quantity in found
    }
    if geometry:
        numbers["lon"], numbers["lat"], height = _points(batch.column(geometry)).T
        numbers.setdefault("altitude", height)
    texts = {name: _texts(batch.column(found[name])) for name in ("user", "device") if name in found}
    facts: dict[str, Any] = {
        name: parse(_texts(batch.column(found[name])))
        for name, parse in (("pause", to_pauses), ("activity", lambda names: to_activities(names.to_pylist())))
        if name in found
    }
    return make_frame(_times(batch.column(found["time"])), **numbers, **texts, **facts)


def _texts(values: pa.Array) -> pa.StringArray:
    return to_texts(pc.cast(values, pa.string()).to_pylist())


def _numbers(values: pa.Array) -> NDArray[np.float64]:
    kind = values.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        return parse_numbers(_texts(values))
    numbers: NDArray[np.float64] = pc.cast(values, pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return numbers


def _times(values: pa.Array) -> NDArray[np.int64]:
    """Return instants in ms: of a timestamp, whose zone says how to show it, or of anything that a CSV may hold."""
    if not pa.types.is_timestamp(values.type):
        return parse_times(_texts(values))
    ms = pc.cast(pc.cast(values, pa.timestamp("ms", values.type.tz), safe=False), pa.int64())
    times: NDArray[np.int64] = pc.fill_null(ms, NO_TIME).to_numpy()
    return times


def _points(values: pa.Array) -> NDArray[np.float64]:
    """Return x, y and z of n Points: n x 3, NaN where there is none. They are WKB, structs, or lists of numbers."""
    points = np.full((len(values), 3), np.nan)
    kind = values.type
    if pa.types.is_struct(kind):
        names = [kind.field(place).name for place in range(kind.num_fields)]
        for place, name in enumerate("xyz"):
            if name in names:
                points[:, place] = _numbers(pc.struct_field(values, name))
    elif pa.types.is_fixed_size_list(kind):
        size = min(kind.list_size, 3)
        for place in range(size):
            points[:, place] = _numbers(pc.list_element(values, place))
    else:
        points = _wkb_points(pc.cast(values, pa.large_binary()))
    return points


def _wkb_points(values: pa.LargeBinaryArray) -> NDArray[np.float64]:
    points = np.full((len(values), 3), np.nan)
    offsets = np.frombuffer(values.buffers()[1], np.int64)[values.offset : values.offset + len(values) + 1]
    lengths = np.where(values.is_valid().to_numpy(zero_copy_only=False), np.diff(offsets), 0)
    content = np.frombuffer(values.buffers()[2] or b"", np.uint8)
    padded = np.concatenate([content[offsets[0] : offsets[-1]], np.zeros(_WKB_BYTES, np.uint8)])
    heads = padded[(offsets[:-1] - offsets[0])[:, None] + np.arange(_WKB_BYTES)]
    for first, order in ((0, ">"), (1, "<")):
        code = np.ascontiguousarray(heads[:, 1:5]).view(f"{order}u4")[:, 0]
        thousands, kind = np.divmod(code & 0x0FFF_FFFF, 1000)
        has_z = (code & _EWKB_Z != 0) | (thousands == 1) | (thousands == 3)  # ISO: 1001 has z, 3001 z and m
        point = (heads[:, 0] == first) & (kind == _WKB_POINT)
        for start, has_srid in ((5, False), (9, True)):
            mine = point & ((code & _EWKB_SRID != 0) == has_srid) & (lengths >= start + 16)
            xyz = np.ascontiguousarray(heads[mine, start : start + 24]).view(f"{order}f8")
            xyz[~(has_z[mine] & (lengths[mine] >= start + 24)), 2] = np.nan
            points[mine] = xyz
    return points
