"""The database of points and tracks, as a Dagster resource."""

import dagster as dg
from pydantic import Field

from trackgen_core.home import open_store
from trackgen_core.store import Store


class TrackStore(dg.ConfigurableResource):
    """The database that holds points, segments and tracks."""

    database_url: str = Field(
        default="",
        description="SQLAlchemy URL; by default TRACKGEN_DATABASE_URL, or the SQLite file in TRACKGEN_HOME.",
    )

    def open(self) -> Store:
        """Open the database, and make it if it is not there."""
        return open_store(self.database_url or None)
