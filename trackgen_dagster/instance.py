"""The embedded Dagster instance: its folder, its configuration, and runs whose process is gone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import dagster as dg
import psutil

from trackgen_core.home import home

PID_TAG: Final = "trackgen/pid"
"""Process that executes a run; only `trackgen generate` sets it."""

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
  config:
    base_dir: {history}
run_storage:
  module: dagster._core.storage.runs
  class: SqliteRunStorage
  config:
    base_dir: {history}
schedule_storage:
  module: dagster._core.storage.schedules
  class: SqliteScheduleStorage
  config:
    base_dir: {schedules}
concurrency:
  runs:
    max_concurrent_runs: 2
"""

WORKSPACE_YAML: Final = """\
load_from:
  - python_module:
      module_name: trackgen_dagster.definitions
      location_name: trackgen
"""


def prepare_instance() -> Path:
    """Point Dagster at its folder, `DAGSTER_HOME` or one in Trackgen's home, and configure it if it is new."""
    folder = Path(os.environ.get("DAGSTER_HOME") or home() / "dagster").absolute()
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "dagster.yaml"
    if not config.exists():
        config.write_text(DAGSTER_YAML.format(history=folder / "history", schedules=folder / "schedules"))
    os.environ["DAGSTER_HOME"] = str(folder)
    return folder


def open_instance() -> dg.DagsterInstance:
    """Return the instance that `prepare_instance` points at."""
    prepare_instance()
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
        if not _is_alive(int(pid), started):
            instance.report_run_failed(run, f"Process {pid}, which executed this run, is gone.")
            abandoned.append(run.run_id)
    return abandoned


def process_tag() -> str:
    """Return what `PID_TAG` says of this process: its number, and when it started, for numbers are used again."""
    return f"{os.getpid()}@{_start_time(os.getpid())}"


def _is_alive(pid: int, started: str) -> bool:
    try:
        return _start_time(pid) == started
    except psutil.NoSuchProcess:
        return False


def _start_time(pid: int) -> str:
    return f"{psutil.Process(pid).create_time():.1f}"
