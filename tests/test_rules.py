"""The [mapping] section: what it accepts, and the message for what it does not."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snapshot.rule import template_parts
from snapshot.rules import read_mapping
from snapshot.scim import ENTERPRISE_1_1, ENTERPRISE_2_0
from snapshot.strict import Reader

CUSTOM = "urn:okta:acme_hr_1:1.0:user:custom"
BASE = 'id = "id"\nuserName = "login"\n'


def read(text: str):
    reader = Reader("c.toml", Path())
    return read_mapping(reader, tomllib.loads(BASE + text)), [str(problem) for problem in reader.problems]


def problems(text: str) -> list[str]:
    mapping, found = read(text)
    assert (mapping is None) == bool(found)
    return found


@pytest.mark.parametrize(
    "text",
    [
        'title = "job"',
        'title = { column = "job", trim = false, case = "upper", required = true }',
        'title = { template = "{a} {b}" }',
        'displayName = "{first} {{x}} {last}"',
        'title = { constant = "Staff" }',
        'Title = "job"',
        'active = { column = "s", true = ["Y", 1], false = ["N"], unmapped = false }',
        'active = { column = "s", values = { A = true, T = false }, unmapped = "omit", default = true }',
        'name = { givenName = "first", familyName = { column = "last", optional = true } }',
        'emails = "mail"',
        'emails = { column = "mail", case = "lower", type = "work", primary = true }',
        'emails = ["mail", { value = "home", type = "home", display = "{a}" }]',
        'phoneNumbers = [{ value = { column = "p", trim = true }, type = { column = "kind" } }]',
        'addresses = [{ locality = "city", country = { column = "c", case = "upper" }, type = "work" }]',
        'x509Certificates = { column = "cert" }',
        '[enterprise]\nmanager = "boss"\ndepartment = "d"',
        '[enterprise]\nmanager = { managerId = "boss", displayName = "boss_name" }',
        f'["{ENTERPRISE_1_1}"]\ndivision = "d"',
        f'["{ENTERPRISE_2_0}"]\ndivision = "d"',
        f'["{CUSTOM}"]\nhired = {{ column = "h", type = "dateTime", timezone = "Europe/Paris", format = "%d.%m.%Y" }}',
        f'["{CUSTOM}"]\nrate = {{ column = "r", type = "decimal", default = 1.5 }}',
        f'["{CUSTOM}"]\nguid = {{ column = "g", type = "uniqueidentifier", case = "upper" }}',
    ],
)
def test_what_is_accepted(text):
    """Each form that the documentation shows is read without a problem."""
    assert [] == problems(text)


def test_both_spellings_of_the_enterprise_extension():
    """The enterprise extension is one, whether named shortly, by the URN of 1.1 or by that of 2.0."""
    for name in ("enterprise", ENTERPRISE_1_1, ENTERPRISE_2_0, ENTERPRISE_2_0.upper()):
        mapping, _ = read(f'["{name}"]\ndivision = "d"')
        assert (ENTERPRISE_2_0,) == mapping.extension_urns


def test_the_order_of_extensions():
    """The enterprise extension comes first, then custom ones as configured."""
    mapping, _ = read('["urn:b:x"]\na = "a"\n["urn:a:x"]\na = "a"\n[enterprise]\ndivision = "d"')
    assert (ENTERPRISE_2_0, "urn:b:x", "urn:a:x") == mapping.extension_urns


PAIRS = [
    ('titel = "x"', "mapping.titel: found an unknown attribute; expected a SCIM user attribute (did you mean title?)"),
    (
        'department = "x"',
        "mapping.department: found an unknown attribute; "
        "expected a SCIM user attribute (department belongs under [mapping.enterprise])",
    ),
    (
        'badge = "x"',
        "mapping.badge: found an unknown attribute; "
        'expected a SCIM user attribute (attributes of your own belong under [mapping."urn:…"])',
    ),
    (
        "title = 5",
        'mapping.title: found 5 (integer); expected a column ("first_name"), a template ("{first} {last}") or a table',
    ),
    ('title = " "', 'mapping.title: found " " (string); expected the name of a column'),
    ("title = {}", "mapping.title: found none of them; expected exactly one of column, constant and template"),
    (
        'title = { column = "a", constant = "b" }',
        "mapping.title: found column and constant; expected exactly one of column, constant and template",
    ),
    (
        'title = { colum = "a", constant = "x" }',
        "mapping.title.colum: found an unknown key; expected one of the known keys (did you mean column?)",
    ),
    (
        'title = "{a"',
        'mapping.title.template: found a lone { (write {{ for the character itself); '
        'expected text with {column} in it, for example "{first} {last}"',
    ),
    (
        'title = "{ } {a}"',
        "mapping.title.template: found no column between { and }; "
        'expected text with {column} in it, for example "{first} {last}"',
    ),
    (
        'title = { template = "Staff" }',
        'mapping.title.template: found "Staff" (string); expected at least one {column} (or use constant)',
    ),
    (
        'title = { column = "a", true = ["Y"] }',
        "mapping.title: found true/false values; expected them only for a boolean; title is string",
    ),
    (
        'title = { column = "a", type = "integer" }',
        'mapping.title.type: found "integer" (string); expected string, the type of title (or no type)',
    ),
    (
        'active = { column = "a", type = "uniqueidentifier" }',
        'mapping.active.type: found "uniqueidentifier" (string); expected boolean, the type of active (or no type)',
    ),
    (
        'title = { column = "a", unmapped = "keep" }',
        'mapping.title.unmapped: found "keep" (string); expected it only beside values or on a boolean',
    ),
    (
        'title = { column = "a", values = { A = "b" }, unmapped = false }',
        'mapping.title.unmapped: found false (boolean); expected "reject", "keep" or "omit"',
    ),
    (
        'title = { column = "a", format = "%Y" }',
        'mapping.title.format: found "%Y" (string); expected it only for a dateTime; title is string',
    ),
    (
        'title = { column = "a", timezone = "UTC" }',
        'mapping.title.timezone: found "UTC" (string); expected it only for a dateTime; title is string',
    ),
    (
        f'["{CUSTOM}"]\nx = {{ column = "a", type = "dateTime", timezone = "Mars" }}',
        f'mapping."{CUSTOM}".x.timezone: found "Mars" (string); '
        "expected an IANA time zone, for example Europe/Paris or UTC",
    ),
    (
        f'["{CUSTOM}"]\nx = {{ column = "a", type = "date" }}',
        f'mapping."{CUSTOM}".x.type: found "date" (string); expected one of "string", "boolean", "integer", '
        '"decimal", "dateTime", "binary", "uniqueidentifier"',
    ),
    (
        f'["{CUSTOM}"]\n"a b" = "x"',
        f'mapping."{CUSTOM}".a b: found "a b" (string); '
        "expected a letter, then letters, digits, _ or - (RFC 7643 section 2.1)",
    ),
    (
        '["urn:ietf:params:scim:schemas:core:2.0:User"]\nx = "a"',
        'mapping."urn:ietf:params:scim:schemas:core:2.0:User": '
        'found "urn:ietf:params:scim:schemas:core:2.0:User" (string); '
        "expected a URN of your own, for example urn:okta:acme_hr_1:1.0:user:custom",
    ),
    (
        '["urn:x"]\nx = "a"',
        'mapping."urn:x": found "urn:x" (string); '
        "expected a URN of your own, for example urn:okta:acme_hr_1:1.0:user:custom",
    ),
    (
        'active = { column = "a", true = ["y"], false = ["Y "] }',
        "mapping.active: found y as true and as false; expected each value on one side only",
    ),
    (
        'active = { column = "a", values = { N = "no" } }',
        'mapping.active.values."N": found "no" (string); expected true or false',
    ),
    (
        'active = { column = "a", values = { N = false }, true = ["Y"] }',
        "mapping.active.values: found values beside true or false; expected one of the two ways to state a boolean",
    ),
    (
        'active = { constant = "yes" }',
        'mapping.active.constant: found "yes" (string); expected a value of type boolean',
    ),
    (
        f'["{CUSTOM}"]\nx = {{ column = "a", type = "integer", default = true }}',
        f'mapping."{CUSTOM}".x.default: found true (boolean); expected a value of type integer',
    ),
    (
        'name = "full"',
        'mapping.name: found "full" (string); expected a table of its sub-attributes '
        "(formatted, familyName, givenName, middleName, honorificPrefix, honorificSuffix)",
    ),
    (
        'name = { firstName = "f" }',
        "mapping.name.firstName: found an unknown key; expected one of the known keys "
        "(did you mean givenName?)",
    ),
    (
        'emails = [{ value = "a", primary = true }, { value = "b", primary = true }]',
        "mapping.emails: found several entries with primary = true; expected at most one (RFC 7643 section 2.4)",
    ),
    ('emails = [{ type = "work" }]', 'mapping.emails[1]: found no value; expected a value, for example value = "email"'),
    ('emails = [{ value = "a", primary = "yes" }]', 'mapping.emails[1].primary: found "yes" (string); expected true or false'),
    (
        'emails = [{ value = "a", type = 5 }]',
        'mapping.emails[1].type: found 5 (integer); expected a text such as "work", or a rule such as { column = "kind" }',
    ),
    (
        'emails = [{ value = "a", typ = "x" }]',
        "mapping.emails[1].typ: found an unknown key; expected one of the known keys (did you mean type?)",
    ),
    (
        "emails = [5]",
        'mapping.emails[1]: found 5 (integer); expected a table, for example { value = "emails_column", type = "work" }',
    ),
    ('Title = "a"\ntitle = "b"', "mapping: found title twice; expected each attribute at most once"),
    ('Emails = "a"\nemails = "b"', "mapping: found emails twice; expected each attribute at most once"),
    (
        'emails = [{ value = "a", Value = "b" }]',
        "mapping.emails[1]: found value twice; expected each attribute at most once",
    ),
    (
        'title = { template = "{a}", optional = true }',
        "mapping.title.optional: found true (boolean); expected it only beside column, for an attribute that may be missing",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), PAIRS, ids=range(len(PAIRS)))
def test_a_bad_mapping_and_its_message(text, message):
    """Each mistake gives exactly one problem, worded as it is here."""
    assert [f"c.toml: {message}"] == problems(text)


def test_id_and_user_name_are_needed():
    """Both are asked for at once, and neither may be optional."""
    reader = Reader("c.toml", Path())
    assert read_mapping(reader, {}) is None
    assert ["mapping.id", "mapping.userName"] == [problem.key for problem in reader.problems]
    reader = Reader("c.toml", Path())
    rule = {"column": "a", "optional": True}
    assert read_mapping(reader, {"id": rule, "userName": rule}) is None
    assert ["mapping.id.optional", "mapping.userName.optional"] == [problem.key for problem in reader.problems]


def test_a_problem_of_the_id_is_told_once():
    """An id that is configured wrongly is not reported as missing too."""
    reader = Reader("c.toml", Path())
    assert read_mapping(reader, {"id": 5, "userName": "login"}) is None
    assert ["mapping.id"] == [problem.key for problem in reader.problems]


@given(
    st.lists(st.tuples(st.text(max_size=5), st.text(st.characters(exclude_characters="{}"), min_size=1, max_size=5)))
)
def test_templates_are_split_as_written(pairs):
    """A template made of literals (braces doubled) and columns is split into just those."""
    pairs = [(literal, column) for literal, column in pairs if column.strip()]
    text = "".join(literal.replace("{", "{{").replace("}", "}}") + "{" + column + "}" for literal, column in pairs)
    assert [(literal, column.strip()) for literal, column in pairs] == template_parts(text)


@given(st.text(st.sampled_from("{} ab"), max_size=8))
def test_any_template_is_split_or_refused(text):
    """No text makes the splitting of a template fail with anything but ValueError."""
    try:
        parts = template_parts(text)
    except ValueError:
        return
    assert "".join(literal for literal, _ in parts).count("a") <= text.count("a")
