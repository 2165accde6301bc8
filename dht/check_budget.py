"""How much of others' chunks this node reads and hashes because somebody asks it to.

An audit or a renewal of a lease costs the caller a few hundred bytes and this node a chunk, read and hashed
whole. So whoever asks for much waits: each owner for its own share, all together for one that leaves disk and
processor to recordings. Owners cost nothing to make up, hence the second bound.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from dht.bandwidth import Throttle
from kernel.ports import Clock


@dataclass(frozen=True, slots=True)
class CheckLimits:
    """Bounds of checking.

    Attributes:
        owner_bytes_s: bytes a second for one owner.
        total_bytes_s: the same for all together.
        at_once: how many chunks are read at the same time.
        owners: how many are remembered; the one that asked longest ago begins anew.
    """

    owner_bytes_s: int = 128 << 20
    total_bytes_s: int = 256 << 20
    at_once: int = 2
    owners: int = 256


class CheckBudget:
    """Turns at reading and hashing chunks."""

    def __init__(self, clock: Clock, limits: CheckLimits | None = None) -> None:
        self._clock = clock
        self._limits = limits or CheckLimits()
        self._owners: OrderedDict[bytes, Throttle] = OrderedDict()
        self._total = Throttle(clock, self._limits.total_bytes_s)
        self._slots = asyncio.Semaphore(self._limits.at_once)

    @asynccontextmanager
    async def turn(self, owner: bytes, size_bytes: int) -> AsyncIterator[None]:
        """Waits until a chunk of `size_bytes` may be read for an owner."""
        await self._get_throttle(owner).wait(size_bytes)
        async with self._slots:
            # Only who has a place goes into the common debt: one chunk each, however many wait and give up.
            await self._total.wait(size_bytes)
            yield

    def _get_throttle(self, owner: bytes) -> Throttle:
        throttle = self._owners.pop(owner, None) or Throttle(self._clock, self._limits.owner_bytes_s)
        self._owners[owner] = throttle
        if len(self._owners) > self._limits.owners:
            self._owners.popitem(last=False)
        return throttle
