"""FIT files, written by the published protocol: a header, definitions, data messages and a CRC."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Final

CRC_BYTES: Final = 2

EPOCH_S: Final = 631_065_600
"""Seconds of FIT count from 1989-12-31T00:00:00Z."""

FILE_ID, RECORD, GPS_METADATA = 0, 20, 160
SEMICIRCLES_PER_DEGREE: Final = 2**31 / 180

# Base types by their number in the protocol: format, and the value that says "unknown".
ENUM, UINT8, UINT16, SINT32, UINT32 = 0x00, 0x02, 0x84, 0x85, 0x86
FORMATS: Final = {ENUM: "B", UINT8: "B", UINT16: "H", SINT32: "i", UINT32: "I"}
UNKNOWN: Final = {ENUM: 0xFF, UINT8: 0xFF, UINT16: 0xFFFF, SINT32: 0x7FFFFFFF, UINT32: 0xFFFFFFFF}

Field = tuple[int, int]
"""Number in the message, and base type."""

TIME, LAT, LON = (253, UINT32), (0, SINT32), (1, SINT32)
ALTITUDE, ENHANCED_ALTITUDE, SPEED, ENHANCED_SPEED = (2, UINT16), (78, UINT32), (6, UINT16), (73, UINT32)
GPS_ACCURACY, HEART_RATE = (31, UINT8), (3, UINT8)

CRC_TABLE: Final = []
for byte in range(256):
    crc = byte
    for _ in range(8):
        crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
    CRC_TABLE.append(crc)


def crc_of(content: bytes) -> int:
    crc = 0
    for byte in content:
        crc = crc >> 8 ^ CRC_TABLE[(crc ^ byte) & 0xFF]
    return crc


def semicircles(degrees: float) -> int:
    return round(degrees * SEMICIRCLES_PER_DEGREE)


def definition(local: int, message: int, fields: Iterable[Field], big_endian: bool = False) -> bytes:
    fields = list(fields)
    sizes = b"".join(bytes((number, struct.calcsize(FORMATS[base]), base)) for number, base in fields)
    head = struct.pack(">BBBHB" if big_endian else "<BBBHB", 0x40 | local, 0, big_endian, message, len(fields))
    return head + sizes


def data(
    local: int,
    fields: Iterable[Field],
    values: Iterable[int | None],
    *,
    big_endian: bool = False,
    time_offset: int | None = None,
) -> bytes:
    """Return a data message; with `time_offset`, 5 bits of the time, its header is a compressed timestamp."""
    bases = [base for _, base in fields]
    head = local if time_offset is None else 0x80 | local << 5 | time_offset & 0x1F
    known = [UNKNOWN[base] if value is None else value for base, value in zip(bases, values, strict=True)]
    return struct.pack(f"{'>' if big_endian else '<'}B{''.join(FORMATS[base] for base in bases)}", head, *known)


def file(*messages: bytes, header_size: int = 14) -> bytes:
    body = b"".join(messages)
    head = struct.pack("<BBHI4s", header_size, 0x20, 2132, len(body), b".FIT")
    if header_size == 14:
        head += struct.pack("<H", crc_of(head))
    return head + body + struct.pack("<H", crc_of(head + body))
