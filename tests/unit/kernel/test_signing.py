from collections.abc import Callable
from typing import Any

import pytest

from kernel.domains import NETWORKS, Domain, Network
from kernel.errors import InvalidRecord, Reason
from kernel.signing import SigningKey, compute_digest, is_signature, verify_signed
from lucid.v1 import identity_pb2

DEV = NETWORKS["dev"]
OTHER_ID = Network("other", bytes(32))
OTHER_FORK = Network("dev", DEV.id, 1)
KEY = SigningKey.from_seed(bytes(range(32)))
OTHER_KEY = SigningKey.from_seed(bytes(32))


def refuse(signed: identity_pb2.Signed, reason: Reason, signer: bytes | None = None) -> None:
    with pytest.raises(InvalidRecord) as caught:
        verify_signed(signed, Domain.POLICY, DEV, signer=signer)
    assert caught.value.reason is reason


def test_vectors(load_vectors: Callable[[str], Any]) -> None:
    vectors = load_vectors("signing")
    assert {name: (n["id"], n["fork_version"]) for name, n in vectors["networks"].items()} == {
        name: (network.id.hex(), network.fork_version) for name, network in NETWORKS.items()
    }
    assert {case["domain"] for case in vectors["cases"]} == set(Domain)
    for case in vectors["cases"]:
        network = Network("vector", bytes.fromhex(case["network_id"]), case["fork_version"])
        domain, payload = Domain(case["domain"]), bytes.fromhex(case["payload"])
        key = SigningKey.from_seed(bytes.fromhex(case["seed"]))
        assert key.public_key.hex() == case["public_key"]
        assert compute_digest(domain, network, payload).hex() == case["digest"]
        signed = identity_pb2.Signed.FromString(bytes.fromhex(case["signed"]))
        assert signed == key.sign(domain, network, payload)
        assert signed.signature.hex() == case["signature"]
        assert verify_signed(signed, domain, network, signer=key.public_key) == payload


def test_domain_network_fork_and_payload_all_count() -> None:
    signed = KEY.sign(Domain.POLICY, DEV, b"payload")
    assert verify_signed(signed, Domain.POLICY, DEV) == b"payload"
    wrong: list[tuple[Domain, Network]] = [(d, DEV) for d in Domain if d is not Domain.POLICY]
    wrong += [(Domain.POLICY, OTHER_ID), (Domain.POLICY, OTHER_FORK)]
    for domain, network in wrong:
        with pytest.raises(InvalidRecord) as caught:
            verify_signed(signed, domain, network)
        assert caught.value.reason is Reason.BAD_SIGNATURE
    signed.payload = b"payloae"
    refuse(signed, Reason.BAD_SIGNATURE)


def test_a_domain_and_payload_cannot_shift_into_each_other() -> None:
    digests = {compute_digest(domain, DEV, payload) for domain in Domain for payload in (b"", b"a", b"aa")}
    assert len(digests) == 3 * len(Domain)


def test_any_flipped_bit_of_signature_or_key_is_refused() -> None:
    for field in ("signature", "public_key"):
        good = KEY.sign(Domain.POLICY, DEV, b"payload")
        for bit in range(8 * len(getattr(good, field))):
            flipped = bytearray(getattr(good, field))
            flipped[bit // 8] ^= 1 << bit % 8
            bad = identity_pb2.Signed()
            bad.CopyFrom(good)
            setattr(bad, field, bytes(flipped))
            refuse(bad, Reason.BAD_SIGNATURE)


@pytest.mark.parametrize(
    ("key_bytes", "signature_bytes"), [(0, 64), (31, 64), (33, 64), (32, 0), (32, 63), (32, 65)]
)
def test_impossible_lengths_never_reach_the_library(key_bytes: int, signature_bytes: int) -> None:
    refuse(
        identity_pb2.Signed(payload=b"p", public_key=bytes(key_bytes), signature=bytes(signature_bytes)),
        Reason.MALFORMED,
    )


def test_a_good_signature_by_somebody_else_is_refused() -> None:
    signed = OTHER_KEY.sign(Domain.POLICY, DEV, b"payload")
    refuse(signed, Reason.WRONG_SIGNER, signer=KEY.public_key)
    signed.public_key = KEY.public_key
    refuse(signed, Reason.BAD_SIGNATURE, signer=KEY.public_key)


def test_the_key_that_verifies_everything_is_refused() -> None:
    """A = R = neutral element, S = 0 satisfies the equation for every message in careless libraries."""
    neutral = bytes([1]) + bytes(31)
    refuse(
        identity_pb2.Signed(payload=b"p", public_key=neutral, signature=neutral + bytes(32)),
        Reason.BAD_SIGNATURE,
    )


@pytest.mark.parametrize("size", [0, 31, 33, 64])
def test_a_seed_of_another_length_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="seed"):
        SigningKey.from_seed(bytes(size))


def test_text_forms_hold_no_secret() -> None:
    seed = bytes(range(32))
    for text in (repr(KEY), str(KEY), f"{KEY}"):
        assert KEY.public_key.hex() in text
        assert seed.hex() not in text and repr(seed) not in text


def test_a_foreign_message_is_never_a_digest() -> None:
    message = b"libp2p-peer-record and more"
    signature = KEY.sign_foreign(message)
    assert is_signature(message, KEY.public_key, signature)
    assert not is_signature(message + b"x", KEY.public_key, signature)
    assert not is_signature(message, OTHER_KEY.public_key, signature)
    with pytest.raises(ValueError, match="digest"):
        KEY.sign_foreign(bytes(32))
