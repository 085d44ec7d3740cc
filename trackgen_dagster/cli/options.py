"""What commands have in common: how days are written, options, errors, bars."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, TextIO, cast

import click

from trackgen_core.words import printable

if TYPE_CHECKING:
    pass


class Day(click.ParamType[int]):
    """A day as YYYY-MM-DD, as the number of days since 1970-01-01."""

    name = "day"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:  # noqa: ANN401
        """Parse the day."""
        if isinstance(value, int):
            return value
        try:
            return date.fromisoformat(value).toordinal() - date(1970, 1, 1).toordinal()
        except ValueError:
            self.fail(f"{value!r} is no day: write it as YYYY-MM-DD", param, ctx)


class Instant(click.ParamType[int]):
    """A time in ISO 8601, as milliseconds since the epoch; without an offset it is UTC."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:  # noqa: ANN401
        """Parse the time."""
        if isinstance(value, int):
            return value
        try:
            when = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is no time: write it as 2024-05-01T17:30:00Z", param, ctx)
        return round((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() * 1000)


UMASK: Final = "trackgen.umask"
"""Where a context keeps the umask of whoever called."""


class Command(click.Command):
    """A command that ends with one line on stderr where something goes wrong, and with all of it under `--debug`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **kwargs)
        self.params.append(
            click.Option(["--debug"], is_flag=True, expose_value=False, callback=_set_debug, help="Show tracebacks.")
        )

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401
        """Run the command; what it writes into the home is for its owner alone."""
        ctx.meta[UMASK] = before = os.umask(0o077)
        try:
            if os.environ.get("TRACKGEN_START_DATE") and self.name != "doctor":  # which says it among all the rest
                from trackgen_core.points import start_day

                start_day()
            with redirect_stdout(cast(TextIO, _PrintableOutput(sys.stdout))):
                return super().invoke(ctx)
        except (click.UsageError, click.exceptions.Exit, click.Abort):
            raise
        except click.ClickException as error:
            raise click.ClickException(printable(error.message)) from error
        except BrokenPipeError:
            # Whoever read our output has seen enough; Python would complain about it at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise click.exceptions.Exit(1) from None
        except Exception as error:
            if ctx.meta.get("debug"):
                raise
            from sqlalchemy.exc import DBAPIError

            from trackgen_core.failures import classify, describe
            from trackgen_core.redaction import redact

            message = " ".join(str(error).split()) or type(error).__name__
            if isinstance(error, DBAPIError) and classify(error) == "database":
                message = f"the database failed: {' '.join(describe(error).split())}"
            elif not _is_expected(error):
                message = f"{type(error).__name__}: {message} (run again with --debug to see where)"
            raise click.ClickException(printable(redact(message))) from error
        finally:
            os.umask(before)


class _PrintableOutput:
    """Stdout, but no control character of a text reaches a terminal. Its `buffer` takes bytes as they are."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text."""
        return self._stream.write(printable(text))

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        return getattr(self._stream, name)


class Group(click.Group):
    """A group of commands."""

    command_class = Command
    group_class = type


def _set_debug(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    ctx.meta["debug"] = value


def _is_expected(error: Exception) -> bool:
    from trackgen_core.database import DatabaseError

    # OSError: files. ValueError: what was given cannot be. LookupError: a user or a session that is not there.
    expected = isinstance(error, DatabaseError | OSError | ValueError | LookupError)
    return expected and not isinstance(error, KeyError | IndexError)


command = partial(click.command, cls=Command)


group = partial(click.group, cls=Group)


users_option = click.option("--user", "-u", "users", multiple=True, metavar="U", help="Only this user; repeatable.")


start_option = click.option("--start", type=Day(), metavar="DAY", is_eager=True, help="First day, YYYY-MM-DD (UTC).")


def check_end(ctx: click.Context, param: click.Parameter, end: int | None) -> int | None:
    """Refuse a last day before the first."""
    start = ctx.params.get("start")
    if start is not None and end is not None and end < start:
        raise click.BadParameter("lies before --start", ctx, param)
    return end


end_option = click.option("--end", type=Day(), metavar="DAY", callback=check_end, help="Last day, inclusive.")


workers_option = click.option(
    "--workers", "-w", type=click.IntRange(1), metavar="N", help="Processes; by default one a core."
)

ENGINES: Final = ("python", "sql")


output_option = click.option(
    "--output", "-o", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="By default stdout."
)


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def echo_row(row: str, rest: str) -> None:
    """Print a line of a table; on a terminal, what is too long for it goes on below its last column."""
    lines = [rest]
    if sys.stdout.isatty():
        width = max(shutil.get_terminal_size().columns - len(row), 8)
        lines = textwrap.wrap(rest, width, break_on_hyphens=False) or [""]
    for number, line in enumerate(lines):
        click.echo((" " * len(row) if number else row) + line)


def engine_option(help: str) -> Callable[..., Any]:
    """Return an option that chooses who makes tracks."""
    return click.option("--engine", type=click.Choice(ENGINES), default="python", show_default=True, help=help)


def share(path: Path) -> None:
    """Give a file that somebody asked for the rights that new files of theirs have."""
    context = click.get_current_context(silent=True)
    if context and UMASK in context.meta:
        path.chmod(0o666 & ~int(context.meta[UMASK]))


@contextmanager
def output_stream(path: Path | None) -> Iterator[BinaryIO]:
    """Open stdout, or a file that appears under its name only when it is whole."""
    if path is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    if not path.absolute().parent.is_dir():
        raise FileNotFoundError(f"{path}: there is no folder {path.parent}: make it first")
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as out:
            yield out
        share(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def progress_bar(what: str, wanted: bool) -> Iterator[Callable[[float | None, str], None]]:
    """Show a bar on stderr, if that is a terminal; call what is yielded with the share done and a few words."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (
        SpinnerColumn(),
        BarColumn(bar_width=30),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
    )
    with Progress(*columns, console=console, transient=True, disable=not (wanted and console.is_terminal)) as progress:
        task = progress.add_task(what, total=None)

        def show(share: float | None, words: str) -> None:
            progress.update(
                task, description=printable(words), completed=share or 0.0, total=None if share is None else 1.0
            )

        yield show
