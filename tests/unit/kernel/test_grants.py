from collections.abc import Callable
from typing import Any

import pytest

from kernel.domains import NETWORKS, Domain, Network
from kernel.errors import InvalidRecord, Reason
from kernel.grants import MAX_GRANTS, is_granted, is_newer, sign_grant_list, verify_grant_list
from kernel.keys import OwnerKeys
from kernel.signing import SigningKey
from lucid.v1.identity_pb2 import (
    ROLE_READ,
    ROLE_RECORD,
    ROLE_UNSPECIFIED,
    ROLE_WORK,
    Grant,
    GrantList,
    Signed,
)

DEV = NETWORKS["dev"]
OWNER = SigningKey.from_seed(bytes(range(32)))
STRANGER = SigningKey.from_seed(bytes(32))
DEVICE, OTHER_DEVICE = bytes([1]) * 32, bytes([2]) * 32
SEAL_KEY = bytes([9]) * 32


def make(*grants: Grant, sequence: int = 1, seal_key: bytes = SEAL_KEY) -> Signed:
    return sign_grant_list(OWNER, DEV, sequence, grants, 0, seal_key)


def grant(device: bytes = DEVICE, until_s: int = 0) -> Grant:
    return Grant(device=device, roles=[ROLE_RECORD, ROLE_READ], until_s=until_s)


def sign_raw(grant_list: GrantList, key: SigningKey = OWNER) -> Signed:
    """What a liar with a good key would send: no rule is checked."""
    return key.sign(Domain.GRANT_LIST, DEV, grant_list.SerializeToString())


def plain(**changes: Any) -> GrantList:
    fields: dict[str, Any] = {"owner": OWNER.public_key, "sequence": 1, "grants": [grant()]}
    return GrantList(**({"seal_public_key": SEAL_KEY} | fields | changes))


def refuse(signed: Signed, reason: Reason) -> None:
    with pytest.raises(InvalidRecord) as caught:
        verify_grant_list(signed, DEV, owner=OWNER.public_key)
    assert caught.value.reason is reason


def test_vector(load_vectors: Callable[[str], Any]) -> None:
    vectors = load_vectors("identity")
    vector = vectors["grant_list"]
    owner = OwnerKeys.from_root(bytes.fromhex(vectors["owner"]["root"]))
    grants = [
        Grant(device=bytes.fromhex(g["device"]), roles=g["roles"], until_s=g["until_s"])
        for g in vector["grants"]
    ]
    seal_public_key = bytes.fromhex(vector["seal_public_key"])
    signed = sign_grant_list(
        owner.identity, DEV, vector["sequence"], grants, vector["seal_index"], seal_public_key
    )
    assert signed.payload.hex() == vector["payload"]
    assert signed.SerializeToString(deterministic=True).hex() == vector["signed"]
    assert list(verify_grant_list(signed, DEV, owner=owner.identity.public_key).grants) == grants


def test_roles_of_a_device_at_a_time() -> None:
    grant_list = verify_grant_list(make(grant(until_s=1000), grant(OTHER_DEVICE)), DEV)
    assert is_granted(grant_list, DEVICE, ROLE_RECORD, 999)
    assert not is_granted(grant_list, DEVICE, ROLE_RECORD, 1000)
    assert not is_granted(grant_list, DEVICE, ROLE_WORK, 999)
    assert is_granted(grant_list, OTHER_DEVICE, ROLE_READ, 1 << 60)
    assert not is_granted(grant_list, bytes(32), ROLE_RECORD, 0)
    assert not is_granted(grant_list, b"", ROLE_RECORD, 0)


def test_the_highest_sequence_wins_and_of_equals_the_known_one() -> None:
    def decode(sequence: int) -> GrantList:
        return verify_grant_list(make(grant(), sequence=sequence), DEV)

    assert is_newer(decode(8), decode(7))
    assert not is_newer(decode(7), decode(7))
    assert not is_newer(decode(6), decode(7))
    stranger = verify_grant_list(sign_raw(plain(owner=STRANGER.public_key, sequence=9), STRANGER), DEV)
    assert not is_newer(stranger, decode(7))


def test_no_device_at_all_is_a_list_too() -> None:
    assert not verify_grant_list(make(), DEV).grants


def test_only_the_owner_signs() -> None:
    refuse(sign_raw(plain(), STRANGER), Reason.WRONG_SIGNER)
    refuse(sign_raw(plain(owner=STRANGER.public_key)), Reason.WRONG_SIGNER)
    forged = sign_raw(plain(), STRANGER)
    forged.public_key = OWNER.public_key
    refuse(forged, Reason.BAD_SIGNATURE)


def test_a_list_of_another_network_is_refused() -> None:
    elsewhere = sign_grant_list(OWNER, Network("other", bytes(32)), 1, [grant()], 0, SEAL_KEY)
    refuse(elsewhere, Reason.BAD_SIGNATURE)


@pytest.mark.parametrize(
    "changes",
    [
        {"sequence": 0},
        {"seal_public_key": b""},
        {"seal_public_key": bytes(31)},
        {"grants": [grant(), grant()]},
        {"grants": [grant(device=bytes(31))]},
        {"grants": [Grant(device=DEVICE)]},
        {"grants": [Grant(device=DEVICE, roles=[ROLE_UNSPECIFIED])]},
        {"grants": [Grant(device=DEVICE, roles=[ROLE_READ] * 17)]},
    ],
)
def test_lists_that_break_the_rules_are_refused_though_well_signed(changes: dict[str, Any]) -> None:
    refuse(sign_raw(plain(**changes)), Reason.MALFORMED)


def test_a_payload_that_is_no_list_is_malformed() -> None:
    refuse(OWNER.sign(Domain.GRANT_LIST, DEV, b"\xff\xff\xff"), Reason.MALFORMED)


def test_too_many_devices_are_refused() -> None:
    many = [grant(device=number.to_bytes(32, "big")) for number in range(MAX_GRANTS + 1)]
    assert len(verify_grant_list(make(*many[:-1]), DEV).grants) == MAX_GRANTS
    refuse(sign_raw(plain(grants=many)), Reason.TOO_LARGE)
    with pytest.raises(InvalidRecord):
        make(*many)


def test_a_huge_payload_is_refused_before_anything_is_computed() -> None:
    refuse(Signed(payload=bytes(1 << 20), public_key=OWNER.public_key, signature=bytes(64)), Reason.TOO_LARGE)


def test_a_role_of_a_later_version_does_no_harm() -> None:
    roles: Any = [ROLE_READ, 77]
    grant_list = verify_grant_list(sign_raw(plain(grants=[Grant(device=DEVICE, roles=roles)])), DEV)
    assert is_granted(grant_list, DEVICE, ROLE_READ, 0)
    assert not is_granted(grant_list, DEVICE, ROLE_WORK, 0)
