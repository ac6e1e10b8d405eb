"""The golden bodies: what is served, frozen for review by eye. Run as a program it writes them anew (`make golden`).

One line in BODIES is one body for each version, in `golden/bodies/VERSION-NAME.json`. They come from the directories in
which every attribute is filled, and in which users belong to everything; their times and names are fixed. Not E4, who has no row any more: the lastModified of
changes lies ahead of the clock by an amount that depends on the size of the files.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from judged_directory import NEW, OLD, judged_linked, judged_whole
from server_process import PASSWORD, Client

if TYPE_CHECKING:
    from judged_directory import Judged

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+')
_OPENING, _CLOSING = frozenset("{["), frozenset("}]")
FOLDER = Path(__file__).parent / "golden" / "bodies"
BASES = {"1.1": OLD, "2.0": NEW}


class Request(NamedTuple):
    """What is asked for, below the base path."""

    target: str
    status: int = 200
    password: str = PASSWORD
    directory: str = "whole"


BODIES = {
    "user-everything": Request("/Users/E1"),
    "user-minimum": Request("/Users/E2"),
    "user-odd": Request("/Users/E3%2F%C3%BC%20%2B%25"),
    "users-page": Request("/Users?startIndex=1&count=2"),
    "users-none": Request("/Users?filter=userName%20eq%20%22nobody%22"),
    "groups-none": Request("/Groups?count=0"),
    "group-with-subgroup": Request("/Groups/T1"),
    "group-of-users": Request("/Groups/T2"),
    "group-odd": Request("/Groups/T3%2F%C3%BC"),
    "linked-group-flat": Request("/Groups/T1", directory="linked"),
    "linked-user": Request("/Users/E1", directory="linked"),
    "linked-licenses": Request("/Licenses", directory="linked"),
    "linked-profile": Request("/AccessProfiles/P1", directory="linked"),
    "linked-roles": Request("/Roles", directory="linked"),
    "linked-service-provider-config": Request("/ServiceProviderConfig", directory="linked"),
    "linked-resource-types": Request("/ResourceTypes", directory="linked"),
    "linked-schemas": Request("/Schemas", directory="linked"),
    "service-provider-config": Request("/ServiceProviderConfig"),
    "resource-types": Request("/ResourceTypes"),
    "schemas": Request("/Schemas"),
    "error-400-filter": Request("/Users?filter=SOMETHINGWITHOUTOPERATOR", 400),
    "error-401": Request("/Users", 401, password="wrong"),
    "error-404": Request("/Users/nope", 404),
}


def file_names() -> dict[str, tuple[str, Request]]:
    """Return base path and request of each file."""
    return {
        f"{version}-{name}.json": (base, request) for version, base in BASES.items() for name, request in BODIES.items()
    }


def body_text(judged: Judged, base: str, request: Request) -> str:
    """Return the body that is served, its own bytes with line breaks and blanks between them, a line a key."""
    client = Client(judged.port, password=request.password)
    try:
        answer = client.get(f"{base}{request.target}")
    finally:
        client.close()
    assert request.status == answer.status, answer.body
    return laid_out(answer.body.decode("utf-8"))


def laid_out(body: str) -> str:
    """Return JSON without blanks, a line a key: nothing but line breaks and blanks are added, nothing is respelled."""
    tokens = _TOKEN.findall(body)
    assert "".join(tokens) == body, "the body has blanks of its own, or is no JSON"
    text, depth = "", 0
    for before, token, after in zip(["", *tokens], tokens, [*tokens[1:], ""], strict=False):
        if token in _CLOSING:
            depth -= 1
            text += token if before in _OPENING else "\n" + "  " * depth + token
            continue
        text += token
        depth += token in _OPENING
        if token == ":":
            text += " "
        elif token == "," or (token in _OPENING and after not in _CLOSING):
            text += "\n" + "  " * depth
    return text + "\n"


def write_all() -> None:
    """Write every golden body anew, and remove those that no line asks for."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for path in FOLDER.glob("*.json"):
        path.unlink()
    for directory, opened in (("whole", judged_whole), ("linked", judged_linked)):
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, opened(Path(folder)) as judged:
            for name, (base, request) in file_names().items():
                if request.directory == directory:
                    text = body_text(judged, base, request)
                    (FOLDER / name).write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    write_all()
