"""Leaf: one mapped value over a whole block. Made by the same rules as the getters of `compiler`, column by column."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from itertools import repeat
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import orjson

from snapshot.convert import REMEMBERED, is_plain_text, make_converter, to_text
from snapshot.encode import encode_values
from snapshot.errors import RejectError
from snapshot.fragments import Fragment, json_texts, of_texts
from snapshot.rule import template_parts
from snapshot.schema import DATE_TIME, DECIMAL

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from snapshot.block import Block, Column
    from snapshot.compiler import Compiler
    from snapshot.rule import Target

    # One value a row: ready for JSON, or None.
    Values = list[Any]
    Convert = Callable[[Any], Any]

_TEXTS = {str}
_TEXTS_AND_NULLS = {str, type(None)}
_NUMBERS_AND_NULLS = {int, type(None)}
_MOMENTS = {datetime}
# Values that are equal have the same text. Decimals do not (1.0 and 1.00), nor do floats (0.0 and -0.0) or True and 1.
_REMEMBERED = {str, date, datetime, type(None)}
_REMEMBERED_AS_TEXT = {Decimal, type(None)}
_TZINFO = attrgetter("tzinfo")
_WITHOUT_FRACTION = len("2026-01-02T03:04:05")


class Evaluation:
    """One block while it is mapped: what each leaf gave, and which rows cannot be users."""

    def __init__(self, block: Block) -> None:
        self.block = block
        self.size = block.size
        self.bad: set[int] = set()
        self._values: dict[Leaf, Values] = {}
        self._fragments: dict[Leaf, Fragment] = {}

    def values(self, leaf: Leaf) -> Values:
        """Return the value of every row; None where there is none, and where the row is bad."""
        found = self._values.get(leaf)
        if found is None:
            found = self._values[leaf] = leaf.values(self)
        return found

    def fragment(self, leaf: Leaf) -> Fragment:
        """Return the same as JSON."""
        found = self._fragments.get(leaf)
        if found is None:
            found = self._fragments[leaf] = leaf.encode(self)
        return found


class Leaf:
    """One target of the mapping over a block of rows: conversion, default, required."""

    def __init__(self, target: Target, compiler: Compiler, timezone: str, *, required: bool = False) -> None:
        """Compile; the columns were found to be there when the same mapping was compiled for single rows."""
        rule, name, kind = target.rule, str(target.path), target.attribute.type
        self._is_decimal = kind == DECIMAL
        self._required = required or rule.required
        self._fallback = None if rule.default is None else compiler.fixed(target, "default", rule.default)
        self._constant = None if rule.constant is None else compiler.fixed(target, "constant", rule.constant)
        self._convert = make_converter(rule, kind, name=name, timezone=timezone)
        self._is_plain = is_plain_text(rule, kind)
        self._is_uuid = rule.type == "uniqueidentifier" and rule.values is None and rule.case is None
        self._memory: dict[Any, Any] | None = {} if kind in {DECIMAL, DATE_TIME} and rule.values is None else None
        self._is_utc = kind == DATE_TIME and rule.values is None and (rule.timezone or timezone).upper() == "UTC"
        self._place: int | None = None
        self._template: list[tuple[str, int | None]] = []
        if rule.template is not None:
            self._template = [
                (literal, compiler.place(column, name) if column else None)
                for literal, column in template_parts(rule.template)
            ]
        elif rule.constant is None:
            self._place = compiler.place(rule.column or "", name, optional=rule.optional)

    def fragment(self, evaluation: Evaluation) -> Fragment:
        """Return the JSON of the values."""
        return evaluation.fragment(self)

    def values(self, evaluation: Evaluation) -> Values:
        """Return the value of every row; rows that cannot be users are noted."""
        if self._constant is not None:
            return [self._constant] * evaluation.size
        if self._template:
            values = self._from_template(evaluation)
        elif self._place is None:
            values = [None] * evaluation.size
        else:
            values = self._from_column(evaluation, self._place)
        if self._fallback is not None:
            values = [self._fallback if value is None else value for value in values]
        elif self._required and None in values:
            evaluation.bad.update(place for place, value in enumerate(values) if value is None)
        return values

    def encode(self, evaluation: Evaluation) -> Fragment:
        """Return the JSON of the values; rows whose text is not valid Unicode are noted."""
        if self._constant is not None:
            return Fragment([encode_values(self._constant)], whole=True)
        values = evaluation.values(self)
        if self._is_decimal:
            return of_texts([None if value is None else value.text.encode() for value in values])
        try:
            return of_texts(json_texts(values))
        except orjson.JSONEncodeError:
            return of_texts([_json_or_bad(evaluation, place, value) for place, value in enumerate(values)])

    def _from_column(self, evaluation: Evaluation, place: int) -> Values:
        column = evaluation.block.columns[place]
        if self._is_uuid and place in evaluation.block.uuids:
            return list(column)
        if self._is_plain:
            kinds = set(map(type, column))
            if kinds == _TEXTS:
                values: Values = list(map(str.strip, column))
                return [value or None for value in values] if "" in values else values
            if kinds <= _TEXTS_AND_NULLS:
                return [None if value is None else (value.strip() or None) for value in column]
            if kinds <= _NUMBERS_AND_NULLS:
                return [None if value is None else str(value) for value in column]
            return [None if value is None else (to_text(value).strip() or None) for value in column]
        return self._converted(evaluation, column)

    def _converted(self, evaluation: Evaluation, column: Column) -> Values:
        convert = self._convert
        if self._is_utc and set(map(type, column)) == _MOMENTS and not any(map(_TZINFO, column)):
            texts = [value.isoformat() for value in column]
            return [f"{text}Z" if len(text) == _WITHOUT_FRACTION else f"{text.rstrip('0')}Z" for text in texts]
        try:
            if self._memory is not None:
                kinds, known = set(map(type, column)), self._memory.get
                if kinds <= _REMEMBERED_AS_TEXT:
                    return [
                        None if value is None else known(text) or self._learn(text, value)
                        for text, value in zip(map(str, column), column, strict=True)
                    ]
                if kinds <= _REMEMBERED:
                    return [None if value is None else known(value) or self._learn(value, value) for value in column]
            return [None if value is None else convert(value) for value in column]
        except Exception:  # noqa: BLE001 (whatever it is, mapping the row by itself tells)
            return [_converted_or_bad(evaluation, convert, place, value) for place, value in enumerate(column)]

    def _learn(self, key: Any, value: Any) -> Any:
        """Convert a value; decimals and dates come again and again, and cost the most."""
        found = self._convert(value)
        if self._memory is not None and len(self._memory) < REMEMBERED:
            self._memory[key] = found
        return found

    def _from_template(self, evaluation: Evaluation) -> Values:
        """Put texts together: NULL columns leave no gap, all NULL is no value."""
        parts: list[Any] = []
        filled: list[list[str]] = []
        for literal, place in self._template:
            if literal:
                parts.append(repeat(literal))
            if place is not None:
                texts = _stripped(evaluation.block.columns[place])
                parts.append(texts)
                filled.append(texts)
        values: Values = list(map("".join, zip(*parts, strict=False)))
        if any("" in texts for texts in filled):
            for place, texts_of_row in enumerate(zip(*filled, strict=True)):
                if "" in texts_of_row:
                    values[place] = " ".join(values[place].split()) if any(texts_of_row) else None
        if self._is_plain:
            return [None if value is None else (value.strip() or None) for value in values]
        return self._converted(evaluation, values)


def _stripped(column: Sequence[Any]) -> list[str]:
    if set(map(type, column)) == _TEXTS:
        return list(map(str.strip, column))
    return ["" if value is None else to_text(value).strip() for value in column]


def _converted_or_bad(evaluation: Evaluation, convert: Convert, place: int, value: Any) -> Any:
    try:
        return None if value is None else convert(value)
    except Exception:  # noqa: BLE001 (mapping the row by itself tells what it is)
        evaluation.bad.add(place)
        return None


def _json_or_bad(evaluation: Evaluation, place: int, value: Any) -> bytes | None:
    try:
        return None if value is None else encode_values(value)
    except RejectError:
        evaluation.bad.add(place)
        return None
