"""Whether the data folder is still the one that this scheduler holds the lock of.

A volume that is unmounted, or a folder that is moved away, leaves a path at which a new folder could be made. In that
one there would be nothing for the guard to compare with, and a lock that a second scheduler may hold.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from snapshot.errors import StoreError

if TYPE_CHECKING:
    from pathlib import Path


class LockedFolder(NamedTuple):
    """A data folder and which file its lock is: device and number of the file, which stay while the lock is held."""

    path: Path
    lock_name: str
    device: int
    inode: int

    def check(self) -> None:
        """Raise StoreError if the folder is gone, or another one is there; nothing is written."""
        try:
            found = os.stat(self.path / self.lock_name)  # noqa: PTH116 (as in locked_folder)
        except (FileNotFoundError, NotADirectoryError):
            found = None
        except OSError:
            return  # a folder that is there and cannot be used: whoever uses it says why
        if found is None or (found.st_dev, found.st_ino) != (self.device, self.inode):
            raise StoreError(
                f"The data folder {self.path} is gone or another one since the scheduler started.",
                remedy="Mount it again, or restart the scheduler.",
            )

    @property
    def is_there(self) -> bool:
        """Whether it is still there, and the same one."""
        try:
            self.check()
        except StoreError:
            return False
        return True


def locked_folder(path: Path, lock_name: str) -> LockedFolder:
    """Return which folder it is; the caller holds its lock of that name."""
    try:
        found = os.stat(path / lock_name)  # noqa: PTH116 (on Windows too it gives device and number)
    except OSError as error:
        raise StoreError(f"{path / lock_name}: {error.strerror}.", remedy=f"Check that {path} exists.") from None
    return LockedFolder(path, lock_name, found.st_dev, found.st_ino)
