"""Many windows at once: worker processes that do a window each and die with their parent."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from heapq import heappop, heappush
from multiprocessing import forkserver
from typing import Final

from trackgen_core.failures import DEFAULT_BACKOFF, Backoff, Kind, classify, describe, is_disk_full
from trackgen_core.generation import Window, WindowResult, make_segments, make_tracks
from trackgen_core.home import open_store
from trackgen_core.store import Stage, Store

TRIAL_S: Final = 1.0
"""What a process is done with by then, it does without workers: the first ones take a second or two to start."""

START_S: Final = 0.1
"""How long nothing is done until the first worker is there, which takes no longer if the server is."""

MANY: Final = 8
"""Windows that are likely to take longer: for them, what workers need is loaded from the beginning."""

MANY_POINTS: Final = 100_000
"""After so many, what PostgreSQL knows of its tables is out of date; a check that takes 0.2 s would take minutes."""

PRELOADED: Final = (__name__,)
"""What a server imports once; every worker is forked from it, so that those of later stages start at once."""

AHEAD: Final = 2
"""Windows handed to each worker, so that it never waits for the next; one, if nobody else would have any."""

MOST_FAILURES: Final = 100
"""Single days that may fail for good. Beyond that, something is wrong with many of them: windows are only cut between
users, and what fails is neither tried again nor made a dead letter."""


@dataclass(frozen=True)
class WindowFailure:
    """A window that could not be done."""

    window: Window
    error: str
    traceback: str
    kind: Kind
    attempts: int = 1
    """How often it was tried; 0 if the database was away before its turn came."""
    version: int | None = None
    """The token of its entry on the work list before the last attempt, if it is a single day that was listed."""


def default_workers() -> int:
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def do_windows(
    store: Store, stage: Stage, windows: Sequence[Window], workers: int, backoff: Backoff = DEFAULT_BACKOFF
) -> Iterator[WindowResult | WindowFailure]:
    """Do windows of one stage and yield what became of each, as they come.

    A window that fails is cut in two, again and again, so that in the end only those days fail that cannot be done. A
    single day is tried again a few times; if it fails for good, its entry on the work list becomes a dead letter. If
    the database is away, it is the whole window that is tried again; if it stays away, the rest is not tried.

    Parameters
    ----------
    store : Store
        The store; workers open their own connections to its database.
    stage : {"segments", "tracks"}
        What to make.
    windows : sequence of Window
        What to do. A window that fails does not keep the others from being done.
    workers : int
        How many processes to use, this one included.
    backoff : Backoff
        How often to try, and how long to wait in between; other windows are done meanwhile.

    Yields
    ------
    WindowResult or WindowFailure
        Of each window, or of each of the parts into which it was cut.
    """
    global _alone_s
    queue = _Queue(store, stage, windows, backoff)
    if workers > 1 and len(windows) >= MANY:
        _serve()
    while queue and (workers == 1 or len(queue.ready) < 2 or _alone_s < TRIAL_S):
        window, started = queue.wait(), time.monotonic()
        outcome = _do(store, stage, window)
        _alone_s += time.monotonic() - started
        yield from queue.settle(outcome)
    if queue:
        yield from _do_with_workers(queue, workers)
    if queue.points >= MANY_POINTS and queue.away is None:
        store.refresh_statistics(stage)
    yield from queue.untried()


class _Queue:
    """The windows that are to be done, now or later, and what becomes of those that fail.

    It is true as long as there is anything to do.
    """

    def __init__(self, store: Store, stage: Stage, windows: Sequence[Window], backoff: Backoff) -> None:
        self.store = store
        self.stage = stage
        self.backoff = backoff
        self.ready = deque(windows)
        self.later: list[tuple[float, Window]] = []
        """A heap: when a window that failed is due again."""
        self.failures: dict[Window, WindowFailure] = {}
        """What the windows that are done later failed with."""
        self.points = 0
        """Points of the windows that are done."""
        self.lost = 0
        """Single days that have failed for good."""
        self.away: str | None = None
        """Why nothing is tried any more."""

    def __bool__(self) -> bool:
        return self.away is None and bool(self.ready or self.later)

    def take(self) -> Window | None:
        """Return a window that can be done now; one that failed and is due again comes first."""
        if self.away is not None:
            return None
        if self.later and self.later[0][0] <= time.monotonic():
            return heappop(self.later)[1]
        return self.ready.popleft() if self.ready else None

    def pause_s(self) -> float | None:
        """Return the seconds until a window is due again, if any is."""
        return max(0.0, self.later[0][0] - time.monotonic()) if self and self.later else None

    def wait(self) -> Window:
        """Return a window that can be done now, once there is one."""
        while not (window := self.take()):
            time.sleep(self.pause_s() or 0.0)
        return window

    def settle(self, outcome: WindowResult | WindowFailure) -> Iterator[WindowResult | WindowFailure]:
        """Decide what becomes of a window: it is yielded if that is its end, and else put back, whole or in halves."""
        window = outcome.window
        earlier = self.failures.pop(window, None)
        if isinstance(outcome, WindowResult):
            self.points += outcome.points
            yield outcome
            return
        failure = replace(outcome, attempts=outcome.attempts + earlier.attempts) if earlier else outcome
        is_away = failure.kind == "database"
        hopeless = self.lost >= MOST_FAILURES
        if self.away is not None:
            yield failure
        elif not is_away and (len(window.user_ids) > 1 or (window.days > 1 and not hopeless)):
            self.ready.extendleft(reversed(window.halves()))
        elif failure.attempts < self.backoff.attempts and (is_away or not hopeless):
            self.failures[window] = failure
            heappush(self.later, (time.monotonic() + self.backoff.delay(failure.attempts), window))
        elif is_away:
            self.away = failure.error
            yield failure
        elif hopeless:
            yield failure
        else:
            self.lost += 1
            yield self._bury(failure)

    def untried(self) -> Iterator[WindowFailure]:
        """Yield what is left when nothing is tried any more, with what it failed with if it was tried at all."""
        for window in (*(window for _, window in sorted(self.later)), *self.ready):
            yield self.failures.get(window) or WindowFailure(window, f"not tried: {self.away}", "", "database", 0)

    def _bury(self, failure: WindowFailure) -> WindowFailure:
        """Make a dead letter of a single day."""
        if failure.version is None:
            return failure
        window, (user_id,) = failure.window, failure.window.user_ids
        try:
            with self.store.write([user_id]) as connection:
                self.store.note_failure(
                    connection, self.stage, user_id, window.lo_day, failure.version, failure.attempts, failure.error
                )
        except Exception as error:  # noqa: BLE001 - whatever it is, it is reported, and the day stays listed
            return replace(failure, error=f"{failure.error}; and this could not be noted: {_say(error)}")
        return failure


def _do_with_workers(queue: _Queue, workers: int) -> Iterator[WindowResult | WindowFailure]:
    # This process works along, so that nothing is lost while the others start, for which a thread waits.
    store, stage = queue.store, queue.stage
    broken: list[Window] = []
    handed: dict[Future[WindowResult | WindowFailure], Window] = {}
    with _pool(workers - 1) as pool, ThreadPoolExecutor(1) as starter:
        started = starter.submit(_start, pool)
        if not _warm.is_set():
            wait([started], START_S)
        while queue or handed:
            while (started.done() or _warm.is_set()) and len(queue.ready) > 1 and not broken:
                if len(handed) >= (AHEAD if len(queue.ready) > workers else 1) * (workers - 1):
                    break
                window = queue.ready.popleft()
                try:
                    handed[pool.submit(_do_in_worker, store.database.url, stage, window)] = window
                except BrokenProcessPool:
                    broken.append(window)
            if mine := queue.take():
                yield from queue.settle(_do(store, stage, mine))
            elif handed:
                wait(handed, timeout=queue.pause_s(), return_when=FIRST_COMPLETED)
            else:
                time.sleep(queue.pause_s() or 0.0)
            for future in [future for future in handed if future.done()]:
                window = handed.pop(future)
                if isinstance(future.exception(), BrokenProcessPool):
                    broken.append(window)
                else:
                    yield from queue.settle(future.result())
            if queue.away is not None:
                queue.ready.extend(handed.pop(future) for future in [*handed] if future.cancel())
    # A worker that dies takes the pool with it. What was not done is tried again, each window in a worker of its own:
    # so the one that kills its worker is known.
    queue.ready.extend(broken)
    while queue:
        yield from queue.settle(_do_apart(store, stage, queue.wait()))


_alone_s = 0.0
"""How long this process has worked without workers so far, be it for one run or for many short ones."""


def _serve() -> None:
    """Start the server that forks workers, if it is not there, without waiting for it."""
    forkserver.set_forkserver_preload([*PRELOADED])
    forkserver.ensure_running()


_warm: Final = threading.Event()
"""Whether a worker was there before: then others are at once, and work can be handed to them beforehand."""


def _start(pool: ProcessPoolExecutor) -> None:
    """Wait until the first worker is there, or cannot be, which whoever hands it work finds out."""
    if not wait([pool.submit(os.getpid)]).done.pop().exception():
        _warm.set()


@contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    _serve()
    context = multiprocessing.get_context("forkserver")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker)
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _do(store: Store, stage: Stage, window: Window) -> WindowResult | WindowFailure:
    version = None
    try:
        version = _version(store, stage, window)
        return make_segments(store, window) if stage == "segments" else make_tracks(store, window)
    except Exception as error:  # noqa: BLE001 - whatever it is, the other windows are done and this one is reported
        return _failure(window, error, version)


def _do_apart(store: Store, stage: Stage, window: Window) -> WindowResult | WindowFailure:
    version = None
    try:
        version = _version(store, stage, window)
        with _pool(1) as pool:
            try:
                pool.submit(os.getpid).result()
            except BrokenProcessPool as error:
                raise ChildProcessError("worker processes die as soon as they are started") from error
            return pool.submit(_do_in_worker, store.database.url, stage, window).result()
    except Exception as error:  # noqa: BLE001 - as above
        return _failure(window, error, version)


def _version(store: Store, stage: Stage, window: Window) -> int | None:
    """Return the token of the entry of a single day."""
    if window.user_days > 1:
        return None
    with store.read() as connection:
        listed = store.dirty(connection, stage, window.lo_day, window.hi_day, window.user_ids, dead=False)
    return int(listed["version"].iloc[0]) if len(listed) else None


def _failure(window: Window, error: BaseException, version: int | None) -> WindowFailure:
    trace = "".join(traceback.format_exception(error))
    return WindowFailure(window, _say(error), trace, classify(error), version=version)


def _say(error: BaseException) -> str:
    return describe(error) if is_disk_full(error) else f"{type(error).__name__}: {error}"


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides what it means
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


_open = cache(open_store)


def _do_in_worker(url: str, stage: Stage, window: Window) -> WindowResult | WindowFailure:
    try:
        store = _open(url)  # not when the worker starts: if the database is away, that is no reason to die
    except Exception as error:  # noqa: BLE001 - as above
        return _failure(window, error, None)
    return _do(store, stage, window)
