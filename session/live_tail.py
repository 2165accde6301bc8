"""Live frames: what a live source said since the last sealed chunk. Format: docs/spec/05-checkpoint.md.

Each piece that arrives is encrypted as a *frame* and appended to the journal stream of the chunk that it
will become part of, so that a killed process loses nothing that it acknowledged. When the chunk is sealed
its frames are dropped.

    frame = nonce ‖ XChaCha20-Poly1305(frame key, nonce, piece, session ID ‖ chunk index ‖ frame number)
"""

from dataclasses import dataclass, field

from blake3 import blake3

from kernel import aead
from kernel.domains import Label
from kernel.errors import InvalidRecord, Reason
from kernel.kdf import derive
from kernel.ports import Journal
from lucid.v1 import session_pb2
from session import tables
from session.checkpoint import FrameDigest, compute_tail_hash, hash_frame

MAX_FRAME_BYTES = 512 << 10
"""Greatest piece of plaintext in one frame."""


def _associated(session_id: bytes, index: int, number: int) -> bytes:
    return session_id + index.to_bytes(4, "big") + number.to_bytes(8, "big")


def derive_frame_key(secret: bytes, session_id: bytes) -> bytes:
    """The key of all frames of a session."""
    return derive(secret, Label.FRAME, session_id)


def encrypt_frame(
    key: bytes, session_id: bytes, index: int, number: int, nonce: bytes, piece: bytes
) -> bytes:
    """Frame `number` of the chunk `index`. `nonce`: 24 fresh random bytes."""
    if len(piece) > MAX_FRAME_BYTES:
        raise InvalidRecord(Reason.TOO_LARGE, f"a frame of {len(piece)} bytes")
    return nonce + aead.encrypt(key, nonce, piece, _associated(session_id, index, number))


def decrypt_frame(key: bytes, session_id: bytes, index: int, number: int, frame: bytes) -> bytes:
    """The piece in a frame.

    Raises:
        InvalidRecord: it is damaged, or of another place.
    """
    nonce, ciphertext = frame[: aead.NONCE_BYTES], frame[aead.NONCE_BYTES :]
    if len(ciphertext) < aead.TAG_BYTES:
        raise InvalidRecord(Reason.MALFORMED, "a live frame is cut short")
    return aead.decrypt(key, nonce, ciphertext, _associated(session_id, index, number))


@dataclass(slots=True)
class LiveTail:
    """The frames of one chunk that is not sealed yet.

    Attributes:
        index: the chunk that they will become.
        first_ns: monotonic time of the first one; 0 if there is none.
        pieces: their plaintext.
        size_bytes: of the plaintext.
        frames: how many.
        frame_bytes: of the frames as they stand in the journal.
    """

    index: int
    first_ns: int = 0
    pieces: list[bytes] = field(default_factory=list)
    size_bytes: int = 0
    frames: int = 0
    frame_bytes: int = 0
    _hasher: blake3 = field(default_factory=blake3)

    def add(self, frame: bytes, piece: bytes, now_ns: int) -> None:
        """Takes note of a frame that the journal holds."""
        if not self.frames:
            self.first_ns = now_ns
        self.pieces.append(piece)
        self.size_bytes += len(piece)
        self.frames += 1
        self.frame_bytes += len(frame)
        hash_frame(self._hasher, frame)

    def digest(self) -> FrameDigest:
        """What a checkpoint says of these frames."""
        return self.index, self.frame_bytes, self._hasher.digest()


def list_tails(journal: Journal, session_id: bytes, first_index: int) -> list[tuple[int, str]]:
    """The streams of live frames of chunks from `first_index` on, in order."""
    found = []
    for stream in journal.streams(tables.session_prefix(session_id)):
        index = tables.parse_tail_stream(session_id, stream)
        if index is not None and index >= first_index:
            found.append((index, stream))
    return found


async def find_tail_damage(journal: Journal, session_id: bytes, last: session_pb2.Checkpoint) -> str:
    """What is wrong with the live frames that a checkpoint was signed over; "" if nothing.

    Args:
        journal: holds the frames.
        session_id: the session.
        last: its newest checkpoint; frames behind it are not looked at.
    """
    remaining, digests = last.tail_bytes, []
    for index, stream in list_tails(journal, session_id, last.chunk_count) if remaining else ():
        contents = await journal.read(stream)
        hasher, size_bytes = blake3(), 0
        for _, frame in contents.records:
            if len(frame) > remaining:
                break
            hash_frame(hasher, frame)
            size_bytes += len(frame)
            remaining -= len(frame)
        if size_bytes:
            digests.append((index, size_bytes, hasher.digest()))
    if remaining:
        return f"{remaining} bytes of live frames that a checkpoint covers are gone"
    if last.tail_bytes and compute_tail_hash(digests) != last.tail_hash:
        return "the live frames are not those that the last checkpoint was signed over"
    return ""
