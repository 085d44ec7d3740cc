"""Every scenario about stays and noise as a user would meet it: a file is imported, and tracks are generated."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from pathlib import Path

from tests import world
from tests.command_line import run, trackgen
from tests.scenarios import STAYS_AND_NOISE


def test_every_scenario_by_import_and_generate(tmp_path: Path) -> None:
    home, files = tmp_path / "home", tmp_path / "files"
    people = {f"{n:02}": scenario for n, scenario in enumerate(STAYS_AND_NOISE)}
    rows = [point._replace(user=user) for user, scenario in people.items() for point in scenario.remaining]
    frame = world.frame(rows).sort_values(["user", "device", "time_ms", "seq"], kind="stable")
    files.mkdir()
    # Two points of one time stamp and one place in their files come from two files.
    for number, part in frame.groupby(frame.groupby(["user", "device", "time_ms", "seq"]).cumcount()):
        part.rename(columns={"time_ms": "timestamp"}).drop(columns="speed").to_csv(files / f"{number}.csv", index=False)
    for user, scenario in people.items():
        if scenario.settings:
            values = (f"{name}={value}" for name, value in scenario.settings.items())
            assert (
                run(home, "settings", "set", "--user", user, *values).returncode == 0
            )  # with a note that the user is new
    trackgen(home, "import", files)
    trackgen(home, "generate", "--workers", "1")

    tracks = json.loads(trackgen(home, "tracks", "list", "--json"))
    stays = json.loads(trackgen(home, "stays", "list", "--json"))
    noise = list(csv.DictReader(io.StringIO(trackgen(home, "points", "export", "--noise"))))
    for user, scenario in people.items():
        mine = [track for track in tracks if track["user"] == user]
        rests = [stay for stay in stays if stay["user"] == user]
        assert (len(mine), len(rests)) == (scenario.tracks, scenario.stays), scenario.name
        assert Counter(point["noise"] for point in noise if point["user"] == user) == scenario.noise, scenario.name
        in_items = sum(item["points"] for item in (*mine, *rests)) + sum(scenario.noise.values())
        assert in_items + scenario.leftover == len(set(scenario.remaining)), scenario.name
        for stay, expected in zip(rests, scenario.expected_stays, strict=bool(scenario.expected_stays)):
            assert stay["duration_s"] == (expected.ended_ms - expected.started_ms) / 1000, scenario.name
    line = json.loads(trackgen(home, "timeline", "--user", "00", "--start", "2024-03-01", "--json"))
    assert [row["kind"] for row in line] == ["track", "stay", "track"]
