"""Checkpoints: each follows the one before, over the chunks that were signed."""

from dataclasses import dataclass, field

import pytest

from kernel.checkpoint import compute_checkpoint_hash, decode_checkpoint
from kernel.domains import NETWORKS, Domain
from kernel.errors import InvalidRecord, Reason
from kernel.signing import SigningKey
from lucid.v1 import session_pb2
from lucid.v1.identity_pb2 import Signed
from session.checkpoint import CheckpointSeries, compute_tail_hash
from session.merkle_builder import build_session_tree

NETWORK = NETWORKS["dev"]
DEVICE = SigningKey.from_seed(bytes(32))
SESSION = bytes(range(16))
CHUNKS = [bytes([i]) * 32 for i in range(1, 8)]


@dataclass
class Signer:
    """Signs checkpoints, honest by default."""

    previous: bytes = b""
    sequence: int = 0
    signed: list[Signed] = field(default_factory=list)

    def sign(self, count: int, **lie: object) -> Signed:
        fields: dict[str, object] = {
            "session_id": SESSION,
            "sequence": self.sequence,
            "chunk_count": count,
            "root": build_session_tree(CHUNKS[:count]).root(),
            "tail_hash": compute_tail_hash([]),
            "time_ns": 1,
            "previous": self.previous,
        }
        payload = session_pb2.Checkpoint(**{**fields, **lie}).SerializeToString()  # type: ignore[arg-type]
        signed = DEVICE.sign(Domain.CHECKPOINT, NETWORK, payload)
        self.previous, self.sequence = compute_checkpoint_hash(payload), self.sequence + 1
        self.signed.append(signed)
        return signed


def series() -> CheckpointSeries:
    return CheckpointSeries(SESSION, NETWORK, DEVICE.public_key)


def refused(checkpoints: list[Signed], chunk_ids: list[bytes]) -> Reason:
    checker = series()
    with pytest.raises(InvalidRecord) as caught:
        for signed in checkpoints:
            checker.add(signed, chunk_ids)
    return caught.value.reason


def test_an_honest_series_is_accepted() -> None:
    signer, checker = Signer(), series()
    for count in (0, 1, 1, 4, 7):
        assert checker.add(signer.sign(count), CHUNKS).chunk_count == count


def test_a_missing_repeated_or_reordered_checkpoint_is_caught() -> None:
    signer = Signer()
    first, second, third = (signer.sign(count) for count in (1, 2, 3))
    for liar in ([first, third], [second], [first, first], [first, third, second]):
        assert refused(liar, CHUNKS) == Reason.NOT_CONSISTENT


def test_a_fork_is_caught() -> None:
    signer = Signer()
    first = signer.sign(1)
    other = Signer(sequence=1, previous=compute_checkpoint_hash(b"another"))
    assert refused([first, other.sign(2)], CHUNKS) == Reason.NOT_CONSISTENT


def test_other_chunks_than_signed_are_caught() -> None:
    signed = Signer().sign(4)
    swapped = [CHUNKS[1], CHUNKS[0], *CHUNKS[2:]]
    assert refused([signed], swapped) == Reason.NOT_CONSISTENT
    assert refused([signed], CHUNKS[:3]) == Reason.NOT_CONSISTENT
    assert refused([signed], [*CHUNKS[:3], b"x" * 32]) == Reason.NOT_CONSISTENT


def test_a_shrinking_count_is_caught() -> None:
    signer = Signer()
    assert refused([signer.sign(4), signer.sign(3)], CHUNKS) == Reason.NOT_CONSISTENT


def test_another_signer_session_or_form_is_caught() -> None:
    stranger = SigningKey.from_seed(b"x" * 32)
    payload = Signer().sign(1).payload
    assert refused([stranger.sign(Domain.CHECKPOINT, NETWORK, payload)], CHUNKS) == Reason.WRONG_SIGNER
    assert refused([DEVICE.sign(Domain.POLICY, NETWORK, payload)], CHUNKS) == Reason.BAD_SIGNATURE
    assert refused([Signer().sign(1, session_id=bytes(16))], CHUNKS) == Reason.WRONG_SESSION
    assert refused([Signer().sign(1, root=b"short")], CHUNKS) == Reason.MALFORMED
    assert refused([DEVICE.sign(Domain.CHECKPOINT, NETWORK, b"\xff\xff")], CHUNKS) == Reason.MALFORMED


def test_any_flipped_bit_of_a_checkpoint_is_caught() -> None:
    signed = Signer().sign(1)
    for place in range(len(signed.payload) * 8):
        payload = bytearray(signed.payload)
        payload[place // 8] ^= 1 << place % 8
        flipped = Signed(payload=bytes(payload), public_key=signed.public_key, signature=signed.signature)
        with pytest.raises(InvalidRecord):
            decode_checkpoint(flipped, NETWORK, DEVICE.public_key, SESSION)


def test_tail_hash_tells_order_lengths_and_chunks_apart() -> None:
    digest = b"d" * 32
    assert (
        len(
            {
                compute_tail_hash(tail)
                for tail in (
                    [],
                    [(0, 1, digest)],
                    [(1, 1, digest)],
                    [(0, 2, digest)],
                    [(0, 1, digest), (1, 1, digest)],
                )
            }
        )
        == 5
    )
