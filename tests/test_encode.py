"""Resources to JSON: shared bytes, two versions, stable fingerprints."""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snapshot.encode import CREATED, LAST_MODIFIED, Dresser, Encoded, encode, time_text
from snapshot.errors import RejectError
from snapshot.scim import CORE_1_1, ENTERPRISE_1_1, ENTERPRISE_2_0, USER_2_0, DecimalText, Resource, ScimVersion

CUSTOM = "urn:okta:acme_hr_1:1.0:user:custom"
TIMES = (b"2026-01-02T03:04:05.678Z", b"2026-02-02T03:04:05.678Z")
TEXT = st.text(max_size=6)
VALUES = st.one_of(TEXT, st.booleans(), st.integers(-(1 << 63), (1 << 63) - 1))
CORES = st.dictionaries(
    st.sampled_from(["title", "nickName", "locale", "active", "displayName"]),
    st.one_of(VALUES, st.lists(st.fixed_dictionaries({"value": TEXT}), min_size=1, max_size=2)),
)
EXTENSIONS = st.dictionaries(
    st.sampled_from([ENTERPRISE_2_0, CUSTOM, "urn:b:ü"]),
    st.dictionaries(st.sampled_from(["a", "created", "lastModified", "value"]), VALUES, min_size=1),
    max_size=3,
)


def user(core: dict | None = None, extensions: dict | None = None, resource_id: str = "1") -> Resource:
    return Resource(resource_id, "al", True, {"id": resource_id, "userName": "al", **(core or {})}, extensions or {})


def encoded(resource: Resource) -> Encoded:
    return Encoded(encode(resource))


def dressed(resource: Resource, version: ScimVersion, base: str = "https://h/scim") -> dict:
    return orjson.loads(Dresser(version, base).dress(encoded(resource), *TIMES))


def has_null(value: object) -> bool:
    if isinstance(value, dict):
        return any(map(has_null, value.values()))
    return any(map(has_null, value)) if isinstance(value, list) else value is None


def test_scim_2():
    """A 2.0 user has its schemas, its attributes, meta with resourceType, and the extensions under their URNs."""
    manager = {"manager": {"value": "7"}, "division": "d"}
    found = dressed(user({"title": "x"}, {ENTERPRISE_2_0: manager, CUSTOM: {"a": 1}}, "a/b ü"), ScimVersion.V2_0)
    version = found["meta"].pop("version")
    assert {
        "schemas": [USER_2_0, ENTERPRISE_2_0, CUSTOM],
        "id": "a/b ü",
        "userName": "al",
        "title": "x",
        "meta": {
            "resourceType": "User",
            "created": TIMES[0].decode(),
            "lastModified": TIMES[1].decode(),
            "location": "https://h/scim/Users/a%2Fb%20%C3%BC",
        },
        ENTERPRISE_2_0: manager,
        CUSTOM: {"a": 1},
    } == found
    assert version.startswith('W/"')


@pytest.mark.parametrize("order", [("value", "displayName"), ("value",), ("displayName",)])
def test_scim_1_1(order):
    """A 1.1 user has no resourceType, the URNs of 1.1, and managerId in the place of manager.value."""
    values = {"value": "7", "displayName": '"manager":{"value":'}
    resource = user(extensions={ENTERPRISE_2_0: {"manager": {key: values[key] for key in order}}})
    found = dressed(resource, ScimVersion.V1_1)
    assert [CORE_1_1, ENTERPRISE_1_1] == found["schemas"]
    names = {"value": "managerId"}
    assert {"manager": {names.get(key, key): values[key] for key in order}} == found[ENTERPRISE_1_1]
    assert "resourceType" not in found["meta"]


def test_schemas_name_what_is_there():
    """schemas lists the extensions that this user has, not those that others have."""
    dresser = Dresser(ScimVersion.V2_0, "https://h")
    found = [
        orjson.loads(dresser.dress(encoded(user(extensions=extensions)), *TIMES))["schemas"]
        for extensions in ({CUSTOM: {"a": 1}}, {}, {ENTERPRISE_2_0: {"division": "d"}}, {CUSTOM: {"a": 1}})
    ]
    assert [[USER_2_0, CUSTOM], [USER_2_0], [USER_2_0, ENTERPRISE_2_0], [USER_2_0, CUSTOM]] == found


def test_decimals_keep_their_digits():
    """A decimal stands in the JSON with every digit of the database."""
    resource = user(extensions={CUSTOM: {"rate": DecimalText("12345678901234567890.01")}})
    assert b'{"rate":12345678901234567890.01}' in Dresser(ScimVersion.V1_1, "").dress(encoded(resource), *TIMES)


@pytest.mark.parametrize("where", ["id", "title", "extension"])
def test_lone_surrogates(where):
    """Text that is not valid Unicode is a reject, wherever it stands."""
    bad = "a\udcffb"
    resource = {
        "id": user(resource_id=bad),
        "title": user({"title": bad}),
        "extension": user(extensions={CUSTOM: {"a": bad}}),
    }[where]
    with pytest.raises(RejectError, match="cannot be written as JSON") as caught:
        encoded(resource)
    assert "(row)" == caught.value.attribute


@given(CORES, EXTENSIONS, TEXT.filter(bool), st.sampled_from(ScimVersion))
def test_any_user(core, extensions, resource_id, version):
    """Any user decodes to what went in, holds no null, and has its times where the stamp looks for them."""
    raw = Dresser(version, "https://h/ü").dress(encoded(user(core, extensions, resource_id)), *TIMES)
    found = orjson.loads(raw)
    assert not has_null(found)
    assert resource_id == found["id"]
    assert core == {key: found[key] for key in core}
    renamed = {ENTERPRISE_2_0: version.enterprise_urn}
    expected = {renamed.get(urn, urn): values for urn, values in extensions.items()}
    assert expected == {key: value for key, value in found.items() if key.startswith("urn:")}
    assert found["schemas"] == [version.user_urn, *expected]
    for key, time in zip((CREATED, LAST_MODIFIED), TIMES, strict=True):
        assert raw.index(key) == raw.index(key + time)


@given(CORES, EXTENSIONS, CORES, EXTENSIONS)
def test_fingerprints(core, extensions, other_core, other_extensions):
    """Two users have one fingerprint exactly when their content is the same."""
    one, same = user(core, extensions), user(copy.deepcopy(core), copy.deepcopy(extensions))
    other = user(other_core, other_extensions)
    assert encoded(one).fingerprint == encoded(same).fingerprint
    is_same = json.dumps(orjson.loads(encoded(one).body)) == json.dumps(orjson.loads(encoded(other).body))
    assert is_same == (encoded(one).fingerprint == encoded(other).fingerprint)


def test_the_fingerprint_of_today():
    """The fingerprint does not change with a version of this program, or everybody would look changed."""
    resource = user({"title": "ü", "active": True}, {CUSTOM: {"rate": DecimalText("1.50"), "n": 1}})
    assert "8ce3af0bf8751de8f0393009f2a898ec" == encoded(resource).fingerprint.hex()


@given(st.integers(0, 4_102_444_800_000))
def test_time_text(milliseconds):
    """An instant is 24 characters of UTC text, and is the same instant when read."""
    text = time_text(milliseconds)
    assert 24 == len(text)
    moment = datetime.fromisoformat(text.decode())
    assert milliseconds == round((moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1000)
