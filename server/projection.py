"""attributes and excludedAttributes: what is left of encoded resources (RFC 7644 section 3.9).

The only place that decodes stored bytes, and only as deep as it has to: what is kept is cut out and passed on as
it was written, so a decimal keeps every digit.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec

from snapshot.scim import CORE_1_1, ENTERPRISE_1_1, ENTERPRISE_2_0, ScimVersion

if TYPE_CHECKING:
    from collections.abc import Iterable

# Returned whatever is asked for: RFC 7643 sections 3 and 3.1.
ALWAYS = ("schemas", "id")
_URN = "urn:"
_Object = dict[str, msgspec.Raw]
_RESOURCES = msgspec.json.Decoder(list[_Object])
_OBJECT = msgspec.json.Decoder(_Object)
_TEXTS = msgspec.json.Decoder(list[str])
_VALUES = msgspec.json.Decoder(list[msgspec.Raw])
_ENTERPRISE = frozenset({ENTERPRISE_1_1.casefold(), ENTERPRISE_2_0.casefold()})


class _Node:
    """What was named of one attribute: `whole`, or some of its sub-attributes by folded name."""

    __slots__ = ("inner", "whole")

    def __init__(self) -> None:
        self.whole = False
        self.inner: dict[str, _Node] = {}

    def add(self, names: Iterable[str]) -> None:
        node = self
        for name in names:
            node = node.inner.setdefault(name, _Node())
        node.whole = True


class Names(msgspec.Struct, frozen=True, gc=False):
    """How attributes may be written under one base path: its version, URNs of schemas and of extensions."""

    version: ScimVersion
    schemas: tuple[str, ...]
    extensions: tuple[str, ...]


class _Named:
    """What was named of the resources of one core schema: `core` is all of it, `root` are attributes."""

    def __init__(self, asked: Iterable[str], names: Names, own: str) -> None:
        self.core = False
        self.root = _Node()
        for text in asked:
            self._add(text.casefold(), names, own)

    def _add(self, text: str, names: Names, own: str) -> None:
        if not text.startswith(_URN):
            self.root.add(text.split(".", 1))
            return
        for urn in _longest_first(names.schemas + names.extensions):
            folded = urn.casefold()
            if text != folded and not text.startswith((f"{folded}:", f"{folded}.")):
                continue
            rest = text[len(folded) + 1 :]
            path = rest.split(".", 1) if rest else []
            if urn not in names.schemas:
                self.root.add(_stored(folded, path, names.version))
            elif urn in {own, CORE_1_1}:
                if path:
                    self.root.add(path)
                else:
                    self.core = True
            return


class Projection:
    """Keeps or drops named attributes. Names that a resource has not are passed over (RFC 7644 section 3.9).

    The URN of a core schema of SCIM 2.0 before a name means the resources of that schema; that of 1.1 means any.
    """

    def __init__(self, asked: Iterable[str], names: Names, *, keep: bool) -> None:
        self._keep = keep
        asked = tuple(asked)
        self._named = {urn: _Named(asked, names, urn) for urn in ("", *names.schemas)}
        folded = tuple(urn.casefold() for urn in names.schemas if urn != CORE_1_1)
        self._is_alike = not any(text.casefold().startswith(folded) for text in asked)

    def apply(self, resources: bytes | memoryview, core_urn: str = "") -> bytes:
        """Return comma-joined JSON of the same resources, each cut down.

        `core_urn` is their core schema in SCIM 2.0; without it each says it (in 1.1 none does).
        """
        found = _RESOURCES.decode(b"".join((b"[", resources, b"]")))
        return msgspec.json.encode([self._cut_resource(item, self._named_of(item, core_urn)) for item in found])[1:-1]

    def _named_of(self, resource: _Object, core_urn: str) -> _Named:
        if not core_urn and not self._is_alike and "schemas" in resource:
            urns = _TEXTS.decode(resource["schemas"])
            core_urn = next((urn for urn in urns if urn in self._named), "")
        return self._named.get(core_urn) or self._named[""]

    def _cut_resource(self, resource: _Object, named: _Named) -> _Object:
        cut: _Object = {}
        for name, raw in resource.items():
            if name in ALWAYS:
                cut[name] = raw
                continue
            folded = name.casefold()
            node = named.root.inner.get(folded)
            if named.core and not folded.startswith(_URN):
                if self._keep:
                    cut[name] = raw
                continue
            left = self._cut(raw, node)
            if left is not None:
                cut[name] = left
        return cut

    def _cut(self, raw: msgspec.Raw, node: _Node | None) -> msgspec.Raw | None:
        """Return what is left of one value; None if nothing is."""
        if node is None:
            return None if self._keep else raw
        if node.whole:
            return raw if self._keep else None
        first = bytes(memoryview(raw)[:1])
        if first == b"{":
            return self._cut_object(raw, node)
        if first == b"[":
            values = _VALUES.decode(raw)
            kept = [left for item in values if (left := self._cut_value(item, node)) is not None]
            return msgspec.Raw(msgspec.json.encode(kept)) if kept else None
        return None if self._keep else raw

    def _cut_value(self, raw: msgspec.Raw, node: _Node) -> msgspec.Raw | None:
        if bytes(memoryview(raw)[:1]) == b"{":
            return self._cut_object(raw, node)
        return None if self._keep else raw

    def _cut_object(self, raw: msgspec.Raw, node: _Node) -> msgspec.Raw | None:
        cut: _Object = {}
        for name, inner in _OBJECT.decode(raw).items():
            left = self._cut(inner, node.inner.get(name.casefold()))
            if left is not None:
                cut[name] = left
        return msgspec.Raw(msgspec.json.encode(cut)) if cut else None


@lru_cache(maxsize=64)
def projection(attributes: tuple[str, ...], excluded: tuple[str, ...], names: Names) -> Projection | None:
    """Return what a request asks for; None for whole resources. Not both: they exclude each other."""
    if attributes:
        return Projection(attributes, names, keep=True)
    return Projection(excluded, names, keep=False) if excluded else None


def _longest_first(urns: Iterable[str]) -> list[str]:
    return sorted(urns, key=len, reverse=True)


def _stored(urn: str, path: list[str], version: ScimVersion) -> list[str]:
    """Return the folded keys under which an extension attribute is stored in that version of SCIM."""
    if urn not in _ENTERPRISE:
        return [urn, *path]
    old = version is ScimVersion.V1_1
    if path == ["manager", "value" if old else "managerid"]:
        path = ["manager", "managerid" if old else "value"]
    return [version.enterprise_urn.casefold(), *path]
