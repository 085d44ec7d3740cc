"""Whole runs on the workers of Celery, and how to find those whose worker is gone.

The stock launcher believes what a worker wrote last: of one that was killed, or whose machine was switched off, that is
"started", for ever. This one asks the workers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final, Self

import dagster as dg
from dagster_celery.launcher import CeleryRunLauncher
from dagster_celery.tags import DAGSTER_CELERY_TASK_ID_TAG

from trackgen_dagster.internals import CheckRunHealthResult, ConfigurableClassData, WorkerStatus

ANSWER_S: Final = 3.0
"""How long workers have to say what they work on."""

MOST_SILENT: Final = 2
"""So many times in a row nobody has to know of a run before it is given up: workers may just be reconnecting."""

SETTINGS: Final[Mapping[str, Any]] = {
    # Nobody reads results: the state of a run is in Dagster's storage.
    "task_ignore_result": True,
    # A worker that is busy leaves the next run to others,
    "worker_disable_prefetch": True,
    # also with brokers that cannot tell. A run that comes twice is not started twice: Dagster sees to that.
    "task_acks_late": True,
    "broker_transport_options": {"visibility_timeout": 7 * 86_400},
    # A process a run: its memory is free again afterwards.
    "worker_max_tasks_per_child": 1,
    "broker_connection_retry_on_startup": True,
    # For a minute, then the run fails and is started again.
    "task_publish_retry_policy": {"max_retries": 30, "interval_start": 0, "interval_step": 0.5, "interval_max": 2},
}
"""What we ask of Celery; `config_source` in `dagster.yaml` can say otherwise."""


class WorkerLauncher(CeleryRunLauncher):
    """Run launcher that hands runs to Celery's workers, knows when one is gone, and can stop runs."""

    def __init__(self, *, config_source: dict[str, Any] | None = None, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(config_source={**SETTINGS, **(config_source or {})}, **kwargs)
        self._silent: Counter[str] = Counter()

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData, config_value: Mapping[str, Any]) -> Self:
        """Make the launcher from its configuration in `dagster.yaml`, which is that of the stock one."""
        return cls(inst_data=inst_data, **config_value)

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Say whether a worker works on a run that has started."""
        if self._is_known(run):
            del self._silent[run.run_id]
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        self._silent[run.run_id] += 1
        if self._silent[run.run_id] < MOST_SILENT:
            return CheckRunHealthResult(WorkerStatus.RUNNING, "No worker knows of it; they are asked once more.")
        del self._silent[run.run_id]
        return CheckRunHealthResult(WorkerStatus.FAILED, "No worker works on it any more.")

    def terminate(self, run_id: str) -> bool:
        """Stop a run; one that no worker has taken yet is over at once."""
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished or DAGSTER_CELERY_TASK_ID_TAG not in run.tags:
            return False
        self._instance.report_run_canceling(run)
        self.celery.control.revoke(run.tags[DAGSTER_CELERY_TASK_ID_TAG], terminate=True)
        if run.status == dg.DagsterRunStatus.STARTING:
            self._instance.report_run_canceled(run, "No worker had taken it.")
        return True

    def get_run_worker_debug_info(self, run: dg.DagsterRun, include_container_logs: bool | None = True) -> str | None:
        """Return what to tell of a run that is given up."""
        return f"Celery task {run.tags.get(DAGSTER_CELERY_TASK_ID_TAG)}"

    def _is_known(self, run: dg.DagsterRun) -> bool:
        task = run.tags.get(DAGSTER_CELERY_TASK_ID_TAG)
        answers = self.celery.control.inspect(timeout=ANSWER_S).query_task([task]) or {}
        return any(task in known for known in answers.values())
