"""What Dagster loads: the graph as a whole, the ways to load it, and that the library does without Dagster."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from trackgen_dagster.definitions import defs
from trackgen_dagster.instance import WORKSPACE_YAML
from trackgen_dagster.resources import TrackStore

ROOT = Path(__file__).parents[2]

GRAPH = {
    "points": {"deps": {}, "kinds": {"sqlite"}, "executable": False, "backfill": None},
    "segments": {
        "deps": {"points": (-1, 1)},
        "kinds": {"python", "pandas", "sqlite"},
        "executable": True,
        "backfill": dg.BackfillPolicy.multi_run(366),
    },
    "tracks": {
        "deps": {"segments": (-1, 1)},
        "kinds": {"python", "pandas", "sqlite"},
        "executable": True,
        "backfill": dg.BackfillPolicy.multi_run(366),
    },
    "daily_summaries": {"deps": {"tracks": (0, 0)}, "kinds": {"sqlite"}, "executable": False, "backfill": None},
}
"""Assets, and on which days of others a day of them depends: from the first offset to the last."""

CHECKS = {"days_add_up", "legs_tile", "no_overlap", "points_conserved", "sample_recomputed"}


def run(*command: str, home: Path, **environment: str) -> str:
    """Run a command in the root of the project, on a Dagster home of its own, and return what it prints."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("TRACKGEN_", "DAGSTER_"))}
    result = subprocess.run(
        command,
        cwd=ROOT,
        env=clean | {"DAGSTER_HOME": str(home), "NO_COLOR": "1", "COLUMNS": "200"} | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout + result.stderr


def script(name: str) -> str:
    path = Path(sys.executable).with_name(name)
    if not path.exists():
        pytest.skip(f"{name} is not installed")
    return str(path)


def test_the_graph_is_what_the_design_says() -> None:
    graph = defs.resolve_asset_graph()
    found: dict[str, dict[str, Any]] = {}
    for key in graph.get_all_asset_keys():
        node = graph.get(key)
        assert node.group_name == "trackgen"
        mappings = {parent: graph.get_partition_mapping(key, parent_asset_key=parent) for parent in node.parent_keys}
        found[key.to_user_string()] = {
            "deps": {
                parent.to_user_string(): (mapping.start_offset, mapping.end_offset)
                for parent, mapping in mappings.items()
            },
            "kinds": node.kinds,
            "executable": node.is_executable,
            "backfill": node.backfill_policy,
        }
    assert found == GRAPH


def test_partitions_are_days_in_utc_and_the_edges_need_no_neighbours() -> None:
    graph = defs.resolve_asset_graph()
    for name in GRAPH:
        days = graph.get(dg.AssetKey(name)).partitions_def
        assert isinstance(days, dg.DailyPartitionsDefinition)
        assert (days.timezone, days.minute_offset, days.hour_offset) == ("UTC", 0, 0)
        assert days.get_first_partition_key() == "2000-01-01"
    mapping = graph.get_partition_mapping(dg.AssetKey("tracks"), parent_asset_key=dg.AssetKey("segments"))
    assert isinstance(mapping, dg.TimeWindowPartitionMapping)
    assert mapping.allow_nonexistent_upstream_partitions


def test_checks_jobs_and_resources() -> None:
    graph = defs.resolve_asset_graph()
    assert {(key.asset_key.to_user_string(), key.name) for key in graph.asset_check_keys} == {
        ("tracks", name) for name in CHECKS
    }
    job = defs.resolve_job_def("generate")
    nodes = {node.name for node in job.graph.nodes}
    assert nodes == {"segments", "tracks", "follows_from_points"}
    assert isinstance(job.partitions_def, dg.DailyPartitionsDefinition)
    assert job.executor_def.name == "in_process"
    assert {job.name for job in defs.resolve_all_job_defs() if not job.name.startswith("__")} >= {"generate"}
    assert [type(resource) for resource in (defs.resources or {}).values()] == [TrackStore]


def test_everything_says_what_it_is() -> None:
    graph = defs.resolve_asset_graph()
    descriptions = {key.to_user_string(): graph.get(key).description for key in graph.get_all_asset_keys()}
    descriptions |= {key.name: graph.get(key).description for key in graph.asset_check_keys}
    descriptions["generate"] = defs.resolve_job_def("generate").description
    for asset in ("segments", "tracks"):
        config = defs.resolve_job_def("generate").graph.node_named(asset).definition.config_schema
        fields = config.config_type.fields
        assert set(fields) == {"users", "only_dirty", "workers"}
        descriptions |= {f"{asset}.{name}": field.description for name, field in fields.items()}
    assert [name for name, text in descriptions.items() if not (text or "").strip()] == []


def test_the_ui_loads_the_same_workspace_as_the_repository() -> None:
    assert yaml.safe_load((ROOT / "workspace.yaml").read_text()) == yaml.safe_load(WORKSPACE_YAML)


def test_the_workspace_loads_and_says_nothing_of_betas(tmp_path: Path) -> None:
    out = run(script("dagster"), "definitions", "validate", "-w", "workspace.yaml", home=tmp_path)
    assert "Validation successful for code location trackgen" in out
    assert "BetaWarning" not in out


def test_dg_lists_the_definitions(tmp_path: Path) -> None:
    out = run(script("dg"), "list", "defs", "--json", home=tmp_path)
    for name in (*GRAPH, *CHECKS, "generate"):
        assert f'"{name}"' in out or f":{name}" in out, name


def test_the_library_imports_no_dagster(tmp_path: Path) -> None:
    code = (
        "import importlib, pkgutil, sys, trackgen_core\n"
        "names = [m.name for m in pkgutil.walk_packages(trackgen_core.__path__, 'trackgen_core.')]\n"
        "for name in names:\n"
        "    if not name.endswith('.env'): importlib.import_module(name)\n"  # that one only Alembic can run
        "print(len(names), sorted(m for m in sys.modules if m.partition('.')[0].startswith('dagster')))\n"
    )
    count, _, loaded = run(sys.executable, "-c", code, home=tmp_path).strip().partition(" ")
    assert int(count) > 10
    assert loaded == "[]"


def test_the_first_day_is_read_from_the_environment(tmp_path: Path) -> None:
    code = "from trackgen_dagster.partitions import daily; print(daily.get_first_partition_key())"
    assert run(sys.executable, "-c", code, home=tmp_path, TRACKGEN_START_DATE="2015-07-01").strip() == "2015-07-01"


def test_owners_are_those_of_the_environment(tmp_path: Path) -> None:
    code = (
        "from trackgen_dagster.definitions import defs\n"
        "graph = defs.resolve_asset_graph()\n"
        "print({key.to_user_string(): graph.get(key).owners for key in graph.get_all_asset_keys()})"
    )
    for said, owners in (("", []), (" me@example.org, team:maps,me@example.org,", ["me@example.org", "team:maps"])):
        found = run(sys.executable, "-c", code, home=tmp_path, TRACKGEN_OWNERS=said)
        assert ast.literal_eval(found) == dict.fromkeys(GRAPH, owners)
