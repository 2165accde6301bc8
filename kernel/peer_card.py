"""Peer cards: what Lucid adds to a libp2p peer record. Rules: docs/spec/09-handshake.md.

The node signs its own card, which carries the grant list under which it works: so whoever knows the card
knows the owner, and that the owner lets the node record or work.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from kernel.domains import Domain, Network
from kernel.errors import InvalidRecord, Reason
from kernel.grants import MAX_LIST_BYTES, is_granted, verify_grant_list
from kernel.sealing import X25519_BYTES
from kernel.signing import PUBLIC_KEY_BYTES, SIGNATURE_BYTES, SigningKey, read_signed
from lucid.v1 import identity_pb2, node_pb2
from lucid.v1.identity_pb2 import ROLE_RECORD, ROLE_WORK

MAX_VERSIONS = 16
MAX_VERSION = 65535
MAX_SOFTWARE = 64
MAX_LIFETIME_S = 30 * 86400
MAX_CARD_BYTES = MAX_LIST_BYTES + PUBLIC_KEY_BYTES + SIGNATURE_BYTES + 1024


@dataclass(frozen=True, slots=True)
class VerifiedCard:
    """A card that was checked.

    Attributes:
        card: what it says.
        grant_list: the owner's, which lets the node record or work.
    """

    card: node_pb2.PeerCard
    grant_list: identity_pb2.GrantList


def sign_peer_card(
    key: SigningKey,
    network: Network,
    *,
    sequence: int,
    expires_s: int,
    versions: Sequence[int],
    box: bytes,
    grants: identity_pb2.Signed,
    software: str,
) -> identity_pb2.Signed:
    """The card of the node whose identity key is `key`.

    Args:
        key: of the node.
        network: where the card counts.
        sequence: as in the node's libp2p peer record; higher than that of every card before.
        expires_s: Unix seconds.
        versions: of the protocol that the node speaks.
        box: X25519 public key that others may seal to.
        grants: the owner's grant list.
        software: name and version, for people.
    """
    card = node_pb2.PeerCard(
        device=key.public_key,
        sequence=sequence,
        expires_s=expires_s,
        versions=versions,
        box=box,
        grants=grants,
        software=software,
    )
    return key.sign(Domain.PEER_CARD, network, card.SerializeToString(deterministic=True))


def verify_peer_card(signed: identity_pb2.Signed, network: Network, *, now_s: int) -> VerifiedCard:
    """The card in `signed`, if its node signed it, it holds at Unix time `now_s`, and its owner grants it.

    Raises:
        InvalidRecord: it does not.
    """
    card = read_signed(signed, Domain.PEER_CARD, network, node_pb2.PeerCard, max_bytes=MAX_CARD_BYTES)
    if card.device != signed.public_key:
        raise InvalidRecord(Reason.WRONG_SIGNER, "the peer card is signed by another than its node")
    _check_fields(card)
    if not now_s < card.expires_s <= now_s + MAX_LIFETIME_S:
        what = "has expired" if card.expires_s <= now_s else "holds for too long"
        raise InvalidRecord(Reason.EXPIRED, f"the peer card {what}", hint="Compare the clocks of both nodes.")
    grant_list = verify_grant_list(card.grants, network)
    check_granted(grant_list, card.device, now_s)
    return VerifiedCard(card, grant_list)


def check_granted(grant_list: identity_pb2.GrantList, device: bytes, now_s: int) -> None:
    """Checks that an owner lets a device record or work, at Unix time `now_s`.

    Raises:
        InvalidRecord: it does not.
    """
    if not any(is_granted(grant_list, device, role, now_s) for role in (ROLE_WORK, ROLE_RECORD)):
        raise InvalidRecord(Reason.NOT_GRANTED, "the owner of the node lets it neither record nor work")


def _check_fields(card: node_pb2.PeerCard) -> None:
    if card.sequence == 0:
        raise InvalidRecord(Reason.MALFORMED, "the peer card has no sequence number")
    if not 0 < len(card.versions) <= MAX_VERSIONS or not all(0 < v <= MAX_VERSION for v in card.versions):
        raise InvalidRecord(Reason.MALFORMED, "the peer card names no versions, too many or impossible ones")
    if len(card.box) != X25519_BYTES:
        raise InvalidRecord(Reason.MALFORMED, "the box key of the peer card has an impossible length")
    if len(card.software) > MAX_SOFTWARE or not (card.software.isascii() and card.software.isprintable()):
        raise InvalidRecord(Reason.MALFORMED, "the software of the peer card is too long, or no plain text")
