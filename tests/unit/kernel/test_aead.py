from collections.abc import Callable
from typing import Any

import pytest

from kernel import aead
from kernel.errors import InvalidRecord, Reason

KEY, NONCE = bytes(range(32)), bytes(range(24))


def test_vectors(load_vectors: Callable[[str], Any]) -> None:
    for case in load_vectors("aead")["cases"]:
        names = ("key", "nonce", "plaintext", "ciphertext", "associated")
        key, nonce, plaintext, ciphertext, associated = (bytes.fromhex(case[name]) for name in names)
        assert aead.encrypt(key, nonce, plaintext, associated) == ciphertext
        assert aead.decrypt(key, nonce, ciphertext, associated) == plaintext


def test_any_flipped_bit_is_refused() -> None:
    ciphertext = aead.encrypt(KEY, NONCE, b"secret", b"header")
    parts = [KEY, NONCE, ciphertext, b"header"]
    for which, part in enumerate(parts):
        for bit in range(8 * len(part)):
            flipped = bytearray(part)
            flipped[bit // 8] ^= 1 << bit % 8
            key, nonce, text, header = (bytes(flipped) if n == which else p for n, p in enumerate(parts))
            with pytest.raises(InvalidRecord) as caught:
                aead.decrypt(key, nonce, text, header)
            assert caught.value.reason is Reason.NOT_DECRYPTABLE


@pytest.mark.parametrize("size", range(aead.TAG_BYTES))
def test_a_ciphertext_shorter_than_its_tag_is_malformed(size: int) -> None:
    with pytest.raises(InvalidRecord) as caught:
        aead.decrypt(KEY, NONCE, bytes(size), b"")
    assert caught.value.reason is Reason.MALFORMED


@pytest.mark.parametrize("size", [0, 12, 23, 25])
def test_a_nonce_of_another_length_is_malformed(size: int) -> None:
    with pytest.raises(InvalidRecord) as caught:
        aead.decrypt(KEY, bytes(size), bytes(40), b"")
    assert caught.value.reason is Reason.MALFORMED


def test_truncation_is_refused() -> None:
    ciphertext = aead.encrypt(KEY, NONCE, bytes(100), b"")
    for size in range(aead.TAG_BYTES, len(ciphertext)):
        with pytest.raises(InvalidRecord):
            aead.decrypt(KEY, NONCE, ciphertext[:size], b"")
