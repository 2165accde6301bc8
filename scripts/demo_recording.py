"""The first part of the demo: one node records, is killed, and loses nothing."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

from node.child import make_command
from scripts.demo_stage import (
    DIM,
    MIB,
    OFF,
    Seat,
    Stage,
    Typist,
    check,
    flip_bit,
    is_same,
    make_file,
    say,
    show,
)


class Demo(Seat):
    """A home and its daemon."""

    def __init__(self, stage: Stage, file_mib: int) -> None:
        super().__init__(stage, stage.folder / "home")
        self.folder = stage.folder
        self.figures = stage.figures
        self.passphrase = stage.folder / "passphrase"
        self.file_mib = file_mib
        self.daemon: subprocess.Popen[bytes] | None = None

    def start_node(self) -> None:
        begin = time.monotonic()
        log = (self.folder / "node.log").open("ab")
        words = self.command("run", "--passphrase-file", str(self.passphrase))
        self.daemon = subprocess.Popen(make_command(words), stdout=log, stderr=log, start_new_session=True)
        log.close()
        while True:
            status = subprocess.run(self.command("status", "--json"), capture_output=True, check=False)
            if status.returncode == 0:
                break
            if self.daemon.poll() is not None or time.monotonic() - begin > 60:
                sys.exit(
                    "the demo failed: the node did not start:\n" + (self.folder / "node.log").read_text()
                )
        show(f"the node runs, process {self.daemon.pid}")

    def kill_node(self) -> None:
        """As a power switch would: no warning, no chance to tidy up."""
        if self.daemon is not None:
            os.kill(self.daemon.pid, signal.SIGKILL)
            self.daemon.wait()
            show(f"kill -9 {self.daemon.pid}")
            self.daemon = None

    def stop_node(self) -> None:
        if self.daemon is not None:
            self.daemon.terminate()
            self.daemon.wait(30)
            self.daemon = None


def record_terminal(demo: Demo) -> str:
    say("1. A terminal session is recorded; the node dies in the middle of it")
    typist = Typist(demo.command("session", "record", "--name", "demo shell", "--", "/bin/sh", "-i"))
    typist.watch(b"demo$ ")
    typist.type("uname -sm; echo before the node dies")
    typist.watch(b"dies\r\n")
    typist.watch(b"demo$ ")
    print()
    demo.kill_node()
    show("the shell does not notice:")
    typist.type("echo while the node is dead")
    typist.watch(b"dead\r\n")
    typist.watch(b"demo$ ")
    print()
    demo.start_node()
    typist.type("echo after it came back; exit 7")
    check("the shell's own exit status (7) is returned", typist.end() == 7)
    session = demo.find("demo shell")
    check("the session is complete", session["state"] == "complete")
    text = demo.run("session", "get", session["session_id"], "-")
    for line in ("before the node dies", "while the node is dead", "after it came back"):
        check(f"recorded: “{line}”", line in text)
    return str(session["session_id"])


def record_file(demo: Demo) -> str:
    path = demo.folder / "big.bin"
    size = demo.file_mib * MIB
    say(f"2. A file of {demo.file_mib} MiB is recorded; the node dies in the middle of it")
    make_file(path, demo.file_mib)
    words = demo.command("session", "record", "--name", "big file", "--json", str(path))
    print(f"  {DIM}$ lucid-node session record --name 'big file' big.bin{OFF}", flush=True)
    begin = time.monotonic()
    recorder = subprocess.Popen(
        make_command(words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    blobs = demo.home / "store" / "blobs"
    while recorder.poll() is None:
        stored = sum(blob.stat().st_size for blob in blobs.glob("??/*"))
        if stored > size / 5:
            break
    show(f"{stored >> 20} MiB are stored")
    demo.kill_node()
    demo.start_node()
    output, errors = recorder.communicate(timeout=300)
    if recorder.returncode:
        sys.exit(f"the demo failed: recording: {output}{errors}")
    seconds = time.monotonic() - begin
    done = json.loads(output.strip().splitlines()[-1])
    check("the client went on by itself where the node had stopped", done["state"] == "complete")
    demo.figures.append(("recorded, with the node killed and restarted", f"{size / seconds / 1e6:.0f} MB/s"))
    demo.figures.append(("stored for 100 bytes of input", f"{100 * done['stored_bytes'] / size:.0f} bytes"))
    demo.name_session(done["session_id"])
    return str(done["session_id"])


def kill_client(demo: Demo) -> None:
    say("3. This time the recording client is killed; what it handed over is recovered")
    words = demo.command("session", "record", "--name", "cut off", "-")
    client = subprocess.Popen(
        make_command(words), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    assert client.stdin is not None
    client.stdin.write(b"evidence " * 100_000)
    client.stdin.flush()
    while not (session := demo.find("cut off")).get("checkpoints"):
        time.sleep(0.2)
    session_id = session["session_id"]
    client.kill()
    client.wait()
    client.stdin.close()
    show(f"kill -9 {client.pid}")
    while demo.run_json("session", "show", session_id, quiet=True)["state"] != "interrupted":
        time.sleep(0.1)
    demo.run("session", "recover", session_id)
    info = demo.run_json("session", "show", session_id, quiet=True)
    check("it is complete, and its gap is marked", info["state"] == "complete" and info["gaps"] == 1)
    check("it verifies", demo.run_json("session", "verify", session_id)["valid"])
    check("it is readable", demo.run("session", "get", session_id, "-").startswith("evidence evidence"))


def verify_and_restore(demo: Demo, terminal: str, file: str) -> None:
    say("4. Both are verified, and the file comes back bit for bit")
    for session_id in (terminal, file):
        check(f"session {session_id[:8]} verifies", demo.run_json("session", "verify", session_id)["valid"])
    begin = time.monotonic()
    demo.run("session", "get", file, str(demo.folder / "back.bin"))
    seconds = time.monotonic() - begin
    demo.figures.append(("restored and verified", f"{demo.file_mib * MIB / seconds / 1e6:.0f} MB/s"))
    check("the restored file is identical", is_same(demo.folder / "big.bin", demo.folder / "back.bin"))


def tamper(demo: Demo, file: str) -> None:
    say("5. Somebody changes one bit of one stored chunk")
    blob = max((demo.home / "store" / "blobs").glob("??/*"), key=lambda path: path.stat().st_size)
    flip_bit(blob)
    result = demo.run_json("session", "verify", file, expect=3)
    check("verification fails with exit status 3", not result["valid"])
    for finding in result["findings"]:
        show(f"{finding['what']}")
    flip_bit(blob)
    check("with the bit put back it verifies again", demo.run_json("session", "verify", file)["valid"])


def play(demo: Demo, terminal: str) -> None:
    say("6. The terminal session is played back, ten times as fast")
    subprocess.run(
        demo.command("session", "play", terminal, "--speed", "10", "--idle-limit", "1"),
        stdin=subprocess.DEVNULL,
        check=True,
    )
    print(flush=True)


def tell_recording(stage: Stage, file_mib: int) -> None:
    """Tells the first part."""
    demo = Demo(stage, file_mib)
    try:
        _tell(demo)
    finally:
        with contextlib.suppress(ProcessLookupError):
            demo.stop_node()


def _tell(demo: Demo) -> None:
    say("Part one: one node")
    demo.passphrase.touch(mode=0o600)
    demo.passphrase.write_text("demo passphrase\n")
    identity = demo.run_json("init", "--passphrase-file", str(demo.passphrase))
    show(f"a new node, {identity['peer_id']}; its owner writes down 24 words")
    demo.start_node()
    terminal = record_terminal(demo)
    file = record_file(demo)
    kill_client(demo)
    verify_and_restore(demo, terminal, file)
    tamper(demo, file)
    play(demo, terminal)
    status = demo.run_json("status", quiet=True)
    stored = status["blob_bytes"] + status["journal_bytes"]
    demo.figures.append(("blobs and journals on disk", f"{stored >> 20} MiB"))
