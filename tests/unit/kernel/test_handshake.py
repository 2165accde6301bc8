from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.domains import NETWORKS, Domain, Network
from kernel.errors import Conflict, InvalidRecord, Reason
from kernel.handshake import (
    MAX_PROOF_BYTES,
    Handshake,
    check_nonce,
    check_proof,
    choose_version,
    open_proof,
    sign_proof,
)
from kernel.signing import SigningKey
from lucid.v1.identity_pb2 import Signed
from lucid.v1.node_pb2 import (
    HANDSHAKE_ROLE_CLIENT,
    HANDSHAKE_ROLE_SERVER,
    HANDSHAKE_ROLE_UNSPECIFIED,
    HandshakeProof,
    HandshakeRole,
)

DEV = NETWORKS["dev"]
CLIENT, SERVER, MALLORY = (SigningKey.from_seed(bytes([number]) * 32) for number in (1, 2, 3))
HERE, ELSEWHERE = "/ip4/127.0.0.1/tcp/4001", "/ip4/127.0.0.1/tcp/4002"
SHAKE = Handshake(CLIENT.public_key, SERVER.public_key, b"c" * 32, b"s" * 32, 1)
KEYS = {HANDSHAKE_ROLE_CLIENT: CLIENT, HANDSHAKE_ROLE_SERVER: SERVER}


def check(
    signed: Signed, role: "HandshakeRole.ValueType", handshake: Handshake = SHAKE, address: str = HERE
) -> None:
    check_proof(open_proof(signed, DEV), handshake, role, (address,))


@pytest.mark.parametrize("role", [HANDSHAKE_ROLE_CLIENT, HANDSHAKE_ROLE_SERVER])
def test_each_side_proves_itself(role: "HandshakeRole.ValueType") -> None:
    check(sign_proof(KEYS[role], DEV, SHAKE, role, HERE), role)


def test_a_forwarded_proof_names_another_address() -> None:
    proof = sign_proof(CLIENT, DEV, SHAKE, HANDSHAKE_ROLE_CLIENT, ELSEWHERE)
    with pytest.raises(InvalidRecord, match="forwarded") as caught:
        check(proof, HANDSHAKE_ROLE_CLIENT)
    assert caught.value.reason == Reason.WRONG_ADDRESS


def test_an_address_of_a_liar_shows_no_control_characters() -> None:
    proof = sign_proof(CLIENT, DEV, SHAKE, HANDSHAKE_ROLE_CLIENT, "\x1b[2J")
    with pytest.raises(InvalidRecord) as caught:
        check(proof, HANDSHAKE_ROLE_CLIENT)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "changes",
    [
        {"client": MALLORY.public_key},
        {"client_nonce": b"x" * 32},
        {"server_nonce": b"x" * 32},
        {"version": 2},
        {"server": MALLORY.public_key},
    ],
)
def test_a_proof_of_another_handshake_is_refused(changes: dict[str, Any]) -> None:
    other = replace(SHAKE, **changes)
    signer = MALLORY if other.client == MALLORY.public_key else CLIENT
    with pytest.raises(InvalidRecord) as caught:
        check(sign_proof(signer, DEV, other, HANDSHAKE_ROLE_CLIENT, HERE), HANDSHAKE_ROLE_CLIENT)
    assert caught.value.reason == Reason.WRONG_HANDSHAKE


def test_a_proof_of_the_other_side_is_refused() -> None:
    """What a client signs cannot be sent back to it."""
    proof = sign_proof(CLIENT, DEV, SHAKE, HANDSHAKE_ROLE_CLIENT, HERE)
    with pytest.raises(InvalidRecord) as caught:
        check(proof, HANDSHAKE_ROLE_SERVER)
    assert caught.value.reason == Reason.WRONG_HANDSHAKE


def make_raw(**changes: Any) -> Signed:
    fields: dict[str, Any] = {
        "role": HANDSHAKE_ROLE_CLIENT,
        "client": CLIENT.public_key,
        "server": SERVER.public_key,
        "client_nonce": b"c" * 32,
        "server_nonce": b"s" * 32,
        "dialled": HERE,
        "version": 1,
    }
    return CLIENT.sign(Domain.HANDSHAKE, DEV, HandshakeProof(**(fields | changes)).SerializeToString())


@pytest.mark.parametrize(
    ("signed", "reason"),
    [
        (make_raw(role=HANDSHAKE_ROLE_SERVER), Reason.WRONG_SIGNER),
        (make_raw(role=HANDSHAKE_ROLE_UNSPECIFIED), Reason.WRONG_SIGNER),
        (make_raw(role=7), Reason.WRONG_SIGNER),
        (make_raw(client=MALLORY.public_key), Reason.WRONG_SIGNER),
        (make_raw(client=b"short"), Reason.MALFORMED),
        (make_raw(server=b""), Reason.MALFORMED),
        (make_raw(client_nonce=b"c" * 31), Reason.MALFORMED),
        (make_raw(server_nonce=b"s" * 33), Reason.MALFORMED),
        (make_raw(dialled="x" * 161), Reason.TOO_LARGE),
        (make_raw(dialled="x" * MAX_PROOF_BYTES), Reason.TOO_LARGE),
        (CLIENT.sign(Domain.HANDSHAKE, DEV, b"\xff"), Reason.MALFORMED),
        (CLIENT.sign(Domain.PEER_CARD, DEV, make_raw().payload), Reason.BAD_SIGNATURE),
        (CLIENT.sign(Domain.HANDSHAKE, Network("o", bytes(32)), make_raw().payload), Reason.BAD_SIGNATURE),
        (Signed(), Reason.MALFORMED),
    ],
)
def test_a_proof_that_breaks_a_rule_is_refused(signed: Signed, reason: Reason) -> None:
    open_proof(make_raw(), DEV)
    with pytest.raises(InvalidRecord) as caught:
        open_proof(signed, DEV)
    assert caught.value.reason == reason


@given(st.binary(max_size=200))
def test_any_signed_payload_is_a_proof_or_refused(payload: bytes) -> None:
    with pytest.raises(InvalidRecord):
        check(CLIENT.sign(Domain.HANDSHAKE, DEV, payload), HANDSHAKE_ROLE_CLIENT)


def test_the_highest_common_version_is_used() -> None:
    assert choose_version([1, 2, 3], [4, 2, 1]) == 2
    with pytest.raises(Conflict, match=r"speaks 1, 2, the other 3") as caught:
        choose_version([2, 1], [3])
    assert "Update" in caught.value.hint


def test_a_nonce_has_32_bytes() -> None:
    check_nonce(bytes(32))
    with pytest.raises(InvalidRecord):
        check_nonce(bytes(31))
