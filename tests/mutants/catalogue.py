"""Defects that somebody could make, each with the scenario that finds it.

A defect is a change of the text of one or more files; each old text stands there exactly once, so that a
defect which the code has outgrown is noticed. Of the seeds of a defect, one at least fails.
"""

from dataclasses import dataclass

Edit = tuple[str, str, str]
"""File, old text, new text."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """A planted defect.

    Attributes:
        name: of the defect.
        what: it breaks.
        scenario: that finds it.
        edits: that make it.
        seeds: so many, from 0 on, of which one at least must fail.
        is_order: it shows itself as a run that differs with the order of hashes, not as a failure.
    """

    name: str
    what: str
    scenario: str
    edits: tuple[Edit, ...]
    seeds: int = 2
    is_order: bool = False


def _one(name: str, what: str, scenario: str, file: str, old: str, new: str, *, seeds: int = 2) -> Mutant:
    return Mutant(name, what, scenario, ((file, old, new),), seeds)


DURABILITY = (
    _one(
        "receipt-before-fsync",
        "a receipt promises what a power cut may take",
        "record-replicate-restore",
        "dht/holdings.py",
        "            receipt = await run_to_end(keeping)\n",
        "            import asyncio\n            self._late = asyncio.create_task(keeping)\n"
        "            receipt = sign_receipt(self._device, self._network, opening.lease, self._now_ns())\n",
    ),
    _one(
        "head-receipt-before-fsync",
        "a head is acknowledged before it is noted",
        "record-replicate-restore",
        "dht/head_store.py",
        "for kept in heads])\n        await self._journal.sync(stream)\n",
        "for kept in heads])\n",
    ),
    _one(
        "lease-not-noted",
        "a row that is lost with the index cannot be remade",
        "record-replicate-restore",
        "dht/holding_store.py",
        "        await journal.sync(stream)\n",
        "",
    ),
    _one(
        "row-not-committed",
        "a chunk is acknowledged that the index does not know",
        "record-replicate-restore",
        "dht/holdings.py",
        "            await self._store.index(after)\n        except LucidError:",
        "        except LucidError:",
    ),
    _one(
        "blob-not-synced",
        "a blob is renamed before its bytes are durable",
        "record-replicate-restore",
        "storage/blobs.py",
        "            self._files.fsync(unfinished)\n",
        "",
    ),
    _one(
        "directory-not-synced",
        "the name of a blob is not durable",
        "record-replicate-restore",
        "storage/blobs.py",
        "        self._files.fsync_dir(nearest)\n",
        "",
    ),
    _one(
        "not-renamed",
        "a blob is written in its place, not renamed into it",
        "record-replicate-restore",
        "storage/blobs.py",
        "            self._files.rename(unfinished, path)\n",
        "            self._files.create(path, parts)\n",
    ),
    _one(
        "failed-fsync-ignored",
        "what the disk could not save counts as saved",
        "failing-disks",
        "storage/blobs.py",
        "            self._files.fsync(unfinished)\n",
        "            with suppress(StoreError):\n                self._files.fsync(unfinished)\n",
        seeds=20,
    ),
    _one(
        "acknowledged-before-journaled",
        "an append is acknowledged before it is in the journal",
        "power-cuts",
        "session/recording.py",
        "await self._ports.journal.append(tables.tail_stream(self.session_id, tail.index), [frame])",
        "stream = tables.tail_stream(self.session_id, tail.index)\n"
        "        self._late = asyncio.create_task(self._ports.journal.append(stream, [frame]))",
        seeds=12,
    ),
    _one(
        "tail-never-synced",
        "what was recorded live is not durable after a second",
        "power-cuts",
        "session/recording.py",
        "            await self._ports.journal.sync(tables.tail_stream(self.session_id, tail.index))\n",
        "            continue\n",
        seeds=12,
    ),
    _one(
        "failed-tail-not-sealed",
        "what could not be synced stays where it is until the source says more",
        "power-cuts",
        "session/recording.py",
        '                    await self._leave(f"the recording failed: {error}")\n',
        "                    pass\n",
        seeds=60,
    ),
    _one(
        "journal-dropped-before-commit",
        "frames go before the chunk that is made of them is part of the session",
        "power-cuts",
        "session/recording.py",
        "        await self._ledger.record_made(make)\n        self._tree = tree\n",
        "        for entry in entries if self.live else []:\n"
        "            await self._ports.journal.drop(tables.tail_stream(self.session_id, entry.index))\n"
        "        await self._ledger.record_made(make)\n        self._tree = tree\n",
        seeds=60,
    ),
)

TRUST = (
    _one(
        "frames-unchecked",
        "a frame is taken whatever it holds",
        "liar-among-replicas",
        "dht/transfer.py",
        "        if found != self.leaves[first : first + len(found)]:\n",
        "        if False:\n",
        seeds=20,
    ),
    _one(
        "leaves-unchecked",
        "leaf hashes are taken that do not give the chunk ID",
        "liar-among-replicas",
        "dht/transfer.py",
        "    if compute_chunk_id(split, size_bytes) != chunk_id:\n",
        "    if False:\n",
        seeds=20,
    ),
    Mutant(
        "healed-with-unverified-bytes",
        "what a peer sends takes the place of what is damaged, unseen",
        "liar-among-replicas",
        (
            (
                "dht/transfer.py",
                "        if found != self.leaves[first : first + len(found)]:\n",
                "        if False:\n",
            ),
            (
                "session/healing.py",
                "            if fetched is None or not await self._is_right(entry, fetched.blob):\n",
                "            if fetched is None:\n",
            ),
        ),
        seeds=20,
    ),
    _one(
        "receipt-for-another-lease",
        "a receipt counts whatever it is for",
        "liar-among-replicas",
        "dht/lease.py",
        "decoded.lease_hash != compute_lease_hash(lease)",
        "False",
        seeds=30,
    ),
    _one(
        "audit-unchecked",
        "an answer to an audit is not followed up to the chunk ID",
        "liar-among-replicas",
        "dht/auditing.py",
        "        if root is None or bind_length(root, size_bytes) != chunk_id:\n",
        "        if root is None:\n",
        seeds=20,
    ),
    _one(
        "audit-without-consequence",
        "a replica that an audit found broken goes on counting",
        "liar-among-replicas",
        "dht/auditing.py",
        "                if not silent and await mark_broken(\n",
        "                if False and await mark_broken(\n",
        seeds=30,
    ),
    _one(
        "silence-accused",
        "a holder that is silent counts as a liar",
        "liar-among-replicas",
        "dht/auditing.py",
        "silent = not isinstance(error, NotFound | PeerFault | StoreDamaged)",
        "silent = False",
        seeds=20,
    ),
    _one(
        "signatures-unchecked",
        "any signature holds",
        "replays",
        "kernel/signing.py",
        "    except BadSignatureError:\n        return False\n",
        "    except BadSignatureError:\n        return True\n",
    ),
    _one(
        "lease-expiry-ignored",
        "a lease that is over is taken",
        "replays",
        "dht/lease.py",
        "    if lease.until_s <= now_s:\n",
        "    if False:\n",
    ),
    _one(
        "lease-for-anybody",
        "a lease is taken that names another holder",
        "replays",
        "dht/lease.py",
        "    if lease.holder != holder:\n",
        "    if False:\n",
    ),
    _one(
        "release-for-anybody",
        "a release counts that names another holder",
        "replays",
        "dht/lease.py",
        "    if release.holder != holder:\n",
        "    if False:\n",
    ),
    _one(
        "release-by-anybody",
        "a release ends leases of other keys",
        "replays",
        "dht/holdings.py",
        "held.lease.public_key != key or ",
        "",
    ),
    _one(
        "token-expiry-ignored",
        "a token holds for ever",
        "replays",
        "node/rpc/tokens.py",
        "        if caller is not None and self._clock.monotonic_ns() >= ends_ns:\n",
        "        if False:\n",
    ),
    _one(
        "handshake-forwarded",
        "a proof counts that was made for another address",
        "replays",
        "kernel/handshake.py",
        "    if proof.dialled not in addresses:\n",
        "    if False:\n",
    ),
    _one(
        "proof-used-twice",
        "a proof counts again",
        "replays",
        "node/rpc/node_servicer.py",
        "self._pending.pop(server_nonce, (None, None, 0))",
        "self._pending.get(server_nonce, (None, None, 0))",
    ),
    _one(
        "older-head-kept",
        "an older head takes the place of a newer one",
        "replays",
        "dht/head_keeper.py",
        "    if head.sequence < known:\n",
        "    if False:\n",
    ),
    _one(
        "head-expiry-ignored",
        "a head is kept that has expired",
        "replays",
        "dht/heads.py",
        "    if now_s is not None and not now_s < head.expires_s <= now_s + MAX_HEAD_S:\n",
        "    if False:\n",
    ),
    _one(
        "oldest-head-restored",
        "a restore takes the oldest head that it is given",
        "rolled-back-heads",
        "dht/restoring.py",
        "            if best is None or _age(found) > _age(best):\n",
        "            if best is None or _age(found) < _age(best):\n",
        seeds=4,
    ),
    _one(
        "attestation-of-another-checkpoint",
        "an attestation counts whatever it attests",
        "lying-witnesses",
        "kernel/attestation.py",
        "    if attestation.checkpoint_hash != checkpoint_hash:\n",
        "    if False:\n",
        seeds=30,
    ),
    _one(
        "attestation-of-another-session",
        "an attestation counts for a session that it does not name",
        "lying-witnesses",
        "kernel/attestation.py",
        "    if attestation.session_id != session_id:\n",
        "    if False:\n",
        seeds=30,
    ),
    _one(
        "attestation-by-anybody",
        "an attestation counts whoever has signed it",
        "lying-witnesses",
        "kernel/attestation.py",
        "        signer=witness,\n",
        "        signer=None,\n",
        seeds=30,
    ),
    _one(
        "seen-by-anybody",
        "a witness is believed what it shows, whoever has signed it",
        "lying-witnesses",
        "dht/witness_call.py",
        "decode_checkpoint(response.checkpoint, network, device, session_id)",
        "decode_checkpoint(response.checkpoint, network, response.checkpoint.public_key, session_id)",
        seeds=30,
    ),
    _one(
        "seen-of-another-session",
        "a witness is believed what it shows of another session",
        "lying-witnesses",
        "dht/witness_call.py",
        "decode_checkpoint(response.checkpoint, network, device, session_id)",
        "decode_checkpoint(response.checkpoint, network, device)",
        seeds=30,
    ),
    _one(
        "older-checkpoint-cosigned",
        "a witness co-signs what does not come after what it has co-signed",
        "lying-witnesses",
        "dht/witnessing.py",
        "    if new.sequence <= old.sequence:\n",
        "    if False:\n",
    ),
    _one(
        "other-history-cosigned",
        "a witness co-signs what does not follow from what it has co-signed",
        "lying-witnesses",
        "dht/witnessing.py",
        "    if new.sequence == old.sequence + 1 and not follows:\n",
        "    if False:\n",
    ),
    _one(
        "fork-cosigned",
        "a witness co-signs a tree that does not begin with the one before",
        "lying-witnesses",
        "dht/witnessing.py",
        "    if not is_consistent(old_count, new.chunk_count, old.root, new.root, proof):\n",
        "    if False:\n",
    ),
    _one(
        "old-copy-signs-on",
        "what witnesses have seen keeps nobody from signing something else",
        "lying-witnesses",
        "session/witnessed.py",
        "        if ahead is None:\n",
        "        if True:\n",
        seeds=4,
    ),
    Mutant(
        "offer-of-another-owner",
        "whoever calls may offer what is another owner's",
        "lying-offers",
        (
            (
                "dht/sharing.py",
                "verify_grant_list(request.grants, self._network, owner=caller.owner)",
                "verify_grant_list(request.grants, self._network)",
            ),
            (
                "session/origin.py",
                "verify_grant_list(adopted.grants, network, owner=adopted.owner)",
                "verify_grant_list(adopted.grants, network)",
            ),
        ),
    ),
    _one(
        "offer-by-any-recorder",
        "a shared session counts as its owner's whoever recorded it",
        "lying-offers",
        "session/origin.py",
        '    raise InvalidRecord(Reason.WRONG_SIGNER, "the recording is not',
        '    return\n    raise InvalidRecord(Reason.WRONG_SIGNER, "the recording is not',
    ),
    _one(
        "offer-without-key",
        "a session is taken that nobody here can open",
        "lying-offers",
        "session/adoption.py",
        "    if secret is None and copy.adopted.owner:\n",
        "    if False:\n",
    ),
    _one(
        "offer-of-fewer-facts",
        "a session is taken of which the offer does not hold all",
        "lying-offers",
        "dht/sharing.py",
        "        if len(payloads) != request.fact_count:\n",
        "        if False:\n",
    ),
    _one(
        "manifest-unchecked",
        "a session is taken with the manifest of another",
        "lying-offers",
        "session/adoption.py",
        "    check_manifest(keys, copy.session_id, row, secret)\n",
        "",
    ),
    _one(
        "deleted-comes-back",
        "a session that was deleted here is taken again",
        "lying-offers",
        "session/adoption.py",
        "            self._catalog.tombstone(session_id) is not None\n            or ",
        "            ",
    ),
    _one(
        "older-grant-list",
        "a device that was retired shows its old grant list, and is let in",
        "lying-grants",
        "node/rpc/acquaintances.py",
        "        if newest is not None and newest.sequence > presentation.grant_list.sequence:\n",
        "        if False:\n",
    ),
    _one(
        "own-grant-list-unknown",
        "a node lets in a device that its own owner has retired",
        "lying-grants",
        "node/rpc/acquaintances.py",
        "        self._learn_grants(grant_list)  # a device that it does not name any more was retired\n",
        "",
    ),
    _one(
        "grant-expiry-ignored",
        "a grant holds for ever",
        "lying-grants",
        "kernel/grants.py",
        "(grant.until_s == 0 or now_s < grant.until_s)",
        "True",
    ),
    _one(
        "grant-list-of-anybody",
        "a grant list counts for the owner that it names, whoever has signed it",
        "lying-grants",
        "kernel/grants.py",
        "    if grant_list.owner != signed.public_key:\n",
        "    if False:\n",
    ),
    _one(
        "card-without-grant",
        "a node is met that its owner's list does not name",
        "lying-grants",
        "kernel/peer_card.py",
        "    check_granted(grant_list, card.device, now_s)\n",
        "",
    ),
    _one(
        "rollback-not-noticed",
        "a keeper may serve less than it acknowledged",
        "rolled-back-heads",
        "dht/restoring.py",
        "promised = any(",
        "promised = False and any(",
        seeds=8,
    ),
)

WORK = (
    _one(
        "never-released",
        "holders keep what was deleted",
        "deleted-everywhere",
        "dht/releasing.py",
        "            await peer.release_chunk(chunk_pb2.ReleaseChunkRequest(release=row.release))\n",
        "            pass\n",
    ),
    _one(
        "released-once",
        "holders that were away are not told later",
        "deleted-everywhere",
        "dht/releasing.py",
        "self._ports.clock.monotonic_ns()):\n            return False\n",
        "self._ports.clock.monotonic_ns()):\n            return True\n",
        seeds=6,
    ),
    _one(
        "counted-twice",
        "what is held is more than it is",
        "record-replicate-restore",
        "dht/hosting_quota.py",
        "            self.held_bytes += sign * holding.size_bytes\n",
        "            self.held_bytes += 2 * sign * holding.size_bytes\n",
    ),
    _one(
        "blobs-not-uncounted",
        "space that is given back stays counted",
        "deleted-everywhere",
        "storage/blobs.py",
        "                    self._used_bytes -= size_bytes\n",
        "",
    ),
    _one(
        "two-replicas-one-owner",
        "two replicas go down together with their owner",
        "power-cuts",
        "dht/placement.py",
        "peer.device != other.device and peer.owner != other.owner",
        "peer.device != other.device",
        seeds=4,
    ),
    _one(
        "task-leaked",
        "a task goes on after the node was stopped",
        "record-replicate-restore",
        "node/rpc/link.py",
        "            await end_task(sleeping)\n",
        "",
    ),
    _one(
        "move-not-followed",
        "a peer that moved is dialled where it was",
        "moving-addresses",
        "node/rpc/peer_book.py",
        "return [address, *moved] if address.place in known.addresses else [*moved, address]",
        "return [address]",
    ),
    _one(
        "no-deadline",
        "a call may take for ever",
        "record-replicate-restore",
        "node/rpc/peer.py",
        "method(request, timeout=timeout_s or METHODS[name].deadline_s, metadata=self._metadata)",
        "method(request, metadata=self._metadata)",
    ),
    _one(
        "unbounded-transfers",
        "whoever announces much takes all the memory",
        "slow-loris",
        "dht/incoming.py",
        "            owner_fits = self.used_bytes(owner) + size_bytes <= limits.owner_bytes\n",
        "            owner_fits = True\n",
    ),
    _one(
        "transfers-not-forgotten",
        "broken transfers keep their memory",
        "slow-loris",
        "dht/holdings.py",
        "        await self._incoming.expire()\n",
        "        return\n",
    ),
    _one(
        "no-backoff",
        "who is away is called again at once, for ever",
        "deleted-everywhere",
        "node/rpc/link.py",
        "        return longest_s * (0.5 + self._ports.entropy.draw(1)[0] / 512)\n",
        "        return 0.0 * longest_s\n",
        seeds=6,
    ),
    _one(
        "transfer-begins-anew",
        "what had come of a broken transfer is thrown away",
        "broken-transfers",
        "dht/incoming.py",
        "        if keep and transfer.receiver.position:\n",
        "        if False:\n",
        seeds=6,
    ),
    _one(
        "fetched-from-the-beginning",
        "what had come of a chunk is thrown away when all sources break off",
        "broken-transfers",
        "dht/fetching.py",
        "            if fetch.missing < missing:\n",
        "            if False:\n",
        seeds=6,
    ),
    _one(
        "interrupted-called-missing",
        "a chunk that nobody gives just now counts as lost",
        "broken-transfers",
        "dht/fetching.py",
        "        if found is None and fetch.broke_off:\n",
        "        if False:\n",
        seeds=12,
    ),
    _one(
        "advance-not-heeded",
        "a transfer that goes forward is left alone for longer and longer",
        "impatient-holders",
        "dht/placing.py",
        "fault=fault, forward=forward)",
        "fault=fault)",
        seeds=1,
    ),
    _one(
        "resumed-at-wrong-offset",
        "a transfer goes on at the beginning of a frame that had come in part",
        "broken-transfers",
        "dht/transfer.py",
        "        number, skipped = divmod(await self._begin, FRAME_BYTES)\n",
        "        number, skipped = divmod(max(await self._begin - FRAME_BYTES, 0), FRAME_BYTES)\n",
        seeds=6,
    ),
)

ORDER = (
    Mutant(
        "set-iterated",
        "peers are told of in the order of hashes",
        "record-replicate-restore",
        (("node/rpc/acquaintances.py", "in sorted(self._known)]", "in set(self._known)]"),),
        is_order=True,
    ),
    _one(
        "wall-clock",
        "the time is asked of the machine, not of the port",
        "record-replicate-restore",
        "dht/placing.py",
        "        wall_ns = self._ports.clock.wall_ns()\n",
        "        import time\n        wall_ns = time.time_ns()\n",
    ),
    _one(
        "chance",
        "a sample is drawn by a generator that nobody seeded",
        "liar-among-replicas",
        "dht/auditing.py",
        "        number = rng.below(last + 1)\n",
        "        import random\n        number = random.randrange(last + 1)\n",
    ),
)

QUICK = frozenset(
    {
        "receipt-before-fsync",
        "directory-not-synced",
        "lease-for-anybody",
        "no-deadline",
        "task-leaked",
        "set-iterated",
    }
)
MUTANTS: tuple[Mutant, ...] = (*DURABILITY, *TRUST, *WORK, *ORDER)
