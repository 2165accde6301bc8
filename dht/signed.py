"""Reading what a peer has signed: bounded, then verified, then decoded."""

from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from kernel.domains import Domain, Network
from kernel.errors import InvalidRecord, Reason
from kernel.signing import verify_signed
from lucid.v1 import identity_pb2

M = TypeVar("M", bound=Message)


def read_signed(
    signed: identity_pb2.Signed,
    domain: Domain,
    network: Network,
    kind: type[M],
    *,
    max_bytes: int,
    signer: bytes | None = None,
) -> M:
    """The payload of a signed record, decoded.

    Args:
        signed: from anywhere.
        domain: what the signature must be about.
        network: where it must count.
        kind: message that the payload must be.
        max_bytes: a longer payload is not looked at.
        signer: the public key that must have signed; None: any.

    Raises:
        InvalidRecord: TOO_LARGE, MALFORMED, WRONG_SIGNER or BAD_SIGNATURE.
    """
    if len(signed.payload) > max_bytes:
        raise InvalidRecord(Reason.TOO_LARGE, f"{domain}: {len(signed.payload)} bytes")
    payload = verify_signed(signed, domain, network, signer=signer)
    try:
        return kind.FromString(payload)
    except DecodeError as error:
        raise InvalidRecord(Reason.MALFORMED, f"{domain}: the payload cannot be decoded") from error
