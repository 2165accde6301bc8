"""Nodes that show grant lists which do not say, or no longer say, that their owner lets them work."""

from collections.abc import Iterator

import grpc

from kernel.domains import Domain
from kernel.errors import InvalidRecord, LucidError, Reason
from kernel.grants import MAX_GRANTS
from kernel.handshake import NONCE_BYTES
from lucid.v1 import identity_pb2, node_pb2, node_pb2_grpc
from node.identity.peer_keys import PeerKeys
from node.identity.peer_record import make_peer_record
from node.rpc.call_errors import decode_peer_error
from node.rpc.limits import METHODS
from node.rpc.tokens import TOKEN_TTL_S
from simnet.scenarios.liars import list_counting
from simnet.scenarios.offers import sign_grants, sign_list
from simnet.world.machine import NETWORK, ROLES, Machine
from simnet.world.network import Host
from simnet.world.recordings import check_recorded, record, start_heir, wait_replicated
from simnet.world.transport import SimTransport
from simnet.world.world import World

SIZE_BYTES = 40_000
TIMEOUT_S = METHODS["lucid.v1.NodeService/Hello"].deadline_s
CARD_S = 3600

Case = tuple[str, identity_pb2.Signed, Reason]


async def lying_grants(world: World) -> None:
    """A stolen device was retired: no list that it shows lets it in again."""
    stolen, *honest = await world.start_nodes(world.nodes)
    stolen.turn("hostile-caller")
    recorded = await record(world, stolen, SIZE_BYTES)
    await wait_replicated(world, stolen, recorded)
    old = stolen._peer_keys.grants
    heir, restored = await start_heir(world, stolen)
    world.expect(restored.restored == 1, f"one session is restored: {restored.problems}")
    await world.sleep(world.rng.uniform(0, 10))
    thief = world.network.host("thief")
    for victim in (*honest, heir):
        for what, grants, wanted in make_lists(world, stolen, heir, honest[0], old):
            await expect_answer(world, thief, stolen, victim, what, grants, wanted)
    await world.wait_until(
        lambda: not any(is_connected(victim, stolen) for victim in honest),
        "nobody calls the retired device any more",
        within_s=TOKEN_TTL_S,
    )
    await world.wait_until(
        lambda: not any(is_connected(stolen, victim) for victim in honest),
        "the retired device can call nobody any more",
        within_s=TOKEN_TTL_S,
    )
    await stolen.restart()
    await world.sleep(60.0)
    world.expect(not any(is_connected(stolen, each) for each in honest), "the retired device is let in again")
    later = await record(world, heir, SIZE_BYTES)
    await wait_replicated(world, heir, later)
    world.expect(
        not any(row.holder == stolen.device for row in list_counting(heir)),
        "the retired device holds replicas",
    )
    for each in (recorded, later):
        await check_recorded(world, heir, each)


def is_connected(machine: Machine, other: Machine) -> bool:
    """Can one node call the other?"""
    return machine.node.peering.book.find(other.device) is not None


def make_lists(
    world: World, stolen: Machine, heir: Machine, other: Machine, old: identity_pb2.Signed
) -> Iterator[Case]:
    """Grant lists that a stolen device may show, and how it must be refused."""
    now_s = stolen.node.ports.clock.wall_ns() // 10**9
    newest = heir._peer_keys.grants
    own = identity_pb2.GrantList.FromString(old.payload)
    yield "its old list", old, Reason.NOT_GRANTED
    yield "the list that retires it", newest, Reason.NOT_GRANTED
    yield "another owner's list", other._peer_keys.grants, Reason.NOT_GRANTED
    expired = identity_pb2.Grant(device=stolen.device, roles=ROLES, until_s=now_s - 1)
    yield "a grant that has ended", sign_list(other, now_s, [expired]), Reason.NOT_GRANTED
    reader = identity_pb2.Grant(device=stolen.device, roles=[identity_pb2.ROLE_READ])
    yield "a grant to read", sign_list(other, now_s, [reader]), Reason.NOT_GRANTED
    own.sequence = 2**63
    forged = stolen._device.identity.sign(
        Domain.GRANT_LIST, NETWORK, own.SerializeToString(deterministic=True)
    )
    yield "a list that it signed itself", forged, Reason.WRONG_SIGNER
    renamed = identity_pb2.Signed(payload=forged.payload, public_key=own.owner, signature=forged.signature)
    yield "a list that it signed in its owner's name", renamed, Reason.BAD_SIGNATURE
    spoilt = identity_pb2.Signed(payload=forged.payload, public_key=own.owner, signature=old.signature)
    yield "a list with a higher number", spoilt, Reason.BAD_SIGNATURE
    own.ClearField("grants")
    for number in range(MAX_GRANTS + 1):
        own.grants.add(device=number.to_bytes(32, "big"), roles=[identity_pb2.ROLE_WORK])
    many = other.owner.identity
    own.owner = many.public_key
    great = many.sign(Domain.GRANT_LIST, NETWORK, own.SerializeToString(deterministic=True))
    yield "a list of too many devices", great, Reason.TOO_LARGE
    yield "another owner's older list", sign_grants(other, 1, [stolen.device]), Reason.NOT_GRANTED


async def expect_answer(
    world: World,
    thief: Host,
    stolen: Machine,
    victim: Machine,
    what: str,
    grants: identity_pb2.Signed,
    wanted: Reason,
) -> None:
    """Presents the stolen device with a grant list; the answer must be that one."""
    found: LucidError | None = None
    try:
        await greet(world, thief, stolen, victim, grants)
    except LucidError as error:
        found = error
    reason = found.reason if isinstance(found, InvalidRecord) else None
    world.expect(reason is wanted, f"{what}: {wanted} was expected, not {found!r}")


async def greet(
    world: World, thief: Host, stolen: Machine, victim: Machine, grants: identity_pb2.Signed
) -> None:
    """Says hello in the stolen device's name, under a grant list."""
    keys = PeerKeys(NETWORK, stolen._device, grants)
    now_ns = stolen.node.ports.clock.wall_ns()
    presented = make_peer_record(
        keys,
        [stolen.address],
        sequence=now_ns,
        expires_s=now_ns // 10**9 + CARD_S,
        versions=(1,),
        software="lucid-node, stolen",
    )
    request = node_pb2.HelloRequest(record=presented, nonce=world.rng.randbytes(NONCE_BYTES))
    async with SimTransport(thief).dial(victim.address) as channel:
        try:
            await node_pb2_grpc.NodeServiceStub(channel).Hello(request, timeout=TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            raise decode_peer_error(error, victim.name) from error
