"""Fair timing: contenders take turns in one process, and medians are compared."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from statistics import median


def take_turns(
    contenders: Mapping[str, Callable[[], object]],
    repeats: int,
    prepare: Callable[[str], object] = lambda name: None,
    *,
    warm_up: bool = True,
) -> dict[str, list[float]]:
    """Return the seconds of every repeat, by contender.

    Before each one, `prepare` is called with its name, which does not count; nor does a first run each, to warm up.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for repeat in range(-int(warm_up), repeats):
        for name, run in contenders.items():
            prepare(name)
            gc.collect()
            started = time.perf_counter()
            run()
            if repeat >= 0:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def rates(seconds: Mapping[str, list[float]], points: int) -> dict[str, float]:
    """Print a table of seconds and points per second, and return the median rates."""
    width = max(map(len, seconds))
    print(f"{'':{width}}  median s    min s    max s     points/s")
    result = {}
    for name, values in seconds.items():
        result[name] = points / median(values)
        print(f"{name:{width}}  {median(values):8.3f} {min(values):8.3f} {max(values):8.3f} {result[name]:12,.0f}")
    return result
