"""`python -m server`: read the configuration, serve until stopped.

Exit codes: 0 stopped in good order, 1 it could not run (port taken, and so on), 2 the configuration.
"""

# ruff: noqa: T201  # a program speaks to its user

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from server import quick_start
from server.app import create_instance_app
from server.directories import Directories
from server.directory import Directory
from server.listener import Listener, check_parser
from server.live import LiveSnapshot
from server.request_log import open_request_log
from server.tls import Certificate, CertificateError, open_certificate
from snapshot import __version__
from snapshot.errors import ConfigError, SecretError, SnapshotError
from snapshot.instance import load_instance
from snapshot.logs import setup_logs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from snapshot.instance import Instance

log = logging.getLogger("server")

OK, FAILED, BAD_CONFIG = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the server; return the exit code."""
    quick_start.ready()
    options = _parser().parse_args(arguments)
    try:
        instance = load_instance(options.config, from_environment=options.from_environment, app=options.app)
        certificate = open_certificate(instance.shared)
        directories = [Directory(config, LiveSnapshot(config.data_dir)) for config in instance.apps]
        if options.check:
            check_parser()
            checked = Directories(directories)
            checked.open()
            checked.close()
            return _say_ok(instance)
        setup_logs(instance.shared.log, process="server")
        # No line of ours tells these, and each would cost every request a look-up (logging, "Optimization").
        logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
        check_parser()
        asyncio.run(_serve(instance, directories, certificate))
    except (ConfigError, SecretError, CertificateError) as error:
        print(error, file=sys.stderr)
        return BAD_CONFIG
    except SnapshotError as error:
        print(error, file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:  # Windows: Ctrl-C, after the server has stopped in good order
        return OK
    return OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scim-server", description="Answer SCIM requests from the newest snapshot.")
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="the configuration; default: ./config.toml, else the environment",
    )
    where.add_argument("--from-environment", action="store_true", help="use environment variables and ./.env only")
    parser.add_argument("--app", metavar="NAME", help="serve one of the apps of the configuration alone")
    parser.add_argument("--check", action="store_true", help="check configuration, secrets and certificate, then stop")
    parser.add_argument("--version", action="version", version=__version__)
    return parser


def _say_ok(instance: Instance) -> int:
    for warning in instance.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    print(f"OK: {instance.where}")
    return OK


async def _serve(instance: Instance, directories: Sequence[Directory], certificate: Certificate | None) -> None:
    """Serve until a signal comes."""
    for warning in instance.warnings:
        log.warning("configuration", extra={"facts": {"warning": warning}})
    app = create_instance_app(directories, request_log=open_request_log(instance.shared.log))
    listener = Listener(app, certificate)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        # Windows has no signal handlers on the loop: there Ctrl-C cancels this task.
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(number, stop.set)
    try:
        addresses = await listener.start()
        bases = {path: str(base.version) for item in directories for path, base in item.config.server.paths.items()}
        facts = {
            "addresses": addresses,
            "https": certificate is not None,
            "paths": bases,
            "version": __version__,
        }
        log.info("listening", extra={"facts": facts})
        await stop.wait()
        log.info("stopping")
    finally:
        await listener.stop()


if __name__ == "__main__":
    sys.exit(main())
