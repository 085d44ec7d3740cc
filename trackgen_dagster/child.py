"""A module of Python, run as a child that ends when its parent does, however the parent ended.

`python -m trackgen_dagster.child PID MODULE ARGUMENT...` runs a module as `python -m MODULE ARGUMENT...` would.
"""

from __future__ import annotations

import logging
import os
import runpy
import signal
import sys
import threading
import time
from typing import Final

LOOK_S: Final = 0.5
"""How often it looks whether its parent is there."""

PATIENCE_S: Final = 15.0
"""How long it may take to end in order."""

NEW_HOME: Final = ("dagster.daemon.EventLogConsumerDaemon", "No cursor for event type")
"""A logger, and what it warns of when a home is new."""


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK_S)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(PATIENCE_S)
    os._exit(1)


def main() -> None:
    """Run the module that the arguments name."""
    parent, module = int(sys.argv[1]), sys.argv[2]
    sys.argv = [module, *sys.argv[3:]]
    threading.Thread(target=_watch, args=(parent,), name="parent", daemon=True).start()
    name, message = NEW_HOME
    logging.getLogger(name).addFilter(lambda record: not record.getMessage().startswith(message))
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
