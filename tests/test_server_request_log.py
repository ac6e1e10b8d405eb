"""The buffered request log: the same JSON line as logging makes, in fewer writes."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta

import orjson
from server_fixtures import Directory, person

from server.app import create_app
from server.listener import Listener
from server.live import LiveSnapshot
from server.request_log import FLUSH_SECONDS, MAX_HELD, BufferedRequestLog, LoggingRequestLog, open_request_log
from snapshot.config import Log
from snapshot.logs import setup_logs


class Told(dict):
    """A line that says what is in it."""

    def members(self) -> dict:
        return self


async def test_lines_are_those_of_the_log(capsys):
    """Both ways give the same line but for the time."""
    written: list[bytes] = []
    buffered = BufferedRequestLog(logging.INFO, written.append)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        setup_logs(Log(format="json"), process="server")
        LoggingRequestLog().write(logging.INFO, Told({"status": 200, "peer": None}))
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    buffered.write(logging.INFO, Told({"status": 200, "peer": None}))
    buffered.flush()
    expected, found = orjson.loads(capsys.readouterr().err), orjson.loads(written[0])
    assert list(expected) == list(found)
    assert len(expected.pop("time")) == len(found.pop("time"))
    assert expected == found


async def test_lines_are_written_together():
    """Lines wait a moment and go out in one write; flush writes what is held."""
    written: list[bytes] = []
    buffered = BufferedRequestLog(logging.INFO, written.append)
    for number in range(100):
        buffered.write(logging.INFO, Told({"number": number}))
    assert written == []
    await asyncio.sleep(FLUSH_SECONDS * 1.5)
    assert len(written) == 1
    assert list(range(100)) == [orjson.loads(line)["number"] for line in written[0].splitlines()]
    buffered.write(logging.INFO, Told({}))
    buffered.flush()
    assert len(written) == 2


async def test_a_crowd_of_lines_does_not_wait():
    """So many lines are written at once that making them never holds the event loop for long."""
    written: list[bytes] = []
    buffered = BufferedRequestLog(logging.INFO, written.append)
    for number in range(2 * MAX_HELD + 1):
        buffered.write(logging.INFO, Told({"number": number}))
    assert [MAX_HELD, MAX_HELD] == [lines.count(b"\n") for lines in written]
    buffered.flush()
    assert list(range(2 * MAX_HELD + 1)) == [orjson.loads(line)["number"] for line in b"".join(written).splitlines()]


async def test_a_line_has_the_time_of_its_request():
    """Lines that are made later tell when they were written, not when they were made."""
    written: list[bytes] = []
    buffered = BufferedRequestLog(logging.INFO, written.append)
    before = datetime.now(UTC)
    buffered.write(logging.INFO, Told({"number": 1}))
    after = datetime.now(UTC)
    await asyncio.sleep(FLUSH_SECONDS * 1.5)
    told = datetime.fromisoformat(orjson.loads(written[0])["time"])
    assert before - timedelta(milliseconds=1) <= told <= after


def test_the_configured_level_holds():
    """Lines below the configured level are not made."""
    log = open_request_log(Log(level="warning", format="json"))
    assert not log.enabled(logging.INFO)
    assert log.enabled(logging.WARNING)
    assert isinstance(open_request_log(Log(format="text")), LoggingRequestLog)


async def test_nothing_is_lost_at_the_end(tmp_path):
    """Stopping the server writes the lines that are still held."""
    directory = Directory(tmp_path).add(person(1))
    directory.publish()
    written: list[bytes] = []
    live = LiveSnapshot(directory.config.data_dir)
    buffered = BufferedRequestLog(logging.INFO, written.append)
    listener = Listener(create_app(directory.config, live, request_log=buffered))
    ((host, port),) = await listener.start()
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(b"GET /scim/v1/Users HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    await reader.read()
    writer.close()
    await listener.stop()
    assert [401] == [orjson.loads(line)["status"] for line in b"".join(written).splitlines()]
