"""Take the pictures of the map: the demo's history, the page that `trackgen map` makes of it, a headless browser.

Run it in the root of the repository as `python docs/map_screenshots.py`; it needs what `docs/screenshots.py` needs.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from screenshots import IMAGES, browser
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By

USER: Final = "ada"
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


def main() -> None:
    """Make a home and its map, and take the pictures."""
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "map.html"
        environment = os.environ | {"TRACKGEN_HOME": folder}
        for command in (["demo"], ["map", "--user", USER, "-o", str(page)]):
            subprocess.run([Path(sys.executable).with_name("trackgen"), *command], env=environment, check=True)
        take_pictures_of_map(page, IMAGES)
    for path in sorted(IMAGES.glob("map-*.png")):
        sys.stdout.write(f"{path}: {path.stat().st_size / 1000:.0f} kB\n")


if __name__ == "__main__":
    main()
