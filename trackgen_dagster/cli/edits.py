"""Edits: what somebody says of tracks by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from trackgen_dagster.cli.options import Instant, echo_row, group, json_option, users_option
from trackgen_dagster.cli.views import SECONDS, Clock, utc_option

if TYPE_CHECKING:
    pass


@group()
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
@utc_option
@json_option
def edits_list(users: Sequence[str], utc: bool, as_json: bool) -> None:
    """List edits, one a line."""
    from trackgen_core.export import iso_times
    from trackgen_core.home import open_store

    store = open_store()
    rows = store.list_edits(users or None)
    for name in ("before", "after", "made"):
        rows[f"{name}_at"] = iso_times(rows.pop(f"{name}_ms"))
    if as_json:
        click.echo(json.dumps(rows.astype(object).where(rows.notna(), None).to_dict("records"), indent=2))
        return
    if rows.empty:
        click.echo("No edits here: `trackgen edits split`, `merge` and `set-mode` make some.")
        return
    clock = Clock(store, utc)
    from_header, to_header = (f"{name} ({clock.label})" for name in ("from", "to"))
    click.echo(f"{'edit':>5} {'kind':<7}{from_header:<20}{to_header:<20}{'mode':<11}user device")
    for edit in rows.to_dict("records"):
        from_at, to_at = (clock.show(edit["user"], edit[name], SECONDS) for name in ("before_at", "after_at"))
        mode = edit["mode"] if edit["kind"] == "mode" else ""
        echo_row(
            f"{edit['edit_id']:>5} {edit['kind']:<7}{from_at:<20}{to_at:<20}{mode:<11}",
            f"{edit['user']} {edit['device']}",
        )


@edits.command("undo")
@click.argument("edit", type=int, metavar="EDIT")
def edits_undo(edit: int) -> None:
    """Forget an edit; the next `generate` makes tracks as if it had never been."""
    from trackgen_core.editing import undo
    from trackgen_core.home import open_store

    undo(open_store(), edit)
    click.echo(f"edit {edit} forgotten")
