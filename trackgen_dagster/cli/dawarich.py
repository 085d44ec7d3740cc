"""Dawarich beside Trackgen."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import click

from trackgen_dagster.cli.options import group, json_option, progress_bar, users_option

if TYPE_CHECKING:
    from trackgen_core.dawarich.comparison import Comparison

SHOWN: Final = 20
"""Tracks of a user that are printed."""


@group()
def dawarich() -> None:
    """Make tracks of what Dawarich records, compare them with its own, and write them in their place.

    TRACKGEN_DAWARICH_URL says where its database is.
    """


@dawarich.command("connect")
@json_option
def dawarich_connect(as_json: bool) -> None:
    """Say what there is in Dawarich's database, and what Trackgen will read and write. Changes nothing."""
    from trackgen_core.dawarich.source import open_dawarich

    with open_dawarich() as there:
        counts = there.counts()
        version, may_write, name = there.schema_version, there.may_write(), there.name
    if as_json:
        click.echo(json.dumps({"schema_version": version, "may_write": may_write, **counts}, indent=2))
        return
    click.echo(f"{name}, schema {version}")
    click.echo(f"  {counts['users']:,} users, {counts['points']:,} points, {counts['tracks']:,} tracks")
    click.echo(
        f"  left out: {counts['points_left_out']:,} points that are anomalies, deleted, or lack a time or a place; "
        f"{counts['points_without_user']:,} without a user"
    )
    click.echo("  read by `mirror` and `compare`: users, points, tracks")
    allowed = "" if may_write else ", but this database user may not: see docs/dawarich.md"
    click.echo(f"  written by `write`, for users that are on: tracks, track_segments, points.track_id{allowed}")


@dawarich.command("mirror")
@users_option
@click.option("--again", is_flag=True, help="Look at every day, and not only at those that changed in Dawarich.")
@json_option
def dawarich_mirror(users: Sequence[str], again: bool, as_json: bool) -> None:
    """Make our points and settings of Dawarich's users the same as theirs; `trackgen generate` makes tracks of them.

    Users are named by their email addresses. New ones begin with `preset=dawarich` and in the state shadow.
    """
    from trackgen_core.dawarich.mirror import mirror
    from trackgen_core.dawarich.source import open_dawarich
    from trackgen_core.home import open_store

    store = open_store()
    with open_dawarich() as there, progress_bar("mirroring", not as_json) as show:
        reports = mirror(
            store,
            there,
            users or None,
            again=again,
            progress=lambda report: show(None, f"{report.user}: {report.days:,} days, {report.new:,} points"),
        )
    if as_json:
        click.echo(json.dumps([vars(report) for report in reports], indent=2, ensure_ascii=False))
        return
    for report in reports:
        click.echo(
            f"{report.user}: {report.new:,} points new or changed, {report.gone:,} gone or changed, "
            f"on {report.days:,} days"
        )
        for reason, count in report.rejected.items():
            click.echo(f"  {count:,} rejected: {reason}")
        for note in report.notes:
            click.echo(f"  {note}")


@dawarich.command("compare")
@users_option
@json_option
def dawarich_compare(users: Sequence[str], as_json: bool) -> None:
    """Compare Dawarich's tracks with ours, and say what is wrong with them. Writes nothing."""
    from trackgen_core.dawarich.comparison import compare_user
    from trackgen_core.dawarich.mirror import mirrored_users
    from trackgen_core.dawarich.source import open_dawarich
    from trackgen_core.home import open_store

    store = open_store()
    wanted = mirrored_users(store, users or None)
    with open_dawarich() as there:
        found = [compare_user(store, there, user) for user in wanted if users or user.state != "off"]
    if as_json:
        click.echo(json.dumps([one.as_json() for one in found], indent=2, ensure_ascii=False))
        return
    for one in found:
        _print_comparison(one)


def _print_comparison(found: Comparison) -> None:
    from trackgen_core.dawarich.comparison import KINDS
    from trackgen_core.points import iso_time

    click.echo(f"{found.user}: Dawarich's tracks beside ours")
    for kind, meaning in KINDS.items():
        click.echo(f"  {found.counts[kind]:>7,} {kind:<10}{meaning}")
    click.echo(f"  {found.lost_points:>7,} points of our tracks are in none of Dawarich's")
    for row in found.as_json()["rows"][:SHOWN]:
        start, end = (iso_time(row[name] * 1000)[:19].replace("T", " ") for name in ("started_s", "ended_s"))
        theirs, ours = (
            " " * 11 if row[name] is None else f"{row[name] / 1000:>8.2f} km" for name in ("distance_m", "our_m")
        )
        click.echo(f"  {row['kind']:<10}{start} to {end}{theirs} there,{ours} here")
    if len(found.rows) > SHOWN:
        click.echo(f"  and {len(found.rows) - SHOWN:,} more: --json prints all")
    if found.listed_days:
        click.echo(f"work is listed on {found.listed_days:,} day(s): `trackgen generate` does it", err=True)
