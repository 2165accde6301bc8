"""The disk of a simulated node, which outlives its processes."""

import random
import re

from dht import tables as dht_tables
from session import tables
from simnet.world.life import SeededRng
from storage.faults import Faults
from storage.memory_files import MemoryFiles
from storage.memory_records import MemoryRecords
from storage.store import META

_TABLES = (*tables.TABLES, *dht_tables.TABLES, META)
_ENDLESS_BYTES = 1 << 40
_BLOB = re.compile(r"blobs/[0-9a-f]{2}/[0-9a-f]{64}")


class Disk:
    """Files and index.

    Attributes:
        faults: what goes wrong with it.
        files: what is on it.
        records: the index on it.
        latency_s: what an operation takes on the average.
        usual_latency_s: the same while nothing is wrong.
        damaged: paths of blobs that have rotted, or were on a disk that was wiped.
        verified: paths of blobs that were found to be what their names say.
    """

    def __init__(self, *seed: object, latency_s: float = 0.002) -> None:
        self.latency_s = self.usual_latency_s = latency_s
        self._seed = seed
        self._make()

    def _make(self) -> None:
        rng = SeededRng(*self._seed)
        self.faults = Faults(rng)
        self.files = MemoryFiles(rng, self.faults)
        self.records = MemoryRecords(_TABLES, self.faults)
        self.damaged: set[str] = set()
        self.verified: set[str] = set()

    def wipe(self) -> None:
        """Puts an empty disk in its place."""
        lost = self.damaged.union(self.list_blobs())
        self._make()
        self.damaged = lost

    def list_blobs(self) -> list[str]:
        """Paths of all blobs that have their names."""
        return [path for path in self.files.paths() if _BLOB.fullmatch(path)]

    def rot_blob(self, rng: random.Random) -> str:
        """Flips one bit of one blob; returns its path, empty if there is no blob."""
        paths = self.list_blobs()
        if not paths:
            return ""
        path = rng.choice(paths)
        self.files.flip(path, rng.randrange(8 * self.files.size(path)))
        self.damaged.add(path)
        return path

    @property
    def free_bytes(self) -> int:
        """What is free on it."""
        capacity = self.faults.capacity_bytes
        return _ENDLESS_BYTES if capacity is None else max(capacity - self.faults.used_bytes, 0)

    def renew_records(self) -> None:
        """Puts an empty index in the place of the one that there is."""
        self.records = MemoryRecords(_TABLES, self.faults)

    def recover(self) -> None:
        """Ends what is wrong with it: there is room, and it is as fast as usual."""
        self.faults.capacity_bytes = None
        self.faults.die_at = self.faults.fail_at = None
        self.latency_s = self.usual_latency_s

    def restart(self, *, power_cut: bool) -> None:
        """The process, or the whole machine, is gone; another process may begin."""
        if power_cut:
            self.files.power_cut()
        else:
            self.files.process_kill()
