import json
import os
import signal
import socket
import stat
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Eventually = Callable[..., None]
PASSPHRASE = "a passphrase that must show nowhere"


def get_status_field(pid: int, name: str) -> str:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.split(":", 1)[1].strip() for line in lines if line.startswith(name + ":"))


def test_it_starts_serves_and_ends_well(place: Any) -> None:
    daemon = place.start_ready()
    status = place.json("status")
    assert (status["serving"], status["pid"], status["problems"]) == (True, daemon.process.pid, [])
    assert status["peer_id"] == place.json("id")["peer_id"]
    assert daemon.stop() == 0
    assert [event["event"] for event in daemon.events()] == ["ready", "stopping", "stopped"]
    left = sorted(path.name for path in place.home.iterdir())
    assert left == ["keystore", "lock", "store"]


def test_sigint_ends_it_well_too(place: Any) -> None:
    assert place.start_ready().stop(signal.SIGINT) == 0


def test_nothing_in_the_home_is_open_to_others(place: Any) -> None:
    place.start_ready()
    place.json("session", "record", "-", input_bytes=b"private")
    for path in [place.home, *place.home.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_the_process_is_hardened(place: Any) -> None:
    daemon = place.start_ready(
        environment={"http_proxy": "http://127.0.0.1:1", "GRPC_PROXY": "http://127.0.0.1:1"}
    )
    limits = Path(f"/proc/{daemon.process.pid}/limits").read_text()
    core = next(line for line in limits.splitlines() if line.startswith("Max core file size"))
    assert core.split()[4:6] == ["0", "0"]
    assert place.json("status")["serving"]


def test_an_idle_daemon_is_small(place: Any) -> None:
    daemon = place.start_ready()
    assert int(get_status_field(daemon.process.pid, "VmRSS").split()[0]) <= 100_000


def test_it_neither_loads_libp2p_nor_web3(place: Any) -> None:
    daemon = place.start_ready()
    maps = Path(f"/proc/{daemon.process.pid}/maps").read_text()
    for name in ("coincurve", "fastecdsa", "miniupnpc"):
        assert name not in maps


def test_two_daemons_do_not_share_a_home(place: Any) -> None:
    first = place.start_ready()
    second = place.start()
    assert second.process.wait(60) == 1
    text = second.log.read_text()
    assert f"pid {first.process.pid}" in text
    assert "Error:" in text
    assert "Traceback" not in text
    assert place.json("status")["pid"] == first.process.pid


@pytest.mark.parametrize(
    ("prepare", "code", "words"),
    [
        (lambda place: place.passphrase_file.write_text("wrong"), 1, "does not open"),
        (lambda place: place.passphrase_file.unlink(), 4, "does not exist"),
        (lambda place: (place.home / "keystore").unlink(), 4, "lucid-node init"),
        (lambda place: (place.home / "keystore").write_bytes(b"x" * 100), 3, "keystore"),
        (lambda place: (place.home / "lucid.toml").write_text("quotta = 1"), 2, '"quota"'),
        (lambda place: place.home.chmod(0o777), 1, "chmod 700"),
        (lambda place: (place.home / "control.sock").mkdir(), 1, "control.sock"),
        (lambda place: (place.home / "data.sock").write_text("x"), 1, "data.sock"),
    ],
)
def test_what_keeps_it_from_starting_is_said_in_one_line(
    place: Any, prepare: Callable[[Any], object], code: int, words: str
) -> None:
    prepare(place)
    daemon = place.start()
    assert daemon.process.wait(60) == code
    text = daemon.log.read_text()
    assert words in text
    assert "Traceback" not in text
    assert PASSPHRASE not in text


def test_a_taken_metrics_port_is_a_clear_error(place: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        daemon = place.start("--metrics-listen", f"127.0.0.1:{taken.getsockname()[1]}")
        assert daemon.process.wait(60) == 1
    assert "metrics_listen" in daemon.log.read_text()


def test_metrics_are_served_on_loopback(place: Any) -> None:
    place.start_ready()
    address = place.json("status")["metrics_address"]
    assert address.startswith("127.0.0.1:")
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=30) as answer:
        assert b"lucid_sessions" in answer.read()


def test_a_killed_daemon_leaves_nothing_behind_that_stops_the_next(place: Any) -> None:
    place.start_ready().stop(signal.SIGKILL)
    assert (place.home / "control.sock").exists()
    assert place.run("status").returncode == 6
    place.start_ready()
    assert place.json("status")["serving"]


def start_recording(place: Any, size_bytes: int) -> subprocess.Popen[bytes]:
    """A client that has sent so many bytes of a stream, and keeps it open."""
    client = subprocess.Popen(
        [sys.executable, "-m", "node.cli", "--home", str(place.home), "session", "record", "-", "--json"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert client.stdin is not None
    client.stdin.write(b"evidence" * (size_bytes // 8))
    client.stdin.flush()
    return client


def wait_until_recorded(place: Any, eventually: Eventually, size_bytes: int) -> None:
    def is_there() -> bool:
        files = [path for path in (place.home / "store" / "journal").rglob("tail-*") if path.is_file()]
        return bool(sum(path.stat().st_size for path in files) >= size_bytes)

    eventually(is_there)


def test_a_client_goes_on_after_the_daemon_was_killed(place: Any, eventually: Eventually) -> None:
    first = place.start_ready()
    client = start_recording(place, 800_000)
    wait_until_recorded(place, eventually, 700_000)
    first.stop(signal.SIGKILL)
    place.start_ready()
    output, errors = client.communicate(b"the end", timeout=60)
    assert client.returncode == 0, errors.decode()
    done = json.loads(output)
    assert (done["state"], done["plaintext_bytes"]) == ("complete", 800_007)
    shown = place.json("session", "show", done["session_id"])
    assert (shown["gaps"], shown["lost_bytes"]) == (0, 0)
    assert place.json("session", "verify", done["session_id"])["valid"]


def test_a_killed_client_and_daemon_leave_a_recording_that_is_finalized(
    place: Any, eventually: Eventually
) -> None:
    daemon = place.start_ready()
    client = start_recording(place, 800_000)
    wait_until_recorded(place, eventually, 700_000)
    client.kill()
    client.communicate()
    daemon.stop(signal.SIGKILL)
    place.start_ready()
    [session] = place.json("session", "list", "--state", "interrupted")["sessions"]
    assert session["reason"]
    assert place.json("session", "verify", session["session_id"])["valid"]
    [finalized] = place.json("session", "recover")["finalized"]
    assert (finalized["state"], finalized["gaps"]) == ("complete", 1)
    out = place.root / "out"
    place.json("session", "get", finalized["session_id"], str(out))
    assert len(out.read_bytes()) >= 700_000
    assert out.read_bytes() == (b"evidence" * 100_000)[: out.stat().st_size]


def test_sigterm_interrupts_recordings_synced(place: Any, eventually: Eventually) -> None:
    daemon = place.start_ready()
    client = start_recording(place, 400_000)
    wait_until_recorded(place, eventually, 350_000)
    assert daemon.stop() == 0
    client.kill()
    client.communicate()
    place.start_ready()
    [session] = place.json("session", "list")["sessions"]
    assert (session["state"], session["reason"]) == ("interrupted", "the node was stopped")


def test_a_second_signal_ends_it_at_once(place: Any, eventually: Eventually) -> None:
    code = (
        "import asyncio, node.compose\n"
        "async def never(self): await asyncio.Event().wait()\n"
        "node.compose.Node.stop = never"
    )
    daemon = place.start_ready(code=code)
    daemon.process.send_signal(signal.SIGTERM)
    eventually(lambda: any(event["event"] == "stopping" for event in daemon.events()))
    assert daemon.stop() == 128 + signal.SIGTERM


def test_logs_hold_no_secret(place: Any) -> None:
    daemon = place.start_ready("--log-level", "debug")
    secret_name = "the name of a recording is for readers"
    done = place.json(
        "session", "record", "-", "--name", secret_name, input_bytes=b"plain words of a recording"
    )
    place.run("session", "show", done["session_id"])
    place.run("session", "get", done["session_id"], "-")
    place.run("session", "show", "ffff")
    daemon.stop()
    text = daemon.log.read_text()
    for secret in (PASSPHRASE, secret_name, "plain words"):
        assert secret not in text
    assert done["session_id"].replace("-", "") in text


def test_a_full_disk_is_told_and_nothing_is_lost(place: Any) -> None:
    # A disk that has room for so many bytes and no more, and says so.
    code = (
        "import node.daemon, node.opening, shutil\n"
        "from types import SimpleNamespace\n"
        "from kernel.errors import StoreFull\n"
        "class Small:\n"
        "    left = 3_000_000\n"
        "    def __init__(self, files): self.files = files\n"
        "    def __getattr__(self, name): return getattr(self.files, name)\n"
        "    def take(self, parts):\n"
        "        Small.left -= sum(map(len, parts))\n"
        "        if Small.left < 0: raise StoreFull('no space left on the disk')\n"
        "    def create(self, path, parts): self.take(parts); self.files.create(path, parts)\n"
        "    def append(self, path, parts): self.take(parts); self.files.append(path, parts)\n"
        "shutil.disk_usage = lambda path: SimpleNamespace(free=1 << 30 if Small.left >= 0 else 0)\n"
        "serve = node.daemon.serve\n"
        "async def with_small_disk(*args, **more): await serve(*args, wrap_files=Small, **more)\n"
        "node.daemon.serve = with_small_disk"
    )
    daemon = place.start_ready(code=code)
    first = place.json("session", "record", "-", input_bytes=os.urandom(500_000))
    big = place.root / "big"
    big.write_bytes(os.urandom(5_000_000))
    failed = place.run("session", "record", str(big), "--json")
    assert failed.returncode == 1
    assert json.loads(failed.stderr)["error"]["code"] == "StoreFull"
    status = place.run("status", "--json")
    assert status.returncode == 1
    assert "the disk is full" in json.loads(status.stdout)["problems"][0]
    assert place.json("session", "verify", first["session_id"])["valid"]
    daemon.stop()
    place.start_ready()
    states = [session["state"] for session in place.json("session", "list")["sessions"]]
    assert states == ["complete", "interrupted"]


def test_the_quota_is_kept_exactly(place: Any) -> None:
    place.start_ready("--quota", "3M")
    failed = place.run("session", "record", "-", "--json", input_bytes=os.urandom(4_000_000))
    assert failed.returncode == 1
    status = json.loads(place.run("status", "--json").stdout)
    store = place.home / "store"
    on_disk = {
        part: sum(path.stat().st_size for path in (store / part).rglob("*") if path.is_file())
        for part in ("blobs", "journal")
    }
    assert (status["blob_bytes"], status["journal_bytes"]) == (on_disk["blobs"], on_disk["journal"])
    assert status["blob_bytes"] + status["journal_bytes"] <= 3 << 20


def test_the_record_socket_serves_its_group(place: Any) -> None:
    path = place.root / "record.sock"
    place.start_ready("--record-socket", str(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_the_service_manager_is_told(place: Any, eventually: Eventually) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(place.root / "notify"))
        manager.settimeout(60)
        environment = {"NOTIFY_SOCKET": str(place.root / "notify"), "WATCHDOG_USEC": "200000"}
        daemon = place.start(environment=environment)
        assert manager.recv(100) == b"READY=1"
        assert manager.recv(100) == b"WATCHDOG=1"
        daemon.process.send_signal(signal.SIGTERM)
        while (state := manager.recv(100)) == b"WATCHDOG=1":
            pass
        assert state == b"STOPPING=1"
        assert daemon.process.wait(60) == 0
