"""Points to segments and tracks in memory, against bare geodesics, movingpandas and trackintel."""

from __future__ import annotations

import argparse
import warnings
from datetime import timedelta

import numpy as np
import pandas as pd
from history import DEVICES, as_stored, make_points
from timing import rates, take_turns

from trackgen_core import merging
from trackgen_core.geodesy import GEOD
from trackgen_core.seams import connect
from trackgen_core.segmentation import segment
from trackgen_core.settings import Settings, make_settings

EVERYTHING = Settings()
GAP_ALONE = make_settings({"preset": "dawarich"})
GAP = timedelta(minutes=GAP_ALONE.minutes_between_routes)


def make_tracks(points: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """Make tracks with lengths, elevation and paths."""
    devices = pd.DataFrame({"user": "ada", "device": DEVICES}, index=range(1, len(DEVICES) + 1))
    return merging.make_tracks(*connect(segment(points, settings).segments, settings), devices)[0]


def make_trajectories(points: pd.DataFrame) -> np.ndarray:
    """Return the lengths in m that movingpandas finds, with the same pause between tracks."""
    import movingpandas as mpd

    rows = points.assign(t=pd.to_datetime(points["time_ms"], unit="ms"))
    collection = mpd.TrajectoryCollection(rows, traj_id_col="device_id", t="t", x="lon", y="lat", crs="EPSG:4326")
    trips = mpd.ObservationGapSplitter(collection).split(gap=GAP)
    return np.array([trip.get_length() for trip in trips.trajectories])


def with_rests(points: pd.DataFrame) -> pd.DataFrame:
    """Return points of devices that rest for half an hour every two hours; the others never do."""
    number = np.arange(len(points))
    place = np.where(number // 60 % 4 == 3, number // 60 * 60, number)
    return points.assign(lon=points["lon"].to_numpy()[place], lat=points["lat"].to_numpy()[place])


def make_triplegs(points: pd.DataFrame) -> int:
    """Return how many triplegs trackintel makes between the stay points that it finds."""
    import geopandas as gpd
    from trackintel import Positionfixes

    rows = gpd.GeoDataFrame(
        {"user_id": points["device_id"], "tracked_at": pd.to_datetime(points["time_ms"], unit="ms", utc=True)},
        geometry=gpd.points_from_xy(points["lon"], points["lat"]),
        crs="EPSG:4326",
    )
    fixes, staypoints = Positionfixes(rows).generate_staypoints(
        dist_threshold=2 * EVERYTHING.stay_radius_m,
        time_threshold=EVERYTHING.stay_minutes,
        gap_threshold=EVERYTHING.minutes_between_routes,
    )
    return len(fixes.generate_triplegs(staypoints, gap_threshold=EVERYTHING.minutes_between_routes)[1])


def main() -> None:
    """Print medians, rates and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=2_000_000)
    parser.add_argument("--peer-points", type=int, default=100_000, help="0 leaves movingpandas and trackintel out")
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()

    points = as_stored(make_points(options.points))
    lon, lat = points["lon"].to_numpy(), points["lat"].to_numpy()
    print(f"{options.points:,} points, {options.repeats} repeats")
    contenders = {
        "Geod.line_lengths": lambda: GEOD.line_lengths(lon, lat),
        "segment by gaps": lambda: segment(points, GAP_ALONE),
        "segment": lambda: segment(points, EVERYTHING),
        "segments and tracks": lambda: make_tracks(points, EVERYTHING),
    }
    rate = rates(take_turns(contenders, options.repeats), options.points)
    for name in ("segment by gaps", "segment", "segments and tracks"):
        print(f"{name}: {rate[name] / rate['Geod.line_lengths']:.0%} of the speed of Geod.line_lengths")

    if options.peer_points:
        compare_with_peers(as_stored(make_points(options.peer_points)), options.repeats)


def compare_with_peers(points: pd.DataFrame, repeats: int) -> None:
    """Print rates over the same points, after checking that both find the same tracks."""
    warnings.filterwarnings("ignore", module="movingpandas|trackintel")
    lengths = np.sort(make_trajectories(points))
    tracks = make_tracks(points, GAP_ALONE)
    ours = np.sort(tracks["length_mm"].to_numpy() / 1000)
    print(f"\n{len(points):,} points, {repeats} repeats; {len(ours):,} tracks, movingpandas {len(lengths):,};", end=" ")
    print(f"sum of lengths {ours.sum() / 1000:,.3f} km, movingpandas {lengths.sum() / 1000:,.3f} km")
    resting = with_rests(points)
    contenders = {
        "movingpandas": lambda: make_trajectories(points),
        "trackintel": lambda: make_triplegs(resting),
        "by gaps: segment": lambda: segment(points, GAP_ALONE),
        "by gaps: segments and tracks": lambda: make_tracks(points, GAP_ALONE),
        "all: segments and tracks": lambda: make_tracks(resting, EVERYTHING),
    }
    rate = rates(take_turns(contenders, repeats), len(points))
    for name in [*contenders][2:]:
        print(
            f"{name}: {rate[name] / rate['movingpandas']:.0f} times the speed of movingpandas, "
            f"{rate[name] / rate['trackintel']:.0f} times that of trackintel"
        )


if __name__ == "__main__":
    main()
