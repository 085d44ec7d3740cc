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
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from trackgen_core.generation import Window, WindowResult, make_segments, make_tracks
from trackgen_core.home import open_store
from trackgen_core.store import Stage, Store

PARENT_WATCH_S: Final = 1.0
"""How often a worker looks whether its parent is still there."""

TRIAL_S: Final = 1.0
"""Work that is done by then is done without workers: they take a second or two to start."""

AHEAD: Final = 2
"""Windows handed to each worker ahead of time, so that it never waits for the next."""

_store: Store
"""The store of a worker process."""


@dataclass(frozen=True)
class WindowFailure:
    """A window that could not be done."""

    window: Window
    error: str
    traceback: str


def default_workers() -> int:
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def do_windows(
    store: Store, stage: Stage, windows: Sequence[Window], workers: int
) -> Iterator[WindowResult | WindowFailure]:
    """Do windows of one stage and yield what became of each, as they come.

    Parameters
    ----------
    store : Store
        The store; workers open their own connections to its database.
    stage : {"segments", "tracks"}
        What to make. Tracks are made one window after the other, since their writers take turns anyway.
    windows : sequence of Window
        What to do. A window that fails does not keep the others from being done.
    workers : int
        How many processes to use, this one included.
    """
    todo = deque(windows)
    started = time.monotonic()
    while todo and (stage == "tracks" or workers == 1 or time.monotonic() - started < TRIAL_S):
        yield _do(store, stage, todo.popleft())
    if not todo:
        return
    # This process works along, so that nothing is lost while the others start.
    broken: list[Window] = []
    with _pool(store, workers - 1) as pool:
        handed: dict[Future[WindowResult | WindowFailure], Window] = {}
        while todo or handed:
            while todo and not broken and len(handed) < AHEAD * (workers - 1):
                window = todo.popleft()
                try:
                    handed[pool.submit(_do_in_worker, window)] = window
                except BrokenProcessPool:
                    broken.append(window)
            if todo:
                yield _do(store, stage, todo.popleft())
            else:
                wait(handed, return_when=FIRST_COMPLETED)
            for future in [future for future in handed if future.done()]:
                window = handed.pop(future)
                if isinstance(future.exception(), BrokenProcessPool):
                    broken.append(window)
                else:
                    yield future.result()
    # A worker that dies takes the pool with it. What was not done is tried again, one window at a time: so the one that
    # kills its worker is known.
    while broken:
        with _pool(store, 1) as pool:
            try:
                while broken:
                    yield pool.submit(_do_in_worker, broken[0]).result()
                    broken.pop(0)
            except BrokenProcessPool as error:
                yield _failure(broken.pop(0), error)


@contextmanager
def _pool(store: Store, workers: int) -> Iterator[ProcessPoolExecutor]:
    pool = ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start_worker,
        initargs=(store.database.url, os.getpid()),
    )
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _do(store: Store, stage: Stage, window: Window) -> WindowResult | WindowFailure:
    try:
        return make_segments(store, window) if stage == "segments" else make_tracks(store, window)
    except Exception as error:  # noqa: BLE001 - whatever it is, the other windows are done and this one is reported
        return _failure(window, error)


def _failure(window: Window, error: BaseException) -> WindowFailure:
    return WindowFailure(window, f"{type(error).__name__}: {error}", "".join(traceback.format_exception(error)))


def _start_worker(url: str, parent: int) -> None:
    global _store
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides what it means
    threading.Thread(target=_die_with, args=(parent,), daemon=True).start()
    _store = open_store(url)


def _die_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(PARENT_WATCH_S)
    os._exit(1)


def _do_in_worker(window: Window) -> WindowResult | WindowFailure:
    return _do(_store, "segments", window)
