"""Grant lists: which device may do what in the name of an owner. Rules: docs/spec/01-identity.md.

The owner signs one public list of all its devices; a change is a new list with a higher sequence, and whoever
knows several keeps the highest. A list is bounded, names each device once and gives it at least one role.
"""

from collections.abc import Sequence

from kernel.domains import Domain, Network
from kernel.errors import InvalidRecord, Reason
from kernel.signing import PUBLIC_KEY_BYTES, SigningKey, read_signed
from lucid.v1 import identity_pb2

MAX_GRANTS = 256
MAX_ROLES = 16
MAX_LIST_BYTES = 32 << 10
SEAL_KEY_BYTES = 32


def sign_grant_list(
    owner: SigningKey,
    network: Network,
    sequence: int,
    grants: Sequence[identity_pb2.Grant],
    seal_index: int,
    seal_public_key: bytes,
) -> identity_pb2.Signed:
    """A grant list, signed by the owner.

    Args:
        owner: the owner's identity key.
        network: where the list counts.
        sequence: from 1; higher than that of every list before.
        grants: one per device.
        seal_index: which seal/<n> key is current.
        seal_public_key: its X25519 public key.

    Raises:
        InvalidRecord: the list would break the rules.
    """
    grant_list = identity_pb2.GrantList(
        owner=owner.public_key,
        sequence=sequence,
        grants=grants,
        seal_index=seal_index,
        seal_public_key=seal_public_key,
    )
    payload = grant_list.SerializeToString(deterministic=True)
    _check_grant_list(grant_list, len(payload))
    return owner.sign(Domain.GRANT_LIST, network, payload)


def verify_grant_list(
    signed: identity_pb2.Signed, network: Network, *, owner: bytes | None = None
) -> identity_pb2.GrantList:
    """The grant list in `signed`, if its owner signed it and it keeps the rules.

    Args:
        signed: from anywhere.
        network: where the list must count.
        owner: whose list it must be; None takes whichever owner signed it.

    Raises:
        InvalidRecord: it does not.
    """
    grant_list = read_signed(
        signed, Domain.GRANT_LIST, network, identity_pb2.GrantList, max_bytes=MAX_LIST_BYTES, signer=owner
    )
    if grant_list.owner != signed.public_key:
        raise InvalidRecord(Reason.WRONG_SIGNER, "the grant list is signed by another than its owner")
    _check_grant_list(grant_list, len(signed.payload))
    return grant_list


def _check_grant_list(grant_list: identity_pb2.GrantList, size_bytes: int) -> None:
    grants = grant_list.grants
    if size_bytes > MAX_LIST_BYTES or len(grants) > MAX_GRANTS:
        message = f"a grant list of {len(grants)} devices and {size_bytes} bytes"
        raise InvalidRecord(Reason.TOO_LARGE, message, hint=f"{MAX_GRANTS} devices are the most.")
    if grant_list.sequence == 0:
        raise InvalidRecord(Reason.MALFORMED, "the grant list has no sequence number")
    if len(grant_list.seal_public_key) != SEAL_KEY_BYTES:
        raise InvalidRecord(Reason.MALFORMED, "the seal key of the grant list has an impossible length")
    if any(len(grant.device) != PUBLIC_KEY_BYTES for grant in grants):
        raise InvalidRecord(Reason.MALFORMED, "a device key of the grant list has an impossible length")
    if len({grant.device for grant in grants}) != len(grants):
        raise InvalidRecord(Reason.MALFORMED, "the grant list names a device twice")
    for grant in grants:
        if not 0 < len(grant.roles) <= MAX_ROLES or identity_pb2.ROLE_UNSPECIFIED in grant.roles:
            raise InvalidRecord(Reason.MALFORMED, "a grant names no role, or too many")


def is_newer(candidate: identity_pb2.GrantList, known: identity_pb2.GrantList) -> bool:
    """True if `candidate` takes the place of `known`. Of two lists with one sequence the known one stays."""
    return candidate.owner == known.owner and candidate.sequence > known.sequence


def is_granted(
    grant_list: identity_pb2.GrantList, device: bytes, role: identity_pb2.Role.ValueType, now_s: int
) -> bool:
    """True if the list gives `device` the role at Unix time `now_s`; a grant ends when `until_s` begins."""
    return any(
        role in grant.roles and (grant.until_s == 0 or now_s < grant.until_s)
        for grant in grant_list.grants
        if grant.device == device
    )
