"""What a second worker brings: the segments of one long history, made by one process and by several."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from history import make_points

from trackgen_core.database import Database
from trackgen_core.generation import WindowResult, mark_all, plan
from trackgen_core.importing import add_points
from trackgen_core.parallel import do_windows
from trackgen_core.store import Store

ALL_DAYS = (0, 100_000)


def seconds(store: Store, workers: int) -> float:
    """Make all segments, which are there already: everything but the writing of rows is done again."""
    mark_all(store, "segments", *ALL_DAYS)
    with store.read() as connection:
        windows = plan(store.dirty(connection, "segments"))
    started = time.perf_counter()
    results = list(do_windows(store, "segments", windows, workers))
    assert all(isinstance(result, WindowResult) for result in results)
    return time.perf_counter() - started


def main() -> None:
    """Print the median time for each number of workers, and what it is of the time of one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=4_000_000)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    with TemporaryDirectory(prefix="trackgen-bench-") as folder:
        store = Store(Database(f"sqlite:///{Path(folder) / 'trackgen.db'}"))
        add_points(store, make_points(options.points))
        seconds(store, 1)
        taken = [[seconds(store, workers) for workers in options.workers] for _ in range(options.repeats)]
    print(f"{options.points:,} points, {options.repeats} repeats")
    for workers, times in zip(options.workers, zip(*taken, strict=True), strict=True):
        share = median(one[0] / time for one, time in zip(taken, times, strict=True))
        print(
            f"{workers} worker(s): {median(times):.2f} s ({min(times):.2f} to {max(times):.2f}), {share:.2f} times one"
        )


if __name__ == "__main__":
    main()
