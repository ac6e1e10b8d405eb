"""The administrator's tool: python -m snapshot COMMAND."""

from __future__ import annotations

import getpass
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from snapshot import control
from snapshot.approval import approve, reject
from snapshot.commandline import (
    EXIT_CONFIG,
    EXIT_FAILED,
    EXIT_OK,
    add_config_options,
    make_parser,
    read_config,
)
from snapshot.errors import SnapshotError
from snapshot.secret import hash_secret
from snapshot.store import (
    QUARANTINE,
    generation_directory,
    list_numbers,
    quarantine_directory,
    read_current,
    read_manifest,
    writer_lock,
)

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    from snapshot.config import Config


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; return its exit code."""
    parser = make_parser("scim-snapshot", "Tools for the administrator of a snapshot.", config_options=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    demo = commands.add_parser("demo", help="try the product: made-up people, both processes, ready for requests")
    demo.add_argument("--people", type=int, default=1000, metavar="N", help="how many people (default: 1000)")
    demo.add_argument("--port", type=int, default=8080, help="the port of the server (default: 8080)")
    demo.add_argument("--folder", type=Path, default=Path(".demo"), help="where it keeps its files (default: .demo)")

    hasher = commands.add_parser("hash-secret", help="make a scrypt hash of a password or token for config.toml")
    hasher.add_argument("--stdin", action="store_true", help="read the secret from standard input, one line")

    status = commands.add_parser("status", help="show what is published and what the scheduler does")
    status.add_argument("--json", action="store_true", help="as JSON")
    rejects = commands.add_parser("rejects", help="list the rows that could not become users, with the reason")
    quarantine = commands.add_parser(
        "quarantine", help="list generations that the guard refused; approve or reject one"
    )
    quarantine.add_argument("action", nargs="?", choices=("list", "approve", "reject"), default="list")
    quarantine.add_argument("number", nargs="?", type=int, metavar="N", help="the number of the generation")
    for command in (status, rejects, quarantine):
        add_config_options(command)

    options = parser.parse_args(arguments)
    if options.command == "demo":
        from snapshot.demo.run import run_demo  # noqa: PLC0415 (only this command needs it)

        return run_demo(people=options.people, folder=options.folder, port=options.port)
    if options.command == "hash-secret":
        return _hash_secret(from_stdin=options.stdin)
    config = read_config(options)
    if config is None:
        return EXIT_CONFIG
    commands_by_name: dict[str, Callable[[Config, argparse.Namespace], int]] = {
        "status": _status,
        "rejects": _rejects,
        "quarantine": _quarantine,
    }
    try:
        return commands_by_name[options.command](config, options)
    except SnapshotError as error:
        _error(f"{error.cause} {error.remedy}".strip())
        return EXIT_FAILED


def _hash_secret(*, from_stdin: bool) -> int:
    try:
        secret = sys.stdin.readline().rstrip("\r\n") if from_stdin else getpass.getpass("Secret: ")
        if not from_stdin and getpass.getpass("Again: ") != secret:
            _error("The two do not match.")
            return EXIT_FAILED
    except EOFError:
        _error("There is no terminal to type at: use --stdin.")
        return EXIT_FAILED
    if not secret:
        _error("An empty secret protects nothing.")
        return EXIT_FAILED
    _line(hash_secret(secret))
    return EXIT_OK


def _status(config: Config, options: argparse.Namespace) -> int:
    """Print the newest generation and the scheduler's last word; exit 1 when nothing is published."""
    number = read_current(config.data_dir)
    manifest = read_manifest(generation_directory(config.data_dir, number)) if number is not None else None
    scheduler = control.read_status(config.data_dir)
    waiting = list_numbers(config.data_dir / QUARANTINE)
    if options.json:
        facts = {
            "generation": None if manifest is None else msgspec.structs.replace(manifest, files={}),
            "scheduler": scheduler,
            "scheduler_alive": bool(scheduler and scheduler.alive),
            "quarantine": waiting,
        }
        _line(msgspec.json.format(msgspec.json.encode(facts)).decode())
        return EXIT_OK if manifest else EXIT_FAILED
    if manifest is None:
        _line(f"Nothing is published in {config.data_dir} yet.")
    else:
        users = manifest.resource_types["User"]
        _line(
            f"Generation {manifest.generation}, published {manifest.created_at}: "
            f"{users.count:,} users, {users.active:,} active."
        )
        _line(f"Rejects: {manifest.rejects:,} (python -m snapshot rejects)")
    if scheduler is None:
        _line("The scheduler has never run on this folder.")
    else:
        alive = (
            f"{scheduler.phase}, next run {scheduler.next_run_at or 'not planned'}"
            if scheduler.alive
            else "NOT RUNNING"
        )
        _line(f"Scheduler (process {scheduler.pid}): {alive}; last word {scheduler.updated_at}.")
        last = scheduler.last_outcome
        if last is not None and last.state != "published":
            _line(f"Last refresh {last.state} at {last.at}: {last.reason} {last.remedy}".rstrip())
    if waiting:
        _line(f"In quarantine: {', '.join(map(str, waiting))} (python -m snapshot quarantine)")
    return EXIT_OK if manifest else EXIT_FAILED


def _rejects(config: Config, _options: argparse.Namespace) -> int:
    """Print the rejects of the newest generation as JSON lines."""
    number = read_current(config.data_dir)
    if number is None:
        _error(f"Nothing is published in {config.data_dir} yet.")
        return EXIT_FAILED
    path = generation_directory(config.data_dir, number) / "rejects.jsonl"
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            _line(line.rstrip("\n"))
    return EXIT_OK


def _quarantine(config: Config, options: argparse.Namespace) -> int:
    """List, approve or reject generations that the guard refused."""
    if options.action == "list":
        numbers = list_numbers(config.data_dir / QUARANTINE)
        if not numbers:
            _line("No generation is in quarantine.")
        for number in numbers:
            manifest = read_manifest(quarantine_directory(config.data_dir, number))
            changes = manifest.changes
            _line(
                f"Generation {number}, read {manifest.created_at}: {manifest.resource_types['User'].count:,} users; "
                f"{changes.added:,} added, {changes.changed:,} changed, "
                f"{changes.deactivated:,} deactivated, {changes.removed:,} removed"
            )
            for reason in manifest.refused:
                _line(f"  refused: {reason}")
            _line(f"  what would change: {quarantine_directory(config.data_dir, number) / 'changes.jsonl'}")
        return EXIT_OK
    if options.number is None:
        _error(f"Which one? python -m snapshot quarantine {options.action} N")
        return EXIT_CONFIG
    with writer_lock(config.data_dir):
        if options.action == "approve":
            approve(config.data_dir, options.number, poll_seconds=config.server.poll_seconds)
            _line(f"Generation {options.number} is published.")
        else:
            reject(config.data_dir, options.number)
            _line(f"Generation {options.number} is removed.")
    return EXIT_OK


def _line(text: str) -> None:
    print(text)  # noqa: T201


def _error(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
