"""The embedded Dagster instance: its folder, its configuration, and runs whose process is gone."""

from __future__ import annotations

import json
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import dagster as dg
import psutil
from dagster_postgres.utils import DagsterPostgresException
from filelock import FileLock
from sqlalchemy import URL, NullPool, create_engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from trackgen_core.database import DatabaseError
from trackgen_core.failures import classify
from trackgen_core.home import home, make_private
from trackgen_core.redaction import redact, shown_url
from trackgen_dagster import tags
from trackgen_dagster.internals import (
    GRPC_INFO_TAG,
    NO_LOGS_MODULE,
    DagsterGrpcClient,
    DagsterUserCodeUnreachableError,
    PostProcessingError,
)

CLOCK_STEP_S: Final = 60
"""Setting the clock moves the times at which processes seem to have started."""

HEARTBEAT_S: Final = 120
"""A daemon says every 30 s that it is there."""

UNFINISHED: Final = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]

SQLITE: Final = """\
event_log_storage:
  module: trackgen_dagster.event_log
  class: BatchedSqliteEventLogStorage
"""

POSTGRES: Final = """\
storage:
  custom:
    module: trackgen_dagster.event_log
    class: PostgresStorage
    config:
      postgres_url: {}
"""

YAML: Final = """\
# Written by Trackgen when it first used this folder; yours to change.
telemetry:
  enabled: false
# No dialog that asks for an e-mail address.
nux:
  enabled: false
{storage}\
# What a run has to say is in its event log; files of captured output would cost every step some milliseconds.
compute_logs:
  module: {no_logs_module}
  class: NoOpComputeLogManager
concurrency:
  runs:
    max_concurrent_runs: 2
    # Making everything again must not keep new points waiting.
    tag_concurrency_limits:
      - key: trackgen/mode
        value: bulk
        limit: 1
# A code server that answers late, as on a busy machine, is asked again; otherwise the run would fail.
run_queue:
  max_user_code_failure_retries: 5
  user_code_failure_retry_delay: 30
# A run whose process died is started again; one whose work failed is not, for it has tried often enough.
run_retries:
  enabled: true
  max_retries: 2
  retry_on_asset_or_op_failure: false
run_monitoring:
  enabled: true
  start_timeout_seconds: 180
# Ticks of sensors and schedules are kept for these many days; sessions: see TRACKGEN_RETENTION_DAYS.
retention:
  sensor:
    purge_after_days: {{skipped: 2, success: 30, failure: 30, started: 30}}
  schedule:
    purge_after_days: {{skipped: 7, success: 30, failure: 30, started: 30}}
"""

DAGSTER_YAML: Final = YAML.format(storage=SQLITE, no_logs_module=NO_LOGS_MODULE)

POSTGRES_VARIABLE: Final = "TRACKGEN_DAGSTER_POSTGRES_URL"
LEAST_POSTGRES: Final = 15
CONNECT_S: Final = 10

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
    folder = _folder()
    if folder.parent == home():
        make_private(home())
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    config = folder / "dagster.yaml"
    if not config.exists():
        config.write_text(DAGSTER_YAML)
    os.environ["DAGSTER_HOME"] = str(folder)
    return folder


def _folder() -> Path:
    return Path(os.environ.get("DAGSTER_HOME") or home() / "dagster").absolute()


def open_instance() -> dg.DagsterInstance:
    """Return the instance that `prepare_instance` points at.

    Raises
    ------
    DatabaseError
        If its storage cannot be used as `dagster.yaml` says.
    """
    folder = prepare_instance()
    try:
        # Dagster makes its databases on first use, and two processes at once would trip over each other.
        with FileLock(folder / ".lock"):
            return dg.DagsterInstance.get()
    except (DagsterPostgresException, DBAPIError, dg.DagsterInvalidConfigError, PostProcessingError) as error:
        cause = error.__cause__ if isinstance(error, DagsterPostgresException) else error
        reason = cause.orig if isinstance(cause, DBAPIError) else cause
        raise DatabaseError(
            f"{folder / 'dagster.yaml'}: Dagster's storage cannot be used: {redact(str(reason))}"
        ) from error


def is_away(error: BaseException) -> bool:
    """Return whether something failed because a database, the one of tracks or Dagster's, is away or full."""
    return classify(error) == "database" or isinstance(error, DagsterPostgresException)


def storage_of(instance: dg.DagsterInstance) -> str:
    """Return where an instance keeps runs, events and schedules, without passwords."""
    url = getattr(instance.run_storage, "postgres_url", None)
    return shown_url(url) if url else f"SQLite files in {instance.root_directory}"


@dataclass(frozen=True)
class Initialised:
    """What `use_postgres` did."""

    config: Path
    storage: str
    """The database, without its password."""
    server: str
    """Its version."""
    by_variable: bool
    """Whether `POSTGRES_VARIABLE` has to say the URL to every process."""
    backup: Path | None
    """Where what was written there before is now."""


def use_postgres(url: str, *, force: bool = False) -> Initialised:
    """Make a PostgreSQL database the storage of Dagster, in the `dagster.yaml` of its folder.

    Parameters
    ----------
    url : str
        The database. If the URL has a password, or is what `POSTGRES_VARIABLE` says, the file refers to this variable.
    force : bool
        Replace a `dagster.yaml` that says something else; it is kept beside the new one.

    Raises
    ------
    DatabaseError
        If the database cannot be used.
    FileExistsError
        If there is a `dagster.yaml` that says something else.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # the latter of a port
        raise DatabaseError(f"{shown_url(url)!r} is no URL: write it as postgresql://user@host/name") from None
    server = _check_postgres(parsed)
    by_variable = _has_password(parsed) or os.environ.get(POSTGRES_VARIABLE) == url
    storage = POSTGRES.format(f"{{env: {POSTGRES_VARIABLE}}}" if by_variable else json.dumps(url))
    text = YAML.format(storage=storage, no_logs_module=NO_LOGS_MODULE)
    config = _folder() / "dagster.yaml"
    config.parent.mkdir(parents=True, exist_ok=True)
    backup = None
    if config.exists() and config.read_text() != text:
        if not force:
            raise FileExistsError(
                f"{config} says something else already: --force replaces it and keeps a copy; the sessions in its "
                "storage are not carried over, tracks are no part of it"
            )
        backup = config.with_name(f"dagster.yaml.{time.strftime('%Y%m%d-%H%M%S')}")
        backup.write_text(config.read_text())
    config.write_text(text)
    return Initialised(config, shown_url(parsed), server, by_variable, backup)


def _check_postgres(url: URL) -> str:
    """Return the version of the server, if Dagster can use the database."""
    if url.drivername != "postgresql":
        raise DatabaseError(
            f"{shown_url(url)}: Dagster's storage is PostgreSQL: write it as postgresql://user@host/name"
        )
    engine = create_engine(url, connect_args={"connect_timeout": CONNECT_S}, poolclass=NullPool)
    try:
        with engine.connect() as connection:
            version, number = connection.exec_driver_sql(
                "SELECT current_setting('server_version'), current_setting('server_version_num')::int"
            ).one()
            may_create = connection.exec_driver_sql(
                "SELECT coalesce(has_schema_privilege(current_schema(), 'CREATE'), false)"
            ).scalar_one()
    except DBAPIError as error:
        raise DatabaseError(f"{shown_url(url)}: cannot be reached: {error.orig}") from error
    if number < 10_000 * LEAST_POSTGRES:
        raise DatabaseError(f"{shown_url(url)}: PostgreSQL {version} is too old: {LEAST_POSTGRES} or newer is needed")
    if not may_create:
        raise DatabaseError(
            f"{shown_url(url)}: its user may not make tables there: let the user own the database, as in "
            "`createdb --owner USER NAME`"
        )
    return str(version)


def _has_password(url: URL) -> bool:
    return url.password is not None or "password" in url.query


def write_workspace() -> Path:
    """Say what the UI and the daemon load, under the name that it has in the repository too, and return the file."""
    workspace = prepare_instance() / "workspace.yaml"
    workspace.write_text(WORKSPACE_YAML)
    return workspace


def fail_abandoned_runs(instance: dg.DagsterInstance) -> list[str]:
    """Mark runs as failed whose process, on this host, was killed, and return their ids."""
    abandoned = []
    for run in instance.get_runs(dg.RunsFilter(statuses=UNFINISHED)):
        alive = works(instance, run)
        if alive is None and GRPC_INFO_TAG in run.tags:  # it was killed before it could say who it is
            alive = _server_answers(run)
        if alive is False and not has_finished(instance, run):
            instance.report_run_failed(run, "The process that executed this run is gone.")
            abandoned.append(run.run_id)
    return abandoned


def has_finished(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Return whether a run has ended, or was forgotten, since it was read."""
    now = instance.get_run_by_id(run.run_id)
    return now is None or now.is_finished


def works(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool | None:
    """Return whether the process that executes a run is alive; None if that cannot be known here."""
    process = run.tags.get(tags.PROCESS)
    if process is None:
        return None
    # A run that is executed again inherits the tags of the first one, until it starts and writes its own.
    parent = instance.get_run_by_id(run.parent_run_id) if run.parent_run_id else None
    if parent and parent.tags.get(tags.PROCESS) == process:
        return None
    return process_is_alive(process)


def daemon_is_alive(instance: dg.DagsterInstance) -> bool:
    """Return whether a daemon works on this instance, by what it wrote last."""
    beats = instance.get_daemon_heartbeats().values()
    return any(time.time() - beat.timestamp < HEARTBEAT_S for beat in beats)


def process_tag() -> str:
    """Return what `tags.PROCESS` says of this process.

    That is its host, its number, and when it started, for numbers are used again.
    """
    return f"{socket.gethostname()}/{os.getpid()}@{psutil.Process().create_time():.0f}"


def pid_of(process: str) -> int | None:
    """Return the number of a process that `process_tag` named, if it is one of this host."""
    host, _, pid = process.partition("@")[0].rpartition("/")
    return int(pid) if host == socket.gethostname() else None


def _server_answers(run: dg.DagsterRun) -> bool:
    """Return whether the code server that started a run is there: if not, its run is not either."""
    info = json.loads(run.tags[GRPC_INFO_TAG])
    client = DagsterGrpcClient(host=info.get("host"), port=info.get("port"), socket=info.get("socket"))
    try:
        client.ping("")
    except DagsterUserCodeUnreachableError:
        return False
    return True


def process_is_alive(process: str) -> bool | None:
    """Return whether a process that `process_tag` named is alive; None if it is one of another host."""
    pid = pid_of(process)
    if pid is None:
        return None
    try:
        found = psutil.Process(pid)
        started = float(process.rpartition("@")[2])
        return found.status() != psutil.STATUS_ZOMBIE and abs(found.create_time() - started) < CLOCK_STEP_S
    except psutil.NoSuchProcess:
        return False
