import random
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from nacl.bindings import crypto_sign_seed_keypair

from kernel.errors import InvalidRecord, Reason
from kernel.peer_id import decode_peer_id, encode_peer_id

GOOD = encode_peer_id(bytes(range(32)))
# Runs in a process of its own: libp2p loads half a network stack, and warns while it does.
LIBP2P = """
import sys, warnings
warnings.simplefilter("ignore")
from libp2p.crypto.ed25519 import Ed25519PublicKey
from libp2p.peer.id import ID
for line in sys.stdin.read().split():
    key = bytes.fromhex(line)
    peer_id = ID.from_pubkey(Ed25519PublicKey.from_bytes(key))
    print(peer_id.to_base58(), ID.from_base58(peer_id.to_base58()).to_bytes().hex())
"""


def test_vectors(load_vectors: Callable[[str], Any]) -> None:
    vectors = load_vectors("identity")
    assert len(vectors["peer_ids"]) >= 4
    for case in vectors["peer_ids"]:
        assert encode_peer_id(bytes.fromhex(case["public_key"])) == case["peer_id"]
        assert decode_peer_id(case["peer_id"]).hex() == case["public_key"]


def test_libp2p_gives_the_same(load_vectors: Callable[[str], Any]) -> None:
    rng = random.Random(2026)
    keys = [crypto_sign_seed_keypair(rng.randbytes(32))[0] for _ in range(200)]
    lines = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LIBP2P],
        input="\n".join(key.hex() for key in keys),
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert len(lines) == len(keys)
    for key, line in zip(keys, lines, strict=True):
        text, raw = line.split()
        assert encode_peer_id(key) == text
        assert decode_peer_id(text) == key
        assert bytes.fromhex(raw) == bytes.fromhex("002408011220") + key


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        GOOD[:-1],
        GOOD + "1",
        "1" + GOOD,
        " " + GOOD[1:],
        GOOD[:-1] + "0",
        GOOD[:-1] + "é",
        GOOD[:-1] + "\n",
        "2" + GOOD[1:],
        "1" * 52,
        "z" * 52,
        "1" + "z" * 51,
        "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N",
        "16Uiu2HAm1qjPXWuTSFYUUoxP9FvPTjFiwdvnvN5vLnRuoFmjbWqT",
        "1" * 1_000_000,
    ],
)
def test_what_is_no_node_id_is_refused(text: str) -> None:
    with pytest.raises(InvalidRecord) as caught:
        decode_peer_id(text)
    assert caught.value.reason is Reason.MALFORMED
    assert "12D3KooW" in caught.value.hint


def test_one_key_has_one_text() -> None:
    """Whatever one changed character decodes to, encodes to that text again, or is refused."""
    for place in range(len(GOOD)):
        for character in "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz":
            text = GOOD[:place] + character + GOOD[place + 1 :]
            try:
                key = decode_peer_id(text)
            except InvalidRecord:
                continue
            assert encode_peer_id(key) == text


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_key_of_another_length_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="Ed25519"):
        encode_peer_id(bytes(size))
