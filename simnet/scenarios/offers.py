"""Sessions are offered that are not what they are said to be, or by somebody whose they are not."""

from collections.abc import Sequence

from dht.fact_copies import decode_facts, encode_facts
from dht.sharing import MAX_STRETCHES
from kernel.errors import InvalidRecord, LucidError
from kernel.grants import sign_grant_list
from kernel.head_grants import sign_head_grant
from kernel.sealing import seal
from lucid.v1 import chunk_pb2, identity_pb2, session_pb2, share_pb2
from simnet.scenarios.replays import find_peer
from simnet.world.machine import NETWORK, ROLES, Machine
from simnet.world.recordings import (
    Recorded,
    begin_recording,
    check_recorded,
    record,
    wait_replicated,
)
from simnet.world.world import World

SIZE_BYTES = 40_000
PIECE_S = 5.0

Offer = share_pb2.OfferRequest
Case = tuple[str, Offer]


async def lying_offers(world: World) -> None:
    """Nothing is taken that the caller's owner did not record, or that does not hold; what is right is."""
    owner, observer, hostile, *_ = await world.start_nodes(world.nodes)
    hostile.turn("hostile-caller")
    await hostile.restart()
    await world.wait_connected(world.machines)
    recorded = await record(world, owner, SIZE_BYTES)
    unfinished = await record_in_part(world, owner)
    false = await record(world, hostile, SIZE_BYTES)
    for machine, each in ((owner, recorded), (owner, unfinished), (hostile, false)):
        await wait_replicated(world, machine, each)
    offers = [await capture(owner, observer, each) for each in (recorded, unfinished)]
    own = await capture(hostile, observer, false)
    cases = [case for offer in offers for case in steal(world, hostile, observer, offer, own)]
    cases += falsify(world, observer, own, offers[0])
    world.rng.shuffle(cases)
    for what, offer in cases:
        await expect_refused(world, hostile, observer, what, offer)
    for what, offer in forge_grants(world, owner, hostile, offers[0]):
        await expect_refused(world, owner, observer, what, offer)
    for offer, each in zip(offers, (recorded, unfinished), strict=True):
        await check_taken(world, owner, observer, offer, each)


async def record_in_part(world: World, owner: Machine) -> Recorded:
    """A recording that was interrupted: it has no manifest."""
    recorder = await begin_recording(world, owner)
    await recorder.append(SIZE_BYTES)
    await world.sleep(PIECE_S)
    await owner.restart()
    await world.wait_connected([owner])
    return recorder.recorded


class Catcher:
    """Somebody to whom a session is offered, who only looks at the offer."""

    def __init__(self, reader: Machine) -> None:
        """`reader` is who it says it is."""
        self.identity = reader.node.peering.identity
        self.offers: list[Offer] = []

    async def offer(self, request: Offer) -> share_pb2.OfferResponse:
        """Takes nothing."""
        self.offers.append(request)
        return share_pb2.OfferResponse()


async def capture(machine: Machine, reader: Machine, recorded: Recorded) -> Offer:
    """The offer that a node makes; the reader does not see it yet."""
    catcher = Catcher(reader)
    sharing = machine.node.heads.sharer.share(recorded.session_id, catcher)  # type: ignore[arg-type]
    await machine.call(sharing)
    return catcher.offers[0]


def change(offer: Offer, **fields: object) -> Offer:
    """The same offer with other fields."""
    changed = Offer()
    changed.CopyFrom(offer)
    for name, value in fields.items():
        changed.ClearField(name)  # type: ignore[arg-type]
        changed.MergeFrom(Offer(**{name: value}))  # type: ignore[arg-type]
    return changed


def steal(world: World, hostile: Machine, observer: Machine, offer: Offer, own: Offer) -> list[Case]:
    """What another owner offered, as if it were one's own."""
    locator = hostile.owner.head_locator
    recorder = session_pb2.Fact.FromString(decode_facts(offer.facts)[0]).opened.policy.public_key
    devices = (hostile.device, recorder)
    head_grants = [sign_head_grant(locator, NETWORK, device) for device in devices]
    grant_all = sign_grants(hostile, 2**40, devices)
    cases = [
        ("another's offer", offer),
        ("another's offer with own grants", change(offer, grants=own.grants)),
        ("another's session ID", change(own, session_id=offer.session_id)),
        ("another's facts", change(own, facts=offer.facts, fact_count=offer.fact_count)),
    ]
    if is_complete(offer):  # of one without a manifest, whoever grants the recorder says whose it is
        cases += [
            ("another's offer under a grant of its recorder", change(offer, grants=grant_all)),
            ("with head grants", change(offer, grants=own.grants, head_grants=head_grants)),
        ]
    return cases


def is_complete(offer: Offer) -> bool:
    """Does it offer a recording that has ended well?"""
    facts = map(session_pb2.Fact.FromString, decode_facts(offer.facts))
    return any(fact.HasField("closed") for fact in facts)


def falsify(world: World, reader: Machine, own: Offer, other: Offer) -> list[Case]:
    """A session of one's own that is not what it is said to be."""
    facts, others = decode_facts(own.facts), decode_facts(other.facts)
    box = reader.node.peering.identity.box
    draw = world.rng.randbytes
    wrong_key = seal(draw(32), box, own.session_id, draw(32), draw(24))
    many = [chunk_pb2.ObjectRef() for _ in range(MAX_STRETCHES + 1)]
    great = chunk_pb2.ObjectRef(key=bytes(32), parts=[chunk_pb2.ObjectPart(size_bytes=2**60)])

    def give(payloads: Sequence[bytes]) -> Offer:
        return change(own, facts=encode_facts(payloads), fact_count=len(payloads))

    return [
        ("the wrong key", change(own, secret=wrong_key)),
        ("a key for somebody else", change(own, secret=other.secret)),
        ("no key", change(own, secret=session_pb2.SealedSecret())),
        ("a manifest of another session", give([*facts[:-1], others[-1]])),
        ("facts of two sessions", give([*facts, *others])),
        ("facts in another order", give([facts[0], *reversed(facts[1:])])),
        ("facts twice", give([*facts, *facts])),
        ("without its first fact", give(facts[1:])),
        ("no facts", give([])),
        ("a checkpoint that is forged", give([spoil_checkpoint(fact, draw(64)) for fact in facts])),
        ("another number of facts", change(own, fact_count=own.fact_count + 1)),
        ("too many stretches", change(own, stretches=many)),
        ("a stretch that is too great", change(own, stretches=[great])),
        ("no session", change(own, session_id=b"x")),
        ("no grants", change(own, grants=identity_pb2.Signed())),
    ]


def spoil_checkpoint(payload: bytes, signature: bytes) -> bytes:
    """A fact with another signature under its checkpoint, if it has one."""
    fact = session_pb2.Fact.FromString(payload)
    if fact.HasField("sealed"):
        fact.sealed.checkpoint.signature = signature
    return fact.SerializeToString()


def forge_grants(world: World, owner: Machine, hostile: Machine, offer: Offer) -> list[Case]:
    """The right session under grant lists that do not show whose it is."""
    devices = [identity_pb2.Grant(device=owner.device, roles=[identity_pb2.ROLE_READ])]
    forged = sign_grants(hostile, 1, [owner.device])
    forged.public_key = owner.owner.identity.public_key
    return [
        (
            "a list that does not name the recorder",
            change(offer, grants=sign_grants(owner, 1, [hostile.device])),
        ),
        ("a list that lets it only read", change(offer, grants=sign_list(owner, 1, devices))),
        ("a list of another owner", change(offer, grants=sign_grants(hostile, 1, [owner.device]))),
        ("a forged list", change(offer, grants=forged)),
    ]


def sign_grants(machine: Machine, sequence: int, devices: Sequence[bytes]) -> identity_pb2.Signed:
    """A grant list of a machine's owner that names devices."""
    grants = [identity_pb2.Grant(device=device, roles=ROLES) for device in devices]
    return sign_list(machine, sequence, grants)


def sign_list(machine: Machine, sequence: int, grants: Sequence[identity_pb2.Grant]) -> identity_pb2.Signed:
    """A grant list of a machine's owner."""
    return sign_grant_list(machine.owner.identity, NETWORK, sequence, grants, 0, bytes(32))


async def expect_refused(world: World, caller: Machine, observer: Machine, what: str, offer: Offer) -> None:
    """An offer that must be refused, and leave nothing behind."""
    before = look(observer)
    try:
        response = await caller.call(find_peer(caller, observer).offer(offer))
    except InvalidRecord:
        pass
    except LucidError as error:
        world.expect(False, f"{what} is refused because of {error!r}")
    else:
        world.expect(False, f"{what} is taken; known: {response.known}")
    world.expect(look(observer) == before, f"{what} leaves something behind on {observer.name}")
    await world.sleep(1.0)  # so often may a node offer anything


def look(observer: Machine) -> list[object]:
    """Sessions that a node knows, and where it would keep something of them."""
    paths = observer.disk.files.paths()
    kept = sorted(path for path in paths if "/sessions/" in path or "adopting" in path)
    return [[session_id for session_id, _ in observer.node.manager._catalog.rows([])], kept]


async def check_taken(
    world: World, owner: Machine, observer: Machine, offer: Offer, recorded: Recorded
) -> None:
    """The right offer is taken, under its owner's name; again it does nothing, also when it was deleted."""
    peer = find_peer(owner, observer)

    async def bring() -> bool:
        await world.sleep(1.0)
        return (await owner.call(peer.offer(offer))).known

    world.expect(not await bring(), f"{recorded} is known to {observer.name} before it was taken")
    info = await observer.call(observer.node.manager.info(recorded.session_id))
    world.expect(info.owner == owner.owner.identity.public_key, f"{recorded} is somebody else's")
    await check_recorded(world, observer, recorded)
    world.expect(await bring(), f"{recorded} is taken twice")
    await observer.call(observer.node.manager.delete(recorded.session_id))
    world.expect(await bring(), f"{recorded} comes back after it was deleted")
