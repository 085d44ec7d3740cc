"""The command line in processes of its own, forked from one that has loaded the libraries: that takes the most time."""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["dagster", "pandas", "pyarrow.parquet", "pydantic", "pyproj", "sqlalchemy"])
LONGEST_S = 120


class Done(NamedTuple):
    """What a command came to."""

    returncode: int
    stdout: str
    stderr: str


def clean_environment(home: Path) -> dict[str, str]:
    """The environment of the tests without what concerns Trackgen, but for a home."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TRACKGEN_", "DAGSTER_"))}
    return kept | {"TRACKGEN_HOME": str(home)}


def run(home: Path, *args: object, env: dict[str, str] | None = None, answer: str = "") -> Done:
    """Run a command on a home of its own, whatever the environment of the tests says, to its end."""
    with tempfile.TemporaryDirectory() as folder:
        streams = [Path(folder) / name for name in ("stdin", "stdout", "stderr")]
        streams[0].write_text(answer, "utf-8")
        arguments = [*map(str, args)]
        process = PROCESSES.Process(target=_main, args=(arguments, clean_environment(home) | (env or {}), streams))
        process.start()
        process.join(LONGEST_S)
        if process.exitcode is None:
            process.kill()
            raise TimeoutError(f"trackgen {' '.join(arguments)}: {streams[2].read_text('utf-8')}")
        return Done(process.exitcode, streams[1].read_text("utf-8"), streams[2].read_text("utf-8"))


def trackgen(home: Path, *args: object, env: dict[str, str] | None = None, answer: str = "") -> str:
    """Run a command that has to succeed without a word on stderr, and return what it prints."""
    done = run(home, *args, env=env, answer=answer)
    assert (done.returncode, done.stderr) == (0, ""), f"trackgen {' '.join(map(str, args))}: {done}"
    return done.stdout


def _main(arguments: list[str], environment: dict[str, str], streams: list[Path]) -> None:
    for number, path in enumerate(streams):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT), number)
    sys.stdin, sys.stdout, sys.stderr = (os.fdopen(n, mode, encoding="utf-8") for n, mode in enumerate("rww"))
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["trackgen", *arguments]
    from trackgen_dagster.cli import main

    main(prog_name="trackgen")
