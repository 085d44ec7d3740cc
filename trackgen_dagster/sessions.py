"""Sessions: requests to generate, read from Dagster's run storage and from nowhere else.

The runs that carry the same `trackgen/session` tag are a session; so are the runs of a backfill, and a run that
somebody started in the UI is one by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal

import dagster as dg
from dagster._core.errors import DagsterExecutionInterruptedError
from dagster._core.storage.dagster_run import RunRecord
from dagster._utils.error import SerializableErrorInfo

from trackgen_core.store import STAGES
from trackgen_dagster.assets import progress_of
from trackgen_dagster.jobs import CANCELLED_TAG, MODE_TAG, RUNS_TAG, SESSION_TAG, USERS_TAG
from trackgen_dagster.partitions import days_of_run, key_of

Status = Literal["pending", "processing", "completed", "failed", "cancelled"]

BACKFILL_TAG: Final = "dagster/backfill"
OURS: Final = {dg.AssetKey(stage) for stage in STAGES}
PENDING: Final = {dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED}
RUNNING: Final = {dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING}
MOST_RUNS: Final = 20_000
"""Runs that are looked at, the latest first."""


class UnknownSession(LookupError):
    """There is no such session."""


@dataclass(frozen=True)
class Session:
    """A request to generate, as run storage knows it."""

    session: str
    status: Status
    mode: str
    """`bulk`, `incremental` or `daily`; `backfill` or `run` if it was started in the UI."""
    users: str
    start: str
    end: str
    total_days: int
    """Days times stages: what the runs that have begun set out to do."""
    completed_days: int
    created: str
    started: str | None
    completed: str | None
    duration_s: float | None
    runs: list[str] = field(default_factory=list)

    @property
    def percent(self) -> float:
        """How much of it is done."""
        if self.status == "completed":
            return 100.0
        return 100.0 * self.completed_days / self.total_days if self.total_days else 0.0

    def as_json(self) -> dict[str, Any]:
        """Return the session as the command line prints it."""
        return asdict(self) | {"percent": round(self.percent, 1)}


def list_sessions(instance: dg.DagsterInstance, most: int | None = None) -> list[Session]:
    """Return the sessions, the latest first.

    Parameters
    ----------
    instance : DagsterInstance
        Whose run storage to read.
    most : int, optional
        How many sessions to return.
    """
    by_session: dict[str, list[RunRecord]] = {}
    for record in instance.get_run_records(limit=MOST_RUNS):
        if _is_ours(record.dagster_run):
            by_session.setdefault(_session_of(record.dagster_run), []).append(record)
    return [_summed_up(name, records) for name, records in list(by_session.items())[:most]]


def find_session(instance: dg.DagsterInstance, name: str) -> Session:
    """Return a session by its name, or by an unambiguous beginning of it.

    Raises
    ------
    UnknownSession
        If there is none, or more than one.
    """
    found = [session for session in list_sessions(instance) if session.session.startswith(name)]
    exact = [session for session in found if session.session == name] or found
    if len(exact) != 1:
        what = "no session" if not exact else f"{len(exact)} sessions"
        raise UnknownSession(f"{what} of the name {name!r}: see `trackgen sessions list`")
    return exact[0]


def errors_of(instance: dg.DagsterInstance, session: Session) -> list[str]:
    """Return what the failed runs of a session say, a line each."""
    errors = []
    for run_id in session.runs:
        run = instance.get_run_by_id(run_id)
        if run is None or run.status != dg.DagsterRunStatus.FAILURE:
            continue
        failures = instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
        said = [said_of(entry.get_dagster_event()) for entry in failures] or ["the run ended without saying why"]
        errors += [f"{' to '.join(key_of(day) for day in days_of_run(run.tags))}: {line}" for line in said]
    return errors


def said_of(event: dg.DagsterEvent) -> str:
    """Return what a step that failed says of itself: our own words, or those of the error at the bottom of it."""
    failure = event.step_failure_data.user_failure_data
    if failure and failure.description:
        return failure.description
    error = _root_of(event)
    return f"{event.step_key}: {' '.join(error.message.split()) if error else 'failed'}"


def was_interrupted(event: dg.DagsterEvent) -> bool:
    """Return whether a step failed because somebody stopped it."""
    error = _root_of(event)
    return error is not None and error.cls_name == DagsterExecutionInterruptedError.__name__


def _root_of(event: dg.DagsterEvent) -> SerializableErrorInfo | None:
    error = event.step_failure_data.error
    while error is not None and error.cause is not None:
        error = error.cause
    return error


def _is_ours(run: dg.DagsterRun) -> bool:
    return SESSION_TAG in run.tags or bool(OURS & (run.asset_selection or set())) or run.job_name == "generate"


def _session_of(run: dg.DagsterRun) -> str:
    # A run that the UI executes again inherits the tags, but is a request of its own.
    if run.parent_run_id:
        return run.run_id
    return run.tags.get(SESSION_TAG) or run.tags.get(BACKFILL_TAG) or run.run_id


def _summed_up(name: str, records: Sequence[RunRecord]) -> Session:
    runs = [record.dagster_run for record in records]
    tags = runs[0].tags
    days = [days_of_run(run.tags) for run in runs]
    status = _status(runs, expected=int(tags.get(RUNS_TAG, len(runs))))
    started = [record.start_time for record in records if record.start_time]
    ended = [record.end_time for record in records if record.end_time]
    over = status not in ("pending", "processing")
    done, total = _progress(runs)
    return Session(
        session=name,
        status=status,
        mode=tags.get(MODE_TAG, "backfill" if BACKFILL_TAG in tags else "run"),
        users=tags.get(USERS_TAG, "all"),
        start=key_of(min(lo for lo, _ in days)),
        end=key_of(max(hi for _, hi in days)),
        total_days=total,
        completed_days=done,
        created=_iso(min(record.create_timestamp.timestamp() for record in records)),
        started=_iso(min(started)) if started else None,
        completed=_iso(max(ended)) if ended and over else None,
        duration_s=round(max(ended) - min(started), 3) if started and ended and over else None,
        runs=[run.run_id for run in reversed(runs)],
    )


def _status(runs: Sequence[dg.DagsterRun], expected: int) -> Status:
    seen = [run.status for run in runs]
    if all(status in PENDING for status in seen):
        return "pending"
    if any(status in RUNNING | PENDING for status in seen):
        return "processing"
    if dg.DagsterRunStatus.CANCELED in seen or any(CANCELLED_TAG in run.tags for run in runs):
        return "cancelled"
    if dg.DagsterRunStatus.FAILURE in seen or len(seen) < expected:
        return "failed"
    return "completed"


def _progress(runs: Iterable[dg.DagsterRun]) -> tuple[int, int]:
    begun = [known for run in runs for stage in STAGES if (known := progress_of(run, stage))]
    return sum(done for done, _ in begun), sum(total for _, total in begun)


def _iso(timestamp: float) -> str:
    return datetime.fromtimestamp(timestamp, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
