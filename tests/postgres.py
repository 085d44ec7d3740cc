"""A PostgreSQL server of our own, on a Unix socket, with databases that are made and dropped as tests need them."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: int(folder.parent.name))
SOCKET_LENGTH = 100
"""The path of a Unix socket is no longer than that."""


class Server:
    """A server that is running."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self.folder = folder
        self.programs = programs
        self.url = f"postgresql://trackgen@/postgres?host={folder}"
        """Of its first database."""

    def run(self, program: str, *arguments: object) -> None:
        """Run a program of PostgreSQL on the data of this server, as a user that it accepts."""
        user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        command = [*user, self.programs / program, "-D", self.folder / "data", *arguments]
        done = subprocess.run([*map(str, command)], capture_output=True, text=True, cwd=self.folder)
        assert done.returncode == 0, done.stdout + done.stderr

    def restart(self) -> None:
        """Stop the server as if its power had failed, and start it again."""
        self.run("pg_ctl", "restart", "-m", "immediate", "-w", "-l", self.folder / "log")


@contextmanager
def running_server() -> Iterator[str]:
    """Start a server that forgets everything, and yield the URL of its first database."""
    with running() as server:
        yield server.url


@contextmanager
def running() -> Iterator[Server]:
    """Start a server that forgets everything, and yield it."""
    if not PROGRAMS and not shutil.which("initdb"):
        pytest.skip("PostgreSQL is not installed (Debian's package `postgresql`)")
    programs = PROGRAMS[-1] if PROGRAMS else Path(str(shutil.which("initdb"))).parent
    with tempfile.TemporaryDirectory(prefix="trackgen-pg-", ignore_cleanup_errors=True) as folder:
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres", "postgres")
        server = Server(Path(folder), programs)
        options = f"-c listen_addresses= -k {folder} -c fsync=off -c max_connections=60"
        server.run("initdb", "-U", "trackgen", "-A", "trust", "-E", "UTF8", "--no-sync")
        server.run("pg_ctl", "-o", options, "-l", server.folder / "log", "-w", "start")
        try:
            yield server
        finally:
            server.run("pg_ctl", "-m", "immediate", "-w", "stop")


class Databases:
    """Databases of a server by number."""

    def __init__(self, server: str) -> None:
        self.server = server
        self.made = 0

    def new(self) -> str:
        """Make an empty database and return its URL."""
        self.made += 1
        name = f"trackgen_{self.made}"
        with psycopg.connect(self.server, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} STRATEGY file_copy")
        return self.server.replace("/postgres?", f"/{name}?")

    def drop_all(self) -> None:
        """Drop what was made."""
        with psycopg.connect(self.server, autocommit=True) as connection:
            for number in range(1, self.made + 1):
                connection.execute(f"DROP DATABASE IF EXISTS trackgen_{number} WITH (FORCE)")


@contextmanager
def postgis_databases() -> Iterator[Databases]:
    """Start a server that forgets everything, and yield its databases; skip the tests where there is no PostGIS."""
    with running_server() as server:
        with psycopg.connect(server, autocommit=True) as connection:
            found = connection.execute("SELECT FROM pg_available_extensions WHERE name = 'postgis'").fetchone()
        if found is None:
            pytest.skip("PostGIS is not installed (Debian's package `postgresql-postgis`)")
        yield Databases(server)
