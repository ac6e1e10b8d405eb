"""The private freetds.conf: the only way to make pymssql encrypt and verify, and so the only way we connect.

pymssql has no parameter for the CA file, and without one FreeTDS accepts any certificate. So each refresh
writes its own file into a private temporary folder and points FREETDSCONF there.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from snapshot.errors import SourceError

if TYPE_CHECKING:
    from pathlib import Path

    from snapshot.config import Config

# The name of the section, given to pymssql as the server.
SERVER_NAME = "scim-snapshot-source"
DEFAULT_PORT = 1433
CA_NAME = "ca.pem"
CONF_NAME = "freetds.conf"


def write_conf(config: Config, folder: Path) -> Path:
    """Write freetds.conf (and the trusted certificates, if the system's are asked for) into `folder`."""
    source, tls = config.source, config.source.tls
    lines = [f"[{SERVER_NAME}]", f"host = {source.server}"]
    if not source.instance:
        lines.append(f"port = {source.port or DEFAULT_PORT}")
    lines += [
        # TDS 8.0 is what Encrypt=strict speaks; 7.4 is every SQL Server from 2012 on.
        f"tds version = {'8.0' if tls.encryption == 'strict' else '7.4'}",
        f"encryption = {tls.encryption}",
        "client charset = UTF-8",
        "text size = 2147483647",
    ]
    if tls.verify != "none":
        lines.append(f"ca file = {_ca_file(config, folder)}")
        lines.append(f"check certificate hostname = {'yes' if tls.verify == 'full' else 'no'}")
        if tls.hostname:
            lines.append(f"certificate hostname = {tls.hostname}")
    else:
        lines.append("check certificate hostname = no")
    if source.packet_size is not None:
        lines.append(f"initial block size = {source.packet_size // 512 * 512}")
    if source.spn:
        lines.append(f"spn = {source.spn}")
    path = folder / CONF_NAME
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def ca_path(config: Config) -> Path | None:
    """Return the configured CA file; None for the system's trust store."""
    return None if config.source.tls.ca == "system" else config.path(config.source.tls.ca)


def _ca_file(config: Config, folder: Path) -> Path:
    path = ca_path(config)
    if path is not None:
        if not path.is_file():
            raise SourceError("certificate", f"There is no file {path}.", remedy="Check source.tls.ca.")
        return path
    # `ca file = system` would look where the driver's own OpenSSL was built to look, which is
    # nowhere on Debian, Ubuntu and Windows. Python knows the system's store, so it is written out.
    certificates = ssl.create_default_context().get_ca_certs(binary_form=True)
    pem = "".join(ssl.DER_cert_to_PEM_cert(certificate) for certificate in certificates)
    if not pem:
        raise SourceError(
            "certificate",
            "The system's trust store is empty, so no certificate can be verified.",
            remedy="Install ca-certificates, or set source.tls.ca to the PEM file of your CA.",
        )
    path = folder / CA_NAME
    path.write_text(pem, encoding="ascii")
    return path
