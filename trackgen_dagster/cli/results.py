"""What was found: tracks, legs, stays, days; and what other settings would find."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from trackgen_core.words import counted
from trackgen_dagster.cli.options import (
    Day,
    check_end,
    command,
    echo_row,
    end_option,
    engine_option,
    group,
    json_option,
    output_option,
    output_stream,
    start_option,
    users_option,
)
from trackgen_dagster.cli.views import SECONDS, Clock, begun, nothing, utc_option

if TYPE_CHECKING:
    from trackgen_core.store import Store

EXPORT_FORMATS: Final = ("csv", "geojson", "gpx", "kml", "mfjson", "parquet")
STAY_FORMATS: Final = ("csv", "geojson", "parquet")


@group()
def tracks() -> None:
    """List and export tracks."""


@tracks.command("list")
@users_option
@start_option
@end_option
@utc_option
@json_option
def tracks_list(users: Sequence[str], start: int | None, end: int | None, utc: bool, as_json: bool) -> None:
    """List tracks, one a line."""
    from trackgen_core.export import TRACKS, objects
    from trackgen_core.home import open_store

    store = open_store()
    found = begun(track for batch in _read_tracks(users, start, end, store) for track in objects(batch, TRACKS))

    if as_json:
        separator = "["
        for track in found:
            click.echo(separator + json.dumps(track, ensure_ascii=False), nl=False)
            separator = ",\n"
        click.echo("]" if separator != "[" else "[]")
        return
    clock = Clock(store, utc)
    started = f"started ({clock.label})"
    _echo_table(
        f"{'id':<9}{started:<17}{'hours':>7}{'km':>10}{'km/h':>7}{'points':>7} {'mode':<11}user device",
        (
            (
                f"{track['track_id'][:8]:<9}{clock.show(track['user'], track['started_at']):<17}"
                f"{track['duration_s'] / 3600:>7.2f}{track['distance_m'] / 1000:>10.2f}{track['avg_speed_kmh']:>7.1f}"
                f"{track['points']:>7} {track['mode']:<11}",
                f"{track['user']} {track['device']}",
            )
            for track in found
        ),
        lambda: nothing(store, "tracks"),
    )


def _echo_table(header: str, rows: Iterable[tuple[str, str]], empty: Callable[[], str]) -> None:
    """Print rows below a header, or why there are none."""
    is_empty = True
    for row in rows:
        if is_empty:
            click.echo(header)
            is_empty = False
        echo_row(*row)
    if is_empty:
        click.echo(empty())


@tracks.command("export")
@users_option
@start_option
@end_option
@click.option("--format", "format_", type=click.Choice(EXPORT_FORMATS), default="csv", show_default=True)
@click.option(
    "--points/--no-points", default=None, help="With the points of each track, or only its path (geojson, kml)."
)
@click.option(
    "--simplify",
    "simplify_m",
    type=click.FloatRange(0),
    default=0,
    metavar="METRES",
    help="Leave out vertices that lie so close to the line that is left. Figures stay those of the whole track.",
)
@engine_option("sql: not what is stored, but what PostGIS makes of the points (only csv).")
@output_option
def tracks_export(
    users: Sequence[str],
    start: int | None,
    end: int | None,
    format_: str,
    points: bool | None,
    simplify_m: float,
    engine: str,
    output: Path | None,
) -> None:
    """Export tracks that start from --start to --end.

    gpx and mfjson hold tracks with their points, csv and parquet without, geojson and kml as you like.
    """
    from trackgen_core.export import check_points, export_tracks
    from trackgen_core.home import open_store
    from trackgen_core.sql_engine import read_sql_tracks

    if engine == "sql" and format_ != "csv":
        raise click.UsageError("--engine sql knows no elevations and modes, and exports as csv only")
    try:
        check_points(format_, points)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    store = open_store()
    batches = (
        read_sql_tracks(store, users or None, start, end) if engine == "sql" else _read_tracks(users, start, end, store)
    )
    with output_stream(output) as out:
        count = export_tracks(
            batches,
            out,
            format_,
            points_of=store.points_of,
            points=points,
            simplify_m=simplify_m,
        )
    if output:
        click.echo(f"{counted(count, 'track')} written to {output}")


def _read_tracks(users: Sequence[str], start: int | None, end: int | None, store: Store | None = None) -> Any:  # noqa: ANN401
    from trackgen_core.home import open_store

    return (store or open_store()).read_tracks(users or None, start, end)


@group()
def legs() -> None:
    """List and export legs: the parts of tracks, by how somebody moved."""


@legs.command("list")
@users_option
@start_option
@end_option
@utc_option
@json_option
def legs_list(users: Sequence[str], start: int | None, end: int | None, utc: bool, as_json: bool) -> None:
    """List the legs of tracks, one a line; how sure a mode is in percent, or `hand` where you set it."""
    from trackgen_core.export import LEGS, objects
    from trackgen_core.home import open_store

    store = open_store()
    found = [leg for batch in store.read_legs(users or None, start, end) for leg in objects(batch, LEGS)]
    if as_json:
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    clock = Clock(store, utc)
    started = f"started ({clock.label})"
    _echo_table(
        f"{'track':<9}{started:<20}{'hours':>7}{'km':>10} {'mode':<11}{'sure':>5}  user device",
        (
            (
                f"{leg['track_id'][:8]:<9}{clock.show(leg['user'], leg['started_at'], SECONDS):<20}"
                f"{leg['duration_s'] / 3600:>7.2f}{leg['distance_m'] / 1000:>10.2f} {leg['mode']:<11}"
                f"{'{}%'.format(leg['confidence']) if leg['source'] == 'rule' else leg['source']:>5}  ",
                f"{leg['user']} {leg['device']}",
            )
            for leg in found
        ),
        lambda: nothing(store, "legs"),
    )


@legs.command("export")
@users_option
@start_option
@end_option
@output_option
def legs_export(users: Sequence[str], start: int | None, end: int | None, output: Path | None) -> None:
    """Export the legs of tracks that start from --start to --end, as CSV."""
    from trackgen_core.export import export_legs
    from trackgen_core.home import open_store

    batches = open_store().read_legs(users or None, start, end)
    with output_stream(output) as out:
        count = export_legs(batches, out)
    if output:
        click.echo(f"{counted(count, 'leg')} written to {output}")


@group()
def stays() -> None:
    """List and export stays: times spent in one place."""


@stays.command("list")
@users_option
@start_option
@end_option
@utc_option
@json_option
def stays_list(users: Sequence[str], start: int | None, end: int | None, utc: bool, as_json: bool) -> None:
    """List stays, one a line."""
    from trackgen_core.export import STAYS, objects
    from trackgen_core.home import open_store

    store = open_store()
    found = [stay for batch in store.read_stays(users or None, start, end) for stay in objects(batch, STAYS)]
    if as_json:
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    clock = Clock(store, utc)
    started = f"started ({clock.label})"
    _echo_table(
        f"{started:<17}{'hours':>7} {'lon':>11}{'lat':>10}{'within':>8}{'points':>7}  user device",
        (
            (
                f"{clock.show(stay['user'], stay['started_at']):<17}{stay['duration_s'] / 3600:>7.2f}"
                f"{'+' if stay['ongoing'] else ' '}{stay['lon']:>11.5f}{stay['lat']:>10.5f}{stay['radius_m']:>6.0f} m"
                f"{stay['points']:>7}  ",
                f"{stay['user']} {stay['device']}",
            )
            for stay in found
        ),
        lambda: nothing(store, "stays"),
    )


@stays.command("export")
@users_option
@start_option
@end_option
@click.option("--format", "format_", type=click.Choice(STAY_FORMATS), default="csv", show_default=True)
@output_option
def stays_export(users: Sequence[str], start: int | None, end: int | None, format_: str, output: Path | None) -> None:
    """Export stays that start from --start to --end."""
    from trackgen_core.export import export_stays
    from trackgen_core.home import open_store

    batches = open_store().read_stays(users or None, start, end)
    with output_stream(output) as out:
        count = export_stays(batches, out, format_)
    if output:
        click.echo(f"{counted(count, 'stay')} written to {output}")


@command()
@users_option
@click.option("--start", type=Day(), metavar="DAY", is_eager=True, required=True, help="First day, YYYY-MM-DD (UTC).")
@click.option("--end", type=Day(), metavar="DAY", callback=check_end, help="Last day; by default the first.")
@utc_option
@json_option
def timeline(users: Sequence[str], start: int, end: int | None, utc: bool, as_json: bool) -> None:
    """Show tracks, stays and gaps of some days in their order, and why each begins where it does."""
    from trackgen_core.export import iso_times
    from trackgen_core.home import open_store
    from trackgen_core.timeline import timeline as lines

    store = open_store()
    rows = lines(store, users or None, start, start if end is None else end)
    rows["started_at"], rows["ended_at"] = iso_times(rows["started_ms"]), iso_times(rows["ended_ms"])
    rows["distance_m"] = rows["length_mm"] / 1000
    names = ["user", "device", "kind", "started_at", "ended_at", "points", "distance_m", "mode", "reason"]
    if as_json:
        records = rows[names].astype(object).where(rows[names].notna(), None).to_dict("records")
        click.echo(json.dumps(records, indent=2, ensure_ascii=False))
        return
    clock = Clock(store, utc)
    of = None
    for row in rows.to_dict("records"):
        if of != (row["user"], row["device"]):
            of = (row["user"], row["device"])
            click.echo(f"{row['user']} {row['device']} ({clock.zone(row['user'])})")
        _echo_line("", row, clock)
    if of is None:
        click.echo(nothing(store, "tracks, stays and gaps"))


def _echo_line(head: str, row: dict[Any, Any], clock: Clock) -> None:
    """Print a row of a time line."""
    times = clock.span(row["user"], row["started_ms"], row["ended_ms"])
    amount = f"{row['length_mm'] / 1e6:,.2f} km" if row["kind"] == "track" else ""
    mode = row["mode"] if row["kind"] == "track" else ""
    hours = (row["ended_ms"] - row["started_ms"]) / 3.6e6
    echo_row(f"{head}{times:<37}{row['kind']:<6}{hours:>7.2f} h ", f"{amount:>12} {mode:<11}{row['reason']}")


@command()
@click.option("--user", "-u", required=True, metavar="U")
@click.option("--start", type=Day(), metavar="DAY", is_eager=True, required=True, help="First day, YYYY-MM-DD (UTC).")
@click.option("--end", type=Day(), metavar="DAY", callback=check_end, help="Last day; by default the first.")
@click.argument("assignments", nargs=-1, required=True, metavar="KEY=VALUE...")
@utc_option
@json_option
def preview(user: str, start: int, end: int | None, assignments: Sequence[str], utc: bool, as_json: bool) -> None:
    """Show what other settings would give, side by side with those in force; nothing is changed.

    Lines with + would come, lines with - would go.
    """
    from trackgen_core.home import open_store
    from trackgen_core.settings import change_settings, parse_assignments
    from trackgen_core.timeline import compare, preview

    store = open_store()
    now = store.settings(user)
    then = change_settings(now, parse_assignments(assignments))
    last = start if end is None else end
    (line, noise), (other_line, other_noise) = (preview(store, user, start, last, one) for one in (now, then))
    sums, changes = compare(line, other_line)
    sums["set aside"] = (noise, other_noise)
    if as_json:
        click.echo(json.dumps({"now": {k: v[0] for k, v in sums.items()}, "then": {k: v[1] for k, v in sums.items()}}))
        return
    click.echo(f"{'':<20}{'now':>12}{'then':>12}")
    for name, (one, other) in sums.items():
        click.echo(f"{name:<20}{one:>12,}{other:>12,}")
    clock = Clock(store, utc)
    for row in changes.to_dict("records"):
        _echo_line(f"{row['sign']} {row['device']} ", row | {"user": user}, clock)


@command()
@users_option
@start_option
@end_option
@json_option
def days(users: Sequence[str], start: int | None, end: int | None, as_json: bool) -> None:
    """Sum up days: distance, moving time, tracks, stays, rest and climb.

    Days are those of each user's time zone. A journey over midnight counts on both, each with its share.
    """
    from trackgen_core.export import day_properties
    from trackgen_core.home import open_store

    store = open_store()
    found = list(day_properties(store.day_sums(users or None, start, end)))
    if as_json:
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    _echo_table(
        f"{'day':<11}{'km':>10}{'moving':>9}{'tracks':>8}{'rest':>9}{'stays':>7}{'climb':>9}  user",
        (
            (
                f"{day['day']:<11}{day['distance_m'] / 1000:>10.2f}{day['moving_s'] / 3600:>7.2f} h{day['tracks']:>8}"
                f"{day['rest_s'] / 3600:>7.2f} h{day['stays']:>7}{day['elevation_gain_m']:>7,.0f} m  ",
                day["user"],
            )
            for day in found
        ),
        lambda: nothing(store, "days"),
    )


@command("map")
@users_option
@start_option
@end_option
@click.option("--session", metavar="ID", help="The users and days of this session, instead of --user, --start, --end.")
@click.option(
    "--tiles", metavar="URL", help="Tiles to draw beneath, as https://example.org/{z}/{x}/{y}.png; by default none."
)
@click.option("--attribution", metavar="TEXT", help="Whom the tiles are from, as their licence asks.")
@output_option
def map_(
    users: Sequence[str],
    start: int | None,
    end: int | None,
    session: str | None,
    tiles: str | None,
    attribution: str | None,
    output: Path | None,
) -> None:
    """Make a map of what starts from --start to --end, or in the days of a session: one page that opens from disk.

    Without --tiles, looking at it asks no server for anything.
    """
    from trackgen_core.home import open_store
    from trackgen_core.map import Tiles, write_map

    if (tiles is None) != (attribution is None):
        raise click.UsageError("--tiles and --attribution go together")
    ground = None if tiles is None or attribution is None else Tiles(tiles, attribution)
    names: Sequence[str] | None = users or None
    if session is not None:
        if users or start is not None or end is not None:
            raise click.UsageError("--session says which users and days: it goes without --user, --start and --end")
        from trackgen_dagster.instance import open_instance
        from trackgen_dagster.sessions import find_session

        with open_instance() as instance:
            names, start, end = find_session(instance, session).work
    with output_stream(output) as out:
        tracks, stays = write_map(open_store(), out, names, start, end, tiles=ground)
    if output:
        click.echo(f"{counted(tracks, 'track')} and {counted(stays, 'stay')} drawn on {output}")
