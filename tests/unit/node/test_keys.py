"""Which keys a daemon records with, and when it may not record at all."""

import pytest

from kernel.domains import NETWORKS
from kernel.errors import Conflict
from kernel.grants import sign_grant_list
from kernel.keys import DeviceKeys, OwnerKeys
from kernel.sealing import compute_x25519_public
from lucid.v1.identity_pb2 import ROLE_READ, ROLE_RECORD, Grant, GrantList
from node.daemon import get_recorder_keys
from node.identity.keystore import Keystore, NodeIdentity

OWNER, DEVICE = OwnerKeys.from_root(b"o" * 32), DeviceKeys.from_root(b"d" * 32)
OTHER = DeviceKeys.from_root(b"e" * 32).identity.public_key
DEV = NETWORKS["dev"]


def make_keystore(*grants: Grant) -> Keystore:
    seal_public = compute_x25519_public(OWNER.seal(0))
    signed = sign_grant_list(OWNER.identity, DEV, 1, list(grants), 0, seal_public)
    grant_list = GrantList.FromString(signed.payload)
    identity = NodeIdentity(DEV, DEVICE.identity.public_key, OWNER.identity.public_key, signed, grant_list)
    return Keystore(identity, DEVICE, {0: OWNER.seal(0)})


def test_a_device_with_the_role_records_and_knows_the_others() -> None:
    keystore = make_keystore(
        Grant(device=DEVICE.identity.public_key, roles=[ROLE_RECORD, ROLE_READ]),
        Grant(device=OTHER, roles=[ROLE_RECORD]),
    )
    keys = get_recorder_keys(keystore, 0)
    keys.check_recorder(OTHER)
    assert list(keys.reading) == [keys.reader, compute_x25519_public(DEVICE.box)]


@pytest.mark.parametrize(
    "grant",
    [
        Grant(device=DEVICE.identity.public_key, roles=[ROLE_READ]),
        Grant(device=OTHER, roles=[ROLE_RECORD]),
        Grant(device=DEVICE.identity.public_key, roles=[ROLE_RECORD], until_s=100),
    ],
)
def test_a_device_without_the_role_does_not_record(grant: Grant) -> None:
    with pytest.raises(Conflict, match="does not let it record"):
        get_recorder_keys(make_keystore(grant), 100)
