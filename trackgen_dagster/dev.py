"""`dagster dev`, webserver and daemon over one code server, but with our webserver."""

from __future__ import annotations

from collections.abc import Sequence
from subprocess import Popen
from typing import Any

from dagster._cli import dev
from dagster_shared.ipc import open_ipc_subprocess

from trackgen_dagster import webserver


def _start(parts: Sequence[str], **kwargs: Any) -> Popen[Any]:  # noqa: ANN401 - whatever Popen takes
    return open_ipc_subprocess(
        [webserver.__name__ if part == "dagster_webserver" else part for part in parts], **kwargs
    )


def main() -> None:
    """Run `dagster dev`, which starts its webserver as a module of a fixed name."""
    dev.open_ipc_subprocess = _start
    dev.dev_command()


if __name__ == "__main__":
    main()
