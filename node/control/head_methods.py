"""The methods of the control API that concern restoring and sharing."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import TypeAlias

import grpc

from dht.restoring import Restored
from kernel.errors import Unavailable
from kernel.peer_id import encode_peer_id
from lucid.v1 import control_pb2
from node.compose import Node
from node.control.progress import wait_a_moment

CONNECT_TIMEOUT_S = 15.0
TOR_TIMEOUT_S = 120.0
"""For Tor to be ready, and again for peers to be reached through it."""

Context: TypeAlias = "grpc.aio.ServicerContext[object, object]"


class HeadMethods:
    """Part of `ControlServicer`."""

    _node: Node

    async def ShareSession(  # noqa: N802
        self, request: control_pb2.ShareSessionRequest, context: Context
    ) -> control_pb2.ShareSessionResponse:
        """Lets another node read a session."""
        session_id = self._node.manager.find(request.session)
        link = await self._node.peering.book.reach(request.peer)
        if link.peer is None:
            message = f"the peer cannot be reached: {link.trouble}"
            raise Unavailable(message, hint="`lucid-node peers` shows who can be.")
        device = link.peer.identity.device
        is_new = await self._node.heads.sharer.share(session_id, link.peer)
        self._node.log.info("session shared", session=session_id.hex(), peer=device.hex(), is_new=is_new)
        return control_pb2.ShareSessionResponse(session_id=session_id, peer_id=encode_peer_id(device))

    async def RestoreSessions(  # noqa: N802
        self, request: control_pb2.RestoreSessionsRequest, context: Context
    ) -> AsyncIterator[control_pb2.RestoreSessionsResponse]:
        """Brings back what heads tell of; progress comes until all is done."""
        progress = Restored()
        restoring = asyncio.ensure_future(self._restore(progress))
        try:
            while not restoring.done():
                await wait_a_moment(restoring)
                yield describe_restored(progress, final=False)
            restoring.result()
            yield describe_restored(progress, final=True)
        finally:
            restoring.cancel()

    async def _restore(self, progress: Restored) -> None:
        onions, connect_s = self._node.onions, CONNECT_TIMEOUT_S
        if onions is not None:
            await onions.wait_ready(TOR_TIMEOUT_S)
            connect_s = TOR_TIMEOUT_S
        with suppress(TimeoutError):
            async with asyncio.timeout(connect_s):
                await self._node.peering.book.try_all()
        await self._node.writing(self._node.heads.restore(progress))
        self._node.log.info("restored", sessions=progress.restored, problems=len(progress.problems))


def describe_restored(progress: Restored, *, final: bool) -> control_pb2.RestoreSessionsResponse:
    """How far restoring has come; problems are told at the end."""
    return control_pb2.RestoreSessionsResponse(
        sessions=progress.sessions,
        done=progress.restored + progress.known,
        problems=progress.problems if final else (),
        peers=progress.peers,
        heads=progress.heads,
        restored=progress.restored,
        known=progress.known,
        final=final,
    )
