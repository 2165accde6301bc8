import importlib
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from kernel.domains import NETWORKS, Network
from kernel.errors import InvalidRecord, Reason
from kernel.grants import sign_grant_list
from kernel.keys import DeviceKeys, OwnerKeys
from kernel.multiaddr import parse_multiaddr
from kernel.peer_id import encode_peer_id, encode_peer_id_bytes
from kernel.sealing import compute_x25519_public
from lucid.v1.identity_pb2 import ROLE_WORK, Grant
from lucid.v1.node_pb2 import PeerRecord
from node.identity.peer_keys import PeerKeys
from node.identity.peer_record import MAX_ADDRESSES, check_peer_record, make_peer_record

DEV = NETWORKS["dev"]
NOW_S = 1_790_000_000
ADDRESSES = tuple(map(parse_multiaddr, ("/ip4/127.0.0.1/tcp/4001", "/ip6/::1/tcp/4002")))
DOMAIN = "libp2p-peer-record"


def make_keys(number: int) -> PeerKeys:
    owner, device = OwnerKeys.from_root(bytes([number]) * 32), DeviceKeys.from_root(bytes([number + 1]) * 32)
    grant = Grant(device=device.identity.public_key, roles=[ROLE_WORK])
    seal = compute_x25519_public(owner.seal(0))
    return PeerKeys(DEV, device, sign_grant_list(owner.identity, DEV, 1, [grant], 0, seal))


KEYS, OTHERS = make_keys(1), make_keys(3)
KEY = KEYS.device.identity


def make(keys: PeerKeys = KEYS, sequence: int = 9, **changes: Any) -> PeerRecord:
    fields: dict[str, Any] = {"expires_s": NOW_S + 60, "versions": (1,), "software": "test"}
    return make_peer_record(keys, ADDRESSES, sequence=sequence, **(fields | changes))


def make_envelope(
    peer_id: bytes = encode_peer_id_bytes(KEY.public_key),
    sequence: int = 9,
    addresses: tuple[bytes, ...] = (),
    payload: bytes | None = None,
    kind: bytes = b"\x03\x01",
    key_kind: int = 1,
    damage: bool = False,
) -> bytes:
    """An envelope by the rules of libp2p, wrong where it is told to be."""
    library: Any = importlib.import_module("libp2p.peer.envelope")
    infos = [library.record_pb.PeerRecord.AddressInfo(multiaddr=address) for address in addresses]
    record = library.record_pb.PeerRecord(peer_id=peer_id, seq=sequence, addresses=infos)
    payload = record.SerializeToString() if payload is None else payload
    signature = KEY.sign_foreign(library.make_unsigned(DOMAIN, kind, payload))
    envelope = library.pb.Envelope(
        public_key=library.cryto_pb.PublicKey(Type=key_kind, Data=KEY.public_key),
        payload_type=kind,
        payload=payload,
        signature=bytes(64) if damage else signature,
    )
    encoded: bytes = envelope.SerializeToString()
    return encoded


def test_a_record_tells_all_about_the_node() -> None:
    presentation = check_peer_record(make(), DEV, NOW_S)
    assert presentation.identity.device == KEY.public_key
    assert presentation.identity.owner == KEYS.grants.public_key
    assert presentation.identity.box == compute_x25519_public(KEYS.device.box)
    assert (presentation.sequence, presentation.addresses) == (9, ADDRESSES)
    assert (presentation.versions, presentation.software) == ((1,), "test")


def test_libp2p_reads_our_envelope_and_we_read_its() -> None:
    from libp2p.crypto.ed25519 import Ed25519PrivateKey
    from libp2p.peer.envelope import consume_envelope, seal_record
    from libp2p.peer.id import ID
    from libp2p.peer.peer_record import PeerRecord as TheirRecord
    from multiaddr import Multiaddr

    _, record = consume_envelope(make().envelope, DOMAIN)
    assert str(record.peer_id) == encode_peer_id(KEY.public_key)
    assert (record.seq, [str(one) for one in record.addrs]) == (9, [str(one) for one in ADDRESSES])
    seed = bytes(range(32))
    theirs = Ed25519PrivateKey.from_bytes(seed)
    device = DeviceKeys(bytes(32), type(KEY).from_seed(seed), bytes(32))
    owner = OwnerKeys.from_root(bytes(32))
    grant = Grant(device=device.identity.public_key, roles=[ROLE_WORK])
    grants = sign_grant_list(owner.identity, DEV, 1, [grant], 0, compute_x25519_public(owner.seal(0)))
    ours = make(PeerKeys(DEV, device, grants))
    sealed = seal_record(
        TheirRecord(ID.from_pubkey(theirs.get_public_key()), [Multiaddr(str(ADDRESSES[0]))], 9), theirs
    )
    read = check_peer_record(PeerRecord(envelope=sealed.marshal_envelope(), card=ours.card), DEV, NOW_S)
    assert read.addresses == ADDRESSES[:1]


UDP = bytes.fromhex("047f000001910203e8")
PUBLIC = bytes.fromhex("040808080806 0fa1")


@pytest.mark.parametrize(
    ("envelope", "reason"),
    [
        (lambda: make_envelope(peer_id=encode_peer_id_bytes(bytes(32))), Reason.WRONG_SIGNER),
        (lambda: make_envelope(peer_id=b""), Reason.WRONG_SIGNER),
        (lambda: make_envelope(sequence=8), Reason.NOT_CONSISTENT),
        (lambda: make_envelope(damage=True), Reason.BAD_SIGNATURE),
        (lambda: make_envelope(kind=b"\x03\x02"), Reason.MALFORMED),
        (lambda: make_envelope(key_kind=2), Reason.MALFORMED),
        (lambda: make_envelope(payload=b"\xff"), Reason.MALFORMED),
        (lambda: make_envelope(addresses=(UDP,)), Reason.MALFORMED),
        (lambda: make_envelope(addresses=(PUBLIC,)), Reason.MALFORMED),
        (lambda: make_envelope(addresses=(b"",)), Reason.MALFORMED),
        (lambda: make_envelope(addresses=(bytes(49),)), Reason.TOO_LARGE),
        (
            lambda: make_envelope(addresses=(ADDRESSES[0].encode(),) * (MAX_ADDRESSES + 1)),
            Reason.TOO_LARGE,
        ),
        (lambda: make_envelope(addresses=(bytes(48),) * 100), Reason.TOO_LARGE),
        (lambda: b"\xff", Reason.MALFORMED),
        (lambda: b"", Reason.MALFORMED),
        (lambda: make(OTHERS).envelope, Reason.WRONG_SIGNER),
    ],
)
def test_an_envelope_that_breaks_a_rule_is_refused(envelope: Callable[[], bytes], reason: Reason) -> None:
    card = make().card
    check_peer_record(PeerRecord(envelope=make_envelope(), card=card), DEV, NOW_S)
    with pytest.raises(InvalidRecord) as caught:
        check_peer_record(PeerRecord(envelope=envelope(), card=card), DEV, NOW_S)
    assert caught.value.reason == reason


def test_a_record_of_another_network_or_time_is_refused() -> None:
    with pytest.raises(InvalidRecord) as caught:
        check_peer_record(make(), Network("other", bytes(32)), NOW_S)
    assert caught.value.reason == Reason.BAD_SIGNATURE
    with pytest.raises(InvalidRecord) as caught:
        check_peer_record(make(), DEV, NOW_S + 60)
    assert caught.value.reason == Reason.EXPIRED


def test_libp2p_is_loaded_when_it_is_needed_and_not_before() -> None:
    script = (
        "import sys; sys.path[:0] = ['.', 'proto']; import node.identity.peer_record as module\n"
        "assert 'libp2p' not in sys.modules; module.load_libp2p(); assert 'libp2p' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
