"""What the rules make of real recordings: tables for docs/quality.md, and a map of a week.

The recordings are not part of the project: give the folder they are in.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from trackgen_core.database import Database
from trackgen_core.generation import make_segments, make_tracks, plan
from trackgen_core.importing import import_paths
from trackgen_core.legs import MODES
from trackgen_core.merging import LEG_DTYPES, STAY_DTYPES, TRACK_DTYPES
from trackgen_core.paths import decode_path
from trackgen_core.settings import PRESETS, make_settings
from trackgen_core.store import Store

RECORDINGS = ("geolife_11_users.csv.gz", "geolife_modes.csv.gz", "limerick_bus.gpx", "liverpool_bus.csv.gz")
LABELS = "geolife_modes_labels.csv"
NEAR_MS = 5 * 60_000
"""How near a boundary has to be to a labelled one."""
SAME_TRIP_MS = 10 * 60_000
"""Labelled legs with less time between them are one trip: whoever changes from a bus to a train has not arrived."""


class Made(NamedTuple):
    """What came of a recording."""

    tracks: pd.DataFrame
    legs: pd.DataFrame
    stays: pd.DataFrame
    points: int
    noise: int


def make(file: Path, preset: str) -> Made:
    """Import a recording into an empty database, and make everything of it."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Database(f"sqlite:///{folder}/trackgen.db"))
        import_paths(store, [file], user="somebody")
        for user in store.user_names():
            store.set_settings(user, make_settings({"preset": preset}).model_dump())
        for stage, do in (("segments", make_segments), ("tracks", make_tracks)):
            with store.read() as connection:
                work = store.dirty(connection, stage)
            for window in plan(work):
                do(store, window)
        tracks = pd.concat([pd.DataFrame(columns=["user", *TRACK_DTYPES]), *store.read_tracks()])
        legs = pd.concat([pd.DataFrame(columns=["user", *LEG_DTYPES]), *store.read_legs()])
        stays = pd.concat([pd.DataFrame(columns=["user", *STAY_DTYPES]), *store.read_stays()])
        with store.read() as connection:
            points, noise = (
                connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one()
                for table in ("points", "noise")
            )
        store.database.close()
        return Made(tracks, legs, stays, points, noise)


def table(folder: Path) -> None:
    """Print what each recording becomes under each preset."""
    print("| recording | preset | tracks | km | stays | hours moving | longest track | set aside | left over |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name in RECORDINGS:
        for preset in PRESETS:
            made = make(folder / name, preset)
            left = made.points - made.noise - made.tracks["points"].sum() - made.stays["points"].sum()
            km = made.tracks["length_mm"].sum() / 1e6
            print(
                f"| {name.split('.')[0]} | {preset} | {len(made.tracks):,} | {km:,.0f} "
                f"| {len(made.stays):,} | {made.tracks['moving_ms'].sum() / 3.6e6:,.1f} "
                f"| {made.tracks['duration_ms'].max() / 3.6e6:,.1f} h | {made.noise:,} | {left:,} |"
            )


def labels_of(folder: Path) -> pd.DataFrame:
    """Return `user`, `lo_ms`, `hi_ms` and `mode` of what people said."""
    labels = pd.read_csv(folder / LABELS, dtype={"user": str})
    labels["lo_ms"], labels["hi_ms"] = (
        pd.to_datetime(labels[name]).dt.as_unit("ms").astype("int64") for name in ("started_at", "ended_at")
    )
    return labels.sort_values(["user", "lo_ms"])


def labelled_trips(folder: Path) -> pd.DataFrame:
    """Return `user`, `lo_ms`, `hi_ms` of labelled trips that were recorded: with at least two fixes in them."""
    labels = labels_of(folder)
    fixes = pd.read_csv(folder / "geolife_modes.csv.gz", dtype={"user": str})
    fixes["time_ms"] = fixes["timestamp"] * 1000
    recorded = []
    for label in labels.itertuples():
        inside = (fixes["user"] == label.user) & fixes["time_ms"].between(label.lo_ms, label.hi_ms)
        recorded.append(inside.sum() >= 2)
    labels = labels[recorded]
    apart = labels["lo_ms"] - labels.groupby("user")["hi_ms"].shift() >= SAME_TRIP_MS
    trip = (apart | (labels["user"] != labels["user"].shift())).cumsum()
    return labels.groupby(trip).agg(user=("user", "first"), lo_ms=("lo_ms", "min"), hi_ms=("hi_ms", "max"))


def boundaries(folder: Path) -> None:
    """Print precision and recall of where tracks begin and end."""
    trips = labelled_trips(folder)
    print(f"\n{len(trips)} labelled trips were recorded\n")
    print("| preset | tracks there | recall | precision |\n|---|---|---|---|")
    for preset in PRESETS:
        tracks = make(folder / "geolife_modes.csv.gz", preset).tracks
        inside = [
            any(
                (trips["user"] == track.user)
                & (trips["lo_ms"] - NEAR_MS <= track.ended_ms)
                & (trips["hi_ms"] + NEAR_MS >= track.started_ms)
            )
            for track in tracks.itertuples()
        ]
        tracks = tracks[inside]
        found, right = 0, 0
        for user, of_user in trips.groupby("user"):
            truth = np.concatenate([of_user["lo_ms"], of_user["hi_ms"]])
            mine = tracks[tracks["user"] == user]
            made = np.concatenate([mine["started_ms"], mine["ended_ms"]])
            near = np.abs(truth[:, None] - made[None, :]) <= NEAR_MS
            found += near.any(axis=1).sum()
            right += near.any(axis=0).sum()
        print(
            f"| {preset} | {len(tracks)} | {found / (2 * len(trips)):.0%} "
            f"| {right / (2 * len(tracks)) if len(tracks) else 0:.0%} |"
        )


def modes(folder: Path) -> None:
    """Print how many hours of each labelled mode are in legs of which mode."""
    labels = labels_of(folder)
    legs = make(folder / "geolife_modes.csv.gz", "default").legs
    hours = pd.DataFrame(0.0, index=sorted(labels["mode"].unique()), columns=[*MODES, "km"])
    for user, of_user in labels.groupby("user"):
        mine = legs[legs["user"] == user]
        for label in of_user.itertuples():
            lo, hi = mine["started_ms"].clip(lower=label.lo_ms), mine["ended_ms"].clip(upper=label.hi_ms)
            inside_ms = (hi - lo).clip(lower=0).astype(float)
            of_leg = (mine["ended_ms"] - mine["started_ms"]).clip(lower=1).astype(float)
            for mode, ms in inside_ms.groupby(mine["mode"]).sum().items():
                hours.loc[label.mode, mode] += ms / 3.6e6
            hours.loc[label.mode, "km"] += (mine["length_mm"].astype(float) * inside_ms / of_leg).sum() / 1e6
    hours = hours[hours[[*MODES]].sum(axis=1) > 0]
    print("\n| labelled | " + " | ".join([*MODES, "km"]) + " |\n" + "|---" * (len(MODES) + 2) + "|")
    for truth, row in hours.iterrows():
        print(f"| {truth} | " + " | ".join(f"{row[mode]:.2f}" for mode in MODES) + f" | {row['km']:,.0f} |")


def draw_week(folder: Path, user: str, start: str, picture: Path) -> None:
    """Draw a week of somebody under two presets, a colour a track, a dot a stay."""
    import matplotlib.pyplot as plt

    lo_ms = int(pd.Timestamp(start, tz="UTC").value // 10**6)
    hi_ms = lo_ms + 7 * 86_400_000
    figure, axes = plt.subplots(1, 2, figsize=(12, 4.2), sharex=True, sharey=True)
    for axis, preset in zip(axes, ("dawarich", "default"), strict=True):
        made = make(folder / "geolife_11_users.csv.gz", preset)
        tracks, stays = (
            items[(items["user"] == user) & (items["started_ms"] < hi_ms) & (items["ended_ms"] > lo_ms)]
            for items in (made.tracks, made.stays)
        )
        for number, path in enumerate(tracks["path"]):
            for line in decode_path(path):
                axis.plot(line[:, 0], line[:, 1], lw=1.2, color=plt.get_cmap("tab20")(number % 20))
        sizes = 20 + stays["duration_ms"].astype(float) / 3.6e5
        axis.scatter(stays["lon"], stays["lat"], s=sizes, color="k", alpha=0.5, zorder=3)
        longest = tracks["duration_ms"].max() / 3.6e6
        axis.set_title(f"{preset}: {len(tracks)} tracks, longest {longest:.1f} h, {len(stays)} stays")
        axis.set_aspect(1 / np.cos(np.radians(tracks["start_lat"].mean())))
    figure.tight_layout()
    figure.savefig(picture, dpi=80)


def main() -> None:
    """Print the tables, and draw the week if a file is given."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--user", default="1")
    parser.add_argument("--start", default="2008-10-20")
    options = parser.parse_args()
    table(options.folder)
    boundaries(options.folder)
    modes(options.folder)
    if options.picture:
        draw_week(options.folder, options.user, options.start, options.picture)


if __name__ == "__main__":
    main()
