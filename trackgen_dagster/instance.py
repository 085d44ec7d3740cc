"""The embedded Dagster instance: its folder, its configuration, and runs whose process is gone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import dagster as dg
import psutil
from filelock import FileLock

from trackgen_core.home import home

PID_TAG: Final = "trackgen/pid"
"""Process that executes a run; only `trackgen generate` sets it."""

CLOCK_STEP_S: Final = 60
"""Setting the clock moves the times at which processes seem to have started."""

UNFINISHED: Final = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]

DAGSTER_YAML: Final = """\
# Written by Trackgen when it first used this folder; yours to change.
telemetry:
  enabled: false
# No dialog that asks for an e-mail address.
nux:
  enabled: false
event_log_storage:
  module: trackgen_dagster.event_log
  class: BatchedSqliteEventLogStorage
# What a run has to say is in its event log; files of captured output would cost every step some milliseconds.
compute_logs:
  module: dagster._core.storage.noop_compute_log_manager
  class: NoOpComputeLogManager
concurrency:
  runs:
    max_concurrent_runs: 2
"""

LOCATION: Final = "trackgen"
"""The name under which the UI shows what it has loaded."""

WORKSPACE_YAML: Final = f"""\
load_from:
  - python_module:
      module_name: trackgen_dagster.definitions
      location_name: {LOCATION}
"""


def prepare_instance() -> Path:
    """Point Dagster at its folder, `DAGSTER_HOME` or one in Trackgen's home, and configure it if it is new."""
    folder = Path(os.environ.get("DAGSTER_HOME") or home() / "dagster").absolute()
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "dagster.yaml"
    if not config.exists():
        config.write_text(DAGSTER_YAML)
    os.environ["DAGSTER_HOME"] = str(folder)
    return folder


def open_instance() -> dg.DagsterInstance:
    """Return the instance that `prepare_instance` points at."""
    # Dagster makes its databases on first use, and two processes at once would trip over each other.
    with FileLock(prepare_instance() / ".lock"):
        return dg.DagsterInstance.get()


def write_workspace() -> Path:
    """Say what the UI and the daemon load, under the name that it has in the repository too, and return the file."""
    workspace = prepare_instance() / "workspace.yaml"
    workspace.write_text(WORKSPACE_YAML)
    return workspace


def fail_abandoned_runs(instance: dg.DagsterInstance) -> list[str]:
    """Mark runs as failed whose process was killed, and return their ids."""
    abandoned = []
    for run in instance.get_runs(dg.RunsFilter(statuses=UNFINISHED)):
        if PID_TAG not in run.tags or run.parent_run_id:  # a run that the UI executes again inherits the tags
            continue
        pid, started = run.tags[PID_TAG].split("@")
        if not _is_alive(int(pid), float(started)):
            instance.report_run_failed(run, f"Process {pid}, which executed this run, is gone.")
            abandoned.append(run.run_id)
    return abandoned


def process_tag() -> str:
    """Return what `PID_TAG` says of this process: its number, and when it started, for numbers are used again."""
    return f"{os.getpid()}@{psutil.Process().create_time():.0f}"


def _is_alive(pid: int, started: float) -> bool:
    try:
        return abs(psutil.Process(pid).create_time() - started) < CLOCK_STEP_S
    except psutil.NoSuchProcess:
        return False
