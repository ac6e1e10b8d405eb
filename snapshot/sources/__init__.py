"""Where rows come from. The only package that imports a database driver.

A source is opened for one refresh: one connection, one transaction, so that every query of the refresh
sees one instant. Rows are streamed in batches and never held all at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from snapshot.config import Config
    from snapshot.sources.rows import RowSource


def open_source(config: Config) -> AbstractContextManager[RowSource]:
    """Return a context manager that connects, begins the transaction and ends both. Raises SourceError."""
    if config.source.driver == "sqlite":
        from snapshot.sources.sqlite import open_sqlite  # noqa: PLC0415 (only the driver in use is loaded)

        return open_sqlite(config.path(config.source.path), config.source)
    from snapshot.sources.sqlserver import open_sqlserver  # noqa: PLC0415

    return open_sqlserver(config)
