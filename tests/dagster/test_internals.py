"""Each name that Dagster keeps private is where `internals` looks for it, and nobody else looks."""

from __future__ import annotations

import ast
import importlib
import importlib.util
from pathlib import Path

import pytest

from trackgen_dagster import internals

PACKAGE = Path(internals.__file__).parent


def private_names(path: Path) -> list[tuple[str, str]]:
    """The private modules of Dagster that a file imports from, each with a name."""
    imports = [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.ImportFrom)]
    return [
        (node.module, alias.name)
        for node in imports
        if node.module and node.module.startswith("dagster") and "._" in node.module
        for alias in node.names
    ]


@pytest.mark.parametrize(("module", "name"), private_names(Path(internals.__file__)))
def test_dagster_still_has_it(module: str, name: str) -> None:
    assert hasattr(importlib.import_module(module), name), f"this Dagster has no {name} in {module}: see internals.py"


@pytest.mark.parametrize("module", [internals.DAEMON_MODULE, internals.NO_LOGS_MODULE])
def test_modules_that_are_named_are_there(module: str) -> None:
    assert importlib.util.find_spec(module), f"this Dagster has no module {module}: see internals.py"


def test_all_of_them_are_used() -> None:
    used = {
        alias.name
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module == internals.__name__
        for alias in node.names
    }
    assert used == set(internals.__all__)


def test_nobody_else_looks_behind_dagsters_doors() -> None:
    others = [path for path in PACKAGE.rglob("*.py") if path.name != "internals.py"]
    assert not [path.name for path in others if private_names(path)]
