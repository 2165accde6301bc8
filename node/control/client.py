"""The command line's side of the control API: plain calls that raise the errors the daemon raised."""

import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Self
from urllib.parse import quote

from kernel.errors import Unavailable
from lucid.v1 import control_pb2, session_pb2
from node.home import Home


def check_daemon(home: Home) -> None:
    """Checks that somebody listens on the control socket, before gRPC is even loaded.

    Raises:
        Unavailable: nobody does.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(home.control_socket))
        except OSError as error:
            raise Unavailable(
                f"no daemon runs on the home {home.root}: {error.strerror}",
                hint="Start it with `lucid-node run`, or name another home with --home or LUCID_HOME.",
            ) from error


class ControlClient:
    """A connection to the daemon of a home; a context manager."""

    def __init__(self, home: Home) -> None:
        check_daemon(home)
        import grpc

        from lucid.v1 import control_pb2_grpc
        from node.control.limits import MAX_RESPONSE_BYTES

        self._channel = grpc.insecure_channel(
            f"unix://{quote(str(home.control_socket))}",
            options=[
                ("grpc.enable_http_proxy", 0),
                ("grpc.max_receive_message_length", MAX_RESPONSE_BYTES),
            ],
        )
        self.stub = control_pb2_grpc.ControlStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._channel.close()

    def get_status(self) -> control_pb2.GetStatusResponse:
        """How the node is doing."""
        with mapping():
            return self.stub.GetStatus(control_pb2.GetStatusRequest(), timeout=deadline("GetStatus"))

    def list_sessions(
        self,
        since_ns: int = 0,
        tags: tuple[str, ...] = (),
        state: "session_pb2.State.ValueType" = session_pb2.STATE_UNSPECIFIED,
        search: str = "",
    ) -> list[control_pb2.SessionInfo]:
        """Sessions, the newest last."""
        request = control_pb2.ListSessionsRequest(since_ns=since_ns, tags=tags, state=state, search=search)
        with mapping():
            found = self.stub.ListSessions(request, timeout=deadline("ListSessions"))
            return [response.session for response in found]

    def show_session(self, session: str) -> control_pb2.SessionInfo:
        """One session."""
        request = control_pb2.ShowSessionRequest(session=session)
        with mapping():
            return self.stub.ShowSession(request, timeout=deadline("ShowSession")).session

    def verify_session(
        self, session: str, on_progress: Callable[[int, int], None]
    ) -> control_pb2.VerifyResult:
        """Checks a session; `on_progress` gets bytes done and bytes in all."""
        request = control_pb2.VerifySessionRequest(session=session)
        with mapping():
            for response in self.stub.VerifySession(request, timeout=deadline("VerifySession")):
                if response.HasField("result"):
                    return response.result
                on_progress(response.progress.plaintext_bytes, response.progress.total_bytes)
        raise Unavailable("the daemon ended the call without a result", hint="Look at its log.")

    def finalize_sessions(self, session: str = "") -> list[control_pb2.SessionInfo]:
        """Finalizes one interrupted session, or all of them."""
        request = control_pb2.RecoverSessionsRequest(session=session)
        with mapping():
            response = self.stub.RecoverSessions(request, timeout=deadline("RecoverSessions"))
        return list(response.finalized)

    def delete_session(self, session: str) -> control_pb2.DeleteSessionResponse:
        """Erases a session."""
        request = control_pb2.DeleteSessionRequest(session=session)
        with mapping():
            return self.stub.DeleteSession(request, timeout=deadline("DeleteSession"))

    def set_hold(self, session: str, held: bool) -> control_pb2.SessionInfo:
        """Puts a session under legal hold, or ends that."""
        request = control_pb2.SetHoldRequest(session=session, held=held)
        with mapping():
            return self.stub.SetHold(request, timeout=deadline("SetHold")).session

    def list_peers(self) -> list[control_pb2.Peer]:
        """All peers, and the addresses where nobody was met yet."""
        with mapping():
            response = self.stub.ListPeers(control_pb2.ListPeersRequest(), timeout=deadline("ListPeers"))
        return list(response.peers)

    def ping_peer(self, peer: str) -> control_pb2.PingPeerResponse:
        """A round trip to a peer; a time of 0 if it does not answer."""
        with mapping():
            request = control_pb2.PingPeerRequest(peer=peer)
            return self.stub.PingPeer(request, timeout=deadline("PingPeer"))

    def make_token(self) -> control_pb2.MakeTokenResponse:
        """A token for the peer server of this node."""
        with mapping():
            return self.stub.MakeToken(control_pb2.MakeTokenRequest(), timeout=deadline("MakeToken"))

    def rotate_onion(self, grace_s: int | None) -> Sequence[control_pb2.Onion]:
        """Replaces the onion service; returns those there are then."""
        with mapping():
            request = control_pb2.RotateOnionRequest(grace_s=grace_s)
            return list(self.stub.RotateOnion(request, timeout=deadline("RotateOnion")).onions)

    def check_onion(self) -> control_pb2.CheckOnionResponse:
        """Calls the node's own onion service through the network."""
        with mapping():
            return self.stub.CheckOnion(control_pb2.CheckOnionRequest(), timeout=deadline("CheckOnion"))

    def prove_session(self, request: control_pb2.ProveSessionRequest) -> bytes:
        """A proof bundle of a session."""
        with mapping():
            bundle: bytes = self.stub.ProveSession(request, timeout=deadline("ProveSession")).bundle
            return bundle

    def list_replicas(self, session: str) -> control_pb2.ListReplicasResponse:
        """Who holds what of a session."""
        request = control_pb2.ListReplicasRequest(session=session)
        with mapping():
            return self.stub.ListReplicas(request, timeout=deadline("ListReplicas"))

    def wait_replicas(self, session: str, wait_s: int) -> Iterator[control_pb2.WaitReplicasResponse]:
        """How far spreading has come, again and again, until all replicas are there or the time is up."""
        request = control_pb2.WaitReplicasRequest(session=session, wait_s=wait_s)
        with mapping():
            yield from self.stub.WaitReplicas(request, timeout=deadline("WaitReplicas"))

    def audit_session(
        self, session: str, percent: int, on_progress: Callable[[int, int], None]
    ) -> control_pb2.AuditResult:
        """Asks the holders for random leaves; `on_progress` gets chunks done and in all."""
        request = control_pb2.AuditSessionRequest(session=session, percent=percent)
        with mapping():
            for response in self.stub.AuditSession(request, timeout=deadline("AuditSession")):
                if response.HasField("result"):
                    return response.result
                on_progress(response.progress.plaintext_bytes, response.progress.total_bytes)
        raise Unavailable("the daemon ended the call without a result", hint="Look at its log.")


def deadline(method: str) -> float | None:
    """Longest time of a call, in seconds."""
    from node.control.limits import METHODS

    return METHODS[method].deadline_s


@contextmanager
def mapping() -> Iterator[None]:
    """Turns a failed call into the error that the daemon raised."""
    import grpc

    from node.control.failures import decode_call_error

    try:
        yield
    except grpc.RpcError as error:
        raise decode_call_error(error) from error
