import base64
import hashlib

import pytest
from nacl import bindings

from kernel.errors import InvalidRecord, Reason
from kernel.onion import OnionKey, decode_onion, encode_onion

SEED = bytes(range(32))
KNOWN = "duckduckgogg42xjoc72x3sjasowoarfbgcmvfimaftt6twagswzczad"
"""An address in public use, so that two halves of this module cannot agree on a mistake."""


def test_a_known_address_is_read_and_written_the_same() -> None:
    assert encode_onion(decode_onion(KNOWN)) == KNOWN


def test_the_expanded_key_is_that_of_the_address() -> None:
    key = OnionKey(SEED)
    scalar = key.expand()[:32]
    assert bindings.crypto_scalarmult_ed25519_base_noclamp(scalar) == decode_onion(key.host)
    assert key.expand()[32:] == hashlib.sha512(SEED).digest()[32:]


def test_the_text_form_holds_no_secret() -> None:
    key = OnionKey(SEED)
    assert key.host in repr(key)
    assert SEED.hex() not in repr(key)


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("", Reason.MALFORMED),
        ("a" * 55, Reason.MALFORMED),
        ("1" * 56, Reason.MALFORMED),
        ("ä" * 56, Reason.MALFORMED),
        (KNOWN[:-1] + "c", Reason.WRONG_VERSION),
        ("e" + KNOWN[1:], Reason.WRONG_HASH),
        ("expyuzz4wqqyqhjn", Reason.MALFORMED),
        (base64.b32encode(bytes(40)).decode(), Reason.MALFORMED),
    ],
)
def test_what_is_no_address_is_refused(host: str, reason: Reason) -> None:
    with pytest.raises(InvalidRecord) as caught:
        decode_onion(host)
    assert caught.value.reason is reason


def test_a_seed_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="seed"):
        OnionKey(bytes(31))
