"""What the UI shows beside figures: the columns of a table, where they come from, a picture and a map of a day."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import dagster as dg
import pandas as pd
import sqlalchemy as sa

from trackgen_core import schema
from trackgen_core.climb import CLIMB_COLUMNS
from trackgen_core.pictures import draw_days
from trackgen_core.segmentation import BAND_COLUMNS, LINK_COLUMNS, REST_COLUMNS, WAY_COLUMNS
from trackgen_core.store import Store
from trackgen_dagster.environment import MAP_PATH, ui_url
from trackgen_dagster.partitions import key_of

PANELS: Final = 3
"""Devices in the picture of a day: those that went farthest."""

MOST_CHARACTERS: Final = 999
"""The UI shows longer Markdown only when somebody asks for it."""

LONGEST_NAME: Final = 24
DAYS_AT_ONCE: Final = 32
"""Whose paths are held."""

POSITION: Final = ("lon", "lat")
FIX: Final = ("time_ms", *POSITION)
KEPT: Final = (*FIX, "seq", "accuracy")
"""What decides whether a fix is noise or part of a stay, and so where segments begin and end."""

SEGMENTS_OF_POINTS: Final[Mapping[str, tuple[str, ...]]] = {
    "device_id": ("device_id",),
    "day": ("time_ms",),
    **dict.fromkeys(("number", "is_stay", "continues", "points", "length_mm", *WAY_COLUMNS), KEPT),
    **dict.fromkeys(("first_late_ms", "last_late_ms", "first_interval_ms", "last_interval_ms"), KEPT),
    **dict.fromkeys(LINK_COLUMNS, KEPT),
    "resumes": ("pause",),
    "told_by": (*KEPT, "activity"),
    **dict.fromkeys(("local_day", "first_ms", "last_ms", "first_lon", "first_lat", "last_lon", "last_lat"), KEPT),
    **dict.fromkeys((*BAND_COLUMNS, *REST_COLUMNS, "path"), KEPT),
    **dict.fromkeys((*CLIMB_COLUMNS, "start_cm", "end_cm", "digest"), (*KEPT, "altitude")),
}
"""Of each column of segments: the columns of points it is made of."""

ENDS: Final = ("first_ms", "first_lon", "first_lat", "last_ms", "last_lon", "last_lat")
CUTS: Final = (*ENDS, "device_id", "local_day", "is_stay", "continues")
"""What decides which segments are joined."""

TRACKS_OF_SEGMENTS: Final[Mapping[str, tuple[str, ...]]] = {
    "track_id": ("device_id", "first_ms", "first_lon", "first_lat"),
    "device_id": ("device_id",),
    "started_ms": ("first_ms",),
    "ended_ms": ("last_ms",),
    "start_lon": ("first_lon",),
    "start_lat": ("first_lat",),
    "end_lon": ("last_lon",),
    "end_lat": ("last_lat",),
    "points": ("points",),
    "length_mm": ("length_mm", "link_mm", "resumes", *ENDS),
    "duration_ms": ("first_ms", "last_ms"),
    "moving_ms": (*BAND_COLUMNS, *ENDS),
    "avg_speed_kmh": ("length_mm", *ENDS),
    **dict.fromkeys(("elevation_gain_cm", "elevation_loss_cm"), (*CLIMB_COLUMNS, "start_cm", "end_cm")),
    "elevation_min_cm": ("min_cm", "start_cm", "end_cm"),
    "elevation_max_cm": ("max_cm", "start_cm", "end_cm"),
    "mode": ("told_by", *BAND_COLUMNS, *WAY_COLUMNS, *ENDS),
    "break_reason": CUTS,
    "settings_id": ("settings_id",),
    "digest": ("digest",),
    "path": ("path", *ENDS),
}

DAYS_OF_TRACKS: Final[Mapping[str, tuple[str, ...]]] = {
    "user": ("device_id",),
    "day": ("started_ms", "ended_ms"),
    "km": ("length_mm",),
    "moving_hours": ("moving_ms",),
    "tracks": ("track_id",),
    "elevation_gain_m": ("elevation_gain_cm",),
    "elevation_loss_m": ("elevation_loss_cm",),
}


def _metadata(
    table: sa.Table, source: str = "", made_of: Mapping[str, tuple[str, ...]] | None = None
) -> dict[str, Any]:
    """Return which table or view an asset is, what its columns are, and of which columns of `source` they are made."""
    columns = [
        dg.TableColumn(
            column.name,
            str(column.type).lower(),
            column.doc or column.comment,
            dg.TableColumnConstraints(nullable=bool(column.nullable), unique=bool(column.unique)),
        )
        for column in table.columns
    ]
    key = ", ".join(column.name for column in table.primary_key.columns)
    constraints = dg.TableConstraints([f"primary key ({key})"] if key else [])
    lineage = {
        name: [dg.TableColumnDep(dg.AssetKey(source), column) for column in sources]
        for name, sources in (made_of or {}).items()
    }
    return {
        "dagster/table_name": table.name,
        "dagster/column_schema": dg.TableSchema(columns, constraints),
        # The UI of Dagster's open edition does not draw it; GraphQL tells it.
        "dagster/column_lineage": dg.TableColumnLineage(lineage),
    }


POINTS: Final = _metadata(schema.points)
SEGMENTS: Final = _metadata(schema.segments, "points", SEGMENTS_OF_POINTS)
TRACKS: Final = _metadata(schema.tracks, "segments", TRACKS_OF_SEGMENTS)
DAILY_SUMMARIES: Final = _metadata(schema.daily_summaries, "tracks", DAYS_OF_TRACKS)


def map_link(day: int) -> dg.MetadataValue:
    """Return a link to the map of a day, on the server that shows it."""
    prefix = urlsplit(ui_url()).path
    return dg.MetadataValue.url(f"{prefix}{MAP_PATH}?start={key_of(day)}")


def pictures(store: Store, lo_day: int, hi_day: int) -> Iterator[tuple[int, dg.MetadataValue]]:
    """Yield the days from `lo_day` to `hi_day` on which somebody moved, with pictures of the tracks that start then."""
    with store.read() as connection:
        longest = store.longest_tracks(connection, lo_day, hi_day, PANELS)
        captions = _captions(longest)
        room = {day: MOST_CHARACTERS - len(_markdown("", caption)) for day, caption in captions.items()}
        for _, tracks in longest.groupby(longest["day"] // DAYS_AT_ONCE):
            paths = store.paths_of(connection, tracks["track_id"])
            for day, url in draw_days(tracks.assign(path=tracks["track_id"].map(paths)), room).items():
                yield day, dg.MetadataValue.md(_markdown(url, captions[day]))


def _markdown(url: str, caption: str) -> str:
    return f"![tracks]({url})\n\n{caption}"


def _captions(tracks: pd.DataFrame) -> dict[int, str]:
    """Say whose the panels of each day are, from left to right, and how far they went."""
    panels = tracks.drop_duplicates(["day", "panel"])
    km = tracks.groupby(["day", "panel"])["length_mm"].sum().to_numpy() / 1e6
    parts_of_days: dict[int, list[str]] = {}
    for day, user, device, length in zip(panels["day"], panels["user"], panels["device"], km, strict=True):
        name = f"{user} {device}".strip()
        short = name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"
        plain = re.sub(r"([^\w\s])", r"\\\1", short)  # no Markdown
        parts_of_days.setdefault(day, []).append(f"{plain} {length:,.1f} km")
    return {day: ", ".join(parts) for day, parts in parts_of_days.items()}
