"""Objects, stretches and the content of heads: vectors by a second way, and what must be refused."""

import json
from pathlib import Path
from typing import Any

import pytest
from nacl import bindings

from dht.fact_copies import STRETCH_BYTES, cut_stretches, decode_facts, encode_facts
from dht.head_content import open_content
from dht.objects import MAX_PARTS, PART_BYTES, check_reference, count_parts, open_object, seal_object
from kernel.chunk_id import compute_blob_id
from kernel.errors import InvalidRecord, Reason
from kernel.padding import compute_padded_bytes
from kernel.sealing import compute_x25519_public
from lucid.v1 import chunk_pb2, head_pb2
from tests.vectors import make_head_vectors

VECTORS = Path(__file__).parents[2] / "vectors"
OBJECT: Any = json.loads((VECTORS / "object.json").read_text())
HEAD: Any = json.loads((VECTORS / "head_content.json").read_text())
KEY, NONCE = b"k" * 32, b"n" * 24


def test_the_files_are_what_the_script_writes() -> None:
    for name, build in make_head_vectors.BUILDERS.items():
        assert (VECTORS / name).read_text() == make_head_vectors.render(build())


@pytest.mark.parametrize("case", OBJECT["valid"], ids=lambda case: case["name"])
def test_object_vectors_by_hand(case: Any) -> None:
    key, content = bytes.fromhex(case["key"]), bytes.fromhex(case["content"])
    inner = len(content).to_bytes(8, "big") + content
    inner = inner.ljust(compute_padded_bytes(len(inner)), b"\0")
    [blob], [nonce] = map(bytes.fromhex, case["blobs"]), map(bytes.fromhex, case["nonces"])
    associated = (0).to_bytes(4, "big") + (1).to_bytes(4, "big")
    expected = bindings.crypto_aead_xchacha20poly1305_ietf_encrypt(inner, associated, nonce, key)
    assert blob == nonce + expected
    reference = chunk_pb2.ObjectRef.FromString(bytes.fromhex(case["reference"]))
    assert reference.key == key and reference.parts[0].chunk_id == compute_blob_id(blob)
    check_reference(reference, len(content))
    assert open_object(reference, [blob]) == content


def test_part_counts() -> None:
    assert [[length, count_parts(length)] for length, _ in OBJECT["parts"]] == OBJECT["parts"]


def make(content: bytes) -> tuple[chunk_pb2.ObjectRef, list[bytes]]:
    nonces = [bytes([number]) * 24 for number in range(count_parts(len(content)))]
    return seal_object(content, KEY, nonces)


def test_parts_open_in_their_own_place_only() -> None:
    content = bytes(range(256)) * (PART_BYTES // 256) + b"more"
    reference, blobs = make(content)
    assert len(blobs) == 2
    check_reference(reference, len(content))
    assert open_object(reference, blobs) == content
    swapped = chunk_pb2.ObjectRef(key=KEY, parts=[reference.parts[0], reference.parts[0]])
    with pytest.raises(InvalidRecord) as caught:
        open_object(swapped, [blobs[0], blobs[0]])
    assert caught.value.reason is Reason.NOT_DECRYPTABLE
    shorter = chunk_pb2.ObjectRef(key=KEY, parts=[reference.parts[0]])
    with pytest.raises(InvalidRecord):
        open_object(shorter, blobs[:1])


def test_blobs_that_are_not_the_object_s_are_refused() -> None:
    reference, [blob] = make(b"content")
    for wrong in (blob[:-1], blob[:-1] + bytes([blob[-1] ^ 1]), b""):
        with pytest.raises(InvalidRecord) as caught:
            open_object(reference, [wrong])
        assert caught.value.reason is Reason.WRONG_HASH


@pytest.mark.parametrize("inner", [(9).to_bytes(8, "big") + bytes(16_000), b"\xff" * 16_384, b"\1" * 16_384])
def test_wrong_lengths_and_padding_are_refused(inner: bytes) -> None:
    associated = bytes(4) + (1).to_bytes(4, "big")
    blob = NONCE + bindings.crypto_aead_xchacha20poly1305_ietf_encrypt(inner, associated, NONCE, KEY)
    reference = chunk_pb2.ObjectRef(key=KEY)
    reference.parts.add(chunk_id=compute_blob_id(blob), size_bytes=len(blob))
    with pytest.raises(InvalidRecord):
        open_object(reference, [blob])


def test_impossible_references_are_refused_before_anything_is_fetched() -> None:
    part = chunk_pb2.ObjectPart(chunk_id=b"c" * 32, size_bytes=16_424)
    whole = chunk_pb2.ObjectPart(chunk_id=b"c" * 32, size_bytes=PART_BYTES + 40)
    check_reference(chunk_pb2.ObjectRef(key=KEY, parts=[whole, part]), 9 << 20)
    for key, parts, most in (
        (b"short", [part], 100),
        (KEY, [], 100),
        (KEY, [whole, part], 100),
        (KEY, [part, whole], 9 << 20),
        (KEY, [part] * (MAX_PARTS + 1), 1 << 40),
        (KEY, [chunk_pb2.ObjectPart(chunk_id=b"c", size_bytes=16_424)], 100),
        (KEY, [chunk_pb2.ObjectPart(chunk_id=b"c" * 32, size_bytes=40)], 100),
    ):
        with pytest.raises(InvalidRecord):
            check_reference(chunk_pb2.ObjectRef(key=key, parts=parts), most)


def test_stretches() -> None:
    facts = [b"a" * (STRETCH_BYTES // 3)] * 7 + [b"", b"b" * (STRETCH_BYTES + 1), b"c"]
    stretches = cut_stretches(facts)
    assert [fact for stretch in stretches for fact in stretch] == facts
    assert all(stretches)
    assert all(len(stretch) == 1 or len(encode_facts(stretch)) <= STRETCH_BYTES for stretch in stretches)
    assert [decode_facts(encode_facts(stretch)) for stretch in stretches] == stretches
    assert cut_stretches([*facts, b"d"])[: len(stretches) - 1] == stretches[:-1], "finished ones never change"
    for torn in (b"\0", encode_facts([b"abc"])[:-1], (1 << 31).to_bytes(4, "big")):
        with pytest.raises(InvalidRecord):
            decode_facts(torn)
    assert (
        OBJECT["stretch"]["content"]
        == encode_facts([bytes.fromhex(fact) for fact in OBJECT["stretch"]["facts"]]).hex()
    )


def make_head(**changes: object) -> chunk_pb2.Head:
    fields: dict[str, Any] = {
        "locator": bytes.fromhex(HEAD["locator"]),
        "device": bytes.fromhex(HEAD["device"]),
        "sequence": HEAD["sequence"],
        "sealed": bytes.fromhex(HEAD["sealed"]),
    }
    return chunk_pb2.Head(**(fields | changes))


def test_head_content_vector() -> None:
    private = bytes.fromhex(HEAD["seal_private"])
    reading = {compute_x25519_public(private): private}
    content = open_content(make_head(), reading)
    assert content.SerializeToString(deterministic=True).hex() == HEAD["content"]
    sealed = head_pb2.SealedContent.FromString(bytes.fromhex(HEAD["sealed"]))
    nonce, key = bytes.fromhex(HEAD["content_nonce"]), bytes.fromhex(HEAD["content_key"])
    head = make_head()
    associated = head.locator + head.device + head.sequence.to_bytes(8, "big")
    assert sealed.encrypted[:24] == nonce
    padded = bindings.crypto_aead_xchacha20poly1305_ietf_decrypt(
        sealed.encrypted[24:], associated, nonce, key
    )
    assert len(padded) % 256 == 0


def test_a_content_opens_for_its_owner_in_its_own_head_only() -> None:
    private = bytes.fromhex(HEAD["seal_private"])
    reading = {compute_x25519_public(private): private}
    other = {compute_x25519_public(b"o" * 32): b"o" * 32}
    for head, keys in (
        (make_head(), other),
        (make_head(sequence=1), reading),
        (make_head(device=b"d" * 32), reading),
        (make_head(locator=b"l" * 32), reading),
        (make_head(sealed=b"\xff"), reading),
        (make_head(sealed=b""), reading),
        (make_head(sealed=bytes.fromhex(HEAD["sealed"])[:-1]), reading),
    ):
        with pytest.raises(InvalidRecord):
            open_content(head, keys)
