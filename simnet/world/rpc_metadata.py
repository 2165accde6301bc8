"""What gRPC makes of metadata on its way: what it refuses, what it drops, and what arrives.

Rules, as observed on `grpc.aio`: keys are lower case, digits and "._-"; values are printable ASCII, or any
bytes under a key that ends with "-bin"; what the transport says itself cannot be said by a caller.
"""

import functools
import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import grpc

_KEY = re.compile(r"[a-z0-9._-]+")
_VALUE = re.compile(rb"[\x20-\x7e]*")
_RESERVED = frozenset({"user-agent", "te", "content-type"})
_HEADER_OVERHEAD_BYTES = 32
"""What a header counts beside its text (RFC 7540, section 6.5.2)."""
_REMEMBERED = 4096
"""Nodes send the same few headers with all of their calls: the last ones are not looked at again."""


class Metadatum(NamedTuple):
    """One header."""

    key: str
    value: str | bytes


Headers = tuple[Metadatum, ...]
Pairs = tuple[tuple[str, Any], ...]
USER_AGENT = Metadatum("user-agent", "grpc-python-asyncio/simulated")
ONLY_USER_AGENT: Headers = (USER_AGENT,)


def encode_metadata(metadata: Iterable[tuple[str, Any]]) -> Headers:
    """Metadata as the other side receives it.

    Raises:
        TypeError: a value is not of the type that its key asks for.
        grpc.aio.InternalError: the transport refuses a key or a value.
    """
    return tuple(_encode(key, value) for key, value in metadata if key not in _RESERVED)


@functools.lru_cache(_REMEMBERED)
def _encode(key: str, value: Any) -> Metadatum:
    if not _KEY.fullmatch(key):
        raise grpc.aio.InternalError(f"metadata key {key!r} is invalid")
    if key.endswith("-bin"):
        if not isinstance(value, bytes):
            raise TypeError(f"binary metadata {key} must be bytes, not {type(value)}")
        return Metadatum(key, value)
    if value is None:
        return Metadatum(key, "")
    if not isinstance(value, (str, bytes)):
        raise TypeError(f"metadata {key} must be str, not {type(value)}")
    raw = value.encode() if isinstance(value, str) else value
    if not _VALUE.fullmatch(raw):
        raise grpc.aio.InternalError(f"the value of metadata {key} is invalid")
    return Metadatum(key, raw.decode())


def check_trailing(metadata: Any) -> None:
    """Checks what a handler sets as trailing metadata.

    Raises:
        TypeError: it is no sequence of pairs of str and str or bytes.
    """
    is_right = hasattr(metadata, "__iter__") and not isinstance(metadata, dict)
    if not is_right or not all(_is_pair(item) for item in metadata):
        raise TypeError(f"trailing metadata must be tuples of str and str or bytes, not {metadata!r}")


def _is_pair(item: Any) -> bool:
    return (
        isinstance(item, tuple)
        and len(item) == 2
        and isinstance(item[0], str)
        and isinstance(item[1], (str, bytes))
    )


@functools.lru_cache(_REMEMBERED)
def measure_metadata(headers: Headers) -> int:
    """Bytes that they count for as headers."""
    return sum(len(key) + len(value) + _HEADER_OVERHEAD_BYTES for key, value in headers)


def init_metadata(
    metadata: "grpc.aio.Metadata | Sequence[tuple[str, Any]] | None",
) -> tuple[tuple[str, Any], ...]:
    """What a caller passes, unchecked, in the order in which gRPC sends it: values of one key together."""
    if not metadata:
        return ()
    if isinstance(metadata, tuple) and len(metadata) == 1:
        return metadata  # which is in order
    if isinstance(metadata, grpc.aio.Metadata):
        return tuple(metadata)
    if isinstance(metadata, Sequence):
        metadata = grpc.aio.Metadata.from_tuple(tuple(metadata))
    return tuple(metadata)
