"""Kills nodes at random instants, and checks that every byte that was acknowledged is still there.

A run has a cluster, whose node 0 is the owner. Each step records a file, or replicates one, or restores the
owner from its words onto an empty disk; at a random instant of it the owner or a holder dies by SIGKILL and
is started again. Then everything must be as it was acknowledged: the recording complete and identical, its
replicas all there and audited, earlier recordings too. What a run does follows from its seed; what happens
at the instant of a kill does not.
"""

import json
import os
import random
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from kernel.errors import LocalError
from simnet.control import call
from simnet.homes import get_environment
from simnet.layout import Layout, read_cluster
from simnet.node import find_program

MIB = 1 << 20
OWNER = 0
SPANS_S = {"record": 1.5, "replicate": 1.0, "restore": 4.0}
"""Kinds of steps, and about how long each lasts: the instant of a kill is drawn from that."""
KINDS = tuple(SPANS_S)
MAX_FILE_BYTES = 24 * MIB
KEPT = 3
CATCH_UP_S = 120.0
COMMAND_TIMEOUT_S = 300.0
POLL_S = 0.1
NOT_RUNNING = 6


class BytesLost(LocalError):
    """Something that was acknowledged is not there any more."""


class CommandError(LocalError):
    """A command failed.

    Attributes:
        returncode: its exit status.
    """

    def __init__(self, returncode: int, said: str) -> None:
        super().__init__(f"lucid-node ended with status {returncode}: {said}")
        self.returncode = returncode


@dataclass(frozen=True)
class Recording:
    """A finished recording, and what it must give back.

    Attributes:
        session_id: of the recording.
        source: the file that was recorded.
    """

    session_id: str
    source: Path


class KillRun:
    """A sequence of steps on one cluster.

    Attributes:
        kills: how often which node died, by kind of step and node.
    """

    def __init__(self, layout: Layout, scratch: Path, seed: int) -> None:
        """Files of the run stand in `scratch`."""
        self.kills: dict[tuple[str, int], int] = {}
        self._layout = layout
        self._scratch = scratch
        self._rng = random.Random(seed)  # noqa: S311 - chooses faults, no keys
        self._recordings: list[Recording] = []

    def step(self, number: int) -> str:
        """Does one step and checks everything; returns what it was.

        Raises:
            BytesLost: what was acknowledged is gone or wrong.
            LucidError: a node did not start again, or a command failed.
        """
        kind = KINDS[number % len(KINDS)] if self._recordings else KINDS[0]
        victim = self._rng.randrange(len(read_cluster(self._layout).nodes))
        if kind == "restore":
            self._restore(victim)
        else:
            self._record(kind, victim)
        for recording in self._recordings:
            self._check(recording)
        while len(self._recordings) > KEPT:
            oldest = self._recordings.pop(0)
            self._run("session", "delete", oldest.session_id, "--yes")
            oldest.source.unlink()
        return f"{kind}, n{victim} killed"

    def _record(self, kind: str, victim: int) -> None:
        """Records a file; kills while that runs, or while the replicas are made."""
        source = self._scratch / f"source-{len(self._recordings)}-{self._rng.getrandbits(32):08x}"
        source.write_bytes(self._rng.randbytes(self._rng.randrange(MAX_FILE_BYTES)))
        words = ["session", "record", *(["--wait", "0"] if kind == "replicate" else []), str(source)]
        client = self._start(*words, "--json")
        if kind == "record":
            self._kill(kind, victim)
        try:
            document = self._finish(client)
        except CommandError as error:
            if victim != OWNER or error.returncode != NOT_RUNNING:
                raise
            document = self._run_json(*words)  # killed before the client had come: nothing was acknowledged
        if kind == "replicate":
            self._kill(kind, victim)
        if document["state"] != "complete" or document["plaintext_bytes"] != source.stat().st_size:
            raise BytesLost(f"the recording was acknowledged incomplete: {document}")
        self._recordings.append(Recording(document["session_id"], source))

    def _restore(self, victim: int) -> None:
        """Empties the owner's disk and restores it; kills meanwhile."""
        call(self._layout, "kill", OWNER)
        shutil.rmtree(self._layout.home(OWNER).root)
        words = ["--phrase-file", str(self._layout.words(OWNER))]
        words += ["--passphrase-file", str(self._layout.passphrase)]
        for node in read_cluster(self._layout).nodes[OWNER + 1 :]:
            words += ["--peer", node.multiaddr]
        restoring = self._start("restore", "--json", *words)
        if victim == OWNER:
            self._pause("restore")
            os.killpg(restoring.pid, signal.SIGKILL)  # the command and the daemon that it started
            restoring.communicate()
            self._count("restore", victim)
            self._run("restore", *words)
        else:
            self._kill("restore", victim)
            self._finish(restoring)
        call(self._layout, "start", OWNER)

    def _kill(self, kind: str, victim: int) -> None:
        """Kills a node at a random instant of what runs now, and starts it again."""
        self._pause(kind)
        call(self._layout, "kill", victim)
        self._count(kind, victim)
        call(self._layout, "start", victim)

    def _pause(self, kind: str) -> None:
        sleep(self._rng.uniform(0, SPANS_S[kind]))

    def _count(self, kind: str, victim: int) -> None:
        self.kills[kind, victim] = self.kills.get((kind, victim), 0) + 1

    def _check(self, recording: Recording) -> None:
        """Checks that a recording is whole, here and on its holders."""
        session = recording.session_id
        copy = self._scratch / "copy"
        self._run("session", "get", session, str(copy), "--force")
        if copy.read_bytes() != recording.source.read_bytes():
            raise BytesLost(f"{session} is not what was recorded")
        verified = self._run_json("session", "verify", session)
        if not verified["valid"]:
            raise BytesLost(f"the recording does not verify: {verified['findings']}")
        self._await_replicas(session)
        audit = self._run_json("session", "verify", session, "--remote", "--percent", "100")
        if not audit["valid"]:
            raise BytesLost(f"holders do not hold what they acknowledged: {audit['findings']}")

    def _await_replicas(self, session: str) -> None:
        deadline = monotonic() + CATCH_UP_S
        while (state := self._run_json("replicas", session))["pending"]:
            if monotonic() > deadline:
                troubles = sorted({one["trouble"] for one in state["replicas"] if one["trouble"]})
                missing = f"{state['pending']} replicas of {session} are missing after {CATCH_UP_S:.0f} s"
                raise BytesLost(f"{missing}: {troubles}")
            sleep(POLL_S)

    def _command(self, *words: str) -> list[str]:
        return [find_program(), "--home", str(self._layout.home(OWNER).root), *words]

    def _start(self, *words: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            self._command(*words),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=get_environment() | read_cluster(self._layout).environment,
            start_new_session=True,
        )

    def _finish(self, process: "subprocess.Popen[str]") -> dict[str, Any]:
        try:
            output, errors = process.communicate(timeout=COMMAND_TIMEOUT_S)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        if process.returncode:
            raise CommandError(process.returncode, errors.strip())
        document: dict[str, Any] = json.loads(output.splitlines()[-1])
        return document

    def _run_json(self, *words: str) -> dict[str, Any]:
        return self._finish(self._start(*words, "--json"))

    def _run(self, *words: str) -> None:
        self._run_json(*words)
