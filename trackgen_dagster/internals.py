"""What Dagster keeps private and Trackgen needs: the one place to look at when a new Dagster has moved something.

The tests import each name alone, and say which is missing.
"""

from __future__ import annotations

from typing import Final

from dagster._config.config_schema import UserConfigSchema
from dagster._config.errors import PostProcessingError
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.definitions.assets.graph.asset_graph_subset import AssetGraphSubset
from dagster._core.definitions.data_version import DATA_VERSION_TAG
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.definitions.repository_definition import SINGLETON_REPOSITORY_NAME
from dagster._core.definitions.utils import is_valid_owner
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.events import DagsterEventBatchMetadata, generate_event_batch_id
from dagster._core.execution.api import execute_run
from dagster._core.execution.backfill import (
    BULK_ACTION_TERMINAL_STATUSES,
    BulkActionsFilter,
    BulkActionStatus,
    PartitionBackfill,
)
from dagster._core.launcher import CheckRunHealthResult, WorkerStatus
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin, get_python_environment_entry_point
from dagster._core.remote_origin import (
    ManagedGrpcPythonEnvCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.storage.dagster_run import FINISHED_STATUSES
from dagster._core.storage.event_log import SqlEventLogStorage, SqliteEventLogStorage
from dagster._core.storage.event_log.schema import AssetEventTagsTable, SqlEventLogStorageTable
from dagster._core.storage.runs.schema import BackfillTagsTable, BulkActionsTable
from dagster._core.storage.runs.sql_run_storage import SqlRunStorage
from dagster._core.storage.tags import (
    AUTO_RETRY_RUN_ID_TAG,
    GRPC_INFO_TAG,
    PARENT_RUN_ID_TAG,
    RETRY_ON_ASSET_OR_OP_FAILURE_TAG,
    WILL_RETRY_TAG,
)
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.utils import make_new_backfill_id
from dagster._grpc.client import DagsterGrpcClient
from dagster._serdes import ConfigurableClassData
from dagster._time import get_current_timestamp
from dagster._utils.error import SerializableErrorInfo

DAEMON_MODULE: Final = "dagster._daemon"
"""What `python -m` runs as Dagster's daemon."""
NO_LOGS_MODULE: Final = "dagster._core.storage.noop_compute_log_manager"
"""Where the class is that keeps no output of steps."""

__all__ = [
    "AUTO_RETRY_RUN_ID_TAG",
    "BULK_ACTION_TERMINAL_STATUSES",
    "DAEMON_MODULE",
    "DATA_VERSION_TAG",
    "FINISHED_STATUSES",
    "GRPC_INFO_TAG",
    "NO_LOGS_MODULE",
    "PARENT_RUN_ID_TAG",
    "RETRY_ON_ASSET_OR_OP_FAILURE_TAG",
    "SINGLETON_REPOSITORY_NAME",
    "WILL_RETRY_TAG",
    "AssetEventTagsTable",
    "AssetGraphSubset",
    "BackfillTagsTable",
    "BulkActionStatus",
    "BulkActionsFilter",
    "BulkActionsTable",
    "CheckRunHealthResult",
    "ConfigurableClassData",
    "DagsterEventBatchMetadata",
    "DagsterGrpcClient",
    "DagsterUserCodeUnreachableError",
    "InMemoryJob",
    "JobPythonOrigin",
    "LoadableTargetOrigin",
    "ManagedGrpcPythonEnvCodeLocationOrigin",
    "ModuleCodePointer",
    "PartitionBackfill",
    "PostProcessingError",
    "RemoteJobOrigin",
    "RemoteRepositoryOrigin",
    "RepositoryPythonOrigin",
    "SerializableErrorInfo",
    "SqlEventLogStorage",
    "SqlEventLogStorageTable",
    "SqlRunStorage",
    "SqliteEventLogStorage",
    "UserConfigSchema",
    "WorkerStatus",
    "execute_run",
    "generate_event_batch_id",
    "get_current_timestamp",
    "get_python_environment_entry_point",
    "is_valid_owner",
    "make_new_backfill_id",
]
