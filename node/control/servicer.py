"""The methods of the control API. Each is short: what takes long runs in the rooms below, off the loop."""

import asyncio
from collections.abc import AsyncIterator
from typing import TypeAlias

import grpc

from kernel.errors import LucidError
from lucid.v1 import control_pb2, control_pb2_grpc, data_pb2
from node.compose import Node
from node.control.head_methods import HeadMethods
from node.control.peer_methods import PeerMethods
from node.control.progress import wait_a_moment
from node.control.replica_methods import ReplicaMethods

Context: TypeAlias = "grpc.aio.ServicerContext[object, object]"


class ControlServicer(HeadMethods, ReplicaMethods, PeerMethods, control_pb2_grpc.ControlServicer):
    """Serves one node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._manager = node.manager

    async def GetStatus(  # noqa: N802
        self, request: control_pb2.GetStatusRequest, context: Context
    ) -> control_pb2.GetStatusResponse:
        """How the node is doing."""
        return await self._node.status()

    async def ListSessions(  # noqa: N802
        self, request: control_pb2.ListSessionsRequest, context: Context
    ) -> AsyncIterator[control_pb2.ListSessionsResponse]:
        """Sessions, the newest last."""
        found = await self._manager.list(
            since_ns=request.since_ns,
            tags=request.tags,
            state=request.state,
            search=request.search,
        )
        for info in found:
            yield control_pb2.ListSessionsResponse(session=info)

    async def ShowSession(  # noqa: N802
        self, request: control_pb2.ShowSessionRequest, context: Context
    ) -> control_pb2.ShowSessionResponse:
        """One session."""
        session_id = self._manager.find(request.session)
        return control_pb2.ShowSessionResponse(session=await self._manager.info(session_id))

    async def VerifySession(  # noqa: N802
        self, request: control_pb2.VerifySessionRequest, context: Context
    ) -> AsyncIterator[control_pb2.VerifySessionResponse]:
        """Checks a session; progress comes until the result does."""
        session_id = self._manager.find(request.session)
        progress = data_pb2.TransferProgress()

        def on_progress(done_bytes: int, total_bytes: int) -> None:
            progress.plaintext_bytes, progress.total_bytes = done_bytes, total_bytes

        verifying = asyncio.ensure_future(self._manager.verify(session_id, on_progress))
        try:
            while not verifying.done():
                await wait_a_moment(verifying)
                yield control_pb2.VerifySessionResponse(progress=progress)
            yield control_pb2.VerifySessionResponse(result=verifying.result())
        finally:
            verifying.cancel()

    async def RecoverSessions(  # noqa: N802
        self, request: control_pb2.RecoverSessionsRequest, context: Context
    ) -> control_pb2.RecoverSessionsResponse:
        """Finalizes one interrupted session, or all of them."""
        if request.session:
            session_id = self._manager.find(request.session)
            return control_pb2.RecoverSessionsResponse(finalized=[await self._finalize(session_id)])
        finalized, failures = [], []
        for session_id in self._manager.interrupted():
            try:
                finalized.append(await self._finalize(session_id))
            except LucidError as error:
                failures.append((session_id, error))
        if failures:
            session_id, first = failures[0]
            raise LucidError(
                f"{len(failures)} of {len(failures) + len(finalized)} sessions could not be finalized;"
                f" {session_id.hex()}: {first}",
                hint=first.hint,
            )
        return control_pb2.RecoverSessionsResponse(finalized=finalized)

    async def DeleteSession(  # noqa: N802
        self, request: control_pb2.DeleteSessionRequest, context: Context
    ) -> control_pb2.DeleteSessionResponse:
        """Erases a session."""
        session_id = self._manager.find(request.session)
        freed_bytes = await self._node.writing(self._manager.delete(session_id))
        self._node.log.info("session deleted", session=session_id.hex(), freed_bytes=freed_bytes)
        self._node.measure()
        return control_pb2.DeleteSessionResponse(session_id=session_id, freed_bytes=freed_bytes)

    async def SetHold(  # noqa: N802
        self, request: control_pb2.SetHoldRequest, context: Context
    ) -> control_pb2.SetHoldResponse:
        """Puts a session under legal hold, or ends that."""
        session_id = self._manager.find(request.session)
        info = await self._node.writing(self._manager.set_hold(session_id, request.held))
        self._node.log.info("legal hold", session=session_id.hex(), held=request.held)
        return control_pb2.SetHoldResponse(session=info)

    async def _finalize(self, session_id: bytes) -> control_pb2.SessionInfo:
        info = await self._node.writing(self._node.finalize(session_id))
        self._node.log.info("session finalized", session=session_id.hex())
        return info
