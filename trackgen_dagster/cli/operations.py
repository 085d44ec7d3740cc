"""Running Trackgen: the UI, the daemon, their storage, figures, the demo."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from trackgen_core.words import counted
from trackgen_dagster.cli.generation import print_summary, run_generation
from trackgen_dagster.cli.options import Day, command, json_option, progress_bar
from trackgen_dagster.cli.points import print_import, show_import

if TYPE_CHECKING:
    from trackgen_core.store import Store

DEFAULT_PORT: Final = 3000


@command()
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


@command()
@click.option("--port", "-p", type=click.IntRange(1, 65535), default=DEFAULT_PORT, show_default=True)
@click.option("--allow-host", "allow_hosts", multiple=True, metavar="NAME", help="A host name of a proxy; repeatable.")
@click.option("--verbose", "-v", is_flag=True, help="Show what the services do, not only warnings.")
def ui(port: int, allow_hosts: Sequence[str], verbose: bool) -> None:
    """Start the Dagster UI and daemon on this home, at 127.0.0.1 only.

    It answers for localhost, for the host in TRACKGEN_UI_URL and for those of --allow-host.
    """
    from trackgen_core.home import open_store
    from trackgen_dagster.services import run_ui

    open_store().database.close()
    run_ui(port, verbose=verbose, allow_hosts=allow_hosts)


@command()
@click.option("--verbose", "-v", is_flag=True, help="Show what it does, not only warnings.")
def daemon(verbose: bool) -> None:
    """Start the Dagster daemon alone: sensors, schedules, queue and backfills without the UI."""
    from trackgen_core.home import open_store
    from trackgen_dagster.instance import write_workspace
    from trackgen_dagster.internals import DAEMON_MODULE
    from trackgen_dagster.services import only_one

    open_store().database.close()
    command = [sys.executable, "-m", DAEMON_MODULE, "run", "-w", str(write_workspace())]
    # A shell without job control makes its background jobs ignore Ctrl-C, and Dagster then ignores SIGTERM as well.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    with only_one("daemon", command="daemon"):
        os.execv(sys.executable, [*command, "--log-level", "info" if verbose else "warning"])


@command()
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


@command()
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


@command()
@click.option("--seed", type=int, default=7, show_default=True, help="Another seed makes another history.")
@click.option("--end", type=Day(), metavar="DAY", help="The last day of the history; by default today.")
def demo(seed: int, end: int | None) -> None:
    """Make a sample history, import it, make tracks of it, and show what was found."""
    from trackgen_core.demo import PEOPLE, write_demo
    from trackgen_core.home import home, open_store
    from trackgen_core.importing import import_paths
    from trackgen_core.points import MS_PER_DAY, day_date, now_ms

    folder = home() / "demo"
    store = open_store()
    click.echo("1. A history: three people, two devices of one of them, half a year")
    files = sorted(folder.glob("*.csv"))
    if files and end is None:  # that of another day would come on top of it
        click.echo(f"   found in {folder}, as it was made before")
    else:
        files = write_demo(folder, seed, day_date(now_ms() // MS_PER_DAY if end is None else end))
        click.echo(f"   written to {folder}: {', '.join(file.name for file in files)}")
    for user in PEOPLE.keys() - set(store.user_names()):
        store.set_settings(user, {"timezone": PEOPLE[user].zone})
    click.echo("2. trackgen import")
    with progress_bar("importing", True) as show:
        report = import_paths(store, files, user=None, progress=show_import(show))
    print_import(report)
    click.echo("3. trackgen generate")
    summary = run_generation((), "incremental", None, None, None, show_progress=True)
    print_summary(summary)
    if report.failed or summary.status != "completed":
        raise click.ClickException("; ".join([*(str(file.error) for file in report.failed), *summary.errors]))
    latest = _print_findings(store)
    program = program_name()
    click.echo("Next:")
    examples = (
        ("ui", "the asset graph, partitions, backfills"),
        (f"tracks list --user chloe --start {latest - timedelta(days=13)}", "tracks as a table"),
        ("report --user ada", "a month of somebody"),
        ("map --user chloe -o map.html", "tracks and stays as a page for a browser"),
        ("tracks export --format geojson -o tracks.geojson", "for other programs"),
        ("settings set --user ada minutes_between_routes=10", "other rules, then:"),
        ("generate", "only what they change is made again"),
        ("points delete --user ada --yes", "the sample people can go again"),
    )
    width = max(len(example) for example, _ in examples)
    for example, what in examples:
        click.echo(f"  {program} {example:<{width}}  # {what}")
    click.echo(f"Your own history: {program} import FILE_OR_FOLDER --user YOUR_NAME")


def program_name() -> str:
    """Return what to type to run this program here: its name, or the way to it if that is not on PATH."""
    program = Path(sys.argv[0])
    if program.name == "__main__.py":
        return f"{sys.executable} -m trackgen_dagster.cli"
    found = shutil.which("trackgen")
    if not program.exists() or (found and Path(found).resolve() == program.resolve()):
        return "trackgen"
    way = program.absolute()
    return str(way.relative_to(Path.cwd())) if way.is_relative_to(Path.cwd()) else str(way)


def _print_findings(store: Store) -> date:
    """Print what the demo has found, and return the day of its last track."""
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
            f"{track['length_mm'] / 1e6:,.0f} km, one track of {counted(track['points'], 'point')}"
        )
    return pd.Timestamp(found["started_ms"].max(), unit="ms").date()
