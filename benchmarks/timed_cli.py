"""The command line with a stop watch: `python benchmarks/timed_cli.py OUT.json generate --workers 1`.

The phases are timed by wrapping the functions that do them, as long as they run in this process (one worker).
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from trackgen_dagster.cli import main as command_line

seconds: Counter[str] = Counter()


def timed(phase: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return `function`, adding what it takes to a phase."""

    def run(*args: Any, **kwargs: Any) -> Any:
        started = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            seconds[phase] += time.perf_counter() - started

    return run


def timed_iterator(phase: str, function: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
    """Return a generator function, adding what its steps take to a phase."""

    def run(*args: Any, **kwargs: Any) -> Iterator[Any]:
        step = timed(phase, function(*args, **kwargs).__next__)
        while True:
            try:
                yield step()
            except StopIteration:
                return

    return run


def main() -> None:
    """Run a command and write the seconds of its phases."""
    out, *arguments = sys.argv[1:]
    if arguments[0] == "generate":
        wrap_phases()
    try:
        command_line(arguments)
    finally:
        Path(out).write_text(json.dumps(seconds))


def wrap_phases() -> None:
    """Put a stop watch around everything that `generate` spends its time on."""
    started = time.perf_counter()
    from dagster import DagsterInstance

    from trackgen_core import generation, parallel
    from trackgen_core.store import Store
    from trackgen_dagster import assets, checks, generate

    seconds["start"] = time.perf_counter() - started
    Store.read_points = timed_iterator("read", Store.read_points)  # type: ignore[method-assign]
    generation.segment = timed("compute", generation.segment)
    parallel.make_segments = timed("segments", parallel.make_segments)
    parallel.make_tracks = timed("tracks", parallel.make_tracks)
    for module in (assets, generate):
        module.day_stats = timed("statistics", module.day_stats)
    assets.segment_stats = timed("statistics", assets.segment_stats)
    assets.metadata.pictures = timed_iterator("pictures", assets.metadata.pictures)
    DagsterInstance.handle_new_event = timed("events", DagsterInstance.handle_new_event)  # type: ignore[method-assign]
    checks._result = timed("checks", checks._result)


if __name__ == "__main__":
    main()
