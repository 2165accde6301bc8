from collections.abc import Callable
from typing import Any

import pytest

from kernel.errors import InvalidRecord, Reason
from kernel.sealing import compute_x25519_public, seal, unseal
from lucid.v1 import session_pb2

SECRET, SESSION_ID = bytes(range(32)), bytes(range(16))
READER, OTHER_READER = bytes(range(1, 33)), bytes(range(2, 34))
EPHEMERAL, NONCE = bytes(range(3, 35)), bytes(24)
PUBLIC = compute_x25519_public(READER)


def make() -> session_pb2.SealedSecret:
    return seal(SECRET, PUBLIC, SESSION_ID, EPHEMERAL, NONCE)


def refuse(
    sealed: session_pb2.SealedSecret, reason: Reason, reader: bytes = READER, session_id: bytes = SESSION_ID
) -> None:
    with pytest.raises(InvalidRecord) as caught:
        unseal(sealed, reader, session_id)
    assert caught.value.reason is reason


def test_vectors(load_vectors: Callable[[str], Any]) -> None:
    for case in load_vectors("sealing")["valid"]:
        value = {name: bytes.fromhex(text) for name, text in case.items()}
        assert compute_x25519_public(value["reader_private"]) == value["reader_public"]
        sealed = seal(
            value["secret"],
            value["reader_public"],
            value["session_id"],
            value["ephemeral_private"],
            value["nonce"],
        )
        assert sealed.ephemeral == value["ephemeral_public"]
        assert sealed.ciphertext == value["ciphertext"]
        assert session_pb2.SealedSecret.FromString(value["sealed"]) == sealed
        assert unseal(sealed, value["reader_private"], value["session_id"]) == value["secret"]


def test_only_the_reader_and_the_session_it_was_sealed_for_open_it() -> None:
    assert unseal(make(), READER, SESSION_ID) == SECRET
    refuse(make(), Reason.NOT_DECRYPTABLE, reader=OTHER_READER)
    refuse(make(), Reason.NOT_DECRYPTABLE, session_id=bytes(16))
    disguised = make()
    disguised.reader = compute_x25519_public(OTHER_READER)
    refuse(disguised, Reason.NOT_DECRYPTABLE, reader=OTHER_READER)


@pytest.mark.parametrize("field", ["reader", "ephemeral", "nonce", "ciphertext"])
def test_any_flipped_bit_is_refused(field: str) -> None:
    for bit in range(8 * len(getattr(make(), field))):
        bad = make()
        flipped = bytearray(getattr(bad, field))
        flipped[bit // 8] ^= 1 << bit % 8
        setattr(bad, field, bytes(flipped))
        refuse(bad, Reason.NOT_DECRYPTABLE)


@pytest.mark.parametrize("field", ["ephemeral", "nonce", "ciphertext"])
@pytest.mark.parametrize("change", [-1, 1])
def test_impossible_lengths_are_malformed(field: str, change: int) -> None:
    for size in (0, len(getattr(make(), field)) + change):
        bad = make()
        setattr(bad, field, bytes(size))
        refuse(bad, Reason.MALFORMED)


@pytest.mark.parametrize("version", [0, 2, 4294967295])
def test_unknown_versions_are_named(version: int) -> None:
    bad = make()
    bad.version = version
    refuse(bad, Reason.WRONG_VERSION)


def test_points_of_low_order_are_refused_both_ways(load_vectors: Callable[[str], Any]) -> None:
    for text in load_vectors("sealing")["low_order_points"]:
        point = bytes.fromhex(text)
        with pytest.raises(InvalidRecord) as caught:
            seal(SECRET, point, SESSION_ID, EPHEMERAL, NONCE)
        assert caught.value.reason is Reason.MALFORMED
        bad = make()
        bad.ephemeral = point
        refuse(bad, Reason.MALFORMED)


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_reader_key_of_another_length_is_refused(size: int) -> None:
    with pytest.raises(InvalidRecord) as caught:
        seal(SECRET, bytes(size), SESSION_ID, EPHEMERAL, NONCE)
    assert caught.value.reason is Reason.MALFORMED


def test_mistakes_of_the_caller_are_value_errors() -> None:
    with pytest.raises(ValueError, match="secret"):
        seal(bytes(31), PUBLIC, SESSION_ID, EPHEMERAL, NONCE)
    with pytest.raises(ValueError, match="session ID"):
        seal(SECRET, PUBLIC, bytes(15), EPHEMERAL, NONCE)
    with pytest.raises(ValueError, match="X25519"):
        seal(SECRET, PUBLIC, SESSION_ID, bytes(31), NONCE)
    with pytest.raises(ValueError, match="session ID"):
        unseal(make(), READER, bytes(17))
