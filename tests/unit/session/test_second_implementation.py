"""A second implementation, which shares no code with this one, reads all vectors of a recording."""

import ast
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from nacl import bindings

from tests.unit.session import second_implementation
from tests.unit.session.second_implementation import (
    Refused,
    check_series,
    chunk_id_of,
    chunk_leaves,
    hash_of,
    hkdf,
    is_consistent,
    is_included,
    leaf_hash,
    open_chunk,
    open_frame,
    open_manifest,
    open_message,
    open_policy,
    open_signed,
    padme,
    root_of,
    tail_of,
)

VECTORS = Path(__file__).parents[2] / "vectors"


def load(name: str) -> Any:
    return json.loads((VECTORS / f"{name}.json").read_text())


def unhex(texts: Sequence[str]) -> list[bytes]:
    return [bytes.fromhex(text) for text in texts]


CHUNK, MERKLE, FRAME, CHECKPOINT = load("chunk"), load("merkle"), load("frame"), load("checkpoint")
METADATA, POLICY, MANIFEST = load("metadata"), load("policy"), load("manifest")
SECRET, SESSION = bytes.fromhex(CHUNK["secret"]), bytes.fromhex(CHUNK["session_id"])
BLOBS = {case["name"]: bytes.fromhex(case["blob"]) for case in CHUNK["valid"]}


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


def names(cases: Any) -> list[str]:
    return [case["name"] for case in cases]


def test_padded_lengths() -> None:
    assert [[size, padme(size)] for size, _ in CHUNK["padded"]] == CHUNK["padded"]


@pytest.mark.parametrize("case", CHUNK["valid"], ids=names(CHUNK["valid"]))
def test_chunks_open(case: Any) -> None:
    blob = BLOBS[case["name"]]
    plaintext, flags = open_chunk(SECRET, SESSION, case["index"], blob)
    assert (plaintext.hex(), flags) == (case["plaintext"], case["flags"])
    assert chunk_id_of(root_of(chunk_leaves(blob)), len(blob)).hex() == case["chunk_id"]


@pytest.mark.parametrize("case", CHUNK["refused"], ids=names(CHUNK["refused"]))
def test_chunks_are_refused(case: Any) -> None:
    with pytest.raises(Refused, match=f"^{case['reason']}$"):
        open_chunk(SECRET, SESSION, 0, build_blob(case))


def test_trees_and_proofs() -> None:
    leaves = [leaf_hash(bytes.fromhex(data)) for data in MERKLE["leaf_data"]]
    roots = unhex(MERKLE["roots"])
    assert [leaf.hex() for leaf in leaves] == MERKLE["leaves"]
    assert [root_of(leaves[:count]) for count in range(len(roots))] == roots
    assert len(MERKLE["inclusion"]) == 36
    for case in MERKLE["inclusion"]:
        proof, count = unhex(case["proof"]), case["count"]
        assert is_included(leaves[case["index"]], case["index"], count, proof, roots[count])
    assert len(MERKLE["consistency"]) == 45
    for case in MERKLE["consistency"]:
        old, new = case["old"], case["new"]
        assert is_consistent(old, new, roots[old], roots[new], unhex(case["proof"]))


@pytest.mark.parametrize("case", MERKLE["refused_inclusion"], ids=names(MERKLE["refused_inclusion"]))
def test_inclusion_proofs_are_refused(case: Any) -> None:
    leaf, root = bytes.fromhex(case["leaf"]), bytes.fromhex(case["root"])
    assert not is_included(leaf, case["index"], case["count"], unhex(case["proof"]), root)


@pytest.mark.parametrize("case", MERKLE["refused_consistency"], ids=names(MERKLE["refused_consistency"]))
def test_consistency_proofs_are_refused(case: Any) -> None:
    old_root, new_root = bytes.fromhex(case["old_root"]), bytes.fromhex(case["new_root"])
    assert not is_consistent(case["old"], case["new"], old_root, new_root, unhex(case["proof"]))


def test_leaves_of_a_chunk_are_proven() -> None:
    case, blob = MERKLE["chunk"], BLOBS[MERKLE["chunk"]["blob"]]
    leaves, root = unhex(case["leaves"]), bytes.fromhex(case["root"])
    assert chunk_leaves(blob) == leaves
    assert chunk_id_of(root, len(blob)).hex() == case["chunk_id"]
    for index, proof in enumerate(case["proofs"]):
        assert is_included(leaves[index], index, len(leaves), unhex(proof), root)


def test_session_root_grows_with_its_chunks() -> None:
    case = MERKLE["session"]
    ids = [leaf_hash(chunk) for chunk in unhex(case["chunk_ids"])]
    assert [root_of(ids[:count]).hex() for count in range(len(ids) + 1)] == case["roots"]


def test_frames_open_and_make_the_tails() -> None:
    assert hkdf(SECRET, "lucid frame", SESSION).hex() == FRAME["frame_key"]
    by_chunk: dict[int, list[bytes]] = {}
    plaintexts: dict[int, bytes] = {}
    for case in FRAME["valid"]:
        frame, index = bytes.fromhex(case["frame"]), case["index"]
        piece = open_frame(SECRET, SESSION, index, case["number"], frame)
        assert piece.hex() == case["piece"]
        by_chunk.setdefault(index, []).append(frame)
        plaintexts[index] = plaintexts.get(index, b"") + piece
    assert all(plaintexts[case["index"]].hex() == case["plaintext"] for case in CHUNK["valid"][:3])
    for tail in FRAME["tails"]:
        frames = {index: by_chunk[index][:count] for index, count in tail["frames"]}
        assert tail_of(frames) == (tail["tail_bytes"], bytes.fromhex(tail["tail_hash"]))


@pytest.mark.parametrize("case", FRAME["refused"], ids=names(FRAME["refused"]))
def test_frames_are_refused(case: Any) -> None:
    with pytest.raises(Refused, match=f"^{case['reason']}$"):
        open_frame(SECRET, SESSION, case["index"], case["number"], bytes.fromhex(case["frame"]))


def test_checkpoints_follow_each_other() -> None:
    series = [bytes.fromhex(case["signed"]) for case in CHECKPOINT["series"]]
    accepted = check_series(series, unhex(CHECKPOINT["chunk_ids"]), CHECKPOINT)
    for fields, case in zip(accepted, CHECKPOINT["series"], strict=True):
        tail = FRAME["tails"][case["tail"]]
        assert fields.get(3, 0) == case["chunk_count"]
        assert (fields.get(5, 0), fields[6].hex()) == (tail["tail_bytes"], tail["tail_hash"])


@pytest.mark.parametrize("case", CHECKPOINT["refused"], ids=names(CHECKPOINT["refused"]))
def test_checkpoints_are_refused(case: Any) -> None:
    with pytest.raises(Refused, match=f"^{case['reason']}$"):
        check_series(unhex(case["series"]), unhex(case["chunk_ids"]), CHECKPOINT)


@pytest.mark.parametrize("case", METADATA["valid"], ids=["metadata", "ending"])
def test_metadata_and_ending_open(case: Any) -> None:
    encrypted = bytes.fromhex(case["encrypted"])
    assert open_message(SECRET, case["label"], SESSION, encrypted).hex() == case["message"]
    assert (len(encrypted) - 24 - 16) % 256 == 0
    assert hash_of(encrypted).hex() == case["hash"]


@pytest.mark.parametrize("case", METADATA["refused"], ids=names(METADATA["refused"]))
def test_metadata_is_refused(case: Any) -> None:
    with pytest.raises(Refused, match=f"^{case['reason']}$"):
        open_message(SECRET, "lucid metadata", SESSION, build_message(case))


@pytest.mark.parametrize("vectors", [POLICY, MANIFEST], ids=["policy", "manifest"])
def test_documents_are_signed(vectors: Any) -> None:
    network, device = bytes.fromhex(vectors["network_id"]), bytes.fromhex(vectors["device"])
    signed, domain, fork = bytes.fromhex(vectors["signed"]), vectors["domain"], vectors["fork_version"]
    document = open_signed(signed, domain, network, fork, device)
    assert document.decode() == vectors["document"]
    assert hash_of(document).hex() == vectors["hash"]


@pytest.mark.parametrize("case", POLICY["refused"], ids=names(POLICY["refused"]))
def test_policies_are_refused(case: Any) -> None:
    with pytest.raises(Refused, match=f"^{case['reason']}$"):
        open_policy(build_document(case))


@pytest.mark.parametrize("case", MANIFEST["refused"], ids=names(MANIFEST["refused"]))
def test_manifests_are_refused(case: Any) -> None:
    with pytest.raises(Refused, match=f"^{case['reason']}$"):
        open_manifest(build_document(case))


def test_the_manifest_tells_of_the_session() -> None:
    """All the vectors together are one session, and verify as one."""
    manifest = open_manifest(MANIFEST["document"].encode())
    policy = open_policy(POLICY["document"].encode())
    ids = [chunk_id_of(root_of(chunk_leaves(blob)), len(blob)) for blob in list(BLOBS.values())[:4]]
    flags = [
        open_chunk(SECRET, SESSION, index, blob)[1] for index, blob in enumerate(list(BLOBS.values())[:4])
    ]
    last = CHECKPOINT["series"][-1]
    assert manifest["session_id"] == policy["session_id"] == SESSION.hex()
    assert manifest["participants"]["device"] == CHECKPOINT["device"]
    assert manifest["chunk_count"] == len(ids) == last["chunk_count"]
    assert manifest["root"] == root_of([leaf_hash(chunk) for chunk in ids]).hex()
    assert manifest["gaps"] == [index for index, flag in enumerate(flags) if flag & 2]
    assert [flag & 1 for flag in flags] == [0, 0, 0, 1]
    assert manifest["policy_hash"] == POLICY["hash"]
    assert [manifest["metadata_hash"], manifest["ending_hash"]] == [
        case["hash"] for case in METADATA["valid"]
    ]
    assert manifest["checkpoint_hash"] == last["hash"]
    assert manifest["checkpoint_count"] == len(CHECKPOINT["series"])
    session_key, _ = bindings.crypto_sign_seed_keypair(hkdf(SECRET, "lucid session", SESSION))
    assert manifest["participants"]["session"] == session_key.hex()


def test_it_shares_no_code_with_the_project() -> None:
    tree = ast.parse(Path(second_implementation.__file__).read_text())
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    ours = {"kernel", "session", "storage", "node", "lucid", "tests", ""}
    assert {name.partition(".")[0] for name in names} & ours == set()
