"""`lucid-node verify bundle`: offline, in words, and with the exit code of a failed verification."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kernel.peer_id import encode_peer_id
from kernel.signing import SigningKey
from node.cli import run
from node.cli.recording_match import find_bytes
from tests.vectors.witness_vectors import WITNESSES

VECTORS = Path(__file__).parents[3] / "vectors"
BUNDLES: Any = json.loads((VECTORS / "bundle.json").read_text())
CHUNKS: Any = json.loads((VECTORS / "chunk.json").read_text())
VALID = {case["name"]: bytes.fromhex(case["bundle"]) for case in BUNDLES["valid"]}
PEERS = [encode_peer_id(witness.public_key) for witness in WITNESSES]
REVEALED = bytes.fromhex(CHUNKS["valid"][1]["plaintext"])


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write(tmp_path, "complete")


def write(directory: Path, name: str) -> Path:
    path = directory / "bundle"
    path.write_bytes(VALID[name])
    return path


def verify(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = run(["verify", "bundle", *map(str, arguments)])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_it_says_what_is_proven_and_what_not(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = verify(capsys, bundle)
    assert code == 0
    assert out.startswith("The bundle is consistent, unattested.")
    assert "Proven:" in out
    assert "Not proven:" in out
    assert "today" in out


def test_named_witnesses_count(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = verify(capsys, bundle, "--witness", PEERS[0], "--witness", PEERS[1])
    assert code == 0
    assert "attested by 2 trusted witnesses" in out
    assert "not later than" in out


def test_a_witness_that_has_not_signed_fails_it(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stranger = encode_peer_id(SigningKey.from_seed(b"s" * 32).public_key)
    code, out, err = verify(capsys, bundle, "--witness", stranger)
    assert (code, out) == (3, "")
    assert stranger in err


def test_a_changed_bundle_fails(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = bytearray(bundle.read_bytes())
    data[1000] ^= 1
    bundle.write_bytes(bytes(data))
    code, out, err = verify(capsys, bundle, "--json")
    assert (code, out) == (3, "")
    assert json.loads(err)["error"]["code"] == "InvalidRecord"


def test_what_cannot_be_read_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(capsys, tmp_path / "nothing")[0] == 4
    assert verify(capsys, tmp_path)[0] == 1
    assert verify(capsys, write(tmp_path, "complete"), "--witness", "Q")[0] == 2


def test_json_has_every_documented_field(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from node.cli.fields import COMMAND_FIELDS

    code, out, _ = verify(capsys, write(tmp_path, "a revealed chunk"), "--witness", PEERS[0], "--json")
    document = json.loads(out)
    assert code == 0
    assert set(document) == set(COMMAND_FIELDS["verify bundle"])
    assert document["chunk"]["plaintext_bytes"] == len(REVEALED)
    assert [one["trusted"] for one in document["attestations"]].count(True) == 1
    assert document["recording"] is None


def test_a_revealed_chunk_is_found_in_the_recording(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, recording = write(tmp_path, "a revealed chunk"), tmp_path / "recording"
    recording.write_bytes(b"before" + REVEALED + b"behind")
    code, out, _ = verify(capsys, path, "--recording", recording)
    assert code == 0
    assert f"Bytes 6 to {5 + len(REVEALED)} of" in out
    recording.write_bytes(b"before" + REVEALED[:-1] + b"?behind")
    assert verify(capsys, path, "--recording", recording)[0] == 3
    assert verify(capsys, path, "--recording", tmp_path / "nothing")[0] == 4


def test_any_other_chunk_is_compared_as_stored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, stored = write(tmp_path, "the header of a chunk"), tmp_path / "stored"
    blob = bytes.fromhex(CHUNKS["valid"][2]["blob"])
    stored.write_bytes(blob)
    assert verify(capsys, path, "--recording", stored)[0] == 0
    for wrong in (blob[:-1], blob + b"\0", blob[:-1] + bytes([blob[-1] ^ 1])):
        stored.write_bytes(wrong)
        assert verify(capsys, path, "--recording", stored)[0] == 3


def test_without_a_chunk_nothing_is_compared(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(capsys, bundle, "--recording", bundle)[0] == 2


def test_it_is_found_across_steps(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(b"abcabcabdabc")
    for step in range(1, 14):
        assert find_bytes(path, b"abcabd", step) == 3
        assert find_bytes(path, b"abc", step) == 0
        assert find_bytes(path, b"dabc", step) == 8
        assert find_bytes(path, b"abcx", step) is None
        assert find_bytes(path, b"", step) == 0


def test_it_loads_neither_grpc_nor_libp2p_and_needs_no_home(bundle: Path) -> None:
    script = (
        "import sys\nfrom node.cli import run\n"
        f"code = run(['verify', 'bundle', {str(bundle)!r}])\n"
        "loaded = {name.partition('.')[0] for name in sys.modules}\n"
        "sys.exit(code or len(loaded & {'grpc', 'libp2p', 'lmdb', 'asyncio'}))\n"
    )
    root = Path(__file__).parents[4]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{root}:{root / 'proto'}"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
