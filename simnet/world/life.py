"""What one process of a simulated node has of the world, until it dies.

Rules:
- Every port asks first whether the process still lives. What a dead one still does, such as closing files
  while its stack unwinds, reaches nothing.
- Work on disks takes time, a little more or less each time: so whatever can happen meanwhile does. A process
  that dies meanwhile has done the work or not.
- Clocks are wrong by an offset and run too fast or too slow; virtual time itself nobody sees.
- Randomness comes from the seed, the name of the node and the number of the process.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar

from kernel.ports import Operation
from kernel.uninterrupted import run_to_end
from storage.faults import Died
from storage.memory_files import MemoryFiles
from storage.memory_records import MemoryRecords

P = ParamSpec("P")
T = TypeVar("T")

EPOCH_NS = 1_790_000_000 * 10**9
"""Wall time at which every run begins."""


class Life:
    """A process of a node.

    Attributes:
        name: of the node.
        number: of the process on that node, from 1.
        is_alive: false for ever once it died.
    """

    def __init__(self, name: str, number: int, on_death: Callable[["Life"], None]) -> None:
        """`on_death` is called when the process dies in the middle of a port's operation."""
        self.name = name
        self.number = number
        self.is_alive = True
        self._on_death = on_death

    def __str__(self) -> str:
        return f"{self.name}#{self.number}"

    def check(self) -> None:
        """Raises `Died` if the process is dead."""
        if not self.is_alive:
            raise Died

    def die(self) -> None:
        """The process dies here and now."""
        if self.is_alive:
            self.is_alive = False
            self._on_death(self)

    def act(self, operation: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Does something to the disk, in the middle of which the process may die."""
        self.check()
        try:
            return operation(*args, **kwargs)
        except Died:
            self.die()
            raise


class Skew:
    """How wrong the clock of a machine is.

    Attributes:
        offset_s: seconds that its wall clock is ahead, beside what it has gained.
        drift: seconds that both its clocks gain each second, such as 1e-5.
        gained_s: seconds that they had gained at virtual time `since_s`.
        since_s: when `drift` was changed last.
    """

    def __init__(self) -> None:
        self.offset_s = 0.0
        self.drift = 0.0
        self.gained_s = 0.0
        self.since_s = 0.0

    def shift(self, now_s: float, offset_s: float, drift: float) -> None:
        """Lets the wall clock jump, and changes how fast both clocks run, at virtual time `now_s`."""
        self.offset_s += offset_s
        self.gained_s += (now_s - self.since_s) * self.drift
        self.since_s, self.drift = now_s, drift


class LivingClock:
    """`kernel.ports.Clock` of a process."""

    def __init__(self, life: Life, skew: Skew) -> None:
        self._life = life
        self._skew = skew
        self._get_time = asyncio.get_running_loop().time

    def wall_ns(self) -> int:
        """See `kernel.ports.Clock`."""
        return EPOCH_NS + round(self._skew.offset_s * 1e9) + self.monotonic_ns()

    def monotonic_ns(self) -> int:
        """See `kernel.ports.Clock`."""
        skew, now_s = self._skew, self._get_time()
        return round((now_s + skew.gained_s + (now_s - skew.since_s) * skew.drift) * 1e9)

    async def sleep(self, seconds: float) -> None:
        """See `kernel.ports.Clock`."""
        self._life.check()
        await asyncio.sleep(seconds / (1 + self._skew.drift))


class SeededRng:
    """`kernel.ports.Rng` and `Entropy` from a seed."""

    def __init__(self, *seed: object) -> None:
        self._random = random.Random("/".join(map(str, seed)))  # noqa: S311 - a run must repeat

    def below(self, bound: int) -> int:
        """See `kernel.ports.Rng`."""
        return self._random.randrange(bound)

    def draw(self, size_bytes: int) -> bytes:
        """See `kernel.ports.Entropy`."""
        return self._random.randbytes(size_bytes)


class LivingOffload:
    """`kernel.ports.Offload`: in place, after a while and for a while."""

    def __init__(self, life: Life, rng: random.Random, get_latency_s: Callable[[], float]) -> None:
        """`get_latency_s`: what a piece of work takes now, on the average."""
        self._life = life
        self._rng = rng
        self._get_latency_s = get_latency_s

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See `kernel.ports.Offload`."""
        await self.pause()
        result = function(*args, **kwargs)
        await self.pause()
        return result

    async def pause(self) -> None:
        """Lets others run for a random while."""
        self._life.check()
        latency_s = self._get_latency_s()
        if latency_s:
            await asyncio.sleep(self._rng.random() * latency_s)
            self._life.check()


class LivingFiles:
    """`kernel.ports.Files` of a process, on a disk that outlives it."""

    def __init__(self, life: Life, files: MemoryFiles) -> None:
        self._life = life
        self._files = files

    def create(self, path: str, parts: Sequence[bytes]) -> None:
        """See `Files.create`."""
        self._life.act(self._files.create, path, parts)

    def append(self, path: str, parts: Sequence[bytes]) -> None:
        """See `Files.append`."""
        self._life.act(self._files.append, path, parts)

    def read(self, path: str, offset: int = 0, size_bytes: int | None = None) -> bytes:
        """See `Files.read`."""
        return self._life.act(self._files.read, path, offset, size_bytes)

    def size(self, path: str) -> int:
        """See `Files.size`."""
        return self._life.act(self._files.size, path)

    def truncate(self, path: str, size_bytes: int) -> None:
        """See `Files.truncate`."""
        self._life.act(self._files.truncate, path, size_bytes)

    def fsync(self, path: str) -> None:
        """See `Files.fsync`."""
        self._life.act(self._files.fsync, path)

    def fsync_dir(self, path: str) -> None:
        """See `Files.fsync_dir`."""
        self._life.act(self._files.fsync_dir, path)

    def rename(self, old: str, new: str) -> None:
        """See `Files.rename`."""
        self._life.act(self._files.rename, old, new)

    def remove(self, path: str) -> None:
        """See `Files.remove`."""
        self._life.act(self._files.remove, path)

    def remove_dir(self, path: str) -> None:
        """See `Files.remove_dir`."""
        self._life.act(self._files.remove_dir, path)

    def list_dir(self, path: str) -> list[str]:
        """See `Files.list_dir`."""
        return self._life.act(self._files.list_dir, path)


class LivingRecords:
    """`kernel.ports.Records` of a process, on a disk that outlives it. Commits run one after the other."""

    def __init__(self, life: Life, records: MemoryRecords, offload: LivingOffload) -> None:
        self._life = life
        self._records = records
        self._offload = offload
        self._turn = asyncio.Lock()

    def get(self, table: str, key: bytes) -> bytes | None:
        """See `Records.get`."""
        self._life.check()
        return self._records.get(table, key)

    def scan(
        self,
        table: str,
        *,
        prefix: bytes = b"",
        start: bytes = b"",
        limit: int | None = None,
        reverse: bool = False,
        damaged: list[bytes] | None = None,
    ) -> list[tuple[bytes, bytes]]:
        """See `Records.scan`."""
        self._life.check()
        return self._records.scan(
            table, prefix=prefix, start=start, limit=limit, reverse=reverse, damaged=damaged
        )

    async def commit(self, operations: Sequence[Operation]) -> None:
        """See `Records.commit`. Once begun, it is applied even if the caller is cancelled."""
        self._life.check()
        await run_to_end(self._commit(operations))

    async def _commit(self, operations: Sequence[Operation]) -> None:
        async with self._turn:
            await self._offload.pause()
            try:
                await self._records.commit(operations)
            except Died:
                self._life.die()
                raise
            await self._offload.pause()

    def size_bytes(self) -> int:
        """See `Records.size_bytes`."""
        self._life.check()
        return self._records.size_bytes()

    def close(self) -> None:
        """See `Records.close`."""
