from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.hashes import BLAKE2b
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from kernel.domains import Label
from kernel.kdf import MAX_BYTES, derive

SECRET = bytes(range(32))


def derive_by_another_implementation(secret: bytes, label: str, context: bytes, size_bytes: int) -> bytes:
    info = bytes([len(label)]) + label.encode() + context
    return HKDF(algorithm=BLAKE2b(64), length=size_bytes, salt=b"", info=info).derive(secret)


def test_vectors(load_vectors: Callable[[str], Any]) -> None:
    cases = load_vectors("kdf")["cases"]
    assert {case["label"] for case in cases} == set(Label)
    for case in cases:
        secret, context = bytes.fromhex(case["secret"]), bytes.fromhex(case["context"])
        output = derive(secret, Label(case["label"]), context, size_bytes=case["size_bytes"])
        assert output.hex() == case["output"]


@pytest.mark.parametrize("size_bytes", [1, 31, 32, 63, 64, 65, 128, 1000, MAX_BYTES])
@pytest.mark.parametrize("context", [b"", b"c", bytes(200)])
def test_it_is_hkdf(size_bytes: int, context: bytes) -> None:
    for label in (Label.OWNER, Label.CHUNK_COMMITMENT):
        expected = derive_by_another_implementation(SECRET, label.value, context, size_bytes)
        assert derive(SECRET, label, context, size_bytes=size_bytes) == expected


@pytest.mark.parametrize("secret", [b"", bytes(1), bytes(128), bytes(129), bytes(1000)])
def test_it_is_hkdf_for_secrets_of_any_length(secret: bytes) -> None:
    expected = derive_by_another_implementation(secret, Label.VRF.value, b"", 32)
    assert derive(secret, Label.VRF) == expected


def test_uses_do_not_share_keys() -> None:
    keys = [derive(SECRET, label) for label in Label]
    keys += [derive(SECRET, Label.SEAL, index.to_bytes(4, "big")) for index in range(10)]
    keys += [derive(bytes(32), Label.SEAL)]
    assert len(set(keys)) == len(keys)


def test_context_parts_are_concatenated() -> None:
    assert derive(SECRET, Label.CHUNK, b"ab", b"c") == derive(SECRET, Label.CHUNK, b"abc")


@pytest.mark.parametrize("size_bytes", [-1, 0, MAX_BYTES + 1])
def test_an_impossible_size_is_refused(size_bytes: int) -> None:
    with pytest.raises(ValueError, match="HKDF"):
        derive(SECRET, Label.CHUNK, size_bytes=size_bytes)
