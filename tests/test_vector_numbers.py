"""Each of the 48 acceptance vectors for Okta's agent has a test that is named by its number."""

from __future__ import annotations

import re
from pathlib import Path


def test_all_48_vectors_are_tests():
    """`test_vector_01…` to `test_vector_48…` are there."""
    text = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    found = {int(number) for number in re.findall(r"^(?:async )?def test_vector_(\d\d)_", text, re.MULTILINE)}
    assert set(range(1, 49)) == found
