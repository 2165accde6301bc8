"""The vectors of witnesses."""

import json
from pathlib import Path
from typing import Any

import pytest

from dht.attesting import choose_witnesses, compute_witness_place
from dht.ports import PeerIdentity
from kernel.attestation import verify_attestation
from kernel.errors import Conflict, InvalidRecord, Reason
from lucid.v1 import witness_pb2
from lucid.v1.identity_pb2 import Signed
from tests.scenarios.witness_world import NETWORK, WitnessNode

VECTORS: Any = json.loads((Path(__file__).parents[2] / "vectors" / "attestation.json").read_text())
SESSION, DEVICE = bytes.fromhex(VECTORS["session_id"]), bytes.fromhex(VECTORS["device"])


def verify(signed: str) -> witness_pb2.Attestation:
    return verify_attestation(
        Signed.FromString(bytes.fromhex(signed)),
        NETWORK,
        session_id=SESSION,
        checkpoint_hash=bytes.fromhex(VECTORS["checkpoint_hash"]),
        witness=bytes.fromhex(VECTORS["witness"]),
    )


def test_the_attestation_holds() -> None:
    assert verify(VECTORS["signed"]).time_ns == VECTORS["time_ns"]


@pytest.mark.parametrize("case", VECTORS["refused"], ids=[case["name"] for case in VECTORS["refused"]])
def test_others_are_refused(case: Any) -> None:
    with pytest.raises(InvalidRecord) as caught:
        verify(case["signed"])
    assert caught.value.reason is Reason[case["reason"]]


def test_the_witnesses_are_those() -> None:
    chosen = VECTORS["chosen"]
    assert compute_witness_place(SESSION).hex() == chosen["place"]
    peers = [PeerIdentity(bytes.fromhex(device), b"", b"") for device in chosen["devices"]]
    assert [one.device.hex() for one in choose_witnesses(peers, SESSION, 5)] == chosen["witnesses"]


async def test_a_witness_answers_like_that() -> None:
    node = WitnessNode()
    await node.boot()
    caller, last = PeerIdentity(DEVICE, bytes(32), bytes(32)), Signed()
    for step in VECTORS["line"]:
        request = witness_pb2.AttestRequest(
            checkpoint=Signed.FromString(bytes.fromhex(step["checkpoint"])),
            old_count=step["old_count"],
            consistency=[bytes.fromhex(each) for each in step["consistency"]],
        )
        try:
            attestation = (await node.witnesses.attest(request, caller)).attestation
            answer = "SAME" if attestation == last else "ATTESTED"
            last = attestation
        except Conflict:
            answer = "CONFLICT"
        except InvalidRecord as error:
            answer = error.reason.name
        assert answer == step["answer"], step["name"]
