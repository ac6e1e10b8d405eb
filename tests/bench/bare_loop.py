"""What the refresh is measured against: pymssql reads the same query the same way and throws the rows away."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from snapshot.config import load_config
from snapshot.sources import open_source


def main() -> None:
    """Print 'rows seconds'."""
    config = load_config(Path(sys.argv[1]))
    began = time.perf_counter()
    with open_source(config) as source:
        cursor = source._connection.cursor()
        cursor.execute("SELECT * FROM [dbo].[People]")
        rows = 0
        while batch := cursor.fetchmany(config.source.fetch_rows):
            rows += len(batch)
    print(rows, time.perf_counter() - began)


if __name__ == "__main__":
    main()
