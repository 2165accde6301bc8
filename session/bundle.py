"""Proof bundles: one file that an auditor checks offline. Format: docs/spec/14-bundle.md.

Deterministic CBOR (RFC 8949, section 4.2.1) of maps with text keys, arrays, byte strings, texts and unsigned
integers, nothing else. A reader first walks over the bytes, so that a small file can claim neither depth nor
size; then it decodes; and what does not encode to the same bytes again is refused. So a bundle has one form.
"""

from dataclasses import dataclass
from typing import Any, TypeVar

import cbor2

from kernel.errors import InvalidRecord, Reason
from kernel.merkle import HASH_BYTES
from lucid.v1 import identity_pb2

FORMAT = "lucid bundle"
VERSION = 0
MAX_BUNDLE_BYTES = 64 << 20
MAX_ATTESTATIONS = 64
MAX_ITEMS = 16_384
MAX_DEPTH = 4
MAX_PATH_HASHES = 64

T = TypeVar("T")

_UNSIGNED, _BYTES, _TEXT, _ARRAY, _MAP = 0, 2, 3, 4, 5


@dataclass(frozen=True, slots=True)
class Leaf:
    """A 4 KiB leaf of a chunk, with its inclusion proof up to the chunk's root."""

    data: bytes
    path: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class ChunkProof:
    """One chunk of the recording.

    Attributes:
        index: its place in the session.
        size_bytes: of its blob.
        root: over the leaves of its blob.
        path: inclusion proof of its chunk ID up to the session root.
        header: the first leaf, which begins with the header; None in a revealed chunk.
        first_leaf: number of the first of `leaves`.
        leaves: a stretch of the blob; empty if none is shown.
        blob: all of it; None unless the chunk is revealed.
        key: with which it opens; None unless the chunk is revealed.
    """

    index: int
    size_bytes: int
    root: bytes
    path: tuple[bytes, ...]
    header: Leaf | None = None
    first_leaf: int = 0
    leaves: tuple[Leaf, ...] = ()
    blob: bytes | None = None
    key: bytes | None = None


@dataclass(frozen=True, slots=True)
class Bundle:
    """What stands in a bundle; nothing of it is checked yet but its form.

    Attributes:
        network: network ID.
        session_id: 16 bytes.
        policy: the control policy, signed by the device.
        grants: the owner's grant list.
        checkpoint: signed by the device.
        attestations: of this checkpoint, by witness.
        manifest: signed by the device; None while the session goes on.
        chunk: one chunk of it, if one is shown.
    """

    network: bytes
    session_id: bytes
    policy: identity_pb2.Signed
    grants: identity_pb2.Signed
    checkpoint: identity_pb2.Signed
    attestations: tuple[identity_pb2.Signed, ...] = ()
    manifest: identity_pb2.Signed | None = None
    chunk: ChunkProof | None = None


def encode_bundle(bundle: Bundle) -> bytes:
    """The bytes of the file."""
    document: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "network": bundle.network,
        "session": bundle.session_id,
        "policy": _encode_signed(bundle.policy),
        "grants": _encode_signed(bundle.grants),
        "checkpoint": _encode_signed(bundle.checkpoint),
        "attestations": [_encode_signed(each) for each in bundle.attestations],
    }
    if bundle.manifest is not None:
        document["manifest"] = _encode_signed(bundle.manifest)
    if bundle.chunk is not None:
        document["chunk"] = _encode_chunk(bundle.chunk)
    return cbor2.dumps(document, canonical=True)


def _encode_signed(signed: identity_pb2.Signed) -> list[bytes]:
    return [signed.payload, signed.public_key, signed.signature]


def _encode_chunk(chunk: ChunkProof) -> dict[str, Any]:
    document: dict[str, Any] = {
        "index": chunk.index,
        "size": chunk.size_bytes,
        "root": chunk.root,
        "path": b"".join(chunk.path),
    }
    if chunk.header is not None:
        document["header"] = _encode_leaf(chunk.header)
    if chunk.leaves:
        document["first"] = chunk.first_leaf
        document["leaves"] = [_encode_leaf(leaf) for leaf in chunk.leaves]
    if chunk.blob is not None:
        document["blob"], document["key"] = chunk.blob, chunk.key
    return document


def _encode_leaf(leaf: Leaf) -> list[bytes]:
    return [leaf.data, b"".join(leaf.path)]


def decode_bundle(data: bytes) -> Bundle:
    """Reads the form of a bundle; who verifies it checks what it says.

    Raises:
        InvalidRecord: it breaks the format.
    """
    if len(data) > MAX_BUNDLE_BYTES:
        raise InvalidRecord(Reason.TOO_LARGE, f"a bundle of {len(data)} bytes")
    _check_shape(data)
    try:
        document = cbor2.loads(data)
        canonical = cbor2.dumps(document, canonical=True)
    except (cbor2.CBORError, ValueError, TypeError) as error:
        raise _malformed("it is no CBOR") from error
    if canonical != data:
        raise _malformed("it is not in its one canonical form")
    return _read_bundle(document)


def _check_shape(data: bytes) -> None:
    """Walks over the items of a document: known kinds, stated lengths, within bounds, nothing behind."""
    at, items = 0, 0
    open_counts = [1]
    while open_counts:
        if not open_counts[-1]:
            open_counts.pop()
            continue
        open_counts[-1] -= 1
        items += 1
        if items > MAX_ITEMS or len(open_counts) > MAX_DEPTH + 1:
            raise InvalidRecord(Reason.TOO_LARGE, "the bundle has too many parts, or too deep ones")
        kind, value, at = _read_head(data, at)
        if kind in (_BYTES, _TEXT):
            at += value
        elif kind in (_ARRAY, _MAP):
            open_counts.append(value * (1 if kind == _ARRAY else 2))
        elif kind != _UNSIGNED:
            raise _malformed("it holds something of an unknown kind")
        if at > len(data):
            raise _malformed("it ends too early")
    if at != len(data):
        raise _malformed("something stands behind its end")


def _read_head(data: bytes, at: int) -> tuple[int, int, int]:
    """Kind and value of the item at `at`, and where its head ends (RFC 8949, section 3)."""
    if at >= len(data):
        raise _malformed("it ends too early")
    kind, info = data[at] >> 5, data[at] & 0x1F
    if info < 24:
        return kind, info, at + 1
    if info > 27:
        raise _malformed("a length is not stated")
    end = at + 1 + (1 << (info - 24))
    if end > len(data):
        raise _malformed("it ends too early")
    return kind, int.from_bytes(data[at + 1 : end], "big"), end


def _malformed(what: str) -> InvalidRecord:
    return InvalidRecord(Reason.MALFORMED, f"the bundle breaks its format: {what}")


class _Fields:
    """The fields of a map, taken out one by one; none may be left."""

    def __init__(self, value: object, what: str) -> None:
        if not isinstance(value, dict):
            raise _malformed(f"{what} is no map")
        self._rest = dict(value)
        self._what = what

    def take(self, name: str, kind: type[T]) -> T:
        value = self._rest.pop(name, None)
        if type(value) is not kind:
            raise _malformed(f"`{name}` of {self._what} is missing, or of another type")
        return value

    def has(self, name: str) -> bool:
        return name in self._rest

    def end(self) -> None:
        if self._rest:
            raise _malformed(f"{self._what} has fields that nobody knows")


def _read_bundle(document: object) -> Bundle:
    fields = _Fields(document, "the bundle")
    if fields.take("format", str) != FORMAT:
        raise _malformed("it is none")
    version = fields.take("version", int)
    if version != VERSION:
        raise InvalidRecord(Reason.WRONG_VERSION, f"the bundle has version {version}, known is {VERSION}")
    attestations = fields.take("attestations", list)
    if len(attestations) > MAX_ATTESTATIONS:
        raise InvalidRecord(Reason.TOO_LARGE, f"the bundle has {len(attestations)} attestations")
    bundle = Bundle(
        network=fields.take("network", bytes),
        session_id=fields.take("session", bytes),
        policy=_read_signed(fields.take("policy", list)),
        grants=_read_signed(fields.take("grants", list)),
        checkpoint=_read_signed(fields.take("checkpoint", list)),
        attestations=tuple(_read_signed(each) for each in attestations),
        manifest=_read_signed(fields.take("manifest", list)) if fields.has("manifest") else None,
        chunk=_read_chunk(fields.take("chunk", dict)) if fields.has("chunk") else None,
    )
    fields.end()
    return bundle


def _read_chunk(document: object) -> ChunkProof:
    fields = _Fields(document, "the chunk")
    index, size_bytes = fields.take("index", int), fields.take("size", int)
    root, path = fields.take("root", bytes), _read_path(fields.take("path", bytes))
    if fields.has("blob"):
        chunk = ChunkProof(
            index, size_bytes, root, path, blob=fields.take("blob", bytes), key=fields.take("key", bytes)
        )
    elif fields.has("leaves"):
        leaves = tuple(_read_leaf(each) for each in fields.take("leaves", list))
        if not leaves:
            raise _malformed("an empty stretch of leaves")
        header = _read_leaf(fields.take("header", list))
        chunk = ChunkProof(
            index, size_bytes, root, path, header, first_leaf=fields.take("first", int), leaves=leaves
        )
    else:
        chunk = ChunkProof(index, size_bytes, root, path, _read_leaf(fields.take("header", list)))
    fields.end()
    return chunk


def _read_signed(value: object) -> identity_pb2.Signed:
    payload, public_key, signature = _read_byte_strings(value, 3, "a signed document")
    return identity_pb2.Signed(payload=payload, public_key=public_key, signature=signature)


def _read_leaf(value: object) -> Leaf:
    data, path = _read_byte_strings(value, 2, "a leaf")
    return Leaf(data, _read_path(path))


def _read_byte_strings(value: object, count: int, what: str) -> list[bytes]:
    if not isinstance(value, list) or len(value) != count or any(type(one) is not bytes for one in value):
        raise _malformed(f"{what} is no array of {count} byte strings")
    return value


def _read_path(path: bytes) -> tuple[bytes, ...]:
    if len(path) % HASH_BYTES or len(path) > MAX_PATH_HASHES * HASH_BYTES:
        raise _malformed("a proof is no row of hashes")
    return tuple(path[at : at + HASH_BYTES] for at in range(0, len(path), HASH_BYTES))
