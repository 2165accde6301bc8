"""Whose recording it is, and whether one of the owner's devices made it.

A node knows its own devices. Of a session that another owner shared, the adoption holds what shows it: the
owner's grant list names the recording device; or it names the node that shared it, and one head locator
granted both (the recording device was lost, and its owner restored the session elsewhere).
"""

from kernel.domains import Network
from kernel.errors import InvalidRecord, Reason
from kernel.grants import verify_grant_list
from kernel.head_grants import verify_head_grant
from lucid.v1 import identity_pb2, session_pb2
from session.access import RecorderKeys

MAX_HEAD_GRANTS = 2


def get_owner(keys: RecorderKeys, row: session_pb2.SessionRow) -> bytes:
    """Ed25519 key of the owner of a session."""
    return row.adopted.owner or keys.owner


def check_recorder(keys: RecorderKeys, row: session_pb2.SessionRow) -> None:
    """Checks that the device that recorded a session is its owner's.

    Raises:
        InvalidRecord: it is a stranger's.
    """
    device = row.opened.policy.public_key
    if row.adopted.owner:
        check_origin(keys.network, row.adopted, device)
    else:
        keys.check_recorder(device)


def check_origin(network: Network, adopted: session_pb2.Adopted, device: bytes) -> None:
    """Checks that `device` belongs to the owner of a session that was shared.

    Raises:
        InvalidRecord: the grants do not hold, or do not show it.
    """
    granted = [
        grant.device
        for grant in verify_grant_list(adopted.grants, network, owner=adopted.owner).grants
        if identity_pb2.ROLE_RECORD in grant.roles
    ]
    if device in granted:
        return
    if len(adopted.head_grants) == MAX_HEAD_GRANTS and adopted.sharer in granted:
        own, other = adopted.head_grants
        locator = verify_head_grant(own, network, device=adopted.sharer).locator
        verify_head_grant(other, network, locator=locator, device=device)
        return
    raise InvalidRecord(Reason.WRONG_SIGNER, "the recording is not signed by a device of its owner")
