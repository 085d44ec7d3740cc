"""GeoParquet 1.1, a row group a batch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import BinaryIO

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from trackgen_core.export.columns import Columns, table


def write(batches: Iterable[pd.DataFrame], out: BinaryIO, columns: Columns, schema: pa.Schema) -> None:
    """Write rows with their geometry as WKB."""
    with pq.ParquetWriter(out, schema, compression="zstd") as file:
        for batch in batches:
            file.write_table(table(batch, columns, schema))
