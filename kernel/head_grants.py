"""Head grants: which devices write heads for an owner. Rules: docs/spec/12-head.md.

The owner's head locator signs one for each device, when the owner root is there for a moment: at `init` and
at `restore`. Who knows the locator knows by them which devices are, and were, the owner's.
"""

from kernel.domains import Domain, Network
from kernel.errors import InvalidRecord, Reason
from kernel.signing import PUBLIC_KEY_BYTES, SigningKey, read_signed
from lucid.v1 import chunk_pb2, identity_pb2

MAX_GRANT_BYTES = 128


def sign_head_grant(locator: SigningKey, network: Network, device: bytes) -> identity_pb2.Signed:
    """The grant that lets `device` (Ed25519, 32 bytes) write heads under this locator."""
    grant = chunk_pb2.HeadGrant(locator=locator.public_key, device=device)
    return locator.sign(Domain.HEAD_GRANT, network, grant.SerializeToString(deterministic=True))


def verify_head_grant(
    signed: identity_pb2.Signed,
    network: Network,
    *,
    locator: bytes | None = None,
    device: bytes | None = None,
) -> chunk_pb2.HeadGrant:
    """The grant in `signed`, if its locator signed it.

    Args:
        signed: from anywhere.
        network: where the grant must count.
        locator: whose grant it must be; None takes whichever locator signed it.
        device: whom it must name; None takes any.

    Raises:
        InvalidRecord: it does not hold.
    """
    grant = read_signed(
        signed, Domain.HEAD_GRANT, network, chunk_pb2.HeadGrant, max_bytes=MAX_GRANT_BYTES, signer=locator
    )
    if grant.locator != signed.public_key:
        raise InvalidRecord(Reason.WRONG_SIGNER, "the head grant is signed by another than its locator")
    if len(grant.device) != PUBLIC_KEY_BYTES:
        raise InvalidRecord(Reason.MALFORMED, "the head grant names no device")
    if device is not None and grant.device != device:
        raise InvalidRecord(Reason.WRONG_SIGNER, "the head grant names another device")
    return grant
