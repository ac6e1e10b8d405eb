"""What is served is, byte for byte, what was reviewed by eye and frozen. `make golden` writes it anew for the next review."""

from __future__ import annotations

import pytest
from golden_bodies import FOLDER, body_text, file_names


@pytest.mark.parametrize("name", list(file_names()))
def test_the_body_is_the_frozen_one(request, name):
    """The body, one line a key, is the one in the file."""
    base, asked = file_names()[name]
    judged = request.getfixturevalue(f"{asked.directory}_server")
    expected = (FOLDER / name).read_text(encoding="utf-8")
    assert expected == body_text(judged, base, asked)


def test_no_file_is_left_over():
    """Every frozen body is asked for by a line of the table."""
    assert set(file_names()) == {path.name for path in FOLDER.iterdir()}
