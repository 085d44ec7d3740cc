"""The state of Dawarich's users to come, and whose changes are told by triggers."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, String

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.add_column(
        "dawarich_users",
        Column("token", String, comment="of the triggers that told all changes since the user was mirrored last"),
    )
    op.create_table("dawarich_default", Column("state", String, primary_key=True, comment="off, shadow or on"))
