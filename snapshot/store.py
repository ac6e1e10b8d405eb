"""The data folder: generations, CURRENT, quarantine and the lock of the one writer.

DATA_DIR/
    LOCK                        held by the process that writes a generation
    CURRENT                     the number of the newest generation, replaced in one step
    NUMBER                      the highest number that a generation in quarantine had
    SUPERSEDED                  the highest number of those in quarantine that are void
    served.jsonl                since when the server has been serving which generation
    generations/00000042/       immutable once it has this name
    quarantine/00000043/        refused by the guard, waits for approve or reject

Publishing is safe to die after each step: `.creating-N` is swept by the next writer, a directory gets
its number by a rename to a name that does not exist, CURRENT is replaced last.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import msgspec
from filelock import FileLock, Timeout

from snapshot import __version__
from snapshot.checksum import at_once, xxh3
from snapshot.errors import CorruptGenerationError, FormatVersionError, LockHeldError, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# What a writer writes. A reader opens every format up to this one.
# 1: the first one.
# 2: index.sqlite has User.removed; the manifest has removed, expired, kept, omitted, emptied, content, rejects_digest.
# 3: index.sqlite has attribute.type and tables of other types than User; the manifest has related, links, type_changes.
# 4: files have XXH3-128 checksums instead of SHA-256.
FORMAT_VERSION = 4

GENERATIONS = "generations"
QUARANTINE = "quarantine"
CURRENT = "CURRENT"
NUMBER = "NUMBER"
SUPERSEDED = "SUPERSEDED"
SERVED = "served.jsonl"
MANIFEST = "manifest.json"
CREATING = ".creating-"
# Beyond 18 digits a number fits no 64-bit integer: it is damage, and could neither be shown nor counted on.
_MAX_DIGITS = 18
_NUMBER = re.compile(rf"[0-9]{{8,{_MAX_DIGITS}}}\Z")
_NO_CHECKSUM = "0" * 64
_CHECKSUM = re.compile(rb'^  "checksum": "[0-9a-f]{64}"', re.MULTILINE)
_CHECKSUM_ZEROS = f'  "checksum": "{_NO_CHECKSUM}"'.encode()
_REPLACE_ATTEMPTS = 50


class FileFacts(msgspec.Struct, frozen=True):
    """Size and checksum (hex) of one file of a generation: XXH3-128; up to format 3 it was SHA-256."""

    bytes: int
    xxh3: str = ""
    sha256: str = ""


class TypeFacts(msgspec.Struct, frozen=True):
    """What a generation holds of one resource type. `removed` of `count` are tombstones."""

    count: int
    active: int = 0
    removed: int = 0


class ChangeFacts(msgspec.Struct, frozen=True):
    """How many resources differ from the generation before."""

    added: int = 0
    changed: int = 0
    deactivated: int = 0
    removed: int = 0
    expired: int = 0


class RelatedFacts(msgspec.Struct, frozen=True):
    """What was read of one query beside the users: its rows, and those that could not be used."""

    rows: int
    rejects: int = 0


class EmptiedFacts(msgspec.Struct, frozen=True):
    """Of `filled` users that had an attribute in the generation before and are still there, `emptied` lost it."""

    filled: int
    emptied: int


class Manifest(msgspec.Struct, frozen=True):
    """Describes one generation; written last, so a directory without it is not a generation."""

    generation: int
    created_at: str
    created_ms: int
    config_digest: str
    resource_types: dict[str, TypeFacts]
    rows: int
    rejects: int
    changes: ChangeFacts
    seconds: dict[str, float]
    files: dict[str, FileFacts]
    previous: int | None = None
    reject_reasons: dict[str, int] = {}
    warnings: tuple[str, ...] = ()
    rejects_digest: str = ""
    kept: int = 0
    omitted: int = 0
    emptied: dict[str, EmptiedFacts] = {}
    related: dict[str, RelatedFacts] = {}
    links: dict[str, int] = {}
    type_changes: dict[str, ChangeFacts] = {}
    refused: tuple[str, ...] = ()
    content: str = ""
    isolation: str = ""
    checksum: str = ""
    format_version: int = FORMAT_VERSION
    product_version: str = __version__


def directory_name(number: int) -> str:
    """Return the directory name of a generation: eight digits or more, so that names sort."""
    return f"{number:08d}"


def generation_directory(data_dir: Path, number: int) -> Path:
    """Return the directory of a published generation."""
    return data_dir / GENERATIONS / directory_name(number)


def quarantine_directory(data_dir: Path, number: int) -> Path:
    """Return the directory of a generation in quarantine."""
    return data_dir / QUARANTINE / directory_name(number)


def read_current(data_dir: Path) -> int | None:
    """Return the number in CURRENT; None while nothing has been published.

    Raises CorruptGenerationError if the file holds something else.
    """
    path = data_dir / CURRENT
    try:
        with path.open("rb") as file:
            text = file.read(64)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}.") from None
    digits = text.strip()
    if not digits.isdigit() or len(digits) > _MAX_DIGITS or len(text) > 32:  # noqa: PLR2004
        raise CorruptGenerationError(path, "it does not hold a generation number")
    return int(digits)


def readable_current(data_dir: Path) -> int | None:
    """Return the number in CURRENT, or of the newest generation if CURRENT is missing, damaged or names a pruned one.

    Without this the guard would have nothing to compare with, and a refresh that lost most people would be published.
    """
    try:
        number = read_current(data_dir)
    except CorruptGenerationError:
        number = None
    there = list_numbers(data_dir / GENERATIONS)
    if there and (number is None or number < there[0]):
        return there[-1]
    return number or None


def read_manifest(directory: Path) -> Manifest:
    """Read the manifest of a generation; raises CorruptGenerationError or FormatVersionError."""
    path = directory / MANIFEST
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise CorruptGenerationError(path, error.strerror or "it cannot be read") from None
    try:
        version = msgspec.json.decode(raw, type=dict[str, Any]).get("format_version")
        if isinstance(version, int) and version > FORMAT_VERSION:
            raise FormatVersionError(path, version, FORMAT_VERSION)
        manifest = msgspec.json.decode(raw, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CorruptGenerationError(path, f"it is not a manifest ({error})") from None
    # Format 1 had no checksum of its own.
    if (manifest.format_version != 1 or manifest.checksum) and _manifest_checksum(raw) != manifest.checksum:
        raise CorruptGenerationError(path, "its checksum is not the one it holds")
    return manifest


def write_manifest(directory: Path, manifest: Manifest) -> Manifest:
    """Write (or replace) the manifest; return it with the checksum of its own bytes in it."""
    raw = msgspec.json.format(msgspec.json.encode(msgspec.structs.replace(manifest, checksum=_NO_CHECKSUM)))
    checksum = _manifest_checksum(raw)
    replace_file(directory / MANIFEST, raw.replace(_NO_CHECKSUM.encode(), checksum.encode(), 1))
    return msgspec.structs.replace(manifest, checksum=checksum)


def _manifest_checksum(raw: bytes) -> str:
    """Return SHA-256 (hex) over the manifest's bytes, its own checksum taken as zeros."""
    return hashlib.sha256(_CHECKSUM.sub(_CHECKSUM_ZEROS, raw, count=1)).hexdigest()


def list_numbers(folder: Path) -> list[int]:
    """Return the generation numbers that a folder holds, ascending."""
    try:
        return sorted(int(entry.name) for entry in os.scandir(folder) if _NUMBER.match(entry.name))
    except FileNotFoundError:
        return []


@contextlib.contextmanager
def writer_lock(data_dir: Path, name: str = "LOCK", *, patience_seconds: float = 0) -> Iterator[None]:
    """Hold a lock of the data folder; LockHeldError (at once, or when patience ends) if another process has it.

    The operating system frees it when the process dies, so there is no stale lock.
    """
    lock = FileLock(data_dir / name)
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)  # people's data
        lock.acquire(timeout=patience_seconds)
    except Timeout:
        raise LockHeldError(data_dir / name, _holder(data_dir / f"{name}.pid")) from None
    except OSError as error:
        raise StoreError(_io_cause(data_dir, error), remedy=_io_remedy(data_dir)) from error
    try:
        with contextlib.suppress(OSError):
            (data_dir / f"{name}.pid").write_text(f"{os.getpid()}\n", encoding="ascii")
        yield
    finally:
        lock.release()


def _holder(note: Path) -> str:
    try:
        return f"process {int(note.read_text(encoding='ascii'))}"
    except (OSError, ValueError):
        return "unknown process"


def _io_cause(path: Path, error: OSError) -> str:
    place = f"{error.filename} to {error.filename2}" if error.filename2 else error.filename or path
    return f"{place}: {error.strerror or error}."


def _io_remedy(data_dir: Path) -> str:
    return f"Check that {data_dir} exists, has room, and that this account may write to it."


@contextlib.contextmanager
def disk_errors(data_dir: Path) -> Iterator[None]:
    """Turn an OSError into a StoreError that names the cause (disk full, no permission).

    What SQLite raises here is about the index too: a source has turned its own errors into SourceErrors.
    """
    try:
        yield
    except OSError as error:
        raise StoreError(_io_cause(data_dir, error), remedy=_io_remedy(data_dir)) from error
    except sqlite3.Error as error:
        raise StoreError(f"An index in {data_dir}: {error}.", remedy=_io_remedy(data_dir)) from error


class Staging:
    """One generation being written under `.creating-N`; `publish` or `quarantine` gives it its name."""

    def __init__(self, data_dir: Path, number: int, directory: Path) -> None:
        self.data_dir = data_dir
        self.number = number
        self.directory = directory
        self.files: dict[str, FileFacts] = {}

    def adopt(self, *names: str) -> None:
        """Fsync finished files of the directory and note their sizes and checksums."""
        facts = at_once(lambda name: _adopted(self.directory / name), names)
        self.files.update(zip(names, facts, strict=True))

    @contextlib.contextmanager
    def syncing(self, *names: str) -> Iterator[None]:
        """Write files to the disk while something else is done; they may still be altered. Raises OSError."""
        with ThreadPoolExecutor(1, thread_name_prefix="sync") as executor:
            written = [executor.submit(_sync_file, self.directory / name) for name in names]
            yield
            for item in written:
                item.result()

    def publish(self, manifest: Manifest) -> Manifest:
        """Give the generation its number and make it CURRENT; return the manifest as written."""
        manifest, target = self._name_it(manifest, GENERATIONS)
        try:
            set_current(self.data_dir, self.number)
        except OSError:
            # On a full disk each try would leave one more generation, until there is no room to stage any.
            if read_current(self.data_dir) != self.number:
                shutil.rmtree(target, ignore_errors=True)
            raise
        return manifest

    def quarantine(self, manifest: Manifest) -> None:
        """Put the generation aside; CURRENT stays as it is, and its number is never given again."""
        replace_file(self.data_dir / NUMBER, f"{directory_name(self.number)}\n".encode())
        self._name_it(manifest, QUARANTINE)

    def _name_it(self, manifest: Manifest, folder: str) -> tuple[Manifest, Path]:
        manifest = write_manifest(self.directory, manifest)
        _sync_directory(self.directory)
        target = self.data_dir / folder / directory_name(self.number)
        target.parent.mkdir(exist_ok=True)
        self.directory.rename(target)
        _sync_directory(target.parent)
        return manifest, target


def _adopted(path: Path) -> FileFacts:
    checksum = xxh3(path)
    return FileFacts(bytes=_sync_file(path), xxh3=checksum)


def _sync_file(path: Path) -> int:
    """Fsync a file; return its size. Windows wants to be able to write to it."""
    with path.open("r+b") as file:
        os.fsync(file.fileno())
        return os.fstat(file.fileno()).st_size


@contextlib.contextmanager
def stage(data_dir: Path) -> Iterator[Staging]:
    """Make the directory of the next generation; whatever is left unpublished is removed again.

    The caller holds the writer lock. OSErrors become StoreErrors that name the cause (disk full, no permission).
    """
    with disk_errors(data_dir):
        sweep(data_dir)
        return_unapproved(data_dir)
        number = 1 + max(
            (
                readable_current(data_dir) or 0,
                read_number(data_dir / NUMBER),
                *list_numbers(data_dir / GENERATIONS)[-1:],
                *list_numbers(data_dir / QUARANTINE)[-1:],
            )
        )
        directory = data_dir / f"{CREATING}{directory_name(number)}"
        directory.mkdir()  # without parents: where the data folder was unmounted, nothing is made
        try:
            yield Staging(data_dir, number, directory)
        finally:
            shutil.rmtree(directory, ignore_errors=True)


def read_number(path: Path) -> int:
    """Return the number in a small file; 0 if there is none."""
    try:
        text = path.read_text("ascii").strip()
    except (OSError, ValueError):
        return 0
    return int(text) if text.isdecimal() and len(text) <= _MAX_DIGITS else 0


def sweep(data_dir: Path) -> None:
    """Remove what a writer that died has left: `.creating-*` directories and CURRENT.tmp."""
    for entry in list(os.scandir(data_dir)) if data_dir.is_dir() else []:
        if entry.name.startswith(CREATING):
            shutil.rmtree(entry.path, ignore_errors=True)
        elif entry.name in {f"{CURRENT}.tmp", f"{NUMBER}.tmp", f"{SUPERSEDED}.tmp"}:
            with contextlib.suppress(OSError):
                os.unlink(entry.path)  # noqa: PTH108 (a DirEntry has a path already)


def set_current(data_dir: Path, number: int) -> None:
    """Make a published generation the newest one."""
    replace_file(data_dir / CURRENT, f"{directory_name(number)}\n".encode())


def prune(data_dir: Path, keep: int) -> list[int]:
    """Remove all but the newest `keep` generations; return what was removed.

    A generation that a reader on Windows still maps cannot be removed: the next prune tries again. On
    POSIX the reader keeps the unlinked files until it lets go.
    """
    current = read_current(data_dir) or 0
    old = [number for number in list_numbers(data_dir / GENERATIONS) if number <= current]
    return [number for number in old[:-keep] if remove(data_dir, generation_directory(data_dir, number))]


def remove(data_dir: Path, directory: Path) -> bool:
    """Remove a directory, out of the way in one step first: nobody meets half of one, the next writer sweeps it."""
    doomed = data_dir / f"{CREATING}pruned-{directory.name}"
    shutil.rmtree(doomed, ignore_errors=True)
    try:
        directory.rename(doomed)
    except OSError:
        return False
    # A gigabyte takes the system a tenth of a second and more: several at a time.
    with contextlib.suppress(OSError):  # no directory at all
        at_once(_unlink, list(doomed.iterdir()))
    shutil.rmtree(doomed, ignore_errors=True)
    return True


def _unlink(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()


def publish_quarantined(data_dir: Path, manifest: Manifest) -> Manifest:
    """Move a generation from quarantine to the published ones and make it CURRENT; return the manifest as written."""
    source = quarantine_directory(data_dir, manifest.generation)
    target = generation_directory(data_dir, manifest.generation)
    with disk_errors(data_dir):
        manifest = write_manifest(source, manifest)
        target.parent.mkdir(exist_ok=True)
        source.rename(target)
        _sync_directory(target.parent)
        try:
            set_current(data_dir, manifest.generation)
        except OSError:
            if read_current(data_dir) != manifest.generation:
                target.rename(source)  # it waits again
            raise
    return manifest


def return_unapproved(data_dir: Path) -> None:
    """Bring back to quarantine what an approval that died has moved but not made CURRENT. Raises OSError."""
    try:
        current = read_current(data_dir)
    except StoreError:
        return
    for number in list_numbers(data_dir / GENERATIONS):
        if current is None or number <= current:
            continue
        directory = generation_directory(data_dir, number)
        with contextlib.suppress(StoreError):
            if read_manifest(directory).refused:
                (data_dir / QUARANTINE).mkdir(exist_ok=True)
                directory.rename(quarantine_directory(data_dir, number))


def supersede_quarantine(data_dir: Path) -> None:
    """Note that what waits in quarantine is void.

    Since it was refused, a refresh has found what is being served to be right, or another one of them was approved.
    """
    newest = max(list_numbers(data_dir / QUARANTINE), default=0)
    if newest > read_number(data_dir / SUPERSEDED):
        replace_file(data_dir / SUPERSEDED, f"{directory_name(newest)}\n".encode())


def is_superseded(data_dir: Path, number: int) -> bool:
    """Tell whether a generation in quarantine can only be rejected, because something newer is known."""
    return number <= _newest_known(data_dir)


def waiting_numbers(data_dir: Path) -> list[int]:
    """Return the numbers of those in quarantine that may still be approved, ascending."""
    known = _newest_known(data_dir)
    return [number for number in list_numbers(data_dir / QUARANTINE) if number > known]


def _newest_known(data_dir: Path) -> int:
    """Return the number up to which a generation in quarantine is void."""
    return max(readable_current(data_dir) or 0, read_number(data_dir / SUPERSEDED))


def prune_quarantine(data_dir: Path, keep: int) -> None:
    """Remove all but the newest `keep` refused generations, or a refusal each hour would fill the disk."""
    for number in list_numbers(data_dir / QUARANTINE)[:-keep]:
        remove(data_dir, quarantine_directory(data_dir, number))


def replace_file(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Replace a small file in one step: readers see the old or the new content, never a part.

    `durable=False` spares the fsyncs of a note that is worth nothing after a crash.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        write_file(temporary, data, durable=durable)
    except OSError:
        # On a full disk each request would leave one of its own.
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    for attempt in range(_REPLACE_ATTEMPTS):
        try:
            os.replace(temporary, path)  # noqa: PTH105 (one step on Windows too)
            break
        except PermissionError:
            # Windows refuses while a reader has the file open, which is a matter of microseconds.
            if os.name != "nt" or attempt == _REPLACE_ATTEMPTS - 1:
                raise
            time.sleep(0.02)
    if durable:
        _sync_directory(path.parent)


def write_file(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write a file and, if durable, fsync it."""
    with path.open("wb") as file:
        file.write(data)
        if durable:
            file.flush()
            os.fsync(file.fileno())


def _sync_directory(path: Path) -> None:
    """Make a rename in this directory durable. Windows cannot open directories; NTFS journals renames."""
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
