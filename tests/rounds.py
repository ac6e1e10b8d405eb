"""A source whose content is another in every round, and what every answer has to look like.

In round r there are `count_of(r)` people; all but the first three carry the number r in two attributes. So a page
tells which round it is of, and whether it is whole. The first three never change: their times have to stay for ever.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from people_folder import PeopleFolder, users_of
from server_process import BASES, filtered, server_settings

from snapshot.filter import parse_filter
from snapshot.reader import open_generation, open_snapshot
from snapshot.scim import USER, ScimVersion
from snapshot.store import (
    CREATING,
    GENERATIONS,
    QUARANTINE,
    SERVED,
    generation_directory,
    list_numbers,
    quarantine_directory,
    read_current,
    read_manifest,
)

if TYPE_CHECKING:
    from pathlib import Path

    from server_process import Client

    from snapshot.reader import Snapshot

LEAST, STEP, SPREAD = 14, 7, 23
STEADY = ("E00001", "E00002", "E00003")
# More than this many people fewer than before wait in quarantine: about every third round.
ALLOWED_REMOVED = 10
KEEP = 2
ENTERPRISE = (
    "urn:scim:schemas:extension:enterprise:1.0",
    "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User",
)
PAGE = 9
# Even rounds arrive in the wrong order, so that they are written twice.
_VIEW = f"""
    CREATE VIEW people AS
    WITH RECURSIVE numbers(i) AS (
        SELECT 1 UNION ALL SELECT i + 1 FROM numbers, round WHERE i < {LEAST} + (n * {STEP}) % {SPREAD}
    )
    SELECT printf('E%05d', i) AS id, 'user' || i || '@example.com' AS login,
        CASE WHEN i <= {len(STEADY)} THEN 'steady' ELSE 'round ' || n END AS shown,
        CASE WHEN i <= {len(STEADY)} THEN 'steady' ELSE 'round ' || n END AS dept
    FROM numbers, round ORDER BY CASE WHEN n % 2 THEN i ELSE -i END
"""


def count_of(number: int) -> int:
    """Return how many people there are in a round."""
    return LEAST + (number * STEP) % SPREAD


def ids_of(number: int) -> list[str]:
    """Return the ids of a round, in order."""
    return [f"E{i:05d}" for i in range(1, count_of(number) + 1)]


class RoundsFolder(PeopleFolder):
    """A data folder beside a source of rounds; the guard is on."""

    def __init__(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        super().__init__(path)
        self.settings["mapping"] = {
            "id": "id",
            "userName": "login",
            "displayName": "shown",
            "enterprise": {"department": "dept"},
        }
        self.settings["policy"] = {"on_removed": "omit"}
        self.settings["guard"] = {
            "max_removed_percent": 0.0,
            "always_allowed_removed": ALLOWED_REMOVED,
            "max_changed_percent": 100.0,
        }
        self.settings["store"] = {"keep_generations": KEEP}
        self.settings["server"] = server_settings()
        self.settings["log"] = {"format": "json", "level": "info"}
        with self.open() as database:
            database.execute("PRAGMA synchronous=OFF")
            database.execute("CREATE TABLE round(n INTEGER)")
            database.execute("INSERT INTO round VALUES (0)")
            database.execute(_VIEW)
        self.toml_path = self.toml()

    def go_to(self, number: int) -> None:
        """Let the next publication be of this round."""
        with self.open() as database:
            database.execute("UPDATE round SET n = ?", (number - 1,))

    @property
    def round(self) -> int:
        """Return the round that the source is in."""
        with self.open() as database:
            return database.execute("SELECT n FROM round").fetchone()[0]


class Ledger:
    """What was seen so far, by everybody: whatever is seen later must fit to it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stamps: dict[int, str] = {}
        self._steady: dict[str, str] = {}
        self._generations: dict[int, tuple[int, int]] = {}
        self.newest = 0
        self.answers = 0
        self.imports = 0
        self.violations: list[str] = []

    def check_users(self, users: list[dict[str, Any]], *, dialect: int) -> int | None:
        """Check users that were answered together; return their round, None if all of them are steady ones."""
        rounds = set()
        for user in users:
            shown = user["displayName"]
            assert shown == user[ENTERPRISE[dialect]]["department"]
            assert f"user{int(user['id'][1:])}@example.com" == user["userName"]
            if user["id"] in STEADY:
                assert shown == "steady"
                self._check_steady(user["id"], str(user["meta"]["created"]), str(user["meta"]["lastModified"]))
            else:
                number = int(shown.removeprefix("round "))
                assert user["id"] in ids_of(number)
                rounds.add(number)
                self._check_stamp(number, user["meta"]["lastModified"])
                assert user["meta"]["created"] <= user["meta"]["lastModified"]
        assert len(rounds) <= 1, f"one answer holds the rounds {sorted(rounds)}"
        return next(iter(rounds), None)

    def _check_steady(self, key: str, created: str, modified: str) -> None:
        """The times of who never changes are those of the first publication."""
        with self._lock:
            known = self._steady.setdefault(key, modified)
        assert (known, known) == (modified, created), f"{key} never changed, but its times did: {known}, {modified}"

    def _check_stamp(self, number: int, modified: str) -> None:
        """All people of a round have one lastModified, and a later round a later one."""
        with self._lock:
            known = self._stamps.setdefault(number, modified)
            before = max((item for item in self._stamps if item < number), default=None)
            after = min((item for item in self._stamps if item > number), default=None)
            assert known == modified, f"round {number} has two times: {known} and {modified}"
            assert before is None or self._stamps[before] < modified, f"lastModified went back at round {number}"
            assert after is None or modified < self._stamps[after], f"lastModified went back after round {number}"
            # Long campaigns see thousands of rounds; the newest tell whether time goes back.
            for old in sorted(self._stamps)[:-200]:
                del self._stamps[old]

    def stamp(self, number: int) -> str:
        with self._lock:
            return self._stamps[number]

    def saw(self, number: int | None, floor: int) -> None:
        """Note a round that came from the newest snapshot, when `floor` was known before the question."""
        if number is not None:
            assert number >= floor, f"round {number} after round {floor}"
            with self._lock:
                self.newest = max(self.newest, number)

    def count(self, *, answers: int = 0, imports: int = 0) -> None:
        with self._lock:
            self.answers += answers
            self.imports += imports

    def check_snapshot(self, snapshot: Snapshot) -> int:
        """Check a whole opened generation against its round; return the round."""
        numbers = set()
        for dialect, version in enumerate(ScimVersion):
            users = users_of(snapshot, version)
            number = self.check_users(users, dialect=dialect)
            assert number is not None
            assert ids_of(number) == [user["id"] for user in users]
            numbers.add(number)
        (number,) = numbers
        assert count_of(number) == snapshot.count(USER)
        for ordinal, key in enumerate(ids_of(number)):
            assert ordinal == snapshot.find(USER, key)
        assert [0] == list(snapshot.select(USER, parse_filter('userName eq "user1@example.com"')))
        with self._lock:
            entry = (number, snapshot.manifest.created_ms)
            assert entry == self._generations.setdefault(snapshot.generation, entry), "a number was used twice"
            ordered = sorted(self._generations)
            assert sorted(self._generations.values()) == [self._generations[item] for item in ordered]
            for old in ordered[:-50]:
                del self._generations[old]
        return number


# What may lie in the data folder when nobody writes.
LASTING = {"LOCK", "LOCK.pid", "CURRENT", "NUMBER", "SUPERSEDED", "audit.jsonl", SERVED, GENERATIONS, QUARANTINE}
# Written by the server, which lives.
OF_THE_SERVER = f"{SERVED}.tmp"


class FolderCheck:
    """What must hold of the data folder after every death of a publisher; CURRENT never goes back."""

    def __init__(self, data_dir: Path, ledger: Ledger) -> None:
        self._data_dir = data_dir
        self._ledger = ledger
        self.current = 0

    def after_death(self) -> int:
        """Check every published generation; return the number in CURRENT, 0 before the first one."""
        number = read_current(self._data_dir) or 0
        assert number >= self.current
        self.current = number
        for entry in self._data_dir.iterdir() if self._data_dir.is_dir() else ():
            temporary = entry.name.startswith(CREATING) or entry.name in {"CURRENT.tmp", "NUMBER.tmp", "SUPERSEDED.tmp"}
            assert temporary or entry.name in LASTING | {OF_THE_SERVER}, entry.name
        numbers = list_numbers(self._data_dir / GENERATIONS)
        assert not number or number in numbers, "CURRENT names what is not there"
        for item in numbers:
            # Each of them is whole, also one that got its name but did not become CURRENT. Nobody has seen the times
            # of such a one, so they stand in a ledger of their own.
            Ledger().check_snapshot(open_generation(generation_directory(self._data_dir, item)))
        for item in list_numbers(self._data_dir / QUARANTINE):
            assert item == read_manifest(quarantine_directory(self._data_dir, item)).generation
        if number:
            snapshot = open_snapshot(self._data_dir)
            assert number == snapshot.generation
            self._ledger.check_snapshot(snapshot)
        return number

    def after_success(self) -> int:
        """Check that nothing is left of the dead, and that the newest generations are kept; return CURRENT."""
        number = self.after_death()
        names = {entry.name for entry in self._data_dir.iterdir()} - {OF_THE_SERVER}
        assert {"LOCK", "LOCK.pid", "CURRENT", GENERATIONS} <= names <= LASTING
        numbers = list_numbers(self._data_dir / GENERATIONS)
        assert number == numbers[-1]
        assert len(numbers) <= KEEP
        return number


class Reader:
    """A client that imports, asks for single users and for the status, and checks every answer."""

    def __init__(self, client: Client, ledger: Ledger) -> None:
        self._client = client
        self._ledger = ledger
        self._generation = 0
        self._since: tuple[int, str] | None = None

    def _get(self, target: str) -> Any:
        answer = self._client.get(target)
        self._ledger.count(answers=1)
        assert answer.status == 200, f"{target}: {answer.status} {answer.body!r}"
        return answer.json

    def check_all(self, turn: int) -> None:
        """Ask everything there is, in the dialect and the manner of this turn."""
        dialect = turn % 2
        self.check_import(dialect, after_groups=turn % 4 >= 2)
        self.check_changed(dialect)
        self.check_single(dialect, turn % LEAST + 1)
        self.check_status()

    def check_import(self, dialect: int, *, after_groups: bool = False) -> int:
        """List all users page by page; return the one round that they are of."""
        floor = self._ledger.newest
        if after_groups:
            groups = self._get(f"{BASES[dialect]}/Groups?startIndex=1&count={PAGE}")
            assert groups["totalResults"] == 0
        users = self._pages(f"{BASES[dialect]}/Users?", dialect)
        number = self._ledger.check_users(users, dialect=dialect)
        assert number is not None
        assert ids_of(number) == [user["id"] for user in users]
        self._ledger.saw(number, floor)
        self._ledger.count(imports=1)
        return number

    def check_changed(self, dialect: int) -> None:
        """List who changed since the import before: everybody of a newer round but the steady ones, or nobody."""
        floor = self._ledger.newest
        if self._since is not None:
            known, moment = self._since
            users = self._pages(filtered(BASES[dialect], f'meta.lastModified gt "{moment}"') + "&", dialect)
            number = self._ledger.check_users(users, dialect=dialect)
            if number is None:
                assert not users
                assert floor <= known, f"nobody changed since round {known}, but round {floor} was seen"
            else:
                # The same round once more if the server was later than the time stamped on it.
                assert number >= known
                assert ids_of(number)[len(STEADY) :] == [user["id"] for user in users]
                self._ledger.saw(number, floor)
            self._ledger.count(imports=1)
        number = self._newest_of(dialect)
        self._since = (number, self._ledger.stamp(number))

    def _newest_of(self, dialect: int) -> int:
        floor = self._ledger.newest
        user = self._get(f"{BASES[dialect]}/Users/E{LEAST:05d}")
        number = self._ledger.check_users([user], dialect=dialect)
        assert number is not None
        self._ledger.saw(number, floor)
        return number

    def check_single(self, dialect: int, place: int) -> None:
        """Ask for one person by id and by userName."""
        key = f"E{place:05d}"
        floor = self._ledger.newest
        user = self._get(f"{BASES[dialect]}/Users/{key}")
        assert key == user["id"]
        self._ledger.saw(self._ledger.check_users([user], dialect=dialect), floor)
        floor = self._ledger.newest
        found = self._get(filtered(BASES[dialect], f'userName eq "USER{place}@example.com"'))
        assert (1, [key]) == (found["totalResults"], [item["id"] for item in found["Resources"]])
        self._ledger.saw(self._ledger.check_users(found["Resources"], dialect=dialect), floor)

    def check_status(self) -> int:
        """Return the generation being served; it never goes back, and no open has failed."""
        status = self._client.status()
        self._ledger.count(answers=1)
        assert status["failed_open"] is None
        generation = status["snapshot"]["generation"]
        assert generation >= self._generation
        self._generation = generation
        return generation

    def _pages(self, target: str, dialect: int) -> list[dict[str, Any]]:
        users: list[dict[str, Any]] = []
        total = None
        while total is None or len(users) < total:
            page = self._get(f"{target}startIndex={len(users) + 1}&count={PAGE}")
            total = page["totalResults"] if total is None else total
            assert total == page["totalResults"], "totalResults changed within a list"
            assert page["startIndex"] == len(users) + 1
            assert page["itemsPerPage"] == len(page["Resources"]) == min(PAGE, total - len(users))
            self._ledger.check_users(page["Resources"], dialect=dialect)
            users += page["Resources"]
        return users
