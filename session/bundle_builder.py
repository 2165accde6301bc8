"""Making proof bundles from a store. Format: docs/spec/14-bundle.md.

A bundle of a complete session stands on its last checkpoint, which the manifest names. One of a session that
goes on stands on the newest checkpoint that a witness has seen, if that covers the chunk that is shown.
"""

from dataclasses import dataclass

from kernel.chunk_id import LEAF_BYTES, compute_chunk_id, compute_chunk_leaves
from kernel.errors import Conflict, StoreDamaged, UsageError
from kernel.merkle import compute_inclusion_proof, compute_leaf, compute_root
from lucid.v1 import identity_pb2, session_pb2
from session.access import RecorderKeys, load_secret
from session.bundle import MAX_ATTESTATIONS, Bundle, ChunkProof, Leaf, encode_bundle
from session.bundle_verifier import verify_bundle
from session.catalog import REBUILD_HINT, Catalog
from session.encryptor import derive_chunk_key
from session.ports import SessionPorts


@dataclass(frozen=True, slots=True)
class Shown:
    """What a bundle shows of a chunk.

    Attributes:
        index: which chunk.
        first_byte: of the stretch of the stored chunk, header included, that is shown.
        end_byte: behind it; 0: none is. The stretch is widened to whole leaves.
        reveal: add the key of this one chunk, and all of its bytes.
    """

    index: int
    first_byte: int = 0
    end_byte: int = 0
    reveal: bool = False


class Prover:
    """Makes proof bundles."""

    def __init__(self, ports: SessionPorts, keys: RecorderKeys) -> None:
        self._ports = ports
        self._keys = keys
        self._catalog = Catalog(ports.records, ports.journal, keys)

    async def prove(self, session_id: bytes, shown: Shown | None = None) -> bytes:
        """The proof bundle of a session.

        Raises:
            NotFound: there is no such session.
            UsageError: it has no such chunk, or the chunk no such bytes.
            Conflict: nothing is signed yet, the owner's grant list is not known, or it cannot show that the
                device that recorded the session was allowed to.
            Locked: the chunk is to be revealed, and no key of this device reads it.
            StoreDamaged: what is needed is damaged.
            InvalidRecord: what is stored does not hold: no bundle is made that would be refused.
        """
        row = self._catalog.row(session_id)
        if self._keys.grants is None:
            raise Conflict("the owner's grant list is not known here")
        if row.HasField("adopted"):
            raise Conflict(
                "another device recorded the session, and the grant list that is known here does not name it:"
                " nobody would accept the bundle",
                hint="Bundles are made by the device that recorded. The recording can be read and shared.",
            )
        sequence, attestations = self._choose(row, session_id, shown)
        checkpoint = self._get_checkpoint(session_id, sequence)
        bundle = Bundle(
            network=self._keys.network.id,
            session_id=session_id,
            policy=row.opened.policy,
            grants=self._keys.grants,
            checkpoint=checkpoint,
            attestations=attestations,
            manifest=row.closed.manifest if row.HasField("closed") else None,
            chunk=None if shown is None else await self._show(session_id, checkpoint, shown),
        )
        data = encode_bundle(bundle)
        await self._ports.offload.run(verify_bundle, data)
        return data

    def _choose(
        self, row: session_pb2.SessionRow, session_id: bytes, shown: Shown | None
    ) -> tuple[int, tuple[identity_pb2.Signed, ...]]:
        """The checkpoint to stand on, and its attestations in the order of their witnesses."""
        if not row.checkpoint_count:
            raise Conflict("nothing of the session is signed yet", hint="Try again in a few seconds.")
        by_sequence: dict[int, dict[bytes, identity_pb2.Signed]] = {}
        for sequence, signed in self._ports.witnesses.attestations(session_id):
            by_sequence.setdefault(sequence, {})[signed.public_key] = signed
        chosen = row.checkpoint_count - 1
        if not row.HasField("closed"):
            least = 0 if shown is None else shown.index + 1
            for sequence in sorted(by_sequence, reverse=True):
                if sequence <= chosen and self._count_chunks(session_id, sequence) >= least:
                    chosen = sequence
                    break
        found = by_sequence.get(chosen, {})
        return chosen, tuple(found[witness] for witness in sorted(found)[:MAX_ATTESTATIONS])

    def _count_chunks(self, session_id: bytes, sequence: int) -> int:
        payload = self._get_checkpoint(session_id, sequence).payload
        return session_pb2.Checkpoint.FromString(payload).chunk_count

    def _get_checkpoint(self, session_id: bytes, sequence: int) -> identity_pb2.Signed:
        found = self._catalog.checkpoint(session_id, sequence)
        if found is None:
            raise StoreDamaged(f"checkpoint {sequence} is missing", hint=REBUILD_HINT)
        return found

    async def _show(self, session_id: bytes, checkpoint: identity_pb2.Signed, shown: Shown) -> ChunkProof:
        count = session_pb2.Checkpoint.FromString(checkpoint.payload).chunk_count
        if shown.index >= count:
            raise UsageError(
                f"the session has {count} signed chunks, there is no chunk {shown.index}",
                hint="The first one is 0.",
            )
        entries = self._catalog.chunks(session_id, count)
        entry = entries[shown.index]
        blob = await self._ports.blobs.read(entry.chunk_id)
        leaves = await self._ports.offload.run(compute_chunk_leaves, blob)
        if compute_chunk_id(leaves, len(blob)) != entry.chunk_id:
            raise StoreDamaged(
                f"chunk {shown.index} is damaged here", hint="`lucid-node session verify` tells more."
            )
        path = compute_inclusion_proof([compute_leaf(each.chunk_id) for each in entries], shown.index)
        chunk = ChunkProof(shown.index, len(blob), compute_root(leaves), tuple(path))
        return await self._disclose(session_id, chunk, shown, blob, leaves)

    async def _disclose(
        self, session_id: bytes, chunk: ChunkProof, shown: Shown, blob: bytes, leaves: list[bytes]
    ) -> ChunkProof:
        """`chunk` with the bytes that are to be shown."""
        if shown.end_byte and not shown.first_byte < shown.end_byte <= len(blob):
            raise UsageError(
                f"the stored chunk has {len(blob)} bytes, not {shown.first_byte} to {shown.end_byte}"
            )
        base = (chunk.index, chunk.size_bytes, chunk.root, chunk.path)
        if shown.reveal:
            secret = await load_secret(self._ports.journal, self._keys, session_id)
            return ChunkProof(*base, blob=blob, key=derive_chunk_key(secret, session_id, chunk.index))
        first = shown.first_byte // LEAF_BYTES
        end = -(-shown.end_byte // LEAF_BYTES) if shown.end_byte else first

        def get_leaf(number: int) -> Leaf:
            data = blob[number * LEAF_BYTES : (number + 1) * LEAF_BYTES]
            return Leaf(data, tuple(compute_inclusion_proof(leaves, number)))

        return ChunkProof(
            *base,
            header=get_leaf(0),
            first_leaf=first,
            leaves=tuple(get_leaf(number) for number in range(first, end)),
        )
