import json
import os
import pty
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from node.cli.fields import COMMAND_FIELDS

TEXT = b"a line of text\n" * 1000


def record(place: Any, data: bytes = TEXT, *options: str) -> dict[str, Any]:
    done: dict[str, Any] = place.json("session", "record", "-", *options, input_bytes=data)
    return done


@pytest.mark.parametrize("command", ["id", "status", "doctor"])
def test_documents_hold_the_fields_of_the_table(shared: Any, command: str) -> None:
    assert set(shared.json(command)) == set(COMMAND_FIELDS[command])


def test_documents_of_sessions_hold_the_fields_of_the_table(shared: Any, tmp_path: Path) -> None:
    done = record(shared, TEXT, "--name", "n", "--tag", "t")
    session = done["session_id"]
    out = str(tmp_path / "out")
    shown = {
        "session record": done,
        "session list": shared.json("session", "list"),
        "session show": shared.json("session", "show", session),
        "session verify": shared.json("session", "verify", session),
        "session get": shared.json("session", "get", session, out),
        "session hold": shared.json("session", "hold", session),
        "session release": shared.json("session", "release", session),
        "session recover": shared.json("session", "recover"),
        "session delete": shared.json("session", "delete", session, "--yes"),
    }
    for name, document in shown.items():
        assert list(document) == list(COMMAND_FIELDS[name]), name
    listed = shown["session list"]["sessions"][-1]
    assert list(listed) == list(COMMAND_FIELDS["session hold"])


def test_what_was_recorded_comes_back(shared: Any, tmp_path: Path) -> None:
    done = record(shared)
    prefix = done["session_id"][:6]
    assert shared.run("session", "get", prefix, "-").stdout == TEXT
    shared.json("session", "get", prefix, str(tmp_path / "out"))
    assert (tmp_path / "out").read_bytes() == TEXT
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_existing_output_is_overwritten_only_by_force(shared: Any, tmp_path: Path) -> None:
    session = record(shared)["session_id"]
    out = tmp_path / "out"
    out.write_text("precious")
    refused = shared.run("session", "get", session, str(out))
    assert refused.returncode == 1
    assert b"--force" in refused.stderr
    assert out.read_text() == "precious"
    shared.json("session", "get", session, str(out), "--force")
    assert out.read_bytes() == TEXT


def test_a_file_and_a_directory(shared: Any, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "file").write_bytes(os.urandom(100_000))
    done = shared.json("session", "record", str(tmp_path / "d" / "file"), "--name", "a file")
    shown = shared.json("session", "show", done["session_id"])
    assert (shown["kind"], shown["source"], shown["name"]) == ("file", str(tmp_path / "d" / "file"), "a file")
    done = shared.json("session", "record", str(tmp_path / "d"))
    tar = shared.run("session", "get", done["session_id"], "-").stdout
    listed = subprocess.run(["tar", "t"], input=tar, capture_output=True, check=True).stdout
    assert b"d/file" in listed


def test_lists_are_filtered(shared: Any) -> None:
    record(shared, TEXT, "--name", "needle", "--tag", "one", "--tag", "two")
    for arguments in (["--tag", "two"], ["--search", "NEEDLE"], ["--tag", "one", "--since", "1h"]):
        names = [one["name"] for one in shared.json("session", "list", *arguments)["sessions"]]
        assert names == ["needle"], arguments
    assert shared.json("session", "list", "--since", "2100-01-01")["sessions"] == []
    assert shared.run("session", "list", "--since", "whenever").returncode == 2


def test_a_name_cannot_drive_the_terminal(shared: Any) -> None:
    record(shared, TEXT, "--name", "\x1b]0;owned\x07\x1b[2J\nfake")
    table = shared.run("session", "list").stdout
    assert b"\x1b" not in table
    assert b"\\x1b[2J" in table


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (["nonsense"], 2, "UsageError"),
        (["session", "show"], 2, "UsageError"),
        (["session", "show", "zz"], 2, "UsageError"),
        (["session", "show", "ffffffff"], 4, "NotFound"),
        (["session", "get", "ffffffff", "out"], 4, "NotFound"),
        (["session", "record", "/no/such/file"], 4, "NotFound"),
        (["session", "record", "/etc/hostname", "--no-pty"], 2, "UsageError"),
        (["session", "record", "--retain", "soon", "/etc/hostname"], 2, "UsageError"),
        (["session", "record", "/etc/hostname", "--tag", "x" * 65], 2, "UsageError"),
        (["session", "recover", "--resume", "--finalize"], 2, "UsageError"),
        (["session", "recover", "ffffffff"], 4, "NotFound"),
        (["session", "delete", "ffffffff"], 4, "NotFound"),
        (["session", "list", "--state", "lost"], 2, "UsageError"),
        (["session", "list", "--search", "\udcff"], 2, "UsageError"),
        (["session", "play", "ffffffff", "--speed", "nan"], 2, "UsageError"),
        (["session", "play", "ffffffff", "--idle-limit", "nan"], 2, "UsageError"),
        (["session", "show", "\udcff"], 2, "UsageError"),
        (["doctor", "--rebuild"], 1, "Conflict"),
        (["init"], 1, "Conflict"),
    ],
)
def test_errors_have_a_code_a_message_and_an_exit_code(
    shared: Any, arguments: list[str], code: int, error: str
) -> None:
    done = shared.run(*arguments, "--json")
    assert (done.returncode, done.stdout) == (code, b"")
    document = json.loads(done.stderr)["error"]
    assert set(document) == {"code", "message", "hint"}
    assert document["code"] == error
    assert document["message"]
    plain = shared.run(*arguments)
    assert plain.returncode == code
    assert plain.stderr.startswith(b"Error: ")
    assert b"Traceback" not in plain.stderr


def test_only_a_terminal_recording_is_played_or_exported(shared: Any, tmp_path: Path) -> None:
    session = record(shared)["session_id"]
    for arguments in (["play", session], ["export", session, "--cast", str(tmp_path / "x")]):
        done = shared.run("session", *arguments)
        assert done.returncode == 2
        assert b"stream" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_deleting_needs_a_yes(shared: Any) -> None:
    session = record(shared)["session_id"]
    refused = shared.run("session", "delete", session)
    assert refused.returncode == 2
    assert b"--yes" in refused.stderr
    shared.json("session", "hold", session)
    held = shared.run("session", "delete", session, "--yes")
    assert held.returncode == 1
    shared.json("session", "release", session)
    assert shared.json("session", "delete", session, "--yes")["freed_bytes"] > 0
    gone = shared.run("session", "get", session, "-")
    assert gone.returncode == 4
    assert b"was deleted" in gone.stderr
    assert shared.json("session", "show", session)["state"] == "deleted"
    for arguments in (["show", session], ["list", "--state", "deleted"]):
        shown = shared.run("session", *arguments)
        assert shown.returncode == 0
        assert b"eadable" not in shown.stdout  # as if only a key were missing


def test_progress_goes_to_a_terminal_only(shared: Any, tmp_path: Path) -> None:
    big = tmp_path / "big"
    big.write_bytes(os.urandom(30_000_000))
    assert shared.run("session", "record", str(big)).stderr == b""
    master, terminal = pty.openpty()
    with open(terminal, "wb", buffering=0) as error:  # noqa: PTH123 - a descriptor
        subprocess.run(
            [sys.executable, "-m", "node.cli", "--home", str(shared.home), "session", "record", str(big)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=error,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "TERM": "xterm"},
            check=True,
            timeout=60,
        )
        shown = os.read(master, 1 << 20)
    os.close(master)
    assert b"Recording" in shown


def test_without_a_daemon_the_exit_code_is_six(place: Any) -> None:
    for arguments in (
        ["status"],
        ["session", "list"],
        ["session", "record", "-"],
        ["session", "record", "--", "true"],
    ):
        done = place.run(*arguments)
        assert done.returncode == 6, arguments
        assert b"lucid-node run" in done.stderr


def test_damage_is_found_named_and_left_out(place: Any) -> None:
    daemon = place.start_ready()
    session = record(place, os.urandom(100_000))["session_id"]
    blob = max(
        (place.home / "store" / "blobs").rglob("*"),
        key=lambda path: path.stat().st_size if path.is_file() else 0,
    )
    contents = bytearray(blob.read_bytes())
    contents[5000] ^= 1
    blob.write_bytes(contents)
    done = place.run("session", "verify", session, "--json")
    assert done.returncode == 3
    assert json.loads(done.stdout)["findings"][0]["chunk"] == 0
    out = place.root / "out"
    assert place.run("session", "get", session, str(out)).returncode == 3
    assert not out.exists()
    partial = place.run("session", "get", session, str(out), "--partial", "--json")
    assert partial.returncode == 3
    assert json.loads(partial.stdout)["findings"]
    assert place.json("session", "show", session)["incidents"]
    daemon.stop()
    (blob.parent / blob.name).unlink()
    doctor = place.run("doctor", "--json")
    assert doctor.returncode == 1
    assert any(
        check["name"] == "chunks" and check["state"] == "wrong"
        for check in json.loads(doctor.stdout)["checks"]
    )


def test_a_damaged_index_is_refused_and_rebuilt(place: Any) -> None:
    daemon = place.start_ready()
    session = record(place)["session_id"]
    deleted = record(place)["session_id"]
    place.json("session", "delete", deleted, "--yes")
    daemon.stop()
    assert place.json("doctor")["healthy"]
    index = place.home / "store" / "index" / "data.mdb"
    contents = bytearray(index.read_bytes())
    contents[4096:8192] = os.urandom(4096)
    index.write_bytes(contents)
    refused = place.start()
    assert refused.process.wait(60) == 3
    assert "doctor --rebuild" in refused.log.read_text()
    done = place.json("doctor", "--rebuild")
    assert done["healthy"]
    assert any("1 sessions" in line for line in done["rebuilt"])
    place.start_ready()
    assert place.json("session", "verify", session)["valid"]
    assert place.json("session", "show", deleted)["state"] == "deleted"


def test_a_file_recording_is_resumed_only_if_the_file_is_as_it_was(place: Any) -> None:
    code = (
        "import os, signal, session.recording\n"
        "copied = 0\n"
        "commit = session.recording.Recording._commit_chunks\n"
        "async def die(self, entries):\n"
        "    await commit(self, entries)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "session.recording.Recording._commit_chunks = die"
    )
    place.start_ready(code=code)
    big = place.root / "big"
    big.write_bytes(os.urandom(40_000_000))
    client = subprocess.Popen(
        [sys.executable, "-m", "node.cli", "--home", str(place.home), "session", "record", str(big)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    place.daemons[0].process.wait(60)
    client.kill()
    client.wait()
    place.start_ready()
    [session] = place.json("session", "list")["sessions"]
    assert session["state"] == "interrupted"
    assert session["plaintext_bytes"] > 0
    modified_ns = big.stat().st_mtime_ns
    os.utime(big, ns=(time.time_ns(), modified_ns + 10**9))
    refused = place.run("session", "recover", session["session_id"], "--resume")
    assert refused.returncode == 1
    assert b"changed" in refused.stderr
    os.utime(big, ns=(time.time_ns(), modified_ns))
    done = place.json("session", "recover", "--resume")
    assert list(done) == list(COMMAND_FIELDS["session recover --resume"])
    assert (done["state"], done["plaintext_bytes"]) == ("complete", 40_000_000)
    out = place.root / "out"
    place.json("session", "get", session["session_id"], str(out))
    assert out.read_bytes() == big.read_bytes()


def test_the_passphrase_is_changed_by_a_child(place: Any) -> None:
    new = place.root / "new"
    new.write_text("another one")
    new.chmod(0o600)
    done = place.json(
        "passphrase",
        "change",
        "--old-passphrase-file",
        str(place.passphrase_file),
        "--new-passphrase-file",
        str(new),
    )
    assert set(done) == set(COMMAND_FIELDS["passphrase change"])
    refused = place.start()
    assert refused.process.wait(60) == 1
    place.passphrase_file = new
    place.start_ready()
    assert place.json("status")["serving"]


def test_init_shows_its_words_once_and_never_again(place: Any, tmp_path: Path) -> None:
    environment = {"LUCID_HOME": str(tmp_path / "other")}
    done = subprocess.run(
        [sys.executable, "-m", "node.cli", "init", "--json", "--passphrase-file", str(place.passphrase_file)],
        env=os.environ | environment | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        check=True,
    )
    document = json.loads(done.stdout)
    assert set(document) == set(COMMAND_FIELDS["init"])
    assert len(document["recovery_phrase"].split()) == 24
    assert document["home"] == str(tmp_path / "other")


def test_a_directory_named_node_does_not_run_in_the_ceremony(place: Any) -> None:
    evil = place.root / "node" / "identity"
    evil.mkdir(parents=True)
    (place.root / "node" / "__init__.py").write_text("raise SystemExit('taken over')")
    command = Path(sys.executable).with_name("lucid-node")
    done = subprocess.run(
        [command, "passphrase", "change", "--home", str(place.home), "--old-passphrase-file", "/nope"],
        cwd=place.root,
        capture_output=True,
        check=False,
    )
    assert b"taken over" not in done.stderr
    assert done.returncode == 4


def test_help_is_quick_because_it_loads_little() -> None:
    code = (
        "import sys; from node.cli import run; code = run(['session', 'record', '--help'])\n"
        "loaded = [name for name in ('grpc', 'nacl', 'libp2p', 'web3', 'rich', 'structlog', 'asyncio',"
        " 'prometheus_client', 'google.protobuf', 'lmdb') if name in sys.modules]\n"
        "print(code, loaded)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 []"


def test_the_command_line_holds_no_keys() -> None:
    code = (
        "import sys, pkgutil, node.cli\n"
        "for module in pkgutil.walk_packages(node.cli.__path__, 'node.cli.'):\n"
        "    if module.name not in ('node.cli.__main__', 'node.cli.login_shell'): __import__(module.name)\n"
        "print([name for name in ('nacl', 'libp2p', 'web3', 'grpc') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_script_of_its_shell(shared: Any, shell: str) -> None:
    done = shared.run("completion", shell)
    assert done.returncode == 0
    assert b"_LUCID_NODE_COMPLETE" in done.stdout
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=done.stdout, check=True)


def test_completion_completes(shared: Any) -> None:
    environment = {
        "_LUCID_NODE_COMPLETE": "bash_complete",
        "COMP_WORDS": "lucid-node session re",
        "COMP_CWORD": "2",
    }
    done = shared.run(environment=environment)
    assert {line.split(",")[-1] for line in done.stdout.decode().split()} == {"record", "recover", "release"}


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("session record ho", "file"),
        ("session get abc ho", "file"),
        ("session export abc --cast ho", "file"),
        ("init --passphrase-file ho", "file"),
        ("service install --dir ho", "dir"),
        ("status --home ho", "dir"),
        ("--home ho", "dir"),
    ],
)
def test_paths_are_completed_by_the_shell(shared: Any, words: str, kind: str) -> None:
    environment = {
        "_LUCID_NODE_COMPLETE": "bash_complete",
        "COMP_WORDS": f"lucid-node {words}",
        "COMP_CWORD": str(len(words.split())),
    }
    assert shared.run(environment=environment).stdout == f"{kind},ho\n".encode()


def test_a_unit_is_written_and_removed(shared: Any, tmp_path: Path) -> None:
    arguments = ["--dir", str(tmp_path)]
    done = shared.json("service", "install", *arguments, "--passphrase-file", str(shared.passphrase_file))
    assert set(done) == set(COMMAND_FIELDS["service install"])
    assert Path(done["unit"]).exists()
    done = shared.json("service", "uninstall", *arguments)
    assert set(done) == set(COMMAND_FIELDS["service uninstall"])
    assert list(tmp_path.iterdir()) == []
    assert shared.run("service", "install", *arguments).returncode == 2


def test_output_nobody_reads_is_no_crash(shared: Any) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "node.cli", "--home", str(shared.home), "session", "list", "--json"],
        stdout=writing,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    os.close(writing)
    assert b"Traceback" not in done.stderr
    assert b"Exception" not in done.stderr


def test_a_home_that_cannot_be_looked_into_is_a_clear_error(shared: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    done = shared.run("doctor", "--home", str(tmp_path / "file" / "below"))
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr
