"""Dawarich beside Trackgen."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import click

from trackgen_core.words import counted
from trackgen_dagster.cli.options import group, json_option, progress_bar, users_option

if TYPE_CHECKING:
    from trackgen_core.dawarich.comparison import Comparison
    from trackgen_core.dawarich.mirror import State

SHOWN: Final = 20
"""Tracks of a user, and users in a state, that are printed."""


@group()
def dawarich() -> None:
    """Make tracks of what Dawarich records, compare them with its own, and write them in their place.

    TRACKGEN_DAWARICH_URL says where its database is.
    """


@dawarich.command("connect")
@json_option
def dawarich_connect(as_json: bool) -> None:
    """Say what there is in Dawarich's database, in which state its users are, and what Trackgen will read and write.

    Changes nothing there.
    """
    from trackgen_core.dawarich import changes
    from trackgen_core.dawarich.inspection import inspect
    from trackgen_core.dawarich.mirror import STATES, states
    from trackgen_core.dawarich.source import open_dawarich
    from trackgen_core.home import open_store

    with open_dawarich() as there:
        counts, findings = there.counts(), inspect(there)
        version, may_write, name = there.schema_version, there.may_write(), there.name
        of_user, to_come = states(open_store(), there.users())
        triggers = changes.state(there)
    if as_json:
        found = {"schema_version": version, "may_write": may_write, **counts, "triggers": triggers}
        found |= {"states": of_user, "to_come": to_come, "found": vars(findings)}
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    click.echo(f"{name}, schema {version}")
    for line in findings.lines():
        click.echo(f"  {line}")
    click.echo("  " + ", ".join(counted(counts[f"{thing}s"], thing) for thing in ("user", "point", "track")))
    click.echo(
        f"  left out: {counted(counts['points_left_out'], 'point')}, anomalies, deleted, or without a time or a place; "
        f"{counts['points_without_user']:,} without a user"
    )
    for state in STATES:
        names = [user for user, one in of_user.items() if one == state]
        more = f" and {len(names) - SHOWN:,} more: --json prints all" if len(names) > SHOWN else ""
        if names:
            click.echo(f"  {state}: {', '.join(names[:SHOWN])}{more}")
    click.echo(f"  who comes later will be: {to_come}")
    click.echo("  read by `mirror` and `compare`: users, points, tracks")
    click.echo(f"  triggers that list the days that change: {triggers}")
    allowed = "" if may_write else ", but this database user may not: see docs/dawarich.md"
    click.echo(f"  written by `write`, for users that are on: tracks, track_segments, points.track_id{allowed}")


@dawarich.command("mirror")
@users_option
@click.option("--again", is_flag=True, help="Look at every day, and not only at those that changed in Dawarich.")
@json_option
def dawarich_mirror(users: Sequence[str], again: bool, as_json: bool) -> None:
    """Make our points and settings of Dawarich's users the same as theirs; `trackgen generate` makes tracks of them.

    Users are named by their email addresses. New ones begin with `preset=dawarich`, and in the state shadow unless
    `enable` or `disable` said something else.
    """
    from trackgen_core.dawarich.mirror import mirror
    from trackgen_core.home import open_store

    store = open_store()
    with progress_bar("mirroring", not as_json) as show:
        reports = mirror(
            store,
            users or None,
            again=again,
            progress=lambda report: show(
                None, f"{report.user}: {counted(report.days, 'day')}, {counted(report.new, 'point')}"
            ),
        )
    if as_json:
        click.echo(json.dumps([vars(report) for report in reports], indent=2, ensure_ascii=False))
    for report in () if as_json else reports:
        if report.error is None:
            click.echo(
                f"{report.user}: {counted(report.new, 'point')} new or changed, {report.gone:,} gone or changed, "
                f"on {counted(report.days, 'day')}"
            )
        for reason, count in report.rejected.items():
            click.echo(f"  {count:,} rejected: {reason}")
        for note in report.notes:
            click.echo(f"  {note}")
    if errors := [report.error for report in reports if report.error]:
        raise ValueError("; ".join(errors))


@dawarich.command("compare")
@users_option
@json_option
def dawarich_compare(users: Sequence[str], as_json: bool) -> None:
    """Compare Dawarich's tracks with ours, and say what is wrong with them. Writes nothing."""
    from trackgen_core.dawarich.comparison import compare_user
    from trackgen_core.dawarich.everyone import for_each
    from trackgen_core.dawarich.mirror import mirrored_users
    from trackgen_core.home import open_store

    store = open_store()
    wanted = [user for user in mirrored_users(store, users or None) if users or user.state != "off"]
    found, errors = for_each(wanted, lambda there, user: compare_user(store, there, user), to="read")
    if as_json:
        click.echo(json.dumps([one.as_json() for one in found], indent=2, ensure_ascii=False))
    for one in () if as_json else found:
        _print_comparison(one)
    if errors:
        raise ValueError("; ".join(errors))


def _print_comparison(found: Comparison) -> None:
    from trackgen_core.dawarich.comparison import KINDS
    from trackgen_core.points import iso_time

    click.echo(f"{found.user}: Dawarich's tracks beside ours")
    for kind, meaning in KINDS.items():
        click.echo(f"  {found.counts[kind]:>7,} {kind:<10}{meaning}")
    click.echo(f"  {found.lost_points:>7,} {'lost':<10}points of our tracks that are in none of Dawarich's")
    for row in found.as_json()["rows"][:SHOWN]:
        start, end = (iso_time(row[name] * 1000)[:19].replace("T", " ") for name in ("started_s", "ended_s"))
        theirs, ours = (
            " " * 13 if row[name] is None else f"{row[name] / 1000:>10,.2f} km" for name in ("distance_m", "our_m")
        )
        device = f", device {row['device']}" if row["device"] else ""
        click.echo(f"  {row['kind']:<10}{start} to {end}{theirs} there,{ours} here{device}")
    if len(found.rows) > SHOWN:
        click.echo(f"  and {len(found.rows) - SHOWN:,} more: --json prints all")
    if found.listed_days:
        click.echo(f"work is listed on {counted(found.listed_days, 'day')}: `trackgen generate` does it", err=True)


@dawarich.command("write")
@users_option
@click.option("--take-over", is_flag=True, help="Also where Dawarich's own tracks are, which are saved before.")
@click.option(
    "--replace-protected",
    is_flag=True,
    help="With --take-over: also tracks of imports, demo data, and with legs corrected by hand.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be written.")
@json_option
def dawarich_write(
    users: Sequence[str], take_over: bool, replace_protected: bool, dry_run: bool, as_json: bool
) -> None:
    """Write our tracks into Dawarich, for users that are on: see `trackgen dawarich enable`.

    Tracks, their segments and the track of each point are written. What Dawarich made itself is left alone, and nothing
    is written over it, unless it is to be taken over; `trackgen dawarich rollback` puts it back. After a take-over,
    what Dawarich makes in the place of our tracks is replaced by each later write.
    """
    from trackgen_core.dawarich.everyone import for_each
    from trackgen_core.dawarich.mirror import Mirrored, mirrored_users
    from trackgen_core.dawarich.source import Dawarich
    from trackgen_core.dawarich.transactions import WriteReport
    from trackgen_core.dawarich.writing import write_user
    from trackgen_core.home import open_store

    if replace_protected and not take_over:
        raise click.UsageError("--replace-protected needs --take-over")
    store = open_store()
    wanted = mirrored_users(store, users or None)
    if users and not dry_run and (others := [user.name for user in wanted if user.state != "on"]):
        raise ValueError(f"not on: {', '.join(others)} (see `trackgen dawarich enable`)")
    with progress_bar("writing", not as_json) as show:

        def write(there: Dawarich, user: Mirrored) -> WriteReport:
            return write_user(
                store,
                there,
                user,
                take_over=take_over,
                replace_protected=replace_protected,
                dry_run=dry_run,
                progress=lambda report, share: show(share, f"{report.user}: {counted(report.points, 'point')}"),
            )

        chosen = [user for user in wanted if users or user.state == "on"]
        reports, errors = for_each(chosen, write, to="read" if dry_run else "write")
    if as_json:
        click.echo(json.dumps([vars(report) for report in reports], indent=2, ensure_ascii=False))
    for report in () if as_json else reports:
        click.echo(
            f"{report.user}: {counted(report.equal, 'track')} right already, {report.new:,} new, "
            f"{report.changed:,} changed, {report.adopted:,} taken over, {report.removed:,} removed, "
            f"{report.held_back:,} held back"
        )
        if report.protected:
            click.echo(
                f"  {counted(report.protected, 'track')} of imports or demo data, or corrected by hand, left alone: "
                "--replace-protected replaces them"
            )
        if not dry_run:
            click.echo(
                f"  {counted(report.points, 'point')} with another track; locks were held for {report.longest_s:.2f} s"
            )
    if dry_run and not as_json:
        click.echo("nothing was written")
    if errors:
        raise ValueError("; ".join(errors))


@dawarich.command("rollback")
@click.option("--user", "-u", "users", multiple=True, required=True, metavar="U", help="This user; repeatable.")
def dawarich_rollback(users: Sequence[str]) -> None:
    """Put back the tracks of users as they were before any was written, and their state to shadow."""
    from trackgen_core.dawarich.everyone import for_each
    from trackgen_core.dawarich.mirror import mirrored_users, set_state
    from trackgen_core.dawarich.rollback import rollback_user
    from trackgen_core.home import open_store

    store = open_store()
    wanted = mirrored_users(store, users)
    if enabled := [user.user_id for user in wanted if user.state == "on"]:
        set_state(store, "shadow", enabled)
    reports, errors = for_each(wanted, rollback_user, to="write")
    for report in reports:
        click.echo(
            f"{report.user}: {counted(report.removed, 'track')} removed, {report.new:,} put back, "
            f"{counted(report.points, 'point')} with their former track"
        )
    if errors:
        raise ValueError("; ".join(errors))


@dawarich.command("triggers")
@click.argument("what", type=click.Choice(["install", "remove"]))
def dawarich_triggers(what: str) -> None:
    """Install or remove triggers that list in Dawarich's database the days whose points change.

    With them, `mirror` reads those days, and not all points. They are in a schema of Trackgen's own.
    """
    from trackgen_core.dawarich import changes
    from trackgen_core.dawarich.source import open_dawarich
    from trackgen_core.dawarich.transactions import WriteReport, in_transaction

    report = WriteReport("all users")
    with open_dawarich(to="write") as there:
        in_transaction(there, report, changes.install if what == "install" else changes.remove)
    done = "installed: the next `mirror` looks at everything once more" if what == "install" else "removed"
    click.echo(f"triggers are {done}; points were locked for {report.longest_s:.2f} s")


@dawarich.command("enable")
@users_option
@click.option("--shadow", is_flag=True, help="Only mirror points and compare tracks.")
def dawarich_enable(users: Sequence[str], shadow: bool) -> None:
    """Let `trackgen dawarich write` write for users, by default for everyone, also who comes later."""
    _set_state(users, "shadow" if shadow else "on")


@dawarich.command("disable")
@users_option
def dawarich_disable(users: Sequence[str]) -> None:
    """Do nothing more for users, by default for anyone, also who comes later. What is written stays."""
    _set_state(users, "off")


def _set_state(names: Sequence[str], state: State) -> None:
    from trackgen_core.dawarich.mirror import mirrored_users, set_state
    from trackgen_core.home import open_store

    store = open_store()
    found = mirrored_users(store, names or None)
    set_state(store, state, [user.user_id for user in found] if names else None)
    for user in found:
        click.echo(f"{user.name}: {state}")
    if not names:
        click.echo(f"who comes later: {state}")
