"""Messages about sessions that have ended: one for each, however many runs it had."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

import apprise
import dagster as dg

from trackgen_core.store import Store
from trackgen_core.words import counted
from trackgen_dagster.environment import log_level
from trackgen_dagster.internals import BULK_ACTION_TERMINAL_STATUSES, BulkActionsFilter, BulkActionStatus
from trackgen_dagster.sessions import (
    ChunkError,
    Session,
    UnknownSession,
    errors_of,
    find_session,
    is_ours,
    session_of,
)

LOG: Final = logging.getLogger("trackgen.sessions")
"""A line of JSON for each session that has ended, on stderr."""

LOG.setLevel(log_level("info"))
LOG.addHandler(logging.StreamHandler())

MOST_TRIES: Final = 3
"""How often a message is sent that a service does not take."""

OVERLAP: Final = timedelta(minutes=2)
"""How far each look goes back behind the one before, for a run is stored a moment after its clock was read."""

LONGEST_S: Final = 20.0
"""After this time, what is left is for the next look: Dagster gives a sensor a minute, and dead services take long."""

SHOWN: Final = 10
"""Failed chunks that a message names."""

KINDS: Final[Mapping[str, apprise.NotifyType]] = {
    "completed": apprise.NotifyType.SUCCESS,
    "failed": apprise.NotifyType.FAILURE,
    "cancelled": apprise.NotifyType.WARNING,
}
"""How services show what became of a session."""


class NoService(ValueError):
    """No service to send a message to, or none that can be used."""


@dataclass
class Memory:
    """What the next look has to know: the cursor of the sensor."""

    since: str
    """When the last look began."""
    told: list[str] = field(default_factory=list)
    """Endings after `since`, or shortly before, of which nothing is left to tell."""
    again: list[str] = field(default_factory=list)
    """Sessions to look at even if nothing of them changes: they have not ended, or not everybody was told."""
    missed: dict[str, tuple[int, list[int]]] = field(default_factory=dict)
    """Endings of which some services did not take the message: how often that was tried, and which services."""


def tell(instance: dg.DagsterInstance, store: Store, cursor: str | None, log: logging.Logger = LOG) -> tuple[int, str]:
    """Send a message for every session that has ended since the last look.

    Parameters
    ----------
    instance : DagsterInstance
        Whose sessions to look at.
    store : Store
        Who wants no messages.
    cursor : str, optional
        What the last look returned. The first look tells of nothing: what ended before is old news.
    log : Logger
        Where it is said that a service did not take a message.

    Returns
    -------
    told : int
        How many sessions have ended.
    cursor : str
        For the next look.

    Raises
    ------
    NoService
        If one of the addresses is of no service that is known. Nobody is told of anything before that is mended.
    """
    now = datetime.now(UTC)
    before = Memory(**json.loads(cursor)) if cursor else Memory(now.isoformat())
    since = datetime.fromisoformat(before.since) - OVERLAP
    after = Memory(now.isoformat())
    to, silent = services(), set(store.silent_users())
    until = time.monotonic() + LONGEST_S
    told = 0
    for name in dict.fromkeys([*before.again, *_touched(instance, since, first=not cursor)]):
        try:
            session = find_session(instance, name)
        except UnknownSession:  # forgotten meanwhile
            continue
        if not session.is_over:
            if session.backfill or session.status == "processing":  # what is pending cannot end without a trace
                after.again.append(name)
            continue
        ending = f"{name}/{len(session.runs)}"  # who tries a session again, or goes on with it, adds runs
        is_old = name not in before.again and _ended_at(session) < since  # then only a tag of it has changed
        if not cursor or is_old or ending in before.told:
            after.told.append(ending)
            continue
        tries, missed = before.missed.get(ending, (0, [*range(len(to))]))
        if time.monotonic() < until:
            errors = errors_of(instance, name)
            if not tries:
                told += 1
                LOG.info(json.dumps({"event": "session_ended"} | session.as_json() | {"errors": [*map(str, errors)]}))
            tries += 1
            missed = _send_about(session, errors, store, silent, to, missed)
            if missed:
                who = ", ".join(_spell(to[number]) for number in missed)
                log.error(f"session {name}: {who} did not take the message (try {tries} of {MOST_TRIES})")
            if not missed or tries == MOST_TRIES:
                after.told.append(ending)
                continue
        after.again.append(name)
        if tries:
            after.missed[ending] = tries, missed
    return told, json.dumps(asdict(after))


def send(title: str, body: str) -> list[str]:
    """Send a message to the services in TRACKGEN_NOTIFY, and return those that did not take it.

    Raises
    ------
    NoService
        If one of the addresses is of no service that is known.
    """
    to = services()
    missed = _deliver(to, range(len(to)), title, body, apprise.NotifyType.INFO)
    return [_spell(to[number]) for number in missed]


def services() -> list[apprise.NotifyBase]:
    """Return the services in TRACKGEN_NOTIFY: addresses of `apprise`, with blanks between them.

    Raises
    ------
    NoService
        If one of the addresses is of no service that is known.
    """
    found = []
    for number, url in enumerate(os.environ.get("TRACKGEN_NOTIFY", "").split(), start=1):
        service = apprise.Apprise.instantiate(url)
        if service is None:  # the address may hold a password, so it is not shown; nor is half a password
            scheme, colon, _ = url.partition("://")
            shown = f" ({scheme}://...)" if colon else ""
            raise NoService(
                f"TRACKGEN_NOTIFY: address {number}{shown} is of no service that apprise knows: see "
                "https://github.com/caronc/apprise/wiki (a blank within an address is written as %20)"
            )
        found.append(service)
    return found


def describe(session: Session, errors: Collection[ChunkError]) -> tuple[str, str]:
    """Return title and body of the message about a session."""
    title = f"Trackgen: {session.mode} session {session.session} {session.status}"
    lines = [
        f"{session.start} to {session.end}, users: {session.users}",
        f"{session.completed_chunks:,} of {counted(session.total_chunks, 'chunk')}, "
        f"{counted(session.tracks_created, 'track')}",
    ]
    if session.duration_s is not None:
        lines.append(f"{session.duration_s:.1f} s")
    lines += [f"failed: {error}" for error in list(errors)[:SHOWN]]
    if len(errors) > SHOWN:
        lines.append(f"... and {len(errors) - SHOWN} more")
    if session.status != "completed":
        lines.append(f"Try it again with: trackgen sessions retry {session.session}")
    return title, "\n".join([*lines, *session.links[:1]])


def _send_about(
    session: Session,
    errors: Collection[ChunkError],
    store: Store,
    silent: Collection[str],
    to: Sequence[apprise.NotifyBase],
    numbers: Collection[int],
) -> list[int]:
    users = session.named_users or store.user_names()
    wanted = [error for error in errors if not error.users or set(error.users) - set(silent)]
    if (users and set(users) <= set(silent)) or (errors and not wanted):
        return []
    return _deliver(to, numbers, *describe(session, wanted), KINDS[session.status])


def _deliver(
    to: Sequence[apprise.NotifyBase], numbers: Collection[int], title: str, body: str, kind: apprise.NotifyType
) -> list[int]:
    """Send a message to some of the services, and return the numbers of those that did not take it."""
    missed = []
    for number in numbers:
        if number < len(to):  # there may be fewer than there were
            one = apprise.Apprise()
            one.add(to[number])
            if not one.notify(body, title, kind, body_format=apprise.NotifyFormat.TEXT):
                missed.append(number)
    return missed


def _spell(service: apprise.NotifyBase) -> str:
    """Return the address of a service without its password, and without parameters: they may be secret, too."""
    return str(service.url(privacy=True)).partition("?")[0]


def _ended_at(session: Session) -> datetime:
    return datetime.fromisoformat(session.completed or session.created)


def _touched(instance: dg.DagsterInstance, since: datetime, *, first: bool) -> list[str]:
    """Return the sessions of which a run has ended or changed thereafter, the oldest first, and those of new backfills.

    A backfill changes without a trace, so who has seen one that has not ended has to look at it again.
    """
    records = instance.get_run_records(dg.RunsFilter(updated_after=since))
    runs = [record.dagster_run for record in reversed(records) if is_ours(record.dagster_run)]
    backfills = [*instance.get_backfills(filters=BulkActionsFilter(created_after=since))]
    if first:
        unfinished = [status for status in BulkActionStatus if status not in BULK_ACTION_TERMINAL_STATUSES]
        backfills += instance.get_backfills(filters=BulkActionsFilter(statuses=unfinished))
    busy = {session_of(run) for run in runs if not run.is_finished}  # their turn comes when that run ends
    names = [name for run in runs if (name := session_of(run)) not in busy]
    return names + [session_of(backfill) for backfill in reversed(backfills) if is_ours(backfill)]
