"""What each method of the control API may take, in one table; a test compares it with the descriptors.

Who may call: whoever may open the socket, which is the owner of the home (mode 0600). Requests are small; the
answers are bounded by what the store holds. A deadline of None: it goes on as long as its caller waits and it
makes progress.
"""

from dataclasses import dataclass

MAX_REQUEST_BYTES = 64 << 10
MAX_RESPONSE_BYTES = 32 << 20  # a bundle holds up to one whole chunk
MAX_CONCURRENT_CALLS = 32


@dataclass(frozen=True, slots=True)
class MethodLimit:
    """Bounds of one method.

    Attributes:
        deadline_s: longest time from call to end; None for calls that report progress.
    """

    deadline_s: float | None


METHODS = {
    "GetStatus": MethodLimit(10.0),
    "ListSessions": MethodLimit(60.0),
    "ShowSession": MethodLimit(10.0),
    "VerifySession": MethodLimit(None),
    "RecoverSessions": MethodLimit(600.0),
    "DeleteSession": MethodLimit(120.0),
    "SetHold": MethodLimit(30.0),
    "ListPeers": MethodLimit(10.0),
    "PingPeer": MethodLimit(150.0),  # a dial through Tor, and a call
    "MakeToken": MethodLimit(10.0),
    "RotateOnion": MethodLimit(200.0),
    "CheckOnion": MethodLimit(120.0),
    "ListReplicas": MethodLimit(60.0),
    "WaitReplicas": MethodLimit(None),
    "AuditSession": MethodLimit(None),
    "ShareSession": MethodLimit(240.0),
    "ProveSession": MethodLimit(120.0),
    "RestoreSessions": MethodLimit(None),
}
