"""How one call is served: the kind of its handler, the style in which it is written, and how it ended.

Rules, those of `grpc.aio`: a handler of streams is an asynchronous generator, or a coroutine that reads and
writes by itself; a handler that raises ends the call with UNKNOWN, or with the code that it has set; one
that is cancelled sends nothing. A handler of one answer that is not asynchronous runs where it is: there
are no threads here.
"""

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from simnet.world.rpc_context import Context

_log = logging.getLogger(__name__)
_OK = grpc.StatusCode.OK
_GENERATOR = inspect.CO_ASYNC_GENERATOR


async def serve(
    rpc: Context,
    find: Callable[[Context], Awaitable[Any]],
    on_served: Callable[[Context], None],
    *,
    is_too_many: bool,
) -> None:
    """Answers a call.

    Args:
        rpc: the call.
        find: asks interceptors and server for the handler; None if there is none.
        on_served: learns that the handler has ended.
        is_too_many: the call is refused, if there is a handler.
    """
    try:
        try:
            handler = await find(rpc)
            if handler is None:
                rpc.send_status(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
            elif is_too_many:
                rpc.send_status(grpc.StatusCode.RESOURCE_EXHAUSTED, "Concurrent RPC limit exceeded!")
            else:
                await _run(rpc, handler)
        except grpc.aio.AbortError as error:
            if rpc.aborted is not error:
                raise AssertionError("Abort error has been replaced!") from error
        else:
            if rpc.aborted is not None:
                _log.error("an abort was suppressed by the handler of %s", rpc.method)
    except asyncio.CancelledError:
        _log.debug("%s was cancelled", rpc.method)
    except Exception as error:  # of the handler, whatever it raises
        if rpc.is_client_gone:
            return
        _log.exception("the handler of %s failed", rpc.method)
        if not rpc.is_status_sent:
            code = grpc.StatusCode.UNKNOWN if rpc.status is _OK else rpc.status
            rpc.send_status(code, f"Unexpected {type(error)}: {error}")
    finally:
        on_served(rpc)


async def _run(rpc: Context, handler: Any) -> None:
    request: Any
    if handler.request_streaming:
        rpc.deserializer = handler.request_deserializer
        request = rpc  # which iterates over the requests
    else:
        data = await rpc.receive()
        if data is None:
            return  # the client has gone before it sent anything
        decode = handler.request_deserializer
        request = data if decode is None else decode(data)
        rpc.deserializer = decode
    rpc.serializer = handler.response_serializer
    if handler.response_streaming:
        behavior = handler.stream_stream if handler.request_streaming else handler.unary_stream
        await _run_stream(rpc, behavior, request)
    else:
        behavior = handler.stream_unary if handler.request_streaming else handler.unary_unary
        response = behavior(request, rpc)
        if inspect.isawaitable(response):
            response = await response
        rpc.check_running()
        rpc.send_response(rpc.serialize(response) if rpc.status is _OK else b"")


async def _run_stream(rpc: Context, behavior: Any, request: Any) -> None:
    if inspect.iscoroutinefunction(behavior):
        await behavior(request, rpc)
    else:
        async for response in behavior(request, rpc):
            rpc.check_running()
            await rpc.write(response)
    rpc.check_running()
    rpc.send_status(rpc.status, rpc.details())
