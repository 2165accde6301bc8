"""Signatures: Ed25519 (RFC 8032) over a digest that names what is signed, and where it counts.

    digest = BLAKE3(length of domain as 1 byte ‖ domain ‖ network ID ‖ fork version as u32be ‖ payload)

The payload is signed as the exact bytes that travel; who checks never serialises anything again. Libraries
differ on edge cases of Ed25519, so one alone verifies: libsodium. It refuses small-order keys and points,
keys and S that are not canonical, and checks without cofactor.
"""

from typing import TypeVar

from blake3 import blake3
from google.protobuf.message import DecodeError, Message
from nacl import bindings
from nacl.exceptions import BadSignatureError

from kernel.domains import Domain, Network
from kernel.errors import InvalidRecord, Reason
from lucid.v1 import identity_pb2

M = TypeVar("M", bound=Message)

SEED_BYTES = 32
PUBLIC_KEY_BYTES = 32
SIGNATURE_BYTES = 64
DIGEST_BYTES = 32


def compute_digest(domain: Domain, network: Network, payload: bytes) -> bytes:
    """The 32 bytes that are signed."""
    name = domain.encode("ascii")
    hasher = blake3(bytes((len(name),)) + name + network.id + network.fork_version.to_bytes(4, "big"))
    return hasher.update(payload).digest()


class SigningKey:
    """An Ed25519 key pair. Its text form shows the public part alone."""

    __slots__ = ("_private", "public_key")

    def __init__(self, public_key: bytes, private: bytes) -> None:
        self.public_key = public_key
        self._private = private

    @classmethod
    def from_seed(cls, seed: bytes) -> "SigningKey":
        """The key pair of a 32-byte seed.

        Raises:
            ValueError: the seed has another length.
        """
        if len(seed) != SEED_BYTES:
            raise ValueError(f"a seed has {SEED_BYTES} bytes, not {len(seed)}")
        return cls(*bindings.crypto_sign_seed_keypair(seed))

    def __repr__(self) -> str:
        return f"SigningKey({self.public_key.hex()})"

    def sign(self, domain: Domain, network: Network, payload: bytes) -> identity_pb2.Signed:
        """`payload` with this key's signature for the domain and the network."""
        digest = compute_digest(domain, network, payload)
        signature = bindings.crypto_sign(digest, self._private)[:SIGNATURE_BYTES]
        return identity_pb2.Signed(payload=payload, public_key=self.public_key, signature=signature)

    def sign_foreign(self, message: bytes) -> bytes:
        """The signature over a message of a format that is not Lucid's, and that names its own domain.

        Raises:
            ValueError: the message has the length of a digest, and so might be one.
        """
        if len(message) == DIGEST_BYTES:
            raise ValueError("a message of 32 bytes could be a digest")
        return bindings.crypto_sign(message, self._private)[:SIGNATURE_BYTES]


def verify_signed(
    signed: identity_pb2.Signed, domain: Domain, network: Network, *, signer: bytes | None = None
) -> bytes:
    """The payload, if the signature over it holds.

    Args:
        signed: payload, key and signature, from anywhere.
        domain: what the signature must be about.
        network: where it must count.
        signer: the public key that must have signed; None lets the caller judge `signed.public_key`.

    Raises:
        InvalidRecord: MALFORMED, WRONG_SIGNER or BAD_SIGNATURE.
    """
    if len(signed.public_key) != PUBLIC_KEY_BYTES or len(signed.signature) != SIGNATURE_BYTES:
        raise InvalidRecord(Reason.MALFORMED, f"{domain}: key or signature have an impossible length")
    if signer is not None and signed.public_key != signer:
        raise InvalidRecord(Reason.WRONG_SIGNER, f"{domain}: signed by {signed.public_key.hex()}")
    digest = compute_digest(domain, network, signed.payload)
    if not is_signature(digest, signed.public_key, signed.signature):
        raise InvalidRecord(Reason.BAD_SIGNATURE, f"{domain}: the signature does not hold")
    return signed.payload


def is_signature(message: bytes, public_key: bytes, signature: bytes) -> bool:
    """True if `signature` (64 bytes) is that of `public_key` (32 bytes) over `message`: the one verifier."""
    try:
        bindings.crypto_sign_open(signature + message, public_key)
    except BadSignatureError:
        return False
    return True


def read_signed(
    signed: identity_pb2.Signed,
    domain: Domain,
    network: Network,
    kind: type[M],
    *,
    max_bytes: int,
    signer: bytes | None = None,
) -> M:
    """The payload of a signed record, decoded.

    Args:
        signed: from anywhere.
        domain: what the signature must be about.
        network: where it must count.
        kind: message that the payload must be.
        max_bytes: a longer payload is not looked at.
        signer: the public key that must have signed; None: any.

    Raises:
        InvalidRecord: TOO_LARGE, MALFORMED, WRONG_SIGNER or BAD_SIGNATURE.
    """
    if len(signed.payload) > max_bytes:
        raise InvalidRecord(Reason.TOO_LARGE, f"{domain}: {len(signed.payload)} bytes")
    payload = verify_signed(signed, domain, network, signer=signer)
    try:
        return kind.FromString(payload)
    except DecodeError as error:
        raise InvalidRecord(Reason.MALFORMED, f"{domain}: the payload cannot be decoded") from error
