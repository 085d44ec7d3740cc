"""In PostgreSQL, results refer to users, devices and settings without the server looking at each row."""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0007"

FOREIGN_KEYS = {
    "segments": ("device_id", "settings_id"),
    "tracks": ("device_id", "settings_id"),
    "stays": ("device_id", "settings_id"),
    "noise": ("device_id",),
    "item_days": ("user_id",),
}


def upgrade() -> None:
    if op.get_context().dialect.name != "postgresql":
        return
    for table, columns in FOREIGN_KEYS.items():
        for column in columns:
            op.drop_constraint(f"{table}_{column}_fkey", table, type_="foreignkey")
