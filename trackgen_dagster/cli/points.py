"""Points: import, export, delete."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from trackgen_core.words import counted, printable
from trackgen_dagster.cli.options import (
    command,
    end_option,
    group,
    json_option,
    output_option,
    output_stream,
    progress_bar,
    start_option,
    users_option,
)

if TYPE_CHECKING:
    from trackgen_core.importing import ImportReport, Progress

IMPORT_FORMATS: Final = (
    *("csv", "gpx", "geojson", "owntracks"),
    *("fit", "tcx", "kml", "nmea", "parquet"),
    *("google", "dawarich", "traccar", "home-assistant"),
    *("plt", "igc", "arc", "samsung-health", "runtastic", "polar", "suunto", "json"),
)
EXPORT_FORMATS: Final = ("csv", "geojson", "gpx", "parquet")


@command("import")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--user", "-u", metavar="U", help="Whose points these are; a `user` column in the file overrides it.")
@click.option("--device", "-d", default="", metavar="D", help="The device, where the file does not say.")
@click.option("--format", "format_", type=click.Choice(IMPORT_FORMATS), help="By default recognised from the content.")
@click.option("--recover", is_flag=True, help="Import what is whole of a file that is damaged or breaks off.")
@click.option("--visits", is_flag=True, help="Import Google's estimates of visits and activities as points, too.")
@click.option(
    "--add-weeks",
    type=click.IntRange(0, 2048),
    metavar="N",
    default=0,
    help="Take all times for N weeks later; 1024 mends the week rollover of an old receiver.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would happen, file by file; change nothing.")
@json_option
def import_(
    paths: Sequence[Path],
    user: str | None,
    device: str,
    format_: str | None,
    recover: bool,
    visits: bool,
    add_weeks: int,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Import points from files, folders and archives (.zip, .tar), also compressed (.gz, .bz2, .xz).

    A file is imported whole or not at all; rows that are no fixes are counted by reason. Importing twice adds nothing.
    """
    from trackgen_core.home import open_store
    from trackgen_core.importing import import_paths

    store = open_store()
    with progress_bar("importing", not as_json) as show:
        report = import_paths(
            store,
            paths,
            user=user,
            device=device,
            format=format_,
            dry_run=dry_run,
            recover=recover,
            visits=visits,
            add_weeks=add_weeks,
            progress=show_import(show),
        )
    if as_json:
        click.echo(json.dumps(report.as_json(), indent=2))
    else:
        print_import(report)
    for file in report.failed:
        click.echo(f"Error: {printable(file.error or '')}", err=True)
    if all(file.skipped for file in report.files):
        where = ", ".join(map(str, paths))
        why = f" ({report.files[0].path}: {report.files[0].skipped})" if len(report.files) == 1 else ""
        raise click.ClickException(f"{where}: no points to import among {counted(len(report.files), 'file')}{why}")
    if report.failed:
        raise click.exceptions.Exit(1)


def show_import(show: Callable[[float | None, str], None]) -> Callable[[Progress], None]:
    """Return what shows on a bar how far an import is, and how fast."""
    started = time.monotonic()

    def tell(progress: Progress) -> None:
        rate = progress.rows / max(time.monotonic() - started, 0.001)
        show(progress.share, f"{rate:,.0f} rows/s  {progress.file.path}: {progress.file.read:,} read")

    return tell


def print_import(report: ImportReport) -> None:
    """Say what an import has come to."""
    click.echo(_numbers(report.total))
    for reason, count in sorted(report.counts("reasons").items()):
        click.echo(f"  rejected {count:,}: {reason}")
    for column, count in sorted(report.counts("ignored").items()):
        click.echo(f"  {column} ignored {counted(count, 'time')}: no possible value")
    for file in report.files:
        if file.skipped:
            click.echo(f"  skipped {file.path}: {file.skipped}")
        for note in file.notes:
            click.echo(f"  note {file.path}: {note}")
        if report.dry_run and not file.error and not file.skipped:
            click.echo(f"  {file.path} ({file.format}): {_numbers(partial(getattr, file))}")
    if report.dry_run:
        click.echo("Nothing was changed: this was a dry run.")


def _numbers(of: Callable[[str], int]) -> str:
    return "  ".join(f"{name} {of(name):,}" for name in ("read", "new", "duplicate", "rejected"))


@group()
def points() -> None:
    """Export and delete points."""


@points.command("export")
@users_option
@start_option
@end_option
@click.option("--noise", "noise_only", is_flag=True, help="Only points that are set aside.")
@click.option("--format", "format_", type=click.Choice(EXPORT_FORMATS), default="csv", show_default=True)
@output_option
def points_export(
    users: Sequence[str], start: int | None, end: int | None, noise_only: bool, format_: str, output: Path | None
) -> None:
    """Export points; `noise` says why a point is set aside (but not in gpx, which has no place for it)."""
    from trackgen_core.export import export_points
    from trackgen_core.home import open_store

    batches = open_store().read_all_points(users or None, start, end, noise_only=noise_only)
    with output_stream(output) as out:
        count = export_points(batches, out, format_)
    if output:
        click.echo(f"{counted(count, 'point')} written to {output}")


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
    click.echo(f"{counted(open_store().delete_points(user, device, lo_ms, hi_ms), 'point')} deleted")
