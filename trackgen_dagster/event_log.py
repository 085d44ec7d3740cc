"""Dagster's event logs, with batches that are one transaction, and runs that can be forgotten.

The stock classes store what is planned, and the one for SQLite everything, event by event, at up to 10 ms each: a run
over ten years would spend two minutes on saying that its 3 653 partitions are done. And with a run they forget that the
run's partitions were made, though they still are. Everything else is the parents'.
"""

import os
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

import dagster as dg
from dagster_postgres import DagsterPostgresStorage, PostgresEventLogStorage
from dagster_postgres.utils import get_token_provider_from_config, pg_url_from_config
from dagster_shared.record import copy
from sqlalchemy import ColumnElement, Connection, and_, delete, exists, func, or_, select

from trackgen_dagster.internals import (
    AssetEventTagsTable,
    ConfigurableClassData,
    SqlEventLogStorage,
    SqlEventLogStorageTable,
    SqliteEventLogStorage,
    UserConfigSchema,
)

BATCHED: Final = {
    dg.DagsterEventType.ASSET_MATERIALIZATION,
    dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED,
    dg.DagsterEventType.ASSET_OBSERVATION,
}
"""Events of which a batch is one transaction."""


class BatchedEventLogStorage(SqlEventLogStorage):
    """What both databases have in common."""

    def store_event_batch(self, events: Sequence[dg.EventLogEntry]) -> None:
        """Store events of one run; what is not about assets goes the parent's way."""
        others = [event for event in events if event.dagster_event_type not in BATCHED]
        if others:
            super().store_event_batch(others)
        events = [event for event in events if event.dagster_event_type in BATCHED]
        if events:
            self._store_asset_events(events, [self._event_to_row(event) for event in events])

    def _store_asset_events(self, events: Sequence[dg.EventLogEntry], rows: list[dict[str, Any]]) -> None:
        with self.index_transaction() as connection:
            event_ids = self._insert(connection, rows)
            self._store_asset_event_tags(connection, events, event_ids)
            # An asset's row shows its latest event of each kind only.
            latest = {
                (str(row["asset_key"]), row["dagster_event_type"]): (event_id, event)
                for row, event, event_id in zip(rows, events, event_ids, strict=True)
            }
            # Assets in the order of their names, so that two transactions cannot wait for each other.
            for _, event_id, event in sorted((key, *what) for (key, _), what in latest.items()):
                self._store_asset_event(connection, event, event_id)

    @abstractmethod
    def _insert(self, connection: Connection, rows: list[dict[str, Any]]) -> Sequence[int]:
        """Insert rows and return their ids."""

    def _store_asset_check_evaluation_planned(self, event: dg.EventLogEntry, event_id: int | None) -> None:
        # One row, which the evaluation of all days then fills in. The parent adds one for every partition of the run,
        # and these would stay "planned" for ever.
        planned = event.get_dagster_event()
        once = copy(planned.event_specific_data, partitions_subset=None)
        event = event._replace(dagster_event=planned._replace(event_specific_data=once))
        super()._store_asset_check_evaluation_planned(event, event_id)

    def delete_events(self, run_id: str) -> None:
        """Forget the events of a run, but for the latest materialization of each partition: that is still true."""
        events = SqlEventLogStorageTable
        is_made = events.c.dagster_event_type == dg.DagsterEventType.ASSET_MATERIALIZATION.value
        forgotten = and_(events.c.run_id == run_id, or_(~func.coalesce(is_made, False), _was_made_again()))
        with self.index_transaction() as connection:
            ids = select(events.c.id).where(forgotten)
            connection.execute(delete(AssetEventTagsTable).where(AssetEventTagsTable.c.event_id.in_(ids)))
            connection.execute(delete(events).where(forgotten))
        if self.supports_global_concurrency_limits:
            self.free_concurrency_slots_for_run(run_id)


def _was_made_again() -> ColumnElement[bool]:
    """Return whether there is a later event of the same kind, in a way that finds it by an index."""
    events, later = SqlEventLogStorageTable, SqlEventLogStorageTable.alias()
    is_later = and_(
        later.c.asset_key == events.c.asset_key,
        later.c.dagster_event_type == events.c.dagster_event_type,
        later.c.id > events.c.id,
    )
    return or_(
        exists().where(is_later, later.c.partition == events.c.partition),
        and_(events.c.partition.is_(None), exists().where(is_later, later.c.partition.is_(None))),
    )


class BatchedSqliteEventLogStorage(BatchedEventLogStorage, SqliteEventLogStorage):
    """SQLite event log storage that writes a batch in one transaction, and keeps partitions when it forgets runs."""

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        """Return what `dagster.yaml` may say: nothing. The stock folder inside DAGSTER_HOME moves with it."""
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:
        """Make the storage from its configuration in `dagster.yaml`."""
        return cls(str(Path(os.environ["DAGSTER_HOME"]) / "history" / "runs"), inst_data)

    def _store_asset_events(self, events: Sequence[dg.EventLogEntry], rows: list[dict[str, Any]]) -> None:
        super()._store_asset_events(events, rows)
        # Last, for Dagster stores a batch anew, event by event, if any of this fails.
        with self.run_connection(events[0].run_id) as connection:
            connection.execute(SqlEventLogStorageTable.insert(), rows)

    def _insert(self, connection: Connection, rows: list[dict[str, Any]]) -> Sequence[int]:
        connection.execute(SqlEventLogStorageTable.insert(), rows)
        # The transaction holds the only write lock, so its rows have consecutive ids.
        last_id = connection.execute(select(func.max(SqlEventLogStorageTable.c.id))).scalar_one()
        return range(last_id - len(rows) + 1, last_id + 1)

    def delete_events(self, run_id: str) -> None:
        """Forget a run also in the file of its own that SQLite has for it."""
        super().delete_events(run_id)
        shard = Path(self.path_for_shard(run_id))
        for file in (shard, shard.with_name(f"{shard.name}-wal"), shard.with_name(f"{shard.name}-shm")):
            file.unlink(missing_ok=True)
        self._initialized_dbs.discard(run_id)


class BatchedPostgresEventLogStorage(BatchedEventLogStorage, PostgresEventLogStorage):
    """PostgreSQL event log storage that does the same."""

    def _insert(self, connection: Connection, rows: list[dict[str, Any]]) -> Sequence[int]:
        table = SqlEventLogStorageTable
        insert = table.insert().returning(table.c.id, sort_by_parameter_order=True)
        return connection.execute(insert, rows).scalars().all()


class PostgresStorage(DagsterPostgresStorage):
    """Dagster's storage on PostgreSQL, with our event log."""

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:
        """Make the storage from its configuration in `dagster.yaml`, which is that of `storage: postgres:`."""
        arguments: dict[str, Any] = {
            "postgres_url": pg_url_from_config(config_value),
            "should_autocreate_tables": config_value.get("should_autocreate_tables", True),
            "token_provider": get_token_provider_from_config(config_value),
        }
        storage = cls(inst_data=inst_data, **arguments)
        storage._event_log_storage = BatchedPostgresEventLogStorage(**arguments)
        return storage
