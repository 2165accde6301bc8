"""The second part of the demo: five nodes keep each other's recordings; machines are lost, bytes are not.

Whatever it goes over, the steps are the same, and each says what that is.
"""

import json
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from scripts.demo_stage import (
    MIB,
    Seat,
    Stage,
    Typist,
    check,
    flip_bit,
    is_same,
    make_file,
    say,
    show,
    show_lines,
)
from scripts.demo_transport import Way, tell_way
from simnet.control import call
from simnet.launch import running_cluster
from simnet.layout import Layout, NodeEntry, read_cluster

NODES = 5
REPLICAS = 3
WITNESSES = 3
OWNER = 0
# An owner waits a day before it gives a silent holder up; the demo cannot.
SETTINGS = ["--repair-after", "3s"]


@dataclass
class Network:
    """The cluster, its owner's command line, and what was recorded.

    Attributes:
        way: what the nodes reach each other over.
        terminal: session ID of the terminal session.
        file: session ID of the file.
        text: what the terminal session shows, for comparison.
    """

    stage: Stage
    way: Way
    layout: Layout
    owner: Seat
    terminal: str = ""
    file: str = ""
    text: str = ""

    @property
    def source(self) -> Path:
        return self.stage.folder / "shared.bin"

    @property
    def nodes(self) -> list[NodeEntry]:
        return read_cluster(self.layout).nodes

    def open_step(self, title: str) -> None:
        say(title + self.way.mark)

    def add_figure(self, what: str, figure: str) -> None:
        self.stage.figures.append((f"{what}, {self.way.shown}", figure))

    def get_index(self, peer_id: str) -> int:
        return [node.id for node in self.nodes].index(peer_id)

    def get_holders(self, session_id: str) -> list[int]:
        """Nodes that keep chunks of a session, by number."""
        replicas = self.owner.run_json("replicas", session_id, quiet=True)["replicas"]
        return sorted({self.get_index(one["peer_id"]) for one in replicas if one["held"]})


def tell_network(stage: Stage, way: Way, file_mib: int) -> None:
    """Tells the second part."""
    say(f"Part two: {NODES} nodes, {NODES} owners")
    tell_way(way)
    say("7. They meet" + way.mark)
    begin = time.monotonic()
    with running_cluster(stage.folder / "net", NODES, SETTINGS, way.name) as layout:
        owner = Seat(stage, layout.home(OWNER).root, read_cluster(layout).environment)
        network = Network(stage, way, layout, owner)
        seconds = f"{time.monotonic() - begin:.0f} s"
        show(f"{NODES} nodes run, each is connected with the {NODES - 1} others ({seconds})")
        network.add_figure(f"{NODES} nodes started, all connected", seconds)
        stage.names |= {node.id: f"n{number}" for number, node in enumerate(network.nodes)}
        stage.names |= {node.multiaddr: f"ADDRESS-OF-n{number}" for number, node in enumerate(network.nodes)}
        show("n0 is ours; the others belong to four strangers")
        show_lines(stage.shorten(network.owner.run("peers")))
        record_terminal(network)
        record_file(network, file_mib)
        bundle = make_bundle(network)
        lose_holder(network)
        flip_replica(network)
        lose_owner(network)
        check_bundle(network, bundle)


def record_terminal(network: Network) -> None:
    network.open_step(f"8. A terminal session is recorded; {REPLICAS} other nodes keep what it shows, sealed")
    owner = network.owner
    words = owner.command("session", "record", "--name", "shared shell", "--", "/bin/sh", "-i")
    typist = Typist(words)
    typist.watch(b"demo$ ")
    typist.type("echo this outlives the machine; exit 7")
    check("the shell's own exit status (7) is returned", typist.end() == 7)
    network.terminal = owner.find("shared shell")["session_id"]
    network.text = owner.run("session", "get", network.terminal, "-")
    check("recorded: “this outlives the machine”", "this outlives the machine" in network.text)
    wait_for_replicas(network, network.terminal)


def record_file(network: Network, file_mib: int) -> None:
    network.open_step(f"9. A file of {file_mib} MiB is recorded; its chunks spread while it is read")
    make_file(network.source, file_mib)
    begin = time.monotonic()
    patience = ("--require-replicas", "--wait", str(network.way.patience_s))
    words = ("session", "record", "--name", "shared file", *patience, str(network.source))
    done = network.owner.run_json(*words)
    seconds = time.monotonic() - begin
    network.file = done["session_id"]
    network.owner.name_session(network.file)
    check(f"{REPLICAS} replicas are acknowledged by their holders", done["replicas"] >= REPLICAS)
    rate = f"{file_mib * MIB / seconds / 1e6:.0f} MB/s"
    network.add_figure(f"recorded, with {REPLICAS} replicas", rate)
    show_holders(network)


def show_holders(network: Network) -> None:
    for index in network.get_holders(network.file):
        show(f"n{index} holds {count_bytes(network, index) >> 20} MiB that it cannot read")


def count_bytes(network: Network, index: int) -> int:
    blobs = network.layout.home(index).store / "blobs"
    return sum(blob.stat().st_size for blob in blobs.glob("??/*"))


def wait_for_replicas(network: Network, session_id: str, without: int | None = None) -> None:
    """Waits until a session has all its replicas, none of them on a node that is gone."""
    end = time.monotonic() + network.way.patience_s
    while True:
        state = network.owner.run_json("replicas", session_id, quiet=True)
        if state["pending"] == 0 and without not in network.get_holders(session_id):
            return
        if time.monotonic() > end:
            check(
                f"all replicas are there after {network.way.patience_s} s: {json.dumps(state)[:300]}", False
            )
        time.sleep(0.2)


def make_bundle(network: Network) -> Path:
    network.open_step("10. A proof for others: one small file, to be checked without the network")
    bundle = network.stage.folder / "proof.bundle"
    words = ("session", "prove", network.file, "--out", str(bundle), "--chunk", "0", "--reveal", "--force")
    network.stage.show_command(*words)
    end = time.monotonic() + network.way.patience_s
    while network.owner.run(*words, quiet=True) and len(list_witnesses(network, bundle)) < WITNESSES:
        if time.monotonic() > end:
            check(f"{WITNESSES} witnesses co-signed the recording within {network.way.patience_s} s", False)
        time.sleep(0.2)
    size_mib = bundle.stat().st_size / MIB
    show(f"{size_mib:.1f} MiB: the first chunk with its key, and what {WITNESSES} witnesses co-signed")
    return bundle


def list_witnesses(network: Network, bundle: Path) -> list[str]:
    """Peer IDs of those who co-signed what the bundle stands on."""
    report = network.owner.run_json("verify", "bundle", str(bundle), quiet=True)
    return [str(one["witness"]) for one in report["attestations"]]


def lose_holder(network: Network) -> None:
    holder = network.get_holders(network.file)[0]
    network.open_step(f"11. A stranger's machine, n{holder}, burns down: process killed, disk deleted")
    call(network.layout, "kill", holder)
    shutil.rmtree(network.layout.home(holder).root)
    begin = time.monotonic()
    drop_local_blob(network)
    back = network.stage.folder / "healed.bin"
    network.owner.run("session", "get", network.file, str(back))
    check(
        "meanwhile we lost a chunk, too: it came from another holder, and the file is whole",
        is_same(network.source, back),
    )
    back.unlink()
    wait_for_replicas(network, network.file, without=holder)
    wait_for_replicas(network, network.terminal, without=holder)
    seconds = time.monotonic() - begin
    check(f"{REPLICAS} replicas again, all of them on living nodes", True)
    network.add_figure("replicas of a lost holder made again", f"{seconds:.0f} s")
    show_holders(network)


def drop_local_blob(network: Network) -> None:
    """Deletes one of the owner's own chunks behind its back."""
    blobs = (network.owner.home / "store" / "blobs").glob("??/*")
    max(blobs, key=lambda blob: blob.stat().st_size).unlink()


def flip_replica(network: Network) -> None:
    holder = network.get_holders(network.file)[-1]
    network.open_step(f"12. Somebody changes one bit on n{holder}'s disk")
    blobs = (network.layout.home(holder).store / "blobs").glob("??/*")
    blob = max(blobs, key=lambda path: path.stat().st_size)
    flip_bit(blob)
    audit = network.owner.run_json(
        "session", "verify", network.file, "--remote", "--percent", "100", expect=3
    )
    check("an audit catches it, with exit status 3", not audit["valid"])
    for finding in audit["findings"][:3]:
        show_lines(network.stage.shorten(finding["what"]))


def lose_owner(network: Network) -> None:
    network.open_step("13. Our own machine burns down, too; 24 words are left")
    call(network.layout, "kill", OWNER)
    shutil.rmtree(network.owner.home)
    show(" ".join(network.layout.words(OWNER).read_text().split()[:4]) + " …")
    begin = time.monotonic()
    restore(network)
    names = {one["name"]: one for one in network.owner.run_json("session", "list")["sessions"]}
    check("both sessions are listed again", {"shared shell", "shared file"} <= set(names))
    back = network.stage.folder / "restored.bin"
    network.owner.run("session", "get", network.file, str(back))
    check("the file is identical, byte by byte", is_same(network.source, back))
    seconds = time.monotonic() - begin
    rate = f"{network.source.stat().st_size / seconds / 1e6:.0f} MB/s"
    network.add_figure("from an empty disk to the file", f"{seconds:.0f} s ({rate})")
    text = network.owner.run("session", "get", network.terminal, "-")
    check("so is the terminal session", text == network.text)
    check("it verifies", network.owner.run_json("session", "verify", network.terminal)["valid"])
    words = network.owner.command("session", "play", network.terminal, "--speed", "10", "--idle-limit", "1")
    subprocess.run(words, stdin=subprocess.DEVNULL, check=True)
    print(flush=True)


def restore(network: Network) -> None:
    """A new device from the words; it asks the nodes that are left."""
    peers = [word for node in network.nodes if node.pid is not None for word in ("--peer", node.multiaddr)]
    files = [
        "--phrase-file",
        str(network.layout.words(OWNER)),
        "--passphrase-file",
        str(network.layout.passphrase),
    ]
    network.owner.run("restore", *files, *peers)
    call(network.layout, "start", OWNER)


def check_bundle(network: Network, bundle: Path) -> None:
    network.open_step("14. The proof is checked: offline, by somebody who has only the file")
    witnesses = [word for peer in list_witnesses(network, bundle) for word in ("--witness", peer)]
    words = ("verify", "bundle", str(bundle), *witnesses)
    show_lines(network.stage.shorten(network.owner.run(*words, "--recording", str(network.source))))
    check("it holds, and the chunk that it shows stands in the file", True)
    flip_bit(bundle)
    network.owner.run(*words, expect=3)
    check("with one bit changed it does not hold", True)
