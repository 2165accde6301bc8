"""A client that records something live, whatever happens to its node.

Rules, those of `node/client/link.py`:
- What was not acknowledged is sent again. After a lost connection the client comes back with its token, and
  goes on in the same session.
- What the node has kept is checked whenever the client comes back: after the death of a process all that was
  acknowledged, after a power cut all but the last second of it.
"""

from collections.abc import Awaitable, Callable
from math import inf
from typing import TypeVar

from kernel.errors import LucidError
from lucid.v1 import control_pb2, session_pb2
from session.recording import Recording
from simnet.world.machine import Machine
from simnet.world.process import Process, ProcessDied
from simnet.world.recordings import Recorded, draw_piece, make_request
from simnet.world.world import World

T = TypeVar("T")

SYNCED_S = 1.5
"""What was acknowledged so long ago survives a power cut: a sync every second, and the time it takes."""
RETRY_S = 2.0
PATIENCE_S = 6 * 3600.0


class Client:
    """Records one session on one machine.

    Attributes:
        recorded: what it gave, and what was acknowledged of that.
        errors: that its node told it of.
    """

    recorded: Recorded

    def __init__(self, world: World, machine: Machine) -> None:
        self.errors: list[LucidError] = []
        self._world = world
        self._machine = machine
        self._recording: Recording | None = None
        self._process: Process | None = None
        self._token = b""
        self._known_deaths = 0
        self._trouble_s = inf
        self._acknowledged: list[tuple[float, int]] = []

    async def begin(self) -> None:
        """Opens the session."""
        await self._insist(self._open)

    async def send(self, size_bytes: int) -> None:
        """Records a piece more; returns when it is acknowledged."""
        self.recorded.data += draw_piece(self._world, size_bytes)
        await self._insist(self._send)

    async def finish(self) -> Recorded:
        """Ends the session well."""
        await self._insist(self._finish)
        recorded = self.recorded
        recorded.is_complete = True
        self._world.say(f"{self._machine.name} recorded {recorded}: {len(recorded.data)} bytes")
        return recorded

    async def finalize(self) -> Recorded:
        """Lets the owner end the session, which was interrupted: the client does not come back."""
        info = await self._insist(self._finalize)
        self._take_position(info.plaintext_bytes)
        self._world.say(f"{self._machine.name} finalized {self.recorded}: {info.plaintext_bytes} bytes")
        return self.recorded

    async def _insist(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Tries until it succeeds; what is no error of a node ends the story."""
        end_s = self._world.now_s + PATIENCE_S
        while True:
            try:
                return await attempt()
            except (ProcessDied, LucidError) as error:
                self._recording = None
                if isinstance(error, LucidError):
                    self.errors.append(error)
                    self._trouble_s = min(self._trouble_s, self._world.now_s)
                if self._world.now_s > end_s:
                    raise
                self._world.on_event(self._machine.name, "log", f"client: {type(error).__name__}: {error}")
                await self._world.sleep(RETRY_S)

    async def _open(self) -> None:
        machine = self._machine
        process = machine.process
        recording = await machine.call(machine.node.manager.open_recording(make_request()))
        self.recorded = Recorded(machine.owner, recording.session_id)
        self._token = recording.resume_token
        self._take(recording, process)

    async def _send(self) -> None:
        recording, recorded = await self._get_recording(), self.recorded
        place = recorded.acknowledged
        await self._machine.call(recording.append(place, bytes(recorded.data[place:])))
        recorded.acknowledged = len(recorded.data)
        self._acknowledged.append((self._world.now_s, recorded.acknowledged))

    async def _finish(self) -> None:
        manager, session_id = self._machine.node.manager, self.recorded.session_id
        if not self._is_connected() and manager.get_done(session_id, self._token) is not None:
            self._take_position(len(self.recorded.data))
            return
        recording = await self._get_recording()
        if self.recorded.acknowledged < len(self.recorded.data):
            await self._send()
        await self._machine.call(recording.finish(session_pb2.Ending()))

    async def _finalize(self) -> control_pb2.SessionInfo:
        node, session_id = self._machine.node, self.recorded.session_id
        info = await self._machine.call(node.manager.info(session_id))
        if info.state == session_pb2.STATE_COMPLETE:  # a process died behind it
            return info
        return await self._machine.call(node.finalize(session_id))

    def _is_connected(self) -> bool:
        return self._recording is not None and self._machine.process is self._process

    async def _get_recording(self) -> Recording:
        if self._recording is not None and self._machine.process is self._process:
            return self._recording
        machine = self._machine
        process, manager = machine.process, machine.node.manager
        recording = await machine.call(manager.continue_recording(self.recorded.session_id, self._token))
        self._take_position(recording.position)
        self._take(recording, process)
        return recording

    def _take(self, recording: Recording, process: Process | None) -> None:
        self._recording, self._process = recording, process

    def _take_position(self, position: int) -> None:
        """Checks what the node has kept, which is durable from now on."""
        recorded, promised = self.recorded, self._compute_promised()
        self._world.expect(
            promised <= position <= len(recorded.data),
            f"{self._machine.name} kept {position} bytes of {recorded}, of which it promised {promised}",
        )
        recorded.acknowledged = position
        self._acknowledged = [(0.0, position)]
        self._known_deaths = len(self._machine.deaths)
        self._trouble_s = inf

    def _compute_promised(self) -> int:
        """So many bytes must be there: a power cut takes what was not synced when process or disk failed."""
        deaths = self._machine.deaths[self._known_deaths :]
        if not any(is_power_cut for _, is_power_cut in deaths):
            return self.recorded.acknowledged
        until_s = min(deaths[0][0], self._trouble_s) - SYNCED_S
        return max((place for at_s, place in self._acknowledged if at_s <= until_s), default=0)


async def begin_to_record(world: World, machine: Machine) -> Client:
    """Begins to record something live, whatever happens."""
    client = Client(world, machine)
    await client.begin()
    return client


async def keep_recording(
    world: World, client: Client, size_bytes: int, *, pieces: int, every_s: float
) -> None:
    """Records piece after piece, one every so many seconds."""
    for number in range(pieces):
        await client.send(size_bytes * (number + 1) // pieces - size_bytes * number // pieces)
        await world.sleep(every_s)
