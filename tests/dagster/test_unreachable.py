"""A code server that does not answer: the queue asks it again, and what failed in the end says why."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from docs.screenshots import wait_for
from tests import world
from tests.command_line import clean_environment, trackgen
from tests.dagster.homes import FIRST, embedded_instance, ride
from trackgen_dagster import requests
from trackgen_dagster.generate import create
from trackgen_dagster.instance import prepare_instance
from trackgen_dagster.requests import rests
from trackgen_dagster.sessions import errors_of, find_session


def test_a_run_whose_code_server_is_away_is_tried_again_and_then_says_so(tmp_path: Path) -> None:
    home = tmp_path / "home"
    store = world.open_store(home)
    ride(store, [0])
    with embedded_instance(home) as instance:
        queue = instance.get_concurrency_config().run_queue_config
        assert queue and queue.max_user_code_failure_retries >= 3
        name = create(store, instance, mode="incremental", lo_day=FIRST, hi_day=FIRST)
        assert name
        config = prepare_instance() / "dagster.yaml"
        text = config.read_text().replace("failure_retries: 5", "failure_retries: 1").replace("delay: 30", "delay: 1")
        config.write_text(text)
        (tmp_path / "workspace.yaml").write_text(
            f"load_from:\n  - grpc_server: {{socket: {tmp_path}/none.socket, location_name: trackgen}}\n"
        )
        command = [sys.executable, "-m", "dagster._daemon", "run", "-w", str(tmp_path / "workspace.yaml")]
        environment = clean_environment(home) | {"DAGSTER_HOME": str(home / "dagster")}
        with (
            (tmp_path / "log").open("wb") as log,
            subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT) as daemon,
        ):
            try:
                wait_for("the end of the session", lambda: find_session(instance, name).is_over, 120)
            finally:
                daemon.terminate()
        (record,) = instance.get_run_records()
        asked = instance.all_logs(record.dagster_run.run_id, of_type=dg.DagsterEventType.RUN_ENQUEUED)
        assert len(asked) == 2  # by the command, and once more by the queue
        (error,) = errors_of(instance, name)
        assert error.error == (
            "the code server did not answer in time, so the run was not started; the daemon asks for it again"
        )
        # It was not the work that failed, so nobody waits for hours.
        ended = float(record.end_time or 0)
        assert rests(record, 20)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(requests.time, "time", lambda: ended + 121)
            assert not rests(record, 20)
    assert "the code server did not answer" in trackgen(home, "sessions", "show", name)
    store.database.close()
