"""The attributes of one resource type in one index: where each is, and which names have no value or no meaning."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

from snapshot.comparison import EXACT, NOTHING, TEXT, Column
from snapshot.definitions import core_attributes, core_spellings, definition
from snapshot.errors import FilterError
from snapshot.schema import BINARY, BOOLEAN, COMPLEX, DATE_TIME, DECIMAL, ENTERPRISE_ATTRIBUTES, INTEGER
from snapshot.scim import ENTERPRISE_2_0, GROUP, USER, AttributePath
from snapshot.strict import nearest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from snapshot.layout import IndexedAttribute
    from snapshot.schema import Attribute


PRIMARY = "primary"
_MAX_REMEMBERED = 256


class Attributes:
    """What an index holds of one resource type, by folded path, beside what the schema defines."""

    def __init__(self, resource_type: str, indexed: Mapping[str, IndexedAttribute]) -> None:
        self.resource_type = resource_type
        self._indexed = indexed
        is_related = resource_type not in {USER, GROUP}
        # Of a type that an older generation has not, nobody can tell which of Okta's two it is.
        self._is_role = is_related and bool(indexed) and "type" not in indexed
        self._own_urns = core_spellings(resource_type, has_type=not self._is_role)
        if is_related and not indexed:
            self._own_urns += core_spellings(resource_type, has_type=False)
        # Asked several times for each filter; an index never changes.
        self.find = lru_cache(_MAX_REMEMBERED)(self._find)
        self.is_complex = lru_cache(_MAX_REMEMBERED)(self._is_complex)

    def _find(self, path: AttributePath) -> IndexedAttribute | None:
        """Return where an attribute is; the simple form of a complex one means its value (RFC 7644 3.4.2.2)."""
        if self.is_foreign(path):
            return None
        name = str(path).casefold()
        found = self._indexed.get(name)
        if found is None and not path.sub:
            found = self._indexed.get(f"{name}.value")
        if found is None and path.sub.casefold() == "value":
            # The values of a simple multi-valued attribute may be called so too.
            outer = self._indexed.get(name.removesuffix(".value"))
            found = outer if outer is not None and self.is_plural(outer) else None
        return found

    def is_foreign(self, path: AttributePath) -> bool:
        """Tell whether the URN before a name is that of the core schema of another resource type."""
        return bool(path.core) and path.core not in self._own_urns

    def _definition(self, path: AttributePath) -> Attribute | None:
        """Return what the schema of the type says of a path; that of roles has no `type`, unlike entitlements."""
        if self.is_foreign(path) or (self._is_role and not path.urn and path.name.casefold() == "type"):
            return None
        return definition(self.resource_type, path)

    def row(self, path: AttributePath) -> IndexedAttribute | None:
        """Return where an attribute is, or, of a `primary` that nobody says, another attribute of the same values."""
        found = self.find(path)
        if found is None and self._is_primary(path):
            return next(iter(self.children(replace(path, sub=""))), None)
        return found

    def _is_primary(self, path: AttributePath) -> bool:
        if path.sub.casefold() != PRIMARY:
            return False
        known = self._definition(replace(path, sub=""))
        return known is not None and known.multi_valued and known.sub(PRIMARY) is not None

    def is_plural(self, found: IndexedAttribute) -> bool:
        """Tell whether an attribute has a table of its own, one row a value."""
        return found.table != self.resource_type

    def column(self, path: AttributePath) -> Column:
        """Return where the value of an attribute is and how it compares; an attribute that is not mapped has none.

        FilterError, without position, for a name of no schema and for one that cannot be compared.
        """
        found = self.find(path)
        if self._is_primary(path) and self.row(path) is not None:
            # RFC 7643 section 2.4: a value of which nobody says whether it is the primary one is not.
            return Column(f"COALESCE({quoted(found.column)}, 0)" if found is not None else "0", BOOLEAN)
        if found is not None:
            return Column(quoted(found.column), self._kind(found))
        known = self._definition(path)
        if known is not None and known.type == COMPLEX:
            known = known.sub("value")
        if (reason := self.why_not(path)) is not None:
            raise FilterError(reason)
        if known is None:
            raise FilterError(f"{path} is complex, which has no value of its own: name one of its sub-attributes")
        if known.type in {BINARY, BOOLEAN, INTEGER, DECIMAL, DATE_TIME}:
            return Column(NOTHING, known.type)
        return Column(NOTHING, EXACT if known.case_exact else TEXT)

    def _kind(self, found: IndexedAttribute) -> str:
        """Return how a column compares: the index keeps base64 as exact text, which has an order only there."""
        if found.kind != EXACT:
            return found.kind
        urn, _, name = found.path.rpartition(":")
        first, _, sub = name.partition(".")
        known = definition(self.resource_type, AttributePath(first, sub, urn))
        is_binary = known.type == BINARY if known else bool(urn)
        return BINARY if is_binary else EXACT

    def why_not(self, path: AttributePath) -> str | None:
        """Return why nothing can be asked of an attribute; None if it is one, with values or without."""
        name = str(path).casefold()
        if self.is_foreign(path):
            return f"{path.core}:{path} is not an attribute of {self.resource_type}"
        if name in {"meta.version", "meta.location"}:
            return f"{path} is not supported; meta.created, meta.lastModified and meta.resourceType are"
        if path.sub == "$ref":
            return f"{path} is not supported; {path.name}.value is"
        if self.find(path) or self.children(path) or self._definition(path):
            return None
        return f"{path} is not an attribute of {self.resource_type}{nearest(str(path), self._names())}"

    def _names(self) -> Iterator[str]:
        """Yield every name that may have been meant."""
        yield from (item.path for item in self._indexed.values())
        names = _names_of(core_attributes(self.resource_type))
        yield from (name for name in names if not (self._is_role and name == "type"))
        if self.resource_type == USER:
            yield from _names_of(ENTERPRISE_ATTRIBUTES, f"{ENTERPRISE_2_0}:")

    def children(self, path: AttributePath) -> list[IndexedAttribute]:
        """Return the mapped sub-attributes of a complex attribute."""
        prefix = f"{path}.".casefold()
        return (
            []
            if path.sub or self.is_foreign(path)
            else [item for name, item in self._indexed.items() if name.startswith(prefix)]
        )

    def _is_complex(self, path: AttributePath) -> bool:
        """Tell whether an attribute has sub-attributes, mapped or not."""
        known = self._definition(path)
        return bool(self.children(path)) or (known is not None and known.type == COMPLEX)

    def primary(self, found: IndexedAttribute) -> IndexedAttribute | None:
        """Return where it is told which value of a multi-valued attribute is the primary one."""
        return self._indexed.get(f"{attribute_name(found)}.primary")

    def extensions(self) -> dict[str, list[IndexedAttribute]]:
        """Return the mapped attributes of each extension, by URN."""
        found: dict[str, list[IndexedAttribute]] = {}
        for item in self._indexed.values():
            if urn := item.path.rpartition(":")[0]:
                found.setdefault(urn, []).append(item)
        return found


def attribute_name(found: IndexedAttribute) -> str:
    """Return the folded name of the attribute that a path of a sub-attribute begins with."""
    return found.path.rpartition(".")[0].casefold()


def quoted(name: str) -> str:
    """Return the name of a table or column as SQL has to say it: "Group" is a keyword."""
    return '"' + name.replace('"', '""') + '"'


def _names_of(attributes: tuple[Attribute, ...], prefix: str = "") -> Iterator[str]:
    for attribute in attributes:
        yield f"{prefix}{attribute.name}"
        yield from (f"{prefix}{attribute.name}.{sub.name}" for sub in attribute.sub_attributes)
