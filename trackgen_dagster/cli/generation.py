"""Generating, and what becomes of it: sessions, dead letters, notifications."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from trackgen_core.words import counted, printable
from trackgen_dagster.cli.options import (
    command,
    echo_row,
    end_option,
    group,
    json_option,
    progress_bar,
    start_option,
    users_option,
    workers_option,
)

if TYPE_CHECKING:
    from trackgen_dagster.generate import Mode, SessionSummary
    from trackgen_dagster.sessions import Session

MODES: Final = ("bulk", "incremental", "daily")


@command()
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
    _print_outcome(run_generation(users, mode, start, end, workers, show_progress=not as_json), as_json)


def _print_outcome(summary: SessionSummary, as_json: bool) -> None:
    """Print what a session did, and exit with 1 if it is not all of it."""
    if as_json:
        click.echo(json.dumps(summary.as_json(), indent=2))
    else:
        print_summary(summary)
    faults = [*summary.errors, *(f"check failed: {check}" for check in summary.failed_checks)]
    if summary.status == "cancelled":
        faults.append("stopped; run it again to go on from here")
    for fault in faults:
        click.echo(f"Error: {printable(fault)}", err=True)
    if faults or summary.status not in ("completed", "pending"):
        raise click.exceptions.Exit(1)


def run_generation(
    users: Sequence[str], mode: Mode, start: int | None, end: int | None, workers: int | None, *, show_progress: bool
) -> SessionSummary:
    """Generate as a run of Dagster in this process, with a bar."""
    from trackgen_core.home import open_store

    store = open_store()
    store.user_ids(users)
    with progress_bar("starting", show_progress) as show:
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


def print_summary(summary: SessionSummary) -> None:
    """Say what a session has come to."""
    if summary.listed_before_start:
        click.echo(f"left out: {counted(summary.listed_before_start, 'day')} before the first partition", err=True)
    if not summary.runs:
        click.echo("Nothing to do.")
        return
    click.echo(f"Session {summary.session} ({summary.mode}) {summary.status} in {summary.duration_s:.1f} s")
    click.echo(
        f"  {counted(summary.days, 'day')} from {summary.start} to {summary.end}, {counted(summary.points, 'point')}"
    )
    click.echo(f"  {counted(summary.tracks, 'track')}, {summary.distance_km:,.1f} km; {counted(summary.stays, 'stay')}")
    click.echo(f"  {counted(summary.noise, 'point')} set aside as noise, {summary.leftover:,} left over")


@group()
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
    click.echo(f"{'session':<9}{'status':<11}{'mode':<12}{'done':>5} {'days':<25}created (UTC)")
    for session in found:
        click.echo(
            f"{session.session[:8]:<9}{session.status:<11}{session.mode:<12}{session.percent:>4.0f}% "
            f"{session.start} to {session.end} {session.created[:16].replace('T', ' ')}"
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
        with progress_bar(name, not as_json) as show:
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

    with open_instance() as instance, progress_bar("starting", not as_json) as show:
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
            f"{counted(cleaned.sessions, 'session')}, {counted(cleaned.runs, 'run')} and "
            f"{counted(cleaned.backfills, 'backfill')} forgotten"
        )


def _print_session(instance: Any, session: Session, as_json: bool) -> None:  # noqa: ANN401
    from trackgen_dagster.sessions import errors_of

    errors = errors_of(instance, session.session)
    if as_json:
        click.echo(json.dumps(session.as_json() | {"errors": [vars(error) for error in errors]}, indent=2))
        return
    maps = [f"trackgen map --session {session.session} -o map.html", session.map]
    values = session.as_json() | {"map": maps, "errors": [str(error) for error in errors]}
    for key, value in values.items():
        for i, line in enumerate(value if isinstance(value, list) else [value]):
            click.echo(f"{'' if i else key:<18}{'-' if line is None else line}")


@command("dead-letters")
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
        echo_row(
            f"{letter['day']:<12}{letter['stage']:<10}{letter['attempts']:>5}  ",
            f"{letter['user']}: {letter['error']}",
        )


@group()
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
    click.echo(f"Delivered to {counted(count, 'service')}.")


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
