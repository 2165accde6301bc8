"""Sharing one session with another node, which then reads and verifies it. Rules: docs/spec/12-head.md.

The owner's side seals the session secret to the reader's box key and hands over the facts; chunks are fetched
by who reads, from their holders. The reader's side takes nothing that does not verify: the grant list must be
that of the caller's owner and must lead to the recording device, the secret must open, the facts must form
the session. What is shared cannot be taken back.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from dht.devices import OwnersDevices
from dht.fact_copies import MAX_STRETCH_BYTES, decode_facts, encode_facts
from dht.objects import check_reference, open_object
from dht.ports import FetchBlob, Peer, PeerIdentity, Sessions
from dht.publishing import HeadPublisher
from kernel.domains import Network
from kernel.errors import Conflict, InvalidRecord, Reason
from kernel.grants import verify_grant_list
from kernel.sealing import SESSION_ID_BYTES
from lucid.v1 import chunk_pb2, identity_pb2, session_pb2, share_pb2

INLINE_BYTES = 512 << 10
MAX_STRETCHES = 1024
MAX_FACTS_BYTES = 32 << 20
MAX_SHARED_PER_OWNER = 256
MAX_SHARED = 1024
"""Sessions of all other owners together: owners cost nothing to make up."""


@dataclass(frozen=True, slots=True)
class Shareable:
    """A session that may be shared.

    Attributes:
        recorder: Ed25519 key of the device that recorded it.
        fact_count: how many facts it has.
    """

    recorder: bytes
    fact_count: int


class SharedSessions(Protocol):
    """What sharing needs of sessions, beside what heads need."""

    def get_shareable(self, session_id: bytes) -> Shareable:
        """The session, if it may be shared now.

        Raises:
            NotFound: there is none.
            Conflict: it is being recorded, or belongs to another owner.
        """
        ...

    async def seal_for(self, session_id: bytes, reader: bytes) -> session_pb2.SealedSecret:
        """The session secret, sealed to an X25519 key."""
        ...

    def count_shared(self, owner: bytes) -> tuple[int, int]:
        """How many sessions of another owner, and of all other owners together, are here."""
        ...

    async def adopt_shared(
        self, session_id: bytes, payloads: Sequence[bytes], adopted: session_pb2.Adopted
    ) -> bool:
        """Takes in a session that another owner shared; False if it is known here.

        Raises:
            InvalidRecord: the facts are no session of that owner, or no key of this node opens it.
        """
        ...


class Sharer:
    """The owner's side."""

    def __init__(
        self,
        device: bytes,
        grants: identity_pb2.Signed,
        grant_list: identity_pb2.GrantList,
        head_grant: identity_pb2.Signed | None,
        devices: OwnersDevices | None,
        publisher: HeadPublisher | None,
        sessions: Sessions,
        shared: SharedSessions,
    ) -> None:
        """`devices` and `publisher` are missing on a node without a head grant."""
        self._device = device
        self._grants = grants
        self._granted = {grant.device for grant in grant_list.grants}
        self._head_grant = head_grant
        self._devices = devices
        self._publisher = publisher
        self._sessions = sessions
        self._shared = shared

    async def share(self, session_id: bytes, peer: Peer) -> bool:
        """Lets a peer read a session.

        Returns:
            False if the peer knew it already, or deleted it.

        Raises:
            NotFound: there is no such session.
            Conflict: it is being recorded, is not this owner's, or nothing shows whose its recorder is.
            LucidError: the peer does not take it.
        """
        session = self._shared.get_shareable(session_id)
        request = share_pb2.OfferRequest(
            session_id=session_id,
            secret=await self._shared.seal_for(session_id, peer.identity.box),
            fact_count=session.fact_count,
            grants=self._grants,
            head_grants=self._prove(session.recorder),
        )
        facts = encode_facts(await self._sessions.read_facts(session_id, 0, session.fact_count))
        if len(facts) <= INLINE_BYTES:
            request.facts = facts
        else:
            request.stretches.extend(await self._list_stretches(session_id, session.fact_count))
        response = await peer.offer(request)
        return not response.known

    def _prove(self, recorder: bytes) -> list[identity_pb2.Signed]:
        if recorder in self._granted:
            return []
        other = self._devices.grant_of(recorder) if self._devices is not None else None
        if self._head_grant is None or other is None:
            raise Conflict("nothing shows another owner that the recording device was this owner's")
        return [self._head_grant, other]

    async def _list_stretches(self, session_id: bytes, count: int) -> Sequence[chunk_pb2.ObjectRef]:
        if self._publisher is not None:
            await self._publisher.publish()
            references = self._publisher.list_stretches(session_id, count)
            if references:
                return references
        raise Conflict(
            "the copies of the session's facts are not on other nodes yet",
            hint="Try again when `lucid-node status` shows no pending head.",
        )


class OfferTaker:
    """The reader's side."""

    def __init__(self, network: Network, shared: SharedSessions, fetch: FetchBlob) -> None:
        self._network = network
        self._shared = shared
        self._fetch = fetch

    async def offer(self, caller: PeerIdentity, request: share_pb2.OfferRequest) -> share_pb2.OfferResponse:
        """Takes a session that an authenticated peer shares.

        Raises:
            InvalidRecord: something of it does not hold, or the secret is not sealed to this node.
            Conflict: this owner has shared as many sessions as are taken.
            Unavailable: the facts cannot be fetched.
        """
        if len(request.session_id) != SESSION_ID_BYTES or len(request.stretches) > MAX_STRETCHES:
            raise InvalidRecord(Reason.MALFORMED, "the offer names no session, or too many stretches")
        verify_grant_list(request.grants, self._network, owner=caller.owner)
        by_owner, by_all = self._shared.count_shared(caller.owner)
        if by_owner >= MAX_SHARED_PER_OWNER:
            raise Conflict(f"an owner may share {MAX_SHARED_PER_OWNER} sessions with this node")
        if by_all >= MAX_SHARED:
            raise Conflict(f"others may share {MAX_SHARED} sessions with this node")
        payloads = await self._read_facts(request)
        if len(payloads) != request.fact_count:
            raise InvalidRecord(Reason.NOT_CONSISTENT, "the offer has another number of facts than it says")
        adopted = session_pb2.Adopted(
            owner=caller.owner,
            sharer=caller.device,
            grants=request.grants,
            head_grants=request.head_grants,
            secrets=[request.secret],
        )
        is_new = await self._shared.adopt_shared(request.session_id, payloads, adopted)
        return share_pb2.OfferResponse(known=not is_new)

    async def _read_facts(self, request: share_pb2.OfferRequest) -> list[bytes]:
        payloads = decode_facts(request.facts)
        left = MAX_FACTS_BYTES
        for reference in request.stretches:
            check_reference(reference, min(left, MAX_STRETCH_BYTES))
            blobs = [await self._fetch(part.chunk_id, part.size_bytes) for part in reference.parts]
            content = open_object(reference, blobs)
            left -= len(content)
            payloads += decode_facts(content)
        return payloads
