"""`lucid-simnet list`, `run`, `explore` and `shrink`, through the command line."""

import json
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from node.cli import run
from simnet.commands import root
from simnet.fields import COMMAND_FIELDS
from simnet.scenarios import SCENARIOS
from simnet.world.faults import Fault, Plan, decode_plan
from simnet.world.run import Scenario
from simnet.world.world import World

NAME = "record-replicate-restore"


def simnet(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = run([*map(str, arguments)], "lucid-simnet", lambda: root)
    printed = capsys.readouterr()
    return code, printed.out, printed.err


async def fragile(world: World) -> None:
    """It breaks if a node is paused."""
    await world.start_nodes(world.nodes)
    await world.play(world.plan)
    world.expect(all(fault.kind != "pause" for fault in world.plan), "nobody was paused")


def make_plan(rng: Random, nodes: int) -> Plan:
    calm = [Fault.make(rng.random(), "clock", rng.randrange(nodes), for_s=8, drift=0.1) for _ in range(6)]
    return [*calm, Fault.make(1, "pause", 0, for_s=16)]


@pytest.fixture
def fragile_scenario(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setitem(SCENARIOS, "fragile", Scenario("fragile", fragile, 2, make_plan))
    yield "fragile"


def test_scenarios_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = simnet(capsys, "list")
    assert code == 0
    assert all(name in out for name in SCENARIOS)
    document = json.loads(simnet(capsys, "list", "--json")[1])
    assert [each["name"] for each in document["scenarios"]] == list(SCENARIOS)


def test_a_run_prints_its_identity_and_writes_a_trace_that_can_be_shown(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, out, err = simnet(capsys, "run", NAME, "--seed", 5, "--trace", tmp_path / "t", "--json")
    assert (code, err) == (0, "")
    document = json.loads(out)
    assert list(document) == list(COMMAND_FIELDS["run"])
    assert (document["seed"], document["failures"]) == (5, [])
    shown = json.loads(simnet(capsys, "show", tmp_path / "t", "--json")[1])
    assert shown["hash"] == document["trace_hash"]
    assert document["trace_hash"] in simnet(capsys, "run", NAME, "--seed", 5)[1]


def test_a_run_that_fails_exits_with_1_and_is_shrunk_to_what_matters(
    capsys: pytest.CaptureFixture[str], fragile_scenario: str, tmp_path: Path
) -> None:
    code, out, _ = simnet(capsys, "run", fragile_scenario, "--seed", 3)
    assert code == 1
    assert "nobody was paused" in out
    plan = tmp_path / "plan.json"
    code, out, _ = simnet(capsys, "shrink", fragile_scenario, "--seed", 3, "--out", plan, "--json")
    document = json.loads(out)
    assert code == 0
    assert list(document) == list(COMMAND_FIELDS["shrink"])
    assert (document["before"], document["after"]) == (7, 1)
    assert [(fault.kind, fault.for_s) for fault in decode_plan(plan.read_text())] == [("pause", 1.0)]
    assert simnet(capsys, *document["command"].split()[1:])[0] == 1


def test_only_what_fails_is_shrunk(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, _, err = simnet(capsys, "shrink", NAME, "--out", tmp_path / "p")
    assert code == 1
    assert "does not fail" in err


def test_many_seeds_are_explored(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = simnet(capsys, "explore", NAME, "--seeds", "1..3", "--jobs", 2, "--json")
    document = json.loads(out)
    assert code == 0
    assert list(document) == list(COMMAND_FIELDS["explore"])
    assert (document["passed"], document["failed"], document["command"]) == (3, None, None)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("run", "nothing"), "no scenario"),
        (("run", NAME, "--until", "soon"), "soon"),
        (("run", NAME, "--seed", "-1"), "-1"),
        (("explore", NAME, "--seeds", "9..1"), "9..1"),
        (("explore", NAME, "--seeds", "1.."), "1.."),
        (("run", NAME, "--plan", "/nowhere"), "/nowhere"),
    ],
)
def test_what_makes_no_sense_is_refused(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], complaint: str
) -> None:
    code, _, err = simnet(capsys, *arguments)
    assert code == 2
    assert complaint in err


def test_a_plan_that_is_none_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for content in ("no plan", '[{"at_s": 0, "kind": "flood", "nodes": [0], "for_s": 0, "how": {}}]'):
        (tmp_path / "p").write_text(content)
        code, out, err = simnet(capsys, "run", NAME, "--plan", tmp_path / "p")
        assert code in (2, 3), (out, err)
        assert "plan" in err or "flood" in err
