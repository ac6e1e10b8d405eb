"""What the three programs have in common on the command line: the options of the configuration, exit codes."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from snapshot import __version__
from snapshot.errors import ConfigError
from snapshot.instance import Instance, load_instance

if TYPE_CHECKING:
    from snapshot.config import Config

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_CONFIG = 2
EXIT_REFUSED = 3


def make_parser(program: str, description: str, *, config_options: bool = True) -> argparse.ArgumentParser:
    """Return a parser with --version and, unless its commands have them, the options of the configuration."""
    parser = argparse.ArgumentParser(prog=program, description=description)
    if config_options:
        add_config_options(parser)
    parser.add_argument("--version", action="version", version=f"scim-snapshot {__version__}")
    return parser


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where the configuration is, and which of its apps is meant."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--config", type=Path, metavar="FILE", help="the configuration (default: config.toml)")
    where.add_argument(
        "--from-environment",
        action="store_true",
        help="use environment variables and .env, even if there is a config.toml",
    )
    parser.add_argument("--app", metavar="NAME", help="one of the apps of the configuration, [apps.NAME]")


def read_instance(options: argparse.Namespace) -> Instance | None:
    """Load the configuration the options name; on problems print each on a line and return None."""
    try:
        return load_instance(options.config, from_environment=options.from_environment, app=options.app)
    except ConfigError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)  # noqa: T201
        return None


def read_config(options: argparse.Namespace) -> Config | None:
    """Load the configuration of the one app the options name; of several apps one has to be named."""
    instance = read_instance(options)
    try:
        return None if instance is None else instance.single()
    except ConfigError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)  # noqa: T201
        return None
