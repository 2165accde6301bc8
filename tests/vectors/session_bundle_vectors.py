"""Golden bytes of proof bundles of the recorded session, and of bundles that nobody may take."""

from collections.abc import Callable
from typing import Any

import cbor2

from kernel.chunk_id import LEAF_BYTES, compute_chunk_leaves
from kernel.domains import Domain
from kernel.grants import sign_grant_list
from kernel.merkle import compute_inclusion_proof, compute_leaf, compute_root
from kernel.signing import SigningKey
from lucid.v1 import identity_pb2
from session.bundle import Bundle, ChunkProof, Leaf, encode_bundle
from session.control_policy import ControlPolicy
from tests.vectors.session_chunk_vectors import SESSION, Case, make_chunks
from tests.vectors.session_document_vectors import (
    DEVICE,
    NETWORK,
    OWNER,
    make_checkpoints,
    make_manifest,
    make_policy,
)
from tests.vectors.witness_vectors import WITNESSES, attest, make_attestations


def sign_grants(device: bytes = DEVICE.public_key, **changes: Any) -> identity_pb2.Signed:
    """The owner's list: this one device, which may record."""
    grant = identity_pb2.Grant(device=device, roles=[identity_pb2.ROLE_RECORD], **changes)
    return sign_grant_list(OWNER, NETWORK, 3, [grant], 0, bytes(range(32)))


def make_bundle(chunk: ChunkProof | None = None) -> Bundle:
    """The complete session, seen by three witnesses."""
    return Bundle(
        network=NETWORK.id,
        session_id=SESSION,
        policy=DEVICE.sign(Domain.POLICY, NETWORK, make_policy()),
        grants=sign_grants(),
        checkpoint=make_checkpoints()[-1],
        attestations=tuple(make_attestations()),
        manifest=DEVICE.sign(Domain.MANIFEST, NETWORK, make_manifest()),
        chunk=chunk,
    )


def make_running() -> Bundle:
    """The session before its end, seen by nobody."""
    whole = make_bundle()
    return Bundle(whole.network, whole.session_id, whole.policy, whole.grants, make_checkpoints()[3])


def show(index: int, leaves: range | None = None, *, reveal: bool = False) -> ChunkProof:
    """A chunk: its header, some leaves, or all of it."""
    chunks = make_chunks()
    blob = bytes.fromhex(chunks[index]["blob"])
    hashes = compute_chunk_leaves(blob)
    ids = [compute_leaf(bytes.fromhex(chunk["chunk_id"])) for chunk in chunks]
    base = (index, len(blob), compute_root(hashes), tuple(compute_inclusion_proof(ids, index)))
    if reveal:
        return ChunkProof(*base, blob=blob, key=bytes.fromhex(chunks[index]["chunk_key"]))

    def leaf(number: int) -> Leaf:
        data = blob[number * LEAF_BYTES : (number + 1) * LEAF_BYTES]
        return Leaf(data, tuple(compute_inclusion_proof(hashes, number)))

    shown = leaves or range(0)
    return ChunkProof(*base, leaf(0), first_leaf=shown.start, leaves=tuple(map(leaf, shown)))


def build_bundle() -> Case:
    """bundle.json."""
    attested = [
        {"witness": signed.public_key.hex(), "signed": signed.SerializeToString().hex()}
        for signed in make_attestations()
    ]
    valid: list[tuple[str, Bundle, Case]] = [
        ("complete", make_bundle(), {"complete": True}),
        ("running, unattested", make_running(), {"complete": False}),
        ("the header of a chunk", make_bundle(show(2)), {"complete": True, "chunk": 2}),
        ("the last leaf of a chunk", make_bundle(show(1, range(4, 5))), {"complete": True, "chunk": 1}),
        (
            "a revealed chunk",
            make_bundle(show(1, reveal=True)),
            {"complete": True, "chunk": 1, "plaintext": make_chunks()[1]["plaintext"]},
        ),
    ]
    return {
        "network_id": NETWORK.id.hex(),
        "session_id": SESSION.hex(),
        "owner": OWNER.public_key.hex(),
        "device": DEVICE.public_key.hex(),
        "attested": attested,
        "valid": [
            {"name": name, **facts, "bundle": encode_bundle(bundle).hex()} for name, bundle, facts in valid
        ],
        "refused": [
            {"name": name, "bundle": data.hex(), "reason": reason} for name, data, reason in refuse_forms()
        ]
        + [
            {"name": name, "bundle": data.hex(), "reason": reason} for name, data, reason in refuse_contents()
        ],
    }


Refused = tuple[str, bytes, str]
Document = dict[str, Any]


def edit(change: Callable[[Document], object], chunk: ChunkProof | None = None) -> bytes:
    """The complete bundle with its document changed, encoded as it should be."""
    document = cbor2.loads(encode_bundle(make_bundle(chunk)))
    change(document)
    return cbor2.dumps(document, canonical=True)


def update(chunk: ChunkProof | None = None, **values: object) -> bytes:
    """The complete bundle with other values in its map, or, with a `chunk`, in that one's."""
    return edit(lambda document: (document["chunk"] if chunk else document).update(values), chunk)


def encode_parts(signed: identity_pb2.Signed) -> list[bytes]:
    """A signed document, as a bundle holds it."""
    return [signed.payload, signed.public_key, signed.signature]


def sign_other(name: str, signed: identity_pb2.Signed) -> bytes:
    """The complete bundle with another signed document in one place."""
    return edit(lambda document: document.update({name: encode_parts(signed)}))


def attest_other(*attestations: identity_pb2.Signed) -> bytes:
    """The complete bundle with other attestations."""
    return update(attestations=[encode_parts(one) for one in attestations])


def refuse_forms() -> list[Refused]:
    """What breaks the format."""
    good = encode_bundle(make_running())
    unsorted = cbor2.dumps(dict(reversed(cbor2.loads(good).items())))
    many = cbor2.loads(encode_bundle(make_bundle()))["attestations"] * 22
    return [
        ("nothing", b"", "MALFORMED"),
        ("cut", good[:-1], "MALFORMED"),
        ("a byte behind", good + b"\0", "MALFORMED"),
        ("keys in another order", unsorted, "MALFORMED"),
        ("a length that is longer than needed", b"\xb8\x08" + good[1:], "MALFORMED"),
        ("a map without a stated length", b"\xbf" + good[1:] + b"\xff", "MALFORMED"),
        ("a tag", b"\xc0" + good, "MALFORMED"),
        ("a claimed array of 2^63 items", b"\x9b\x80" + bytes(7), "MALFORMED"),
        ("a claimed text of 2^63 bytes", b"\x7b\x80" + bytes(7), "MALFORMED"),
        ("nested too deep", b"\x81" * 100 + b"\x80", "TOO_LARGE"),
        ("too many items", b"\x99\x40\x00" + bytes(0x4000), "TOO_LARGE"),
        ("no map", cbor2.dumps([1, 2]), "MALFORMED"),
        ("an unknown key", update(zz=1), "MALFORMED"),
        ("a key is missing", edit(lambda document: document.pop("grants")), "MALFORMED"),
        ("another format", update(format="lucid bundel"), "MALFORMED"),
        ("another version", update(version=1), "WRONG_VERSION"),
        ("version as text", update(version="0"), "MALFORMED"),
        ("a signed document with two parts", update(policy=[b"", b""]), "MALFORMED"),
        ("a number for a key", update(policy=[b"", 7, b""]), "MALFORMED"),
        ("too many attestations", update(attestations=many), "TOO_LARGE"),
        ("a proof of 33 bytes", update(show(2), path=bytes(33)), "MALFORMED"),
        ("an unknown key of a chunk", update(show(2), zz=1), "MALFORMED"),
    ]


def refuse_contents() -> list[Refused]:
    """What has the right form and does not hold."""
    stranger = SigningKey.from_seed(b"s" * 32)
    other_policy = ControlPolicy(bytes(16), (), False, 0).encode()
    changed_policy = ControlPolicy(SESSION, (), True, 0).encode()
    policies = [DEVICE.sign(Domain.POLICY, NETWORK, one) for one in (other_policy, changed_policy)]
    checkpoint = stranger.sign(Domain.CHECKPOINT, NETWORK, make_checkpoints()[-1].payload)
    manifest = stranger.sign(Domain.MANIFEST, NETWORK, make_manifest())
    first, *others = make_attestations()
    older = attest(WITNESSES[0], make_checkpoints()[3])
    forged = identity_pb2.Signed(payload=first.payload, public_key=first.public_key, signature=bytes(64))
    strangers, ended = sign_grants(stranger.public_key), sign_grants(until_s=1_000_000)
    wrong_key = bytes.fromhex(make_chunks()[0]["chunk_key"])
    return [
        ("another network", update(network=bytes(32)), "WRONG_VERSION"),
        ("another session", update(session=bytes(16)), "WRONG_SESSION"),
        ("the policy of another session", sign_other("policy", policies[0]), "WRONG_SESSION"),
        ("a policy that the manifest does not name", sign_other("policy", policies[1]), "NOT_CONSISTENT"),
        ("a checkpoint that another device signed", sign_other("checkpoint", checkpoint), "WRONG_SIGNER"),
        ("an older checkpoint", sign_other("checkpoint", make_checkpoints()[3]), "NOT_CONSISTENT"),
        ("a device that may not record", sign_other("grants", strangers), "WRONG_SIGNER"),
        ("a grant that had ended", sign_other("grants", ended), "WRONG_SIGNER"),
        ("a manifest that another device signed", sign_other("manifest", manifest), "WRONG_SIGNER"),
        ("an attestation of an older checkpoint", attest_other(older), "WRONG_HASH"),
        ("a forged attestation", attest_other(forged), "BAD_SIGNATURE"),
        ("attestations in another order", attest_other(*reversed(others), first), "MALFORMED"),
        ("an attestation twice", attest_other(first, first), "MALFORMED"),
        ("a chunk at another place", update(show(2), index=1), "WRONG_HASH"),
        ("a chunk of another size", update(show(2), size=20_000), "WRONG_HASH"),
        ("another header", update(show(2), header=[bytes(LEAF_BYTES), b""]), "WRONG_HASH"),
        ("a leaf at another place", update(show(1, range(4, 5)), first=3), "WRONG_HASH"),
        ("the key of another chunk", update(show(2, reveal=True), key=wrong_key), "NOT_DECRYPTABLE"),
    ]
