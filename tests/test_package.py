"""The wheel holds what the source tree holds, and works without it."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.repository import ROOT, copy_of_the_repository

PACKAGES = ("trackgen_core", "trackgen_dagster")


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build from a copy of what is in the repository, so that nothing is left of earlier builds and nothing in it."""
    source = copy_of_the_repository(tmp_path_factory.mktemp("source"))
    target = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(target), str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return target


def sources() -> set[str]:
    files = (path for package in PACKAGES for path in (ROOT / package).rglob("*") if path.is_file())
    return {path.relative_to(ROOT).as_posix() for path in files if "__pycache__" not in path.parts}


def test_the_wheel_holds_every_file_of_the_packages_and_nothing_else(dist: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name for name in names if ".dist-info/" not in name} == sources()
    assert {name.partition("/")[2] for name in names if ".dist-info/" in name} >= {
        "METADATA",
        "entry_points.txt",
        "licenses/LICENSE",
    }


def test_the_source_distribution_can_be_built_from(dist: Path) -> None:
    (archive,) = dist.glob("*.tar.gz")
    with tarfile.open(archive) as files:
        names = {name.partition("/")[2] for name in files.getnames()}
    assert names >= sources() | {"pyproject.toml", "README.md", "LICENSE"}


def test_the_wheel_works_where_there_are_no_sources(dist: Path, tmp_path: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")
    (tmp_path / "points.csv").write_text(
        "timestamp,lon,lat\n2025-06-02T10:00:00Z,8.1,47.1\n2025-06-02T10:01:00Z,8.2,47.1\n"
    )
    code = (
        "import sys; sys.path.insert(0, 'installed'); import trackgen_core; "
        "from trackgen_dagster.cli import main; "
        "assert trackgen_core.__file__.startswith(sys.argv.pop(1)), trackgen_core.__file__; main()"
    )
    environment = {"TRACKGEN_HOME": str(tmp_path / "home"), "PATH": ""}
    command = [sys.executable, "-P", "-c", code, str(tmp_path), "import", "points.csv", "--user", "me"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert re.match(r"read 2 +new 2 ", done.stdout.splitlines()[-1])
