"""Sealing: a session secret that one reader alone can open.

    shared     = X25519(ephemeral private, reader public)          low-order points refused
    key        = derive(shared, SEALING, ephemeral public ‖ reader public ‖ session ID)
    ciphertext = XChaCha20-Poly1305(key, nonce, secret, version as 1 byte ‖ session ID ‖ reader public)

The ephemeral key is used for one message and forgotten: what a recorder sealed, it cannot open later. All
randomness comes from the caller (PyNaCl's SealedBox draws its own, which no simulation can replay). The
version leaves room for hybrid post-quantum sealing.
"""

from nacl import bindings
from nacl.exceptions import RuntimeError as SodiumError

from kernel import aead
from kernel.domains import Label
from kernel.errors import InvalidRecord, Reason
from kernel.kdf import derive
from lucid.v1 import session_pb2

VERSION = 1
SECRET_BYTES = 32
X25519_BYTES = 32
SESSION_ID_BYTES = 16


def compute_x25519_public(private: bytes) -> bytes:
    """The X25519 public key of a 32-byte private one (clamped as in RFC 7748).

    Raises:
        ValueError: the private key has another length.
    """
    if len(private) != X25519_BYTES:
        raise ValueError(f"an X25519 key has {X25519_BYTES} bytes, not {len(private)}")
    return bindings.crypto_scalarmult_base(private)


def seal(
    secret: bytes, reader_public: bytes, session_id: bytes, ephemeral_private: bytes, nonce: bytes
) -> session_pb2.SealedSecret:
    """Encrypts a session secret to a reader.

    Args:
        secret: 32 bytes.
        reader_public: X25519 key of the reader.
        session_id: 16 bytes.
        ephemeral_private: 32 fresh random bytes, used for this call alone.
        nonce: 24 fresh random bytes.

    Raises:
        InvalidRecord: `reader_public` is no usable key.
        ValueError: another argument has a wrong length.
    """
    if len(secret) != SECRET_BYTES or len(session_id) != SESSION_ID_BYTES:
        raise ValueError(f"a secret has {SECRET_BYTES} bytes, a session ID {SESSION_ID_BYTES}")
    ephemeral = compute_x25519_public(ephemeral_private)
    key = _derive_key(ephemeral_private, reader_public, ephemeral, reader_public, session_id)
    ciphertext = aead.encrypt(key, nonce, secret, _associated(session_id, reader_public))
    return session_pb2.SealedSecret(
        version=VERSION, reader=reader_public, ephemeral=ephemeral, nonce=nonce, ciphertext=ciphertext
    )


def unseal(sealed: session_pb2.SealedSecret, reader_private: bytes, session_id: bytes) -> bytes:
    """The session secret.

    Raises:
        InvalidRecord: sealed for another reader or session, or changed since (NOT_DECRYPTABLE); of an unknown
            version (WRONG_VERSION); impossible lengths or points (MALFORMED).
        ValueError: `reader_private` or `session_id` have a wrong length.
    """
    if len(session_id) != SESSION_ID_BYTES:
        raise ValueError(f"a session ID has {SESSION_ID_BYTES} bytes")
    if sealed.version != VERSION:
        message = f"sealed secret of version {sealed.version}, known is {VERSION}"
        raise InvalidRecord(Reason.WRONG_VERSION, message, hint="Use a newer version of the software.")
    reader = compute_x25519_public(reader_private)
    if sealed.reader != reader:
        raise InvalidRecord(Reason.NOT_DECRYPTABLE, "the secret is sealed for another reader")
    if len(sealed.ciphertext) != SECRET_BYTES + aead.TAG_BYTES:
        raise InvalidRecord(Reason.MALFORMED, "the sealed secret has an impossible length")
    key = _derive_key(reader_private, sealed.ephemeral, sealed.ephemeral, reader, session_id)
    return aead.decrypt(key, sealed.nonce, sealed.ciphertext, _associated(session_id, reader))


def _derive_key(private: bytes, public: bytes, ephemeral: bytes, reader: bytes, session_id: bytes) -> bytes:
    if len(public) != X25519_BYTES:
        raise InvalidRecord(Reason.MALFORMED, f"an X25519 key has {X25519_BYTES} bytes, not {len(public)}")
    try:
        shared = bindings.crypto_scalarmult(private, public)
    except SodiumError as error:  # the result would be zero: a point of low order
        raise InvalidRecord(Reason.MALFORMED, "the X25519 key is a point of low order") from error
    return derive(shared, Label.SEALING, ephemeral, reader, session_id)


def _associated(session_id: bytes, reader: bytes) -> bytes:
    return bytes((VERSION,)) + session_id + reader
