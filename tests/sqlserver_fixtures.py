"""A SQL Server for the tests of the product: the TDS test server with a certificate, and a config that fits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trustme

from snapshot.config import Config, parse_config
from snapshot.worker import refresh_with_deadline

if TYPE_CHECKING:
    from pathlib import Path

    from tds_server import TdsServer

    from snapshot.control import RefreshOutcome

LOGIN, PASSWORD, DATABASE = "scim_reader", "pä$$'w", "HR"
SETTINGS: dict[str, Any] = {"users": {LOGIN: PASSWORD}, "databases": [DATABASE]}

MAPPING: dict[str, Any] = {
    "id": "id",
    "userName": "login",
    "active": "active",
    "enterprise": {"manager": "manager"},
    "urn:okta:acme_hr_1:1.0:user:custom": {
        "fte": {"column": "fte", "type": "decimal"},
        "hired": {"column": "hired", "type": "dateTime"},
        "changed": {"column": "changed", "type": "dateTime"},
        "photo": {"column": "photo", "type": "binary"},
    },
}


class Authority:
    """A CA of the tests and the folder where its certificate lies as ca.pem."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = trustme.CA()
        self.ca.cert_pem.write_to_path(str(folder / "ca.pem"))

    def certificate(self, name: str = "localhost") -> trustme.LeafCert:
        return self.ca.issue_cert(name)


def source_of(tds: TdsServer, **changes: Any) -> dict[str, Any]:
    """Return [source] without its users for a TDS server; ca.pem lies in the folder of the config."""
    table = {
        "driver": "sqlserver",
        "server": "localhost",
        "port": tds.port,
        "database": DATABASE,
        "username": LOGIN,
        "password": PASSWORD,
        "tls": {"ca": "ca.pem"},
        **changes,
    }
    return {name: value for name, value in table.items() if value is not None}


def make_config(
    folder: Path, tds: TdsServer, *, mapping: dict[str, Any] | None = None, deadline_seconds: int = 60, **source: Any
) -> Config:
    """Return a config that reads dbo.Users; keywords replace keys of [source], None removes one.

    `deadline_seconds` is that of [schedule].
    """
    limits = {"login_timeout_seconds": 3, "query_timeout_seconds": 3, "retries": 0, "users": {"table": "dbo.Users"}}
    tables = {
        "data_dir": "data",
        "source": source_of(tds, **{**limits, **source}),
        "mapping": mapping or MAPPING,
        # One of the three people of tds_clients.make_people is a reject.
        "guard": {"always_allowed_rejected": 1},
        "schedule": {"deadline_seconds": deadline_seconds},
        "server": {"auth": [{"type": "none"}]},
    }
    return parse_config(tables, where="config.toml", base=folder)


def refresh(config: Config) -> RefreshOutcome:
    """Refresh as the scheduler does: in a fresh process, because the driver keeps state in globals."""
    return refresh_with_deadline(config, on_progress=lambda _progress: None)
