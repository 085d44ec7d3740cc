"""The database of points and tracks, as a Dagster resource."""

import dagster as dg
from pydantic import Field, PrivateAttr

from trackgen_core.home import open_store
from trackgen_core.store import Store


class TrackStore(dg.ConfigurableResource):
    """The database that holds points, segments and tracks."""

    database_url: str = Field(
        default="",
        description="SQLAlchemy URL; by default TRACKGEN_DATABASE_URL, or the SQLite file in TRACKGEN_HOME.",
    )

    _store: Store = PrivateAttr()

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Open the database, and make it if it is not there."""
        self._store = open_store(self.database_url or None)

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        """Close the database."""
        self._store.database.close()

    @property
    def store(self) -> Store:
        """The open database."""
        return self._store
