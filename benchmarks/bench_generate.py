"""From a CSV to tracks on SQLite, as a user does it: time by phase, and peak memory of the whole process tree."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import psutil
from history import make_points, write_csv

SAMPLE_S = 0.05
TIMED_CLI = Path(__file__).with_name("timed_cli.py")
PHASES = ("read", "compute", "write", "tracks", "statistics", "pictures", "checks", "events", "start", "rest")
"""Read: points from SQLite to columns. Compute: `segment`. Write: segments and work list. Tracks: all of their
making. Statistics: `day_stats` and `segment_stats`. Pictures: those of days. Events: what Dagster stores of the run.
Start: importing Dagster. Rest: what else Dagster does, and the command line."""


@dataclass
class Run:
    """What a command took."""

    seconds: float
    peak_mb: float
    phases: dict[str, float]


def run(home: Path, *arguments: str) -> Run:
    """Run a command of trackgen in a home of its own, and watch its memory."""
    out = home / "phases.json"
    command = [sys.executable, str(TIMED_CLI), str(out), *arguments]
    started = time.perf_counter()
    process = subprocess.Popen(
        command, env=os.environ | {"TRACKGEN_HOME": str(home)}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    peak: list[float] = [0.0]
    watcher = threading.Thread(target=_watch, args=(psutil.Process(process.pid), peak))
    watcher.start()
    output, _ = process.communicate()
    seconds = time.perf_counter() - started
    watcher.join()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}:\n{output.decode()}")
    return Run(seconds, peak[0] / 1e6, _split(json.loads(out.read_text()), seconds))


def main() -> None:
    """Print a table of phases, and the peak memory, by size of the history and number of workers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, nargs="+", default=[1_000_000, 4_000_000])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    for points in options.points:
        with TemporaryDirectory(prefix="trackgen-bench-") as folder:
            csv = Path(folder) / "points.csv"
            write_csv(make_points(points), csv)
            repeats = [_measure(csv, options.workers) for _ in range(options.repeats)]
        print(f"\n{points:,} points, {options.repeats} repeats, medians (min to max)")
        for name in repeats[0]:
            _show(name, [repeat[name] for repeat in repeats], points)


def _measure(csv: Path, workers: Sequence[int]) -> dict[str, Run]:
    with TemporaryDirectory(prefix="trackgen-bench-") as folder:
        imported = Path(folder) / "imported"
        imported.mkdir()
        runs = {"import": run(imported, "import", str(csv), "--user", "ada")}
        for number in workers:
            home = Path(folder) / str(number)
            shutil.copytree(imported, home)
            runs[f"generate --workers {number}"] = run(home, "generate", "--workers", str(number))
            shutil.rmtree(home)
    return runs


def _show(name: str, runs: Sequence[Run], points: int) -> None:
    seconds, peaks = [run.seconds for run in runs], [run.peak_mb for run in runs]
    middle = median(seconds)
    print(
        f"{name}: {middle:.2f} s ({min(seconds):.2f} to {max(seconds):.2f}), {points / middle:,.0f} points/s,", end=" "
    )
    print(f"peak memory {median(peaks):.0f} MB ({min(peaks):.0f} to {max(peaks):.0f})")
    if name == "generate --workers 1":
        for phase in PHASES:
            spent = median(run.phases[phase] for run in runs)
            print(f"    {phase:<10} {spent:6.2f} s  {spent / middle:4.0%}")


def _split(timed: dict[str, float], total: float) -> dict[str, float]:
    phases = {phase: timed.get(phase, 0.0) for phase in PHASES}
    phases["write"] = timed.get("segments", 0.0) - phases["read"] - phases["compute"]
    phases["rest"] = total - sum(phases.values())
    return phases


def _watch(parent: psutil.Process, peak: list[float]) -> None:
    """Keep the largest sum of memory over a process and all its descendants; what they share counts once."""
    while parent.is_running():
        held = 0
        try:
            if parent.status() == psutil.STATUS_ZOMBIE:
                return
            family = [parent, *parent.children(recursive=True)]
        except psutil.NoSuchProcess:
            return
        for process in family:
            try:
                held += process.memory_full_info().pss
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        peak[0] = max(peak[0], held)
        time.sleep(SAMPLE_S)


if __name__ == "__main__":
    main()
