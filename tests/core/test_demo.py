import csv
import os
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from pyproj import Geod

from trackgen_core.demo import demo_history, start_before, write_demo
from trackgen_core.points import MS_PER_DAY, POINT_DTYPES, TieCounter, completed, day_date, validate

MINUTE_MS = 60_000
PRINT_SUM = """
import pandas as pd
from trackgen_core.demo import demo_history
print(pd.util.hash_pandas_object(demo_history()).sum())
"""


@pytest.fixture(scope="module")
def history() -> pd.DataFrame:
    return demo_history()


def hops(points: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return metres and milliseconds from each point to the next."""
    lon, lat = points["lon"].to_numpy(), points["lat"].to_numpy()
    return np.asarray(Geod(ellps="WGS84").line_lengths(lon, lat)), np.diff(points["time_ms"])


def chains(points: pd.DataFrame) -> list[pd.DataFrame]:
    """Cut where more than half an hour passes."""
    cuts = np.flatnonzero(np.diff(points["time_ms"]) > 30 * MINUTE_MS) + 1
    return [points.iloc[a:b] for a, b in zip([0, *cuts], [*cuts, len(points)], strict=True)]


def test_a_seed_is_a_history(history):
    pd.testing.assert_frame_equal(demo_history(7), history, check_exact=True)
    assert not demo_history(8).equals(history)


def test_a_simpler_processor_makes_the_same(history):
    vector_units = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
    environment = os.environ | {"NPY_DISABLE_CPU_FEATURES": " ".join(vector_units), "TZ": "Asia/Tokyo"}
    run = [sys.executable, "-c", PRINT_SUM]
    printed = subprocess.run(run, env=environment, capture_output=True, text=True, check=True).stdout
    assert int(printed) == pd.util.hash_pandas_object(history).sum()


def test_every_point_is_valid_and_in_order(history):
    assert history.dtypes.astype(str).to_dict() == POINT_DTYPES
    found = validate(history)
    assert not found.rejected
    assert not found.ignored
    pd.testing.assert_frame_equal(found.points, history)
    order = ["user", "device", "time_ms", "lon", "lat"]
    pd.testing.assert_frame_equal(history.sort_values(order, ignore_index=True), history)
    assert not history.duplicated(order).any()


def test_half_a_year_of_three_people(history):
    days = history["time_ms"] // MS_PER_DAY
    assert (day_date(int(days.min())), day_date(int(days.max()))) == (date(2025, 3, 1), date(2025, 8, 31))
    assert history.groupby("user")["device"].unique().map(list).to_dict() == {
        "ada": ["phone", "watch"],
        "ben": ["phone"],
        "chloe": ["phone"],
    }
    assert 250_000 <= len(history) <= 400_000


def test_two_devices_at_once_and_one_alone(history):
    ada = history[history["user"] == "ada"]
    phone = ada.loc[ada["device"] == "phone", "time_ms"].to_numpy()
    runs = chains(ada[ada["device"] == "watch"])
    beside = [((phone >= run["time_ms"].min()) & (phone <= run["time_ms"].max())).sum() > 50 for run in runs]
    assert 10 < sum(beside) < len(runs) - 10


def test_fixes_follow_one_another_at_a_believable_speed(history):
    for _, points in history.groupby(["user", "device"]):
        length_m, gap_ms = hops(points)
        far = length_m > 200
        assert (length_m[far] / gap_ms[far] * 3600 < 1000).all()
        assert (gap_ms == 0).sum() > 50


def test_a_journey_over_three_midnights(history):
    voyages = [
        chain
        for _, points in history.groupby(["user", "device"])
        for chain in chains(points)
        if np.ptp(chain["time_ms"] // MS_PER_DAY) >= 3 and hops(chain)[0].sum() > 1_000_000
    ]
    assert len(voyages) >= 1


def test_a_flight_over_the_antimeridian(history):
    chloe = history[history["user"] == "chloe"].reset_index(drop=True)
    crossings = np.flatnonzero(np.abs(np.diff(chloe["lon"])) > 180)
    assert len(crossings) == 2  # there and back
    for i in crossings:
        around = chloe[i - 3 : i + 3]
        length_m, gap_ms = hops(around)
        assert ((length_m / gap_ms * 3600 > 600) & (gap_ms >= 2 * MINUTE_MS)).all()
        assert (around["altitude"].dropna() > 9000).all()


def test_what_devices_can_and_cannot_measure(history):
    known = history.groupby(["user", "device"])[["altitude", "accuracy", "speed"]].count() > 0
    assert known.to_numpy().tolist() == [
        [True, True, True],
        [True, False, True],
        [False, True, True],
        [True, False, True],
    ]
    part = history.loc[history["user"] == "ada", "altitude"]
    assert part.isna().any()
    assert part.max() > 1700  # a mountain
    assert (history.loc[history["user"] == "ben", "time_ms"] % 1000 != 0).any()


def test_people_keep_their_local_hours_when_clocks_change(history):
    # Ada leaves at 7:36 to 7:54 by the clock on the wall: an hour earlier in UTC once summer time begins.
    ada = history[(history["user"] == "ada") & (history["device"] == "phone") & (history["speed"] > 2)]

    def start(day: int, month: int) -> float:
        midnight = int(datetime(2025, month, day, tzinfo=UTC).timestamp() * 1000)
        times = ada["time_ms"][(ada["time_ms"] >= midnight) & (ada["time_ms"] < midnight + MS_PER_DAY)]
        return (times.min() - midnight) / 3_600_000

    assert 6.5 < start(28, 3) < 7.1
    assert 5.5 < start(31, 3) < 6.1


def test_files_as_a_user_has_them(tmp_path, history):
    paths = write_demo(tmp_path / "new" / "folder")
    assert [path.name for path in paths] == ["ada-phone.csv", "ada-watch.csv", "ben-phone.csv", "chloe-phone.csv"]
    with paths[0].open(encoding="utf-8", newline="") as file:
        header, first = next(rows := csv.reader(file)), next(rows)
    assert header == ["user", "device", "timestamp", "lon", "lat", "altitude", "accuracy", "speed"]
    assert first[2].startswith("2025-03-01T00:")
    assert len(first[2]) == len("2025-03-01T00:00:00.000Z")
    read = pd.concat([pd.read_csv(path) for path in paths], ignore_index=True)
    read["time_ms"] = (
        pd.to_datetime(read.pop("timestamp"), format="ISO8601").astype("datetime64[ms, UTC]").astype("int64")
    )
    pd.testing.assert_frame_equal(completed(TieCounter().count(read)), history, check_exact=True)


def test_it_ends_when_somebody_asks_and_begins_with_a_month():
    end = datetime.now(UTC).date()
    points = demo_history(7, end)
    days = points["time_ms"] // MS_PER_DAY
    assert day_date(int(days.min())) in (start_before(end), start_before(end) - timedelta(days=1))
    assert start_before(end).day == 1
    assert days.max() >= (end - date(1970, 1, 1)).days - 1
    assert points["time_ms"].max() <= datetime.now(UTC).timestamp() * 1000
    assert start_before(date(2026, 2, 28)) == date(2025, 9, 1)
