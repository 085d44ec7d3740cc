"""Take the pictures of results: the demo's history, its map, what commands print of it, a headless browser.

Run it in the root of the repository as `python docs/result_screenshots.py`; it needs what `docs/screenshots.py` needs.
"""

from __future__ import annotations

import html
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from screenshots import IMAGES, browser
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By

USER: Final = "ada"
MONTH: Final = "2025-05"
REST_S: Final = 1.0
"""How long the page may take to draw."""

IN_TOWN: Final = "fit(items.filter(({bounds}) => bounds.getSouth() > 47.3), false)"
BY_MODE: Final = "document.querySelector('[value=mode]').click()"
MANY_LEGS: Final = """
const track = tracks.reduce((most, one) => (one.legs.length > most.legs.length ? one : most));
const {places} = track.lines[1], {x, y} = map.latLngToContainerPoint(places[places.length >> 1]);
return [x - innerWidth / 2, y - innerHeight / 2].map(Math.round);
"""
"""Where, from the middle of the page, the longest leg of the most varied track is."""


def take_pictures_of_map(page: Path, folder: Path) -> None:
    """Write the pictures."""
    with browser() as driver:

        def opened(scheme: str, *scripts: str) -> None:
            features = [{"name": "prefers-color-scheme", "value": scheme}]
            driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
            driver.get(page.as_uri())
            for script in scripts:
                driver.execute_script(script)
            time.sleep(REST_S)

        def save(name: str) -> None:
            driver.save_screenshot(str(folder / f"{name}.png"))

        opened("light", "setSpan(60, 74)", IN_TOWN)
        save("map-light")
        opened("dark", IN_TOWN, BY_MODE)
        save("map-dark")
        opened("light", BY_MODE, "setSpan(60, 91)", IN_TOWN)
        click(driver, *driver.execute_script(MANY_LEGS))
        time.sleep(REST_S)
        save("map-click")


def click(driver: webdriver.Chrome, x: int, y: int) -> None:
    """Click so far from the middle of the page."""
    body = driver.find_element(By.TAG_NAME, "body")
    ActionChains(driver).move_to_element_with_offset(body, x, y).click().perform()


TERMINAL: Final = """<!doctype html><meta charset="utf-8"><style>
body {{ margin: 0; background: #1d1f21 }}
pre {{ margin: 0; padding: 20px; width: max-content; color: #e6e6e6; font: 15px/1.2 "DejaVu Sans Mono", monospace }}
b {{ color: #8ab4f8 }}
</style><pre><b>$ {}</b>\n{}</pre>"""
"""A page that looks like a terminal, given a command and what it prints."""


def take_pictures_of_terminal(environment: dict[str, str], folder: Path) -> None:
    """Write the pictures of a month and of its longest track."""
    report = ("report", "--user", USER, "--month", MONTH)
    longest = json.loads(printed((*report, "--json"), environment))["longest"]["track_id"]
    with browser() as driver:
        for name, command in (("report", report), ("show", ("tracks", "show", longest[:8]))):
            page = folder / f"{name}.html"
            text = html.escape(printed(command, environment))
            page.write_text(TERMINAL.format(f"trackgen {' '.join(command)}", text), encoding="utf-8")
            driver.get(page.as_uri())
            driver.find_element(By.TAG_NAME, "pre").screenshot(str(IMAGES / f"terminal-{name}.png"))


def printed(command: Sequence[str], environment: dict[str, str]) -> str:
    """Return what a command of Trackgen prints on a terminal of 80 columns."""
    trackgen = Path(sys.executable).with_name("trackgen")
    return subprocess.run(
        [trackgen, *command], env=environment | {"COLUMNS": "80"}, check=True, capture_output=True, text=True
    ).stdout


def main() -> None:
    """Make a home and its map, and take the pictures."""
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "map.html"
        environment = dict(os.environ) | {"TRACKGEN_HOME": folder}
        for command in (["demo"], ["map", "--user", USER, "-o", str(page)]):
            printed(command, environment)
        take_pictures_of_map(page, IMAGES)
        take_pictures_of_terminal(environment, Path(folder))
    for path in sorted((*IMAGES.glob("map-*.png"), *IMAGES.glob("terminal-*.png"))):
        sys.stdout.write(f"{path}: {path.stat().st_size / 1000:.0f} kB\n")


if __name__ == "__main__":
    main()
