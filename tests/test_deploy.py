"""What is in deploy/ is what the code and the documents say, and holds no secret."""

from __future__ import annotations

import re
import shutil
import subprocess
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import yaml
from dagster._core.instance.ref import InstanceRef
from dagster._core.workspace.load_target import WorkspaceFileTarget

from trackgen_dagster.celery_launcher import WorkerLauncher
from trackgen_dagster.cli import main as trackgen
from trackgen_dagster.event_log import PostgresStorage
from trackgen_dagster.instance import DAGSTER_YAML

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
FILES = sorted(path for path in DEPLOY.rglob("*") if path.is_file())
KUBERNETES = DEPLOY / "kubernetes/values.yaml"
LAUNCHERS = {
    "dagster.yaml": "DefaultRunLauncher",
    "dagster-celery.yaml": "WorkerLauncher",
    "kubernetes/values.yaml": "K8sRunLauncher",
}
WEBSERVER = "trackgen-webserver"
URL = "postgresql://me@127.0.0.1:1/dagster"
PASSWORD = re.compile(r"(?i)(password|passwd|token)[\"']?\s*[=:][ \t]*[\"']?[^\s\"'#]|://[^/\s:@]*:[^\s@/]+@")
VARIABLE = re.compile(r"\$\{[^}]*\}")


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def settings_of(path: Path) -> str:
    """The text of the dagster.yaml that a file is or holds."""
    return load(path)["extraManifests"][0]["data"]["dagster.yaml"] if path == KUBERNETES else path.read_text()


@pytest.mark.parametrize("path", [path for path in FILES if path.suffix == ".yaml"], ids=lambda path: path.name)
def test_yaml_can_be_read(path: Path) -> None:
    assert isinstance(load(path), dict)


@pytest.mark.parametrize(("name", "launcher"), LAUNCHERS.items())
def test_dagster_takes_the_settings(name: str, launcher: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKGEN_DAGSTER_POSTGRES_URL", URL)
    monkeypatch.setenv("TRACKGEN_BROKER_URL", "redis://127.0.0.1:1/0")
    (tmp_path / "dagster.yaml").write_text(settings_of(DEPLOY / name))
    ref = InstanceRef.from_dir(str(tmp_path))
    assert ref.storage_data.class_name == PostgresStorage.__name__
    assert yaml.safe_load(ref.storage_data.config_yaml) == {"postgres_url": {"env": "TRACKGEN_DAGSTER_POSTGRES_URL"}}
    assert ref.run_launcher_data is not None
    assert ref.run_launcher_data.class_name == launcher
    if launcher == "WorkerLauncher":
        assert isinstance(ref.run_launcher, WorkerLauncher)
        assert ref.run_launcher.broker == "redis://127.0.0.1:1/0"


@pytest.mark.parametrize("name", LAUNCHERS)
def test_the_settings_are_those_of_the_embedded_instance(name: str) -> None:
    found, expected = yaml.safe_load(settings_of(DEPLOY / name)), yaml.safe_load(DAGSTER_YAML)
    for differs in ("storage", "event_log_storage", "run_launcher", "concurrency"):
        found.pop(differs, None)
        expected.pop(differs, None)
    found["run_monitoring"].pop("poll_interval_seconds", None)
    assert found == expected


def test_the_workspace_is_served_under_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKGEN_CODE_HOST", "127.0.0.1")
    (origin,) = WorkspaceFileTarget([str(DEPLOY / "workspace.yaml")]).create_origins()
    assert origin.location_name == "trackgen"


def test_webservers_are_those_with_maps() -> None:
    assert load(DEPLOY / "compose.yaml")["services"]["webserver"]["command"][0] == WEBSERVER
    assert f"/opt/trackgen/bin/{WEBSERVER} " in (DEPLOY / "systemd/trackgen-webserver.service").read_text()
    assert f"ln -sf {WEBSERVER} /opt/trackgen/bin/dagster-webserver" in (DEPLOY / "Dockerfile").read_text()
    (script,) = entry_points(group="console_scripts", name=WEBSERVER)
    assert callable(script.load())


def test_every_variable_is_documented() -> None:
    documents = (ROOT / "docs/deployment.md").read_text() + (ROOT / "docs/configuration.md").read_text()
    used = set()
    for path in FILES:
        text = path.read_text()
        used |= set(re.findall(r"\b((?:TRACKGEN|DAGSTER)_[A-Z_]+)\b", text))
        used |= set(re.findall(r"\$\{([A-Z_]+)", text))
    assert len(used) > 8
    assert not [name for name in used if f"`{name}`" not in documents]


def test_what_stands_beside_dawarich_is_told_all_that_it_needs() -> None:
    """The image's own folder of Dagster is that of a cluster."""
    page, known = (ROOT / "docs/dawarich.md").read_text(), (ROOT / "docs/configuration.md").read_text()
    first, *_ = (yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL))
    service, dockerfile = first["services"]["trackgen"], (DEPLOY / "Dockerfile").read_text()
    environment = service["environment"]
    assert service["volumes"] == [f"trackgen:{environment['TRACKGEN_HOME']}"]
    assert Path(environment["DAGSTER_HOME"]).is_relative_to(environment["TRACKGEN_HOME"])
    assert environment["TRACKGEN_HOME"] in dockerfile
    assert environment["DAGSTER_HOME"] not in dockerfile
    assert not [name for name in environment if name != "PGPASSWORD" and f"`{name}`" not in known]
    program, name = service["command"]
    assert (program, name in trackgen.commands) == ("trackgen", True)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_file_holds_a_password(path: Path) -> None:
    assert not [line for line in path.read_text().splitlines() if PASSWORD.search(VARIABLE.sub("", line))]


def test_units_are_sound() -> None:
    if not (analyze := shutil.which("systemd-analyze")):
        pytest.skip("systemd is not installed")
    units = sorted(map(str, DEPLOY.glob("systemd/*.service")))
    done = subprocess.run([analyze, "verify", "--man=no", *units], capture_output=True, text=True)
    # What they start is not installed here.
    wrong = [line for line in done.stderr.splitlines() if "deploy" in line or "trackgen" in line]
    assert not [line for line in wrong if "is not executable: No such file" not in line]


@pytest.mark.parametrize("text", ["REDIS_PASSWORD=abc", "password: 'abc'", "url: redis://:abc@host", "a://me:b@c"])
def test_passwords_are_recognised(text: str) -> None:
    assert PASSWORD.search(text)
