"""What the UI shows of tables: the columns that are there, and what they are really made of."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import pytest

from tests import world
from tests.reference import Point
from trackgen_dagster.definitions import IS_CHECKOUT, defs
from trackgen_dagster.metadata import (
    DAYS_OF_TRACKS,
    MOST_CHARACTERS,
    SEGMENTS_OF_POINTS,
    TRACKS_OF_SEGMENTS,
    pictures,
)

ASSETS = ("points", "segments", "tracks", "daily_summaries")
START_MS = 20_000 * 86_400_000 + 20 * 3_600_000
NOT_OF_POINTS = {"settings_id", "stays", "rest_hours"}
"""Columns that say by what they were made, or that come from stays."""


def metadata_of(asset: str) -> Mapping[str, Any]:
    return defs.resolve_asset_graph().get(dg.AssetKey(asset)).metadata


def life() -> list[Point]:
    """A drive over midnight, a rest, a walk in the hills: 60 s between fixes, one of them a spike."""
    steps = [0.004] * 300 + [0.0] * 40 + [0.0006] * 80
    lon = 8.0 + np.cumsum(steps)
    lon[150] += 2.0
    altitude = 400 + 50 * np.sin(np.arange(len(lon)) / 9)
    return [
        Point("anna", "phone", START_MS + 60_000 * n, float(x), 47.0, float(up), 10.0)
        for n, (x, up) in enumerate(zip(lon, altitude, strict=True))
    ]


@pytest.mark.parametrize("asset", ASSETS)
def test_columns_are_those_of_the_database_and_each_says_what_it_is(asset: str, tmp_path: Path) -> None:
    world.open_store(tmp_path).database.close()
    with sqlite3.connect(tmp_path / "trackgen.db") as database:
        stored = [row[1] for row in database.execute(f"PRAGMA table_info({asset})")]
    metadata = metadata_of(asset)
    schema = metadata["dagster/column_schema"]
    assert metadata["dagster/table_name"] == asset
    assert [column.name for column in schema.columns] == stored
    assert [column.name for column in schema.columns if not column.description] == []


@pytest.mark.parametrize("asset", ASSETS[1:])
def test_lineage_leads_from_columns_to_columns(asset: str) -> None:
    lineage = metadata_of(asset)["dagster/column_lineage"].deps_by_column
    names = {column.name for column in metadata_of(asset)["dagster/column_schema"].columns}
    assert names - set(lineage) <= NOT_OF_POINTS
    assert set(lineage) <= names
    (source,) = {dep.asset_key.to_user_string() for deps in lineage.values() for dep in deps}
    assert ASSETS.index(source) == ASSETS.index(asset) - 1
    there = {column.name for column in metadata_of(source)["dagster/column_schema"].columns}
    assert {dep.column_name for deps in lineage.values() for dep in deps} <= there


def sources(columns: Mapping[str, tuple[str, ...]], *before: Mapping[str, tuple[str, ...]]) -> dict[str, set[str]]:
    """Return of which columns of points each column is made, over all steps."""
    if not before:
        return {name: set(made_of) for name, made_of in columns.items()}
    earlier = sources(*before)
    return {name: {one for of in made_of for one in earlier.get(of, ())} for name, made_of in columns.items()}


def stored(folder: Path, points: list[Point]) -> dict[str, pd.DataFrame]:
    folder.mkdir()
    store = world.open_store(folder)
    world.add(store, points)
    world.generate(store)
    with store.read() as connection:
        found = {
            name: pd.DataFrame(connection.exec_driver_sql(f"SELECT * FROM {name} ORDER BY 1, 2, 3").mappings().all())
            for name in ASSETS[1:]
        }
    store.database.close()
    return found


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pd.DataFrame]:
    return stored(tmp_path_factory.mktemp("lineage") / "before", life())


@pytest.mark.parametrize(
    ("column", "changed"),
    [
        ("altitude", lambda point: point._replace(altitude=2 * point.altitude)),
        ("accuracy", lambda point: point._replace(accuracy=5.0)),
        ("lon", lambda point: point._replace(lon=point.lon + (point.lon - 8) / 50)),
        ("lat", lambda point: point._replace(lat=point.lat + 0.01)),
        ("time_ms", lambda point: point._replace(time_ms=point.time_ms + 61_000)),
    ],
)
def test_what_changes_with_a_column_of_points_is_said_to_be_made_of_it(
    column: str, changed: Any, before: dict[str, pd.DataFrame], tmp_path: Path
) -> None:
    after = stored(tmp_path / "after", [changed(point) for point in life()])
    made_of = {
        "segments": sources(SEGMENTS_OF_POINTS),
        "tracks": sources(TRACKS_OF_SEGMENTS, SEGMENTS_OF_POINTS),
        "daily_summaries": sources(DAYS_OF_TRACKS, TRACKS_OF_SEGMENTS, SEGMENTS_OF_POINTS),
    }
    moved = 0
    for name, said in made_of.items():
        for one in said:
            if {*map(repr, before[name][one])} != {*map(repr, after[name][one])}:  # there may be more rows of the same
                assert column in said[one], f"{name}.{one} changes with {column}"
                moved += 1
    assert moved > 0 or column == "accuracy"


def test_code_is_linked_where_it_is_developed() -> None:
    assert IS_CHECKOUT
    (link,) = metadata_of("tracks")["dagster/code_references"].code_references
    assert Path(link.file_path).name == "assets.py"


def test_pictures_name_the_devices_that_went_farthest_and_are_short_enough_to_be_shown(tmp_path: Path) -> None:
    store = world.open_store(tmp_path)
    names = ["anna", "*b*", "c](x", "a name without an end, as some programs make them"]
    for far, name in enumerate(names, 1):
        world.add(store, [p._replace(user=name, lon=8 + far * (p.lon - 8)) for p in life()])
    world.generate(store)
    found = dict(pictures(store, 0, 100_000))
    assert sorted(found) == [20_000, 20_001]
    for picture in found.values():
        image, _, caption = picture.value.partition("\n\n")
        assert len(picture.value) <= MOST_CHARACTERS
        assert image.startswith("![tracks](data:image/svg+xml,")
        assert image.endswith(")")
        assert "anna" not in caption
        assert r"\*b\* phone" in caption
        assert r"c\]\(x phone" in caption
        assert "…" in caption
    assert "km" in caption
    assert dict(pictures(store, 0, 19_999)) == {}
    store.database.close()
