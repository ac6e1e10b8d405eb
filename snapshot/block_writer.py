"""BlockWriter: users written in blocks; who is as in the generation before is taken over from its files."""

from __future__ import annotations

from itertools import accumulate, compress
from typing import TYPE_CHECKING

from snapshot.bodies import runs_of
from snapshot.columnar import without_rows
from snapshot.encode import undress
from snapshot.scim import USER

if TYPE_CHECKING:
    from collections.abc import Callable

    from snapshot.block import Block
    from snapshot.encode import Undressed
    from snapshot.history import Times
    from snapshot.index import IndexWriter
    from snapshot.mapped import MappedBlock
    from snapshot.previous import Previous
    from snapshot.type_writer import TypeWriter

# Where more than one in so many differs, taking the others over in short runs costs more than it saves.
_RUNS_WORTH_IT = 8


class BlockWriter:
    """Writes blocks of users into the bodies and the index.

    `source` is the generation before, if its files were checked and what is the same may be taken over from them.
    `deferred` is how many users are, from the first on, as there, and are not written yet; None if all are written.
    """

    def __init__(self, index: IndexWriter, users: TypeWriter, source: Previous | None) -> None:
        self._index = index
        self._users = users
        self._source = source
        self.deferred = None if source is None else 0

    def write(
        self,
        block: Block,
        mapped: MappedBlock,
        users: Undressed,
        times: Times,
        map_again: Callable[[Block], MappedBlock],
    ) -> None:
        """Write the users that a block became, or defer them."""
        if self.deferred is not None:
            if times.known_from == self.deferred and all(times.same):
                self.deferred += mapped.size
                return
            self.write_deferred()
        different = times.same.count(False)
        if self._source is not None and times.known_from is not None and different * _RUNS_WORTH_IT < mapped.size:
            anew = map_again(without_rows(block, mapped, times.same)) if different else None
            self._write_runs(anew, times, times.known_from)
            return
        ordinals = range(self._users.count, self._users.count + mapped.size)
        created = _created(mapped, times.created)
        self._index.add_block(ordinals, mapped, users.fingerprints, created, times.modified)
        self._users.write_block(users, created, times.modified)

    def write_deferred(self) -> None:
        """Write what was deferred: something else is not as before."""
        count, self.deferred = self.deferred, None
        if count and self._source is not None:
            self._index.copy(0, count, 0)
            self._users.copy(self._source.directory, count)

    def _write_runs(self, anew: MappedBlock | None, times: Times, known_from: int) -> None:
        """Take over who is the same; only `anew`, who are not, are written from their rows."""
        source = self._source
        assert source is not None  # noqa: S101 (without one nothing is the same)
        runs = runs_of(times.same, known_from)
        starts = list(accumulate((run.count for run in runs), initial=self._users.count))
        for run, ordinal in zip(runs, starts, strict=False):
            if run.first is not None:
                self._index.copy(run.first, run.count, ordinal)
        if anew is None:
            self._users.write_runs(runs, None, (), (), lambda version: source.bodies(USER, version))
            return
        different = [not is_same for is_same in times.same]
        ordinals = list(compress(range(starts[0], starts[-1]), different))
        created = _created(anew, list(compress(times.created, different)))
        modified = list(compress(times.modified, different))
        users = undress(anew)
        self._index.add_block(ordinals, anew, users.fingerprints, created, modified)
        self._users.write_runs(runs, users, created, modified, lambda version: source.bodies(USER, version))


def _created(mapped: MappedBlock, known: list[int]) -> list[int]:
    """Return meta.created: as mapped, else as it was."""
    if mapped.created is None:
        return known
    return [old if new is None else new for old, new in zip(known, mapped.created, strict=True)]
