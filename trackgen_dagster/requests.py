"""Requests: which runs the work list asks for, and what is under way already."""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, Final, NamedTuple

import dagster as dg
import pandas as pd

from trackgen_core.points import MS_PER_DAY, now_ms
from trackgen_core.store import STAGES, Store, version_ms
from trackgen_dagster import tags
from trackgen_dagster.instance import UNFINISHED, works
from trackgen_dagster.internals import (
    BULK_ACTION_TERMINAL_STATUSES,
    FINISHED_STATUSES,
    WILL_RETRY_TAG,
    BulkActionsFilter,
    BulkActionStatus,
)
from trackgen_dagster.partitions import DAYS_PER_RUN, FIRST_DAY, RANGE_TAGS, days_of_run, key_of
from trackgen_dagster.sessions import Parts, is_ours, span_of, was_stopped

MOST_RANGES: Final = 12
"""Ranges of days that one session works on at most. Days in between that need no work are then verified along with the
others, which costs milliseconds a day; a run costs about a second."""

QUIET: Final[Mapping[str, Any]] = {"loggers": {"console": {}}}
"""What lets a run write to the console by our logger; Dagster's own would write every event."""

BETWEEN_RUNS: Final = timedelta(minutes=1)
"""The next run of a session, or the next attempt, is created within this time."""

FIRST_REST_S: Final = 30.0
"""How long work is left alone after a run that failed as a whole; twice as long after each further one."""

LONGEST_REST_S: Final = 3_600.0
LONGEST_REST_UNSTARTED_S: Final = 120.0
"""The same after a run that never started: it is the code server that did not answer, and not the work that fails."""

MOST_FAILED: Final = 200
"""Failed runs that are looked at, the latest first."""


class DayRange(NamedTuple):
    """Days from `lo_day` to `hi_day`, inclusive."""

    lo_day: int
    hi_day: int


def group(days: Iterable[int], most: int) -> list[DayRange]:
    """Cover days with at most `most` ranges, bridging the shortest gaps.

    Parameters
    ----------
    days : iterable of int
        Day numbers in any order.
    most : int
        How many ranges there may be; at least 1.
    """
    ordered = sorted(set(days))
    if not ordered:
        return []
    gaps = sorted((after - before, i) for i, (before, after) in enumerate(pairwise(ordered)) if after - before > 1)
    cuts = sorted(i for _, i in gaps[max(0, len(gaps) - most + 1) :])
    starts = [0, *(i + 1 for i in cuts)]
    ends = [*cuts, len(ordered) - 1]
    return [DayRange(ordered[a], ordered[b]) for a, b in zip(starts, ends, strict=True)]


def split(days: DayRange, longest: int = DAYS_PER_RUN) -> list[DayRange]:
    """Cut a range into parts of at most `longest` days."""
    return [DayRange(lo, min(lo + longest - 1, days.hi_day)) for lo in range(days.lo_day, days.hi_day + 1, longest)]


@dataclass(frozen=True)
class Request:
    """A run that is wanted."""

    days: DayRange
    users: tuple[str, ...] = ()
    """Only these; all if empty."""
    only_dirty: bool = True
    listed_ms: int = 0
    """Since when the oldest of its work is listed."""
    version: int = 0
    """The latest change that it is about."""

    @property
    def key(self) -> str:
        """What it is about: the same work asked for again has the same key."""
        return hashlib.sha256(repr((self.days, self.users, self.version)).encode()).hexdigest()[:16]

    def tags(self, session: str, mode: str, span: DayRange | None = None) -> dict[str, str]:
        """Return the tags of the run, as a part of a session."""
        lo_day, hi_day = self.days
        run_tags = session_tags(session, mode, self.users, span or self.days)
        return run_tags | {RANGE_TAGS[0]: key_of(lo_day), RANGE_TAGS[1]: key_of(hi_day)}

    def config(self, workers: int = 0) -> dict[str, Any]:
        """Return the run's configuration."""
        return run_config(self.users, only_dirty=self.only_dirty, workers=workers)

    def run_request(self, session: str, mode: str, run_key: str) -> dg.RunRequest:
        """Return what a sensor or a schedule asks Dagster for."""
        run_tags = self.tags(session, mode) | {tags.KEY: self.key}
        if self.only_dirty:  # as long as it is listed, the sensor asks for it again
            run_tags[tags.MAX_RETRIES] = "0"
        return dg.RunRequest(run_key, self.config(), run_tags)


def new_session() -> str:
    """Return a name for a session."""
    return uuid.uuid4().hex[:8]


def session_tags(session: str, mode: str, users: Collection[str], span: DayRange) -> dict[str, str]:
    """Return the tags that make runs and backfills a session."""
    return {
        tags.SESSION: session,
        tags.MODE: mode,
        tags.USERS: tags.spell_users(users),
        tags.SPAN: tags.spell_span(*span),
        tags.PRIORITY: tags.PRIORITIES[mode],
    }


def run_config(users: Collection[str], *, only_dirty: bool, workers: int = 0) -> dict[str, Any]:
    """Return the configuration of a run, for whichever of the stages it has."""
    # Of more users than a tag can name, the run does what is listed.
    named = list(users) if len(users) <= tags.MOST_USERS or not only_dirty else []
    config = {"config": {"users": named, "only_dirty": only_dirty, "workers": workers}}
    return {"ops": dict.fromkeys(STAGES, config), **QUIET}


# What is under way ----------------------------------------------------------------------------------------------------


class Cover(NamedTuple):
    """Days and users that a run or a backfill which has not ended will see to."""

    days: DayRange
    users: frozenset[str] | None
    """None for all."""
    asked_ms: int | None = None
    """If it may be long before it begins, when it was asked for: what changes later does not wait for it."""


def under_way(instance: dg.DagsterInstance) -> list[Cover]:
    """Return what runs and backfills that have not ended will see to, whoever started them.

    Look at this before the work list: a run that ends in between has taken its work off the list by then. The other
    way round, its work would be asked for again.
    """
    covers = []
    unfinished = instance.get_run_records(dg.RunsFilter(statuses=[*UNFINISHED, dg.DagsterRunStatus.QUEUED]))
    since = datetime.now(UTC) - BETWEEN_RUNS
    ended = instance.get_run_records(dg.RunsFilter(statuses=FINISHED_STATUSES, updated_after=since))
    for record in [*unfinished, *ended]:
        run = record.dagster_run
        if not is_ours(run):
            continue
        if run.status == dg.DagsterRunStatus.QUEUED and goes_last(run):
            if tags.BACKFILL not in run.tags:  # otherwise, the backfill itself covers it
                covers.append(_cover(days_of_run(run.tags), run.tags, record.create_timestamp.timestamp()))
        elif not run.is_finished or run.tags.get(WILL_RETRY_TAG) == "true":
            covers.append(_cover(days_of_run(run.tags), run.tags))
        if tags.RUNS in run.tags and (not run.is_finished or works(instance, run)):
            covers += _to_come(instance, run)
    statuses = [status for status in BulkActionStatus if status not in BULK_ACTION_TERMINAL_STATUSES]
    for one in instance.get_backfills(filters=BulkActionsFilter(statuses=statuses)):
        if is_ours(one):
            covers.append(_cover(span_of(Parts(backfill=one)), one.tags, one.backfill_timestamp))
    return covers


def goes_last(run: dg.DagsterRun) -> bool:
    """Return whether a run makes everything again, which must not keep new points waiting."""
    return tags.BACKFILL in run.tags or run.tags.get(tags.MODE) == "bulk"


def in_vain(instance: dg.DagsterInstance) -> list[Cover]:
    """Return what runs of sensor and schedule that failed as a whole were about, as long as they are to rest.

    Not among them are runs of which only some days failed: these are dead letters.
    """
    since = datetime.now(UTC) - timedelta(seconds=LONGEST_REST_S)
    statuses = [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
    records = [
        record
        for record in instance.get_run_records(dg.RunsFilter(statuses=statuses, updated_after=since), MOST_FAILED)
        if is_ours(record.dagster_run)
        and tags.KEY in record.dagster_run.tags
        and not int(record.dagster_run.tags.get(tags.FAILED, 0))
    ]
    covers = [_cover(days_of_run(record.dagster_run.tags), record.dagster_run.tags) for record in records]
    return [
        cover
        for i, (record, cover) in enumerate(zip(records, covers, strict=True))
        if rests(record, sum(_overlap(cover.days, earlier.days) for earlier in covers[i:]))
    ]


def rests(record: dg.RunRecord, times: int) -> bool:
    """Return whether it is too early to do again what a run was about that has ended, and was tried so many times."""
    ended: float = record.end_time or record.update_timestamp.timestamp()
    longest_s = LONGEST_REST_S if record.start_time else LONGEST_REST_UNSTARTED_S
    return time.time() < ended + min(FIRST_REST_S * 2.0 ** min(times - 1, 20), longest_s)


def earlier_runs(instance: dg.DagsterInstance, key: str) -> int | None:
    """Return how many runs were about this very work.

    None if it is too early for another one, or if somebody stopped the last one: then the sensor leaves it alone until
    more changes; the schedule does not.
    """
    earlier = instance.get_run_records(dg.RunsFilter(tags={tags.KEY: key}))
    if earlier and (was_stopped(earlier[0].dagster_run) or rests(earlier[0], len(earlier))):
        return None
    return len(earlier)


def _to_come(instance: dg.DagsterInstance, run: dg.DagsterRun) -> list[Cover]:
    """Return what a session will see to with runs that are not there yet; a command line has one after the other."""
    same = {tag: run.tags[tag] for tag in (tags.SESSION, tags.ATTEMPT) if tag in run.tags}
    known = instance.get_run_records(dg.RunsFilter(tags=same))
    if len(known) >= int(run.tags[tags.RUNS]):
        return []
    return [_cover(tags.span_of(run.tags), run.tags, known[-1].create_timestamp.timestamp())]


def _cover(days: tuple[int, int], run_tags: Mapping[str, str], asked_s: float | None = None) -> Cover:
    users = tags.users_of(run_tags)
    asked_ms = None if asked_s is None else round(1000 * asked_s)
    return Cover(DayRange(*days), None if users is None else frozenset(users), asked_ms)


def _overlap(one: DayRange, other: DayRange) -> bool:
    return one.lo_day <= other.hi_day and other.lo_day <= one.hi_day


# What the work list asks for ------------------------------------------------------------------------------------------


def changes(store: Store) -> pd.DataFrame:
    """Return what is listed because something changed: `stage`, `user`, `day`, `version`, `listed_ms`.

    Dead letters and days without a partition are left out. What somebody asked to make again, and stopped, is none of
    it either.
    """
    days = FIRST_DAY, now_ms() // MS_PER_DAY + 1
    with store.read() as connection:
        names = store.names_of(connection)
        parts = [store.dirty(connection, stage, *days, dead=False).assign(stage=stage) for stage in STAGES]
    rows = pd.concat(parts, ignore_index=True)
    rows = rows[rows["is_change"] == 1]
    return rows.assign(user=rows["user_id"].map(names))[["stage", "user", "day", "version", "listed_ms"]]


def uncovered(work: pd.DataFrame, covers: Sequence[Cover]) -> pd.DataFrame:
    """Return the rows of `work` that nothing under way will see to."""
    open_ = pd.Series(True, index=work.index)
    for days, users, asked_ms in covers:
        seen_to = work["day"].between(*days)
        if users is not None:
            seen_to &= work["user"].isin(users)
        if asked_ms is not None:
            seen_to &= work["version"].map(version_ms) <= asked_ms
        open_ &= ~seen_to
    return work[open_]


def wanted(work: pd.DataFrame, *, most: int = MOST_RANGES) -> list[Request]:
    """Return the runs that work asks for: its ranges of days, each with the users it is about, the oldest first.

    Parameters
    ----------
    work : DataFrame
        As `changes` returns it.
    most : int
        How many ranges of days to tell apart; if there are more, the shortest gaps are bridged.
    """
    requests = []
    for part in (part for whole in group(work["day"].tolist(), most) for part in split(whole)):
        rows = work[work["day"].between(*part)]
        if len(rows):
            days = DayRange(int(rows["day"].min()), int(rows["day"].max()))
            users = tuple(sorted(set(rows["user"])))
            requests.append(
                Request(days, users, listed_ms=int(rows["listed_ms"].min()), version=int(rows["version"].max()))
            )
    return sorted(requests, key=lambda request: (request.listed_ms, request.days))


def is_ripe(request: Request, debounce_ms: float, patience: int) -> bool:
    """Return whether to run it now: nothing came for a while, or its work has waited for `patience` times as long."""
    now = now_ms()
    # A change that seems to be still to come was made before somebody put the clock right.
    is_quiet = abs(now - version_ms(request.version)) >= debounce_ms
    return is_quiet or now - request.listed_ms >= patience * debounce_ms
