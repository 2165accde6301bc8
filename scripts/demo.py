"""The demo: a terminal session and a big file are recorded, the node is killed, nothing is lost.

Everything happens in a temporary folder, with the real command line and a real daemon on this machine.
"""

import argparse
import contextlib
import errno
import json
import os
import pty
import random
import select
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

LUCID = str(Path(sys.executable).with_name("lucid-node"))
MIB = 1 << 20
BOLD, DIM, GREEN, OFF = ("\x1b[1m", "\x1b[2m", "\x1b[32m", "\x1b[0m") if sys.stdout.isatty() else ("",) * 4


def say(text: str) -> None:
    print(f"\n{BOLD}{text}{OFF}", flush=True)


def show(text: str) -> None:
    print(f"  {text}", flush=True)


def check(what: str, fine: bool) -> None:
    if not fine:
        sys.exit(f"the demo failed: {what}")
    show(f"{GREEN}✓{OFF} {what}")


class Demo:
    """A home, its daemon, and what was measured."""

    def __init__(self, folder: Path, file_mib: int) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.passphrase = folder / "passphrase"
        self.file_mib = file_mib
        self.daemon: subprocess.Popen[bytes] | None = None
        self.figures: list[tuple[str, str]] = []

    def command(self, *words: str) -> list[str]:
        return [LUCID, "--home", str(self.home), *words]

    def run(self, *words: str, expect: int = 0, quiet: bool = False) -> str:
        if not quiet:
            shown = shlex.join(word for word in words if word != "--json").replace(f"{self.folder}/", "")
            print(f"  {DIM}$ lucid-node {shown}{OFF}", flush=True)
        done = subprocess.run(self.command(*words), capture_output=True, text=True, check=False)
        if done.returncode != expect:
            sys.exit(f"exit status {done.returncode}, expected {expect}\n{done.stdout}{done.stderr}")
        return done.stdout

    def run_json(self, *words: str, expect: int = 0, quiet: bool = False) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.run(*words, "--json", expect=expect, quiet=quiet))
        return document

    def find(self, name: str) -> dict[str, Any]:
        """The session of that name as `session list` shows it; empty if it is not there yet."""
        sessions = self.run_json("session", "list", "--search", name, quiet=True)["sessions"]
        return dict(sessions[0]) if sessions else {}

    def start_node(self) -> None:
        begin = time.monotonic()
        log = (self.folder / "node.log").open("ab")
        words = self.command("run", "--passphrase-file", str(self.passphrase))
        self.daemon = subprocess.Popen(words, stdout=log, stderr=log, start_new_session=True)
        log.close()
        while True:
            status = subprocess.run(self.command("status", "--json"), capture_output=True, check=False)
            if status.returncode == 0:
                break
            if self.daemon.poll() is not None or time.monotonic() - begin > 60:
                sys.exit("the node did not start:\n" + (self.folder / "node.log").read_text())
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


class Typist:
    """A person at a terminal in which a session is being recorded."""

    def __init__(self, words: list[str]) -> None:
        self.pid, self.screen = pty.fork()
        if self.pid == 0:
            os.environ.update(PS1="demo$ ", TERM="xterm", HISTFILE="")
            os.execv(words[0], words)
        self.seen = b""

    def watch(self, until: bytes, seconds: float = 30.0) -> None:
        """Shows the screen until `until` appears after what was seen before."""
        end = time.monotonic() + seconds
        while until not in self.seen:
            if time.monotonic() > end:
                sys.exit(f"\nthe terminal did not show {until!r}:\n{self.seen!r}")
            if select.select([self.screen], [], [], 0.1)[0] and not self._read():
                break
        self.seen = self.seen.partition(until)[2]

    def _read(self) -> bytes:
        try:
            data = os.read(self.screen, 65536)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            return b""
        self.seen += data
        sys.stdout.write(data.decode(errors="replace").replace("\n", "\n  "))
        sys.stdout.flush()
        return data

    def type(self, line: str) -> None:
        for key in line:
            os.write(self.screen, key.encode())
            time.sleep(0.02)
        os.write(self.screen, b"\r")

    def end(self) -> int:
        while self._read():
            pass
        _, status = os.waitpid(self.pid, 0)
        print(flush=True)
        return os.waitstatus_to_exitcode(status)


def make_file(path: Path, size_mib: int) -> None:
    """Half log lines, half noise, in turns."""
    rng = random.Random(1)
    words = ["".join(rng.choices("abcdefghiklmnoprstuvw", k=rng.randint(2, 9))) for _ in range(4000)]
    weights = [1 / rank for rank in range(1, len(words) + 1)]
    text = "\n".join(" ".join(rng.choices(words, weights, k=12)) for _ in range(16_000)).encode()[:MIB]
    with path.open("wb") as file:
        for _ in range(size_mib // 2):
            start = rng.randrange(len(text))
            file.write(text[start:] + text[:start] + bytes(MIB - len(text)))
            file.write(rng.randbytes(MIB))


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
    recorder = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
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
        sys.exit(f"recording failed: {output}{errors}")
    seconds = time.monotonic() - begin
    done = json.loads(output.strip().splitlines()[-1])
    check("the client went on by itself where the node had stopped", done["state"] == "complete")
    demo.figures.append(("recorded, with the node killed and restarted", f"{size / seconds / 1e6:.0f} MB/s"))
    demo.figures.append(("stored for 100 bytes of input", f"{100 * done['stored_bytes'] / size:.0f} bytes"))
    return str(done["session_id"])


def kill_client(demo: Demo) -> None:
    say("3. This time the recording client is killed; what it handed over is recovered")
    words = demo.command("session", "record", "--name", "cut off", "-")
    client = subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
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
    same = subprocess.run(["cmp", demo.folder / "big.bin", demo.folder / "back.bin"], check=False)
    check("the restored file is identical", same.returncode == 0)


def tamper(demo: Demo, file: str) -> None:
    say("5. Somebody changes one bit of one stored chunk")
    blob = max((demo.home / "store" / "blobs").glob("??/*"), key=lambda path: path.stat().st_size)
    with blob.open("r+b") as stored:
        stored.seek(blob.stat().st_size // 2)
        byte = stored.read(1)
        stored.seek(-1, os.SEEK_CUR)
        stored.write(bytes([byte[0] ^ 1]))
    result = demo.run_json("session", "verify", file, expect=3)
    check("verification fails with exit status 3", not result["valid"])
    for finding in result["findings"]:
        show(f"{finding['what']}")
    with blob.open("r+b") as stored:
        stored.seek(blob.stat().st_size // 2)
        stored.write(byte)
    check("with the bit put back it verifies again", demo.run_json("session", "verify", file)["valid"])


def play(demo: Demo, terminal: str) -> None:
    say("6. The terminal session is played back, ten times as fast")
    subprocess.run(
        demo.command("session", "play", terminal, "--speed", "10", "--idle-limit", "1"),
        stdin=subprocess.DEVNULL,
        check=True,
    )
    print(flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=256, metavar="MIB", help="of the big file (default: 256)")
    parser.add_argument("--keep", action="store_true", help="leave the folder behind, for a look")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="lucid-demo-"))
    demo = Demo(folder, options.size)
    begin = time.monotonic()
    try:
        tell(demo)
        show(f"{'the whole demo':46} {time.monotonic() - begin:.0f} s")
    finally:
        with contextlib.suppress(ProcessLookupError):
            demo.stop_node()
        if options.keep:
            show(f"left in {folder}")
        else:
            shutil.rmtree(folder)


def tell(demo: Demo) -> None:
    say("Lucid: recordings that nobody can change unseen")
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
    say("Figures")
    status = demo.run_json("status", quiet=True)
    demo.figures.append(
        ("blobs and journals on disk", f"{(status['blob_bytes'] + status['journal_bytes']) >> 20} MiB")
    )
    for what, figure in demo.figures:
        show(f"{what:46} {figure}")


if __name__ == "__main__":
    main()
