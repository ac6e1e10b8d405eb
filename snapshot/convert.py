"""Database values to JSON-ready values of a stated SCIM type. A value that does not fit is a RejectError.

A converter takes one value as the driver gives it (never None) and returns a JSON-ready value, or None
for blank text.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any
from uuid import UUID
from zoneinfo import ZoneInfo

from snapshot.errors import RejectError
from snapshot.rule import Rule, boolean_key
from snapshot.schema import BINARY, BOOLEAN, DATE_TIME, DECIMAL, INTEGER, REFERENCE, STRING
from snapshot.scim import DecimalText

if TYPE_CHECKING:
    from collections.abc import Callable

    Converter = Callable[[Any], Any]

# What a flag column commonly holds. 512/544/66048 and 514/546/66050 are userAccountControl of
# Active Directory: a normal account, enabled and disabled. Letters with two meanings are in neither: T is true and
# terminated, F is false and full-time, L is left and on leave.
DEFAULT_TRUE = ("1", "true", "yes", "y", "active", "a", "enabled", "on", "512", "544", "66048")
DEFAULT_FALSE = (
    "0", "false", "no", "n", "inactive", "i", "disabled", "off", "terminated", "left", "514", "546", "66050",
)  # fmt: skip
# How many different values of one column are remembered with what they become.
REMEMBERED = 10_000
_INT64 = 1 << 63
_UUID_BYTES = 16
_MAX_DECIMAL_DIGITS = 60
# The directives of strptime that read a time of day; %% is none.
_TIME_DIRECTIVE = re.compile(r"(?:^|[^%])(?:%%)*%[HIMSfpXcz]")
_BLANK_BEFORE_ZONE = re.compile(r"\s+([+-]\d\d:?\d\d)\Z")


def make_converter(rule: Rule, kind: str, *, name: str, timezone: str) -> Converter:
    """Return the converter of one rule to the SCIM type `kind`; `name` is the attribute for messages."""
    if kind == BOOLEAN:
        return _boolean(rule, name)
    if rule.values is not None:
        return _mapped(rule, kind, name, timezone)
    if rule.type == "uniqueidentifier":
        return _cased(_uuid(name), rule.case)
    if kind == INTEGER:
        return _integer(name)
    if kind == DECIMAL:
        return _decimal(name)
    if kind == DATE_TIME:
        return _date_time(rule, name, rule.timezone or timezone)
    if kind == BINARY:
        return _binary(name)
    return _string(rule)


def is_plain_text(rule: Rule, kind: str) -> bool:
    """Whether the rule only trims text."""
    return (
        kind in {STRING, REFERENCE}
        and rule.trim
        and rule.case is None
        and rule.values is None
        and rule.type in {None, STRING}
    )


def to_text(value: Any) -> str:
    """Return the text of a database value: ISO 8601 for dates, lower-case hex for uniqueidentifier."""
    if isinstance(value, str):
        return value
    if value.__class__ is int or value.__class__ is UUID:
        return str(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, Decimal):
        return decimal_text(value)
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1 << 53 else repr(value)
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    return str(value)


def decimal_text(value: Decimal) -> str:
    """Return a decimal without exponent and without zeros at the end of its fraction: 0.50 is 0.5, 3.00 is 3."""
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _cased(convert: Converter, case: str | None) -> Converter:
    if case == "lower":
        return lambda value: None if (text := convert(value)) is None else text.lower()
    if case == "upper":
        return lambda value: None if (text := convert(value)) is None else text.upper()
    return convert


def _string(rule: Rule) -> Converter:
    trim, case = rule.trim, rule.case

    def convert(value: Any) -> str | None:
        text = value if value.__class__ is str else to_text(value)
        if trim:
            text = text.strip()
        if case is not None:
            text = text.lower() if case == "lower" else text.upper()
        return text or None

    return convert


def _boolean(rule: Rule, name: str) -> Converter:
    """Stated values only: what is in neither list is rejected (or what `unmapped` says)."""
    table = {boolean_key(value): bool(truth) for value, truth in (rule.values or {}).items()}
    stated_true = {boolean_key(value) for value in rule.true_values or ()}
    stated_false = {boolean_key(value) for value in rule.false_values or ()}
    if rule.values is None:
        # Values stated for one side are taken from the other side's defaults.
        false_side = stated_false if rule.false_values is not None else set(DEFAULT_FALSE) - stated_true
        true_side = stated_true if rule.true_values is not None else set(DEFAULT_TRUE) - stated_false
        table = dict.fromkeys(false_side, False) | dict.fromkeys(true_side, True)
    # By type too: True is 1, but another text. A float is not remembered: 0.0 is -0.0.
    seen: dict[tuple[type, Any], bool] = {}

    def convert(value: Any) -> bool | None:
        remembered = type(value), value
        known = seen.get(remembered)
        if known is not None:
            return known
        key = boolean_key(decimal_text(value) if isinstance(value, Decimal) else value)
        if not key:
            return None
        truth = table.get(key)
        if truth is None:
            if rule.unmapped == "omit":
                return None
            if not isinstance(rule.unmapped, bool):
                raise RejectError(name, "the value is in neither the true nor the false list")
            truth = rule.unmapped
        if len(seen) < REMEMBERED and not isinstance(value, float):
            seen[remembered] = truth
        return truth

    return convert


def _mapped(rule: Rule, kind: str, name: str, timezone: str) -> Converter:
    """Look the value up in the `values` table, compared as text without case and outer blanks."""
    table = {key.strip().casefold(): value for key, value in (rule.values or {}).items()}
    plain = make_converter(_without_values(rule), kind, name=name, timezone=timezone)

    def convert(value: Any) -> Any:
        text = to_text(value).strip()
        if not text:
            return None
        found = table.get(text.casefold())
        if found is None and isinstance(value, bool):
            found = table.get(boolean_key(value))  # a bit column: people write 1 and 0
        if found is not None:
            return plain(found)
        if rule.unmapped == "keep":
            return plain(value)
        if rule.unmapped == "omit":
            return None
        raise RejectError(name, "the value is not in the table of values")

    return convert


def _without_values(rule: Rule) -> Rule:
    return Rule(type=rule.type, trim=rule.trim, case=rule.case, timezone=rule.timezone, format=rule.format)


def _uuid(name: str) -> Converter:
    def convert(value: Any) -> str | None:
        if isinstance(value, UUID):
            return str(value)
        if isinstance(value, str) and not value.strip():
            return None
        try:
            if isinstance(value, (bytes, bytearray)) and len(value) == _UUID_BYTES:
                # SQL Server and Active Directory store the first three fields little-endian.
                return str(UUID(bytes_le=bytes(value)))
            return str(UUID(str(value).strip()))
        except ValueError:
            raise RejectError(name, "the value is not a uniqueidentifier") from None

    return convert


def _integer(name: str) -> Converter:
    def convert(value: Any) -> int | None:
        if isinstance(value, str) and not value.strip():
            return None
        try:
            number = int(value) if isinstance(value, int) else int(_exact_integer(value))
        except (ValueError, TypeError, InvalidOperation, OverflowError):
            raise RejectError(name, "the value is not a whole number") from None
        if not -_INT64 <= number < _INT64:
            raise RejectError(name, "the number does not fit in 64 bits")
        return number

    return convert


def _exact_integer(value: Any) -> Decimal:
    number = Decimal(value.strip() if isinstance(value, str) else value)
    if not number.is_finite() or number != number.to_integral_value():
        raise ValueError
    # "1e999999999" is whole too, but must not become an int of that many digits.
    return number if number.adjusted() < _MAX_DECIMAL_DIGITS else Decimal(_INT64)


def _decimal(name: str) -> Converter:
    def convert(value: Any) -> DecimalText | None:
        if isinstance(value, str) and not value.strip():
            return None
        if isinstance(value, float) and math.isfinite(value):
            value = repr(value)
        try:
            number = Decimal(value.strip() if isinstance(value, str) else value)
        except (InvalidOperation, TypeError, ValueError):
            raise RejectError(name, "the value is not a number") from None
        if not number.is_finite() or abs(number.adjusted()) > _MAX_DECIMAL_DIGITS:
            raise RejectError(name, "the value is not a number that JSON can carry")
        text = decimal_text(number)
        # RFC 7643 section 2.3.3: at least one digit on each side of the period. Every digit of the
        # column is kept, which a float would not do.
        return DecimalText(text if "." in text else text + ".0")

    return convert


def _date_time(rule: Rule, name: str, timezone: str) -> Converter:
    """Return RFC 7643 dateTime text in UTC. A date without a time has no zone: it is midnight UTC of that day."""
    zone = None if timezone.upper() == "UTC" else ZoneInfo(timezone)
    pattern = rule.format

    def convert(value: Any) -> str | None:
        moment = value
        if isinstance(value, str):
            text = value.strip()
            if not text:
                return None
            try:
                moment = _from_pattern(text, pattern) if pattern else _from_iso(text)
            except ValueError:
                raise RejectError(name, "the text is not a date of the expected format") from None
        if isinstance(moment, datetime):
            try:
                if moment.tzinfo is not None:
                    moment = moment.astimezone(UTC)
                elif zone is not None:
                    moment = moment.replace(tzinfo=zone).astimezone(UTC)
            except OverflowError:
                raise RejectError(name, "the date is out of range") from None
            text = moment.replace(tzinfo=None).isoformat()
            return (text.rstrip("0") if moment.microsecond else text) + "Z"
        if isinstance(moment, date):
            return moment.isoformat() + "T00:00:00Z"
        raise RejectError(name, f"a {type(value).__name__} is not a date")

    return convert


def _from_pattern(text: str, pattern: str) -> datetime | date:
    """Parse text by a strptime pattern; a pattern that reads no time of day gives a date."""
    moment = datetime.strptime(text, pattern)  # noqa: DTZ007
    return moment if _TIME_DIRECTIVE.search(pattern) else moment.date()


def _from_iso(text: str) -> datetime | date:
    """Parse ISO 8601 text; digits beyond microseconds (datetime2(7)) are cut, as is the blank of datetimeoffset."""
    if len(text) <= len("2026-01-02") and "T" not in text.upper():
        return date.fromisoformat(text)
    return datetime.fromisoformat(_BLANK_BEFORE_ZONE.sub(r"\1", text))


def _binary(name: str) -> Converter:
    def convert(value: Any) -> str | None:
        if isinstance(value, (bytes, bytearray, memoryview)):
            return base64.b64encode(value).decode("ascii") or None
        text = "".join(str(value).split())
        try:
            base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            raise RejectError(name, "the text is not base64") from None
        return text or None

    return convert
