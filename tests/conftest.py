"""Fixtures that several test files share."""

from __future__ import annotations

import pytest
from people_folder import PeopleFolder


@pytest.fixture
def folder(tmp_path):
    """A folder for a people table, its configuration and its generations."""
    return PeopleFolder(tmp_path)
