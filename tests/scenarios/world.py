"""One node's session room on a simulated disk, with a clock that stands still until it is told to move."""

import asyncio
import random
from dataclasses import dataclass, field

from kernel.domains import NETWORKS
from kernel.grants import sign_grant_list
from kernel.sealing import compute_x25519_public
from kernel.signing import SigningKey
from lucid.v1 import control_pb2, identity_pb2, session_pb2
from session.access import RecorderKeys
from session.ports import NO_FETCH, NO_WITNESSES, Fetch, SessionPorts, Witnesses
from session.preset import SessionPreset
from session.recording_request import RecordingRequest
from session.session_manager import SessionManager
from session.tables import DELETIONS, SMALL_FACTS, TABLES
from storage.blobs import FileBlobs
from storage.faults import Faults
from storage.inline import InlineOffload
from storage.journal import FileJournal
from storage.memory_files import MemoryFiles
from storage.memory_records import MemoryRecords
from storage.quota import Quota

KIB = 1 << 10


class SeededRng:
    """`kernel.ports.Rng` and `Entropy` from a seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def below(self, bound: int) -> int:
        return self._random.randrange(bound)

    def draw(self, size_bytes: int) -> bytes:
        return self._random.randbytes(size_bytes)


OWNER = SigningKey.from_seed(b"o" * 32)


def sign_grants(device: bytes, reader: bytes) -> identity_pb2.Signed:
    """The owner's list: this device may record."""
    grant = identity_pb2.Grant(device=device, roles=[identity_pb2.ROLE_RECORD])
    return sign_grant_list(OWNER, NETWORKS["dev"], 1, [grant], 0, reader)


class ManualClock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.offset_ns = 1_790_000_000 * 10**9
        self._sleepers: list[tuple[int, asyncio.Future[None]]] = []

    def wall_ns(self) -> int:
        return self.now_ns + self.offset_ns

    def monotonic_ns(self) -> int:
        return self.now_ns

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        future = asyncio.get_running_loop().create_future()
        self._sleepers.append((self.now_ns + round(seconds * 1e9), future))
        await future

    async def advance(self, seconds: float, step_s: float = 0.5) -> None:
        """Lets time pass, in steps, and everybody do what is due."""
        end_ns = self.now_ns + round(seconds * 1e9)
        while self.now_ns < end_ns:
            self.now_ns = min(end_ns, self.now_ns + round(step_s * 1e9))
            due = [future for at_ns, future in self._sleepers if at_ns <= self.now_ns]
            self._sleepers = [(at_ns, future) for at_ns, future in self._sleepers if at_ns > self.now_ns]
            for future in due:
                if not future.done():
                    future.set_result(None)
            await settle()


async def settle() -> None:
    """Lets every task run until it waits for time."""
    for _ in range(50):
        await asyncio.sleep(0)


@dataclass
class ListSource:
    """A bulk source in memory."""

    data: bytes
    position: int = 0

    async def read(self, size_bytes: int) -> bytes:
        piece = self.data[self.position : self.position + size_bytes]
        self.position += len(piece)
        return piece


@dataclass
class BytesSink:
    """Keeps what is written to it."""

    random_access: bool = True
    data: bytearray = field(default_factory=bytearray)

    async def write(self, offset: int, data: bytes | memoryview) -> None:
        if len(self.data) < offset + len(data):
            self.data.extend(bytes(offset + len(data) - len(self.data)))
        self.data[offset : offset + len(data)] = data


class World:
    """A machine with one node: a simulated disk that survives the node's process."""

    def __init__(self, seed: int = 1, quota_bytes: int | None = None, chunk_bytes: int = 64 * KIB) -> None:
        rng = SeededRng(seed)
        self.entropy = SeededRng(seed + 1)
        self.faults = Faults(rng)
        self.files = MemoryFiles(rng, self.faults)
        self.records = MemoryRecords(TABLES, self.faults)
        self.clock = ManualClock()
        self.quota_bytes = quota_bytes
        private = b"p" * 32
        public = compute_x25519_public(private)
        device = SigningKey.from_seed(b"d" * 32)
        self.keys = RecorderKeys(
            NETWORKS["dev"],
            device,
            OWNER.public_key,
            public,
            {public: private},
            grants=sign_grants(device.public_key, public),
        )
        self.preset = SessionPreset(chunk_bytes=chunk_bytes)
        self.witnesses: Witnesses = NO_WITNESSES
        self.fetch: Fetch = NO_FETCH
        self.changed: list[bytes] = []
        self.ports: SessionPorts
        self.manager: SessionManager

    async def boot(self) -> SessionManager:
        """A process starts on this disk."""
        await self.reopen()
        self.manager = SessionManager(self.ports, self.keys, self.preset)
        await self.manager.start()
        return self.manager

    async def reopen(self) -> None:
        """A process opens the store on this disk, and does nothing with it yet."""
        offload, quota = InlineOffload(), Quota(self.quota_bytes)
        self.ports = SessionPorts(
            self.clock,
            self.entropy,
            offload,
            self.records,
            await FileBlobs.open(self.files, offload, quota),
            await FileJournal.open(self.files, offload, quota, reserved=SMALL_FACTS, freeing=DELETIONS),
            self.fetch,
            self.changed.append,
            self.witnesses,
        )

    async def kill(self, *, power: bool = False) -> None:
        """The process dies; with `power`, so does the machine."""
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await settle()
        if power:
            self.files.power_cut()
        else:
            self.files.process_kill()

    async def read(self, session_id: bytes, *, partial: bool = False) -> bytes:
        sink = BytesSink()
        done = await self.manager.get(session_id, sink, partial=partial, on_progress=ignore)
        return bytes(sink.data[: done.plaintext_bytes])

    async def verify(self, session_id: bytes) -> control_pb2.VerifyResult:
        return await self.manager.verify(session_id, ignore)


def ignore(_done: int, _total: int) -> None:
    pass


def request(*, live: bool, **more: object) -> RecordingRequest:
    kind = session_pb2.SOURCE_KIND_STREAM if live else session_pb2.SOURCE_KIND_FILE
    metadata = session_pb2.Metadata(name="scenario", tags=["t"], kind=kind, user="u")
    return RecordingRequest(kind, metadata, live, **more)  # type: ignore[arg-type]


def plaintext(size: int, seed: int = 5) -> bytes:
    """Bytes half of which compress."""
    rng = random.Random(seed)
    return b"".join(rng.randbytes(500) + b"text " * 100 for _ in range(size // 1000 + 1))[:size]


def ending() -> session_pb2.Ending:
    return session_pb2.Ending(ended_ns=9)
