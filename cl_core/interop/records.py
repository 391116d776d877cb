"""Reading and writing of two binary log formats without their libraries: TensorBoard event files, W&B offline files.

Both are sequences of checksummed records that contain protocol buffers. Only the fields of scalars are decoded; others
are skipped. Sources of the formats: TensorBoard's record_writer and event.proto, W&B's leveldb-style log.

    TensorBoard   <Q length> <I masked crc32c of it> data <I masked crc32c of data>
    W&B           b":W&B" <H 0xBEE1> <B 0>, then blocks of 32768 bytes: <I crc32 of type + data> <H length> <B type>
                  data; type 1 = a whole record, 2 = its first part, 3 = a middle part, 4 = its last part
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from cl_core.config import ConfigError

BLOCK = 32_768
WANDB_HEAD = struct.pack("<4sHB", b":W&B", 0xBEE1, 0)
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4

Fields = list[tuple[int, int | bytes]]  # (number, integer or bytes), in order


# ---------------------------------------------------------------- protocol buffers


def varint(value: int) -> bytes:
    """Encode an integer ≥ 0 as a varint: seven bits per byte, the lowest first."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def field(number: int, value: int | float | bytes | str) -> bytes:
    """Encode a field: an integer as varint, a float as double, bytes and strings with their length."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    if isinstance(value, float):
        return varint(number << 3 | 1) + struct.pack("<d", value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def fields(data: bytes) -> Fields:
    """Decode the fields of a message; fixed-width numbers are returned as bytes. Raises ValueError if malformed."""
    found: Fields = []
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, at = _varint(data, at)
            found.append((number, value))
            continue
        if kind == 2:
            size, at = _varint(data, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"a field of unknown kind {kind}")
        if size > len(data) - at:
            raise ValueError("a field ends after its message")
        found.append((number, data[at : at + size]))
        at += size
    return found


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < 70:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
    raise ValueError("a number without an end")


# ---------------------------------------------------------------- TensorBoard


def event_records(data: bytes, name: str) -> Iterator[bytes]:
    """Yield records of an event file, up to a truncated one. Raises ConfigError if the first is invalid."""
    at = 0
    while at + 12 <= len(data):
        head = data[at : at + 8]
        (size,) = struct.unpack("<Q", head)
        (crc,) = struct.unpack("<I", data[at + 8 : at + 12])
        whole = at + 12 + size + 4 <= len(data)
        if crc != masked_crc(head) or (whole and not _checks(data, at + 12, size)):
            if at == 0:
                raise ConfigError(f"{name} is no TensorBoard event file")
            return
        if not whole:
            return
        yield data[at + 12 : at + 12 + size]
        at += 12 + size + 4


def _checks(data: bytes, at: int, size: int) -> bool:
    return struct.unpack("<I", data[at + size : at + size + 4])[0] == masked_crc(data[at : at + size])


def event_record(data: bytes) -> bytes:
    """Encode a record of an event file."""
    head = struct.pack("<Q", len(data))
    return head + struct.pack("<I", masked_crc(head)) + data + struct.pack("<I", masked_crc(data))


def masked_crc(data: bytes) -> int:
    """Compute CRC-32C, rotated and shifted as in TensorFlow."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _table() -> tuple[int, ...]:
    found = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        found.append(value)
    return tuple(found)


_CRC = _table()


def crc32c(data: bytes) -> int:
    """Compute CRC-32C (Castagnoli), which zlib lacks."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


# ---------------------------------------------------------------- Weights & Biases


def wandb_records(data: bytes, name: str) -> Iterator[bytes]:
    """Yield records of an offline file, up to a truncated one. Raises ConfigError if it is not an offline file."""
    if data[:7] != WANDB_HEAD:
        raise ConfigError(f"{name} is no offline file of W&B")
    at, parts = 7, b""
    while at + 7 <= len(data):
        left = BLOCK - at % BLOCK
        if left < 7:  # too small for a header: padding
            at += left
            continue
        crc, size, kind = struct.unpack("<IHB", data[at : at + 7])
        if kind == 0 and size == 0:  # the rest of the block is empty
            at += left
            continue
        part = data[at + 7 : at + 7 + size]
        if len(part) < size or crc != zlib.crc32(bytes([kind]) + part):
            return
        at += 7 + size
        parts = part if kind in (FULL, FIRST) else parts + part
        if kind in (FULL, LAST):
            yield parts
            parts = b""


def wandb_file(records: list[bytes]) -> bytes:
    """Encode records as an offline file."""
    out = bytearray(WANDB_HEAD)
    for record in records:
        rest, kind = record, FIRST
        while True:
            left = BLOCK - len(out) % BLOCK
            if left < 7:
                out += b"\0" * left
                continue
            part, rest = rest[: left - 7], rest[left - 7 :]
            if not rest:
                kind = FULL if kind == FIRST else LAST
            out += struct.pack("<IHB", zlib.crc32(bytes([kind]) + part), len(part), kind) + part
            if not rest:
                break
            kind = MIDDLE
    return bytes(out)
