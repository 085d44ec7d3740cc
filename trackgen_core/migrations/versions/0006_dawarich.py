"""Users and days that are mirrored from Dawarich."""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Column, ForeignKey, Integer, PrimaryKeyConstraint, String, UniqueConstraint

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "dawarich_users",
        Column("user_id", Integer, ForeignKey("users.user_id"), primary_key=True),
        Column("dawarich_id", BigInteger, nullable=False, comment="of the user in Dawarich"),
        Column("state", String, nullable=False, comment="off, shadow or on"),
        UniqueConstraint("dawarich_id"),
    )
    op.create_table(
        "dawarich_days",
        Column("user_id", Integer, ForeignKey("dawarich_users.user_id"), nullable=False),
        Column("day", BigInteger, nullable=False),
        Column("points", BigInteger, nullable=False, comment="in Dawarich, when they were mirrored"),
        Column("digest", BigInteger, nullable=False, comment="sum of the hashes of these points"),
        PrimaryKeyConstraint("user_id", "day"),
        sqlite_with_rowid=False,
    )
