"""Scenarios of the simulated world, each a story: set-up, what happens, what must hold."""

from simnet.scenarios.replication import record_replicate_restore
from simnet.world.run import Scenario

SCENARIOS: dict[str, Scenario] = {
    scenario.name: scenario
    for scenario in (Scenario("record-replicate-restore", record_replicate_restore, nodes=4),)
}
