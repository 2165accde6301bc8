"""The owner's other devices, as head grants prove them: whose recordings this node takes for its owner's.

A grant is durable in the stream `devices` before the device is trusted; the table is remade from the stream.
"""

from collections.abc import Callable

from google.protobuf.message import DecodeError

from dht import tables
from kernel.domains import Network
from kernel.errors import InvalidRecord
from kernel.head_grants import verify_head_grant
from kernel.ports import Journal, Put, Records
from lucid.v1 import identity_pb2

MAX_DEVICES = 256


class OwnersDevices:
    """Remembers devices.

    Attributes:
        problems: what `start` could not read, one line each.
    """

    def __init__(
        self,
        network: Network,
        locator: bytes,
        records: Records,
        journal: Journal,
        trust: Callable[[bytes], None],
    ) -> None:
        """`trust` is called for each device, at once when it is known."""
        self._network = network
        self._locator = locator
        self._records = records
        self._journal = journal
        self._trust = trust
        self._known: dict[bytes, identity_pb2.Signed] = {}
        self.problems: list[str] = []

    async def start(self) -> None:
        """Reads what is known; once, before anything else."""
        contents = await self._journal.read(tables.DEVICES_STREAM)
        self.problems = [f"devices: {what}" for what in contents.damaged]
        if contents.torn_bytes:
            await self._journal.trim(tables.DEVICES_STREAM)
        for number, payload in contents.records:
            try:
                signed = identity_pb2.Signed.FromString(payload)
                self._learn(signed)
            except (DecodeError, InvalidRecord) as error:
                self.problems.append(f"device {number}: {error}")
        missing = [
            Put(tables.DEVICES, device, signed.SerializeToString())
            for device, signed in self._known.items()
            if self._records.get(tables.DEVICES, device) is None
        ]
        await self._records.commit(missing)

    def grant_of(self, device: bytes) -> identity_pb2.Signed | None:
        """The head grant of a device; None if none is known."""
        return self._known.get(device)

    async def add(self, signed: identity_pb2.Signed) -> None:
        """Remembers the device of a head grant, durably, and trusts it.

        Raises:
            InvalidRecord: the grant is not of this owner's locator, or there are too many devices.
        """
        device = verify_head_grant(signed, self._network, locator=self._locator).device
        if device in self._known:
            return
        encoded = signed.SerializeToString()
        await self._journal.append(tables.DEVICES_STREAM, [encoded])
        await self._journal.sync(tables.DEVICES_STREAM)
        await self._records.commit([Put(tables.DEVICES, device, encoded)])
        self._learn(signed)

    def _learn(self, signed: identity_pb2.Signed) -> None:
        device = verify_head_grant(signed, self._network, locator=self._locator).device
        if len(self._known) < MAX_DEVICES:
            self._known[device] = signed
            self._trust(device)
