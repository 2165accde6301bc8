"""The chunk format: round trips, and everything that must be refused."""

import random
import struct

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from kernel import aead
from kernel.domains import Label
from kernel.errors import InvalidRecord, Reason
from kernel.kdf import derive
from kernel.padding import MIN_PADDED_BYTES, compute_padded_bytes
from session.encryptor import (
    HEADER_BYTES,
    MAX_BLOB_BYTES,
    OVERHEAD_BYTES,
    ChunkFlag,
    ChunkHeader,
    decode_header,
    decrypt_chunk,
    encrypt_chunk,
    pack,
    unpack,
)
from session.preset import MAX_CHUNK_BYTES

SECRET = bytes(range(32))
SESSION = bytes(range(16))
NONCE = bytes(range(24))


def make(plaintext: bytes, index: int = 3, flags: ChunkFlag = ChunkFlag.TIMED) -> bytes:
    chunk = encrypt_chunk(SECRET, SESSION, index, flags, NONCE, plaintext)
    blob = chunk.header + chunk.ciphertext
    assert len(blob) == chunk.size_bytes
    return blob


def seal_inner(inner: bytes) -> bytes:
    """A blob with a valid seal around an inner part of a liar's choice."""
    key = derive(SECRET, Label.CHUNK, SESSION, (3).to_bytes(4, "big"))
    commitment = derive(key, Label.CHUNK_COMMITMENT)
    header = ChunkHeader(ChunkFlag(0), SESSION, 3, NONCE, commitment).encode()
    return header + aead.encrypt(key, NONCE, inner, header)


def inner(codec: int, content: bytes, claimed: int, padding: bytes | None = None) -> bytes:
    used = struct.pack(">BII", codec, len(content), claimed) + content
    return used + (bytes(compute_padded_bytes(len(used)) - len(used)) if padding is None else padding)


def open_blob(blob: bytes) -> tuple[bytes | memoryview, ChunkFlag]:
    return decrypt_chunk(SECRET, SESSION, 3, blob[:HEADER_BYTES], blob[HEADER_BYTES:])


def refused(blob: bytes) -> Reason:
    with pytest.raises(InvalidRecord) as caught:
        open_blob(blob)
    return caught.value.reason


@pytest.mark.parametrize("plaintext", [b"", b"a", b"text " * 5000, random.Random(1).randbytes(100_000)])
def test_round_trip(plaintext: bytes) -> None:
    assert open_blob(make(plaintext)) == (plaintext, ChunkFlag.TIMED)


def test_incompressible_bytes_stand_raw() -> None:
    noise = random.Random(1).randbytes(50_000)
    assert pack(noise)[0] == 0
    assert pack(b"a" * 50_000)[0] == 1


def test_any_flipped_bit_is_refused() -> None:
    blob = make(b"evidence")
    rng = random.Random(2)
    places = [*range(HEADER_BYTES * 8), *(rng.randrange(len(blob) * 8) for _ in range(500))]
    for place in places:
        flipped = bytearray(blob)
        flipped[place // 8] ^= 1 << place % 8
        with pytest.raises(InvalidRecord):
            open_blob(bytes(flipped))


def test_truncated_and_extended_chunks_are_refused() -> None:
    blob = make(b"evidence")
    for cut in (0, 1, HEADER_BYTES - 1, HEADER_BYTES, HEADER_BYTES + 15, len(blob) - 1):
        with pytest.raises(InvalidRecord):
            open_blob(blob[:cut])
    assert refused(blob + b"\x00") == Reason.NOT_DECRYPTABLE


def test_a_chunk_opens_in_its_own_place_only() -> None:
    assert refused(make(b"a", index=4)) == Reason.WRONG_INDEX
    other = encrypt_chunk(SECRET, bytes(16), 3, ChunkFlag(0), NONCE, b"a")
    assert refused(other.header + other.ciphertext) == Reason.WRONG_SESSION


def test_a_chunk_renumbered_by_a_liar_does_not_open() -> None:
    blob = bytearray(make(b"a", index=4))
    struct.pack_into(">I", blob, 24, 3)
    assert decode_header(bytes(blob[:HEADER_BYTES])).index == 3
    assert refused(bytes(blob)) == Reason.NOT_DECRYPTABLE


def test_another_secret_is_told_by_the_commitment() -> None:
    other = encrypt_chunk(bytes(32), SESSION, 3, ChunkFlag(0), NONCE, b"a")
    assert refused(other.header + other.ciphertext) == Reason.NOT_DECRYPTABLE


def test_unknown_versions_flags_and_magic_are_refused() -> None:
    for place, value, reason in (
        (0, 0, Reason.MALFORMED),
        (4, 2, Reason.WRONG_VERSION),
        (5, 8, Reason.MALFORMED),
        (7, 1, Reason.MALFORMED),
    ):
        blob = bytearray(make(b"a"))
        blob[place] = value
        assert refused(bytes(blob)) == reason


def test_decompression_bomb_is_refused_before_memory_is_taken() -> None:
    bomb = zstandard.ZstdCompressor(level=19).compress(bytes(256 << 20))
    assert len(bomb) < 64 << 10
    assert refused(seal_inner(inner(1, bomb, 256 << 20))) == Reason.TOO_LARGE
    assert refused(seal_inner(inner(1, bomb, MAX_CHUNK_BYTES))) == Reason.MALFORMED


def test_bomb_without_content_size_is_refused() -> None:
    compressor = zstandard.ZstdCompressor(write_content_size=False)
    bomb = compressor.compress(bytes(1 << 20))
    assert refused(seal_inner(inner(1, bomb, 1 << 20))) == Reason.MALFORMED


def test_frame_that_holds_more_or_less_than_stated_is_refused() -> None:
    frame = zstandard.ZstdCompressor().compress(b"a" * 1000)
    for lie in (
        inner(1, frame, 999),
        inner(1, frame, 1001),
        inner(1, frame + frame, 2000),
        inner(1, frame + b"x", 1000),
        inner(1, frame[:-1], 1000),
        inner(1, b"", 0),
        inner(0, b"ab", 3),
        inner(2, b"ab", 2),
    ):
        assert refused(seal_inner(lie)) == Reason.MALFORMED


def test_a_frame_that_wants_a_huge_window_is_refused() -> None:
    frame = b"\x28\xb5\x2f\xfd\x80\x88" + (1000).to_bytes(4, "little")
    frame += (1000 << 3 | 1).to_bytes(3, "little") + bytes(1000)
    assert zstandard.get_frame_parameters(frame).window_size == 1 << 27
    assert refused(seal_inner(inner(1, frame, 1000))) == Reason.TOO_LARGE


def test_an_empty_chunk_hides_nothing_behind_a_frame() -> None:
    frame = zstandard.ZstdCompressor().compress(b"")
    assert refused(seal_inner(inner(1, frame[:-3] + b"garbage", 0))) == Reason.MALFORMED


def test_padding_must_be_zero_and_of_the_right_length() -> None:
    good = inner(0, b"ab", 2)
    assert open_blob(seal_inner(good))[0] == b"ab"
    assert refused(seal_inner(good[:-1] + b"\x01")) == Reason.MALFORMED
    assert refused(seal_inner(good + bytes(16))) == Reason.MALFORMED
    assert refused(seal_inner(good[:-1])) == Reason.MALFORMED
    assert refused(seal_inner(good[:5])) == Reason.MALFORMED


def test_blob_larger_than_any_chunk_is_refused() -> None:
    blob = make(b"a")
    assert refused(blob + bytes(MAX_BLOB_BYTES)) == Reason.TOO_LARGE
    with pytest.raises(InvalidRecord, match="a chunk of"):
        encrypt_chunk(SECRET, SESSION, 0, ChunkFlag(0), NONCE, bytes(MAX_CHUNK_BYTES + 1))


@given(st.integers(MIN_PADDED_BYTES, MAX_CHUNK_BYTES))
def test_padding_costs_at_most_12_percent_and_hides_the_size(size: int) -> None:
    padded = compute_padded_bytes(size)
    assert size <= padded <= size * 1.12
    assert padded == compute_padded_bytes(padded)


def test_padded_sizes_are_few() -> None:
    sizes = {compute_padded_bytes(size) for size in range(MIN_PADDED_BYTES, 1 << 20)}
    assert len(sizes) == 161  # of a million lengths
    assert compute_padded_bytes(0) == compute_padded_bytes(1) == MIN_PADDED_BYTES


def test_equal_plaintexts_of_small_chunks_have_equal_sizes() -> None:
    assert len(make(b"")) == len(make(b"x" * 10_000)) == MIN_PADDED_BYTES + OVERHEAD_BYTES


@given(st.binary(max_size=3000))
def test_pack_round_trip(plaintext: bytes) -> None:
    assert unpack(pack(plaintext)) == plaintext


@given(st.binary(max_size=200))
def test_no_bytes_upset_unpack(data: bytes) -> None:
    with pytest.raises(InvalidRecord):
        unpack(data)
