"""Witnesses that lie, and an owner's device that shows them two histories."""

import copy
from contextlib import suppress

from kernel.attestation import verify_attestation
from kernel.checkpoint import compute_checkpoint_hash
from kernel.domains import Domain
from kernel.errors import Conflict, InvalidRecord, LucidError, StoreDamaged
from lucid.v1 import identity_pb2, session_pb2, witness_pb2
from simnet.scenarios.replays import find_peer
from simnet.world.lying_witnesses import LYING_WITNESSES
from simnet.world.machine import NETWORK, Machine
from simnet.world.recordings import (
    Recorded,
    Recorder,
    begin_recording,
    check_recorded,
    record,
    wait_replicated,
)
from simnet.world.world import World

SIZE_BYTES = 30_000
ATTESTED_S = 120.0
NEVER_ATTEST = frozenset(
    {
        "attests-wrong-hash",
        "attests-wrong-session",
        "attests-wrong-signature",
        "attests-in-other-name",
        "refuses-all",
        "makes-up-checkpoints",
    }
)
"""Nothing that these give counts."""


async def lying_witnesses(world: World) -> None:
    """Most witnesses lie: nothing false counts, honest ones refuse forks, and an old copy is found out."""
    machines = [world.add_machine() for _ in range(world.nodes)]
    owner, *witnesses = machines
    liars = world.rng.sample(witnesses, world.rng.randrange(2, len(witnesses)))
    for liar in liars:
        liar.turn(world.rng.choice(sorted(LYING_WITNESSES)))
    for machine in machines:
        machine.configure(machines, {})
    await world.start_machines(machines)
    first = await record(world, owner, SIZE_BYTES)
    recorder = await begin_recording(world, owner)
    await recorder.append(SIZE_BYTES)
    await wait_attested(world, owner, recorder.recorded)
    before = copy.deepcopy(owner.disk)
    await grow(world, owner, recorder)
    await check_attestations(world, owner, first, recorder.recorded)
    for witness in witnesses:
        if not witness.is_adversary:
            await check_forks_refused(world, owner, witness, recorder.recorded)
    seen = get_newest(owner, recorder.recorded)
    await owner.kill()
    newest = owner.disk
    owner.disk = before
    if await is_stopped(world, owner, recorder.recorded, seen):
        await owner.kill()
        owner.disk = newest
        await owner.start()
        await world.wait_connected([owner])
        await owner.call(owner.node.manager.finalize(recorder.recorded.session_id))
    await check_whole(world, owner, recorder.recorded)
    for recorded in (first, recorder.recorded):
        await wait_replicated(world, owner, recorded)
        await check_recorded(world, owner, recorded)


async def grow(world: World, owner: Machine, recorder: Recorder) -> None:
    """The session goes on until the honest witnesses have seen more of it than the copy of the disk knows.

    After the longer time there is a head, too, that tells of it.
    """
    for _ in range(world.rng.choice((1, 4))):
        await recorder.append(SIZE_BYTES)
        await world.sleep(10.0)
    await wait_attested(world, owner, recorder.recorded)


async def wait_attested(world: World, owner: Machine, recorded: Recorded) -> None:
    """Waits until all honest witnesses have co-signed a checkpoint that is no older than the newest now."""
    row = owner.node.manager._catalog.row(recorded.session_id)
    least = max(row.checkpoint_count - 1, 0)
    honest = {machine.device for machine in world.machines if not machine.is_adversary} - {owner.device}

    def are_there() -> bool:
        kept = list_kept(owner, recorded)
        return all(kept.get(device, -1) >= least for device in honest)

    await world.wait_until(are_there, f"honest witnesses attest {recorded}", within_s=ATTESTED_S)


def list_kept(owner: Machine, recorded: Recorded) -> dict[bytes, int]:
    """Of which checkpoint each witness's attestation is kept."""
    attestations = owner.node.witnessing.attester.attestations(recorded.session_id)
    return {signed.public_key: sequence for sequence, signed in attestations}


async def check_attestations(world: World, owner: Machine, *recordings: Recorded) -> None:
    """What the owner keeps was signed by that witness, over that checkpoint of its own."""
    adversaries = {machine.device: machine.adversary for machine in world.machines}
    for recorded in recordings:
        for sequence, signed in owner.node.witnessing.attester.attestations(recorded.session_id):
            name = adversaries.get(signed.public_key, "nobody")
            world.expect(
                name != "nobody" and name not in NEVER_ATTEST, f"an attestation counts: its witness {name}"
            )
            payload = get_checkpoint(owner, recorded, sequence)
            try:
                verify_attestation(
                    signed,
                    NETWORK,
                    session_id=recorded.session_id,
                    checkpoint_hash=compute_checkpoint_hash(payload),
                    witness=signed.public_key,
                )
            except InvalidRecord as error:
                world.expect(False, f"{owner.name} keeps an attestation that does not hold: {error}")


async def check_forks_refused(world: World, owner: Machine, witness: Machine, recorded: Recorded) -> None:
    """The owner's device signs other checkpoints than before: an honest witness co-signs none of them."""
    peer = find_peer(owner, witness)
    device = owner.device
    request = witness_pb2.GetAttestedRequest(session_id=recorded.session_id, device=device)
    known = (await owner.call(peer.get_attested(request))).checkpoint
    for fork in make_forks(owner, session_pb2.Checkpoint.FromString(known.payload)):
        forked = witness_pb2.AttestRequest(checkpoint=fork, old_count=0)
        for old_count in (0, session_pb2.Checkpoint.FromString(known.payload).chunk_count):
            forked.old_count = old_count
            try:
                await owner.call(peer.attest(forked))
            except (Conflict, InvalidRecord):
                continue
            except LucidError as error:
                world.expect(False, f"{witness.name} refuses a fork because of {error!r}")
            else:
                world.expect(False, f"{witness.name} co-signs a fork")
    after = (await owner.call(peer.get_attested(request))).checkpoint
    world.expect(
        session_pb2.Checkpoint.FromString(after.payload).root
        == session_pb2.Checkpoint.FromString(known.payload).root,
        f"{witness.name} shows a fork",
    )


def make_forks(owner: Machine, known: session_pb2.Checkpoint) -> list[identity_pb2.Signed]:
    """Checkpoints that contradict one that was co-signed: the same number, an older one, fewer chunks."""
    forks = []
    for changes in (
        {"time_ns": known.time_ns + 1},
        {"sequence": max(known.sequence, 1) - 1, "time_ns": 1},
        {"sequence": known.sequence + 1, "time_ns": 1},
        {"sequence": known.sequence + 2, "root": bytes(32)},
        {"sequence": known.sequence + 2, "chunk_count": known.chunk_count + 1, "root": bytes(32)},
    )[: 5 if known.chunk_count else 4]:  # whatever comes after nothing extends it
        fork = session_pb2.Checkpoint()
        fork.CopyFrom(known)
        for name, value in changes.items():
            setattr(fork, name, value)
        if fork.sequence == known.sequence + 1:
            fork.previous = bytes(32)
        payload = fork.SerializeToString(deterministic=True)
        forks.append(owner._device.identity.sign(Domain.CHECKPOINT, NETWORK, payload))
    return forks


def get_newest(owner: Machine, recorded: Recorded) -> tuple[int, bytes]:
    """Number and payload of the newest checkpoint that honest witnesses have co-signed."""
    sequence = max(list_kept(owner, recorded).values())
    return sequence, get_checkpoint(owner, recorded, sequence)


def get_checkpoint(owner: Machine, recorded: Recorded, sequence: int) -> bytes:
    """Payload of a checkpoint as the owner's store has it; empty if it has none of that number."""
    with suppress(StoreDamaged):
        signed = owner.node.manager._catalog.checkpoint(recorded.session_id, sequence)
        return b"" if signed is None else signed.payload
    return b""


async def is_stopped(world: World, owner: Machine, recorded: Recorded, seen: tuple[int, bytes]) -> bool:
    """One honest witness is enough: from an old copy of the disk nothing is signed that contradicts `seen`.

    Either the session stops, or it was brought up to what a head tells of before it went on.
    """
    await owner.start()
    await world.wait_connected([owner])
    try:
        await owner.call(owner.node.manager.finalize(recorded.session_id))
    except Conflict as error:
        world.say(f"the old copy stops: {error}")
        return True
    if get_checkpoint(owner, recorded, seen[0]) == seen[1]:
        world.say("the old copy was brought up")
        return False
    world.expect(False, f"{owner.name} goes on with {recorded} from an old copy of its disk")
    return False


async def check_whole(world: World, owner: Machine, recorded: Recorded) -> None:
    """Whatever liars show, it is no old copy any more, and what was acknowledged is there."""
    info = await owner.call(owner.node.manager.info(recorded.session_id))
    world.expect(not info.behind, f"{owner.name} takes {recorded} for an old copy")
    recorded.is_complete = info.plaintext_bytes == len(recorded.data)
