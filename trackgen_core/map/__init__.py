"""A map: tracks and stays as one page that opens from disk, and asks nobody for anything.

The page is `page.html` with `page.css`, `page.js` and Leaflet in it; its data are blocks of JSON, written as they are
read. Paths lose the vertices that nobody would miss, and become steps of integers; all figures are those of the store.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Collection, Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from string import Template
from typing import Any, BinaryIO, Final, NamedTuple
from urllib.parse import urlsplit

import numpy as np
import pandas as pd

from trackgen_core.export import STAYS, TRACKS, objects
from trackgen_core.geodesy import FloatArray, IntArray, pair_lengths_mm
from trackgen_core.legs import MODES
from trackgen_core.paths import decode_path, simplify
from trackgen_core.points import day_date
from trackgen_core.store import Store
from trackgen_core.timeline import timeline

FOLDER: Final = Path(__file__).parent
TRACK_BATCH: Final = 500
"""Tracks of which the paths are held at once."""

SIMPLIFY_M: Final = 4.0
"""How far from where it was a path may be drawn; receivers are off by more."""
UNITS_PER_DEGREE: Final = 100_000
EARTH_RADIUS_M: Final = 6_378_137.0
MAX_LAT: Final = 85.05
"""Where maps in the projection of Mercator end."""

TRACK_COLUMNS: Final = (
    *("device", "start", "end", "track_id", "mode", "points", "distance_m", "duration_s", "moving_s"),
    *("avg_speed_kmh", "moving_speed_kmh", "elevation_gain_m", "elevation_loss_m", "elevation_min_m"),
    *("elevation_max_m", "begins", "ends", "legs", "lines"),
)
LEG_COLUMNS: Final = ("mode", "start", "end", "distance_m", "confidence", "source")
STAY_COLUMNS: Final = (
    *("device", "start", "end", "stay_id", "points", "duration_s", "lon", "lat", "radius_m", "ongoing"),
    *("begins", "ends"),
)
"""What the rows of the page's data hold. `device` is an index into the devices, `mode` one into `MODES`; `start` and
`end` are seconds of the clock on the wall in the user's time zone, counted from 1970; a line is the index of its leg,
and longitudes and latitudes in turn, each as the step from the one before."""

PLAIN_REASONS: Final = {
    "start": "first fix of this device",
    "time_gap": "a gap in the recording",
    "distance": "a hop that is too long",
    "implausible_speed": "a hop that is too long and too fast",
    "stay": "a stay begins or ends here",
    "midnight": "midnight",
    "split": "split by hand",
}
"""Break reasons where nothing of these days is left to compare with."""


class NothingToShow(LookupError):
    """There is no track and no stay."""


class Tiles(NamedTuple):
    """Pictures of the ground, which a server delivers while somebody looks at the map."""

    url: str
    """With `{z}`, `{x}` and `{y}`, and perhaps `{s}`, as Leaflet takes it."""
    attribution: str
    """Whom they are from, as plain text."""


def write_map(
    store: Store,
    out: BinaryIO,
    names: Collection[str] | None = None,
    lo_day: int | None = None,
    hi_day: int | None = None,
    *,
    tiles: Tiles | None = None,
) -> tuple[int, int]:
    """Write tracks and stays that start in some days as a page.

    Parameters
    ----------
    store : Store
        The store.
    out : binary file
        Where to write. It stays open.
    names : collection of str, optional
        Users; by default all.
    lo_day, hi_day : int, optional
        First and last day, inclusive; by default all.
    tiles : Tiles, optional
        What to draw beneath; by default the page asks no server for anything.

    Returns
    -------
    tracks, stays : int
        How many are on the map.

    Raises
    ------
    NothingToShow
        If there is none.
    UnknownUser
        If one of the users is not in the database.
    ValueError
        If the URL of the tiles is none.
    """
    origins = () if tiles is None else _origins(tiles.url)
    lo_day, hi_day = _days_shown(store, names, lo_day, hi_day)
    names = store.user_names() if names is None else sorted(set(names))
    zones = {name: store.settings(name).timezone for name in names}
    with store.read() as connection:
        devices = store.devices(connection, store.user_ids(names))
    number_of = {device: number for number, device in enumerate(zip(devices["user"], devices["device"], strict=True))}
    about = {
        "devices": [[user, device, zones[user]] for user, device in number_of],
        "modes": MODES,
        "columns": {"track": TRACK_COLUMNS, "leg": LEG_COLUMNS, "stay": STAY_COLUMNS},
        "units_per_degree": UNITS_PER_DEGREE,
        "tiles": tiles and tiles._asdict(),
    }
    title = f"{', '.join(names)}: {day_date(lo_day).isoformat()} to {day_date(hi_day).isoformat()}"
    head, tail = _page(title, origins)
    out.write(head)
    out.write(_block("about", about))
    counts = {"track": 0, "stay": 0}
    for name in names:
        for kind, rows in _rows(store, name, lo_day, hi_day, number_of, zones[name]):
            out.write(_block(kind, rows))
            counts[kind] += len(rows)
    out.write(tail)
    return counts["track"], counts["stay"]


def _days_shown(store: Store, names: Collection[str] | None, lo_day: int | None, hi_day: int | None) -> tuple[int, int]:
    """Return the first and the last day that are asked for and have anything."""
    if shown := store.days_of_items(names, lo_day, hi_day):
        return shown
    who = "anybody" if names is None else " and ".join(names)
    if there := store.days_of_items(names):
        first, last = (day_date(day).isoformat() for day in there)
        raise NothingToShow(f"no track or stay of {who} starts in these days; there are some from {first} to {last}")
    raise NothingToShow(f"there are no tracks and no stays of {who} yet; import points, and run `trackgen generate`")


def _rows(
    store: Store, name: str, lo_day: int, hi_day: int, number_of: dict[tuple[str, str], int], zone: str
) -> Iterator[tuple[str, list[list[Any]]]]:
    """Yield the rows of a user, track or stay, in batches."""
    reasons = _reasons(timeline(store, [name], lo_day - 1, hi_day + 1))
    for batch in store.read_tracks([name], lo_day, hi_day, rows=TRACK_BATCH):
        with store.read() as connection:
            legs = store.legs(connection, batch["track_id"].tolist())
        # What was made anew since the batch was read has no legs any more.
        batch = batch[batch["track_id"].isin(legs["track_id"])]
        if len(batch):
            yield "track", list(_track_rows(_with_context(batch, "track", reasons, number_of, zone), legs, zone))
    for batch in store.read_stays([name], lo_day, hi_day):
        yield "stay", list(_stay_rows(_with_context(batch, "stay", reasons, number_of, zone)))


def _reasons(line: pd.DataFrame) -> pd.DataFrame:
    """Return why what is on a time line of one user begins and ends: `begins`, `ends`, and what tells it."""
    ends = line.groupby("device")["reason"].shift(-1)
    begins = line["reason"].where(line["reason"].ne("first of these days"))
    key = ["device", "kind", "started_ms", "ended_ms"]
    return line[key].assign(begins=begins, ends=ends).drop_duplicates(key)


def _with_context(
    batch: pd.DataFrame, kind: str, reasons: pd.DataFrame, number_of: dict[tuple[str, str], int], zone: str
) -> pd.DataFrame:
    """Return tracks or stays of a user with `number` (of their device), `start`, `end`, `begins` and `ends`."""
    batch = batch.assign(kind=kind).merge(reasons, "left", ["device", "kind", "started_ms", "ended_ms"])
    plain = batch["break_reason"].map(PLAIN_REASONS)
    return batch.assign(
        number=[number_of[device] for device in zip(batch["user"], batch["device"], strict=True)],
        start=_wall_clock_s(batch["started_ms"], zone),
        end=_wall_clock_s(batch["ended_ms"], zone),
        begins=batch["begins"].where(batch["begins"].notna() & batch["break_reason"].ne("start"), plain),
        ends=batch["ends"].fillna("nothing follows in these days"),
    )


def _wall_clock_s(times_ms: pd.Series, zone: str) -> IntArray:
    """Return what clocks of a zone show, as the seconds from 1970 after which they show it in UTC."""
    local = pd.to_datetime(times_ms, unit="ms", utc=True).dt.tz_convert(zone).dt.tz_localize(None)
    seconds: IntArray = local.to_numpy("datetime64[s]").astype("int64")
    return seconds


def _track_rows(batch: pd.DataFrame, legs: pd.DataFrame, zone: str) -> Iterator[list[Any]]:
    legs = legs.assign(
        mode=[MODES.index(mode) for mode in legs["mode"]],
        start=_wall_clock_s(legs["started_ms"], zone),
        end=_wall_clock_s(legs["ended_ms"], zone),
        distance_m=legs["length_mm"] / 1000,
    )
    legs_of = dict(list(legs.groupby("track_id", sort=False)))
    rows = zip(batch.to_dict("records"), objects(batch, TRACKS), _lines(batch, legs), strict=True)
    for row, properties, lines in rows:
        made = {
            "device": row["number"],
            "mode": MODES.index(row["mode"]),
            "legs": legs_of[row["track_id"]][list(LEG_COLUMNS)].to_numpy(object).tolist(),
            "lines": lines,
        }
        values = properties | {name: row[name] for name in ("start", "end", "begins", "ends")} | made
        yield [values[name] for name in TRACK_COLUMNS]


def _stay_rows(batch: pd.DataFrame) -> Iterator[list[Any]]:
    for row, properties in zip(batch.to_dict("records"), objects(batch, STAYS), strict=True):
        made = {"device": row["number"], **{name: round(row[name], 6) for name in ("lon", "lat")}}
        values = properties | {name: row[name] for name in ("start", "end", "begins", "ends")} | made
        yield [values[name] for name in STAY_COLUMNS]


def _lines(batch: pd.DataFrame, legs: pd.DataFrame) -> list[list[list[int]]]:
    """Return the lines of tracks: their paths, cut where a leg ends, with the vertices that are needed to draw them."""
    pieces_of = [decode_path(path) for path in batch["path"]]
    pieces = [piece for of_track in pieces_of for piece in of_track]
    vertices = np.concatenate(pieces)
    ends = np.cumsum([len(piece) for piece in pieces])
    starts = np.append(0, ends[:-1])
    first_piece = np.cumsum([0] + [len(of_track) for of_track in pieces_of])

    cuts = _leg_ends(batch, legs, vertices, starts[first_piece[:-1]], ends[first_piece[1:] - 1])
    kept = np.zeros(len(vertices), bool)
    kept[np.concatenate([starts, ends - 1, *cuts])] = True
    lat = np.radians(vertices[:, 1].clip(-MAX_LAT, MAX_LAT))
    # Maps draw straight lines in this plane, in which a metre is as long as where the vertex is.
    metres = EARTH_RADIUS_M * np.cos(lat)
    x, y = np.radians(vertices[:, 0]), np.arcsinh(np.tan(lat))
    needed = np.flatnonzero(simplify(x, y, metres, metres, kept, SIMPLIFY_M))
    units = np.rint(vertices[needed] * UNITS_PER_DEGREE).astype("int64")

    lines = []
    for track, of_leg in enumerate(cuts):
        of_track = []
        for piece in range(first_piece[track], first_piece[track + 1]):
            lo, hi = starts[piece], ends[piece] - 1
            inside = np.unique(of_leg[(of_leg > lo) & (of_leg < hi)])
            for begin, end in pairwise([lo, *inside, hi]):
                line = units[np.searchsorted(needed, begin) : np.searchsorted(needed, end) + 1]
                steps = np.diff(line, axis=0, prepend=[[0, 0]])
                moves = np.append(steps[:-1].any(axis=1), True)
                leg = int(np.searchsorted(of_leg, begin, side="right"))
                of_track.append([leg, *steps[moves].ravel().tolist()])
        lines.append(of_track)
    return lines


def _leg_ends(
    batch: pd.DataFrame, legs: pd.DataFrame, vertices: FloatArray, first: IntArray, end: IntArray
) -> list[IntArray]:
    """Return, for each track, the vertices with which its legs end, but for the last: by how far it is to there."""
    lon, lat = vertices.T
    links = pair_lengths_mm(lon[:-1], lat[:-1], lon[1:], lat[1:])
    links[first[1:] - 1] = 0
    far = np.append(0, np.cumsum(links))
    so_far = legs["length_mm"].groupby(legs["track_id"]).cumsum()
    ends_of = {track_id: lengths.to_numpy()[:-1] for track_id, lengths in so_far.groupby(legs["track_id"])}
    cuts = []
    for track_id, length, lo, hi in zip(batch["track_id"], batch["length_mm"], first, end, strict=True):
        of_track = far[lo:hi] - far[lo]
        # Where a path is cut at the antimeridian, it is not quite as long as its track.
        leg_ends = ends_of[track_id] * (of_track[-1] / max(length, 1))
        cuts.append(lo + np.searchsorted((of_track[1:] + of_track[:-1]) / 2, leg_ends))
    return cuts


def _page(title: str, tile_origins: Iterable[str]) -> tuple[bytes, bytes]:
    """Return what comes before the data in the page, and what comes behind."""
    leaflet = FOLDER / "leaflet"
    # The last line of the script names a file for debuggers, which is not there.
    parts = {
        "leaflet_style": (leaflet / "leaflet.css").read_text("utf-8"),
        "style": (FOLDER / "page.css").read_text("utf-8"),
        "leaflet_script": (leaflet / "leaflet.js").read_text("utf-8").rsplit("//# sourceMappingURL", 1)[0],
        "script": (FOLDER / "page.js").read_text("utf-8"),
    }
    policy = {
        "default-src": ["'none'"],
        "script-src": [_hash(parts["leaflet_script"]), _hash(parts["script"])],
        "style-src": [_hash(parts["leaflet_style"]), _hash(parts["style"])],
        "img-src": ["data:", *tile_origins],
        "base-uri": ["'none'"],
        "form-action": ["'none'"],
    }
    values = parts | {
        "policy": "; ".join(f"{name} {' '.join(sources)}" for name, sources in policy.items()),
        "title": html.escape(title),
        "licence": (leaflet / "LICENSE").read_text("utf-8"),
    }
    head, tail = (FOLDER / "page.html").read_text("utf-8").split("$data")
    return Template(head).substitute(values).encode(), Template(tail).substitute(values).encode()


def _hash(text: str) -> str:
    """Return how a Content Security Policy names a script or a style that is allowed."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _block(kind: str, value: Any) -> bytes:  # noqa: ANN401 - whatever JSON holds
    """Return data as an element of the page: nothing in it can end the element."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    return f'<script type="application/json" class="{kind}">{text}</script>\n'.encode()


def _origins(url: str) -> tuple[str, ...]:
    """Return the servers that a template of tiles leads to."""
    if not all(part in url for part in ("{z}", "{x}", "{y}")):
        raise ValueError(f"{url} is no template of tiles: it needs {{z}}, {{x}} and {{y}}")
    parts = [urlsplit(url.replace("{s}", server)) for server in ("abc" if "{s}" in url else "a")]
    if any(part.scheme not in ("http", "https") or not part.hostname for part in parts):
        raise ValueError(f"{url} is no template of tiles: it begins with https:// and the name of a server")
    hosts = [f"{part.scheme}://{part.hostname}{f':{part.port}' if part.port else ''}" for part in parts]
    if any(set(host) & set(" ;,'\"{}*") for host in hosts):
        raise ValueError(f"{url} is no template of tiles: the name of a server has no such characters")
    return tuple(dict.fromkeys(hosts))
