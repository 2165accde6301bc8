"""Checking a proof bundle: pure and offline, with nothing but the file. Rules: docs/spec/14-bundle.md.

The first rule that is broken refuses the whole bundle. What a bundle that holds proves, and what it does not,
is put into words by `session.bundle_words`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from kernel.attestation import verify_attestation
from kernel.checkpoint import compute_checkpoint_hash, decode_checkpoint
from kernel.chunk_id import LEAF_BYTES, compute_blob_id, compute_chunk_id, compute_chunk_leaves
from kernel.domains import NETWORKS, Domain, Network
from kernel.errors import InvalidRecord, Reason
from kernel.grants import is_granted, verify_grant_list
from kernel.merkle import HASH_BYTES, compute_leaf, compute_root, is_included
from kernel.peer_id import encode_peer_id
from kernel.signing import verify_signed
from lucid.v1 import identity_pb2, session_pb2
from session.bundle import Bundle, ChunkProof, Leaf, decode_bundle
from session.control_policy import ControlPolicy, compute_policy_hash, decode_policy
from session.encryptor import HEADER_BYTES, MAX_BLOB_BYTES, ChunkFlag, decode_header, open_chunk
from session.manifest import Manifest, compute_manifest_hash, decode_manifest

KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class Attested:
    """A witness has seen the checkpoint.

    Attributes:
        witness: Ed25519 key.
        time_ns: Unix nanoseconds by its clock.
        trusted: was it named by the verifier?
    """

    witness: bytes
    time_ns: int
    trusted: bool


@dataclass(frozen=True, slots=True)
class ProvenChunk:
    """What holds of the chunk that a bundle shows.

    Attributes:
        index: its place in the session.
        chunk_id: 32 bytes.
        size_bytes: of its blob.
        flags: what its header says.
        first_byte: of the stretch of the blob that is shown.
        end_byte: behind that stretch; equal to `first_byte` if none is shown.
        plaintext: of a revealed chunk; None of any other.
    """

    index: int
    chunk_id: bytes
    size_bytes: int
    flags: ChunkFlag
    first_byte: int
    end_byte: int
    plaintext: bytes | None


@dataclass(frozen=True, slots=True)
class BundleReport:
    """A bundle that holds.

    Attributes:
        network: where its signatures count.
        session_id: 16 bytes.
        owner: Ed25519 key of the owner.
        device: Ed25519 key of the recording device.
        grants_sequence: of the owner's grant list.
        policy: of the session.
        checkpoint: what the device signed.
        manifest: None while the session went on.
        manifest_hash: empty without a manifest.
        attested: by witnesses, in the order of their keys.
        chunk: the chunk that is shown, if any.
    """

    network: Network
    session_id: bytes
    owner: bytes
    device: bytes
    grants_sequence: int
    policy: ControlPolicy
    checkpoint: session_pb2.Checkpoint
    manifest: Manifest | None
    manifest_hash: bytes
    attested: tuple[Attested, ...]
    chunk: ProvenChunk | None

    @property
    def trusted_times(self) -> list[int]:
        """When the witnesses that the verifier named have seen it, Unix nanoseconds, the earliest first."""
        return sorted(each.time_ns for each in self.attested if each.trusted)


def verify_bundle(data: bytes, trusted: Sequence[bytes] = ()) -> BundleReport:
    """Checks everything in a bundle.

    Args:
        data: the file.
        trusted: Ed25519 keys of witnesses, each of which must have attested it.

    Raises:
        InvalidRecord: it does not hold.
    """
    bundle = decode_bundle(data)
    network = _find_network(bundle.network)
    device = bundle.policy.public_key
    policy = decode_policy(verify_signed(bundle.policy, Domain.POLICY, network))
    if policy.session_id != bundle.session_id:
        raise InvalidRecord(Reason.WRONG_SESSION, "the control policy belongs to another session")
    checkpoint = decode_checkpoint(bundle.checkpoint, network, device, bundle.session_id)
    grants = verify_grant_list(bundle.grants, network)
    if not is_granted(grants, device, identity_pb2.ROLE_RECORD, checkpoint.time_ns // 10**9):
        raise InvalidRecord(Reason.WRONG_SIGNER, "the owner's grant list does not let the device record")
    manifest = _check_manifest(bundle, network, grants.owner, checkpoint)
    return BundleReport(
        network=network,
        session_id=bundle.session_id,
        owner=grants.owner,
        device=device,
        grants_sequence=grants.sequence,
        policy=policy,
        checkpoint=checkpoint,
        manifest=manifest,
        manifest_hash=compute_manifest_hash(bundle.manifest.payload) if bundle.manifest else b"",
        attested=_check_attestations(bundle, network, trusted),
        chunk=None if bundle.chunk is None else _check_chunk(bundle.chunk, bundle.session_id, checkpoint),
    )


def _find_network(network_id: bytes) -> Network:
    for network in NETWORKS.values():
        if network.id == network_id:
            return network
    raise InvalidRecord(
        Reason.WRONG_VERSION, "the bundle is of a network that this version of the software does not know"
    )


def _check_manifest(
    bundle: Bundle, network: Network, owner: bytes, checkpoint: session_pb2.Checkpoint
) -> Manifest | None:
    if bundle.manifest is None:
        return None
    device = bundle.policy.public_key
    manifest = decode_manifest(verify_signed(bundle.manifest, Domain.MANIFEST, network, signer=device))
    expected = {
        "session ID": (manifest.session_id, bundle.session_id),
        "network": (manifest.network, network.id),
        "device": (manifest.device, device),
        "owner": (manifest.owner, owner),
        "number of chunks": (manifest.chunk_count, checkpoint.chunk_count),
        "root": (manifest.root, checkpoint.root),
        "control policy": (manifest.policy_hash, compute_policy_hash(bundle.policy.payload)),
        "last checkpoint": (manifest.checkpoint_hash, compute_checkpoint_hash(bundle.checkpoint.payload)),
        "number of checkpoints": (manifest.checkpoint_count, checkpoint.sequence + 1),
    }
    for what, (signed, shown) in expected.items():
        if signed != shown:
            raise InvalidRecord(
                Reason.NOT_CONSISTENT, f"the manifest was signed over another {what} than the bundle shows"
            )
    return manifest


def _check_attestations(bundle: Bundle, network: Network, trusted: Sequence[bytes]) -> tuple[Attested, ...]:
    witnesses = [signed.public_key for signed in bundle.attestations]
    if sorted(set(witnesses)) != witnesses:
        raise InvalidRecord(Reason.MALFORMED, "the attestations are not in the order of their witnesses")
    checkpoint_hash = compute_checkpoint_hash(bundle.checkpoint.payload)
    attested = []
    for signed in bundle.attestations:
        attestation = verify_attestation(
            signed, network, session_id=bundle.session_id, checkpoint_hash=checkpoint_hash
        )
        attested.append(Attested(signed.public_key, attestation.time_ns, signed.public_key in trusted))
    for witness in trusted:
        if witness not in witnesses:
            raise InvalidRecord(
                Reason.WRONG_SIGNER, f"the witness {encode_peer_id(witness)} has not attested the bundle"
            )
    return tuple(attested)


def _check_chunk(chunk: ChunkProof, session_id: bytes, checkpoint: session_pb2.Checkpoint) -> ProvenChunk:
    if not HEADER_BYTES <= chunk.size_bytes <= MAX_BLOB_BYTES or len(chunk.root) != HASH_BYTES:
        raise InvalidRecord(Reason.MALFORMED, "size or root of the chunk are impossible")
    # The tag and the length bind the root to the size: RFC 6962 trees do not.
    chunk_id = compute_chunk_id([chunk.root], chunk.size_bytes)
    if not is_included(
        compute_leaf(chunk_id), chunk.index, checkpoint.chunk_count, chunk.path, checkpoint.root
    ):
        raise InvalidRecord(Reason.WRONG_HASH, f"chunk {chunk.index} is not part of what the device signed")
    if chunk.blob is not None:
        return _check_revealed(chunk, chunk.blob, chunk_id, session_id)
    if chunk.header is None:
        raise InvalidRecord(Reason.MALFORMED, "the header of the chunk is not shown")
    _check_leaf(chunk, 0, chunk.header)
    for number, leaf in enumerate(chunk.leaves, chunk.first_leaf):
        _check_leaf(chunk, number, leaf)
    first_byte = chunk.first_leaf * LEAF_BYTES
    return ProvenChunk(
        index=chunk.index,
        chunk_id=chunk_id,
        size_bytes=chunk.size_bytes,
        flags=_check_header(chunk.header.data[:HEADER_BYTES], session_id, chunk.index),
        first_byte=first_byte,
        end_byte=first_byte + sum(len(leaf.data) for leaf in chunk.leaves),
        plaintext=None,
    )


def _check_leaf(chunk: ChunkProof, number: int, leaf: Leaf) -> None:
    count = -(-chunk.size_bytes // LEAF_BYTES)
    size_bytes = min(LEAF_BYTES, chunk.size_bytes - number * LEAF_BYTES)
    if len(leaf.data) != size_bytes or not is_included(
        compute_leaf(leaf.data), number, count, leaf.path, chunk.root
    ):
        raise InvalidRecord(Reason.WRONG_HASH, f"leaf {number} is not part of the chunk")


def _check_header(encoded: bytes, session_id: bytes, index: int) -> ChunkFlag:
    header = decode_header(encoded)
    if header.session_id != session_id:
        raise InvalidRecord(Reason.WRONG_SESSION, "the chunk belongs to another session")
    if header.index != index:
        raise InvalidRecord(Reason.WRONG_INDEX, f"the chunk is number {header.index}, not {index}")
    return header.flags


def _check_revealed(chunk: ChunkProof, blob: bytes, chunk_id: bytes, session_id: bytes) -> ProvenChunk:
    leaves = compute_chunk_leaves(blob)
    if len(blob) != chunk.size_bytes or compute_root(leaves) != chunk.root:
        raise InvalidRecord(Reason.WRONG_HASH, "the bytes of the chunk are not those that were signed")
    if chunk.key is None or len(chunk.key) != KEY_BYTES:
        raise InvalidRecord(Reason.MALFORMED, "the key of the chunk has an impossible length")
    plaintext, flags = open_chunk(
        chunk.key, session_id, chunk.index, blob[:HEADER_BYTES], blob[HEADER_BYTES:]
    )
    return ProvenChunk(chunk.index, chunk_id, len(blob), flags, 0, len(blob), bytes(plaintext))


def is_chunk(blob: bytes, chunk: ProvenChunk) -> bool:
    """Are these the bytes of the chunk as it is stored?"""
    return len(blob) == chunk.size_bytes and compute_blob_id(blob) == chunk.chunk_id
