"""Whether what is stored follows from the points."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING, Any, Final

import click

from trackgen_core.words import counted
from trackgen_dagster.cli.options import command, end_option, engine_option, json_option, start_option, users_option

if TYPE_CHECKING:
    from trackgen_core.store import Store

LAST_DAY: Final = date.max.toordinal() - date(1970, 1, 1).toordinal()

SHOWN: Final = 20
"""Faults of a check that are printed."""


@command()
@users_option
@start_option
@end_option
@engine_option("python: the checks of the asset graph. sql: all is made again by PostGIS, and compared.")
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
        click.echo(f"work is listed on {counted(listed, 'day')}, left out: `trackgen generate` does it", err=True)
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
        "lengths_left_out": found.smoothed,
        "users_left_out": found.users_left_out,
        "differences": found.differences,
        "first_differences": found.first,
    }
    if not quiet:
        click.echo(
            f"{counted(found.tracks, 'track')} made by SQL, {found.stored:,} stored, {found.left_out:,} not compared"
        )
        if found.smoothed:
            click.echo(
                f"  lengths of {counted(found.smoothed, 'track')} not compared: SQL makes plain lengths, and their "
                "users have length_smoothing=on"
            )
        click.echo(f"{counted(found.links, 'link')} measured by PostGIS and by pyproj")
        if found.near_half:
            click.echo(f"  {found.near_half:,} of them on a half of a millimetre, rounded either way")
        if found.users_left_out:
            click.echo(f"  users left out, whose settings cannot be read: {', '.join(found.users_left_out)}")
        click.echo(counted(found.differences, "difference") if found.differences else "no difference")
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
            left = f" ({counted(left_out, 'user')} left out, with work or unreadable settings)" if left_out else ""
            click.echo(f"{'FAULT' if faults else 'ok':<6}{question}{left}")
            _print_faults(faults[:SHOWN], len(faults))
    return not any(check["faults"] for check in report["checks"])


def _print_faults(faults: Sequence[str], count: int) -> None:
    for fault in faults:
        click.echo(f"  {fault}")
    if count > len(faults):
        click.echo(f"  and {count - len(faults):,} more")
