"""Scenarios of the simulated world, each a story: set-up, what happens, what must hold."""

from simnet.scenarios.deletions import deleted_everywhere
from simnet.scenarios.interruptions import broken_transfers
from simnet.scenarios.liars import liar_among_replicas
from simnet.scenarios.power import failing_disks, power_cuts
from simnet.scenarios.replays import replays
from simnet.scenarios.replication import record_replicate_restore
from simnet.scenarios.rollbacks import rolled_back_heads
from simnet.scenarios.slowness import slow_loris
from simnet.world.run import Scenario

SCENARIOS: dict[str, Scenario] = {
    scenario.name: scenario
    for scenario in (
        Scenario("record-replicate-restore", record_replicate_restore, nodes=4),
        Scenario("liar-among-replicas", liar_among_replicas, nodes=5),
        Scenario("slow-loris", slow_loris, nodes=5),
        Scenario("replays", replays, nodes=5),
        Scenario("rolled-back-heads", rolled_back_heads, nodes=6),
        Scenario("power-cuts", power_cuts, nodes=6),
        Scenario("failing-disks", failing_disks, nodes=5),
        Scenario("deleted-everywhere", deleted_everywhere, nodes=5),
        Scenario("broken-transfers", broken_transfers, nodes=4),
    )
}
