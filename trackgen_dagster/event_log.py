"""Dagster's SQLite event log, with batches that are one transaction, and runs that can be forgotten.

The stock class stores the events of a batch one by one, at about 10 ms each: a run over ten years would spend two
minutes on saying that its 3 653 partitions are done. And with a run it forgets that the run's partitions were made,
though they still are. Everything else is the parent's.
"""

import os
from collections.abc import Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any, Self

from dagster._config.config_schema import UserConfigSchema
from dagster._core.events import ASSET_EVENTS, DagsterEventType
from dagster._core.events.log import EventLogEntry
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.storage.event_log.schema import AssetEventTagsTable, SqlEventLogStorageTable
from dagster._serdes import ConfigurableClassData
from sqlalchemy import and_, delete, exists, func, or_, select


class BatchedSqliteEventLogStorage(SqliteEventLogStorage):
    """SQLite event log storage that writes a batch in one transaction, and keeps partitions when it forgets runs."""

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        """Return what `dagster.yaml` may say: nothing. The stock folder inside DAGSTER_HOME moves with it."""
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:
        """Make the storage from its configuration in `dagster.yaml`."""
        return cls(str(Path(os.environ["DAGSTER_HOME"]) / "history" / "runs"), inst_data)

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """Store events of one run; what are no asset events goes the parent's way."""
        super().store_event_batch([event for event in events if event.dagster_event_type not in ASSET_EVENTS])
        events = [event for event in events if event.dagster_event_type in ASSET_EVENTS]
        if not events:
            return
        rows = [self._event_to_row(event) for event in events]
        with self.index_transaction() as connection:
            connection.execute(SqlEventLogStorageTable.insert(), rows)
            # The transaction holds the only write lock, so its rows have consecutive ids.
            last_id = connection.execute(select(func.max(SqlEventLogStorageTable.c.id))).scalar_one()
            event_ids = list(range(last_id - len(rows) + 1, last_id + 1))
            self._store_asset_event_tags(connection, events, event_ids)
            # An asset's row shows its latest event of each kind only.
            latest = {
                (event.get_dagster_event().asset_key, event.dagster_event_type): (event_id, event)
                for event, event_id in zip(events, event_ids, strict=True)
            }
            for event_id, event in sorted(latest.values(), key=itemgetter(0)):
                self._store_asset_event(connection, event, event_id)
        # Last, for Dagster stores a batch anew, event by event, if any of this fails.
        with self.run_connection(events[0].run_id) as connection:
            connection.execute(SqlEventLogStorageTable.insert(), rows)

    def delete_events(self, run_id: str) -> None:
        """Forget the events of a run, but for the latest materialization of each partition: that is still true."""
        events, later = SqlEventLogStorageTable, SqlEventLogStorageTable.alias()
        made_again = exists().where(
            later.c.asset_key == events.c.asset_key,
            later.c.dagster_event_type == events.c.dagster_event_type,
            later.c.partition.is_not_distinct_from(events.c.partition),
            later.c.id > events.c.id,
        )
        is_made = events.c.dagster_event_type == DagsterEventType.ASSET_MATERIALIZATION.value
        forgotten = and_(events.c.run_id == run_id, or_(~func.coalesce(is_made, False), made_again))
        with self.index_transaction() as connection:
            ids = select(events.c.id).where(forgotten)
            connection.execute(delete(AssetEventTagsTable).where(AssetEventTagsTable.c.event_id.in_(ids)))
            connection.execute(delete(events).where(forgotten))
        shard = Path(self.path_for_shard(run_id))
        for file in (shard, shard.with_name(f"{shard.name}-wal"), shard.with_name(f"{shard.name}-shm")):
            file.unlink(missing_ok=True)
        self._initialized_dbs.discard(run_id)
        if self.supports_global_concurrency_limits:
            self.free_concurrency_slots_for_run(run_id)
