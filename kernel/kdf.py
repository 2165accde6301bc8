"""Key derivation: HKDF (RFC 5869) over HMAC-BLAKE2b-512, empty salt.

info = length of the label as 1 byte ‖ label ‖ context. The contexts of a call are concatenated as they are,
so whoever derives uses parts of fixed length.
"""

import hmac

from kernel.domains import Label

HASH_BYTES = 64
MAX_BYTES = 255 * HASH_BYTES
_EMPTY_SALT = bytes(HASH_BYTES)


def derive(secret: bytes, label: Label, *context: bytes, size_bytes: int = 32) -> bytes:
    """A key of `size_bytes` for the use that `label` and `context` name.

    Args:
        secret: input keying material; at least 32 bytes of it unpredictable.
        label: the use, from the one table.
        context: fixed-length parts that tell keys of one use apart.
        size_bytes: 1 to 16,320.

    Raises:
        ValueError: `size_bytes` is out of range.
    """
    if not 0 < size_bytes <= MAX_BYTES:
        raise ValueError(f"HKDF gives 1 to {MAX_BYTES} bytes, not {size_bytes}")
    name = label.encode("ascii")
    info = b"".join((bytes((len(name),)), name, *context))
    pseudorandom_key = hmac.digest(_EMPTY_SALT, secret, "blake2b")
    return _expand(pseudorandom_key, info, size_bytes)


def _expand(pseudorandom_key: bytes, info: bytes, size_bytes: int) -> bytes:
    """HKDF-Expand, RFC 5869 section 2.3."""
    block, output = b"", b""
    for counter in range(1, -(-size_bytes // HASH_BYTES) + 1):
        block = hmac.digest(pseudorandom_key, block + info + bytes((counter,)), "blake2b")
        output += block
    return output[:size_bytes]
