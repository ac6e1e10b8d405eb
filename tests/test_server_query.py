"""Query strings and request targets: every input gives a request or a SCIM error, nothing else."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.errors import InvalidFilterError, InvalidSyntaxError, InvalidValueError
from server.query import MAX_INDEX, Limits, parse_query, search_request
from server.routes import Area, Router
from snapshot.config import BasePath
from snapshot.scim import ScimVersion

ROUTER = Router(
    {
        "/scim": BasePath(ScimVersion.V1_1),
        "/scim/v1": BasePath(ScimVersion.V1_1),
        "/scim/v2": BasePath(ScimVersion.V2_0),
    }
)


def search(raw: str):
    return search_request(raw, Limits(default_count=100, max_count=1000, cursors=True))


@given(st.text(max_size=200))
def test_any_query_string_is_read_or_refused(raw):
    """No text can raise anything but a SCIM error with status 400."""
    try:
        request = search(raw)
    except (InvalidFilterError, InvalidSyntaxError, InvalidValueError):
        return
    assert 1 <= request.start_index <= MAX_INDEX
    assert 0 <= request.count <= 1000


@given(st.integers(), st.integers())
def test_every_integer_is_clamped(start, count):
    """Any integer is taken: startIndex to at least 1, count to 0 up to the limit."""
    request = search(f"startIndex={start}&count={count}")
    assert min(max(start, 1), MAX_INDEX) == request.start_index
    assert min(max(count, 0), 1000) == request.count


@given(st.text(min_size=1, max_size=50).filter(str.strip))
def test_a_filter_arrives_unchanged(text):
    """A percent-encoded filter is decoded exactly once."""
    try:
        encoded = quote(text, safe="")
    except UnicodeEncodeError:
        return
    assert text == search(f"filter={encoded}").filter


def outcome(raw: str) -> object:
    try:
        return search(raw)
    except (InvalidFilterError, InvalidSyntaxError, InvalidValueError) as error:
        return type(error), error.detail


@given(st.one_of(st.text(alphabet="%024acefAC&=+ x", max_size=30), st.text(max_size=50).map(quote)))
def test_the_usual_order_of_parameters_means_no_other(encoded):
    """The order that nearly every client sends has a shorter way through; what comes out of it is the same."""
    assert outcome(f"startIndex=3&count=7&filter={encoded}") == outcome(f"filter={encoded}&startIndex=3&count=7")


def test_parameter_names_have_no_case():
    """Parameters startindex and COUNT mean what they say: ignoring them would repeat page 1 for ever."""
    request = search("startindex=3&COUNT=5")
    assert (request.start_index, request.count) == (3, 5)


def test_unknown_parameters_are_ignored():
    """A parameter that this server does not know changes nothing."""
    assert search("nothing=userName&x=1") == search("")


def test_a_repeated_parameter_is_refused():
    """Nobody can tell which one would hold."""
    with pytest.raises(InvalidValueError):
        parse_query("count=1&Count=2")


def test_too_many_parameters_are_refused():
    """A query string of a thousand parameters is a 400."""
    with pytest.raises(InvalidSyntaxError):
        parse_query("&".join(f"p{number}=1" for number in range(1000)))


@given(st.text(max_size=100))
def test_any_target_has_a_route(text):
    """The router raises for nothing."""
    for target in (text, "/" + text, "/scim/v1/" + text, f"/scim/v2/Users/{text}?{text}"):
        route = ROUTER.resolve(target)
        assert route.area in Area


@given(st.text(min_size=1, max_size=40))
def test_an_id_is_decoded_exactly_once(text):
    """Any id, percent-encoded, comes out as it is."""
    try:
        encoded = quote(text, safe="")
    except UnicodeEncodeError:
        return
    assert ("Users", text) == ROUTER.resolve(f"/scim/v2/Users/{encoded}").parts


@pytest.mark.parametrize(
    ("target", "base", "version", "parts"),
    [
        ("/scim/v1/Users", "/scim/v1", "1.1", ("Users",)),
        ("/scim/v2//Users/?count=1", "/scim/v2", "2.0", ("Users",)),
        ("//scim//v2//Users", "/scim/v2", "2.0", ("Users",)),
        ("/scim/Users", "/scim", "1.1", ("Users",)),
        ("/scim/v3/Users", "/scim", "1.1", ("v3", "Users")),
        ("http://host:80/scim/v2/Users?count=1", "/scim/v2", "2.0", ("Users",)),
        ("/scim/v2", "/scim/v2", "2.0", ()),
        ("/scim/v2/Users/%FF", "/scim/v2", "2.0", None),
        ("/scim/v2/Users/\udcff", "/scim/v2", "2.0", None),
        ("/scim/v2/Users/%zz", "/scim/v2", "2.0", ("Users", "%zz")),
    ],
)
def test_routes(target, base, version, parts):
    """The longest base path wins; slashes, absolute targets and broken encodings are borne."""
    route = ROUTER.resolve(target)
    assert (base, version, parts) == (route.base, route.version, route.parts)


@pytest.mark.parametrize(
    ("target", "area"),
    [
        ("/admin/refresh", Area.ADMIN),
        ("/-/status", Area.ADMIN),
        ("//-//status/", Area.ADMIN),
        ("/%61dmin/refresh", Area.ADMIN),
        ("/-/ready", Area.OPEN),
        ("/health", Area.OPEN),
        ("*", Area.OPEN),
        ("", Area.OPEN),
    ],
)
def test_areas(target, area):
    """What is behind the admin credential cannot be reached by another spelling."""
    assert area is ROUTER.resolve(target).area
