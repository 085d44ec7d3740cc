"""Settings of users."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from trackgen_dagster.cli.options import group, json_option

if TYPE_CHECKING:
    pass


@group()
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
        text = ",".join(value) if isinstance(value, tuple) else value if isinstance(value, str) else json.dumps(value)
        click.echo(f"{name}={text}{'' if name in changed else '   (default)'}")
