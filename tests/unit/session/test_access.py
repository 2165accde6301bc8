"""Session secrets, metadata and live frames."""

from typing import cast

import pytest

from kernel.domains import NETWORKS, Label
from kernel.errors import InvalidRecord, Locked, StoreDamaged
from kernel.ports import Journal, JournalContents
from kernel.sealing import compute_x25519_public
from kernel.signing import SigningKey
from lucid.v1 import session_pb2
from session import tables
from session.access import RecorderKeys, decrypt_message, encrypt_message, load_secret, seal_for_owner
from session.live_tail import MAX_FRAME_BYTES, LiveTail, decrypt_frame, derive_frame_key, encrypt_frame

SESSION = bytes(range(16))
SECRET = b"s" * 32
NONCE = b"n" * 24
PRIVATE = b"p" * 32


class CountingEntropy:
    def __init__(self) -> None:
        self.count = 0

    def draw(self, size_bytes: int) -> bytes:
        self.count += 1
        return bytes([self.count]) * size_bytes


def keys(private: bytes = PRIVATE) -> RecorderKeys:
    public = compute_x25519_public(private)
    return RecorderKeys(
        NETWORKS["dev"], SigningKey.from_seed(bytes(32)), b"o" * 32, public, {public: private}
    )


class ListJournal:
    """Reads of a journal whose streams are given."""

    def __init__(self, **streams: bytes) -> None:
        self.streams = {f"{tables.session_prefix(SESSION)}/{name}": data for name, data in streams.items()}

    async def read(self, stream: str) -> JournalContents:
        records = [(0, self.streams[stream])] if stream in self.streams else []
        return JournalContents(records, [], 0)


async def load(keys: RecorderKeys, **streams: bytes) -> bytes:
    return await load_secret(cast(Journal, ListJournal(**streams)), keys, SESSION)


async def test_the_owner_opens_the_secret_and_nobody_else() -> None:
    sealed = seal_for_owner(keys(), SESSION, SECRET, CountingEntropy())
    stored = session_pb2.SealedSecrets(secrets=[sealed]).SerializeToString()
    opened = session_pb2.Fact(opened=session_pb2.Opened(secrets=[sealed])).SerializeToString()
    assert await load(keys(), secret=stored) == SECRET
    assert await load(keys(), facts=opened) == SECRET
    assert await load(keys(), secret=b"\xff", facts=opened) == SECRET
    with pytest.raises(Locked):
        await load(keys(b"q" * 32), secret=stored)
    with pytest.raises(StoreDamaged):
        await load(keys(), secret=b"\xff")


async def test_a_secret_of_another_session_is_refused_and_another_copy_tried() -> None:
    good = seal_for_owner(keys(), SESSION, SECRET, CountingEntropy())
    bad = seal_for_owner(keys(), bytes(16), SECRET, CountingEntropy())
    with pytest.raises(InvalidRecord):
        await load(keys(), secret=session_pb2.SealedSecrets(secrets=[bad]).SerializeToString())
    both = session_pb2.SealedSecrets(secrets=[bad, good]).SerializeToString()
    assert await load(keys(), secret=both) == SECRET


def test_keys_do_not_show_in_text() -> None:
    assert PRIVATE.decode() not in repr(keys())
    assert repr(PRIVATE) not in repr(keys())


def test_metadata_round_trip_and_every_flipped_bit() -> None:
    metadata = session_pb2.Metadata(name="n", command=["a", "b"])
    encrypted = encrypt_message(SECRET, Label.METADATA, SESSION, NONCE, metadata)
    assert decrypt_message(SECRET, Label.METADATA, SESSION, encrypted, session_pb2.Metadata) == metadata
    for place in range(len(encrypted) * 8):
        flipped = bytearray(encrypted)
        flipped[place // 8] ^= 1 << place % 8
        with pytest.raises(InvalidRecord):
            decrypt_message(SECRET, Label.METADATA, SESSION, bytes(flipped), session_pb2.Metadata)


def test_metadata_of_another_session_or_use_is_refused() -> None:
    encrypted = encrypt_message(SECRET, Label.METADATA, SESSION, NONCE, session_pb2.Metadata(name="n"))
    for label, session_id in ((Label.ENDING, SESSION), (Label.METADATA, bytes(16))):
        with pytest.raises(InvalidRecord):
            decrypt_message(SECRET, label, session_id, encrypted, session_pb2.Metadata)


@pytest.mark.parametrize("size", [0, 24, 39, 1 << 20])
def test_metadata_of_an_impossible_size_is_refused(size: int) -> None:
    with pytest.raises(InvalidRecord):
        decrypt_message(SECRET, Label.METADATA, SESSION, bytes(size), session_pb2.Metadata)


def test_names_of_similar_length_look_alike() -> None:
    sizes = {
        len(encrypt_message(SECRET, Label.METADATA, SESSION, NONCE, session_pb2.Metadata(name="n" * size)))
        for size in range(200)
    }
    assert len(sizes) == 1


def test_a_frame_opens_in_its_own_place_only() -> None:
    key = derive_frame_key(SECRET, SESSION)
    frame = encrypt_frame(key, SESSION, 3, 7, NONCE, b"piece")
    assert decrypt_frame(key, SESSION, 3, 7, frame) == b"piece"
    for session_id, index, number in ((bytes(16), 3, 7), (SESSION, 4, 7), (SESSION, 3, 8)):
        with pytest.raises(InvalidRecord):
            decrypt_frame(key, session_id, index, number, frame)
    for broken in (frame[:-1], frame[:30], b"", frame + b"x"):
        with pytest.raises(InvalidRecord):
            decrypt_frame(key, SESSION, 3, 7, broken)
    with pytest.raises(InvalidRecord):
        encrypt_frame(key, SESSION, 0, 0, NONCE, bytes(MAX_FRAME_BYTES + 1))


def test_digest_of_a_tail_depends_on_where_frames_end() -> None:
    one, two = LiveTail(0), LiveTail(0)
    for frame in (b"ab", b"c"):
        one.add(frame, b"", 1)
    for frame in (b"a", b"bc"):
        two.add(frame, b"", 1)
    assert one.digest()[:2] == two.digest()[:2] == (0, 3)
    assert one.digest() != two.digest()
