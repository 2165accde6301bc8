"""Recordings of a story: what was acknowledged of them, and whether it is still there."""

from dataclasses import dataclass, field

from dht.auditing import AuditOutcome
from dht.restoring import Restored
from kernel.keys import OwnerKeys
from lucid.v1 import session_pb2
from session.recording import Recording
from session.recording_request import RecordingRequest
from simnet.world.machine import Machine
from simnet.world.world import World

PIECE_S = 5.0
"""Virtual seconds between two pieces of what is recorded."""
AUDIT_S = 300.0
MAX_AUDITS = 20


@dataclass(eq=False)
class Recorded:
    """A recording.

    Attributes:
        owner: whose it is.
        session_id: its ID.
        data: what its source has given so far.
        acknowledged: so many bytes of that the node has taken.
        is_complete: was its end acknowledged?
    """

    owner: OwnerKeys
    session_id: bytes
    data: bytearray = field(default_factory=bytearray)
    acknowledged: int = 0
    is_complete: bool = False

    def __str__(self) -> str:
        return self.session_id.hex()[:8]


class Recorder:
    """Records on one machine."""

    def __init__(self, world: World, machine: Machine, recording: Recording) -> None:
        self._world = world
        self._machine = machine
        self._recording = recording
        self.recorded = Recorded(machine.owner, recording.session_id)

    async def append(self, size_bytes: int) -> None:
        """Records a piece more."""
        recorded = self.recorded
        piece = draw_piece(self._world, size_bytes)
        place = len(recorded.data)
        recorded.data += piece
        await self._machine.call(self._recording.append(place, piece))
        recorded.acknowledged = len(recorded.data)

    async def finish(self) -> Recorded:
        """Ends the recording well."""
        recorded = self.recorded
        done = await self._machine.call(self._recording.finish(session_pb2.Ending()))
        recorded.is_complete = True
        self._world.expect(
            done.plaintext_bytes == len(recorded.data),
            f"{recorded} ended with {done.plaintext_bytes} of {len(recorded.data)} bytes",
        )
        self._world.say(f"{self._machine.name} recorded {recorded}: {len(recorded.data)} bytes")
        return recorded


def draw_piece(world: World, size_bytes: int) -> bytes:
    """Something to record, half of which compresses."""
    return world.rng.randbytes(size_bytes // 2) + b"." * (size_bytes - size_bytes // 2)


def make_request() -> RecordingRequest:
    """Asks for the recording of a live source."""
    kind = session_pb2.SOURCE_KIND_STREAM
    return RecordingRequest(kind, session_pb2.Metadata(kind=kind, name="story"), live=True)


async def begin_recording(world: World, machine: Machine) -> Recorder:
    """Begins to record something live."""
    recording = await machine.call(machine.node.manager.open_recording(make_request()))
    return Recorder(world, machine, recording)


async def record(world: World, machine: Machine, size_bytes: int, *, pieces: int = 4) -> Recorded:
    """Records something live, piece after piece."""
    recorder = await begin_recording(world, machine)
    for number in range(pieces):
        await recorder.append(size_bytes * (number + 1) // pieces - size_bytes * number // pieces)
        await world.sleep(PIECE_S)
    return await recorder.finish()


async def wait_replicated(world: World, machine: Machine, recorded: Recorded, within_s: float = 600) -> None:
    """Waits until all replicas that are wanted count."""

    def is_replicated() -> bool:
        return not machine.node.spreading.count(recorded.session_id).pending

    await world.wait_until(is_replicated, f"{recorded} is replicated", within_s=within_s)


async def restore(world: World, machine: Machine) -> Restored:
    """Brings back what the heads of a machine's owner tell of."""
    await world.wait_connected([machine])
    progress = Restored()
    await machine.call(machine.node.heads.restore(progress))
    world.say(f"{machine.name} restored {progress.restored} of {progress.sessions} sessions")
    return progress


def ignore(_done: int, _total: int) -> None:
    """Progress that nobody looks at."""


class BytesSink:
    """`session.ports.Sink` in memory."""

    random_access = True

    def __init__(self) -> None:
        self.data = bytearray()

    async def write(self, offset: int, data: bytes | memoryview) -> None:
        """See `session.ports.Sink`."""
        if len(self.data) < offset + len(data):
            self.data.extend(bytes(offset + len(data) - len(self.data)))
        self.data[offset : offset + len(data)] = data


async def check_recorded(world: World, machine: Machine, recorded: Recorded) -> None:
    """What was acknowledged must be read, and verify, on a machine of its owner."""
    manager, session_id = machine.node.manager, recorded.session_id
    sink = BytesSink()
    done = await machine.call(
        manager.get(session_id, sink, partial=not recorded.is_complete, on_progress=ignore)
    )
    data = bytes(sink.data[: done.plaintext_bytes])
    least = recorded.data[: recorded.acknowledged]
    world.expect(
        data == recorded.data if recorded.is_complete else data.startswith(least),
        f"{recorded} gives {len(data)} bytes on {machine.name}; {recorded.acknowledged} were acknowledged",
    )
    verified = await machine.call(manager.verify(session_id, ignore))
    world.expect(verified.valid, f"{recorded} verifies on {machine.name}: {list(verified.findings)}")
    world.say(f"{machine.name} reads {recorded}: {len(data)} bytes, as acknowledged")


async def audit(world: World, machine: Machine, recorded: Recorded) -> AuditOutcome:
    """Asks the holders of all chunks for random leaves, as `session verify --remote` does."""
    auditor = machine.node.spreading.auditor
    outcome = await machine.call(auditor.audit(recorded.session_id, 100, ignore))
    world.say(f"{machine.name} audits {recorded}: {outcome.leaves} leaves, {len(outcome.findings)} findings")
    return outcome


async def check_audits(world: World, machine: Machine, recorded: Recorded) -> None:
    """All holders have what they promised; who is silent for a moment is asked again."""
    end_s = world.now_s + AUDIT_S
    while True:
        found = (await audit(world, machine, recorded)).findings
        if not all(finding.silent for finding in found) or not found or world.now_s > end_s:
            break
        await world.sleep(PIECE_S)
    world.expect(not found, f"an audit of {recorded} finds {[finding.what for finding in found]}")


async def mend_replicas(world: World, machine: Machine, recorded: Recorded) -> None:
    """Audits until nothing more is found: what holders lost is noticed so, and made again elsewhere."""
    for _ in range(MAX_AUDITS):
        await wait_replicated(world, machine, recorded, AUDIT_S * 6)
        found = (await audit(world, machine, recorded)).findings
        if not found:
            return
        await world.sleep(PIECE_S)


async def check_spread(world: World, machine: Machine, *recordings: Recorded, within_s: float = 1800) -> None:
    """Replication completes, holders have what they promised, and all that was acknowledged can be read."""
    await world.wait_connected(world.machines)
    for recorded in recordings:
        await wait_replicated(world, machine, recorded, within_s)
        await check_audits(world, machine, recorded)
        await check_recorded(world, machine, recorded)


async def check_restored(world: World, machine: Machine, *recordings: Recorded) -> None:
    """A machine burns down; a new one of its owner brings back all that was acknowledged."""
    heir, restored = await burn_down(world, machine)
    world.expect(restored.restored >= len(recordings), f"{restored.restored} sessions are restored")
    for recorded in recordings:
        await check_recorded(world, heir, recorded)


async def burn_down(world: World, machine: Machine) -> tuple[Machine, Restored]:
    """A machine is lost; a new one of its owner restores what it can."""
    await machine.kill(power_cut=True)
    world.say(f"{machine.name} burns down")
    return await start_heir(world, machine)


async def start_heir(world: World, machine: Machine) -> tuple[Machine, Restored]:
    """One more machine of the owner of `machine`, which restores what it can."""
    heir = world.add_machine(machine.owner)
    heir.skew.shift(world.now_s, machine.skew.offset_s, 0.0)  # its date is right if that one's was
    heir.configure([other for other in world.machines if other is not machine], {})
    await heir.start()
    return heir, await restore(world, heir)
