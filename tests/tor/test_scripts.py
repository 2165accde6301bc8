"""The scripts and commands that an operator is told of, as they are written."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.process.conftest import ROOT, wait_for
from tests.tor.nodes import TorPlace

CONNECTIVITY = ROOT / "scripts" / "test_tor_connectivity.sh"
ROTATE = ROOT / "scripts" / "rotate_onion_keys.sh"
MANUAL = ROOT / "docs" / "operations.md"
Run = Callable[..., "subprocess.CompletedProcess[str]"]

ONION = {"address": "/onion3/x:1", "role": "current", "published": True, "since": None, "until": None}
SHOWN = {"phase": "ready", "percent": 100, "summary": "Done", "version": "0.4.9", "trouble": "", "hint": ""}
TOR: dict[str, Any] = SHOWN | {
    "tunnel": "127.0.0.1:1",
    "onions": [ONION],
    "reach_ms": 1.0,
    "reach_trouble": "",
}
ERROR = {"error": {"code": "Conflict", "message": "this node does not use Tor", "hint": "Set `listen`."}}


def make_program(place: TorPlace) -> dict[str, str]:
    """An environment in which `lucid-node` is that of this checkout, on the home of a place."""
    program = place.root / "lucid-node"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m node.cli --home {place.home} "$@"\n')
    program.chmod(0o755)
    paths = f"{place.root}{os.pathsep}{ROOT / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return dict(os.environ) | {"PATH": paths, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'proto'}"}


def run(environment: dict[str, str], *words: object) -> "subprocess.CompletedProcess[str]":
    command = [str(word) for word in words]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=200, check=False)


def test_a_node_is_looked_at_called_with_grpcurl_and_given_a_new_address(
    make_nodes: Callable[[int], list[TorPlace]],
) -> None:
    [place] = make_nodes(1)
    environment = make_program(place)
    done = run(environment, CONNECTIVITY)
    assert (done.returncode, done.stdout.count("\n")) == (10, 1)
    assert done.stdout.startswith("FAILED  daemon: no daemon runs on the home")
    assert run(environment, ROTATE).returncode == 75
    place.start_ready()
    address = place.wait_published()
    done = run(environment, CONNECTIVITY)
    assert done.returncode == 0, done.stdout
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == [
        "ok      daemon",
        "ok      Tor runs",
        "ok      Tor is in its network",
        "ok      the onion service can be found",
        "ok      a fresh call reached it in" + done.stdout.splitlines()[-1].split("reached it in")[1],
    ]
    check_manual(place, environment, address)
    done = run(environment, ROTATE, "--grace", "1h")
    assert done.returncode == 0, done.stderr
    assert place.wait_published() != address
    done = run(environment, ROTATE)
    assert (done.returncode, "still served for" in done.stderr) == (75, True)
    with place.holding_tor():
        place.kill_tor()
        wait_for(place.is_not_serving)
        done = run(environment, CONNECTIVITY)
        assert done.returncode == 12
        assert "FAILED  Tor does not run: Tor was killed by SIGKILL" in done.stdout


def check_manual(place: TorPlace, environment: dict[str, str], address: str) -> None:
    """Runs what the manual says of grpcurl and Tor, with the addresses of a place."""
    text = MANUAL.read_text()
    block = next(part for part in text.split("```") if part.lstrip().startswith("socat "))
    host = address.removeprefix("/onion3/").replace(":", ".onion:")
    _, port = place.find_tunnel()
    script = block.replace("ADDRESS.onion:4001", host).replace("proxyport=38013", f"proxyport={port}")
    assert host in script and str(port) in script
    # For a script: wait for the socket, and end what runs in the background.
    ready = ' &\ntrap "kill $!" EXIT\nset -e\nwhile [ ! -e onion.sock ]; do sleep 0.05; done\n'
    done = run(environment, "sh", "-c", f"cd {place.root}\n{script.replace(' &', ready, 1)}")
    assert done.returncode == 0, done.stderr
    assert "lucid.v1.NodeService" in done.stdout.split()
    info = json.loads(done.stdout[done.stdout.index("{") :])
    assert info["peer_id"] == place.status().peer_id


@pytest.mark.parametrize(
    ("answers", "code", "line"),
    [
        ({"onion show": ERROR}, 11, "Tor: this node does not use Tor. Set `listen`."),
        ({"onion show": TOR | {"onions": []}}, 11, "Tor: the node has no onion service; set listen to onion"),
        (
            {"onion show": TOR | {"phase": "stopped", "trouble": "it is gone"}},
            12,
            "Tor does not run: it is gone",
        ),
        (
            {"onion show": TOR | {"phase": "bootstrapping", "percent": 5, "summary": "Loading"}},
            13,
            "Tor is not in its network: 5 %: Loading",
        ),
        (
            {"onion show": TOR | {"onions": [ONION | {"published": False}]}},
            14,
            "the onion service cannot be found yet: /onion3/x:1",
        ),
        (
            {"onion check": TOR | {"reach_trouble": "too late"}},
            15,
            "the onion service is not reached: too late",
        ),
        ({}, 0, "a fresh call reached it in 1 ms"),
    ],
)
def test_each_step_that_fails_has_a_line_and_a_code(
    tmp_path: Path, answers: dict[str, Any], code: int, line: str
) -> None:
    status = {"version": "1", "pid": 1, "problems": ["it is ill"]}
    failing = answers.keys()
    said = {"status": status, "onion show": TOR, "onion check": TOR} | answers
    cases = [
        f"'{command} --json') echo '{json.dumps(document)}' {'>&2' if document is ERROR else ''};"
        f" exit {int(command in failing)};;"
        for command, document in said.items()
    ]
    program = tmp_path / "fake"
    program.write_text('#!/bin/sh\ncase "$*" in\n' + "\n".join(cases) + "\nesac\n")
    program.chmod(0o755)
    done = run(dict(os.environ) | {"LUCID_NODE": str(program)}, CONNECTIVITY)
    assert (done.returncode, done.stderr) == (code, "")
    assert done.stdout.splitlines()[-1] == f"{'FAILED' if code else 'ok    '}  {line}"
    assert "        problem: it is ill" in done.stdout


@pytest.mark.parametrize("script", [CONNECTIVITY, ROTATE])
def test_a_wrong_word_is_refused(script: Path) -> None:
    done = run(dict(os.environ), script, "nonsense")
    assert done.returncode == 2
    assert done.stderr.startswith("usage: ")
