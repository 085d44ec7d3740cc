"""The command line. Imports are inside the commands: pandas and Dagster take longer to load than most commands run."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import click

if TYPE_CHECKING:
    from trackgen_core.importing import FileReport, ImportReport
    from trackgen_core.store import Store
    from trackgen_dagster.generate import Mode, SessionSummary
    from trackgen_dagster.sessions import Session

DEFAULT_PORT: Final = 3000
MODES: Final = ("bulk", "incremental", "daily")
EXPORT_FORMATS: Final = ("csv", "geojson", "gpx", "parquet")
STAY_FORMATS: Final = ("csv", "geojson", "parquet")
ENGINES: Final = ("python", "sql")
LAST_DAY: Final = date.max.toordinal() - date(1970, 1, 1).toordinal()
SHOWN: Final = 20
"""Faults of a check that are printed."""
IMPORT_FORMATS: Final = ("csv", "gpx", "geojson", "owntracks")


class Day(click.ParamType[int]):
    """A day as YYYY-MM-DD, as the number of days since 1970-01-01."""

    name = "day"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:  # noqa: ANN401
        """Parse the day."""
        if isinstance(value, int):
            return value
        try:
            return date.fromisoformat(value).toordinal() - date(1970, 1, 1).toordinal()
        except ValueError:
            self.fail(f"{value!r} is no day: write it as YYYY-MM-DD", param, ctx)


class Instant(click.ParamType[int]):
    """A time in ISO 8601, as milliseconds since the epoch; without an offset it is UTC."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:  # noqa: ANN401
        """Parse the time."""
        if isinstance(value, int):
            return value
        try:
            when = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is no time: write it as 2024-05-01T17:30:00Z", param, ctx)
        return round((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() * 1000)


class Command(click.Command):
    """A command that ends with one line on stderr where something goes wrong, and with all of it under `--debug`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **kwargs)
        self.params.append(
            click.Option(["--debug"], is_flag=True, expose_value=False, callback=_set_debug, help="Show tracebacks.")
        )

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401
        """Run the command."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except BrokenPipeError:
            # Whoever read our output has seen enough; Python would complain about it at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise click.exceptions.Exit(1) from None
        except Exception as error:
            if ctx.meta.get("debug"):
                raise
            message = " ".join(str(error).split()) or type(error).__name__
            if not _is_expected(error):
                message = f"{type(error).__name__}: {message} (run again with --debug to see where)"
            raise click.ClickException(message) from error


class Group(click.Group):
    """A group of commands."""

    command_class = Command
    group_class = type


def _set_debug(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    ctx.meta["debug"] = value


def _is_expected(error: Exception) -> bool:
    from trackgen_core.database import DatabaseError

    # OSError: files. ValueError: what was given cannot be. LookupError: a user or a session that is not there.
    expected = isinstance(error, DatabaseError | OSError | ValueError | LookupError)
    return expected and not isinstance(error, KeyError | IndexError)


users_option = click.option("--user", "-u", "users", multiple=True, metavar="U", help="Only this user; repeatable.")
start_option = click.option("--start", type=Day(), metavar="DAY", is_eager=True, help="First day, YYYY-MM-DD (UTC).")


def _check_end(ctx: click.Context, param: click.Parameter, end: int | None) -> int | None:
    start = ctx.params.get("start")
    if start is not None and end is not None and end < start:
        raise click.BadParameter("lies before --start", ctx, param)
    return end


end_option = click.option("--end", type=Day(), metavar="DAY", callback=_check_end, help="Last day, inclusive.")
workers_option = click.option(
    "--workers", "-w", type=click.IntRange(1), metavar="N", help="Processes; by default one a core."
)
output_option = click.option(
    "--output", "-o", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="By default stdout."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def _engine_option(help: str) -> Callable[..., Any]:
    return click.option("--engine", type=click.Choice(ENGINES), default="python", show_default=True, help=help)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="trackgen")
def main() -> None:
    """Turn raw GPS fixes into tracks.

    Data lives in TRACKGEN_HOME (~/.trackgen), or where TRACKGEN_DATABASE_URL says.
    """


@main.command("import")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--user", "-u", metavar="U", help="Whose points these are; a `user` column in the file overrides it.")
@click.option("--device", "-d", default="", metavar="D", help="The device, where the file does not say.")
@click.option("--format", "format_", type=click.Choice(IMPORT_FORMATS), help="By default recognised from the content.")
@json_option
def import_(paths: Sequence[Path], user: str | None, device: str, format_: str | None, as_json: bool) -> None:
    """Import points from files, folders, .gz and .zip.

    A file is imported whole or not at all; rows that are no fixes are counted by reason. Importing twice adds nothing.
    """
    from trackgen_core.home import open_store
    from trackgen_core.importing import import_paths

    store = open_store()
    with _progress_bar("importing", not as_json) as show:
        report = import_paths(
            store, paths, user=user, device=device, format=format_, progress=lambda file: show(None, _file_line(file))
        )
    if as_json:
        click.echo(json.dumps(report.as_json(), indent=2))
    else:
        _print_import(report)
    for file in report.failed:
        click.echo(f"Error: {file.error}", err=True)
    if all(file.skipped for file in report.files):
        where = ", ".join(map(str, paths))
        raise click.ClickException(f"{where}: no CSV, GPX, GeoJSON or OwnTracks .rec among {len(report.files)} files")
    if report.failed:
        raise click.exceptions.Exit(1)


def _file_line(file: FileReport) -> str:
    return f"{file.path}: {file.read:,} read"


def _print_import(report: ImportReport) -> None:
    click.echo("  ".join(f"{name} {report.total(name):,}" for name in ("read", "new", "duplicate", "rejected")))
    for reason, count in sorted(report.counts("reasons").items()):
        click.echo(f"  rejected {count:,}: {reason}")
    for column, count in sorted(report.counts("ignored").items()):
        click.echo(f"  {column} ignored {count:,} times: no possible value")
    for file in report.files:
        if file.skipped:
            click.echo(f"  skipped {file.path}: {file.skipped}")


@main.command()
@users_option
@click.option(
    "--mode",
    type=click.Choice(MODES),
    default="incremental",
    show_default=True,
    help="incremental: what is new or changed. bulk: everything again. daily: what is new, and yesterday again.",
)
@start_option
@end_option
@workers_option
@json_option
def generate(
    users: Sequence[str], mode: Mode, start: int | None, end: int | None, workers: int | None, as_json: bool
) -> None:
    """Make tracks of the points. Stopped and started again, it does only what is missing."""
    _print_outcome(_generate(users, mode, start, end, workers, show_progress=not as_json), as_json)


def _print_outcome(summary: SessionSummary, as_json: bool) -> None:
    """Print what a session did, and exit with 1 if it is not all of it."""
    if as_json:
        click.echo(json.dumps(summary.as_json(), indent=2))
    else:
        _print_summary(summary)
    faults = [*summary.errors, *(f"check failed: {check}" for check in summary.failed_checks)]
    if summary.status == "cancelled":
        faults.append("stopped; run it again to go on from here")
    for fault in faults:
        click.echo(f"Error: {fault}", err=True)
    if faults or summary.status not in ("completed", "pending"):
        raise click.exceptions.Exit(1)


def _generate(
    users: Sequence[str], mode: Mode, start: int | None, end: int | None, workers: int | None, *, show_progress: bool
) -> SessionSummary:
    from trackgen_core.home import open_store

    store = open_store()
    store.user_ids(users)
    with _progress_bar("starting", show_progress) as show:
        from trackgen_dagster.generate import generate
        from trackgen_dagster.instance import open_instance

        with open_instance() as instance:
            return generate(
                store,
                instance,
                mode=mode,
                users=users,
                lo_day=start,
                hi_day=end,
                workers=workers or 0,
                progress=show,
            )


def _print_summary(summary: SessionSummary) -> None:
    if summary.listed_before_start:
        click.echo(f"{summary.listed_before_start:,} days before TRACKGEN_START_DATE were left out", err=True)
    if not summary.runs:
        click.echo("Nothing to do.")
        return
    click.echo(f"Session {summary.session} ({summary.mode}) {summary.status} in {summary.duration_s:.1f} s")
    click.echo(f"  {summary.days:,} days from {summary.start} to {summary.end}, {summary.points:,} points")
    click.echo(f"  {summary.tracks:,} tracks, {summary.distance_km:,.1f} km; {summary.stays:,} stays")
    click.echo(f"  {summary.noise:,} points set aside as noise, {summary.leftover:,} left over")


@main.group()
def tracks() -> None:
    """List and export tracks."""


@tracks.command("list")
@users_option
@start_option
@end_option
@json_option
def tracks_list(users: Sequence[str], start: int | None, end: int | None, as_json: bool) -> None:
    """List tracks, one a line."""
    from trackgen_core.export import track_properties

    if as_json:
        separator = "["
        for batch in _read_tracks(users, start, end):
            for properties in track_properties(batch):
                click.echo(separator + json.dumps(properties, ensure_ascii=False), nl=False)
                separator = ",\n"
        click.echo("]" if separator != "[" else "[]")
        return
    click.echo(f"{'id':<9}{'started (UTC)':<17}{'hours':>7}{'km':>10}{'km/h':>7}{'points':>7} {'mode':<11}user device")
    for batch in _read_tracks(users, start, end):
        for track in track_properties(batch):
            click.echo(
                f"{track['track_id'][:8]:<9}{track['started_at'][:16].replace('T', ' '):<17}"
                f"{track['duration_s'] / 3600:>7.2f}{track['distance_m'] / 1000:>10.2f}{track['avg_speed_kmh']:>7.1f}"
                f"{track['points']:>7} {track['mode']:<11}{track['user']} {track['device']}"
            )


@tracks.command("export")
@users_option
@start_option
@end_option
@click.option("--format", "format_", type=click.Choice(EXPORT_FORMATS), default="csv", show_default=True)
@_engine_option("sql: not what is stored, but what PostGIS makes of the points (only csv).")
@output_option
def tracks_export(
    users: Sequence[str], start: int | None, end: int | None, format_: str, engine: str, output: Path | None
) -> None:
    """Export tracks that start from --start to --end."""
    from trackgen_core.export import export_tracks
    from trackgen_core.home import open_store
    from trackgen_core.sql_engine import read_sql_tracks

    if engine == "sql" and format_ != "csv":
        raise click.UsageError("--engine sql knows no elevations and modes, and exports as csv only")
    store = open_store()
    batches = (
        read_sql_tracks(store, users or None, start, end) if engine == "sql" else _read_tracks(users, start, end, store)
    )
    with _output(output) as out:
        count = export_tracks(
            batches,
            out,
            format_,
            points_of=store.points_of,
        )
    if output:
        click.echo(f"{count:,} tracks written to {output}")


def _read_tracks(users: Sequence[str], start: int | None, end: int | None, store: Store | None = None) -> Any:  # noqa: ANN401
    from trackgen_core.home import open_store

    return (store or open_store()).read_tracks(users or None, start, end)


@contextmanager
def _output(path: Path | None) -> Iterator[BinaryIO]:
    """Open stdout, or a file that appears under its name only when it is whole."""
    if path is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as out:
            yield out
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@main.group()
def legs() -> None:
    """List and export legs: the parts of tracks, by how somebody moved."""


@legs.command("list")
@users_option
@start_option
@end_option
@json_option
def legs_list(users: Sequence[str], start: int | None, end: int | None, as_json: bool) -> None:
    """List the legs of tracks, one a line; how sure a mode is in percent, or `hand` where you set it."""
    from trackgen_core.export import leg_properties
    from trackgen_core.home import open_store

    found = [leg for batch in open_store().read_legs(users or None, start, end) for leg in leg_properties(batch)]
    if as_json:
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    click.echo(f"{'track':<9}{'started (UTC)':<20}{'hours':>7}{'km':>10} {'mode':<11}{'sure':>5}  user device")
    for leg in found:
        sure = "hand" if leg["by_hand"] else f"{leg['confidence']}%"
        click.echo(
            f"{leg['track_id'][:8]:<9}{leg['started_at'][:19].replace('T', ' '):<20}{leg['duration_s'] / 3600:>7.2f}"
            f"{leg['distance_m'] / 1000:>10.2f} {leg['mode']:<11}{sure:>5}  {leg['user']} {leg['device']}"
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
    with _output(output) as out:
        count = export_legs(batches, out)
    if output:
        click.echo(f"{count:,} legs written to {output}")


@main.group()
def edits() -> None:
    """Split and merge tracks by hand, and say how somebody moved. Edits survive whatever is generated again.

    Tracks are named by their ids, or the first characters of these: see `trackgen tracks list`.
    """


@edits.command("split")
@click.argument("track", metavar="TRACK")
@click.option("--at", "at_ms", type=Instant(), required=True, metavar="TIME", help="As 2024-05-01T17:30:00Z.")
def edits_split(track: str, at_ms: int) -> None:
    """Let a track end at a time, and another one begin there."""
    from trackgen_core.editing import split
    from trackgen_core.home import open_store

    _print_edit(split(open_store(), track, at_ms))


@edits.command("merge")
@click.argument("track", metavar="TRACK")
@click.argument("other", metavar="TRACK")
def edits_merge(track: str, other: str) -> None:
    """Make one track of two, with the gaps and stays between them."""
    from trackgen_core.editing import merge
    from trackgen_core.home import open_store

    _print_edit(merge(open_store(), track, other))


@edits.command("set-mode")
@click.argument("track", metavar="TRACK")
@click.argument("mode", metavar="MODE")
@click.option("--at", "at_ms", type=Instant(), metavar="TIME", help="Only on the leg at this time.")
def edits_set_mode(track: str, mode: str, at_ms: int | None) -> None:
    """Say how somebody moved: stationary, walk, run, cycle, drive, train, boat or fly."""
    from trackgen_core.editing import set_mode
    from trackgen_core.home import open_store

    _print_edit(set_mode(open_store(), track, mode, at_ms))


def _print_edit(edit_id: int) -> None:
    click.echo(f"edit {edit_id} kept; `trackgen generate` follows it, and `trackgen edits undo {edit_id}` forgets it")


@edits.command("list")
@users_option
@json_option
def edits_list(users: Sequence[str], as_json: bool) -> None:
    """List edits, one a line."""
    from trackgen_core.export import iso_times
    from trackgen_core.home import open_store

    rows = open_store().list_edits(users or None)
    for name in ("before", "after", "made"):
        rows[f"{name}_at"] = iso_times(rows.pop(f"{name}_ms"))
    if as_json:
        click.echo(json.dumps(rows.astype(object).where(rows.notna(), None).to_dict("records"), indent=2))
        return
    click.echo(f"{'edit':>5} {'kind':<7}{'from (UTC)':<20}{'to (UTC)':<20}{'mode':<11}user device")
    for edit in rows.to_dict("records"):
        from_at, to_at = (edit[name][:19].replace("T", " ") for name in ("before_at", "after_at"))
        mode = edit["mode"] if edit["kind"] == "mode" else ""
        click.echo(
            f"{edit['edit_id']:>5} {edit['kind']:<7}{from_at:<20}{to_at:<20}{mode:<11}{edit['user']} {edit['device']}"
        )


@edits.command("undo")
@click.argument("edit", type=int, metavar="EDIT")
def edits_undo(edit: int) -> None:
    """Forget an edit; the next `generate` makes tracks as if it had never been."""
    from trackgen_core.editing import undo
    from trackgen_core.home import open_store

    undo(open_store(), edit)
    click.echo(f"edit {edit} forgotten")


@main.group()
def stays() -> None:
    """List and export stays: times spent in one place."""


@stays.command("list")
@users_option
@start_option
@end_option
@json_option
def stays_list(users: Sequence[str], start: int | None, end: int | None, as_json: bool) -> None:
    """List stays, one a line."""
    from trackgen_core.export import stay_properties
    from trackgen_core.home import open_store

    found = [stay for batch in open_store().read_stays(users or None, start, end) for stay in stay_properties(batch)]
    if as_json:
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    click.echo(f"{'started (UTC)':<18}{'hours':>8} {'lon':>11} {'lat':>10} {'within':>7}{'points':>8}  user device")
    for stay in found:
        click.echo(
            f"{stay['started_at'][:16].replace('T', ' '):<18}{stay['duration_s'] / 3600:>7.2f}"
            f"{'+' if stay['ongoing'] else ' '} {stay['lon']:>11.5f} {stay['lat']:>10.5f} {stay['radius_m']:>5.0f} m"
            f"{stay['points']:>8}  {stay['user']} {stay['device']}"
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
    with _output(output) as out:
        count = export_stays(batches, out, format_)
    if output:
        click.echo(f"{count:,} stays written to {output}")


@main.command()
@users_option
@click.option("--start", type=Day(), metavar="DAY", is_eager=True, required=True, help="First day, YYYY-MM-DD (UTC).")
@click.option("--end", type=Day(), metavar="DAY", callback=_check_end, help="Last day; by default the first.")
@json_option
def timeline(users: Sequence[str], start: int, end: int | None, as_json: bool) -> None:
    """Show tracks, stays and gaps of some days in their order, and why each begins where it does."""
    from trackgen_core.export import iso_times
    from trackgen_core.home import open_store
    from trackgen_core.timeline import timeline as lines

    rows = lines(open_store(), users or None, start, start if end is None else end)
    rows["started_at"], rows["ended_at"] = iso_times(rows["started_ms"]), iso_times(rows["ended_ms"])
    rows["distance_m"] = rows["length_mm"] / 1000
    names = ["user", "device", "kind", "started_at", "ended_at", "points", "distance_m", "mode", "reason"]
    if as_json:
        records = rows[names].astype(object).where(rows[names].notna(), None).to_dict("records")
        click.echo(json.dumps(records, indent=2, ensure_ascii=False))
        return
    of = None
    for row in rows.to_dict("records"):
        if of != (row["user"], row["device"]):
            of = (row["user"], row["device"])
            click.echo(f"{row['user']} {row['device']} (UTC)")
        click.echo(f"  {_line_of(row)}")


def _line_of(row: dict[Any, Any]) -> str:
    """Return a row of a time line as text."""
    from trackgen_core.points import iso_time

    times = f"{iso_time(row['started_ms'])[:16].replace('T', ' ')} to {iso_time(row['ended_ms'])[11:16]}"
    amount = f"{row['length_mm'] / 1e6:,.2f} km" if row["kind"] == "track" else ""
    mode = row["mode"] if row["kind"] == "track" else ""
    hours = (row["ended_ms"] - row["started_ms"]) / 3.6e6
    return f"{times:<26}{row['kind']:<6}{hours:>7.2f} h {amount:>12} {mode:<11}{row['reason']}"


@main.command()
@click.option("--user", "-u", required=True, metavar="U")
@click.option("--start", type=Day(), metavar="DAY", is_eager=True, required=True, help="First day, YYYY-MM-DD (UTC).")
@click.option("--end", type=Day(), metavar="DAY", callback=_check_end, help="Last day; by default the first.")
@click.argument("assignments", nargs=-1, required=True, metavar="KEY=VALUE...")
@json_option
def preview(user: str, start: int, end: int | None, assignments: Sequence[str], as_json: bool) -> None:
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
    for row in changes.to_dict("records"):
        click.echo(f"{row['sign']} {row['device']} {_line_of(row)}")


@main.command()
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

    found = list(day_properties(open_store().day_sums(users or None, start, end)))
    if as_json:
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    click.echo(f"{'day':<11}{'km':>10}{'moving':>9}{'tracks':>8}{'rest':>9}{'stays':>7}{'climb':>9}  user")
    for day in found:
        click.echo(
            f"{day['day']:<11}{day['distance_m'] / 1000:>10.2f}{day['moving_s'] / 3600:>7.2f} h{day['tracks']:>8}"
            f"{day['rest_s'] / 3600:>7.2f} h{day['stays']:>7}{day['elevation_gain_m']:>7,.0f} m  {day['user']}"
        )


@main.group()
def points() -> None:
    """Export and delete points."""


@points.command("export")
@users_option
@start_option
@end_option
@click.option("--noise", "noise_only", is_flag=True, help="Only points that are set aside.")
@output_option
def points_export(
    users: Sequence[str], start: int | None, end: int | None, noise_only: bool, output: Path | None
) -> None:
    """Export points as CSV; the column `noise` says why a point is set aside."""
    from trackgen_core.export import export_points
    from trackgen_core.home import open_store

    batches = open_store().read_all_points(users or None, start, end, noise_only=noise_only)
    with _output(output) as out:
        count = export_points(batches, out)
    if output:
        click.echo(f"{count:,} points written to {output}")


@points.command("delete")
@click.option("--user", "-u", required=True, metavar="U", help="Whose points.")
@click.option("--device", "-d", metavar="D", help="Only of this device.")
@start_option
@end_option
@click.confirmation_option(prompt="Delete these points for good?")
def points_delete(user: str, device: str | None, start: int | None, end: int | None) -> None:
    """Delete points; the next `generate` removes or shrinks the tracks made of them."""
    from trackgen_core.home import open_store
    from trackgen_core.points import MS_PER_DAY

    lo_ms = None if start is None else start * MS_PER_DAY
    hi_ms = None if end is None else (end + 1) * MS_PER_DAY
    click.echo(f"{open_store().delete_points(user, device, lo_ms, hi_ms):,} points deleted")


@main.group()
def settings() -> None:
    """Show and change the settings of a user."""


@settings.command("show")
@click.option("--user", "-u", required=True, metavar="U")
@json_option
def settings_show(user: str, as_json: bool) -> None:
    """Show the settings in force."""
    from trackgen_core.home import open_store

    _print_settings(open_store().settings(user), as_json)


@settings.command("set")
@click.option("--user", "-u", required=True, metavar="U")
@click.argument("assignments", nargs=-1, required=True, metavar="KEY=VALUE...")
@json_option
def settings_set(user: str, assignments: Sequence[str], as_json: bool) -> None:
    """Change settings; the next `generate` makes the user's tracks by them.

    `preset=dawarich` stands for a time gap only, without stays and noise; `preset=strict` for the distance rule
    `strict`; `preset=default` for the defaults.
    """
    from trackgen_core.home import open_store
    from trackgen_core.settings import parse_assignments

    _print_settings(open_store().set_settings(user, parse_assignments(assignments)), as_json)


def _print_settings(settings: Any, as_json: bool) -> None:  # noqa: ANN401
    values = settings.model_dump()
    if as_json:
        click.echo(json.dumps(values, indent=2))
        return
    changed = settings.changed()
    for name, value in values.items():
        text = value if isinstance(value, str) else json.dumps(value)
        click.echo(f"{name}={text}{'' if name in changed else '   (default)'}")


@main.group()
def sessions() -> None:
    """Show and steer sessions: requests to generate, from here, the UI or the daemon."""


@sessions.command("create")
@users_option
@click.option("--mode", type=click.Choice(MODES), default="bulk", show_default=True, help="As for `generate`.")
@start_option
@end_option
@json_option
def sessions_create(users: Sequence[str], mode: Mode, start: int | None, end: int | None, as_json: bool) -> None:
    """Ask the daemon for a session, and print its name; a bulk session is a backfill in the UI."""
    from trackgen_core.home import open_store
    from trackgen_dagster.generate import create
    from trackgen_dagster.instance import daemon_is_alive, open_instance

    with open_instance() as instance:
        name = create(open_store(), instance, mode=mode, users=users, lo_day=start, hi_day=end)
        waits = not daemon_is_alive(instance)
    if as_json:
        click.echo(json.dumps({"session": name}))
    else:
        click.echo(name or "Nothing to do.")
    if name and waits:
        click.echo("No daemon is running: the session waits for `trackgen ui` or `trackgen daemon`.", err=True)


@sessions.command("list")
@click.option(
    "--limit", "-n", type=click.IntRange(1), default=20, show_default=True, help="How many, the latest first."
)
@json_option
def sessions_list(limit: int, as_json: bool) -> None:
    """List sessions, one a line, the latest first."""
    from trackgen_dagster.instance import open_instance
    from trackgen_dagster.sessions import list_sessions

    with open_instance() as instance:
        found = list_sessions(instance, limit)
    if as_json:
        click.echo(json.dumps([session.as_json() for session in found], indent=2))
        return
    click.echo(f"{'session':<10}{'status':<12}{'mode':<13}{'done':>5}  {'days':<26}created (UTC)")
    for session in found:
        click.echo(
            f"{session.session[:8]:<10}{session.status:<12}{session.mode:<13}{session.percent:>4.0f}%  "
            f"{session.start} to {session.end}  {session.created[:19]}"
        )


@sessions.command("show")
@click.argument("name", metavar="ID")
@json_option
def sessions_show(name: str, as_json: bool) -> None:
    """Show a session: its progress, its runs, and what went wrong."""
    from trackgen_dagster.instance import open_instance
    from trackgen_dagster.sessions import find_session

    with open_instance() as instance:
        _print_session(instance, find_session(instance, name), as_json)


@sessions.command("watch")
@click.argument("name", metavar="ID")
@json_option
def sessions_watch(name: str, as_json: bool) -> None:
    """Follow a session until it has ended; exits with 1 unless it is completed."""
    from trackgen_dagster.instance import open_instance
    from trackgen_dagster.sessions import watch

    with open_instance() as instance:
        with _progress_bar(name, not as_json) as show:
            session = watch(instance, name, lambda seen: show(seen.percent / 100, seen.status))
        _print_session(instance, session, as_json)
    if session.status != "completed":
        raise click.exceptions.Exit(1)


@sessions.command("cancel")
@click.argument("name", metavar="ID")
def sessions_cancel(name: str) -> None:
    """Stop a session. Tracks stay as they are; `sessions retry` goes on with it."""
    from trackgen_dagster.instance import open_instance
    from trackgen_dagster.sessions import cancel

    with open_instance() as instance:
        session = cancel(instance, name)
    click.echo(f"Session {session.session}: {session.status if session.is_over else 'stopping'}")


@sessions.command("retry")
@click.argument("name", metavar="ID")
@click.option("--queue", is_flag=True, help="Leave it to the daemon.")
@workers_option
@json_option
def sessions_retry(name: str, queue: bool, workers: int | None, as_json: bool) -> None:
    """Do again what failed in a session, or what it did not come to, and nothing else."""
    from trackgen_core.home import open_store
    from trackgen_dagster.generate import retry
    from trackgen_dagster.instance import open_instance

    with open_instance() as instance, _progress_bar("starting", not as_json) as show:
        summary = retry(open_store(), instance, name, queue=queue, workers=workers or 0, progress=show)
    if summary is None:
        click.echo("null" if as_json else "Nothing failed, and nothing is missing.")
    else:
        _print_outcome(summary, as_json)


@sessions.command("clean")
@click.option("--days", type=click.FloatRange(0), metavar="N", help="By default TRACKGEN_RETENTION_DAYS.")
@json_option
def sessions_clean(days: float | None, as_json: bool) -> None:
    """Forget sessions that ended more than N days ago, with their runs and events; tracks stay."""
    from trackgen_dagster.environment import number
    from trackgen_dagster.instance import open_instance
    from trackgen_dagster.sessions import clean

    with open_instance() as instance:
        cleaned = clean(instance, days=number("TRACKGEN_RETENTION_DAYS") if days is None else days)
    if as_json:
        click.echo(json.dumps(cleaned.as_json()))
    else:
        click.echo(
            f"{cleaned.sessions:,} sessions, {cleaned.runs:,} runs and {cleaned.backfills:,} backfills forgotten"
        )


def _print_session(instance: Any, session: Session, as_json: bool) -> None:  # noqa: ANN401
    from trackgen_dagster.sessions import errors_of

    errors = errors_of(instance, session.session)
    if as_json:
        click.echo(json.dumps(session.as_json() | {"errors": [vars(error) for error in errors]}, indent=2))
        return
    values = session.as_json() | {"errors": [str(error) for error in errors]}
    for key, value in values.items():
        for i, line in enumerate(value if isinstance(value, list) else [value]):
            click.echo(f"{'' if i else key:<18}{'-' if line is None else line}")


@main.command("dead-letters")
@users_option
@json_option
def dead_letters(users: Sequence[str], as_json: bool) -> None:
    """List days that were given up after several attempts, with the last error.

    They are tried again when their points or settings change, or when you say so: `trackgen generate`, `trackgen
    sessions retry ID`.
    """
    from trackgen_core.home import open_store
    from trackgen_core.points import day_date

    store = open_store()
    with store.read() as connection:
        rows = store.dead_letters(connection, store.user_ids(users) if users else None)
    rows["day"] = [day_date(day).isoformat() for day in rows["day"].tolist()]
    found: list[dict[str, Any]] = json.loads(rows.drop(columns="listed_ms").to_json(orient="records"))
    if as_json:
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    click.echo(f"{'day':<12}{'stage':<10}{'tries':>5}  user: error")
    for letter in found:
        click.echo(
            f"{letter['day']:<12}{letter['stage']:<10}{letter['attempts']:>5}  {letter['user']}: {letter['error']}"
        )


@main.group()
def notify() -> None:
    """Messages about sessions that have ended, to the services in TRACKGEN_NOTIFY."""


@notify.command("test")
def notify_test() -> None:
    """Send a message to every service."""
    from trackgen_dagster.notifications import send, services

    count = len(services())
    if not count:
        raise click.ClickException("TRACKGEN_NOTIFY is empty: set it to addresses of apprise, as in mailto://...")
    if missed := send("Trackgen: a test", "Messages about sessions will arrive here."):
        raise click.ClickException(f"not delivered: {', '.join(missed)}")
    click.echo(f"Delivered to {count} service(s).")


@notify.command("off")
@click.option("--user", "-u", required=True, metavar="U")
def notify_off(user: str) -> None:
    """Send no messages about what concerns only this user."""
    _set_notify(user, False)


@notify.command("on")
@click.option("--user", "-u", required=True, metavar="U")
def notify_on(user: str) -> None:
    """Send messages about this user, as is the default."""
    _set_notify(user, True)


def _set_notify(user: str, wanted: bool) -> None:
    from trackgen_core.home import open_store

    open_store().set_notify(user, wanted)
    click.echo(f"Messages about {user}: {'on' if wanted else 'off'}")


@main.command()
@users_option
@start_option
@end_option
@_engine_option("python: the checks of the asset graph. sql: all is made again by PostGIS, and compared.")
@json_option
def verify(users: Sequence[str], start: int | None, end: int | None, engine: str, as_json: bool) -> None:
    """Say whether what is stored follows from the points; exit with 1 if it does not.

    Days whose work is still listed are named, and not compared.
    """
    from trackgen_core.home import open_store

    store = open_store()
    user_ids = store.user_ids(users) if users else None
    listed = _listed_days(store, user_ids, start, end)
    report: dict[str, Any] = {"engine": engine, "listed_days": listed}
    if engine == "sql":
        passed = _verify_by_sql(store, users, start, end, report, as_json)
    else:
        passed = _verify_by_checks(store, user_ids, start, end, report, as_json)
    if as_json:
        click.echo(json.dumps(report | {"passed": passed}, indent=2, ensure_ascii=False))
    elif listed:
        click.echo(f"work is listed on {listed:,} day(s), which were left out: `trackgen generate` does it", err=True)
    if not passed:
        raise click.exceptions.Exit(1)


def _listed_days(store: Store, user_ids: Sequence[int] | None, start: int | None, end: int | None) -> int:
    from trackgen_core.store import STAGES

    with store.read() as connection:
        dirty = [store.dirty(connection, stage, start, end, user_ids) for stage in STAGES]
    return len({day for days in dirty for day in zip(days["user_id"], days["day"], strict=True)})


def _verify_by_sql(
    store: Store, users: Sequence[str], start: int | None, end: int | None, report: dict[str, Any], quiet: bool
) -> bool:
    from trackgen_core.sql_engine import compare

    found = compare(store, users or None, start, end)
    report |= {
        "tracks": found.tracks,
        "stored": found.stored,
        "links": found.links,
        "near_half": found.near_half,
        "left_out": found.left_out,
        "users_left_out": found.users_left_out,
        "differences": found.differences,
        "first_differences": found.first,
    }
    if not quiet:
        click.echo(f"{found.tracks:,} tracks made by SQL, {found.stored:,} stored, {found.left_out:,} not compared")
        click.echo(f"{found.links:,} links measured by PostGIS and by pyproj")
        if found.near_half:
            click.echo(f"  {found.near_half:,} of them lie on a half of a millimetre, and were rounded either way")
        if found.users_left_out:
            click.echo(f"  users left out, whose settings cannot be read: {', '.join(found.users_left_out)}")
        click.echo(f"{found.differences:,} differences" if found.differences else "no difference")
        _print_faults(found.first, found.differences)
    return not found.differences


def _verify_by_checks(
    store: Store,
    user_ids: Sequence[int] | None,
    start: int | None,
    end: int | None,
    report: dict[str, Any],
    quiet: bool,
) -> bool:
    from trackgen_core.verification import verify

    with store.read() as connection:
        frames = [
            find(connection, lo_day=0, hi_day=LAST_DAY, user_ids=user_ids)["day"]
            for find in (store.days_with_points, store.days_with_tracks)
        ]
    days = [int(day) for frame in frames for day in (frame.min(), frame.max()) if len(frame)]
    report["checks"] = []
    lo_day, hi_day = min(days, default=0) if start is None else start, max(days, default=-1) if end is None else end
    for name, question, (faults, left_out) in verify(store, lo_day, hi_day, user_ids):
        report["checks"].append({"check": name, "faults": faults, "users_left_out": left_out})
        if not quiet:
            left = f" ({left_out:,} users left out, with work or unreadable settings)" if left_out else ""
            click.echo(f"{'FAULT' if faults else 'ok':<6}{question}{left}")
            _print_faults(faults[:SHOWN], len(faults))
    return not any(check["faults"] for check in report["checks"])


def _print_faults(faults: Sequence[str], count: int) -> None:
    for fault in faults:
        click.echo(f"  {fault}")
    if count > len(faults):
        click.echo(f"  and {count - len(faults):,} more")


@main.command()
@click.option("--output", "-o", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="A textfile.")
@click.option("--port", "-p", type=click.IntRange(1, 65535), metavar="N", help="Serve them at 127.0.0.1:N/metrics.")
def metrics(output: Path | None, port: int | None) -> None:
    """Print figures for Prometheus, write them to a file, or serve them."""
    from trackgen_core.home import open_store
    from trackgen_dagster.instance import open_instance
    from trackgen_dagster.metrics import exposition, serve, write_textfile

    with open_instance() as instance:
        store = open_store()
        if port:
            serve(instance, store, port)
        elif output:
            write_textfile(exposition(instance, store), output)
        else:
            click.echo(exposition(instance, store), nl=False)


@main.command()
@click.option(
    "--postgres",
    metavar="URL",
    required=True,
    envvar="TRACKGEN_DAGSTER_POSTGRES_URL",
    show_envvar=True,
    help="The database, as in postgresql://user@host/name.",
)
@click.option("--force", is_flag=True, help="Replace a dagster.yaml that says something else, and keep a copy of it.")
def init(postgres: str, force: bool) -> None:
    """Keep Dagster's runs, events and schedules in a PostgreSQL database: write that into its dagster.yaml.

    A password is never written: if the URL has one, the file refers to TRACKGEN_DAGSTER_POSTGRES_URL.
    """
    from trackgen_core.home import database_url
    from trackgen_dagster.instance import POSTGRES_VARIABLE, open_instance, storage_of, use_postgres

    done = use_postgres(postgres, force=force)
    os.environ[POSTGRES_VARIABLE] = postgres
    with open_instance() as instance:
        click.echo(f"Dagster's storage: {storage_of(instance)} (PostgreSQL {done.server}), by {done.config}")
    if done.backup:
        click.echo(f"What was there before: {done.backup}")
    click.echo("Next:")
    if done.by_variable:
        click.echo(f"  export {POSTGRES_VARIABLE}=...   in every shell and service: the password is in no file")
    if database_url().startswith("sqlite"):
        click.echo("  export TRACKGEN_DATABASE_URL=...   if points and tracks shall be in PostgreSQL as well")
    click.echo("  trackgen doctor")


@main.command()
@click.option("--port", "-p", type=int, default=DEFAULT_PORT, show_default=True)
def ui(port: int) -> None:
    """Start the Dagster UI and daemon on this home, at 127.0.0.1 only."""
    from trackgen_core.home import open_store
    from trackgen_dagster.instance import write_workspace

    open_store()
    command = [sys.executable, "-m", "dagster", "dev", "-w", str(write_workspace())]
    # A shell without job control makes its background jobs ignore Ctrl-C, and Dagster then ignores SIGTERM as well.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.execv(sys.executable, [*command, "-h", "127.0.0.1", "-p", str(port)])


@main.command()
def daemon() -> None:
    """Start the Dagster daemon alone: sensors, schedules, queue and backfills without the UI."""
    from trackgen_core.home import open_store
    from trackgen_dagster.instance import write_workspace

    open_store()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.execv(sys.executable, [sys.executable, "-m", "dagster._daemon", "run", "-w", str(write_workspace())])


@main.command()
@click.option("--seed", type=int, default=7, show_default=True, help="Another seed makes another history.")
def demo(seed: int) -> None:
    """Make a sample history, import it, make tracks of it, and show what was found."""
    from trackgen_core.demo import write_demo
    from trackgen_core.home import home, open_store
    from trackgen_core.importing import import_paths

    folder = home() / "demo"
    click.echo("1. A history: three people, two devices of one of them, half a year")
    files = write_demo(folder, seed)
    click.echo(f"   written to {folder}: {', '.join(file.name for file in files)}")
    click.echo("2. trackgen import")
    store = open_store()
    with _progress_bar("importing", True) as show:
        report = import_paths(store, files, user=None, progress=lambda file: show(None, _file_line(file)))
    _print_import(report)
    click.echo("3. trackgen generate")
    summary = _generate((), "incremental", None, None, None, show_progress=True)
    _print_summary(summary)
    if report.failed or summary.status != "completed":
        raise click.ClickException("; ".join([*(str(file.error) for file in report.failed), *summary.errors]))
    _print_findings(store)
    click.echo("Next:")
    for command, what in (
        ("trackgen ui", "the asset graph, partitions, backfills"),
        ("trackgen tracks list --user chloe --start 2025-07-01", "tracks as a table"),
        ("trackgen tracks export --format geojson -o tracks.geojson", "for a map"),
        ("trackgen settings set --user ada minutes_between_routes=10", "then `trackgen generate` again"),
        ("trackgen import ~/my-gpx-files --user me", "your own history"),
        ("trackgen points delete --user ada", "the sample people can go again"),
    ):
        click.echo(f"  {command:<62} {what}")


def _print_findings(store: Store) -> None:
    import pandas as pd

    wanted = ["user", "device", "points", "length_mm", "duration_ms", "started_ms", "track_id"]
    found = pd.concat(batch[wanted] for batch in store.read_tracks())
    click.echo("4. What was found")
    for (user, device), rows in found.groupby(["user", "device"]):
        km, hours = rows["length_mm"].sum() / 1e6, rows["duration_ms"].sum() / 3.6e6
        click.echo(f"   {user:<6} {device:<6} {len(rows):>5} tracks {km:>10,.0f} km {hours:>8,.0f} h")
    for what, column in (("longest in time", "duration_ms"), ("longest in distance", "length_mm")):
        track = found.sort_values(column).iloc[-1]
        start = pd.Timestamp(track["started_ms"], unit="ms")
        click.echo(
            f"   {what}: {track['user']} from {start:%Y-%m-%d %H:%M} UTC, {track['duration_ms'] / 3.6e6:,.1f} h, "
            f"{track['length_mm'] / 1e6:,.0f} km, one track of {track['points']:,} points"
        )


@main.command()
@json_option
def doctor(as_json: bool) -> None:
    """Say what is installed, where data lives, and what is wrong."""
    from trackgen_dagster.doctor import examine

    found = examine()
    if as_json:
        click.echo(json.dumps(found.as_json(), indent=2))
    else:
        for name, value in found.facts.items():
            click.echo(f"{name:<22} {value}")
        for problem in found.problems:
            click.echo(f"problem: {problem}")
        if not found.problems:
            click.echo("All is well.")
    if found.problems:
        raise click.exceptions.Exit(1)


@contextmanager
def _progress_bar(what: str, wanted: bool) -> Iterator[Callable[[float | None, str], None]]:
    """Show a bar on stderr, if that is a terminal; call what is yielded with the share done and a few words."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (
        SpinnerColumn(),
        BarColumn(bar_width=30),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
    )
    with Progress(*columns, console=console, transient=True, disable=not (wanted and console.is_terminal)) as progress:
        task = progress.add_task(what, total=None)

        def show(share: float | None, words: str) -> None:
            progress.update(task, description=words, completed=share or 0.0, total=None if share is None else 1.0)

        yield show


if __name__ == "__main__":
    main(prog_name="trackgen")
