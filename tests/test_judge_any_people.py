"""Whatever stands in the rows, every user that is published passes the judges, in both versions."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from described_bodies import Description
from hypothesis import given, settings
from hypothesis import strategies as st
from scim2_models import Context, Extension, Resource, Schema
from strict_1_1 import read_resource
from whole_people import EVERYTHING, WholeDirectory, columns_of, row_of

from server.documents import make_documents
from snapshot.reader import open_snapshot
from snapshot.scim import USER, ScimVersion

if TYPE_CHECKING:
    from snapshot.config import Config

# What SQLite can hold.
INTEGERS = st.integers(-(2**63), 2**63 - 1)
TEXTS = st.one_of(
    st.none(),
    st.text(max_size=20),
    st.sampled_from(
        [
            '"',
            "\\",
            "\\u0041",
            "null",
            "",
            "   ",
            "a\x00b",
            "\x1f",
            "\u2028",
            "\ufeffx",
            "👩‍💻",
            "ß",
            "İ",
            "ﬁ",
            "[]",
            "{}",
        ]
    ),
    INTEGERS,
    st.floats(),
    st.binary(max_size=6),
)
# A profileUrl or a picture is a URI in the source already: nothing is made of what is none.
URIS = st.one_of(st.none(), st.text(max_size=10).map(lambda text: f"https://x.example/{text}".strip()))
NUMBERS = st.one_of(INTEGERS, st.floats(), st.decimals().map(str), st.none(), st.sampled_from(["1e400", "-0", "007"]))
COLUMNS = columns_of(EVERYTHING)
GOOD = row_of(EVERYTHING)
KINDS = {
    # From a few values, so that some are double.
    "id": st.one_of(st.sampled_from(["E1", "e1", " E2 ", "ß", "ss"]), TEXTS),
    "userName": st.one_of(st.sampled_from(["zoe", "ZOE", "straße", "STRASSE"]), TEXTS),
    "profileUrl": URIS,
    "photos_0_value": URIS,
    "photos_1_value": URIS,
    "active": st.sampled_from([1, 0, "Y", "false", None, "perhaps"]),
    "custom_fte": NUMBERS,
    "custom_floor": NUMBERS,
    "custom_contractor": st.sampled_from([1, 0, "yes", "NO", None]),
    "custom_hired": st.one_of(st.none(), st.datetimes().map(str), st.dates().map(str), st.just("soon")),
}


# A cell of a row: which column, and what stands in it.
CELLS = st.sampled_from(COLUMNS).flatmap(lambda name: st.tuples(st.just(name), KINDS.get(name, TEXTS)))
# Some people, in each of whom some cells are as drawn and the others as they should be.
PEOPLE = st.lists(st.lists(CELLS, max_size=12).map(dict), min_size=1, max_size=4)


class Judges:
    """The model of scim2-models, and what is said of users in both versions. No dataclass: those are shown whole."""

    def __init__(self, config: Config) -> None:
        new, old = (_documents(config, version) for version in (ScimVersion.V2_0, ScimVersion.V1_1))
        self.kind = next(item for item in new["types"] if item["name"] == USER)
        self.schemas = new["schemas"]
        self.old_schema = next(item for item in old["schemas"] if item["name"] == USER)
        read = {item["id"]: Schema.model_validate(item) for item in self.schemas}
        extensions = [Extension.from_schema(read[item["schema"]]) for item in self.kind["schemaExtensions"]]
        model: Any = Resource.from_schema(read[self.kind["schema"]])
        self.model = model[extensions[0] | extensions[1]]


@pytest.fixture(scope="module")
def judges(tmp_path_factory) -> Judges:
    """The judges, once."""
    return Judges(WholeDirectory(tmp_path_factory.mktemp("judges")).config)


def _documents(config: Config, version: ScimVersion) -> dict[str, Any]:
    made = make_documents(config, next(item for item in config.server.paths.values() if item.version is version))
    return {
        "schemas": json.loads(made.schemas.body)["Resources"],
        "types": json.loads(made.resource_types.body)["Resources"],
    }


@given(people=PEOPLE)
@settings(max_examples=40, deadline=None)
def test_whatever_is_published_passes_the_judges(judges, people):
    """The strict 1.1 parser, scim2-models and our own schemas have nothing to say against any user."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        directory = WholeDirectory(Path(folder))
        rows = [{**GOOD, "id": str(place), "userName": str(place), **cells} for place, cells in enumerate(people)]
        directory.publish_rows(rows)
        snapshot = open_snapshot(directory.config.data_dir)
        bodies = {
            version: json.loads(b"[" + bytes(snapshot.resources(USER, version, 0, snapshot.count(USER))) + b"]")
            for version in ScimVersion
        }
    assert [user["id"] for user in bodies[ScimVersion.V1_1]] == [user["id"] for user in bodies[ScimVersion.V2_0]]
    new, old = Description.of_2_0(judges.kind, judges.schemas), Description.of_1_1(judges.old_schema)
    for user in bodies[ScimVersion.V2_0]:
        assert [] == new.problems(user)
        assert user["id"] == judges.model.model_validate(user, scim_ctx=Context.RESOURCE_QUERY_RESPONSE).id
    for user in bodies[ScimVersion.V1_1]:
        assert [] == old.problems(user)
        assert user["id"] == read_resource(USER, json.dumps(user).encode())["id"]
