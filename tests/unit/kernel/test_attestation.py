"""Attestations name one checkpoint of one session, and who signed."""

import pytest

from kernel.attestation import MAX_ATTESTATION_BYTES, sign_attestation, verify_attestation
from kernel.checkpoint import compute_checkpoint_hash
from kernel.domains import NETWORKS, Domain, Network
from kernel.errors import InvalidRecord, Reason
from kernel.signing import SigningKey
from lucid.v1.identity_pb2 import Signed
from lucid.v1.witness_pb2 import Attestation

NETWORK = NETWORKS["dev"]
WITNESS = SigningKey.from_seed(b"w" * 32)
SESSION = bytes(range(16))
CHECKPOINT = Signed(payload=b"a checkpoint")
HASH = compute_checkpoint_hash(CHECKPOINT.payload)


def make() -> Signed:
    return sign_attestation(WITNESS, NETWORK, CHECKPOINT, SESSION, 99)


def refusal(
    signed: Signed,
    *,
    network: Network = NETWORK,
    session_id: bytes = SESSION,
    checkpoint_hash: bytes = HASH,
    witness: bytes | None = None,
) -> Reason:
    with pytest.raises(InvalidRecord) as caught:
        verify_attestation(
            signed, network, session_id=session_id, checkpoint_hash=checkpoint_hash, witness=witness
        )
    return caught.value.reason


def sign(payload: bytes, domain: Domain = Domain.ATTESTATION) -> Signed:
    return WITNESS.sign(domain, NETWORK, payload)


def test_what_was_signed_is_read() -> None:
    attestation = verify_attestation(
        make(), NETWORK, session_id=SESSION, checkpoint_hash=HASH, witness=WITNESS.public_key
    )
    assert attestation == Attestation(checkpoint_hash=HASH, time_ns=99, session_id=SESSION)


def test_another_checkpoint_session_network_or_witness_is_refused() -> None:
    assert refusal(make(), checkpoint_hash=bytes(32)) is Reason.WRONG_HASH
    assert refusal(make(), session_id=bytes(16)) is Reason.WRONG_SESSION
    assert refusal(make(), witness=b"x" * 32) is Reason.WRONG_SIGNER
    assert refusal(make(), network=Network("other", bytes(32))) is Reason.BAD_SIGNATURE


def test_what_was_signed_for_another_purpose_is_refused() -> None:
    assert refusal(sign(make().payload, Domain.CHECKPOINT)) is Reason.BAD_SIGNATURE


def test_malformed_ones_are_refused() -> None:
    assert refusal(sign(bytes(MAX_ATTESTATION_BYTES + 1))) is Reason.TOO_LARGE
    assert refusal(sign(b"\xff")) is Reason.MALFORMED
    short = Attestation(checkpoint_hash=HASH[:31], session_id=SESSION).SerializeToString()
    assert refusal(sign(short)) is Reason.MALFORMED
    short = Attestation(checkpoint_hash=HASH, session_id=SESSION[:15]).SerializeToString()
    assert refusal(sign(short)) is Reason.MALFORMED


def test_every_flipped_bit_is_found() -> None:
    encoded = make().SerializeToString()
    for position in range(len(encoded) * 8):
        flipped = bytearray(encoded)
        flipped[position // 8] ^= 1 << position % 8
        try:
            signed = Signed.FromString(bytes(flipped))
        except Exception:
            continue
        with pytest.raises(InvalidRecord):
            verify_attestation(
                signed, NETWORK, session_id=SESSION, checkpoint_hash=HASH, witness=WITNESS.public_key
            )
