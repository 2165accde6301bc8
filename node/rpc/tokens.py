"""Tokens: what an authenticated peer sends with every call.

A token is 32 random bytes, known to the two nodes alone; this side keeps only its BLAKE3, so that memory that
leaks opens nothing. It belongs to one peer, ends by itself, and is forgotten when too many are issued.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from blake3 import blake3

from dht.ports import PeerIdentity
from kernel.ports import Clock, Entropy

METADATA_KEY = "lucid-token-bin"
TOKEN_BYTES = 32
TOKEN_TTL_S = 3600
MAX_TOKENS = 4096
MAX_TOKENS_PER_PEER = 4


@dataclass(frozen=True, slots=True)
class Caller:
    """Whom a token stands for.

    Attributes:
        identity: the peer; this node itself if its owner calls.
        is_owner: the owner of this node calls.
    """

    identity: PeerIdentity
    is_owner: bool = False


class Tokens:
    """The tokens that this node issued."""

    def __init__(
        self, clock: Clock, entropy: Entropy, is_known: Callable[[bytes], bool] = lambda _: False
    ) -> None:
        """`is_known`: whether a device is a peer of this node, whose tokens no stranger may push out."""
        self._clock = clock
        self._is_known = is_known
        self._entropy = entropy
        self._callers: OrderedDict[bytes, tuple[Caller, int]] = OrderedDict()

    def issue(self, caller: Caller) -> bytes:
        """A fresh token, which holds for `TOKEN_TTL_S`; the oldest one of a caller who has many ends."""
        mine = [
            name for name, (other, _) in self._callers.items() if _get_holder(other) == _get_holder(caller)
        ]
        for name in mine[: max(0, len(mine) + 1 - MAX_TOKENS_PER_PEER)]:
            del self._callers[name]
        if len(self._callers) >= MAX_TOKENS:
            del self._callers[self._choose_least()]
        token = self._entropy.draw(TOKEN_BYTES)
        ends_ns = self._clock.monotonic_ns() + TOKEN_TTL_S * 10**9
        self._callers[blake3(token).digest()] = (caller, ends_ns)
        return token

    def _choose_least(self) -> bytes:
        """The oldest token of a stranger; of all, if there is none of a stranger."""
        for name, (caller, _) in self._callers.items():
            if not caller.is_owner and not self._is_known(caller.identity.device):
                return name
        return next(iter(self._callers))

    def find(self, token: bytes) -> Caller | None:
        """Whom a token stands for; None if it was never issued, or has ended."""
        if len(token) != TOKEN_BYTES:
            return None
        name = blake3(token).digest()
        caller, ends_ns = self._callers.get(name, (None, 0))
        if caller is not None and self._clock.monotonic_ns() >= ends_ns:
            del self._callers[name]
            return None
        return caller


def _get_holder(caller: Caller) -> tuple[bytes, bool]:
    return caller.identity.device, caller.is_owner
