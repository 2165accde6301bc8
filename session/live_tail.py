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
from session.checkpoint import FrameDigest, hash_frame

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
