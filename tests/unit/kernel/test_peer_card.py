from collections.abc import Callable
from typing import Any

import pytest

from kernel.domains import NETWORKS, Domain, Network
from kernel.errors import InvalidRecord, Reason
from kernel.grants import sign_grant_list
from kernel.keys import OwnerKeys
from kernel.peer_card import MAX_CARD_BYTES, MAX_LIFETIME_S, MAX_SOFTWARE, sign_peer_card, verify_peer_card
from kernel.sealing import compute_x25519_public
from kernel.signing import SigningKey
from lucid.v1.identity_pb2 import ROLE_READ, ROLE_RECORD, ROLE_WORK, Grant, Role, Signed
from lucid.v1.node_pb2 import PeerCard

DEV = NETWORKS["dev"]
OTHER = Network("other", bytes(32))
OWNER = OwnerKeys.from_root(bytes(32))
DEVICE, STRANGER = SigningKey.from_seed(b"d" * 32), SigningKey.from_seed(b"s" * 32)
NOW_S = 1_790_000_000


def grant(
    *roles: "Role.ValueType", device: bytes = DEVICE.public_key, until_s: int = 0, network: Network = DEV
) -> Signed:
    grants = [Grant(device=device, roles=roles or (ROLE_WORK,), until_s=until_s)]
    return sign_grant_list(OWNER.identity, network, 1, grants, 0, compute_x25519_public(OWNER.seal(0)))


def make_card(**changes: Any) -> PeerCard:
    fields: dict[str, Any] = {
        "device": DEVICE.public_key,
        "sequence": 7,
        "expires_s": NOW_S + 3600,
        "versions": [1],
        "box": b"b" * 32,
        "grants": grant(),
        "software": "lucid-node 1",
    }
    return PeerCard(**(fields | changes))


def sign(card: PeerCard, key: SigningKey = DEVICE) -> Signed:
    """What a liar with a good key would send."""
    return key.sign(Domain.PEER_CARD, DEV, card.SerializeToString())


def test_a_card_tells_who_the_node_is() -> None:
    signed = sign_peer_card(
        DEVICE,
        DEV,
        sequence=7,
        expires_s=NOW_S + 60,
        versions=(1, 2),
        box=b"b" * 32,
        grants=grant(ROLE_RECORD),
        software="lucid-node 1",
    )
    verified = verify_peer_card(signed, DEV, now_s=NOW_S)
    assert (verified.card.device, verified.card.sequence) == (DEVICE.public_key, 7)
    assert verified.grant_list.owner == OWNER.identity.public_key


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"device": STRANGER.public_key}, Reason.WRONG_SIGNER),
        ({"sequence": 0}, Reason.MALFORMED),
        ({"expires_s": NOW_S}, Reason.EXPIRED),
        ({"expires_s": 0}, Reason.EXPIRED),
        ({"expires_s": NOW_S + MAX_LIFETIME_S + 1}, Reason.EXPIRED),
        ({"versions": []}, Reason.MALFORMED),
        ({"versions": [0]}, Reason.MALFORMED),
        ({"versions": [1 << 16]}, Reason.MALFORMED),
        ({"versions": list(range(1, 18))}, Reason.MALFORMED),
        ({"box": b"b" * 31}, Reason.MALFORMED),
        ({"box": b""}, Reason.MALFORMED),
        ({"software": "x" * (MAX_SOFTWARE + 1)}, Reason.MALFORMED),
        ({"software": "\x1b[2J"}, Reason.MALFORMED),
        ({"software": "lücid"}, Reason.MALFORMED),
        ({"grants": Signed()}, Reason.MALFORMED),
        ({"grants": grant(network=OTHER)}, Reason.BAD_SIGNATURE),
        ({"grants": grant(ROLE_READ)}, Reason.NOT_GRANTED),
        ({"grants": grant(device=STRANGER.public_key)}, Reason.NOT_GRANTED),
        ({"grants": grant(until_s=NOW_S)}, Reason.NOT_GRANTED),
    ],
)
def test_a_card_that_breaks_a_rule_is_refused(changes: dict[str, Any], reason: Reason) -> None:
    verify_peer_card(sign(make_card()), DEV, now_s=NOW_S)
    with pytest.raises(InvalidRecord) as caught:
        verify_peer_card(sign(make_card(**changes)), DEV, now_s=NOW_S)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: sign(make_card(), STRANGER), Reason.WRONG_SIGNER),
        (lambda: DEVICE.sign(Domain.PEER_CARD, DEV, b"\xff\xff"), Reason.MALFORMED),
        (lambda: DEVICE.sign(Domain.PEER_CARD, DEV, bytes(MAX_CARD_BYTES + 1)), Reason.TOO_LARGE),
        (lambda: DEVICE.sign(Domain.HANDSHAKE, DEV, make_card().SerializeToString()), Reason.BAD_SIGNATURE),
        (lambda: DEVICE.sign(Domain.PEER_CARD, OTHER, make_card().SerializeToString()), Reason.BAD_SIGNATURE),
        (Signed, Reason.MALFORMED),
    ],
)
def test_a_card_that_is_not_the_nodes_own_is_refused(make: Callable[[], Signed], reason: Reason) -> None:
    with pytest.raises(InvalidRecord) as caught:
        verify_peer_card(make(), DEV, now_s=NOW_S)
    assert caught.value.reason == reason
