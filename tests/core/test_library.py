"""The library makes of a frame what the system makes of the same points, and what the reference does."""

from __future__ import annotations

import doctest
import io
import json
import subprocess
import sys
import tempfile
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

import trackgen_core as tg
from tests import reference, strategies, world
from tests.effort import examples
from tests.reference import Point
from trackgen_core import library
from trackgen_core.export import export_stays, export_tracks
from trackgen_core.settings import Settings, SettingsError

slow = hypothesis_settings(max_examples=examples(5), deadline=None, suppress_health_check=list(HealthCheck))
ROOT = Path(__file__).parents[2]
START = datetime(2025, 6, 1, 8, tzinfo=UTC)


def frame_of(points: list[Point]) -> pd.DataFrame:
    frame = pd.DataFrame(points, columns=Point._fields).rename(columns={"time_ms": "timestamp"})
    frame["timestamp"] = frame["timestamp"].astype("int64").astype("datetime64[ms]")
    return frame.astype(dict.fromkeys(("lon", "lat", "altitude", "accuracy"), "float64"))


def plain(frame: pd.DataFrame) -> pd.DataFrame:
    """A frame of the library with its geometry as WKB."""
    return pd.DataFrame(frame.to_wkb() if hasattr(frame, "to_wkb") else frame)


def ride(count: int = 5, **columns: object) -> pd.DataFrame:
    times = [START + timedelta(minutes=n) for n in range(count)]
    return pd.DataFrame({"timestamp": times, "lon": 8.5 + 0.01 * np.arange(count), "lat": 47.0}).assign(**columns)


@slow
@given(strategies.lives() | strategies.histories(), strategies.settings_of_rest(), st.randoms(use_true_random=False))
def test_a_frame_gives_what_the_database_and_the_reference_give(points, rules: Settings, random) -> None:
    expected = reference.timeline(points, rules)
    shuffled = random.sample(points, len(points)) + points[:3]
    with tempfile.TemporaryDirectory() as folder:
        store = world.open_store(Path(folder))
        for user in {point.user for point in points}:
            store.set_settings(user, rules.model_dump())
        world.add(store, points)
        world.generate(store)
        for made, read, export in (
            (tg.tracks, store.read_tracks, lambda *args: export_tracks(*args, points_of=store.points_of)),
            (tg.stays, store.read_stays, export_stays),
        ):
            out = io.BytesIO()
            export(read(), out, "parquet")
            stored = pq.read_table(out).to_pandas()
            pd.testing.assert_frame_equal(plain(made(frame_of(shuffled), rules)), stored, check_exact=True)

    tracks, stays = tg.tracks(frame_of(points), rules), tg.stays(frame_of(points), rules)
    assert tracks["track_id"].tolist() == [track.track_id for track in expected.tracks]
    assert tracks["distance_m"].tolist() == [track.length_mm / 1000 for track in expected.tracks]
    assert tracks["break_reason"].tolist() == [track.break_reason for track in expected.tracks]
    assert stays["stay_id"].tolist() == [stay.stay_id for stay in expected.stays]
    assert stays["ongoing"].tolist() == [stay.is_ongoing for stay in expected.stays]


UTC_MS = [round((START + timedelta(minutes=n)).timestamp() * 1000) for n in range(5)]
SAME_TIMES = {
    "aware": [START + timedelta(minutes=n) for n in range(5)],
    "other zone": pd.Series(pd.to_datetime(UTC_MS, unit="ms", utc=True)).dt.tz_convert("Asia/Kolkata"),
    "naive": np.array(UTC_MS, "datetime64[ms]").astype("datetime64[s]"),
    "nanoseconds": np.array(UTC_MS, "datetime64[ms]").astype("datetime64[ns]") + np.timedelta64(999_999, "ns"),
    "objects": pd.Series(
        [datetime.fromtimestamp(ms / 1000, timezone(timedelta(hours=h))) for h, ms in enumerate(UTC_MS)], dtype=object
    ),
    "ms": UTC_MS,
    "s": [ms // 1000 for ms in UTC_MS],
    "float s": [ms / 1000 for ms in UTC_MS],
    "Int64": pd.array(UTC_MS, "Int64"),
    "ISO 8601": [(START + timedelta(minutes=n)).isoformat() for n in range(5)],
}


@pytest.mark.parametrize("times", SAME_TIMES.values(), ids=SAME_TIMES)
def test_times_in_any_notation_are_the_same_times(times) -> None:
    pd.testing.assert_frame_equal(plain(tg.tracks(ride(timestamp=times))), plain(tg.tracks(ride())))


def test_columns_may_be_called_as_in_files() -> None:
    renamed = ride().rename(columns={"timestamp": "Time", "lon": "Longitude", "lat": "latitude"}).iloc[::-1]
    pd.testing.assert_frame_equal(plain(tg.tracks(renamed)), plain(tg.tracks(ride())))
    with pytest.raises(ValueError, match=r"no column for lat \(lat, latitude, y ...\); there are: timestamp, lon"):
        tg.tracks(ride()[["timestamp", "lon"]])


def test_owners_make_tracks_of_their_own() -> None:
    points = pd.concat([ride(device="watch", user=" anna "), ride(user="anna", device="phone"), ride(user="Zoë")])
    found = tg.tracks(points)
    assert found[["user", "device"]].to_numpy().tolist() == [["Zoë", ""], ["anna", "phone"], ["anna", "watch"]]
    assert found["points"].tolist() == [5, 5, 5]
    assert found["track_id"].is_unique


def test_settings_are_objects_or_mappings() -> None:
    points = ride(2)
    points.loc[1, "timestamp"] += timedelta(minutes=19)
    assert len(tg.tracks(points)) == 1
    for rules in ({"minutes_between_routes": 15}, Settings(minutes_between_routes=15)):
        assert len(tg.tracks(points, settings=rules)) == 0
    with pytest.raises(SettingsError, match="there is no setting 'minutes'"):
        tg.tracks(points, settings={"minutes": 15})


def test_what_is_no_fix_is_left_out_and_said() -> None:
    points = ride(8, altitude=[1e9, *[400.0] * 7])
    points.loc[1, "timestamp"] = pd.NaT
    points.loc[2, "lat"] = 91
    points.loc[3, "lon"] = np.nan
    with pytest.warns(UserWarning) as said:
        found = tg.tracks(points)
    assert found["points"].tolist() == [5]
    assert [str(one.message) for one in said] == [
        "3 of 8 rows are no fixes: 1 latitude outside -90..90, 1 no readable position, 1 no readable time",
        "values that are no measurement are taken for unknown: 1 of altitude",
    ]
    assert {Path(one.filename).name for one in said} == {Path(__file__).name}


def test_no_points_make_empty_frames_of_the_same_columns() -> None:
    for make in (tg.tracks, tg.stays):
        empty = make(ride().iloc[:0])
        assert len(empty) == 0
        assert list(empty) == list(make(ride()))


def test_geometry_is_that_of_geopandas_where_it_is_installed() -> None:
    geopandas = pytest.importorskip("geopandas", reason="GeoPandas is not installed")
    found = tg.tracks(ride())
    assert isinstance(found, geopandas.GeoDataFrame)
    assert found.crs == "EPSG:4326"
    assert found.geometry[0].coords[1] == (8.51, 47.0)


def test_it_works_without_geopandas() -> None:
    """In an interpreter that does not find it."""
    script = """
import sys
sys.modules["geopandas"] = None
import pandas as pd
import trackgen_core as tg
found = tg.tracks(pd.DataFrame({"timestamp": [1_700_000_000, 1_700_000_060], "lon": [8.5, 8.51], "lat": [47, 47]}))
print(type(found).__name__, found["geometry"][0][:5].hex())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["DataFrame", "0102000000"]


def test_importing_the_package_loads_nothing_heavy() -> None:
    script = "import sys, trackgen_core; print(*({'pandas', 'numpy', 'pyarrow', 'pydantic'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_functions_are_not_hidden_by_modules() -> None:
    """A module of the name of a function would take its place once something has imported it."""
    folder = Path(tg.__file__).parent
    assert not [name for name in tg.__all__ if (folder / f"{name.lower()}.py").exists() and name.islower()]
    with pytest.raises(AttributeError, match="no attribute 'trips'"):
        tg.trips  # noqa: B018


def test_the_example_in_the_documentation_runs() -> None:
    assert doctest.testmod(library).failed == 0
    assert doctest.testmod(library).attempted >= 5


def test_the_notebook_runs() -> None:
    """Its cells in their order, as a kernel would run them; there are no magics in them."""
    notebook = json.loads((ROOT / "docs/library.ipynb").read_text("utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    names: dict[str, object] = {}
    for cell in cells:
        assert (cell["outputs"], cell["execution_count"]) == ([], None)
        exec("".join(cell["source"]), names)
    assert len(names["tracks"]) == 2
    assert len(names["stays"]) >= 1
