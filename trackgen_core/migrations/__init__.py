"""The revisions of the tables, which Alembic runs; nothing imports this package but for a database of an older one."""

from __future__ import annotations

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection


def configure(connection: Connection) -> Config:
    """Return what Alembic's commands take to work on a connection, in the transaction that is open there."""
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", "trackgen_core:migrations")
    return config


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Bring the tables to a revision, by all those in between."""
    command.upgrade(configure(connection), revision)
