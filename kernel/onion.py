"""Onion services, version 3: addresses and keys (Tor, rend-spec-v3, sections 6 and A.2).

    address = base32(public key ‖ checksum ‖ 03), in lower case
    checksum = first 2 bytes of SHA3-256(".onion checksum" ‖ public key ‖ 03)

So an address tells the key, and is known before any Tor runs. Tor takes the private key expanded, as
Ed25519 (RFC 8032, section 5.1.5) makes it from a seed.
"""

import base64
import binascii
import hashlib

from kernel.errors import InvalidRecord, Reason
from kernel.signing import PUBLIC_KEY_BYTES, SEED_BYTES, SigningKey

ADDRESS_BYTES = 35
_VERSION = b"\x03"
_CHECKSUM_BYTES = 2
_HINT = "Copy the whole address again: its last characters are a checksum."


class OnionKey:
    """The key pair of an onion service. Its text form shows the address alone.

    Attributes:
        host: the address, 56 characters.
    """

    __slots__ = ("_seed", "host")

    def __init__(self, seed: bytes) -> None:
        """The key pair of a 32-byte seed.

        Raises:
            ValueError: the seed has another length.
        """
        self.host = encode_onion(SigningKey.from_seed(seed).public_key)
        self._seed = seed

    def expand(self) -> bytes:
        """The private key as Tor takes it: 32 bytes of scalar, 32 bytes of prefix."""
        expanded = bytearray(hashlib.sha512(self._seed).digest())
        expanded[0] &= 0b1111_1000
        expanded[SEED_BYTES - 1] &= 0b0011_1111
        expanded[SEED_BYTES - 1] |= 0b0100_0000
        return bytes(expanded)

    def __repr__(self) -> str:
        return f"OnionKey({self.host})"


def encode_onion(public_key: bytes) -> str:
    """The address of an Ed25519 public key (32 bytes)."""
    return base64.b32encode(public_key + _compute_checksum(public_key) + _VERSION).decode().lower()


def decode_onion(host: str) -> bytes:
    """The Ed25519 public key (32 bytes) that an address of 56 characters names.

    Raises:
        InvalidRecord: MALFORMED, WRONG_VERSION, or WRONG_HASH: a checksum that does not fit.
    """
    try:
        raw = base64.b32decode(host.upper())
    except (binascii.Error, ValueError) as error:
        raise InvalidRecord(Reason.MALFORMED, "an onion address is no base32", hint=_HINT) from error
    if len(raw) != ADDRESS_BYTES:
        raise InvalidRecord(Reason.MALFORMED, f"an onion address of {len(raw)} bytes", hint=_HINT)
    key, checksum, version = raw[:PUBLIC_KEY_BYTES], raw[PUBLIC_KEY_BYTES:-1], raw[-1:]
    if version != _VERSION:
        raise InvalidRecord(Reason.WRONG_VERSION, f"an onion address of version {version[0]}", hint=_HINT)
    if _compute_checksum(key) != checksum:
        raise InvalidRecord(Reason.WRONG_HASH, "the checksum of an onion address does not fit", hint=_HINT)
    return key


def _compute_checksum(public_key: bytes) -> bytes:
    return hashlib.sha3_256(b".onion checksum" + public_key + _VERSION).digest()[:_CHECKSUM_BYTES]
