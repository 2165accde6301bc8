"""Authenticated encryption: XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03), the tag behind the ciphertext.

A nonce has 24 bytes and is drawn at random, so none is ever counted or stored to avoid its reuse.
"""

from nacl import bindings
from nacl.exceptions import CryptoError

from kernel.errors import InvalidRecord, Reason

KEY_BYTES = 32
NONCE_BYTES = 24
TAG_BYTES = 16


def encrypt(key: bytes, nonce: bytes, plaintext: bytes, associated: bytes) -> bytes:
    """Ciphertext ‖ tag; `associated` is authenticated, not included. `nonce`: fresh for every call."""
    return bindings.crypto_aead_xchacha20poly1305_ietf_encrypt(plaintext, associated, nonce, key)


def decrypt(key: bytes, nonce: bytes, ciphertext: bytes, associated: bytes) -> bytes:
    """The plaintext of `ciphertext` ‖ tag.

    Raises:
        InvalidRecord: nonce or ciphertext have an impossible length (MALFORMED), or key, nonce, ciphertext
            and associated data do not belong together (NOT_DECRYPTABLE).
    """
    if len(nonce) != NONCE_BYTES:
        raise InvalidRecord(Reason.MALFORMED, f"a nonce has {NONCE_BYTES} bytes, not {len(nonce)}")
    if len(ciphertext) < TAG_BYTES:
        raise InvalidRecord(Reason.MALFORMED, "the ciphertext is shorter than its tag")
    try:
        return bindings.crypto_aead_xchacha20poly1305_ietf_decrypt(ciphertext, associated, nonce, key)
    except CryptoError as error:
        message = "the bytes were changed, or encrypted under another key"
        raise InvalidRecord(Reason.NOT_DECRYPTABLE, message) from error
