"""The bytes of a journal stream (docs/spec/07-store.md).

    file    = header ‖ record*
    header  = "LUCIDJNL" ‖ version u32 ‖ BLAKE3-16("lucid journal header" ‖ first 12 bytes)
    record  = "LJR1" ‖ sequence u64 ‖ length u32 ‖ checksum (16 bytes) ‖ payload
    checksum = keyed BLAKE3-16(key, sequence ‖ length ‖ payload)
    key     = BLAKE3("lucid journal record" ‖ name of the stream)

Integers are big-endian; sequence numbers begin at 0. A record is intact if its checksum holds and its
sequence number is greater than that of the intact record before it. Where none stands, reading goes on at
the next "LJR1" whose checksum holds: a damaged byte costs at most the record that it hits, wherever it
stands. The checksum binds the stream, so a record copied from another one is none.

A payload that itself contains a record of its own stream could be taken for one, if the record around it is
damaged. Payloads are encrypted, or written by the node itself.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from blake3 import blake3

from kernel.errors import StoreDamaged, StoreTooNew
from kernel.ports import JournalContents

VERSION = 1
HEADER_BYTES = 28
RECORD_BYTES = 32
MAX_PAYLOAD_BYTES = (1 << 20) + (1 << 12)

_HEADER_MAGIC = b"LUCIDJNL"
_RECORD_MAGIC = b"LJR1"
_CHECKSUM_BYTES = 16
# What looks for the next record hashes at most so many bytes more than the file has, so that a file full of
# forged beginnings takes no longer to read than an honest one of a few hundred megabytes.
_SEARCH_BYTES = 256 << 20


def compute_header() -> bytes:
    """The first bytes of every stream."""
    head = _HEADER_MAGIC + VERSION.to_bytes(4, "big")
    return head + _compute_header_checksum(head)


def compute_key(stream: str) -> bytes:
    """The checksum key of a stream."""
    return blake3(b"lucid journal record" + stream.encode()).digest()


def encode_records(key: bytes, first: int, payloads: Sequence[bytes]) -> list[bytes]:
    """The parts of a file that hold `payloads` as records, numbered from `first`."""
    parts = []
    for sequence, payload in enumerate(payloads, first):
        numbers = sequence.to_bytes(8, "big") + len(payload).to_bytes(4, "big")
        parts += [_RECORD_MAGIC + numbers + _compute_checksum(key, numbers, payload), payload]
    return parts


@dataclass(frozen=True, slots=True)
class Parsed:
    """What the bytes of a stream hold.

    Attributes:
        contents: the records, and what is wrong.
        end: offset behind the last intact record, or behind the header if there is none.
        next_sequence: of the record that would be appended.
    """

    contents: JournalContents
    end: int
    next_sequence: int


def parse_stream(key: bytes, data: bytes, stream: str) -> Parsed:
    """Reads every intact record, whatever stands between them.

    Raises:
        StoreTooNew: an intact header names a version that is not known here.
    """
    header = _parse_header(data, stream)
    records: list[tuple[int, bytes]] = []
    damaged: list[str] = []
    expected, end = 0, HEADER_BYTES if header else 0
    for sequence, payload, after in _find_records(key, data, stream):
        if sequence > expected:
            damaged.append(describe(expected, sequence - 1))
        records.append((sequence, payload))
        expected, end = sequence + 1, after
    if not header and (records or len(data) >= HEADER_BYTES):
        damaged.insert(0, "the header of the file")
    return Parsed(JournalContents(records, damaged, len(data) - end), end, expected)


def _find_records(key: bytes, data: bytes, stream: str) -> Iterator[tuple[int, bytes, int]]:
    """(sequence, payload, offset behind it) of every intact record; sequences increase."""
    view = memoryview(data)
    least, offset, budget = 0, 0, len(data) + _SEARCH_BYTES
    while (offset := data.find(_RECORD_MAGIC, offset)) >= 0:
        numbers = data[offset + 4 : offset + 16]
        sequence, length = int.from_bytes(numbers[:8], "big"), int.from_bytes(numbers[8:], "big")
        after = offset + RECORD_BYTES + length
        if sequence >= least and length <= MAX_PAYLOAD_BYTES and after <= len(data):
            payload = view[offset + RECORD_BYTES : after]
            if (budget := budget - length) < 0:
                raise StoreDamaged(f"journal {stream} has too many beginnings of records that are none")
            if data[offset + 16 : offset + RECORD_BYTES] == _compute_checksum(key, numbers, payload):
                yield sequence, bytes(payload), after
                least, offset = sequence + 1, after
                continue
        offset += 1


def _compute_checksum(key: bytes, numbers: bytes, payload: bytes | memoryview) -> bytes:
    return blake3(numbers, key=key).update(payload).digest(_CHECKSUM_BYTES)


def _parse_header(data: bytes, stream: str) -> bool:
    """Whether the header is intact."""
    head, checksum = data[:12], data[12:HEADER_BYTES]
    if not head.startswith(_HEADER_MAGIC) or checksum != _compute_header_checksum(head):
        return False
    version = int.from_bytes(head[8:], "big")
    if version > VERSION:
        raise StoreTooNew(
            f"journal {stream} has format {version}; this version of the software knows {VERSION}",
            hint="use the newer version of the software that wrote it",
        )
    return True


def _compute_header_checksum(head: bytes) -> bytes:
    return blake3(b"lucid journal header" + head).digest(_CHECKSUM_BYTES)


def describe(first: int, last: int) -> str:
    """Names records in words."""
    return f"record {first}" if first == last else f"records {first} to {last}"
