"""What a worker runs: `celery -A trackgen_dagster.celery_app worker`.

Its broker is the one that the run launcher in `dagster.yaml` names.
"""

from __future__ import annotations

from multiprocessing import process

from celery.signals import worker_process_init
from dagster_celery.tasks import create_execute_job_task, create_resume_job_task

from trackgen_dagster import definitions  # noqa: F401 - loaded before runs are forked, which then start at once
from trackgen_dagster.celery_launcher import WorkerLauncher
from trackgen_dagster.instance import open_instance

with open_instance() as instance:
    launcher = instance.run_launcher
    if not isinstance(launcher, WorkerLauncher):
        raise SystemExit(
            f"{instance.root_directory}/dagster.yaml: its run launcher is {type(launcher).__name__}: workers need "
            "trackgen_dagster.celery_launcher.WorkerLauncher, as in deploy/dagster-celery.yaml"
        )
    app = launcher.celery

MAIN_PROCESS = process.current_process()

execute_job = create_execute_job_task(app)
resume_job = create_resume_job_task(app)


@worker_process_init.connect
def allow_children(**_: object) -> None:
    """Let runs have processes of their own, which Celery's pool denies them; ours die with their parent."""
    process._current_process = MAIN_PROCESS  # type: ignore[attr-defined]
