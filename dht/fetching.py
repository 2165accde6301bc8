"""Brings a chunk back from those who hold it, several at a time.

Rules:
- Asked are, in this order: the holders of its replicas, the nodes where placement would have put it,
  everybody who is connected. Who served badly comes last; who lied is not asked for a while.
- While no peer at all is connected, the first fetch waits for one for `meet_s`. For so long after a start,
  what nobody gives is asked of those who come.
- The first who answers gives the leaf hashes, which must give the chunk ID; who is silent is overtaken by the
  next. From then on several bring ranges at once (`dht.shares`), every frame checked by itself.
- A source that lies, fails or falls silent is dropped, and its range taken over. A holder whose copy is gone
  or wrong is marked in its replica row, so that another copy is made elsewhere. In memory are as many blobs
  as `fetches_in_flight`, and a frame per source.
- When all sources have broken off, and something had come, those that come back within `meet_s` go on with
  it. That nobody has a blob is something else than that nobody gave all of it just now.
"""

import asyncio
from collections.abc import Collection, Sequence
from contextlib import suppress

from dht.bandwidth import UNPACED, Pace
from dht.chunk_fetch import ChunkFetch, FetchedChunk
from dht.placement import rank_peers
from dht.ports import Peer, Peers
from dht.preset import SpreadPreset
from dht.replicas import OnTrouble, mark_broken, scan_replicas
from kernel.errors import StoreError, Unavailable
from kernel.ports import Clock, Records

MEET_POLL_S = 0.1


class Fetcher:
    """Fetches chunks."""

    def __init__(
        self,
        records: Records,
        clock: Clock,
        peers: Peers,
        preset: SpreadPreset,
        on_trouble: OnTrouble,
        pace: Pace = UNPACED,
        *,
        expects_peers: bool = False,
    ) -> None:
        """`expects_peers`: some are configured; they may not have been met yet."""
        self._expects_peers = expects_peers
        self._is_alone = False
        self._first_ns: int | None = None
        self._records = records
        self._clock = clock
        self._peers = peers
        self._preset = preset
        self._meet_ns = round(preset.meet_s * 1e9)
        self._on_trouble = on_trouble
        self._pace = pace
        self._slots = asyncio.Semaphore(preset.fetches_in_flight)
        self._merits: dict[bytes, float] = {}
        self._avoided_until_ns: dict[bytes, int] = {}

    async def fetch(
        self, session_id: bytes, index: int, chunk_id: bytes, size_bytes: int
    ) -> FetchedChunk | None:
        """A chunk of a session; None if nobody has it.

        Raises:
            Unavailable: see `fetch_from`.
        """
        group = index // self._preset.group_chunks
        known = self._peers.known()
        wanted = [row.holder for row in scan_replicas(self._records, session_id, index).values()]
        for replica in range(self._preset.replicas):
            wanted += [peer.device for peer in rank_peers(known, session_id, group, replica)]
        broken: dict[bytes, str] = {}
        try:
            return await self.fetch_from(wanted, chunk_id, size_bytes, broken)
        finally:
            for device, what in broken.items():
                with suppress(StoreError):  # an audit finds it, too
                    if await mark_broken(self._records, session_id, index, device, f"fetch: {what}"):
                        self._on_trouble(session_id, index)

    async def fetch_from(
        self,
        devices: Sequence[bytes],
        chunk_id: bytes,
        size_bytes: int,
        broken: dict[bytes, str] | None = None,
    ) -> FetchedChunk | None:
        """A blob from the connected ones among `devices`, and then from everybody else who is connected.

        Args:
            devices: who is asked first, in this order.
            chunk_id: what.
            size_bytes: its length.
            broken: gets who does not have it, or not as it was, and why.

        Returns:
            None if nobody is there, or none of those who are has it.

        Raises:
            Unavailable: somebody who has it, or may have it, broke off or was silent.
        """
        async with self._slots:
            await self._meet()
            fetch = ChunkFetch(chunk_id, size_bytes, self._clock, self._preset, self._pace, self._merits)
            try:
                found = await self._fetch_in_turns(fetch, devices)
            finally:
                self._learn(fetch)
                if broken is not None:
                    broken.update(fetch.broken)
        if found is None and fetch.broke_off:
            raise Unavailable(
                f"of {len(fetch.asked)} peers, {len(fetch.broke_off)} broke off or were silent",
                hint="Try again in a minute, or when more of the peers are connected.",
            )
        return found

    async def _fetch_in_turns(self, fetch: ChunkFetch, devices: Sequence[bytes]) -> FetchedChunk | None:
        """Asks everybody once, and those who broke off again as long as that brings something."""
        asked: set[bytes] = set()
        while sources := [one for one in self._find_sources(devices) if one.identity.device not in asked]:
            asked |= {peer.identity.device for peer in sources}
            missing, found = fetch.missing, await fetch.run(sources)
            if found is not None:
                return found
            end_ns = self._get_young_until_ns()
            if fetch.missing < missing:
                asked -= fetch.broke_off.keys()
                end_ns = max(end_ns, self._clock.monotonic_ns() + self._meet_ns)
            if not await self._meet_more(asked, end_ns):
                break
        return None

    async def _meet(self) -> None:
        """Waits for the first peer for a while, as after a start; in vain, the next one does not wait."""
        end_ns = self._clock.monotonic_ns() + self._meet_ns
        while not any(self._peers.find(peer.device) for peer in self._peers.known()):
            expects = self._expects_peers or self._peers.known()
            if self._is_alone or not expects or self._clock.monotonic_ns() >= end_ns:
                self._is_alone = True
                return
            await self._clock.sleep(MEET_POLL_S)
        self._is_alone = False

    def _get_young_until_ns(self) -> int:
        """Until when, after the first fetch of this process, more peers may be met."""
        if self._first_ns is None:
            self._first_ns = self._clock.monotonic_ns()
        return self._first_ns + self._meet_ns

    async def _meet_more(self, asked: Collection[bytes], end_ns: int) -> bool:
        """Waits for peers that are not among `asked`; False if none comes until `end_ns`."""
        while self._clock.monotonic_ns() < end_ns:
            others = [peer.device for peer in self._peers.known() if peer.device not in asked]
            if any(map(self._peers.find, others)):
                return True
            if not others and not self._expects_peers:
                return False
            await self._clock.sleep(MEET_POLL_S)
        return False

    def _find_sources(self, devices: Sequence[bytes]) -> list[Peer]:
        order = dict.fromkeys([*devices, *(peer.device for peer in self._peers.known())])
        now_ns = self._clock.monotonic_ns()
        found = [
            (rank, device, peer)
            for rank, device in enumerate(order)
            if self._avoided_until_ns.get(device, 0) <= now_ns
            and (peer := self._peers.find(device)) is not None
        ]
        # Whoever was never asked counts as good: only experience moves a source back.
        found.sort(key=lambda entry: (self._merits.get(entry[1], 1.0) < _POOR, entry[0]))
        return [peer for _, _, peer in found]

    def _learn(self, fetch: ChunkFetch) -> None:
        until_ns = self._clock.monotonic_ns() + round(self._preset.longest_backoff_s * 1e9)
        for device in fetch.liars:
            self._avoided_until_ns[device] = until_ns
        most = max(fetch.useful.values(), default=0)
        for device in fetch.asked:
            merit = fetch.useful.get(device, 0) / most if most else 0.0
            self._merits[device] = (self._merits.get(device, merit) + merit) / 2


_POOR = 0.25
"""A source that brings less than this part of what the best one brings is asked after the others."""
