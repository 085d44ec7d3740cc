"""What Alembic runs for every command: the settings that all of them share."""

from __future__ import annotations

from alembic import context
from sqlalchemy import ForeignKeyConstraint
from sqlalchemy.schema import SchemaItem

from trackgen_core.schema import ONLY_SQLITE_CHECKS, metadata, schema_revision

connection = context.config.attributes["connection"]


def is_ours(item: SchemaItem, _name: str | None, kind: str, reflected: bool, counterpart: SchemaItem | None) -> bool:
    """Leave alone the tables in the database that `schema` does not know, and the keys that only SQLite has."""
    if kind == "foreign_key_constraint" and isinstance(item, ForeignKeyConstraint) and item.table in ONLY_SQLITE_CHECKS:
        return bool(connection.dialect.name == "sqlite")
    return not (kind == "table" and reflected and counterpart is None)


context.configure(
    connection=connection,
    target_metadata=metadata,
    version_table=schema_revision.name,
    include_object=is_ours,
)
with context.begin_transaction():
    context.run_migrations()
