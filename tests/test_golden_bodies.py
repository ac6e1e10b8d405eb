"""What is served is, byte for byte, what was reviewed by eye and frozen. `make golden` writes it anew for the next review.

The files add line breaks and indentation between the bytes, so that they can be read.
"""

from __future__ import annotations

import pytest
from golden_bodies import FOLDER, body_text, file_names, laid_out


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


def test_the_spelling_counts():
    """Numbers and escapes stay as they are spelled, and a key that stands twice stays twice."""
    laid = '{\n  "a": [\n    1.50,\n    "\\u0041"\n  ],\n  "a": [],\n  "b": {}\n}\n'
    assert laid == laid_out('{"a":[1.50,"\\u0041"],"a":[],"b":{}}')
