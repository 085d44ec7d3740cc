"""The command line. Imports are inside the commands: pandas and Dagster take longer to load than most commands run."""

from __future__ import annotations

import click

from trackgen_dagster.cli.dawarich import dawarich
from trackgen_dagster.cli.edits import edits
from trackgen_dagster.cli.generation import dead_letters, generate, notify, sessions
from trackgen_dagster.cli.operations import daemon, demo, doctor, init, metrics, ui
from trackgen_dagster.cli.options import Group
from trackgen_dagster.cli.points import import_, points
from trackgen_dagster.cli.reports import completion, report
from trackgen_dagster.cli.results import days, legs, map_, preview, stays, timeline, tracks
from trackgen_dagster.cli.settings import settings
from trackgen_dagster.cli.verification import verify


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="trackgen")
def main() -> None:
    """Turn raw GPS fixes into tracks.

    Data lives in TRACKGEN_HOME (~/.trackgen), or where TRACKGEN_DATABASE_URL says.
    """


for _command in (
    *(import_, points, generate, tracks, legs, stays, edits, timeline, days, report, map_, settings, preview),
    *(sessions, dead_letters, notify, verify, dawarich, init, ui, daemon, metrics, doctor, demo),
    completion,
):
    main.add_command(_command)
