"""Draw the pictures of docs/rules.md: fixes that are made up here, and what Trackgen makes of them.

Run it in the root of the repository as `python docs/rule_pictures.py`. Nothing that a rule decides is drawn by hand:
tracks, stays, segments, noise and reasons are read from a database that made them.
"""

from __future__ import annotations

import html
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from trackgen_core.database import Database
from trackgen_core.generation import make_segments, make_tracks, plan
from trackgen_core.importing import add_points
from trackgen_core.paths import decode_path
from trackgen_core.points import MS_PER_DAY
from trackgen_core.store import Store
from trackgen_core.timeline import timeline

IMAGES: Final = Path(__file__).parent / "images"
USER: Final = "ada"
DAY_MS: Final = 20_240 * MS_PER_DAY
MINUTE_MS: Final = 60_000
LON, LAT = 8.55, 47.37
DEGREE_M: Final = 111_195.0
WIDTH: Final = 720
STYLE: Final = """
text { font: 13px system-ui, sans-serif; fill: #333 } .small { font-size: 12px; fill: #5f6368 }
.ground { fill: #fcfcfa; stroke: #ddd } .fix { fill: #333 } .raw { stroke: #9a9a9a; stroke-dasharray: 3 4; fill: none }
.track { stroke: #1f5fbf; stroke-width: 3; fill: none; stroke-linecap: round; stroke-linejoin: round }
.other { stroke: #c2570c } .bar { fill: #1f5fbf } .stay { fill: #1a7f5a; fill-opacity: .25; stroke: #1a7f5a }
.noise { stroke: #c0242d; stroke-width: 2.5 } .red { fill: #c0242d } .edge { stroke: #5f6368; stroke-dasharray: 6 4 }
@media (prefers-color-scheme: dark) {
text, .fix { fill: #e4e4e4 } .small { fill: #a8adb4 } .ground { fill: #1d1f23; stroke: #3a3d42 }
.raw { stroke: #7c7f85 } .track { stroke: #79aef5 } .other { stroke: #f0a05a } .bar { fill: #79aef5 }
.stay { fill: #5fc79b; stroke: #5fc79b } .noise { stroke: #ff7b7b } .red { fill: #ff7b7b } .edge { stroke: #a8adb4 }
}"""

Fix = tuple[float, float, float, float]
"""Minute of the first day, metres east and north, accuracy in metres (NaN: unknown)."""


@dataclass
class Made:
    """What became of some fixes."""

    fixes: pd.DataFrame
    tracks: pd.DataFrame
    stays: pd.DataFrame
    noise: pd.DataFrame
    segments: pd.DataFrame
    line: pd.DataFrame


def make(fixes: Sequence[Fix], **settings: object) -> Made:
    """Import fixes, and make what follows from them by the defaults or other settings."""
    minute, east, north, accuracy = np.array(fixes, np.float64).T
    points = pd.DataFrame(
        {
            "user": USER,
            "device": "",
            "time_ms": DAY_MS + np.rint(minute * MINUTE_MS).astype(np.int64),
            "lon": LON + east / (DEGREE_M * np.cos(np.radians(LAT))),
            "lat": LAT + north / DEGREE_M,
            "altitude": np.nan,
            "accuracy": accuracy,
            "speed": np.nan,
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Database(f"sqlite:///{folder}/trackgen.db"))
        if settings:
            store.set_settings(USER, dict(settings))
        add_points(store, points)
        for stage, work in (("segments", make_segments), ("tracks", make_tracks)):
            with store.read() as connection:
                listed = store.dirty(connection, stage)
            for window in plan(listed):
                work(store, window)
        with store.read() as connection:
            segments = pd.read_sql("SELECT * FROM segments ORDER BY first_ms", connection)
        line = timeline(store, [USER], 0, 100_000)
        parts = (store.read_tracks(), store.read_stays(), store.read_all_points(noise_only=True))
        tracks, stays, noise = (pd.concat([pd.DataFrame(), *part]) for part in parts)
        store.database.close()
    return Made(points, tracks, stays, noise, segments, line)


@dataclass
class Picture:
    """An SVG that grows; places are metres east and north."""

    height: int
    title: str
    scale: float = 1.0
    middle: tuple[float, float] = (0.0, 0.0)
    parts: list[str] = field(default_factory=list)

    def at(self, lon: float, lat: float) -> tuple[float, float]:
        """Return where a position is drawn."""
        east, north = (lon - LON) * DEGREE_M * np.cos(np.radians(LAT)), (lat - LAT) * DEGREE_M
        return WIDTH / 2 + (east - self.middle[0]) * self.scale, self.height / 2 - (north - self.middle[1]) * self.scale

    def text(self, x: float, y: float, words: str, kind: str = "", anchor: str = "middle") -> None:
        """Write a line."""
        self.parts.append(
            f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}" class="{kind}">{html.escape(words)}</text>'
        )

    def way(self, places: Sequence[tuple[float, float]], kind: str) -> None:
        """Draw a line."""
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        self.parts.append(f'<polyline points="{points}" class="{kind}"/>')

    def dot(self, x: float, y: float, kind: str = "fix") -> None:
        """Draw a fix."""
        self.parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" class="{kind}"/>')

    def cross(self, x: float, y: float) -> None:
        """Draw a fix that is noise."""
        self.parts.append(f'<path d="M{x - 5:.1f},{y - 5:.1f}l10,10m0,-10l-10,10" class="noise"/>')

    def draw(self, made: Made) -> None:
        """Draw fixes in their order, tracks, stays and noise."""
        fixes = [self.at(lon, lat) for lon, lat in zip(made.fixes["lon"], made.fixes["lat"], strict=True)]
        self.way(fixes, "raw")
        for stay in made.stays.to_dict("records"):
            x, y = self.at(stay["lon"], stay["lat"])
            radius = max(stay["radius_cm"] / 100 * self.scale, 8)
            self.parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" class="stay"/>')
        for number, path in enumerate(made.tracks.get("path", [])):
            for line in decode_path(path):
                self.way([self.at(lon, lat) for lon, lat in line], f"track {'other' if number % 2 else ''}".strip())
        for x, y in fixes:
            self.dot(x, y)
        for point in made.noise.to_dict("records"):
            self.cross(*self.at(point["lon"], point["lat"]))

    def save(self, name: str) -> Path:
        """Write the picture."""
        path = IMAGES / f"{name}.svg"
        path.write_text(
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {self.height}" width="{WIDTH}" '
            f'height="{self.height}" role="img">\n<title>{html.escape(self.title)}</title>\n<style>{STYLE}\n</style>\n'
            f'<rect x=".5" y=".5" width="{WIDTH - 1}" height="{self.height - 1}" rx="6" class="ground"/>\n'
            + "\n".join(self.parts)
            + "\n</svg>\n",
            "utf-8",
        )
        return path


UNKNOWN: Final = float("nan")


def clock(time_ms: float) -> str:
    """Return a time of day."""
    return pd.Timestamp(time_ms, unit="ms").strftime("%H:%M")


def breaks() -> Path:
    """Draw where a track ends: after a pause that is too long, and after a hop that cannot be true."""
    ride = [(600.0 + i, 500.0 * i, 150.0 * np.sin(i / 2), UNKNOWN) for i in range(9)]
    later = [(650.0 + i, 6_000.0 + 500.0 * i, 150.0 * np.sin(i / 2), UNKNOWN) for i in range(7)]
    flown = [(657.0 + i, 29_000.0 + 500.0 * i, 150.0 * np.sin(i / 2), UNKNOWN) for i in range(7)]
    made = make([*ride, *later, *flown])
    picture = Picture(130, "Two breaks cut a recording into three tracks", 0.0205, (16_000.0, 0.0))
    picture.draw(made)
    rows = made.line.to_dict("records")
    for row, track in zip([row for row in rows if row["kind"] == "track"], made.tracks.to_dict("records"), strict=True):
        x = (picture.at(track["start_lon"], LAT)[0] + picture.at(track["end_lon"], LAT)[0]) / 2
        picture.text(x, 46, "track")
        picture.text(x, 100, f"{clock(row['started_ms'])} to {clock(row['ended_ms'])}", "small")
    ends = made.tracks[["start_lon", "end_lon"]].to_numpy()
    for number, gap in enumerate(row for row in rows if row["kind"] == "gap"):
        x = (picture.at(ends[number, 1], LAT)[0] + picture.at(ends[number + 1, 0], LAT)[0]) / 2
        picture.text(x, 24 if number == 0 else 54, gap["reason"], "small")
    return picture.save("rules-breaks")


def stays() -> Path:
    """Draw a rest between two ways, with an excursion of the receiver, and what the tracks share with it."""
    there = [(602.5 + i / 2, -735.0 + 140.0 * i, -147.0 + 28.0 * i, UNKNOWN) for i in range(5)]
    turn = np.random.default_rng(3)
    rest = [(605.0 + 1.5 * i, *turn.normal(0, 16, 2), UNKNOWN) for i in range(30)]
    rest[13] = (rest[13][0], 150.0, 120.0, UNKNOWN)
    away = [(650.0 + i / 2, 35.0 + 140.0 * i, -7.0 - 28.0 * i, UNKNOWN) for i in range(1, 6)]
    made = make([*there, *rest, *away])
    picture = Picture(210, "A stay between two tracks", 0.45, (0.0, 10.0))
    picture.draw(made)
    (stay,) = made.stays.to_dict("records")
    x, y = picture.at(stay["lon"], stay["lat"])
    times = f"{clock(stay['started_ms'])} to {clock(stay['ended_ms'])}"
    picture.text(x, y + 52, f"stay, {times}, {stay['points']} fixes within {stay['radius_cm'] / 100:.0f} m")
    for track in made.tracks.to_dict("records"):
        ends = picture.at(track["start_lon"], track["start_lat"]), picture.at(track["end_lon"], track["end_lat"])
        middle = (ends[0][0] + ends[1][0]) / 2
        picture.text(middle, (ends[0][1] + ends[1][1]) / 2 - 26, "track")
    picture.text(WIDTH / 2 + 85, 48, "an excursion: away, but back within 10 min", "small", "start")
    return picture.save("rules-stays")


def midnight() -> Path:
    """Draw segments, which are made day by day, and the track that they become."""
    rest = [(1_300.0 + 4 * i, 5.0 * (i % 3), 0.0, UNKNOWN) for i in range(16)]
    ride = [(1_361.0 + 3 * i, 400.0 * (i + 1), 0.0, UNKNOWN) for i in range(52)]
    walk = [(1_570.0 + 2 * i, 21_000.0 + 150.0 * i, 0.0, UNKNOWN) for i in range(21)]
    made = make([*rest, *ride, *walk])
    picture = Picture(190, "Segments of two days are joined over midnight")
    lo_ms, hi_ms = made.fixes["time_ms"].iloc[[0, -1]]

    def x_of(time_ms: float) -> float:
        return 120 + (time_ms - lo_ms) / (hi_ms - lo_ms) * (WIDTH - 150)

    def bar(y: float, start_ms: float, end_ms: float, kind: str, words: str) -> None:
        x, wide = x_of(start_ms), x_of(end_ms) - x_of(start_ms)
        picture.parts.append(f'<rect x="{x:.1f}" y="{y}" width="{wide:.1f}" height="12" rx="2" class="{kind}"/>')
        picture.text(x + wide / 2, y - 6, words, "small")

    at = x_of(DAY_MS + MS_PER_DAY)
    picture.way([(at, 26), (at, 112)], "edge")
    picture.text(at, 20, "00:00")
    rows = (("fixes", 48), ("segments", 98), ("tracks, stays", 152))
    for words, y in rows:
        picture.text(14, y, words, anchor="start")
    for time_ms in made.fixes["time_ms"]:
        picture.dot(x_of(time_ms), 44)
    for row in made.segments.to_dict("records"):
        if row["last_ms"] > row["first_ms"]:
            day = "one" if row["day"] * MS_PER_DAY == DAY_MS else "two"
            kind = "stay" if row["is_stay"] else "bar"
            bar(88, row["first_ms"], row["last_ms"], kind, f"day {day}")
    for row in made.line.to_dict("records"):
        if row["kind"] != "gap":
            bar(142, row["started_ms"], row["ended_ms"], "stay" if row["kind"] == "stay" else "bar", row["kind"])
    return picture.save("rules-midnight")


def noise() -> Path:
    """Draw fixes that cannot be true: they are set aside, and the track goes on as if they were not there."""
    ride = [[600.0 + i / 2, 120.0 * i, 60.0 * np.sin(i / 3), 8.0] for i in range(29)]
    ride[8][2] += 190
    ride[8][3] = 350.0
    ride[15][1:3] = ride[15][1] + 300.0, -1_500.0
    twin = [ride[24][0], ride[24][1] + 30, ride[24][2] + 150.0, 60.0]
    fixes = sorted([tuple(fix) for fix in ride] + [tuple(twin)])
    made = make(fixes)
    picture = Picture(345, "Three fixes are set aside as noise", 0.15, (1_680.0, -560.0))
    picture.draw(made)
    said: dict[str, Callable[[pd.Series], str]] = {
        "accuracy": lambda row: f"accuracy: {row['accuracy']:.0f} m, and better ones near",
        "spike": lambda row: "spike: away and back, faster than anything around",
        "duplicate": lambda row: "duplicate: another place at the same time",
    }
    for _, row in made.noise.iterrows():
        x, y = picture.at(row["lon"], row["lat"])
        picture.text(x, y + (22 if row["noise"] == "spike" else -12), said[row["noise"]](row), "red")
    return picture.save("rules-noise")


def main() -> None:
    """Draw all of them."""
    for draw in (breaks, stays, midnight, noise):
        path = draw()
        sys.stdout.write(f"{path}: {path.stat().st_size / 1000:.0f} kB\n")


if __name__ == "__main__":
    main()
