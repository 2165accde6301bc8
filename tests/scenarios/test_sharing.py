"""One session is shared with another owner's node, which reads and verifies it, and nothing else."""

import pytest

from dht.fact_copies import decode_facts, encode_facts
from dht.sharing import MAX_SHARED_PER_OWNER
from kernel.errors import Conflict, InvalidRecord, LucidError, NotFound, Reason
from kernel.sealing import seal
from kernel.signing import SigningKey
from lucid.v1 import session_pb2, share_pb2
from storage.faults import Died
from tests.scenarios.owner_world import OwnerWorld, make_holders
from tests.scenarios.test_heads import copy_blobs, make_new, make_old
from tests.scenarios.world import request
from tests.unit.dht.memory_peer import MemoryPeer


async def make_observer(seed: int = 7) -> OwnerWorld:
    observer = OwnerWorld(b"v", b"w", seed=seed)
    await observer.boot()
    return observer


def see(world: OwnerWorld, observer: OwnerWorld) -> MemoryPeer:
    """The observer's node, as the owner's node calls it."""
    unused = object()
    return MemoryPeer(observer.identity, unused, unused, world.identity, reader=observer.heads.taker)  # type: ignore[arg-type]


async def test_an_observer_reads_and_verifies_what_was_shared_and_nothing_else() -> None:
    owner, observer = await make_old([]), await make_observer()
    shared, kept = await owner.record(200_000), await owner.record(10)
    assert await owner.heads.sharer.share(shared, see(owner, observer))
    await copy_blobs(owner, observer)
    assert await observer.read(shared) == await owner.read(shared)
    result = await observer.verify(shared)
    assert result.valid, result.findings
    info = await observer.manager.info(shared)
    assert info.state == session_pb2.STATE_COMPLETE and info.metadata.name == "scenario"
    assert (info.owner, info.sharer) == (owner.identity.owner, owner.identity.device)
    with pytest.raises(NotFound):
        await observer.manager.info(kept)
    assert not await owner.heads.sharer.share(shared, see(owner, observer)), "it is there already"
    await observer.kill(power=True)
    await observer.boot()
    assert observer.manager.problems == []
    assert (await observer.verify(shared)).valid
    await observer.manager.delete(shared)
    assert (await owner.verify(shared)).valid


async def test_what_was_shared_is_not_passed_on_continued_or_published() -> None:
    holders = await make_holders(3)
    owner, observer = await make_old([]), await make_observer()
    recording = await owner.manager.open_recording(request(live=True))
    await recording.append(0, b"x")
    with pytest.raises(Conflict, match="recording"):
        await owner.heads.sharer.share(recording.session_id, see(owner, observer))
    await recording.interrupt("enough")
    assert await owner.heads.sharer.share(recording.session_id, see(owner, observer))
    with pytest.raises(Conflict, match="another owner"):
        await observer.heads.sharer.share(recording.session_id, see(observer, owner))
    with pytest.raises(Conflict, match="another device"):
        await observer.manager.finalize(recording.session_id)
    observer.meet(holders)
    assert await observer.publish()
    again = OwnerWorld(b"v", b"a", seed=9)
    await again.boot()
    again.meet(holders)
    assert (await again.restore()).sessions == 0


async def test_long_facts_travel_as_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dht.sharing.INLINE_BYTES", 100)
    owner, observer = await make_old([]), await make_observer()
    session_id = await owner.record()
    with pytest.raises(Conflict, match="not on other nodes yet"):
        await owner.heads.sharer.share(session_id, see(owner, observer))
    holders = await make_holders(3)
    owner.meet(holders)
    observer.meet(holders)
    assert await owner.heads.sharer.share(session_id, see(owner, observer))
    await copy_blobs(owner, observer)
    assert (await observer.verify(session_id)).valid


async def test_a_restored_session_is_shared_with_the_proof_of_its_lost_device() -> None:
    holders = await make_holders(3)
    old = await make_old(holders)
    session_id = await old.record()
    await old.publish()
    new, observer = await make_new(holders), await make_observer()
    await new.restore()
    assert await new.heads.sharer.share(session_id, see(new, observer))
    await copy_blobs(old, observer)
    assert (await observer.verify(session_id)).valid


async def capture_offer(owner: OwnerWorld, observer: OwnerWorld, session_id: bytes) -> share_pb2.OfferRequest:
    """The offer that the owner's node makes; the observer never sees it."""
    offers: list[share_pb2.OfferRequest] = []

    class Catcher:
        async def offer(self, _caller: object, request: share_pb2.OfferRequest) -> share_pb2.OfferResponse:
            offers.append(request)
            return share_pb2.OfferResponse()

    peer = see(owner, observer)
    peer.reader = Catcher()
    await owner.heads.sharer.share(session_id, peer)
    return offers[0]


async def test_offers_that_do_not_hold_are_refused() -> None:
    owner, observer, stranger = await make_old([]), await make_observer(), await make_observer(8)
    session_id = await owner.record()
    good = await capture_offer(owner, observer, session_id)
    taker = observer.heads.taker

    def change(**fields: object) -> share_pb2.OfferRequest:
        changed = share_pb2.OfferRequest()
        changed.CopyFrom(good)
        for name, value in fields.items():
            changed.ClearField(name)  # type: ignore[arg-type]
            if value is not None:
                new = share_pb2.OfferRequest(**{name: value})  # type: ignore[arg-type]
                changed.MergeFrom(new)
        return changed

    other_secret = seal(b"s" * 32, observer.identity.box, session_id, b"e" * 32, b"n" * 24)
    for_stranger = seal(b"s" * 32, owner.identity.box, session_id, b"e" * 32, b"n" * 24)
    flipped = bytearray(good.facts)
    flipped[len(flipped) // 2] ^= 1
    cases: list[tuple[share_pb2.OfferRequest, type[LucidError]]] = [
        (change(session_id=b"x"), InvalidRecord),
        (change(session_id=b"x" * 16), InvalidRecord),
        (change(secret=other_secret), InvalidRecord),
        (change(secret=for_stranger), InvalidRecord),
        (change(secret=None), InvalidRecord),
        (change(facts=bytes(flipped)), InvalidRecord),
        (change(facts=good.facts[:-1]), InvalidRecord),
        (change(facts=None), InvalidRecord),
        (change(fact_count=None), InvalidRecord),
        (change(grants=stranger.peer_keys.grants), InvalidRecord),
        (change(grants=None), InvalidRecord),
    ]
    for number, (offer, error) in enumerate(cases):
        with pytest.raises(error):
            await taker.offer(owner.identity, offer)
            pytest.fail(f"case {number} was taken")
    with pytest.raises(InvalidRecord):  # somebody else passes the offer on as its own
        await taker.offer(stranger.identity, good)
    own_grants = change(grants=stranger.peer_keys.grants)
    with pytest.raises(InvalidRecord, match="not signed by a device of its owner"):
        await taker.offer(stranger.identity, own_grants)
    assert await observer.manager.list() == []
    assert observer.ports.journal.streams() == []
    assert not (await taker.offer(owner.identity, good)).known


async def test_whoever_gives_a_key_that_does_not_open_is_told_so_and_not_that_its_token_ended() -> None:
    owner, observer = await make_old([]), await make_observer()
    offer = await capture_offer(owner, observer, await owner.record())
    offer.ClearField("secret")
    with pytest.raises(InvalidRecord, match="no key of this node opens") as raised:
        await observer.heads.taker.offer(owner.identity, offer)
    assert raised.value.reason is Reason.NOT_DECRYPTABLE


async def test_head_grants_of_another_locator_prove_nothing() -> None:
    from kernel.domains import NETWORKS
    from kernel.head_grants import sign_head_grant

    owner, thief, observer = await make_old([]), OwnerWorld(b"t", b"u", seed=4), await make_observer()
    await thief.boot()
    session_id = await owner.record()
    stolen = await capture_offer(owner, observer, session_id)
    locator = SigningKey.from_seed(b"l" * 32)
    stolen.grants.CopyFrom(thief.peer_keys.grants)
    for device in (thief.identity.device, owner.identity.device):
        stolen.head_grants.append(sign_head_grant(locator, NETWORKS["dev"], device))
    # The manifest names its owner: a thief cannot pass a recording off as its own.
    with pytest.raises(InvalidRecord, match="another owner"):
        await observer.heads.taker.offer(thief.identity, stolen)


async def test_an_owner_may_share_so_many_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_SHARED_PER_OWNER > 2
    monkeypatch.setattr("dht.sharing.MAX_SHARED_PER_OWNER", 2)
    owner, observer = await make_old([]), await make_observer()
    for seed in (1, 2):
        await owner.heads.sharer.share(await owner.record(seed=seed), see(owner, observer))
    with pytest.raises(Conflict, match="may share 2"):
        await owner.heads.sharer.share(await owner.record(seed=3), see(owner, observer))


async def test_all_owners_together_may_share_so_many_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Owners cost nothing to make up, so a bound on each is none on all."""
    monkeypatch.setattr("dht.sharing.MAX_SHARED", 2)
    observer = await make_observer()
    offers = []
    for name in (b"1", b"2", b"3"):
        owner = OwnerWorld(name, name, seed=name[0])
        await owner.boot()
        offers.append((owner, await owner.record()))
    for owner, session_id in offers[:2]:
        await owner.heads.sharer.share(session_id, see(owner, observer))
    with pytest.raises(Conflict, match="others may share 2"):
        await offers[2][0].heads.sharer.share(offers[2][1], see(offers[2][0], observer))


@pytest.mark.parametrize("power", [False, True])
async def test_taking_killed_at_every_step(power: bool) -> None:
    owner, probe = await make_old([]), await make_observer()
    session_id = await owner.record(100_000)
    before = probe.faults.operations
    offer = await capture_offer(owner, probe, session_id)
    await probe.heads.taker.offer(owner.identity, offer)
    for operation in range(probe.faults.operations - before):
        observer = await make_observer()
        observer.faults.die_at = observer.faults.operations + operation
        with pytest.raises((Died, LucidError)):
            await observer.heads.taker.offer(owner.identity, offer)
        await observer.kill(power=power)
        observer.faults.revive()
        await observer.boot()
        assert observer.manager.problems == []
        await observer.heads.taker.offer(owner.identity, offer)
        await copy_blobs(owner, observer)
        assert (await observer.verify(session_id)).valid


async def test_numbers_that_no_field_can_hold_are_refused() -> None:
    """Two chunks, each of as many bytes as a field can say."""
    owner, observer = await make_old([]), await make_observer()
    offer = await capture_offer(owner, observer, await owner.record(100))
    payloads = decode_facts(offer.facts)
    sealed = next(fact for fact in map(session_pb2.Fact.FromString, payloads) if fact.sealed.chunks)
    sealed.sealed.chunks[0].plaintext_bytes = 2**64 - 1
    sealed.sealed.chunks.add(index=1, plaintext_bytes=2**64 - 1)
    offer.facts = encode_facts([payloads[0], sealed.SerializeToString()])
    offer.fact_count = 2
    with pytest.raises(InvalidRecord, match="add up to too much"):
        await observer.heads.taker.offer(owner.identity, offer)
