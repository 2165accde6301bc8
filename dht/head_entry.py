"""Heads: where an owner's sessions are to be found. Format: docs/spec/12-head.md.

A head stands under the owner's locator, one per device; the locator granted the device, the device signs the
head. Its content is encrypted under a fresh key, and that is sealed to the owner's seal key with the first 16
bytes of the locator in the session ID's place, so whoever has the 24 words opens it, and nobody else.
"""

from collections.abc import Mapping

from blake3 import blake3
from google.protobuf.message import DecodeError

from kernel import aead
from kernel.domains import Domain, Network
from kernel.errors import InvalidRecord, Reason
from kernel.head_grants import verify_head_grant
from kernel.ports import Entropy
from kernel.sealing import SECRET_BYTES, SESSION_ID_BYTES, seal, unseal
from kernel.signing import SigningKey, verify_signed
from lucid.v1 import chunk_pb2, head_pb2, identity_pb2

MAX_HEAD_BYTES = 8 << 10
MAX_RECEIPT_BYTES = 64
HEAD_TTL_S = 365 * 86_400
_PADDING_BYTES = 256
_LENGTH_BYTES = 4


def seal_content(
    content: chunk_pb2.HeadContent, head: chunk_pb2.Head, reader: bytes, entropy: Entropy
) -> bytes:
    """What stands in `sealed` of a head.

    Args:
        content: for the owner's readers.
        head: with its locator, device and sequence.
        reader: X25519 seal key of the owner.
        entropy: for keys and nonces.
    """
    key, nonce = entropy.draw(SECRET_BYTES), entropy.draw(aead.NONCE_BYTES)
    name = head.locator[:SESSION_ID_BYTES]
    sealed_key = seal(key, reader, name, entropy.draw(32), entropy.draw(aead.NONCE_BYTES))
    encoded = content.SerializeToString()
    padded = len(encoded).to_bytes(_LENGTH_BYTES, "big") + encoded
    padded += bytes(-len(padded) % _PADDING_BYTES)
    encrypted = nonce + aead.encrypt(key, nonce, padded, _associated(head))
    return head_pb2.SealedContent(key=sealed_key, encrypted=encrypted).SerializeToString()


def open_content(head: chunk_pb2.Head, reading: Mapping[bytes, bytes]) -> chunk_pb2.HeadContent:
    """The content of a verified head.

    Args:
        head: whose.
        reading: X25519 private keys by public key.

    Raises:
        InvalidRecord: no key opens it, or what is inside is no content.
    """
    try:
        sealed = head_pb2.SealedContent.FromString(head.sealed)
        private = reading.get(sealed.key.reader)
        if private is None:
            raise InvalidRecord(Reason.NOT_DECRYPTABLE, "the head is sealed for another reader")
        key = unseal(sealed.key, private, head.locator[:SESSION_ID_BYTES])
        nonce, ciphertext = sealed.encrypted[: aead.NONCE_BYTES], sealed.encrypted[aead.NONCE_BYTES :]
        padded = aead.decrypt(key, nonce, ciphertext, _associated(head))
        end = _LENGTH_BYTES + int.from_bytes(padded[:_LENGTH_BYTES], "big")
        if end > len(padded):
            raise InvalidRecord(Reason.MALFORMED, "the length of a head's content is wrong")
        return chunk_pb2.HeadContent.FromString(padded[_LENGTH_BYTES:end])
    except DecodeError as error:
        raise InvalidRecord(Reason.MALFORMED, "the content of a head cannot be decoded") from error


def sign_head(device: SigningKey, network: Network, head: chunk_pb2.Head) -> identity_pb2.Signed:
    """A head, signed by its device.

    Raises:
        InvalidRecord: it is too long.
    """
    payload = head.SerializeToString(deterministic=True)
    if len(payload) > MAX_HEAD_BYTES:
        raise InvalidRecord(Reason.TOO_LARGE, f"a head of {len(payload)} bytes")
    return device.sign(Domain.HEAD, network, payload)


def verify_entry(
    entry: chunk_pb2.HeadEntry, network: Network, *, locator: bytes, now_s: int
) -> chunk_pb2.Head:
    """The head in `entry`, if a device signed it that this locator granted, and it has not expired.

    Raises:
        InvalidRecord: it does not hold.
    """
    if len(entry.head.payload) > MAX_HEAD_BYTES:
        raise InvalidRecord(Reason.TOO_LARGE, f"a head of {len(entry.head.payload)} bytes")
    grant = verify_head_grant(entry.grant, network, locator=locator)
    payload = verify_signed(entry.head, Domain.HEAD, network, signer=grant.device)
    try:
        head = chunk_pb2.Head.FromString(payload)
    except DecodeError as error:
        raise InvalidRecord(Reason.MALFORMED, "a head cannot be decoded") from error
    if (head.locator, head.device) != (locator, grant.device):
        raise InvalidRecord(Reason.WRONG_SIGNER, "a head names another locator or device than its grant")
    if not head.sequence or head.expires_s <= now_s:
        raise InvalidRecord(Reason.MALFORMED, "a head has no sequence number, or has expired")
    return head


def compute_head_hash(head: identity_pb2.Signed) -> bytes:
    """What a receipt names a head by."""
    return blake3(head.payload).digest()


def verify_head_receipt(
    receipt: identity_pb2.Signed, network: Network, head: identity_pb2.Signed, keeper: bytes
) -> None:
    """Checks that `keeper` promised to keep `head`.

    Raises:
        InvalidRecord: it did not.
    """
    if len(receipt.payload) > MAX_RECEIPT_BYTES:
        raise InvalidRecord(Reason.TOO_LARGE, f"a head receipt of {len(receipt.payload)} bytes")
    payload = verify_signed(receipt, Domain.HEAD_RECEIPT, network, signer=keeper)
    try:
        named = chunk_pb2.HeadReceipt.FromString(payload).head_hash
    except DecodeError as error:
        raise InvalidRecord(Reason.MALFORMED, "a head receipt cannot be decoded") from error
    if named != compute_head_hash(head):
        raise InvalidRecord(Reason.WRONG_HASH, "the receipt is for another head")


def _associated(head: chunk_pb2.Head) -> bytes:
    return head.locator + head.device + head.sequence.to_bytes(8, "big")
