"""Somebody repeats what was said before: to another node, too late, or in another name."""

from collections.abc import AsyncIterator, Coroutine
from typing import Any

import grpc

from dht import tables
from dht.lease import sign_lease
from dht.replicas import get_lease
from kernel.domains import Domain
from kernel.errors import Conflict, InvalidRecord, Locked, LucidError, Reason
from kernel.handshake import NONCE_BYTES, Handshake, sign_proof
from kernel.signing import SigningKey
from lucid.v1 import chunk_pb2, head_pb2, identity_pb2, node_pb2, node_pb2_grpc
from node.rpc.call_errors import decode_peer_error
from node.rpc.limits import METHODS
from node.rpc.peer import RpcPeer
from node.rpc.tokens import METADATA_KEY, TOKEN_TTL_S
from simnet.scenarios.liars import list_counting
from simnet.world.machine import NETWORK, Machine, derive_root
from simnet.world.recordings import check_recorded, record, wait_replicated
from simnet.world.transport import SimTransport
from simnet.world.world import World

SIZE_BYTES = 60_000
QUIET_S = 35.0
LATE_S = 500 * 86_400.0
"""Later than the end of any lease or head."""
TIMEOUT_S = METHODS["lucid.v1.NodeService/Ping"].deadline_s
WATCHED = (tables.HOLDINGS, tables.HEADS, tables.ATTESTED)

Refusal = Reason | type[LucidError] | None


async def replays(world: World) -> None:
    """What was signed for others, or long ago, is refused by everybody, and changes nothing anywhere."""
    owner, *holders = await world.start_nodes(world.nodes)
    hostile, victim, other = world.rng.sample(holders, 3)
    hostile.turn("hostile-caller")
    await hostile.restart()
    await world.wait_connected(world.machines)
    recordings = [await record(world, owner, SIZE_BYTES)]
    await wait_replicated(world, owner, recordings[0])
    old_head = load_head(owner)
    recordings.append(await record(world, owner, SIZE_BYTES))
    await wait_replicated(world, owner, recordings[1])
    await world.sleep(QUIET_S)  # until nobody has anything to say that would change the victim
    mallory = Mallory(world, hostile, victim)
    await mallory.replay_leases_and_releases(owner)
    await mallory.replay_heads(load_head(owner), old_head)
    await mallory.replay_handshakes(other)
    await mallory.replay_tokens(owner, other)
    for recorded in recordings:
        await check_recorded(world, owner, recorded)


def load_head(machine: Machine) -> chunk_pb2.HeadEntry:
    """The newest head that a node has published."""
    value = machine.node.ports.records.get(tables.OBJECTS, tables.HEAD_KEY) or b""
    return head_pb2.PublishedHead.FromString(value).entry


class Mallory:
    """Somebody who has heard everything, and has the keys of one node; he speaks to another one."""

    def __init__(self, world: World, hostile: Machine, victim: Machine) -> None:
        """`hostile` is whose keys he has."""
        self._world = world
        self._hostile = hostile
        self._victim = victim
        self._key = SigningKey.from_seed(derive_root(world.seed, hostile.name, "leases"))
        self._token = get_token(hostile, victim)
        self._host = world.network.host("mallory")

    async def replay_leases_and_releases(self, owner: Machine) -> None:
        """Those for other holders, those of other keys, and those whose time is over."""
        rows = list_counting(owner)
        for row in (row for row in rows if row.holder != self._victim.device):
            await self._expect("a lease for another holder", Reason.WRONG_HOLDER, self._put(row.lease))
            await self._expect(
                "a release for another holder", Reason.WRONG_HOLDER, self._release(row.release)
            )
        for row in (row for row in rows if row.holder == self._victim.device):
            forged = sign_lease(self._key, NETWORK, get_lease(row))
            forged.public_key = row.lease.public_key
            await self._expect("a forged lease", Reason.BAD_SIGNATURE, self._put(forged))
            release = self._key.sign(Domain.RELEASE, NETWORK, row.release.payload)
            await self._expect("a release by another key", None, self._release(release))
            release.public_key = row.release.public_key
            await self._expect("a forged release", Reason.BAD_SIGNATURE, self._release(release))
            await self._expect_late("a lease that is over", self._put(row.lease))

    async def replay_heads(self, head: chunk_pb2.HeadEntry, old: chunk_pb2.HeadEntry) -> None:
        """Old ones, those that have expired, and those under the grant of another locator."""
        await self._expect("an old head", Conflict, self._put_head(old))
        mixed = chunk_pb2.HeadEntry(head=head.head, grant=load_head(self._hostile).grant)
        await self._expect("a head under another grant", Reason.WRONG_SIGNER, self._put_head(mixed))
        await self._expect_late("a head that has expired", self._put_head(head))

    async def replay_handshakes(self, other: Machine) -> None:
        """A proof that was good once, and one that was made for another node's address."""
        async with self._dial() as channel:
            stub = node_pb2_grpc.NodeServiceStub(channel)
            proof = await self._prove(stub, str(self._victim.address))
            request = node_pb2.AuthenticateRequest(proof=proof)
            await self._expect("a handshake of his own", None, stub.Authenticate(request, timeout=TIMEOUT_S))
            again = stub.Authenticate(request, timeout=TIMEOUT_S)
            await self._expect("a proof that was used before", Locked, again)
            forwarded = node_pb2.AuthenticateRequest(proof=await self._prove(stub, str(other.address)))
            answer = stub.Authenticate(forwarded, timeout=TIMEOUT_S)
            await self._expect("a proof for another address", Reason.WRONG_ADDRESS, answer)

    async def replay_tokens(self, owner: Machine, other: Machine) -> None:
        """One for another node, one that has ended, and one of a process that is gone."""
        await self._expect("his own token", None, self._ping(self._token))
        await self._expect("a token for another node", Locked, self._ping(get_token(owner, other)))
        self._victim.skew.shift(self._world.now_s, 0.0, TOKEN_TTL_S)
        await self._world.sleep(1.0)
        self._victim.skew.shift(self._world.now_s, 0.0, 0.0)
        await self._expect("a token that has ended", Locked, self._ping(self._token))
        await self._world.wait_until(self._has_another_token, "the hostile node is greeted again")
        fresh = get_token(self._hostile, self._victim)
        await self._expect("the token of a later handshake", None, self._ping(fresh))
        await self._victim.restart()
        await self._world.wait_connected([self._victim])
        await self._expect("a token of an earlier process", Locked, self._ping(fresh))

    def _has_another_token(self) -> bool:
        peer = self._hostile.node.peering.book.find(self._victim.device)
        return peer is not None and get_token(self._hostile, self._victim) != self._token

    # What he sends.

    async def _put(self, lease: identity_pb2.Signed) -> None:
        chunk_id = chunk_pb2.Lease.FromString(lease.payload).chunk_id

        async def requests() -> AsyncIterator[chunk_pb2.PutChunkRequest]:
            yield chunk_pb2.PutChunkRequest(open=chunk_pb2.PutOpen(lease=lease, leaves=chunk_id))

        async for _ in self._get_peer().put_chunk(requests()):
            continue

    async def _release(self, release: identity_pb2.Signed) -> None:
        await self._get_peer().release_chunk(chunk_pb2.ReleaseChunkRequest(release=release))

    async def _put_head(self, entry: chunk_pb2.HeadEntry) -> None:
        await self._get_peer().put_head(chunk_pb2.PutHeadRequest(entry=entry))

    async def _ping(self, token: bytes) -> None:
        async with self._dial() as channel:
            stub = node_pb2_grpc.NodeServiceStub(channel)
            await stub.Ping(node_pb2.PingRequest(), timeout=TIMEOUT_S, metadata=((METADATA_KEY, token),))

    async def _prove(self, stub: Any, dialled: str) -> identity_pb2.Signed:
        """The proof of the hostile node in a new handshake with the victim."""
        presenter = self._hostile.node.peering._presenter
        nonce = self._world.rng.randbytes(NONCE_BYTES)
        request = node_pb2.HelloRequest(record=presenter.get_record(), nonce=nonce)
        hello = await stub.Hello(request, timeout=TIMEOUT_S)
        handshake = Handshake(self._hostile.device, self._victim.device, nonce, hello.nonce, hello.version)
        key = presenter.keys.device.identity
        return sign_proof(key, NETWORK, handshake, node_pb2.HANDSHAKE_ROLE_CLIENT, dialled)

    def _dial(self) -> grpc.aio.Channel:
        return SimTransport(self._host).dial(self._victim.address)

    def _get_peer(self) -> RpcPeer:
        return find_peer(self._hostile, self._victim)

    # What must come of it.

    async def _expect_late(self, what: str, call: Coroutine[Any, Any, None]) -> None:
        """A call at a time at which everything that was signed has ended, by the victim's clock."""
        self._victim.skew.shift(self._world.now_s, LATE_S, 0.0)
        await self._expect(what, Reason.EXPIRED, call)
        self._victim.skew.shift(self._world.now_s, -LATE_S, 0.0)

    async def _expect(self, what: str, wanted: Refusal, call: Any) -> None:
        """A call that must be refused so, or do nothing if `wanted` is None; the victim stays as it is."""
        before = self._look()
        try:
            await call
        except grpc.aio.AioRpcError as error:
            found = decode_peer_error(error, self._victim.name)
            self._judge(what, wanted, found)
        except LucidError as error:
            self._judge(what, wanted, error)
        else:
            self._judge(what, wanted, None)
        self._world.expect(self._look() == before, f"{what} has changed something on {self._victim.name}")

    def _judge(self, what: str, wanted: Refusal, error: LucidError | None) -> None:
        found = error.reason if isinstance(error, InvalidRecord) else None if error is None else type(error)
        self._world.expect(found is wanted, f"{what}: {wanted} was expected, not {error!r}")

    def _look(self) -> list[object]:
        """What the victim keeps for others."""
        disk = self._victim.disk
        return [*(disk.records.scan(table, damaged=[]) for table in WATCHED), disk.list_blobs()]


def find_peer(machine: Machine, other: Machine) -> RpcPeer:
    """One node as another one calls it."""
    peer = machine.node.peering.book.find(other.device)
    if not isinstance(peer, RpcPeer):
        raise LookupError(f"{machine.name} is not connected to {other.name}")
    return peer


def get_token(machine: Machine, other: Machine) -> bytes:
    """With what one node calls another."""
    return find_peer(machine, other)._metadata[0][1]
