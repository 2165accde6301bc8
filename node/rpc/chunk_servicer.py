"""`ChunkService`: chunks and heads of others. Rules: docs/spec/10-transfer.md to 12-head.md.

Who calls, how often and how much, the interceptor has asked; what is brought, the rooms below check. Streams
are generators: nothing is read or written ahead of the transport.
"""

from collections.abc import AsyncIterator, Callable
from typing import TypeAlias

import grpc

from dht.head_keeper import HeadKeeper
from dht.holdings import Holdings
from dht.ports import PeerIdentity
from lucid.v1 import chunk_pb2, chunk_pb2_grpc
from node.rpc.interceptor import get_caller
from node.rpc.server import Service

Context: TypeAlias = "grpc.aio.ServicerContext[object, object]"
GetCaller = Callable[[object], PeerIdentity]


def make_chunk_service(holdings: Holdings, heads: HeadKeeper) -> Service:
    """`ChunkService`, behind the gate of the peer server."""
    servicer = ChunkServicer(holdings, heads, get_caller)
    name = chunk_pb2.DESCRIPTOR.services_by_name["ChunkService"].full_name
    return Service(name, lambda server: chunk_pb2_grpc.add_ChunkServiceServicer_to_server(servicer, server))


class ChunkServicer(chunk_pb2_grpc.ChunkServiceServicer):
    """Serves what this node keeps for others."""

    def __init__(self, holdings: Holdings, heads: HeadKeeper, get_caller: GetCaller) -> None:
        self._holdings = holdings
        self._heads = heads
        self._get_caller = get_caller

    async def PutChunk(  # noqa: N802
        self, request_iterator: AsyncIterator[chunk_pb2.PutChunkRequest], context: Context
    ) -> AsyncIterator[chunk_pb2.PutChunkResponse]:
        """Takes a chunk, or a new lease of one."""
        async for response in self._holdings.put_chunk(self._get_caller(context), request_iterator):
            yield response

    async def GetChunk(  # noqa: N802
        self, request: chunk_pb2.GetChunkRequest, context: Context
    ) -> AsyncIterator[chunk_pb2.GetChunkResponse]:
        """Gives a chunk, or part of one."""
        async for response in self._holdings.served.get_chunk(self._get_caller(context), request):
            yield response

    async def HasChunks(  # noqa: N802
        self, request: chunk_pb2.HasChunksRequest, context: Context
    ) -> chunk_pb2.HasChunksResponse:
        """Says which chunks are here."""
        return self._holdings.served.has_chunks(request)

    async def AuditChunk(  # noqa: N802
        self, request: chunk_pb2.AuditChunkRequest, context: Context
    ) -> chunk_pb2.AuditChunkResponse:
        """Shows leaves of a chunk, with their paths."""
        return await self._holdings.served.audit_chunk(self._get_caller(context), request)

    async def ReleaseChunk(  # noqa: N802
        self, request: chunk_pb2.ReleaseChunkRequest, context: Context
    ) -> chunk_pb2.ReleaseChunkResponse:
        """Ends a lease."""
        return await self._holdings.release_chunk(request)

    async def PutHead(  # noqa: N802
        self, request: chunk_pb2.PutHeadRequest, context: Context
    ) -> chunk_pb2.PutHeadResponse:
        """Keeps a head."""
        return await self._heads.put_head(self._get_caller(context), request)

    async def GetHead(  # noqa: N802
        self, request: chunk_pb2.GetHeadRequest, context: Context
    ) -> chunk_pb2.GetHeadResponse:
        """Gives the heads under a locator."""
        return await self._heads.get_head(request)
