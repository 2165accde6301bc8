import asyncio

from kernel.keyed_locks import KeyedLocks


async def test_one_key_is_held_by_one_and_other_keys_are_free() -> None:
    locks: KeyedLocks[str] = KeyedLocks()
    events: list[str] = []
    release, two_are_in = asyncio.Event(), asyncio.Event()

    async def work(name: str, key: str) -> None:
        async with locks.hold(key):
            events.append(f"{name} in")
            if len(events) == 2:
                two_are_in.set()
            await release.wait()
            events.append(f"{name} out")

    async with asyncio.TaskGroup() as tasks:
        for name, key in (("first", "a"), ("second", "a"), ("other", "b")):
            tasks.create_task(work(name, key))
        await two_are_in.wait()
        assert events == ["first in", "other in"]
        release.set()
    assert events.index("first out") < events.index("second in")


async def test_nothing_is_kept_of_keys_that_nobody_holds() -> None:
    locks: KeyedLocks[int] = KeyedLocks()

    async def work(key: int) -> None:
        async with locks.hold(key):
            await asyncio.sleep(0)

    await asyncio.gather(*(work(n % 5) for n in range(50)))
    assert locks._locks == {}


async def test_one_who_gives_up_waiting_leaves_the_lock_usable() -> None:
    locks: KeyedLocks[str] = KeyedLocks()

    async def wait() -> None:
        async with locks.hold("a"):
            pass

    async with locks.hold("a"):
        waiter = asyncio.create_task(wait())
        await asyncio.sleep(0)
        waiter.cancel()
        await asyncio.gather(waiter, return_exceptions=True)
    await wait()
    assert locks._locks == {}
