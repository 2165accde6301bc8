"""The methods of the control API that concern copies of recordings on other nodes."""

import asyncio
from collections.abc import AsyncIterator
from typing import TypeAlias

import grpc

from dht.auditing import AuditOutcome
from kernel.errors import UsageError
from lucid.v1 import control_pb2, data_pb2
from node.compose import Node
from node.control.progress import wait_a_moment

MAX_WAIT_S = 7 * 86_400
MAX_FINDINGS = 1000

Context: TypeAlias = "grpc.aio.ServicerContext[object, object]"


class ReplicaMethods:
    """Part of `ControlServicer`."""

    _node: Node

    async def ListReplicas(  # noqa: N802
        self, request: control_pb2.ListReplicasRequest, context: Context
    ) -> control_pb2.ListReplicasResponse:
        """Who holds what of a session."""
        session_id = self._node.manager.find(request.session)
        return await self._node.ports.offload_io.run(self._node.spreading.list_replicas, session_id)

    async def WaitReplicas(  # noqa: N802
        self, request: control_pb2.WaitReplicasRequest, context: Context
    ) -> AsyncIterator[control_pb2.WaitReplicasResponse]:
        """Reports until the session has all its replicas, or the time is up."""
        if request.wait_s > MAX_WAIT_S:
            raise UsageError(f"{request.wait_s} s are longer than {MAX_WAIT_S}")
        session_id = self._node.manager.find(request.session)
        spreading = self._node.spreading
        if not spreading.is_possible:
            yield control_pb2.WaitReplicasResponse()
            return
        async for count in spreading.wait_replicas(session_id, request.wait_s):
            yield control_pb2.WaitReplicasResponse(
                replicas=count.replicas,
                wanted=count.wanted,
                held=count.held,
                pending=count.pending,
                heads=count.heads,
            )

    async def AuditSession(  # noqa: N802
        self, request: control_pb2.AuditSessionRequest, context: Context
    ) -> AsyncIterator[control_pb2.AuditSessionResponse]:
        """Asks the holders for random leaves; progress, in chunks, comes until the result does."""
        if not 1 <= request.percent <= 100:
            raise UsageError(f"{request.percent} is no percentage from 1 to 100")
        session_id = self._node.manager.find(request.session)
        progress = data_pb2.TransferProgress()

        def on_progress(done: int, total: int) -> None:
            progress.plaintext_bytes, progress.total_bytes = done, total

        auditor = self._node.spreading.auditor
        auditing = asyncio.ensure_future(auditor.audit(session_id, request.percent, on_progress))
        try:
            while not auditing.done():
                await wait_a_moment(auditing)
                yield control_pb2.AuditSessionResponse(progress=progress)
            yield control_pb2.AuditSessionResponse(result=describe_audit(session_id, auditing.result()))
        finally:
            auditing.cancel()


def describe_audit(session_id: bytes, outcome: AuditOutcome) -> control_pb2.AuditResult:
    """What an audit found, as a message."""
    return control_pb2.AuditResult(
        session_id=session_id,
        leaves=outcome.leaves,
        holders=len(outcome.holders),
        findings=[
            data_pb2.Finding(has_index=True, index=finding.index, what=finding.what)
            for finding in outcome.findings[:MAX_FINDINGS]
        ],
        valid=not outcome.findings and bool(outcome.holders),
    )
