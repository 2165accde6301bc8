"""Peer records: a node, presented by itself. Rules: docs/spec/09-handshake.md.

A record is a libp2p signed envelope (RFC 0002) around a libp2p peer record (RFC 0003), which any software of
that kind can read, and beside it a card with what Lucid adds (kernel/peer_card.py), under the same sequence.

This is the only module that knows libp2p, and it loads it when the first peer is met: that takes most of a
second and 60 MB. Of libp2p it uses the messages and the form of what is signed; signatures are judged by the
one verifier of the house, and keys against peer IDs here, because libp2p's `consume_envelope` does not.
"""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import DecodeError

from dht.ports import PeerIdentity
from kernel.domains import Network
from kernel.errors import InvalidRecord, Reason
from kernel.multiaddr import MAX_BYTES, Multiaddr, decode_multiaddr
from kernel.peer_card import sign_peer_card, verify_peer_card
from kernel.peer_id import encode_peer_id_bytes
from kernel.sealing import compute_x25519_public
from kernel.signing import PUBLIC_KEY_BYTES, SIGNATURE_BYTES, is_signature
from lucid.v1 import identity_pb2, node_pb2
from node.identity.peer_keys import PeerKeys

MAX_ENVELOPE_BYTES = 4096
MAX_ADDRESSES = 8
_ED25519 = 1  # KeyType of libp2p's PublicKey


@dataclass(frozen=True, slots=True)
class Presentation:
    """A peer record that was checked.

    Attributes:
        identity: who it is.
        sequence: of two records of a node, the one with the higher sequence counts.
        addresses: where the node says that it listens.
        versions: of the protocol that it speaks.
        software: name and version, for people.
        grant_list: of its owner.
        record: as it came.
    """

    identity: PeerIdentity
    sequence: int
    addresses: tuple[Multiaddr, ...]
    versions: tuple[int, ...]
    software: str
    grant_list: identity_pb2.GrantList
    record: node_pb2.PeerRecord


def load_libp2p() -> None:
    """Loads libp2p, which takes most of a second: off the event loop, before the first record is needed."""
    _envelope()


def make_peer_record(
    keys: PeerKeys,
    addresses: Sequence[Multiaddr],
    *,
    sequence: int,
    expires_s: int,
    versions: Sequence[int],
    software: str,
) -> node_pb2.PeerRecord:
    """The record of the node itself; `sequence` and `expires_s` as in `sign_peer_card`."""
    identity = keys.device.identity
    library = _envelope()
    infos = [
        library.record_pb.PeerRecord.AddressInfo(multiaddr=address.encode())
        for address in addresses[:MAX_ADDRESSES]
    ]
    payload = library.record_pb.PeerRecord(
        peer_id=encode_peer_id_bytes(identity.public_key), seq=sequence, addresses=infos
    ).SerializeToString()
    kind = library.PEER_RECORD_CODEC
    message = library.make_unsigned(library.ENVELOPE_DOMAIN, kind, payload)
    envelope = library.pb.Envelope(
        public_key=library.cryto_pb.PublicKey(Type=_ED25519, Data=identity.public_key),
        payload_type=kind,
        payload=payload,
        signature=identity.sign_foreign(message),
    )
    card = sign_peer_card(
        identity,
        keys.network,
        sequence=sequence,
        expires_s=expires_s,
        versions=versions,
        box=compute_x25519_public(keys.device.box),
        grants=keys.grants,
        software=software,
    )
    return node_pb2.PeerRecord(envelope=envelope.SerializeToString(), card=card)


def check_peer_record(record: node_pb2.PeerRecord, network: Network, now_s: int) -> Presentation:
    """What a record says, if all of it was signed by one node and holds at Unix time `now_s`.

    Raises:
        InvalidRecord: it was not, or it breaks the rules.
    """
    verified = verify_peer_card(record.card, network, now_s=now_s)
    card = verified.card
    message = _open_envelope(record.envelope, card.device)
    if message.peer_id != encode_peer_id_bytes(card.device):
        raise InvalidRecord(Reason.WRONG_SIGNER, "the peer record names another node than its key")
    if message.seq != card.sequence:
        raise InvalidRecord(Reason.NOT_CONSISTENT, "envelope and card have different sequence numbers")
    infos = message.addresses
    if len(infos) > MAX_ADDRESSES or any(len(info.multiaddr) > MAX_BYTES for info in infos):
        raise InvalidRecord(Reason.TOO_LARGE, "the peer record has too many addresses, or one too long")
    return Presentation(
        identity=PeerIdentity(card.device, verified.grant_list.owner, card.box),
        sequence=card.sequence,
        addresses=tuple(decode_multiaddr(info.multiaddr) for info in infos),
        versions=tuple(card.versions),
        software=card.software,
        grant_list=verified.grant_list,
        record=record,
    )


def _open_envelope(data: bytes, device: bytes) -> Any:
    """libp2p's peer record in an envelope that `device` signed."""
    if len(data) > MAX_ENVELOPE_BYTES:
        raise InvalidRecord(Reason.TOO_LARGE, f"an envelope of {len(data)} bytes")
    library = _envelope()
    try:
        envelope = library.pb.Envelope.FromString(data)
    except DecodeError as error:
        raise InvalidRecord(Reason.MALFORMED, "the envelope cannot be decoded") from error
    key = envelope.public_key
    if (
        key.Type != _ED25519
        or len(key.Data) != PUBLIC_KEY_BYTES
        or len(envelope.signature) != SIGNATURE_BYTES
    ):
        raise InvalidRecord(Reason.MALFORMED, "the envelope is not signed with Ed25519")
    if envelope.payload_type != library.PEER_RECORD_CODEC:
        raise InvalidRecord(Reason.MALFORMED, "the envelope holds no peer record")
    if key.Data != device:
        raise InvalidRecord(Reason.WRONG_SIGNER, "envelope and card are signed by different nodes")
    message = library.make_unsigned(library.ENVELOPE_DOMAIN, envelope.payload_type, envelope.payload)
    if not is_signature(message, key.Data, envelope.signature):
        raise InvalidRecord(Reason.BAD_SIGNATURE, "the signature of the envelope does not hold")
    try:
        return library.record_pb.PeerRecord.FromString(envelope.payload)
    except DecodeError as error:
        raise InvalidRecord(Reason.MALFORMED, "the peer record cannot be decoded") from error


def _envelope() -> Any:
    return importlib.import_module("libp2p.peer.envelope")
