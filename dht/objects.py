"""Objects: bytes of any length, kept as encrypted blobs. Format: docs/spec/12-head.md.

    inner = length of the content, u64 ‖ content ‖ zeros up to the padded length (Padmé)
    parts = inner, cut every 8 MiB
    blob  = nonce ‖ XChaCha20-Poly1305(key, nonce, part, associated data = its number, u32 ‖ of how many, u32)

The key is fresh for each object and stands in the reference, which itself stands only where it is encrypted.
To holders a part is a chunk like any other: same transfer, same leases, same audits.
"""

from collections.abc import Sequence

from dht.lease import derive_lease_key
from kernel import aead
from kernel.chunk_id import compute_blob_id
from kernel.errors import InvalidRecord, Reason
from kernel.padding import compute_padded_bytes
from kernel.signing import SigningKey
from lucid.v1 import chunk_pb2

PART_BYTES = 8 << 20
MAX_PARTS = 64
MAX_PART_BLOB_BYTES = PART_BYTES + aead.NONCE_BYTES + aead.TAG_BYTES
_LENGTH_BYTES = 8
_LEASE_CONTEXT = bytes(16)
"""Stands where a session ID stands in the lease key of a session."""


def count_parts(size_bytes: int) -> int:
    """How many parts a content of so many bytes has."""
    return -(-compute_padded_bytes(_LENGTH_BYTES + size_bytes) // PART_BYTES)


def seal_object(
    content: bytes, key: bytes, nonces: Sequence[bytes]
) -> tuple[chunk_pb2.ObjectRef, list[bytes]]:
    """An object and its blobs.

    Args:
        content: what it holds.
        key: 32 fresh random bytes.
        nonces: 24 fresh random bytes for each part.

    Raises:
        InvalidRecord: the content is too long.
    """
    count = count_parts(len(content))
    if count > MAX_PARTS:
        raise InvalidRecord(Reason.TOO_LARGE, f"an object of {len(content)} bytes has {count} parts")
    inner = len(content).to_bytes(_LENGTH_BYTES, "big") + content
    inner += bytes(compute_padded_bytes(len(inner)) - len(inner))
    reference, blobs = chunk_pb2.ObjectRef(key=key), []
    for index, nonce in enumerate(nonces):
        part = inner[index * PART_BYTES : (index + 1) * PART_BYTES]
        blob = nonce + aead.encrypt(key, nonce, part, _associated(index, count))
        reference.parts.add(chunk_id=compute_blob_id(blob), size_bytes=len(blob))
        blobs.append(blob)
    return reference, blobs


def check_reference(reference: chunk_pb2.ObjectRef, max_bytes: int) -> None:
    """Checks that a reference can be one, before anything is fetched or any memory taken.

    Raises:
        InvalidRecord: MALFORMED; or TOO_LARGE: its parts have more than `max_bytes` of content and padding.
    """
    sizes = [part.size_bytes for part in reference.parts]
    if len(reference.key) != aead.KEY_BYTES or any(len(part.chunk_id) != 32 for part in reference.parts):
        raise InvalidRecord(Reason.MALFORMED, "key or chunk IDs of an object have an impossible length")
    if (
        len(sizes) > MAX_PARTS
        or sum(sizes) > compute_padded_bytes(_LENGTH_BYTES + max_bytes) + 40 * MAX_PARTS
    ):
        raise InvalidRecord(Reason.TOO_LARGE, f"an object of {len(sizes)} parts and {sum(sizes)} bytes")
    whole, last = sizes[:-1], sizes[-1:]
    if (
        not last
        or any(size != MAX_PART_BLOB_BYTES for size in whole)
        or not 40 < last[0] <= MAX_PART_BLOB_BYTES
    ):
        raise InvalidRecord(Reason.MALFORMED, "the parts of an object have impossible lengths")


def open_object(reference: chunk_pb2.ObjectRef, blobs: Sequence[bytes]) -> bytes:
    """The content.

    Args:
        reference: checked.
        blobs: of all parts, in order, from anywhere.

    Raises:
        InvalidRecord: a blob is another one, or does not open in its place; length or padding are wrong.
    """
    count, parts = len(reference.parts), []
    for index, (part, blob) in enumerate(zip(reference.parts, blobs, strict=True)):
        if len(blob) != part.size_bytes or compute_blob_id(blob) != part.chunk_id:
            raise InvalidRecord(Reason.WRONG_HASH, f"part {index} of an object is another blob")
        nonce, ciphertext = blob[: aead.NONCE_BYTES], blob[aead.NONCE_BYTES :]
        parts.append(aead.decrypt(reference.key, nonce, ciphertext, _associated(index, count)))
    inner = b"".join(parts)
    end = _LENGTH_BYTES + int.from_bytes(inner[:_LENGTH_BYTES], "big")
    if end > len(inner) or len(inner) != compute_padded_bytes(end) or inner.count(0, end) < len(inner) - end:
        raise InvalidRecord(Reason.MALFORMED, "length or padding of an object are wrong")
    return inner[_LENGTH_BYTES:end]


def derive_object_lease_key(reference: chunk_pb2.ObjectRef) -> SigningKey:
    """The key that signs the leases of an object's parts: holders cannot link two objects by it."""
    return derive_lease_key(reference.key, _LEASE_CONTEXT)


def _associated(index: int, count: int) -> bytes:
    return index.to_bytes(4, "big") + count.to_bytes(4, "big")
