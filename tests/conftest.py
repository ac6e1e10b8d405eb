"""Fixtures that several test files share."""

from __future__ import annotations

import pytest
from judged_directory import judged_demo, judged_linked, judged_whole
from people_folder import PeopleFolder


@pytest.fixture
def folder(tmp_path):
    """A folder for a people table, its configuration and its generations."""
    return PeopleFolder(tmp_path)


@pytest.fixture(scope="session")
def demo_server(tmp_path_factory):
    """The demo's directory behind a running server; nobody may change it."""
    with judged_demo(tmp_path_factory.mktemp("demo")) as judged:
        yield judged


@pytest.fixture(scope="session")
def whole_server(tmp_path_factory):
    """The directory in which every attribute is filled, behind a running server; nobody may change it."""
    with judged_whole(tmp_path_factory.mktemp("whole")) as judged:
        yield judged


@pytest.fixture(scope="session")
def linked_server(tmp_path_factory):
    """The directory in which users belong to everything, behind a running server; nobody may change it."""
    with judged_linked(tmp_path_factory.mktemp("linked")) as judged:
        yield judged


@pytest.fixture(params=["demo_server", "whole_server", "linked_server"])
def judged(request):
    """Each of them in turn."""
    return request.getfixturevalue(request.param)


def pytest_terminal_summary(terminalreporter):
    """Show the figures that tests recorded, whether they passed or not."""
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, ()):
            for name, text in getattr(report, "user_properties", ()):
                if name == "figures":
                    terminalreporter.write_line(f"{report.nodeid}: {text}")
