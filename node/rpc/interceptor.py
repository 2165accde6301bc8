"""The one gate of the peer server: every call of every service passes it, whatever its kind.

It takes requests as raw bytes, so a message is measured before it is decoded, and asks in this order: has the
method a row in the table of limits? who calls? may he? how often, and how many calls at once? Then the call
runs against its deadline, and an error becomes a status code with the whole error in the trailer.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Hashable, Mapping
from contextvars import ContextVar
from types import TracebackType
from typing import Any, TypeAlias

import grpc
from google.protobuf.message import DecodeError

from dht.ports import PeerIdentity
from kernel.errors import (
    InvalidRecord,
    LocalError,
    Locked,
    LucidError,
    Reason,
    StoreError,
    StoreFull,
    Unavailable,
)
from kernel.ports import Clock
from kernel.waiting import Deadline
from node.control.failures import encode_trailer, get_status_code
from node.logs import Logger
from node.metrics import NodeMetrics
from node.rpc import limits
from node.rpc.buckets import Buckets
from node.rpc.limits import RpcLimit, Who
from node.rpc.tokens import METADATA_KEY, Caller, Tokens

MaybeHandler: TypeAlias = "grpc.RpcMethodHandler[Any, Any] | None"
Behavior = Callable[[Any, Any], Any]
Bounds = tuple[tuple[Hashable, int], ...]
"""By what a call is counted, and how many such there may be at once."""
Entry = tuple[int, Bounds]
"""When a call was let in, in monotonic nanoseconds, and its bounds."""

_caller: ContextVar[Caller | None] = ContextVar("caller", default=None)


def get_caller(context: object) -> PeerIdentity:
    """Who calls, for a method that only peers may call.

    Args:
        context: of the call that is being answered.

    Raises:
        Locked: the caller did not say.
    """
    caller = _caller.get()
    if caller is None:
        raise _refuse_stranger()
    return caller.identity


def _refuse_stranger() -> Locked:
    return Locked(
        "the call carries no token that holds here",
        hint="Peers get one by the handshake, owners by `lucid-node grpc-token`.",
    )


class PeerInterceptor(grpc.aio.ServerInterceptor):
    """Keeps the table of limits, for one server."""

    def __init__(
        self,
        gate: "Gate",
        clock: Clock,
        metrics: NodeMetrics,
        log: Logger,
        methods: Mapping[str, RpcLimit] = limits.METHODS,
    ) -> None:
        """`gate` is common to all servers of a node: a caller has its share of the node, not of each."""
        self._gate = gate
        self._clock = clock
        self._metrics = metrics
        self._log = log
        self._methods = methods
        self._handlers: dict[str, MaybeHandler] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[MaybeHandler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> MaybeHandler:
        """See `grpc.aio.ServerInterceptor`."""
        name = handler_call_details.method.lstrip("/")
        if name in self._handlers:
            return self._handlers[name]
        limit = self._methods.get(name)
        handler = await continuation(handler_call_details)
        if handler is None or limit is None:
            return None
        guarded = Guard(name, limit, handler, self._gate, self._clock, self._metrics, self._log)
        self._handlers[name] = guarded.make_handler(handler)
        return self._handlers[name]


class Gate:
    """Who is let in: tokens, rates, and calls at once."""

    def __init__(self, tokens: Tokens, clock: Clock, hosting_for: Collection[bytes] = ()) -> None:
        """`hosting_for`: owners for whom this node keeps something; empty: all."""
        self._tokens = tokens
        self._hosting_for = hosting_for
        self._clock = clock
        self._buckets = Buckets()
        self._running: dict[Hashable, int] = {}

    def enter(self, name: str, limit: RpcLimit, context: Any) -> Entry:
        """Lets a call of the method `name` in; returns what `leave` takes when it ends.

        Raises:
            Locked: the caller may not.
            StoreFull: this node keeps nothing for its owner.
            Unavailable: it calls too often, or too much at once.
        """
        caller = self._find_caller(context)
        key: Hashable
        bounds: Bounds
        if caller is None:
            if limit.who is not Who.ANYBODY:
                raise _refuse_stranger()
            key = context.peer()
            bounds = (key, limits.MAX_STRANGER_CALLS), ((None, name), limits.MAX_STRANGERS_PER_METHOD)
        else:
            if limit.who is Who.OWNER and not caller.is_owner:
                raise Locked("only the owner of this node may call this", hint="Use `lucid-node grpc-token`.")
            if limit.is_hosting:
                self._check_owner(caller.identity.owner)
            key = caller.identity.device
            bounds = ((key, limits.MAX_PEER_CALLS),)
        now_ns = self._clock.monotonic_ns()
        if not self._buckets.take((key, name), limit.rate_per_s, limit.burst, now_ns):
            raise Unavailable("too many calls", hint="Call less often.")
        if caller is None:
            self._check_strangers()
        running = self._running
        for counted, most in bounds:
            if running.get(counted, 0) >= most:
                raise Unavailable(f"more than {most} calls at once", hint="Wait until some have ended.")
        for counted, _ in bounds:
            running[counted] = running.get(counted, 0) + 1
        _caller.set(caller)  # every call runs in a task of its own
        return now_ns, bounds

    def leave(self, entry: Entry) -> None:
        """Ends a call that was let in."""
        _, bounds = entry
        for counted, _ in bounds:
            self._running[counted] -= 1
            if not self._running[counted]:
                del self._running[counted]

    def _find_caller(self, context: Any) -> Caller | None:
        for key, value in context.invocation_metadata() or ():
            if key == METADATA_KEY and isinstance(value, bytes):
                return self._tokens.find(value)
        return None

    def _check_owner(self, owner: bytes) -> None:
        if self._hosting_for and owner not in self._hosting_for:
            raise StoreFull(
                "this node keeps nothing for this owner",
                hint="Ask another node, or its operator to name you in `hosting_for`.",
            )

    def check_message(self) -> None:
        """Lets one more message of a stream in: those of strangers count like calls.

        Raises:
            Unavailable: there are too many.
        """
        if _caller.get() is None:
            self._check_strangers()

    def _check_strangers(self) -> None:
        rate_per_s, burst = limits.STRANGERS_RATE_PER_S, limits.STRANGERS_BURST
        if not self._buckets.take(None, rate_per_s, burst, self._clock.monotonic_ns()):
            raise Unavailable("too many calls of strangers", hint="Call less often.")


class Guard:
    """One method, behind the gate.

    Attributes:
        name: "service/method".
        limit: its row.
        gate: it is behind.
        clock: monotonic time.
        seconds: how long its calls take.
    """

    def __init__(
        self,
        name: str,
        limit: RpcLimit,
        handler: "grpc.RpcMethodHandler[Any, Any]",
        gate: Gate,
        clock: Clock,
        metrics: NodeMetrics,
        log: Logger,
    ) -> None:
        self.name = name
        self.limit = limit
        self._decode = handler.request_deserializer or bytes
        self.gate = gate
        self.clock = clock
        self._metrics = metrics
        self.seconds = metrics.rpc_seconds.labels(name)
        self._log = log

    def make_handler(self, handler: "grpc.RpcMethodHandler[Any, Any]") -> "grpc.RpcMethodHandler[Any, Any]":
        """The handler that keeps the limits.

        It takes every request as a stream, which is the same on the wire: so a call whose one message does
        not come passes the gate, and meets its deadline, before gRPC waits for that message.
        """
        encode = handler.response_serializer
        if handler.response_streaming:
            behavior = handler.stream_stream if handler.request_streaming else handler.unary_stream
            stream = self._guard_stream(behavior, is_stream=handler.request_streaming)
            return grpc.stream_stream_rpc_method_handler(stream, None, encode)
        behavior = handler.stream_unary if handler.request_streaming else handler.unary_unary
        unary = self._guard_unary(behavior, is_stream=handler.request_streaming)
        return grpc.stream_unary_rpc_method_handler(unary, None, encode)

    def _guard_unary(self, behavior: Any, *, is_stream: bool) -> Behavior:
        async def call(raws: AsyncIterator[bytes], context: Any) -> Any:
            async with _Serving(self, context):
                with Deadline(self.limit.deadline_s):
                    request = self._take_all(raws) if is_stream else await self._take_one(raws)
                    return await behavior(request, context)

        return call

    def _guard_stream(self, behavior: Any, *, is_stream: bool) -> Behavior:
        async def call(raws: AsyncIterator[bytes], context: Any) -> AsyncIterator[Any]:
            async with _Serving(self, context):
                with Deadline(self.limit.deadline_s):
                    request = self._take_all(raws) if is_stream else await self._take_one(raws)
                    responses = behavior(request, context)
                    if isinstance(responses, Awaitable):
                        await responses  # it writes to the context by itself, as the health service does
                        return
                    async for response in responses:
                        yield response

        return call

    async def refuse(self, raised: BaseException, context: Any) -> None:
        """Ends a call with the status of an error; returns if that goes on as it is."""
        error = self._explain(raised)
        if error is None:
            return
        self._metrics.rpc_refused.labels(self.name, type(error).__name__).inc()
        self._log.debug("peer call refused", method=self.name, why=str(error), caller=context.peer())
        await context.abort(get_status_code(error), str(error), encode_trailer(error))

    def _explain(self, raised: BaseException) -> LucidError | None:
        if type(raised) is StoreError:  # its text may tell of this machine
            self._log.warning("peer call failed", method=self.name, why=str(raised))
            return StoreError("the store of this node failed")
        if isinstance(raised, LucidError):
            return raised
        if isinstance(raised, TimeoutError):
            return Unavailable(f"the call took longer than {self.limit.deadline_s:.0f} s and was ended")
        if not isinstance(raised, Exception) or isinstance(raised, grpc.aio.BaseError):
            return None
        self._log.error("peer call failed", method=self.name, exc_info=raised)
        return LocalError("this node failed to answer the call")

    def _parse(self, raw: bytes) -> Any:
        most = self.limit.max_request_bytes
        if len(raw) > most:
            raise InvalidRecord(Reason.TOO_LARGE, f"a message of {len(raw)} bytes; {most} are the most")
        try:
            return self._decode(raw)
        except DecodeError as error:
            raise InvalidRecord(Reason.MALFORMED, "the message cannot be decoded") from error

    async def _take_one(self, raws: AsyncIterator[bytes]) -> Any:
        async for raw in raws:
            return self._parse(raw)
        raise InvalidRecord(Reason.MALFORMED, "the call has no message")

    async def _take_all(self, raws: AsyncIterator[bytes]) -> AsyncIterator[Any]:
        idle_s = self.limit.idle_s
        iterator = aiter(raws)
        while True:
            try:
                with Deadline(idle_s):
                    raw = await anext(iterator)
            except StopAsyncIteration:
                return
            except TimeoutError:
                raise Unavailable(f"no message came for {idle_s} s; the call was ended") from None
            self.gate.check_message()
            yield self._parse(raw)


class _Serving:
    """One call: it is let in, it is counted until it ends, and its error becomes a status."""

    __slots__ = ("_context", "_entry", "_guard")
    _entry: Entry

    def __init__(self, guard: Guard, context: Any) -> None:
        self._guard = guard
        self._context = context

    async def __aenter__(self) -> None:
        guard = self._guard
        try:
            self._entry = guard.gate.enter(guard.name, guard.limit, self._context)
        except BaseException as error:
            await guard.refuse(error, self._context)
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        guard = self._guard
        guard.gate.leave(self._entry)
        if error is not None:
            await guard.refuse(error, self._context)
        else:
            guard.seconds.observe((guard.clock.monotonic_ns() - self._entry[0]) / 1e9)
