"""The libraries compute what the standards say. Sources: tests/vectors/FORMAT.md."""

from collections.abc import Callable
from typing import Any

import pytest
from blake3 import blake3
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from nacl import bindings
from nacl.exceptions import BadSignatureError

from kernel.sealing import compute_x25519_public

Load = Callable[[str], Any]


def test_blake3(load_vectors: Load) -> None:
    for case in load_vectors("blake3")["cases"]:
        data = bytes(position % 251 for position in range(case["input_len"]))
        assert blake3(data).hexdigest() == case["hash"]


def test_ed25519_of_rfc_8032(load_vectors: Load) -> None:
    for case in load_vectors("ed25519")["rfc8032"]:
        message, signature = bytes.fromhex(case["message"]), bytes.fromhex(case["signature"])
        public_key, private = bindings.crypto_sign_seed_keypair(bytes.fromhex(case["seed"]))
        assert public_key.hex() == case["public_key"]
        assert bindings.crypto_sign(message, private) == signature + message
        assert bindings.crypto_sign_open(signature + message, public_key) == message


def test_ed25519_edge_cases_on_which_libraries_differ(load_vectors: Load) -> None:
    cases = load_vectors("ed25519")["edge_cases"]
    assert [case["valid"] for case in cases].count(True) == 1
    for case in cases:
        signed = bytes.fromhex(case["signature"] + case["message"])
        try:
            bindings.crypto_sign_open(signed, bytes.fromhex(case["public_key"]))
            valid = True
        except BadSignatureError:
            valid = False
        assert valid == case["valid"], case["comment"]


def test_x25519_of_rfc_7748(load_vectors: Load) -> None:
    vectors = load_vectors("x25519")
    for case in vectors["cases"]:
        output = bindings.crypto_scalarmult(bytes.fromhex(case["scalar"]), bytes.fromhex(case["u"]))
        assert output.hex() == case["output"]
    scalar = u = bytes([9]) + bytes(31)
    for step in range(1, 1001):
        scalar, u = bindings.crypto_scalarmult(scalar, u), scalar
        if str(step) in vectors["iterated"]:
            assert scalar.hex() == vectors["iterated"][str(step)]


def test_argon2id_agrees_with_an_implementation_that_passes_rfc_9106(load_vectors: Load) -> None:
    vectors = load_vectors("argon2id")
    official = vectors["rfc9106"]
    other = Argon2id(
        salt=bytes.fromhex(official["salt"]),
        length=32,
        iterations=official["passes"],
        lanes=official["lanes"],
        memory_cost=official["memory_kib"],
        ad=bytes.fromhex(official["associated"]),
        secret=bytes.fromhex(official["secret"]),
    )
    assert other.derive(bytes.fromhex(official["password"])).hex() == official["output"]
    for case in vectors["cases"]:
        password, salt = bytes.fromhex(case["password"]), bytes.fromhex(case["salt"])
        passes, memory_kib = case["passes"], case["memory_kib"]
        other = Argon2id(salt=salt, length=32, iterations=passes, lanes=1, memory_cost=memory_kib)
        ours = bindings.crypto_pwhash_alg(
            32, password, salt, passes, memory_kib << 10, bindings.crypto_pwhash_ALG_ARGON2ID13
        )
        assert ours.hex() == other.derive(password).hex() == case["output"]


@pytest.mark.parametrize("size", [0, 31, 33])
def test_the_library_itself_does_not_check_x25519_sizes_so_we_do(size: int) -> None:
    with pytest.raises(ValueError, match="X25519"):
        compute_x25519_public(bytes(size))
