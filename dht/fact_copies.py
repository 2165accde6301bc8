"""Copies of a session's facts, cut into stretches. Format: docs/spec/12-head.md.

A stretch holds whole facts, each as length, u32 ‖ payload, and ends before the fact that would carry it
beyond 512 KiB (a longer fact has a stretch of its own). All but the last are finished: they never change.
"""

from collections.abc import Sequence

from kernel.errors import InvalidRecord, Reason

STRETCH_BYTES = 512 << 10
MAX_STRETCH_BYTES = 4 << 20
_LENGTH_BYTES = 4


def encode_facts(payloads: Sequence[bytes]) -> bytes:
    """The content of a stretch."""
    return b"".join(len(payload).to_bytes(_LENGTH_BYTES, "big") + payload for payload in payloads)


def decode_facts(content: bytes) -> list[bytes]:
    """The facts of a stretch.

    Raises:
        InvalidRecord: it is none.
    """
    payloads, position = [], 0
    while position < len(content):
        start = position + _LENGTH_BYTES
        position = start + int.from_bytes(content[start - _LENGTH_BYTES : start], "big")
        if start > len(content) or position > len(content):
            raise InvalidRecord(Reason.MALFORMED, "a stretch of facts ends within a fact")
        payloads.append(content[start:position])
    return payloads


def cut_stretches(payloads: Sequence[bytes]) -> list[list[bytes]]:
    """Facts in stretches; none is empty."""
    stretches: list[list[bytes]] = []
    room = 0
    for payload in payloads:
        size_bytes = _LENGTH_BYTES + len(payload)
        if not stretches or size_bytes > room:
            stretches.append([])
            room = STRETCH_BYTES
        stretches[-1].append(payload)
        room -= size_bytes
    return stretches
