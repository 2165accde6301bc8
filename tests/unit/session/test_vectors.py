"""The vectors of a recording: this code agrees with them, and their maker still writes them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from kernel import merkle
from kernel.checkpoint import compute_checkpoint_hash
from kernel.chunk_id import compute_blob_id, compute_chunk_id, compute_chunk_leaves
from kernel.domains import NETWORKS, Domain, Label, Network
from kernel.errors import InvalidRecord, Reason
from kernel.padding import compute_padded_bytes
from kernel.signing import verify_signed
from lucid.v1 import session_pb2
from lucid.v1.identity_pb2 import Signed
from session.access import decrypt_message, encrypt_message
from session.checkpoint import CheckpointSeries, compute_tail_hash, hash_frame
from session.control_policy import compute_policy_hash, decode_policy
from session.encryptor import HEADER_BYTES, ChunkFlag, decrypt_chunk, encrypt_chunk
from session.live_tail import decrypt_frame, derive_frame_key, encrypt_frame
from session.manifest import compute_manifest_hash, decode_manifest
from session.merkle_builder import build_session_tree
from tests.vectors.make_session_vectors import BUILDERS, render

VECTORS = Path(__file__).parents[2] / "vectors"


def load(name: str) -> Any:
    return json.loads((VECTORS / f"{name}.json").read_text())


CHUNK, MERKLE, FRAME, CHECKPOINT = load("chunk"), load("merkle"), load("frame"), load("checkpoint")
METADATA, POLICY, MANIFEST = load("metadata"), load("policy"), load("manifest")
SECRET, SESSION = bytes.fromhex(CHUNK["secret"]), bytes.fromhex(CHUNK["session_id"])
NETWORK, DEVICE = NETWORKS["dev"], bytes.fromhex(CHECKPOINT["device"])
BLOBS = {case["name"]: bytes.fromhex(case["blob"]) for case in CHUNK["valid"]}


def unhex(texts: list[str]) -> list[bytes]:
    return [bytes.fromhex(text) for text in texts]


def names(cases: Any) -> list[str]:
    return [case["name"] for case in cases]


def expect(case: Any, attempt: Callable[[], object]) -> None:
    with pytest.raises(InvalidRecord) as caught:
        attempt()
    assert caught.value.reason == Reason[case["reason"]]


def split(blob: bytes) -> tuple[bytes, bytes]:
    return blob[:HEADER_BYTES], blob[HEADER_BYTES:]


def build_blob(case: Any) -> bytes:
    """A refused chunk: given, or another one with edits, cut or filled up with zeros."""
    if "blob" in case:
        return bytes.fromhex(case["blob"])
    blob = bytearray(BLOBS[case["of"]])
    for at, text in case["edits"]:
        blob[at : at + len(text) // 2] = bytes.fromhex(text)
    size = case.get("length", len(blob))
    return bytes(blob[:size].ljust(size, b"\0"))


def build_message(case: Any) -> bytes:
    return bytes(case["zeros"]) if "zeros" in case else bytes.fromhex(case["encrypted"])


def build_document(case: Any) -> bytes:
    return b" " * case["spaces"] if "spaces" in case else bytes.fromhex(case["document"])


@pytest.mark.parametrize("name", sorted(BUILDERS))
def test_the_script_still_makes_them(name: str) -> None:
    assert render(BUILDERS[name]()) == (VECTORS / name).read_text()


def test_padded_lengths() -> None:
    assert [[size, compute_padded_bytes(size)] for size, _ in CHUNK["padded"]] == CHUNK["padded"]


@pytest.mark.parametrize("case", CHUNK["valid"], ids=names(CHUNK["valid"]))
def test_chunks(case: Any) -> None:
    blob, plaintext, flags = BLOBS[case["name"]], bytes.fromhex(case["plaintext"]), ChunkFlag(case["flags"])
    assert decrypt_chunk(SECRET, SESSION, case["index"], *split(blob)) == (plaintext, flags)
    assert compute_blob_id(blob).hex() == case["chunk_id"]
    made = encrypt_chunk(SECRET, SESSION, case["index"], flags, bytes.fromhex(case["nonce"]), plaintext)
    assert made.header + made.ciphertext == blob


@pytest.mark.parametrize("case", CHUNK["refused"], ids=names(CHUNK["refused"]))
def test_refused_chunks(case: Any) -> None:
    expect(case, lambda: decrypt_chunk(SECRET, SESSION, 0, *split(build_blob(case))))


def test_trees() -> None:
    leaves = [merkle.compute_leaf(bytes.fromhex(data)) for data in MERKLE["leaf_data"]]
    roots = unhex(MERKLE["roots"])
    assert [leaf.hex() for leaf in leaves] == MERKLE["leaves"]
    assert [merkle.Frontier(leaves[:count]).root() for count in range(len(roots))] == roots
    for case in MERKLE["inclusion"]:
        index, count, proof = case["index"], case["count"], unhex(case["proof"])
        assert merkle.compute_inclusion_proof(leaves[:count], index) == proof
        assert merkle.is_included(leaves[index], index, count, proof, roots[count])
    for case in MERKLE["consistency"]:
        old, new, proof = case["old"], case["new"], unhex(case["proof"])
        assert merkle.compute_consistency_proof(leaves[:new], old) == proof
        assert merkle.is_consistent(old, new, roots[old], roots[new], proof)


@pytest.mark.parametrize("case", MERKLE["refused_inclusion"], ids=names(MERKLE["refused_inclusion"]))
def test_refused_inclusion_proofs(case: Any) -> None:
    leaf, root = bytes.fromhex(case["leaf"]), bytes.fromhex(case["root"])
    assert not merkle.is_included(leaf, case["index"], case["count"], unhex(case["proof"]), root)


@pytest.mark.parametrize("case", MERKLE["refused_consistency"], ids=names(MERKLE["refused_consistency"]))
def test_refused_consistency_proofs(case: Any) -> None:
    old_root, new_root = bytes.fromhex(case["old_root"]), bytes.fromhex(case["new_root"])
    assert not merkle.is_consistent(case["old"], case["new"], old_root, new_root, unhex(case["proof"]))


def test_chunk_and_session_trees() -> None:
    case, blob = MERKLE["chunk"], BLOBS[MERKLE["chunk"]["blob"]]
    leaves = compute_chunk_leaves(blob)
    assert [leaf.hex() for leaf in leaves] == case["leaves"]
    assert compute_chunk_id(leaves, len(blob)).hex() == case["chunk_id"]
    for index, proof in enumerate(case["proofs"]):
        root = bytes.fromhex(case["root"])
        assert merkle.is_included(leaves[index], index, len(leaves), unhex(proof), root)
    ids = unhex(MERKLE["session"]["chunk_ids"])
    roots = [build_session_tree(ids[:count]).root().hex() for count in range(len(ids) + 1)]
    assert roots == MERKLE["session"]["roots"]


def test_frames_and_tails() -> None:
    key = derive_frame_key(SECRET, SESSION)
    frames: dict[tuple[int, int], bytes] = {}
    for case in FRAME["valid"]:
        frame, piece = bytes.fromhex(case["frame"]), bytes.fromhex(case["piece"])
        frames[case["index"], case["number"]] = frame
        assert decrypt_frame(key, SESSION, case["index"], case["number"], frame) == piece
        assert encrypt_frame(key, SESSION, case["index"], case["number"], frame[:24], piece) == frame
    for tail in FRAME["tails"]:
        digests = []
        for index, count in tail["frames"]:
            hasher, records = blake3(), [frames[index, number] for number in range(count)]
            for record in records:
                hash_frame(hasher, record)
            digests.append((index, sum(map(len, records)), hasher.digest()))
        assert compute_tail_hash(digests).hex() == tail["tail_hash"]
        assert sum(size for _, size, _ in digests) == tail["tail_bytes"]


@pytest.mark.parametrize("case", FRAME["refused"], ids=names(FRAME["refused"]))
def test_refused_frames(case: Any) -> None:
    key, frame = derive_frame_key(SECRET, SESSION), bytes.fromhex(case["frame"])
    expect(case, lambda: decrypt_frame(key, SESSION, case["index"], case["number"], frame))


def check_series(case: Any) -> list[session_pb2.Checkpoint]:
    series = CheckpointSeries(SESSION, NETWORK, DEVICE)
    return [
        series.add(Signed.FromString(signed), unhex(case["chunk_ids"])) for signed in unhex(case["series"])
    ]


def test_checkpoints() -> None:
    honest = [case["signed"] for case in CHECKPOINT["series"]]
    accepted = check_series({"series": honest, "chunk_ids": CHECKPOINT["chunk_ids"]})
    assert [found.chunk_count for found in accepted] == [case["chunk_count"] for case in CHECKPOINT["series"]]
    for signed, case in zip(unhex(honest), CHECKPOINT["series"], strict=True):
        assert compute_checkpoint_hash(Signed.FromString(signed).payload).hex() == case["hash"]


@pytest.mark.parametrize("case", CHECKPOINT["refused"], ids=names(CHECKPOINT["refused"]))
def test_refused_checkpoints(case: Any) -> None:
    expect(case, lambda: check_series(case))


@pytest.mark.parametrize(
    ("case", "kind"), list(zip(METADATA["valid"], (session_pb2.Metadata, session_pb2.Ending), strict=True))
)
def test_metadata_and_ending(case: Any, kind: type[session_pb2.Metadata]) -> None:
    label, encrypted = Label(case["label"]), bytes.fromhex(case["encrypted"])
    message = decrypt_message(SECRET, label, SESSION, encrypted, kind)
    assert message == kind.FromString(bytes.fromhex(case["message"]))
    assert encrypt_message(SECRET, label, SESSION, bytes.fromhex(case["nonce"]), message) == encrypted


@pytest.mark.parametrize("case", METADATA["refused"], ids=names(METADATA["refused"]))
def test_refused_metadata(case: Any) -> None:
    encrypted = build_message(case)
    expect(case, lambda: decrypt_message(SECRET, Label.METADATA, SESSION, encrypted, session_pb2.Metadata))


@pytest.mark.parametrize(
    ("vectors", "domain", "compute_hash"),
    [(POLICY, Domain.POLICY, compute_policy_hash), (MANIFEST, Domain.MANIFEST, compute_manifest_hash)],
)
def test_documents(vectors: Any, domain: Domain, compute_hash: Callable[[bytes], bytes]) -> None:
    signed = Signed.FromString(bytes.fromhex(vectors["signed"]))
    network = Network("dev", bytes.fromhex(vectors["network_id"]), vectors["fork_version"])
    document = verify_signed(signed, domain, network, signer=DEVICE)
    assert document == vectors["document"].encode()
    assert compute_hash(document).hex() == vectors["hash"]


def test_documents_are_written_as_they_are_read() -> None:
    for vectors, decode in ((POLICY, decode_policy), (MANIFEST, decode_manifest)):
        document = vectors["document"].encode()
        assert decode(document).encode() == document


@pytest.mark.parametrize("case", POLICY["refused"], ids=names(POLICY["refused"]))
def test_refused_policies(case: Any) -> None:
    expect(case, lambda: decode_policy(build_document(case)))


@pytest.mark.parametrize("case", MANIFEST["refused"], ids=names(MANIFEST["refused"]))
def test_refused_manifests(case: Any) -> None:
    expect(case, lambda: decode_manifest(build_document(case)))
