"""The documents say what is true: commands run, links lead somewhere, settings and variables are all listed."""

from __future__ import annotations

import ast
import gzip
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from docs import rule_pictures
from trackgen_core.settings import Settings

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
NOT_RUN_HERE = ("make ", "pip ", "trackgen ui", "trackgen daemon")
"""Lines of code blocks that other tests run: the gate runs `make`, and the UI has tests of its own."""

NO_VARIABLES = {"DAGSTER_YAML", "DAGSTER_CELERY_TASK_ID_TAG"}
GPX = """<gpx version="1.1" creator="t" xmlns="http://www.topografix.com/GPX/1/1"><trk><trkseg>
<trkpt lat="47.1" lon="8.1"><time>2025-06-01T10:00:00Z</time></trkpt>
<trkpt lat="47.1" lon="8.101"><time>2025-06-01T10:01:00Z</time></trkpt>
</trkseg></trk></gpx>"""
CSV = "timestamp,lon,lat\n2025-06-02T10:00:00Z,8.1,47.1\n2025-06-02T10:01:00Z,8.101,47.1\n"


def blocks(document: Path) -> list[str]:
    return re.findall(r"^```sh\n(.*?)^```", document.read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture
def user(tmp_path: Path) -> dict[str, str]:
    """The environment of somebody who has the files that the documents speak of."""
    folder = tmp_path / "my-gpx-files"
    folder.mkdir()
    (folder / "walk.gpx").write_text(GPX)
    (tmp_path / "phone.csv").write_text(CSV)
    (tmp_path / "watch.csv.gz").write_bytes(gzip.compress(CSV.encode()))
    with zipfile.ZipFile(tmp_path / "backup.zip", "w") as archive:
        archive.writestr("walk.gpx", GPX)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    own = {name: value for name, value in os.environ.items() if not name.startswith(("TRACKGEN", "DAGSTER"))}
    own |= {"HOME": str(tmp_path), "PATH": path}
    # Somebody of that name has been here before.
    subprocess.run(["trackgen", "import", str(tmp_path / "phone.csv"), "--user", "me"], env=own, check=True)
    return own


@pytest.mark.parametrize("document", [d for d in DOCUMENTS if blocks(d)], ids=lambda path: path.name)
def test_code_blocks_run(document: Path, user: dict[str, str]) -> None:
    for block in blocks(document):
        lines = [line for line in block.splitlines() if not line.startswith(NOT_RUN_HERE)]
        script = "set -e\n" + "\n".join(lines)
        done = subprocess.run(["bash", "-c", script], env=user, cwd=user["HOME"], capture_output=True, text=True)
        assert done.returncode == 0, f"{document.name}:\n{block}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", document.read_text())
    missing = [link for link in targets if "://" not in link and not (document.parent / link).exists()]
    assert not missing


def test_generated_parts_are_up_to_date() -> None:
    done = subprocess.run([sys.executable, ROOT / "docs/generate.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_pictures_of_the_rules_show_what_they_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = rule_pictures.IMAGES
    monkeypatch.setattr(rule_pictures, "IMAGES", tmp_path)
    rule_pictures.main()
    rules = (ROOT / "docs/rules.md").read_text()
    names = [path.name for path in tmp_path.iterdir()]
    assert len(names) == 4
    for name in names:
        # If not: python docs/rule_pictures.py
        assert (tmp_path / name).read_text("utf-8") == (drawn / name).read_text("utf-8")
        assert f"(images/{name})" in rules


def test_every_setting_and_variable_is_listed() -> None:
    configuration = (ROOT / "docs/configuration.md").read_text()
    code = "\n".join(path.read_text() for path in ROOT.glob("trackgen_*/**/*.py"))
    variables = set(re.findall(r"\b((?:TRACKGEN|DAGSTER)_[A-Z_]+)\b", code)) - NO_VARIABLES
    missing = [name for name in {*variables, *Settings.model_fields} if f"`{name}`" not in configuration]
    assert not missing


def texts_of_the_code() -> list[str]:
    """Every text in the code, as the documents write it: … stands for what is filled in."""
    found = []
    for path in ROOT.glob("trackgen_*/**/*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                found.append("".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return found


def test_messages_that_can_be_looked_up_are_those_of_the_code() -> None:
    page = (ROOT / "docs/troubleshooting.md").read_text()
    messages = re.findall(r"^`([^`]+)`$", page, re.MULTILINE)
    assert len(messages) > 40
    texts = texts_of_the_code()
    assert [message for message in messages if not any(message in text for text in texts)] == []


def test_every_module_is_in_the_architecture() -> None:
    architecture = (ROOT / "docs/architecture.md").read_text()
    modules = {path.stem for path in (ROOT / "trackgen_core").glob("*.py")} - {"__init__"}
    # The demo's history and the home folder are no part of how data flows.
    assert not [name for name in modules - {"demo", "home"} if f"`{name}`" not in architecture]
    wiring = {path.stem for path in (ROOT / "trackgen_dagster").glob("*.py")} - {"__init__"}
    assert not [name for name in wiring if f"`{name}`" not in architecture]
