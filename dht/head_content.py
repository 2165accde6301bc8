"""What a head holds for the owner's readers. Format: docs/spec/12-head.md.

It is encrypted under a fresh key, and that is sealed to the owner's seal key with the first 16 bytes of the
locator in the session ID's place: whoever has the 24 words opens it, and nobody else.
"""

from collections.abc import Mapping

from google.protobuf.message import DecodeError

from kernel import aead
from kernel.errors import InvalidRecord, Reason
from kernel.ports import Entropy
from kernel.sealing import SECRET_BYTES, SESSION_ID_BYTES, seal, unseal
from lucid.v1 import chunk_pb2, head_pb2

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


def _associated(head: chunk_pb2.Head) -> bytes:
    return head.locator + head.device + head.sequence.to_bytes(8, "big")
