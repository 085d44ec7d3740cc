"""What tests of files have in common: sources of made files, and what an import of them has brought."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from tests import world
from trackgen_core.importing import FileReport, import_paths
from trackgen_core.points import NO_TIME, REFUSED
from trackgen_core.readers import Options, Source, find_sources, read, recognise

T0 = 1714557600000  # 2024-05-01T10:00:00Z


def source_of(folder: Path, content: str | bytes, name: str, *, recover: bool = False, visits: bool = False) -> Source:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    (source,) = find_sources([path], Options(recover, visits))
    return source


def rows_of(source: Source, format: str | None = None) -> pd.DataFrame:
    """Read a source that must be recognised as of a format, if one is given."""
    found = recognise(source)
    assert format is None or found == format
    assert found is not None
    return pd.concat(list(read(source, found)), ignore_index=True)


def places(rows: pd.DataFrame) -> list[tuple[int | None, float, float]]:
    """Return time since `T0` (None where it is unreadable), lon and lat of rows that are not refused."""
    kept = rows[rows[REFUSED] == ""] if REFUSED in rows else rows
    return [
        (None if time == NO_TIME else time - T0, lon, lat)
        for time, lon, lat in zip(kept["time_ms"], kept["lon"], kept["lat"], strict=True)
    ]


def bring(folder: Path, *paths: Path, **options: Any) -> tuple[list[FileReport], list[tuple[Any, ...]]]:
    """Import files into a store of their own; return what is reported of each, and the points in order of time."""
    store = world.open_store(folder / "home")
    report = import_paths(store, paths, **{"user": "anna", **options})
    return report.files, world.rows(store, "points")
