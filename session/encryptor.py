"""A chunk: compressed, padded, encrypted; and the way back. Format: docs/spec/02-chunk.md.

    blob   = header ‖ XChaCha20-Poly1305(chunk key, nonce, inner, associated data = header)
    header = magic ‖ version ‖ flags ‖ reserved ‖ session ID ‖ index ‖ nonce ‖ key commitment     (84 bytes)
    inner  = codec ‖ content length ‖ plaintext length ‖ content ‖ zeros up to the padded length

The chunk key is derived from session secret, session ID and index, so a chunk opens in its own place only;
the commitment binds the header to the key, so no second key opens the same bytes. A fresh random nonce each
time makes it safe to encrypt the same index again after a crash.
"""

import struct
from dataclasses import dataclass
from enum import IntFlag

import zstandard

from kernel import aead
from kernel.domains import Label
from kernel.errors import InvalidRecord, Reason
from kernel.kdf import derive
from kernel.padding import compute_padded_bytes
from session.preset import MAX_CHUNK_BYTES

MAGIC = b"LUCK"
VERSION = 1
ZSTD_LEVEL = 3
# Level 3 with tables that stay in a core's cache: a third faster, as small (docs/adr/0005).
_ZSTD_PARAMETERS = zstandard.ZstdCompressionParameters.from_level(
    ZSTD_LEVEL, hash_log=16, chain_log=15, min_match=6
)

_HEADER = struct.Struct(">4sBBH16sI24s32s")
_INNER = struct.Struct(">BII")
HEADER_BYTES = _HEADER.size
OVERHEAD_BYTES = HEADER_BYTES + aead.TAG_BYTES

_RAW, _ZSTD = 0, 1


class ChunkFlag(IntFlag):
    """What the header says in the clear."""

    FINAL = 1  # nothing follows
    GAP = 2  # something of the source may be missing before this chunk
    TIMED = 4  # sealed by time, not by size


_ALL_FLAGS = 7


@dataclass(frozen=True, slots=True)
class ChunkHeader:
    """The header of a chunk, decoded."""

    flags: ChunkFlag
    session_id: bytes
    index: int
    nonce: bytes
    commitment: bytes

    def encode(self) -> bytes:
        """The 84 bytes of the header."""
        return _HEADER.pack(
            MAGIC, VERSION, self.flags, 0, self.session_id, self.index, self.nonce, self.commitment
        )


def decode_header(encoded: bytes) -> ChunkHeader:
    """Reads the header of a chunk: the first `HEADER_BYTES` of its blob.

    Raises:
        InvalidRecord: it is none, or of an unknown version.
    """
    if len(encoded) != HEADER_BYTES:
        raise InvalidRecord(Reason.MALFORMED, "the chunk is shorter than its header")
    magic, version, flags, reserved, session_id, index, nonce, commitment = _HEADER.unpack(encoded)
    if magic != MAGIC:
        raise InvalidRecord(Reason.MALFORMED, "the bytes are no chunk")
    if version != VERSION:
        raise InvalidRecord(Reason.WRONG_VERSION, f"the chunk has version {version}, known is {VERSION}")
    if reserved or flags > _ALL_FLAGS:
        raise InvalidRecord(Reason.MALFORMED, "the chunk header has unknown flags")
    return ChunkHeader(ChunkFlag(flags), session_id, index, nonce, commitment)


MAX_BLOB_BYTES = OVERHEAD_BYTES + compute_padded_bytes(MAX_CHUNK_BYTES + _INNER.size)


def pack(plaintext: bytes) -> bytes:
    """Compresses where that helps, and pads."""
    compressor = zstandard.ZstdCompressor(compression_params=_ZSTD_PARAMETERS)
    codec, content = _ZSTD, compressor.compress(plaintext)
    if len(content) >= len(plaintext):
        codec, content = _RAW, plaintext
    used = _INNER.size + len(content)
    padding = bytes(compute_padded_bytes(used) - used)
    return b"".join((_INNER.pack(codec, len(content), len(plaintext)), content, padding))


def unpack(inner: bytes) -> bytes | memoryview:
    """Undoes `pack`. Bounded: nothing larger than a chunk is ever produced.

    Raises:
        InvalidRecord: lengths, padding or compressed content are wrong.
    """
    if len(inner) < _INNER.size:
        raise InvalidRecord(Reason.MALFORMED, "the chunk has no inner header")
    codec, content_bytes, plaintext_bytes = _INNER.unpack_from(inner)
    end = _INNER.size + content_bytes
    if plaintext_bytes > MAX_CHUNK_BYTES:
        raise InvalidRecord(Reason.TOO_LARGE, f"the chunk claims {plaintext_bytes} bytes of plaintext")
    if end > len(inner) or len(inner) != compute_padded_bytes(end) or inner.count(0, end) < len(inner) - end:
        raise InvalidRecord(Reason.MALFORMED, "the padding of the chunk is wrong")
    content = memoryview(inner)[_INNER.size : end]
    if codec == _RAW and content_bytes == plaintext_bytes:
        return content
    if codec != _ZSTD or not plaintext_bytes:
        raise InvalidRecord(Reason.MALFORMED, "the chunk has an unknown codec")
    return _decompress(content, plaintext_bytes)


def _decompress(content: memoryview, plaintext_bytes: int) -> bytes:
    """One zstd frame of exactly `plaintext_bytes`: the frame's claim is checked before memory is taken."""
    try:
        frame = zstandard.get_frame_parameters(content)
        if frame.window_size > MAX_CHUNK_BYTES:
            raise InvalidRecord(Reason.TOO_LARGE, "the compressed content wants too much memory")
        if frame.content_size != plaintext_bytes:
            raise InvalidRecord(Reason.MALFORMED, "the compressed content has another length than stated")
        return zstandard.ZstdDecompressor().decompress(
            content, max_output_size=plaintext_bytes, allow_extra_data=False
        )
    except zstandard.ZstdError as error:
        raise InvalidRecord(Reason.MALFORMED, f"the compressed content is damaged: {error}") from error


@dataclass(frozen=True, slots=True)
class EncryptedChunk:
    """A chunk ready to be stored: `header` ‖ `ciphertext`."""

    header: bytes
    ciphertext: bytes

    @property
    def size_bytes(self) -> int:
        """Length of the blob."""
        return len(self.header) + len(self.ciphertext)


def derive_chunk_key(secret: bytes, session_id: bytes, index: int) -> bytes:
    """The key of one chunk: it opens nothing else."""
    return derive(secret, Label.CHUNK, session_id, index.to_bytes(4, "big"))


def encrypt_chunk(
    secret: bytes, session_id: bytes, index: int, flags: ChunkFlag, nonce: bytes, plaintext: bytes
) -> EncryptedChunk:
    """Packs and encrypts one chunk of at most `MAX_CHUNK_BYTES`. `nonce`: 24 fresh random bytes."""
    if len(plaintext) > MAX_CHUNK_BYTES:
        raise InvalidRecord(Reason.TOO_LARGE, f"a chunk of {len(plaintext)} bytes")
    key = derive_chunk_key(secret, session_id, index)
    commitment = derive(key, Label.CHUNK_COMMITMENT)
    header = ChunkHeader(flags, session_id, index, nonce, commitment).encode()
    return EncryptedChunk(header, aead.encrypt(key, nonce, pack(plaintext), header))


def decrypt_chunk(
    secret: bytes, session_id: bytes, index: int, encoded_header: bytes, ciphertext: bytes
) -> tuple[bytes | memoryview, ChunkFlag]:
    """Opens the blob `encoded_header` ‖ `ciphertext`, which must be chunk `index` of this session.

    Returns:
        Its plaintext and its flags.

    Raises:
        InvalidRecord: it is damaged, of another session, of another place, or under another key.
    """
    key = derive_chunk_key(secret, session_id, index)
    return open_chunk(key, session_id, index, encoded_header, ciphertext)


def open_chunk(
    key: bytes, session_id: bytes, index: int, encoded_header: bytes, ciphertext: bytes
) -> tuple[bytes | memoryview, ChunkFlag]:
    """Like `decrypt_chunk`, for who was given the key of this one chunk."""
    header = decode_header(encoded_header)
    if header.session_id != session_id:
        raise InvalidRecord(Reason.WRONG_SESSION, "the chunk belongs to another session")
    if header.index != index:
        raise InvalidRecord(Reason.WRONG_INDEX, f"the chunk is number {header.index}, not {index}")
    if len(ciphertext) > MAX_BLOB_BYTES - HEADER_BYTES:
        raise InvalidRecord(Reason.TOO_LARGE, f"the chunk has {len(ciphertext)} bytes")
    if header.commitment != derive(key, Label.CHUNK_COMMITMENT):
        raise InvalidRecord(Reason.NOT_DECRYPTABLE, "the chunk was encrypted under another key")
    inner = aead.decrypt(key, header.nonce, ciphertext, encoded_header)
    return unpack(inner), header.flags
