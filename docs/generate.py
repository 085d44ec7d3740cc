"""Write the parts of the documents that come from the code: commands, settings, figures.

`--check` writes nothing, and fails if anything would change.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import dagster as dg

from trackgen_core.home import open_store
from trackgen_core.settings import Settings
from trackgen_dagster.cli import main as trackgen
from trackgen_dagster.metrics import SessionCollector

DOCS = Path(__file__).parent
BEGIN, END = "<!-- generated: {} -->", "<!-- end -->"


def commands(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    """Yield every command below `command` with its full name."""
    if isinstance(command, click.Group):
        for name, child in sorted(command.commands.items()):
            yield from commands(child, f"{path} {name}")
    else:
        yield path, command


def command_reference() -> str:
    """Return the help of every command."""
    parts = []
    for name, command in commands(trackgen, "trackgen"):
        context = click.Context(command, info_name=name, terminal_width=100, max_content_width=100)
        parts.append(f"## {name}\n\n```text\n{command.get_help(context)}\n```\n")
    return "\n".join(parts)


def settings_table() -> str:
    """Return the settings of a user as a table."""
    rows = ["| setting | default | allowed | meaning |", "|---|---|---|---|"]
    schema = Settings.model_json_schema()["properties"]
    for name, field in schema.items():
        default = {None: "null", (): "none"}.get(
            tuple(field["default"]) if isinstance(field["default"], list) else field["default"], field["default"]
        )
        if isinstance(default, bool):
            default = str(default).lower()
        rows.append(f"| `{name}` | {default} | {allowed(field)} | {field['description']} |")
    return "\n".join(rows) + "\n"


def allowed(field: dict[str, Any]) -> str:
    """Say in a few words which values a setting may have."""
    if "anyOf" in field:
        return ", ".join(allowed(choice) for choice in field["anyOf"])
    if "enum" in field:
        return ", ".join(field["enum"])
    if field.get("type") == "array":
        return f"some of {allowed(field['items'])}, with commas between"
    if "minimum" in field:
        return f"{field['minimum']:,} to {field['maximum']:,}"
    return {"boolean": "true, false", "null": "null", "string": "a name of the IANA database"}[field["type"]]


def metrics_table() -> str:
    """Return the figures for Prometheus as a table."""
    rows = ["| figure | labels | meaning |", "|---|---|---|"]
    with tempfile.TemporaryDirectory() as folder, dg.DagsterInstance.ephemeral() as instance:
        store = open_store(f"sqlite:///{folder}/trackgen.db")
        for metric in SessionCollector(instance, store).collect():
            labels = ", ".join(sorted({f"`{label}`" for sample in metric.samples for label in sample.labels}))
            rows.append(f"| `{metric.name}` | {labels} | {metric.documentation} |")
        store.database.close()
    return "\n".join(rows) + "\n"


PARTS = {
    "automation.md": ("metrics", metrics_table),
    "commands.md": ("commands", command_reference),
    "configuration.md": ("settings", settings_table),
}


def main() -> int:
    """Bring the documents up to date, or say which are not."""
    stale = []
    for file, (part, write) in PARTS.items():
        path = DOCS / file
        old = path.read_text()
        before, rest = old.split(BEGIN.format(part) + "\n")
        after = rest.split(END)[1]
        new = f"{before}{BEGIN.format(part)}\n\n{write()}\n{END}{after}"
        if new != old:
            stale.append(file)
            if "--check" not in sys.argv:
                path.write_text(new)
    if stale and "--check" in sys.argv:
        print(f"not up to date: {', '.join(stale)} (run `make docs`)", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
