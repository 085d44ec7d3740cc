"""What `trackgen ui` starts: a code server, the webserver and the daemon, as children that end with it."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.request import Request, urlopen

import click
import psutil

from trackgen_dagster.instance import LOCATION, prepare_instance
from trackgen_dagster.internals import DAEMON_MODULE

HOST: Final = "127.0.0.1"
START_S: Final = 180.0
"""How long the webserver may take until it answers; it loads all of Dagster, and waits for the code server."""

STOP_S: Final = 20.0
LEFT_OVER_S: Final = 20.0
"""How long children of a `trackgen ui` that was killed may take to end and to free the port."""

LOOK_S: Final = 0.2
ANSWER_S: Final = 20.0
ENDS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that stop the UI."""

LOWEST_PORT: Final = 1024


class ServicesError(OSError):
    """The UI or the daemon cannot be started, or has ended by itself."""


@contextmanager
def only_one(name: str, **about: Any) -> Iterator[Path]:  # noqa: ANN401 - whatever JSON can say
    """Hold the lock of a service for as long as this process, and what it becomes by `exec`, lives.

    Parameters
    ----------
    name : str
        What is locked, `ui` or `daemon`: a file in Dagster's folder.
    about : JSON values
        What the next one is told of this one.

    Raises
    ------
    ServicesError
        If another process holds it.
    """
    path = prepare_instance() / f"{name}.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        other = _read(path)
        os.close(descriptor)
        where = f" at {other['url']}" if "url" in other else ""
        raise ServicesError(
            f"`trackgen {other.get('command', name)}` is running on this home already{where} (process "
            f"{other.get('pid', 'unknown')}): use that one, or stop it first"
        ) from None
    os.set_inheritable(descriptor, True)
    os.ftruncate(descriptor, 0)
    os.write(descriptor, json.dumps({"pid": os.getpid(), **about}).encode())
    try:
        yield path
    finally:
        os.ftruncate(descriptor, 0)
        os.close(descriptor)


def _read(path: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        found = json.loads(path.read_text())
        if isinstance(found, dict):
            return found
    return {}


def running_ui() -> str | None:
    """Return the address of the UI that runs on this home, None if there is none."""
    about = _read(prepare_instance() / "ui.lock")
    if "url" in about and "pid" in about and psutil.pid_exists(int(about["pid"])):
        return str(about["url"])
    return None


LOCATIONS: Final = """{
  workspaceOrError {
    ... on Workspace { locationEntries { name locationOrLoadError { ... on PythonError { message } } } }
  }
}"""


def code_locations(url: str) -> dict[str, str | None]:
    """Return the code locations of a UI by name, each with the error with which it could not be loaded.

    Raises
    ------
    ServicesError
        If the UI does not answer.
    """
    body = json.dumps({"query": LOCATIONS}).encode()
    request = Request(f"{url}/graphql", body, {"Content-Type": "application/json"})
    try:
        with urlopen(request, timeout=ANSWER_S) as answer:
            entries = json.load(answer)["data"]["workspaceOrError"]["locationEntries"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ServicesError(
            f"the UI at {url} does not answer ({error}): stop `trackgen ui`, and start it again"
        ) from error
    return {entry["name"]: (entry["locationOrLoadError"] or {}).get("message") for entry in entries}


def check_port(port: int, wait_s: float = 0.0) -> None:
    """Make sure that nobody listens at a port.

    Raises
    ------
    ServicesError
        If somebody does.
    """
    until = time.monotonic() + wait_s
    while not _is_free(port):
        if time.monotonic() >= until:
            free = next((other for other in range(max(port, LOWEST_PORT) + 1, 65536) if _is_free(other)), None)
            raise ServicesError(f"port {port} is in use" + (f"; try --port {free}" if free else ""))
        time.sleep(LOOK_S)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


@dataclass
class Service:
    """A child: a module of Python with its arguments."""

    name: str
    module: str
    arguments: Sequence[str]
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it. Ctrl-C is for the parent alone, which then stops its children in order."""
        command = [sys.executable, "-m", "trackgen_dagster.child", str(os.getpid()), self.module, *self.arguments]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)

    @property
    def exit_code(self) -> int | None:
        """What it ended with; None if it runs."""
        return self.process.poll() if self.process else None


def run_ui(port: int, *, verbose: bool = False, allow_hosts: Sequence[str] = ()) -> None:
    """Run the UI and the daemon until somebody stops them.

    Parameters
    ----------
    port : int
        Where the webserver listens, at 127.0.0.1.
    verbose : bool
        Show what the services do; by default, only what they warn of.
    allow_hosts : sequence of str
        Further names that the webserver answers for.

    Raises
    ------
    ServicesError
        If another one runs on this home, if the port is in use, or if a service ends by itself.
    """
    url = f"http://{HOST}:{port}"
    was_killed = bool(_read(prepare_instance() / "ui.lock"))
    with (
        only_one("ui", command="ui", url=url),
        only_one("daemon", command="ui", url=url),
        tempfile.TemporaryDirectory(prefix="trackgen-") as folder,
    ):
        check_port(port, LEFT_OVER_S if was_killed else 0.0)
        for number in ENDS:  # also where a shell without job control made its background job ignore Ctrl-C
            signal.signal(number, signal.default_int_handler)
        os.environ.setdefault("TRACKGEN_UI_URL", url)  # where links lead
        os.environ.setdefault("TRACKGEN_LOG_LEVEL", "info" if verbose else "warning")
        code_server, *others = _services(Path(folder), port, "info" if verbose else "warning", allow_hosts)
        services = [code_server, *others]
        try:
            code_server.start()
            _wait_for(code_server.name, services, lambda: _answers(socket.AF_UNIX, str(_end(folder))))
            for service in others:
                service.start()
            _wait_for("webserver", services, lambda: _answers(socket.AF_INET, (HOST, port)))
            click.echo(f"Trackgen's UI is at {url} (Ctrl-C stops it)")
            while True:
                time.sleep(LOOK_S)
                if code_server.exit_code is not None:  # the others wait for it
                    code_server.start()
                _raise_if_ended(others)
        except KeyboardInterrupt:
            pass
        finally:
            _stop(services)


def _services(folder: Path, port: int, level: str, allow_hosts: Sequence[str]) -> list[Service]:
    end = str(_end(folder))
    workspace = folder / "workspace.yaml"
    # JSON is YAML.
    server = {"socket": end, "location_name": LOCATION}
    workspace.write_text(json.dumps({"load_from": [{"grpc_server": server}]}))
    definitions = ["--module-name", "trackgen_dagster.definitions", "--location-name", LOCATION]
    names = [part for host in allow_hosts for part in ("--allow-host", host)]
    return [
        Service(
            "code server",
            "dagster",
            # It can load the definitions anew while runs go on.
            ["code-server", "start", "--socket", end, "--log-level", level, *definitions],
        ),
        Service(
            "webserver",
            "trackgen_dagster.webserver",
            ["-h", HOST, "-p", str(port), "-w", str(workspace), "--dagster-log-level", level, *names],
        ),
        Service("daemon", DAEMON_MODULE, ["run", "-w", str(workspace), "--log-level", level]),
    ]


def _end(folder: str | Path) -> Path:
    """Return the socket of the code server, in a folder that nobody else may enter."""
    return Path(folder) / "code.socket"


def _wait_for(name: str, services: Sequence[Service], answers: Callable[[], bool]) -> None:
    until = time.monotonic() + START_S
    while not answers():
        _raise_if_ended(services)
        if time.monotonic() > until:
            raise ServicesError(f"the {name} does not answer after {START_S:.0f} s: `trackgen ui -v` shows more")
        time.sleep(LOOK_S)


def _answers(family: socket.AddressFamily, address: Any) -> bool:  # noqa: ANN401 - what `connect` takes
    with socket.socket(family) as probe:
        probe.settimeout(1)
        return probe.connect_ex(address) == 0


def _raise_if_ended(services: Sequence[Service]) -> None:
    for service in services:
        if service.exit_code is not None:
            raise ServicesError(
                f"the {service.name} has ended with exit code {service.exit_code}; its last messages are above "
                "(`trackgen ui -v` shows more)"
            )


def _stop(services: Sequence[Service]) -> None:
    for number in ENDS:  # it stops already
        signal.signal(number, signal.SIG_IGN)
    running = [service.process.pid for service in services if service.process and service.exit_code is None]
    processes = [psutil.Process(pid) for pid in running]
    for process in reversed(processes):
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    _, alive = psutil.wait_procs(processes, STOP_S)
    for process in alive:
        with suppress(psutil.NoSuchProcess):
            process.kill()
