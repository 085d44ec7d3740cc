"""The program `trackgen`: Ctrl-C ends it without a traceback also while it still loads its commands."""

from __future__ import annotations

import signal


def main() -> None:
    """Run the command line."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from trackgen_dagster.cli import main as trackgen

    signal.signal(signal.SIGINT, before)
    trackgen(prog_name="trackgen")
