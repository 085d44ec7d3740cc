"""Does the wheel work on the other Pythons that it promises? `make pythons` tries each that is installed here.

A GPX file goes all the way to tracks and a map, and must come to the same as on the Python that runs this; so must some
of the tests of the core. What was installed before is taken again unless the versions of packages have changed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
BUILD: Final = ROOT / "build" / "pythons"
VERSIONS: Final = ("3.12", "3.13")
TESTED_WITH: Final = ("hypothesis", "pytest")
TESTS: Final = ("test_export.py", "test_readers.py")
"""Quick, and about what differs between Pythons: files, archives, XML, dates."""
GPX: Final = """<gpx version="1.1" creator="t" xmlns="http://www.topografix.com/GPX/1/1"><trk><trkseg>
{}</trkseg></trk></gpx>"""
TRKPT: Final = '<trkpt lat="47.1" lon="{:.4f}"><ele>{}</ele><time>2025-06-01T10:{:02}:00Z</time></trkpt>\n'


def find(version: str) -> Path | None:
    """Return an interpreter of a version that runs, from the path or from pyenv."""
    on_path = shutil.which(f"python{version}")
    versions = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"), reverse=True)
    for python in ([Path(on_path)] if on_path else []) + versions:
        if subprocess.run([python, "-c", "import ensurepip, venv"], capture_output=True).returncode == 0:
            return python
    return None


def install(python: Path, version: str, wheel: Path) -> Path:
    """Return an environment's interpreter, with the wheel and what the tests need."""
    packages = (ROOT / "constraints.txt").read_bytes() + (ROOT / "pyproject.toml").read_bytes()
    folder = BUILD / f"{version}-{hashlib.sha256(packages).hexdigest()[:12]}"
    ours = folder / "bin/python"
    pip = [ours, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
    if (folder / "whole").exists():
        subprocess.run([*pip, "--no-deps", "--force-reinstall", wheel], check=True)
    else:
        subprocess.run([python, "-m", "venv", "--clear", folder], check=True)
        subprocess.run([*pip, "-c", ROOT / "constraints.txt", wheel, *TESTED_WITH], check=True)
        (folder / "whole").touch()
    return ours


def results(python: Path, folder: Path) -> str:
    """Import a file, make tracks and a map of it, and return what there is to see of them."""
    folder.mkdir()
    points = "".join(TRKPT.format(8 + i / 1000, 400 + i, i) for i in range(30))
    (folder / "ride.gpx").write_text(GPX.format(points))
    environment = {"HOME": str(folder), "TRACKGEN_HOME": str(folder / "home"), "PATH": os.defpath}

    def trackgen(*args: str) -> str:
        # -P: of what lies in the working directory, nothing is imported.
        command = [python, "-P", "-m", "trackgen_dagster.cli", *args]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{python}: trackgen {' '.join(args)}\n{done.stdout}{done.stderr}")
        return done.stdout

    seen = trackgen("import", "ride.gpx", "--user", "me")
    trackgen("generate")
    seen += trackgen("tracks", "list", "--json")
    seen += trackgen("map", "-o", "map.html")
    return seen + (folder / "map.html").read_text("utf-8")


def run_tests(python: Path, folder: Path) -> None:
    """Run some tests of the core against the wheel: from a copy, without the sources beside it."""
    shutil.copytree(ROOT / "tests", folder / "tests")
    tests = [f"tests/core/{name}" for name in TESTS]
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)


def try_python(version: str, python: Path, wheel: Path, folder: Path, expected: str) -> str:
    """Return how long it took to find that all is well."""
    started = time.monotonic()
    ours = install(python, version, wheel)
    installed = time.monotonic()
    if results(ours, folder) != expected:
        raise SystemExit(f"Python {version}: not the same tracks and map as on {sys.version}")
    run_tests(ours, folder)
    return f"installed in {installed - started:.0f} s, tried in {time.monotonic() - installed:.0f} s"


def main() -> None:
    """Try all that are here, at once."""
    found = {version: python for version in VERSIONS if (python := find(version))}
    for version in VERSIONS:
        if version not in found:
            print(f"Python {version}: none here")
    if not found:  # the wheel is tried all the same
        found["{}.{}".format(*sys.version_info)] = Path(sys.executable)
    for left in (BUILD / "dist", ROOT / "build" / "lib"):  # of builds before, which would get into this one
        shutil.rmtree(left, ignore_errors=True)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", BUILD / "dist", ROOT]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = (BUILD / "dist").glob("*.whl")
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor() as pool:
        folder = Path(name)
        expected = results(Path(sys.executable), folder / "here")
        tried = {
            version: pool.submit(try_python, version, python, wheel, folder / version, expected)
            for version, python in found.items()
        }
        for version, said in tried.items():
            print(f"Python {version}: {said.result()}")


if __name__ == "__main__":
    main()
