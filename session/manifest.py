"""The manifest: what a finished recording is, in one signed document that anybody may see.

Canonical JSON (RFC 8785), signed by the recording device; manifest hash = BLAKE3 of its bytes. It tells
nothing that the padding hides: no plaintext sizes, no names. Format: docs/spec/04-manifest.md.
"""

import re
from dataclasses import dataclass

import rfc8785
from blake3 import blake3

from kernel.checkpoint import compute_checkpoint_hash
from kernel.chunk_id import LEAF_BYTES
from kernel.errors import InvalidRecord, Reason
from lucid.v1 import session_pb2
from session.access import RecorderKeys
from session.canonical_json import is_count, load_canonical
from session.control_policy import compute_policy_hash
from session.encryptor import ZSTD_LEVEL

RECORDER = "lucid-node/1"
"""Name and version of the recording software, as its manifests give it."""

VERSION = 1
MAX_MANIFEST_BYTES = 1 << 20
MAX_GAPS = 10_000

CODEC: dict[str, str | int] = {
    "cipher": "xchacha20poly1305",
    "compression": f"zstd-{ZSTD_LEVEL}",
    "hash": "blake3",
    "leaf_bytes": LEAF_BYTES,
    "padding": "padme",
}

_HEX_32 = re.compile(r"[0-9a-f]{64}")
_KEYS = {
    "version",
    "session_id",
    "network",
    "recorder",
    "participants",
    "codec",
    "started_ms",
    "chunk_count",
    "root",
    "gaps",
    "policy_hash",
    "metadata_hash",
    "ending_hash",
    "checkpoint_hash",
    "checkpoint_count",
}


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest, decoded. Hashes and keys are 32 bytes.

    Attributes:
        session_id: 16 bytes.
        network: the network ID.
        recorder: name and version of the recording software.
        device: Ed25519 identity of the recording device: its fingerprint.
        owner: Ed25519 key of the owner.
        session_key: Ed25519 key of the session itself.
        started_ms: Unix milliseconds by the device's clock.
        chunk_count: chunks under `root`.
        root: the session root.
        gaps: indexes of chunks before which something may be missing.
        policy_hash: of the control policy document.
        metadata_hash: BLAKE3 of the encrypted metadata.
        ending_hash: BLAKE3 of the encrypted ending.
        checkpoint_hash: BLAKE3 of the last checkpoint's payload.
        checkpoint_count: how many checkpoints were signed.
    """

    session_id: bytes
    network: bytes
    recorder: str
    device: bytes
    owner: bytes
    session_key: bytes
    started_ms: int
    chunk_count: int
    root: bytes
    gaps: tuple[int, ...]
    policy_hash: bytes
    metadata_hash: bytes
    ending_hash: bytes
    checkpoint_hash: bytes
    checkpoint_count: int

    def encode(self) -> bytes:
        """The canonical JSON document."""
        return rfc8785.dumps(
            {
                "version": VERSION,
                "session_id": self.session_id.hex(),
                "network": self.network.hex(),
                "recorder": self.recorder,
                "participants": {
                    "device": self.device.hex(),
                    "owner": self.owner.hex(),
                    "session": self.session_key.hex(),
                },
                "codec": CODEC,
                "started_ms": self.started_ms,
                "chunk_count": self.chunk_count,
                "root": self.root.hex(),
                "gaps": list(self.gaps),
                "policy_hash": self.policy_hash.hex(),
                "metadata_hash": self.metadata_hash.hex(),
                "ending_hash": self.ending_hash.hex(),
                "checkpoint_hash": self.checkpoint_hash.hex(),
                "checkpoint_count": self.checkpoint_count,
            }
        )


def decode_manifest(document: bytes) -> Manifest:
    """Reads a manifest.

    Raises:
        InvalidRecord: it breaks the format.
    """
    fields = load_canonical(document, "manifest", VERSION, _KEYS, MAX_MANIFEST_BYTES)
    match fields:
        case {
            "session_id": str(session_id),
            "recorder": str(recorder),
            "participants": {
                "device": str(device),
                "owner": str(owner),
                "session": str(session_key),
                **others,
            },
            "codec": codec,
            "started_ms": started_ms,
            "chunk_count": chunk_count,
            "gaps": list(gaps),
            "checkpoint_count": checkpoint_count,
        } if (
            not others
            and codec == CODEC
            and re.fullmatch(r"[0-9a-f]{32}", session_id)
            and is_count(started_ms)
            and is_count(chunk_count)
            and is_count(checkpoint_count)
            and all(is_count(gap) and gap < chunk_count for gap in gaps)
        ):
            return Manifest(
                session_id=bytes.fromhex(session_id),
                network=_hash(fields["network"]),
                recorder=recorder,
                device=_hash(device),
                owner=_hash(owner),
                session_key=_hash(session_key),
                started_ms=started_ms,
                chunk_count=chunk_count,
                root=_hash(fields["root"]),
                gaps=tuple(gaps),
                policy_hash=_hash(fields["policy_hash"]),
                metadata_hash=_hash(fields["metadata_hash"]),
                ending_hash=_hash(fields["ending_hash"]),
                checkpoint_hash=_hash(fields["checkpoint_hash"]),
                checkpoint_count=checkpoint_count,
            )
    raise InvalidRecord(Reason.MALFORMED, "the manifest breaks its format")


def _hash(text: object) -> bytes:
    if not isinstance(text, str) or not _HEX_32.fullmatch(text):
        raise InvalidRecord(Reason.MALFORMED, "a hash of the manifest is not 64 hex digits")
    return bytes.fromhex(text)


def compute_manifest_hash(document: bytes) -> bytes:
    """What the chain and proof bundles name the manifest by."""
    return blake3(document).digest()


def build_manifest(keys: RecorderKeys, row: session_pb2.SessionRow, ending: bytes) -> Manifest:
    """The manifest of a session all of whose chunks are committed. `ending`: encrypted."""
    opened = row.opened
    return Manifest(
        session_id=opened.session_id,
        network=keys.network.id,
        recorder=RECORDER,
        device=keys.device.public_key,
        owner=keys.owner,
        session_key=opened.session_key,
        started_ms=opened.started_ns // 1_000_000,
        chunk_count=row.chunk_count,
        root=row.root,
        gaps=tuple(row.gaps[:MAX_GAPS]),
        policy_hash=compute_policy_hash(opened.policy.payload),
        metadata_hash=blake3(opened.metadata).digest(),
        ending_hash=blake3(ending).digest(),
        checkpoint_hash=compute_checkpoint_hash(row.last_checkpoint.payload),
        checkpoint_count=row.checkpoint_count,
    )
