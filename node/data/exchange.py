"""One connection to the data socket, from its first frame to its end.

A connection does one thing: it records one source, or gets one recording. If it is lost while recording, the
recording is interrupted, and its client has the token to go on.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

from kernel.errors import Conflict, InvalidRecord, LucidError, Reason, UsageError
from lucid.v1 import data_pb2, session_pb2
from node.compose import Node
from node.data.requests import (
    Peer,
    check_continuation,
    check_piece,
    check_session_id,
    find_user_name,
    make_request,
)
from node.data.transfers import FileSource, open_sink
from node.data.wire import FrameChannel, PeerGone
from node.failures import encode_failure
from node.ports import OwnedOffload
from session.recording import Recording

FIRST_FRAME_TIMEOUT_S = 10.0
PROGRESS_EVERY_S = 0.2

T = TypeVar("T")


class Exchange:
    """Serves one connection.

    Args:
        node: the node.
        channel: frames of the connection.
        peer: who is on the other side.
        make_offload: makes the thread that a transfer reads or writes files with.
    """

    def __init__(
        self, node: Node, channel: FrameChannel, peer: Peer, make_offload: Callable[[], OwnedOffload]
    ) -> None:
        self._node = node
        self._channel = channel
        self._peer = peer
        self._make_offload = make_offload

    async def run(self) -> None:
        """Serves the connection to its end. What goes wrong is told to the client."""
        try:
            frame, descriptor = await self._channel.receive_first(FIRST_FRAME_TIMEOUT_S)
            try:
                await self._process(frame, descriptor)
            finally:
                if descriptor is not None:
                    os.close(descriptor)
        except PeerGone as error:
            self._node.log.debug("connection lost", pid=self._peer.pid, why=str(error))
        except LucidError as error:
            self._node.on_client_error(error, pid=self._peer.pid, uid=self._peer.uid)
            with contextlib.suppress(PeerGone):
                await self._channel.send(failure=encode_failure(error))

    async def _process(self, frame: data_pb2.ClientFrame, descriptor: int | None) -> None:
        match frame.WhichOneof("kind"):
            case "start":
                await self._start(frame.start, descriptor)
            case "continue_recording":
                await self._continue(frame.continue_recording, descriptor)
            case "get" if not self._peer.may_only_record:
                await self._get(frame.get, descriptor)
            case "get":
                raise UsageError("over this socket recordings are made, and not read")
            case _:
                raise InvalidRecord(Reason.MALFORMED, "a connection begins with start, continue or get")

    async def _start(self, start: data_pb2.StartRecording, descriptor: int | None) -> None:
        peer = self._peer
        user_name = (
            await self._node.ports.offload_io.run(find_user_name, peer.uid) if peer.may_only_record else ""
        )
        async with self._open_source(start.kind, descriptor) as source:
            request = make_request(start, peer, user_name, self._node.config.retention)
            if source is not None:
                request.metadata.source_bytes = source.size_bytes
                request.metadata.source_modified_ns = source.modified_ns
            recording = await self._node.writing(self._node.manager.open_recording(request))
            await self._record(recording, source)

    async def _continue(self, request: data_pb2.ContinueRecording, descriptor: int | None) -> None:
        token = check_continuation(request, self._peer)
        done = self._node.manager.get_done(request.session_id, token) if token else None
        if done is not None:  # its end was lost on the way to the client
            await self._channel.send(recorded=done)
            return
        kind = (await self._node.manager.info(request.session_id)).kind
        async with self._open_source(kind, descriptor) as source:
            recording = await self._node.writing(
                self._node.manager.continue_recording(request.session_id, token)
            )
            await self._record(recording, source)

    async def _get(self, request: data_pb2.GetRecording, descriptor: int | None) -> None:
        if descriptor is None:
            raise UsageError("nothing to write to was passed along")
        session_id = check_session_id(request.session_id)
        info = await self._node.manager.info(session_id)
        async with self._own_offload() as offload, self._reporting(info.plaintext_bytes) as on_progress:
            sink = open_sink(descriptor, offload)
            await sink.set_size(0)
            done = await self._until_gone(
                self._node.manager.get(
                    session_id, sink, partial=request.partial, follow=request.follow, on_progress=on_progress
                )
            )
            await sink.set_size(done.plaintext_bytes)
        self._node.log.info("session read", session=session_id.hex(), bytes=done.plaintext_bytes)
        await self._channel.send(got=done)

    async def _record(self, recording: Recording, source: FileSource | None) -> None:
        """Records to the end, or interrupts the recording with the reason why there is none."""
        session = recording.session_id.hex()
        self._node.log.info("recording", session=session, position=recording.position, uid=self._peer.uid)
        reason = "the node failed"
        done = None
        try:
            await self._accept(recording)
            if source is not None:
                ending = await self._copy(recording, source)
            else:
                ending = await self._append_all(recording)
            done = await self._node.writing(recording.finish(ending))
        except asyncio.CancelledError:
            reason = "the node was stopped"
            raise
        except LucidError as error:
            reason = "its client went away" if isinstance(error, PeerGone) else str(error)
            raise
        finally:
            if done is None:
                self._node.log.warning("recording interrupted", session=session, why=reason)
                await recording.interrupt(reason)
        self._node.log.info("recorded", session=session, chunks=done.chunks, bytes=done.plaintext_bytes)
        await self._channel.send(recorded=done)

    async def _accept(self, recording: Recording) -> None:
        await self._channel.send(
            accepted=data_pb2.RecordingAccepted(
                session_id=recording.session_id,
                resume_token=recording.resume_token,
                position=recording.position,
                started_ns=recording.started_ns,
                metadata=recording.metadata,
            )
        )

    async def _copy(self, recording: Recording, source: FileSource) -> session_pb2.Ending:
        check_unchanged(recording, source)
        source.seek(recording.position)
        begin = recording.position
        async with self._reporting(source.size_bytes) as on_progress:
            await self._until_gone(self._node.writing(recording.copy(source, on_progress)))
        self._node.on_recorded("file", recording.position - begin)
        return session_pb2.Ending(ended_ns=self._node.ports.clock.wall_ns())

    async def _append_all(self, recording: Recording) -> session_pb2.Ending:
        kind = _KIND_NAMES.get(recording.metadata.kind, "other")
        while True:
            frame = await self._channel.receive()
            match frame.WhichOneof("kind"):
                case "data":
                    check_piece(frame.data)
                    position = await self._node.writing(
                        recording.append(frame.data.position, frame.data.data)
                    )
                    self._node.on_recorded(kind, len(frame.data.data))
                    await self._channel.send(acknowledged=data_pb2.DataAcknowledged(position=position))
                case "finish":
                    return session_pb2.Ending(
                        ended_ns=self._node.ports.clock.wall_ns(),
                        has_exit_status=frame.finish.has_exit_status,
                        exit_status=frame.finish.exit_status,
                    )
                case _:
                    raise InvalidRecord(Reason.MALFORMED, "a recording goes on with data or its end")

    async def _until_gone(self, work: Coroutine[Any, Any, T]) -> T:
        """Awaits `work`, but no longer than the client is there."""
        working = asyncio.ensure_future(work)
        watching = asyncio.ensure_future(self._channel.wait_gone())
        watching.add_done_callback(lambda _: working.cancel())
        try:
            return await working
        except asyncio.CancelledError:
            if watching.done() and not watching.cancelled():
                raise PeerGone("the client has gone away") from None
            raise
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    @contextlib.asynccontextmanager
    async def _reporting(self, total_bytes: int) -> AsyncIterator[Callable[[int, int], None]]:
        """Sends the newest progress now and then; gives the function that takes it."""
        newest: tuple[int, int] | None = None

        def on_progress(plaintext_bytes: int, stored_bytes: int) -> None:
            nonlocal newest
            newest = plaintext_bytes, stored_bytes

        async def report() -> None:
            nonlocal newest
            while True:
                await self._node.ports.clock.sleep(PROGRESS_EVERY_S)
                if newest is not None:
                    progress = data_pb2.TransferProgress(
                        plaintext_bytes=newest[0], stored_bytes=newest[1], total_bytes=total_bytes
                    )
                    newest = None
                    await self._channel.send(progress=progress)

        reporter = asyncio.ensure_future(report())
        try:
            yield on_progress
        finally:
            reporter.cancel()
            await asyncio.gather(reporter, return_exceptions=True)

    @contextlib.asynccontextmanager
    async def _open_source(
        self, kind: "session_pb2.SourceKind.ValueType", descriptor: int | None
    ) -> AsyncIterator[FileSource | None]:
        if kind != session_pb2.SOURCE_KIND_FILE:
            if descriptor is not None:
                raise UsageError("only a file is read from a descriptor")
            yield None
            return
        if descriptor is None:
            raise UsageError("no file was passed along")
        async with self._own_offload() as offload:
            yield FileSource(descriptor, offload)

    @contextlib.asynccontextmanager
    async def _own_offload(self) -> AsyncIterator[OwnedOffload]:
        offload = self._make_offload()
        try:
            yield offload
        finally:
            offload.close()


def check_unchanged(recording: Recording, source: FileSource) -> None:
    """Checks that a file is still the one whose recording goes on.

    Raises:
        Conflict: it is shorter than what was recorded, or was changed since.
    """
    if source.size_bytes < recording.position:
        raise Conflict(
            f"the file has {source.size_bytes} bytes, and {recording.position} of it were recorded already",
            hint="Run `session recover --finalize` to keep what was recorded.",
        )
    if source.modified_ns != recording.metadata.source_modified_ns:
        raise Conflict(
            "the file was changed after its recording had begun",
            hint="Run `session recover --finalize` to keep what was recorded, then record the file anew.",
        )


_KIND_NAMES: dict[int, str] = {
    session_pb2.SOURCE_KIND_FILE: "file",
    session_pb2.SOURCE_KIND_DIRECTORY: "directory",
    session_pb2.SOURCE_KIND_STREAM: "stream",
    session_pb2.SOURCE_KIND_TERMINAL: "terminal",
}
