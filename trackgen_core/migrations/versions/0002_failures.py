"""The work list knows since when, why, and what went wrong; messages may be unwanted."""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Column, Integer, String

revision = "0002"
down_revision = "0001"

LISTED = "when the day was first listed and not done since"
CHANGE = "1: points, settings or segments changed; 0: only asked for"
NOTIFY = "1: messages about this user are wanted"


def upgrade() -> None:
    for column in (
        Column("listed_ms", BigInteger, nullable=False, server_default="0", comment=LISTED),
        Column("is_change", Integer, nullable=False, server_default="1", comment=CHANGE),
        Column("attempts", Integer, nullable=False, server_default="0"),
        Column("error", String, comment="what the last attempt failed with"),
    ):
        op.add_column("dirty_days", column)
    op.add_column("users", Column("notify", Integer, nullable=False, server_default="1", comment=NOTIFY))
    op.execute("UPDATE dirty_days SET listed_ms = version >> 20")
