"""A publisher that is killed, at every step and at any instant, while a real server answers from its folder.

`make kills` is the long campaign: KILLS=3000 kills at random instants; KILL_SEED repeats the dice of one that went wrong.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import pytest
from rounds import ALLOWED_REMOVED, OF_THE_SERVER, FolderCheck, Ledger, Reader, RoundsFolder, count_of
from server_process import BASES, TREE, Client, running, wait_for

from server.live import LiveSnapshot
from snapshot.errors import NoSnapshotError
from snapshot.reader import open_snapshot
from snapshot.store import GENERATIONS, QUARANTINE, generation_directory, list_numbers, read_current, read_manifest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LONG = "KILLS" in os.environ
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(0 if LONG else 300),
    pytest.mark.skipif(sys.platform != "linux", reason="forks, SIGKILL, /proc and several loopback addresses"),
]
KILLS = int(os.environ.get("KILLS", "300"))
SEED = int(os.environ.get("KILL_SEED") or random.SystemRandom().randrange(1 << 32))
# A publisher lives for up to so many times what one publication takes here and now: most die amid one.
LONGEST_LIFE = 1.6
# A publication that nobody kills: how long does it take, and does it sweep what the dead have left?
KILLS_PER_PUBLICATION = 20
# A server that starts anew on what the dead have left.
KILLS_PER_SERVER = 100
PEERS = ("127.0.0.2", "127.0.0.3")
MAX_STEPS = 1_000
MORE_STEPS = 12
NOTHING_YET = "No snapshot is served yet: it is being opened, or the first refresh has to end first."
# Between two turns of an importer, some fifteen questions each; the publisher needs a processor too.
PAUSE_SECONDS = 0.02


class KillingPublisher:
    """The other side of proc_publisher.py."""

    def __init__(self, folder: RoundsFolder) -> None:
        self.folder = folder
        self.kills = 0
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, str(TREE / "tests" / "proc_publisher.py")],
            env={**os.environ, "PYTHONPATH": str(TREE)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        # Its standard input ends, so it does too.
        self._process.communicate(timeout=30)

    def publish(self, *, number: int | None = None, before_step: int | None = None) -> dict[str, Any]:
        """Publish one round, the next one if not told which; killed before that step if there are so many."""
        if number is not None:
            self.folder.go_to(number)
        return self._ask(before_step=before_step, after_seconds=None)

    def publish_until(self, seconds: float) -> dict[str, Any]:
        """Publish round after round until the death after so many seconds."""
        told = self._ask(before_step=None, after_seconds=seconds)
        assert told["killed"]
        return told

    def _ask(self, **command: Any) -> dict[str, Any]:
        command |= {"config": str(self.folder.toml_path), "database": str(self.folder.database)}
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        told = json.loads(self._process.stdout.readline())
        assert not told["error"], told["error"]
        self.kills += told["killed"]
        return told


class Importers:
    """Clients that never pause, each with an address and a connection of its own, until the block ends."""

    def __init__(self, port: int, ledger: Ledger) -> None:
        self._port = port
        self._ledger = ledger
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(peer,), daemon=True) for peer in PEERS]

    def __enter__(self) -> None:
        for thread in self._threads:
            thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive()

    def _run(self, peer: str) -> None:
        client = Client(self._port, peer=peer)
        reader = Reader(client, self._ledger)
        turn = 0
        try:
            while not self._stop.is_set():
                reader.check_all(turn)
                turn += 1
                self._stop.wait(PAUSE_SECONDS)
            assert client.connections == 1, "the server closed a connection that was to be kept alive"
        except BaseException as error:  # noqa: BLE001 (a thread's exception would else be heard of by nobody)
            self._ledger.violations.append("".join(traceback.format_exception(error)))
        finally:
            client.close()


@dataclass
class Figures:
    """What all campaigns of this file did together."""

    kills_at_steps: int = 0
    kills_at_instants: int = 0
    answers: int = 0
    imports: int = 0
    violations: int = 0

    def add(self, ledger: Ledger) -> None:
        self.answers += ledger.answers
        self.imports += ledger.imports
        self.violations += len(ledger.violations)


@pytest.fixture(scope="module")
def figures():
    return Figures()


@pytest.fixture
def folder(tmp_path):
    return RoundsFolder(tmp_path / "folder")


@pytest.fixture
def publisher(folder):
    with KillingPublisher(folder) as made:
        yield made


def next_round(folder: RoundsFolder, *, below: int | None = None, at_least: int = 0, parity: int | None = None) -> int:
    """Return a round after the source's own with so many people: `below` that, `at_least` that."""
    number = folder.round + 1
    while not (
        count_of(number) >= at_least
        and (below is None or count_of(number) < below)
        and (parity is None or number % 2 == parity)
    ):
        number += 1
    return number


@contextlib.contextmanager
def imported_from(folder: RoundsFolder, ledger: Ledger) -> Iterator[Callable[[], None]]:
    """Run a server with importers; yield what checks that it serves CURRENT by now and that nobody saw a violation."""
    with running(folder.toml_path) as (server, client):
        # It listens while it opens what it will serve, and answers 503 until then.
        wait_for(lambda: client.status()["snapshot"] is not None)
        reader = Reader(client, ledger)

        def check() -> None:
            assert [] == ledger.violations
            current = read_current(folder.data_dir)
            wait_for(lambda: reader.check_status() >= current, seconds=30)
            assert server.running

        with Importers(server.port, ledger):
            yield check
            check()
        # Neither an answer with a 5xx nor an open that failed; "configuration" is the password in clear text.
        bad = [line for line in server.lines() if line["level"] not in {"debug", "info"}]
        expected = {"configuration", "a generation waits in quarantine"}
        assert [] == [line for line in bad if line["event"] not in expected]
    assert [] == ledger.violations
    assert client.connections == 1


async def test_killed_before_every_step_of_the_first_publication(tmp_path, figures):
    """Into an empty folder: after each death there is nothing yet or a whole generation, and the next start publishes."""
    published_early = 0
    with KillingPublisher(RoundsFolder(tmp_path / "0")) as publisher:
        for step in range(1, MAX_STEPS):
            folder = publisher.folder = RoundsFolder(tmp_path / str(step))
            check = FolderCheck(folder.data_dir, ledger := Ledger())
            told = publisher.publish(before_step=step)
            live = LiveSnapshot(folder.data_dir)
            await live.poll()
            assert live.failed is None
            if check.after_death() == 0:
                assert live.current is None
                with pytest.raises(NoSnapshotError):
                    open_snapshot(folder.data_dir)
            else:
                published_early += 1
                ledger.check_snapshot(live.current)
            if not told["killed"]:
                break
            assert not publisher.publish()["killed"]
            assert check.after_success() > 0
            await live.poll()
            assert check.current == live.current.generation
    # Both sides of the moment of publication were met.
    assert 0 < published_early < step < MAX_STEPS
    assert step > 30
    figures.kills_at_steps += publisher.kills


def test_the_server_waits_for_the_first_generation_however_often_its_publisher_dies(folder, publisher, figures):
    """On the folder that the dead have left, the server says that there is nothing yet, then serves it whole."""
    check = FolderCheck(folder.data_dir, ledger := Ledger())
    with running(folder.toml_path) as (server, client):
        for step in range(1, MAX_STEPS):
            named = list_numbers(folder.data_dir / GENERATIONS)
            answer = client.get(f"{BASES[step % 2]}/Users")
            # A generation that has its name is whole. If CURRENT does not follow for seconds, it is served.
            assert answer.status == 503 or (named and answer.status == 200)
            if answer.status == 503:
                assert NOTHING_YET == answer.detail
            publisher.publish(before_step=step)
            if check.after_death():
                break
        assert publisher.kills > 30
        wait_for(lambda: client.status()["snapshot"] is not None)
        Reader(client, ledger).check_all(0)
        assert server.running
    figures.kills_at_steps += publisher.kills
    figures.add(ledger)


@pytest.mark.parametrize("way", ["out of order", "refused and approved"])
def test_killed_before_every_step_of_a_later_publication(folder, publisher, figures, way):
    """With pruning, and over quarantine and approval: the server answers whole generations all the while."""
    ledger = Ledger()
    check = FolderCheck(folder.data_dir, ledger)
    refused = way == "refused and approved"
    # Out of order as well: then each file is written twice. In order, the steps are some of these.
    least, below = (0, 30 - ALLOWED_REMOVED) if refused else (30, None)

    def publish_before() -> None:
        # What waits there is pruned too; without this the number of steps would grow with every kill.
        shutil.rmtree(folder.data_dir / QUARANTINE, ignore_errors=True)
        publisher.publish(number=next_round(folder, at_least=30, parity=1))

    def publish(step: int) -> dict[str, Any]:
        return publisher.publish(number=next_round(folder, at_least=least, below=below, parity=0), before_step=step)

    for _ in range(2):
        publish_before()
    steps = publish(0)["steps"]
    # Up to the guard's word the two ways are one.
    first = next(place for place, told in enumerate(steps, 1) if QUARANTINE in told) if refused and not LONG else 1
    befores = []
    with imported_from(folder, ledger) as served:
        for step in range(first, MAX_STEPS):
            publish_before()
            before = check.after_success()
            told = publish(step)
            assert check.after_death() >= before
            served()
            if told["killed"]:
                befores.append(told["before"])
                continue
            assert check.after_success() > before
            # How many files are pruned is not always the same.
            if step > len(told["steps"]) + MORE_STEPS:
                break
    manifest = read_manifest(generation_directory(folder.data_dir, check.current))
    assert refused == bool(manifest.refused)
    # The sequence was met whole, each step of it that is named here.
    expected = [
        *([f"os.rename /{QUARANTINE}/00", "sqlite UPDATE"] if refused else ["os.mkdir /.creating-", "sqlite COMMIT"]),
        *([] if refused else ["open /.creating-", "os.rename /.creating-", "shutil.rmtree /.creating-pruned"]),
        "fsync /generations",
        "open /CURRENT.tmp",
        "fsync /CURRENT.tmp",
        "os.rename /CURRENT.tmp /CURRENT",
    ]
    assert [] == [text for text in expected if not any(told.startswith(text) for told in befores)]
    assert any("/generations/00" in told for told in befores)
    assert ledger.imports > 10
    figures.kills_at_steps += publisher.kills
    figures.add(ledger)


def test_killed_at_random_instants(folder, publisher, figures, capsys):
    """Whenever the publisher dies, every answer is of one whole generation, and neither numbers nor times go back."""
    dice = random.Random(SEED)
    with capsys.disabled():
        print(f"\nKILL_SEED={SEED}", end=" ", flush=True)
    began = time.monotonic()
    ledger = Ledger()
    check = FolderCheck(folder.data_dir, ledger)
    assert not publisher.publish()["killed"]
    left = 0
    servers = 0
    while publisher.kills < KILLS:
        servers += 1
        with imported_from(folder, ledger) as served:
            for place in range(min(KILLS_PER_SERVER, KILLS - publisher.kills)):
                if place % KILLS_PER_PUBLICATION == 0:
                    started = time.monotonic()
                    assert not publisher.publish()["killed"]
                    life = LONGEST_LIFE * (time.monotonic() - started)
                    assert check.after_success()
                publisher.publish_until(dice.uniform(0, life))
                check.after_death()
                names = {entry.name for entry in folder.data_dir.iterdir()} - {OF_THE_SERVER}
                left += any(name.endswith(".tmp") or name[0] == "." for name in names)
                if dice.random() < 0.3:
                    served()
            assert not publisher.publish()["killed"]
            assert check.after_success()
    seconds = time.monotonic() - began
    # The campaign met its subject: publishers died in the middle of writing, and generations came through.
    assert left > KILLS / 10
    assert check.current > KILLS / 10
    assert ledger.answers > KILLS
    figures.kills_at_instants += publisher.kills
    figures.add(ledger)
    with capsys.disabled():
        print(
            f"{figures.kills_at_steps} kills before a step, {figures.kills_at_instants} at random instants "
            f"({left} amid a publication, {seconds:.0f} s), {check.current} generations, {servers} servers, "
            f"{figures.answers} answers and {figures.imports} imports checked, {figures.violations} violations"
        )
