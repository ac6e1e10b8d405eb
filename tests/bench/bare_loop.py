"""What the refresh is measured against: pymssql reads the same query over TLS and throws the rows away.

Nothing of ours takes part: `python bare_loop.py HOST PORT CA-FILE QUERY ROWS-A-BATCH`.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

import pymssql


def main() -> None:
    """Print 'rows seconds', connection included."""
    host, port, ca, query, size = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        conf = Path(folder, "freetds.conf")
        # As our own refresh connects: encrypted, certificate and host name checked.
        conf.write_text(
            f"[bare]\nhost = {host}\nport = {port}\ntds version = 7.4\nencryption = require\n"
            f"client charset = UTF-8\nca file = {ca}\ncheck certificate hostname = yes\n",
            encoding="utf-8",
        )
        os.environ["FREETDSCONF"] = str(conf)
        began = time.perf_counter()
        connection = pymssql.connect(
            server="bare", port=port, user="bench", password="bench", database="HR", tds_version=None, autocommit=True
        )
        cursor = connection.cursor()
        cursor.execute(query)
        rows = 0
        while batch := cursor.fetchmany(int(size)):
            rows += len(batch)
        connection.close()
        print(rows, time.perf_counter() - began)


if __name__ == "__main__":
    main()
