"""Listens on a data socket and gives each connection to an `Exchange`.

Two sockets may exist: the home's own, mode 0600, over which everything may be asked, and the record socket,
mode 0660 and of a group, over which other users of the machine record and do nothing else. Both bound their
connections; the latter also bounds those of each user, so that one user cannot keep the others out.
"""

import asyncio
import contextlib
import errno
import grp
import os
import socket
import stat
import struct
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from kernel.errors import Conflict, LocalError, LucidError, Unavailable, UsageError
from kernel.uninterrupted import end_task
from lucid.v1 import data_pb2
from node.compose import Node
from node.data.exchange import Exchange
from node.data.requests import Peer
from node.data.wire import HEADER_BYTES, FrameChannel
from node.failures import encode_failure
from node.ports import OwnedOffload

BACKLOG = 64
ACCEPT_PAUSE_S = 1.0
_CREDENTIALS = struct.Struct("3i")


class DataServer:
    """One data socket.

    Args:
        node: the node.
        path: of the socket.
        may_only_record: True for the socket that serves other users.
        make_offload: makes the thread of a transfer.
        on_idle: called when the last connection has ended.
    """

    def __init__(
        self,
        node: Node,
        path: Path,
        *,
        may_only_record: bool,
        make_offload: Callable[[], OwnedOffload],
        on_idle: Callable[[], None],
    ) -> None:
        self._node = node
        self._path = path
        self._may_only_record = may_only_record
        self._make_offload = make_offload
        self._on_idle = on_idle
        self._exchanges: set[asyncio.Task[None]] = set()
        self._users: Counter[int] = Counter()
        self._gauge = node.metrics.connections.labels("record" if may_only_record else "data")

    async def start(self) -> None:
        """Begins to listen.

        Raises:
            Conflict: another process listens there.
            LocalError: the socket cannot be made.
        """
        group = find_group(self._node.config.record_group) if self._may_only_record else None
        self._socket = open_socket(self._path, 0o660 if self._may_only_record else 0o600, group)
        self._accepting = asyncio.create_task(self._accept())

    async def stop(self) -> None:
        """Stops listening, and ends every exchange: what is being recorded is interrupted."""
        await end_task(self._accepting)
        self._socket.close()
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()
        running = list(self._exchanges)
        for exchange in running:
            exchange.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(self._socket)
            except OSError as error:
                # Out of descriptors or memory: what is running may end and give some back.
                self._node.log.error("cannot accept connections", why=error.strerror)
                await self._node.ports.clock.sleep(ACCEPT_PAUSE_S)
                continue
            self._admit(connection)

    def _admit(self, connection: socket.socket) -> None:
        peer = read_peer(connection, may_only_record=self._may_only_record)
        refusal = self._find_refusal(peer)
        if refusal is not None:
            self._node.on_client_error(refusal, pid=peer.pid, uid=peer.uid)
            refuse(connection, refusal)
            return
        self._users[peer.uid] += 1
        self._gauge.inc()
        exchange = asyncio.create_task(self._serve(connection, peer))
        self._exchanges.add(exchange)
        exchange.add_done_callback(self._on_done)

    def _find_refusal(self, peer: Peer) -> LucidError | None:
        config = self._node.config
        hint = "End other recordings, or try again later."
        if len(self._exchanges) >= config.max_connections:
            return Unavailable("the node serves as many connections as it may", hint=hint)
        if self._may_only_record and self._users[peer.uid] >= config.max_connections_per_user:
            return Unavailable("the node serves as many connections of this user as it may", hint=hint)
        return None

    async def _serve(self, connection: socket.socket, peer: Peer) -> None:
        channel = FrameChannel(connection)
        try:
            await Exchange(self._node, channel, peer, self._make_offload).run()
        finally:
            channel.close()
            self._gauge.dec()
            self._users[peer.uid] -= 1
            if not self._users[peer.uid]:
                del self._users[peer.uid]

    def _on_done(self, exchange: asyncio.Task[None]) -> None:
        self._exchanges.discard(exchange)
        if not self._exchanges:
            self._on_idle()
        if not exchange.cancelled() and (error := exchange.exception()) is not None:
            self._node.log.error("an exchange failed", exc_info=error)


def open_socket(path: Path, mode: int, group: int | None) -> socket.socket:
    """A listening Unix socket with these permissions from its first moment on.

    A socket file that nobody listens on is what a killed process left, and is replaced; so is one of ours
    that was never given its permissions.

    Raises:
        Conflict: another process listens there, or the path is something else than a socket.
        LocalError: the socket cannot be made.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale(path)
        # Without a permission to begin with: nobody connects before the mode is right.
        before = os.umask(0o777)
        try:
            listener.bind(str(path))
        finally:
            os.umask(before)
        if group is not None:
            _give_to_group(path, group)
        path.chmod(mode)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise LocalError(f"the socket {path} cannot be made: {error.strerror or error}") from error
    except LucidError:
        listener.close()
        raise
    return listener


def _give_to_group(path: Path, group: int) -> None:
    try:
        os.chown(path, -1, group)
    except PermissionError as error:
        raise LocalError(
            f"the socket {path} cannot be given to the group {group}: {error.strerror}",
            hint="Make the user of the node a member of the group.",
        ) from error


def _remove_stale(path: Path) -> None:
    try:
        found = path.lstat()
        if not stat.S_ISSOCK(found.st_mode):
            raise Conflict(f"{path} is no socket", hint="Move it away: the node needs this name.")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        code = probe.connect_ex(str(path))
    if not is_stale(found, code, os.geteuid()):
        raise Conflict(f"another process listens on {path}", hint="Stop it, or give this node another path.")
    path.unlink()


def is_stale(found: os.stat_result, code: int, uid: int) -> bool:
    """Was this socket file left behind by a process that is no more?

    Args:
        found: what `lstat` says of it.
        code: what trying to connect gave.
        uid: of this process.
    """
    # One without any permission is ours from before it was opened: a kill between bind and chmod leaves it.
    was_never_open = found.st_uid == uid and not stat.S_IMODE(found.st_mode)
    return code == errno.ECONNREFUSED or (code == errno.EACCES and was_never_open)


def find_group(name: str) -> int | None:
    """The number of a group; None for the empty name.

    Raises:
        UsageError: there is no such group.
    """
    if not name:
        return None
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError as error:
        raise UsageError(f'record_group: there is no group "{name}"', hint=f"Run: groupadd {name}") from error


def read_peer(connection: socket.socket, *, may_only_record: bool) -> Peer:
    """Who is on the other side, as the kernel tells it."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _ = _CREDENTIALS.unpack(credentials)
    return Peer(pid=pid, uid=uid, may_only_record=may_only_record)


def refuse(connection: socket.socket, error: LucidError) -> None:
    """Tells a client why it is not served, if it listens, and closes."""
    encoded = data_pb2.ServerFrame(failure=encode_failure(error)).SerializeToString()
    connection.setblocking(False)
    with connection, contextlib.suppress(OSError):
        connection.send(len(encoded).to_bytes(HEADER_BYTES, "big") + encoded)
