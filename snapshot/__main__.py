"""The administrator's tool: python -m snapshot COMMAND."""

from __future__ import annotations

import contextlib
import errno
import getpass
import io
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from snapshot import control
from snapshot.commandline import (
    EXIT_CONFIG,
    EXIT_FAILED,
    EXIT_OK,
    add_config_options,
    make_parser,
    read_config,
)
from snapshot.diff import Diff, open_pair
from snapshot.diff_formats import FORMATS, write_diff
from snapshot.errors import SnapshotError
from snapshot.guard import users_with_a_row
from snapshot.quarantine_commands import decide, list_quarantine, show_audit, show_quarantined
from snapshot.reader import open_generation, open_snapshot
from snapshot.secret import hash_secret
from snapshot.store import (
    CURRENT,
    GENERATIONS,
    generation_directory,
    list_numbers,
    read_current,
    readable_current,
    waiting_numbers,
)

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    from snapshot.config import Config
    from snapshot.control import SchedulerStatus
    from snapshot.store import Manifest


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
        "quarantine", help="list and show generations that the guard refused; approve or reject one"
    )
    quarantine.add_argument("action", nargs="?", choices=("list", "show", "approve", "reject"), default="list")
    quarantine.add_argument("number", nargs="?", type=int, metavar="N", help="the number of the generation")
    quarantine.add_argument("--json", action="store_true", help="with list and show: as JSON")
    quarantine.add_argument(
        "--content", metavar="HEX", help="with approve and reject: only if it begins so (8 digits or more)"
    )
    diff = commands.add_parser("diff", help="show who differs between two generations, and in what")
    diff.add_argument(
        "numbers", nargs="*", type=int, metavar="N", help="from, to (default: the one before, the one in force)"
    )
    diff.add_argument("--values", action="store_true", help="also the old and the new value of each attribute")
    diff.add_argument("--format", choices=FORMATS, default="text", help="default: text")
    audit = commands.add_parser("audit", help="show who approved and rejected what")
    audit.add_argument("--json", action="store_true", help="as JSON lines")
    for command in (status, rejects, quarantine, diff, audit):
        add_config_options(command)

    options = parser.parse_args(arguments)
    if options.command == "quarantine":
        _check_quarantine(quarantine, options)
    if options.command == "diff" and len(options.numbers) > 2:  # noqa: PLR2004
        diff.error("at most two numbers")
    if options.command == "demo":
        from snapshot.demo.run import run_demo  # noqa: PLC0415 (only this command needs it)

        return run_demo(people=options.people, folder=options.folder, port=options.port)
    if options.command == "hash-secret":
        return _hash_secret(from_stdin=options.stdin)
    config = read_config(options)
    if config is None:
        return EXIT_CONFIG
    return _run(config, options)


def _check_quarantine(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """End with the usage if the parts of the command do not go together."""
    action = options.action
    if action == "list" and options.number is not None:
        parser.error(f"list takes no number: quarantine show {options.number}")
    if action != "list" and options.number is None:
        parser.error(f"Which one? python -m snapshot quarantine {action} N")
    if options.content is not None and action in {"list", "show"}:
        parser.error("--content belongs to approve and reject")
    if options.json and action in {"approve", "reject"}:
        parser.error("--json belongs to list and show")


def _run(config: Config, options: argparse.Namespace) -> int:
    """Run a command on the data folder; a reader that closes the pipe has seen enough."""
    commands: dict[str, Callable[[Config, argparse.Namespace], int]] = {
        "status": _status,
        "rejects": _rejects,
        "quarantine": _quarantine,
        "diff": _diff,
        "audit": _audit,
    }
    as_json = options.command == "rejects" or getattr(options, "json", False)
    _set_encoding(for_machines=as_json or getattr(options, "format", "text") != "text")
    try:
        code = commands[options.command](config, options)
        sys.stdout.flush()
    except SnapshotError as error:
        _error(f"{error.cause} {error.remedy}".strip())
        return EXIT_FAILED
    except OSError as error:
        # Windows says EINVAL of a closed pipe.
        if not isinstance(error, BrokenPipeError) and (os.name != "nt" or error.errno != errno.EINVAL):
            _error(f"{error.filename or 'standard output'}: {error.strerror or error}.")
            code = EXIT_FAILED
        else:
            code = EXIT_OK
        _forget_output()
    return code


def _set_encoding(*, for_machines: bool) -> None:
    """Make output that no name can break: UTF-8 with the ends of lines as written, or what the terminal can show."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if for_machines and isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", newline="")


def _forget_output() -> None:
    """Let the flush at the end of the process write what is left nowhere: its failure would be one more message.

    As the documentation of Python's signal module advises for SIGPIPE.
    """
    with contextlib.suppress(OSError, ValueError):
        standard_output = sys.stdout.fileno()
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), standard_output)


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
    """Print the newest generation and the scheduler's last word; exit 1 when nothing is published, or it is damaged."""
    manifest, damage = _newest_readable(config.data_dir)
    scheduler = control.read_status(config.data_dir)
    waiting = waiting_numbers(config.data_dir)
    code = EXIT_OK if manifest and not damage else EXIT_FAILED
    if options.json:
        facts = {
            "generation": None if manifest is None else msgspec.structs.replace(manifest, files={}),
            "damage": damage,
            "scheduler": scheduler,
            "scheduler_alive": bool(scheduler and scheduler.alive),
            "quarantine": waiting,
        }
        _line(msgspec.json.format(msgspec.json.encode(facts)).decode())
        return code
    if damage:
        _line(damage)
    if manifest is not None:
        _show_generation(manifest, config.command_options)
    elif not damage:
        _line(f"Nothing is published in {config.data_dir} yet.")
    _show_scheduler(scheduler)
    if waiting:
        _line(f"In quarantine: {', '.join(map(str, waiting))} (python -m snapshot quarantine{config.command_options})")
    return code


def _newest_readable(data_dir: Path) -> tuple[Manifest | None, str]:
    """Return the manifest of the generation in force, or of the one that the server falls back to, with the damage.

    Every file is checked, as the server does.
    """
    there = list_numbers(data_dir / GENERATIONS)
    damage = ""
    number = None
    try:
        number = read_current(data_dir)
        if number:
            return open_snapshot(data_dir).manifest, ""
        if there:
            damage = f"{data_dir / CURRENT} is missing or 0, but generations are there. Run a refresh."
    except SnapshotError as error:
        damage = f"{error.cause} {error.remedy}".strip()
    older = [item for item in there if number is None or item < number]
    newer = [item for item in there if item not in older]
    for item in (*reversed(older), *reversed(newer)):
        with contextlib.suppress(SnapshotError):
            return open_generation(generation_directory(data_dir, item)).manifest, damage
    return None, damage


def _show_generation(manifest: Manifest, options: str) -> None:
    users = manifest.resource_types["User"]
    _line(
        f"Generation {manifest.generation}, published {manifest.created_at}: "
        f"{users_with_a_row(manifest):,} users, {users.active:,} active."
    )
    if users.removed:
        _line(f"{users.removed:,} people without a row are sent as inactive.")
    if len(manifest.resource_types) > 1:
        counts = (f"{facts.count:,} {name}" for name, facts in manifest.resource_types.items() if name != "User")
        _line(f"{', '.join(counts)}.")
    kept = f", {manifest.kept:,} of them kept as published before" if manifest.kept else ""
    beside = sum(facts.rejects for facts in manifest.related.values())
    others = f", and {beside:,} of other rows" if beside else ""
    _line(f"Rejects: {manifest.rejects:,}{kept}{others} (python -m snapshot rejects{options})")


def _show_scheduler(scheduler: SchedulerStatus | None) -> None:
    if scheduler is None:
        _line("The scheduler has never run on this folder.")
        return
    alive = (
        f"{scheduler.phase}, next run {scheduler.next_run_at or 'not planned'}" if scheduler.alive else "NOT RUNNING"
    )
    _line(f"Scheduler (process {scheduler.pid}): {alive}; last word {scheduler.updated_at}.")
    if scheduler.paused_until:
        _line(f"Scheduled refreshes are paused until {scheduler.paused_until}: the database refused the login.")
    last = scheduler.last_outcome
    if last is not None and last.state == "unchanged":
        _line(f"Last refresh found no change at {last.at}.")
    elif last is not None and last.state != "published":
        _line(f"Last refresh {last.state} at {last.at}: {last.reason} {last.remedy}".rstrip())


def _rejects(config: Config, _options: argparse.Namespace) -> int:
    """Print the rejects of the newest generation as JSON lines."""
    number = readable_current(config.data_dir)
    if number is None:
        _error(f"Nothing is published in {config.data_dir} yet.")
        return EXIT_FAILED
    path = generation_directory(config.data_dir, number) / "rejects.jsonl"
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            _line(line.rstrip("\n"))
    return EXIT_OK


def _quarantine(config: Config, options: argparse.Namespace) -> int:
    """List and show generations that the guard refused; approve or reject one."""
    if options.action == "list":
        list_quarantine(config, sys.stdout, as_json=options.json)
    elif options.action == "show":
        show_quarantined(config, options.number, sys.stdout, as_json=options.json)
    else:
        _line(decide(config, options.action, options.number, content=options.content))
    return EXIT_OK


def _diff(config: Config, options: argparse.Namespace) -> int:
    """Print what differs between two generations."""
    with Diff(*open_pair(config.data_dir, tuple(options.numbers))) as diff:
        write_diff(sys.stdout, diff, options.format, values=options.values)
    return EXIT_OK


def _audit(config: Config, options: argparse.Namespace) -> int:
    """Print the decisions of people."""
    show_audit(config, sys.stdout, as_json=options.json)
    return EXIT_OK


def _line(text: str) -> None:
    print(text)  # noqa: T201


def _error(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
