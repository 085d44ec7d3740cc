"""The gate fails where it is to fail: each check is given something that is wrong."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.repository import ROOT, copy_of_the_repository


def recipe(target: str) -> list[str]:
    """The commands of a target of the Makefile, with the programs of this environment."""
    lines = (ROOT / "Makefile").read_text().partition(f"\n{target}:")[2].split("\n")[1:]
    commands = [line.strip() for line in lines[: next(i for i, line in enumerate(lines) if not line.startswith("\t"))]]
    return [command.replace("$(BIN)", str(Path(sys.executable).parent)) for command in commands]


def code_of(command: str, folder: Path) -> int:
    return subprocess.run(command, shell=True, cwd=folder, capture_output=True).returncode


@pytest.mark.parametrize(
    ("program", "file", "fault"),
    [
        ("ruff check", "trackgen_core/words.py", "import os\n"),
        ("ruff format", "trackgen_core/words.py", "x = 'single'\n"),
        ("mypy", "trackgen_core/words.py", 'x: int = "text"\n'),
        ("mkdocs", "docs/faq.md", "\n[nowhere](no-such-page.md)\n"),
        ("mkdocs", "docs/not-in-the-list.md", "# A page that is in no list\n"),
    ],
)
def test_each_check_of_lint_can_fail(tmp_path: Path, program: str, file: str, fault: str) -> None:
    folder = copy_of_the_repository(tmp_path)
    (command,) = [line for line in recipe("lint") if program in line]
    if program == "mypy":
        command += f" {file}"  # all of it takes a minute
    assert code_of(command, folder) == 0
    with (folder / file).open("a") as out:
        out.write(fault)
    assert code_of(command, folder) != 0


def test_a_test_that_is_not_run_fails_where_all_have_to_run(tmp_path: Path) -> None:
    shutil.copy(ROOT / "tests/conftest.py", tmp_path)
    (tmp_path / "test_one.py").write_text(
        "import pytest\n@pytest.mark.skip(reason='none here (Debian\\'s package `none`)')\ndef test_one(): pass\n"
        "def test_other(): pass\n"
    )
    command = f"{sys.executable} -m pytest -q -p no:cacheprovider -n 2 {tmp_path}"
    assert code_of(f"env -u TEST_REQUIRES_ALL {command}", tmp_path) == 0
    assert code_of(f"TEST_REQUIRES_ALL=1 {command}", tmp_path) == 1
    assert re.search(r"^TEST_REQUIRES_ALL=1 make test$", (ROOT / ".ci/run").read_text(), re.MULTILINE)
