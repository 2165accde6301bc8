"""Scenarios of the simulated world, each a story: set-up, what happens, what must hold."""

from simnet.scenarios.churn import churn_recording, draw_churn
from simnet.scenarios.crashes import draw_holder_crashes, draw_owner_crashes, holder_crashes, owner_crash
from simnet.scenarios.deletions import deleted_everywhere
from simnet.scenarios.grants import lying_grants
from simnet.scenarios.interruptions import broken_transfers, impatient_holders
from simnet.scenarios.liars import liar_among_replicas
from simnet.scenarios.mixed import all_at_once, draw_anything
from simnet.scenarios.moves import moving_addresses
from simnet.scenarios.offers import lying_offers
from simnet.scenarios.power import failing_disks, power_cuts
from simnet.scenarios.replays import replays
from simnet.scenarios.replication import (
    draw_bad_stretches,
    draw_partitions,
    partition_heal,
    record_replicate_restore,
    under_loss,
)
from simnet.scenarios.rollbacks import rolled_back_heads
from simnet.scenarios.scarcity import clocks, disk_full, draw_full_disks, draw_wrong_clocks
from simnet.scenarios.slowness import slow_loris, slow_loris_for_hours
from simnet.scenarios.witnesses import lying_witnesses
from simnet.world.run import Scenario

SCENARIOS: dict[str, Scenario] = {
    scenario.name: scenario
    for scenario in (
        Scenario("record-replicate-restore", record_replicate_restore, 4),
        Scenario("under-loss", under_loss, 4, draw_bad_stretches),
        Scenario("partition-heal", partition_heal, 5, draw_partitions),
        Scenario("broken-transfers", broken_transfers, 4),
        Scenario("impatient-holders", impatient_holders, 4),
        Scenario("holder-crashes", holder_crashes, 5, draw_holder_crashes),
        Scenario("owner-crash", owner_crash, 4, draw_owner_crashes),
        Scenario("power-cuts", power_cuts, 6),
        Scenario("failing-disks", failing_disks, 5),
        Scenario("disk-full", disk_full, 4, draw_full_disks),
        Scenario("clocks", clocks, 5, draw_wrong_clocks),
        Scenario("churn-recording", churn_recording, 8, draw_churn),
        Scenario("moving-addresses", moving_addresses, 5),
        Scenario("deleted-everywhere", deleted_everywhere, 5),
        Scenario("liar-among-replicas", liar_among_replicas, 5),
        Scenario("slow-loris", slow_loris, 5),
        Scenario("slow-loris-for-hours", slow_loris_for_hours, 4),
        Scenario("replays", replays, 5),
        Scenario("rolled-back-heads", rolled_back_heads, 6),
        Scenario("lying-witnesses", lying_witnesses, 6),
        Scenario("lying-offers", lying_offers, 5),
        Scenario("lying-grants", lying_grants, 5),
        Scenario("all-at-once", all_at_once, 5, draw_anything),
    )
}
