"""Fixtures that several test files share."""

from __future__ import annotations

import pytest
from people_folder import PeopleFolder


@pytest.fixture
def folder(tmp_path):
    """A folder for a people table, its configuration and its generations."""
    return PeopleFolder(tmp_path)


def pytest_terminal_summary(terminalreporter):
    """Show the figures that tests recorded, whether they passed or not."""
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, ()):
            for name, text in getattr(report, "user_properties", ()):
                if name == "figures":
                    terminalreporter.write_line(f"{report.nodeid}: {text}")
