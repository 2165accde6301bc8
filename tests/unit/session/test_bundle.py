"""Proof bundles: what holds is told, what was changed is refused, and nothing more is claimed."""

import ast
import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kernel.chunk_id import compute_blob_id, compute_chunk_leaves
from kernel.domains import Domain
from kernel.errors import InvalidRecord, Reason
from kernel.grants import sign_grant_list
from kernel.merkle import compute_inclusion_proof, compute_leaf, compute_root
from kernel.signing import SigningKey
from lucid.v1 import identity_pb2, session_pb2
from session.bundle import MAX_BUNDLE_BYTES, ChunkProof, Leaf, decode_bundle, encode_bundle
from session.bundle_verifier import BundleReport, is_chunk, verify_bundle
from session.bundle_words import describe_proven, describe_unproven, describe_verdict
from session.encryptor import ChunkFlag, encrypt_chunk
from tests.unit.session import second_bundle_reader
from tests.unit.session.second_bundle_reader import open_bundle
from tests.unit.session.second_implementation import Refused
from tests.vectors.session_bundle_vectors import make_bundle, make_running, show, sign_grants
from tests.vectors.session_document_vectors import DEVICE, NETWORK, OWNER, make_manifest
from tests.vectors.witness_vectors import SEEN_NS, WITNESSES

VECTORS: Any = json.loads((Path(__file__).parents[2] / "vectors" / "bundle.json").read_text())
CHUNKS: Any = json.loads((Path(__file__).parents[2] / "vectors" / "chunk.json").read_text())
VALID = {case["name"]: bytes.fromhex(case["bundle"]) for case in VECTORS["valid"]}
WITNESS_KEYS = [witness.public_key for witness in WITNESSES]


def names(cases: Any) -> list[str]:
    return [case["name"] for case in cases]


def refuse(data: bytes, *trusted: bytes) -> Reason:
    with pytest.raises(InvalidRecord) as caught:
        verify_bundle(data, trusted)
    return caught.value.reason


@pytest.mark.parametrize("case", VECTORS["valid"], ids=names(VECTORS["valid"]))
def test_valid_ones_hold(case: Any) -> None:
    report = verify_bundle(bytes.fromhex(case["bundle"]))
    assert report.session_id.hex() == VECTORS["session_id"]
    assert report.owner.hex() == VECTORS["owner"]
    assert report.device.hex() == VECTORS["device"]
    assert (report.manifest is not None) == case["complete"]
    assert (report.chunk.index if report.chunk else None) == case.get("chunk")
    plaintext = report.chunk.plaintext if report.chunk else None
    assert (plaintext.hex() if plaintext is not None else None) == case.get("plaintext")
    assert len(report.attested) == (3 if case["complete"] else 0)


@pytest.mark.parametrize("case", VECTORS["valid"], ids=names(VECTORS["valid"]))
def test_a_second_reader_agrees(case: Any) -> None:
    told = open_bundle(bytes.fromhex(case["bundle"]))
    report = verify_bundle(bytes.fromhex(case["bundle"]))
    assert (told["owner"], told["device"]) == (report.owner, report.device)
    assert told["witnesses"] == {one.witness: one.time_ns for one in report.attested}
    assert told.get("plaintext", b"").hex() == case.get("plaintext", "")


def test_the_second_reader_shares_no_code() -> None:
    tree = ast.parse(Path(second_bundle_reader.__file__).read_text())
    modules = {
        node.module or "" if isinstance(node, ast.ImportFrom) else node.names[0].name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert modules == {"struct", "typing", "tests.unit.session.second_implementation"}


@pytest.mark.parametrize("case", VECTORS["refused"], ids=names(VECTORS["refused"]))
def test_refused_ones_are_refused(case: Any) -> None:
    data = bytes.fromhex(case["bundle"])
    assert refuse(data) is Reason[case["reason"]]
    with pytest.raises((Refused, UnicodeDecodeError)):
        open_bundle(data)


def test_they_encode_to_what_they_were() -> None:
    for data in VALID.values():
        assert encode_bundle(decode_bundle(data)) == data


# Nothing in a bundle can be changed.


def test_every_flipped_bit_of_a_small_one_is_found() -> None:
    data = VALID["running, unattested"]
    for position in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[position // 8] ^= 1 << position % 8
        refuse(bytes(flipped))


@pytest.mark.parametrize("name", sorted(VALID))
def test_changed_ones_are_refused(name: str) -> None:
    data, rng = VALID[name], random.Random(name)
    for _ in range(300):
        flipped = bytearray(data)
        flipped[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        refuse(bytes(flipped))
    for _ in range(50):
        refuse(data[: rng.randrange(len(data))])
    for _ in range(50):
        at, size = rng.randrange(len(data)), rng.randrange(1, 200)
        refuse(data[:at] + rng.randbytes(size) + data[at:])
        if cut := data[:at] + data[at + size :]:
            refuse(cut)


def test_parts_of_two_bundles_do_not_mix() -> None:
    whole, running = make_bundle(show(1)), make_running()
    assert refuse(encode_bundle(replace(running, chunk=make_bundle(show(3)).chunk))) is Reason.WRONG_HASH
    assert refuse(encode_bundle(replace(running, manifest=whole.manifest))) is Reason.NOT_CONSISTENT
    assert refuse(encode_bundle(replace(running, attestations=whole.attestations))) is Reason.WRONG_HASH


def test_what_is_too_large_is_refused_unread() -> None:
    assert refuse(bytes(MAX_BUNDLE_BYTES + 1)) is Reason.TOO_LARGE


def test_paths_have_a_bound() -> None:
    bundle = make_bundle(show(2))
    assert bundle.chunk is not None
    long = replace(bundle, chunk=replace(bundle.chunk, path=(bytes(32),) * 65))
    assert refuse(encode_bundle(long)) is Reason.MALFORMED


def test_a_revealed_chunk_needs_its_key() -> None:
    bundle = make_bundle(show(1, reveal=True))
    assert bundle.chunk is not None
    assert refuse(encode_bundle(replace(bundle, chunk=replace(bundle.chunk, key=b"k")))) is Reason.MALFORMED
    flipped = bytes([bundle.chunk.blob[0] ^ 1]) + bundle.chunk.blob[1:]  # type: ignore[index]
    changed = replace(bundle.chunk, blob=flipped)
    assert refuse(encode_bundle(replace(bundle, chunk=changed))) is Reason.WRONG_HASH


def test_an_impossible_size_is_refused() -> None:
    bundle = make_bundle(show(2))
    assert bundle.chunk is not None
    for size in (0, 83, 1 << 40):
        wrong = replace(bundle, chunk=replace(bundle.chunk, size_bytes=size))
        assert refuse(encode_bundle(wrong)) is Reason.MALFORMED


def test_a_chunk_of_another_session_is_refused() -> None:
    """The device may sign a root over whatever it likes; the header tells whose chunk it is."""
    for session_id, index, reason in ((bytes(16), 0, Reason.WRONG_SESSION), (None, 5, Reason.WRONG_INDEX)):
        bundle = make_running()
        whose = session_id or bundle.session_id
        sealed = encrypt_chunk(bytes(32), whose, index, ChunkFlag(0), bytes(24), b"other")
        blob = sealed.header + sealed.ciphertext
        leaves = compute_chunk_leaves(blob)
        checkpoint = session_pb2.Checkpoint.FromString(bundle.checkpoint.payload)
        checkpoint.chunk_count, checkpoint.root = 1, compute_leaf(compute_blob_id(blob))
        head = Leaf(blob[:4096], tuple(compute_inclusion_proof(leaves, 0)))
        forged = replace(
            bundle,
            checkpoint=DEVICE.sign(Domain.CHECKPOINT, NETWORK, checkpoint.SerializeToString()),
            chunk=ChunkProof(0, len(blob), compute_root(leaves), (), head),
        )
        assert refuse(encode_bundle(forged)) is reason


def test_a_manifest_of_another_owner_is_refused() -> None:
    stranger = SigningKey.from_seed(b"s" * 32)
    document = make_manifest().replace(VECTORS["owner"].encode(), stranger.public_key.hex().encode())
    bundle = replace(make_bundle(), manifest=DEVICE.sign(Domain.MANIFEST, NETWORK, document))
    assert refuse(encode_bundle(bundle)) is Reason.NOT_CONSISTENT


def test_a_grant_list_without_the_role_is_refused() -> None:
    grant = identity_pb2.Grant(device=DEVICE.public_key, roles=[identity_pb2.ROLE_READ])
    reader = sign_grant_list(OWNER, NETWORK, 1, [grant], 0, bytes(32))
    assert refuse(encode_bundle(replace(make_bundle(), grants=reader))) is Reason.WRONG_SIGNER
    assert verify_bundle(encode_bundle(replace(make_bundle(), grants=sign_grants()))).grants_sequence == 3


# Witnesses.


def test_named_witnesses_must_have_attested() -> None:
    data = VALID["complete"]
    report = verify_bundle(data, WITNESS_KEYS[:2])
    assert report.trusted_times == [SEEN_NS, SEEN_NS + 10**9]
    assert [one.witness for one in report.attested if not one.trusted] == [WITNESS_KEYS[2]]
    stranger = SigningKey.from_seed(b"s" * 32).public_key
    assert refuse(data, WITNESS_KEYS[0], stranger) is Reason.WRONG_SIGNER
    assert refuse(VALID["running, unattested"], WITNESS_KEYS[0]) is Reason.WRONG_SIGNER


# What is said.


def say(report: BundleReport) -> tuple[str, str]:
    return " ".join(describe_proven(report)), " ".join(describe_unproven(report))


def test_without_trusted_witnesses_it_says_so() -> None:
    for name, seen in (("complete", True), ("running, unattested", False)):
        report = verify_bundle(VALID[name])
        proven, unproven = say(report)
        assert describe_verdict(report) == "consistent, unattested"
        assert "not later" not in proven
        assert "may have made all of it today" in unproven
        assert ("3 nodes have co-signed" in unproven) == seen


def test_with_trusted_witnesses_it_gives_bounds() -> None:
    report = verify_bundle(VALID["complete"], WITNESS_KEYS)
    proven, unproven = say(report)
    assert describe_verdict(report) == "consistent, attested by 3 trusted witnesses"
    assert "11:07:10 UTC if all 3" in proven
    assert "11:07:11 UTC if more than half" in proven
    assert "11:07:12 UTC if any" in proven
    assert "today" not in unproven
    alone = verify_bundle(VALID["complete"], WITNESS_KEYS[:1])
    assert describe_verdict(alone) == "consistent, attested by 1 trusted witness"
    assert "if the witness is honest" in say(alone)[0]


def test_more_than_half_of_two_are_both() -> None:
    report = verify_bundle(VALID["complete"], WITNESS_KEYS[:2])
    proven, _ = say(report)
    assert "more than half" not in proven
    assert "11:07:10 UTC if all 2" in proven
    assert "11:07:11 UTC if any" in proven


def test_only_what_is_shown_is_claimed() -> None:
    proven, unproven = say(verify_bundle(VALID["complete"]))
    assert "complete, with gaps before the chunks 2" in proven
    assert "no key is enclosed" in unproven
    proven, unproven = say(verify_bundle(VALID["running, unattested"]))
    assert "so far" in proven
    assert "was not complete" in unproven
    proven, unproven = say(verify_bundle(VALID["the header of a chunk"]))
    assert "marked gap, timed" in proven
    assert "encrypted bytes" not in proven
    proven, unproven = say(verify_bundle(VALID["the last leaf of a chunk"]))
    assert "encrypted bytes 16384 to 17507" in proven
    proven, unproven = say(verify_bundle(VALID["a revealed chunk"]))
    assert "opens to 17000 bytes" in proven
    assert "no key" not in unproven
    for data in VALID.values():
        assert "genuine" in say(verify_bundle(data))[1]
        assert "device's own claim" in say(verify_bundle(data))[1]


def test_a_stored_chunk_is_recognised() -> None:
    chunk = verify_bundle(VALID["the header of a chunk"]).chunk
    assert chunk is not None
    blob = bytes.fromhex(CHUNKS["valid"][2]["blob"])
    assert is_chunk(blob, chunk)
    assert not is_chunk(blob[:-1], chunk)
    assert not is_chunk(blob[:-1] + bytes([blob[-1] ^ 1]), chunk)
