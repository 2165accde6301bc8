"""The client's side of `node.control.head_methods`."""

from collections.abc import Callable

from kernel.errors import Unavailable
from lucid.v1 import control_pb2
from node.control.client import ControlClient, deadline, mapping


class HeadClient(ControlClient):
    """A connection to the daemon of a home; a context manager."""

    def share_session(self, session: str, peer: str) -> control_pb2.ShareSessionResponse:
        """Lets another node read a session."""
        request = control_pb2.ShareSessionRequest(session=session, peer=peer)
        with mapping():
            return self.stub.ShareSession(request, timeout=deadline("ShareSession"))

    def restore_sessions(
        self, on_progress: Callable[[control_pb2.RestoreSessionsResponse], None]
    ) -> control_pb2.RestoreSessionsResponse:
        """Brings back what heads tell of."""
        request = control_pb2.RestoreSessionsRequest()
        with mapping():
            for response in self.stub.RestoreSessions(request, timeout=deadline("RestoreSessions")):
                if response.final:
                    return response
                on_progress(response)
        raise Unavailable("the daemon ended the call without a result", hint="Look at its log.")
