"""Python values to the bytes of one cell and back (MS-TDS 2.2.5.5)."""

from __future__ import annotations

import re
import struct
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Any
from uuid import UUID

_DAY_TICKS = 864_000_000_000  # 100 ns in a day
_EPOCH_1900 = date(1900, 1, 1).toordinal()
_ISO = re.compile(
    r"(?:(\d{4})-(\d{2})-(\d{2}))?[T ]?"
    r"(?:(\d{2}):(\d{2})(?::(\d{2})(?:\.(\d{1,9}))?)?)?\s*(Z|[+-]\d{2}:\d{2})?"
)
_NAIVE_LENGTHS = frozenset({19, 23, 26})  # of an ISO text with no fraction, milliseconds or microseconds
_EXACT = Context(prec=60, rounding=ROUND_HALF_UP)
_TIME_BYTES = (3, 3, 3, 4, 4, 5, 5, 5)  # 2.2.5.5.1.8: by scale


def instant(value: Any) -> tuple[int, int, int]:
    """Return (days since 0001-01-01, 100 ns ticks of the day, offset in minutes) of a date or time.

    A text may have seven digits of fraction, which no Python type can hold.
    """
    if isinstance(value, datetime):
        offset = value.utcoffset()
        return (
            value.toordinal() - 1,
            _ticks(value),
            0 if offset is None else int(offset.total_seconds()) // 60,
        )
    if isinstance(value, date):
        return value.toordinal() - 1, 0, 0
    if isinstance(value, time):
        return _EPOCH_1900 - 1, _ticks(value), 0
    text = str(value).strip()
    if len(text) == 10:
        return date.fromisoformat(text).toordinal() - 1, 0, 0
    if len(text) in _NAIVE_LENGTHS and text[10] in "T " and text[-6] not in "+-" and text[-1] != "Z":
        moment = datetime.fromisoformat(text)
        return moment.toordinal() - 1, _ticks(moment), 0
    found = _ISO.fullmatch(text)
    if not found:
        raise ValueError(f"not a date or time: {value!r}")
    year, month, day, hour, minute, second, fraction, zone = found.groups()
    days = date(int(year), int(month), int(day)).toordinal() - 1 if year else _EPOCH_1900 - 1
    seconds = (int(hour or 0) * 60 + int(minute or 0)) * 60 + int(second or 0)
    ticks = seconds * 10_000_000 + int((fraction or "0").ljust(7, "0")[:7])
    minutes = 0
    if zone and zone != "Z":
        minutes = (int(zone[1:3]) * 60 + int(zone[4:6])) * (-1 if zone[0] == "-" else 1)
    return days, ticks, minutes


def _ticks(value: datetime | time) -> int:
    return ((value.hour * 60 + value.minute) * 60 + value.second) * 10_000_000 + value.microsecond * 10


def date_bytes(value: Any) -> bytes:
    """Encode date: three bytes of days since 0001-01-01."""
    return instant(value)[0].to_bytes(3, "little")


def time_bytes(ticks: int, scale: int) -> bytes:
    """Encode the ticks of a day in units of 10**-scale seconds."""
    return (ticks // 10 ** (7 - scale)).to_bytes(_TIME_BYTES[scale], "little")


def datetime2_bytes(value: Any, scale: int) -> bytes:
    """Encode datetime2: time, then date; a zone is dropped as the local time stands."""
    days, ticks, _ = instant(value)
    return time_bytes(ticks, scale) + days.to_bytes(3, "little")


def datetimeoffset_bytes(value: Any, scale: int) -> bytes:
    """Encode datetimeoffset: time and date in UTC, then the offset in minutes."""
    days, ticks, minutes = instant(value)
    total = days * _DAY_TICKS + ticks - minutes * 600_000_000
    days, ticks = divmod(total, _DAY_TICKS)
    return time_bytes(ticks, scale) + days.to_bytes(3, "little") + struct.pack("<h", minutes)


def datetime_bytes(value: Any) -> bytes:
    """Encode datetime: days since 1900-01-01 and 1/300 seconds, rounded as SQL Server rounds."""
    days, ticks, _ = instant(value)
    parts, day_parts = (ticks * 3 + 50_000) // 100_000, 300 * 86_400
    return struct.pack("<iI", days + 1 - _EPOCH_1900 + parts // day_parts, parts % day_parts)


def smalldatetime_bytes(value: Any) -> bytes:
    """Encode smalldatetime: days since 1900-01-01 and minutes; half a minute rounds up."""
    days, ticks, _ = instant(value)
    minutes = (ticks + 300_000_000) // 600_000_000
    return struct.pack("<HH", days + 1 - _EPOCH_1900 + minutes // 1440, minutes % 1440)


def scaled(value: Any, scale: int) -> int:
    """Return the value times 10**scale as an integer, rounded half up."""
    number = value if isinstance(value, Decimal) else Decimal(str(value))
    return int(_EXACT.to_integral_value(_EXACT.scaleb(number, scale)))


def decimal_bytes(value: Any, scale: int, magnitude_bytes: int) -> bytes:
    """Encode decimal: sign, then magnitude in 4, 8, 12 or 16 bytes (2.2.5.5.1.6)."""
    number = scaled(value, scale)
    return (b"\x01" if number >= 0 else b"\x00") + abs(number).to_bytes(magnitude_bytes, "little")


def money_bytes(value: Any) -> bytes:
    """Encode money: high half first, each half little-endian (2.2.5.5.1.4)."""
    number = scaled(value, 4)
    return struct.pack("<iI", number >> 32, number & 0xFFFFFFFF)


def guid_bytes(value: Any) -> bytes:
    """Encode uniqueidentifier in the mixed byte order of a GUID."""
    if isinstance(value, UUID):
        return value.bytes_le
    data = bytes.fromhex(value.strip("{} ").replace("-", ""))
    return data[3::-1] + data[5:3:-1] + data[7:5:-1] + data[8:16]


def bit_value(value: Any) -> int:
    """Read a bit from a bool, a number or one of the texts T-SQL converts."""
    if isinstance(value, str):
        return 1 if value.strip().lower() in {"1", "true"} else 0
    return 1 if value else 0


def read_time(data: bytes, scale: int) -> timedelta:
    """Decode the time of a day; Python keeps microseconds only."""
    return timedelta(microseconds=int.from_bytes(data, "little") * 10 ** (7 - scale) // 10)


def read_datetime2(data: bytes, scale: int) -> datetime:
    """Decode datetime2."""
    days = int.from_bytes(data[-3:], "little")
    return datetime.fromordinal(days + 1) + read_time(data[:-3], scale)


def read_datetimeoffset(data: bytes, scale: int) -> datetime:
    """Decode datetimeoffset to an aware value in UTC."""
    return read_datetime2(data[:-2], scale).replace(tzinfo=UTC)


def read_datetime(data: bytes) -> datetime:
    """Decode datetime or smalldatetime by length."""
    if len(data) == 4:
        days, minutes = struct.unpack("<HH", data)
        return datetime.fromordinal(_EPOCH_1900 + days) + timedelta(minutes=minutes)
    days, parts = struct.unpack("<iI", data)
    return datetime.fromordinal(_EPOCH_1900 + days) + timedelta(milliseconds=round(parts * 10 / 3))


def read_decimal(data: bytes, scale: int) -> Decimal:
    """Decode decimal or numeric."""
    number = int.from_bytes(data[1:], "little")
    return _EXACT.scaleb(Decimal(number if data[0] else -number), -scale)


def read_money(data: bytes) -> Decimal:
    """Decode money or smallmoney by length."""
    if len(data) == 4:
        return Decimal(struct.unpack("<i", data)[0]).scaleb(-4)
    high, low = struct.unpack("<iI", data)
    return Decimal((high << 32) + low).scaleb(-4)
