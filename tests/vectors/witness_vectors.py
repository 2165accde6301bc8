"""Golden bytes of witnesses: attestations, who witnesses a session, and what a witness answers."""

from dht.attesting import choose_witnesses, compute_witness_place
from dht.ports import PeerIdentity
from kernel.attestation import sign_attestation
from kernel.checkpoint import compute_checkpoint_hash
from kernel.domains import Domain, Network
from kernel.merkle import compute_consistency_proof, compute_leaf
from kernel.signing import SigningKey
from lucid.v1 import identity_pb2, session_pb2, witness_pb2
from tests.vectors.session_chunk_vectors import SESSION, Case, make_chunks
from tests.vectors.session_document_vectors import (
    COUNTS,
    DEVICE,
    NETWORK,
    STARTED_NS,
    encode,
    make_checkpoints,
    sign_checkpoint,
)

WITNESSES = [SigningKey.from_seed(bytes(range(start, start + 32))) for start in (0x80, 0xA0, 0xC0)]
SEEN_NS = STARTED_NS + 30_000_000_000


def attest(witness: SigningKey, checkpoint: identity_pb2.Signed, delay_ns: int = 0) -> identity_pb2.Signed:
    """The witness has seen it."""
    return sign_attestation(witness, NETWORK, checkpoint, SESSION, SEEN_NS + delay_ns)


def make_attestations() -> list[identity_pb2.Signed]:
    """Of the last checkpoint, a second apart, in the order of the witnesses' keys."""
    last = make_checkpoints()[-1]
    signed = [attest(witness, last, number * 10**9) for number, witness in enumerate(WITNESSES)]
    return sorted(signed, key=lambda each: each.public_key)


def build_attestation() -> Case:
    """attestation.json."""
    last = make_checkpoints()[-1]
    good = attest(WITNESSES[0], last)
    return {
        "network_id": NETWORK.id.hex(),
        "fork_version": NETWORK.fork_version,
        "session_id": SESSION.hex(),
        "device": DEVICE.public_key.hex(),
        "witness": WITNESSES[0].public_key.hex(),
        "checkpoint": encode(last),
        "checkpoint_hash": compute_checkpoint_hash(last.payload).hex(),
        "time_ns": SEEN_NS,
        "signed": encode(good),
        "refused": _refuse(good),
        "chosen": _choose(),
        "line": _answer(),
    }


def _refuse(good: identity_pb2.Signed) -> list[Case]:
    witness = WITNESSES[0]

    def sign(payload: bytes, domain: Domain = Domain.ATTESTATION, network: Network = NETWORK) -> str:
        return encode(witness.sign(domain, network, payload))

    def lie(**fields: object) -> str:
        message = witness_pb2.Attestation.FromString(good.payload)
        for name, value in fields.items():
            setattr(message, name, value)
        return sign(message.SerializeToString(deterministic=True))

    flipped = identity_pb2.Signed.FromString(good.SerializeToString())
    flipped.signature = flipped.signature[:-1] + bytes([flipped.signature[-1] ^ 1])
    cases = (
        ("another signature", encode(flipped), "BAD_SIGNATURE"),
        ("another witness", encode(attest(WITNESSES[1], make_checkpoints()[-1])), "WRONG_SIGNER"),
        ("signed as a checkpoint", sign(good.payload, Domain.CHECKPOINT), "BAD_SIGNATURE"),
        ("another network", sign(good.payload, network=Network("x", bytes(32))), "BAD_SIGNATURE"),
        ("no message", sign(b"\xff"), "MALFORMED"),
        ("too large", sign(bytes(257)), "TOO_LARGE"),
        ("a short hash", lie(checkpoint_hash=bytes(31)), "MALFORMED"),
        ("a short session ID", lie(session_id=SESSION[:15]), "MALFORMED"),
        ("another session", lie(session_id=bytes(16)), "WRONG_SESSION"),
        ("another checkpoint", encode(attest(witness, make_checkpoints()[3])), "WRONG_HASH"),
    )
    return [{"name": name, "signed": signed, "reason": reason} for name, signed, reason in cases]


def _choose() -> Case:
    """Who witnesses the session, of ten nodes."""
    devices = [SigningKey.from_seed(bytes([number]) * 32).public_key for number in range(10)]
    peers = [PeerIdentity(device, device, device) for device in devices]
    return {
        "place": compute_witness_place(SESSION).hex(),
        "devices": [device.hex() for device in devices],
        "witnesses": [peer.device.hex() for peer in choose_witnesses(peers, SESSION, 5)],
    }


def _answer() -> list[Case]:
    """Requests to one witness, one after the other, and what becomes of each."""
    series = make_checkpoints()
    leaves = [compute_leaf(bytes.fromhex(chunk["chunk_id"])) for chunk in make_chunks()]

    def ask(name: str, signed: identity_pb2.Signed, old_count: int, answer: str, **lie: object) -> Case:
        count = session_pb2.Checkpoint.FromString(signed.payload).chunk_count
        proof = compute_consistency_proof(leaves[:count], old_count) if old_count <= count else []
        return {
            "name": name,
            "checkpoint": encode(signed),
            "old_count": old_count,
            "consistency": [each.hex() for each in proof],
            "answer": answer,
        } | lie

    one, three = COUNTS[1], COUNTS[3]
    hashes = [compute_checkpoint_hash(signed.payload) for signed in series]
    other_root = session_pb2.Checkpoint.FromString(series[1].payload).root
    return [
        ask("a proof before there is anything", series[1], one, "CONFLICT"),
        ask("the first that it sees", series[1], 0, "ATTESTED"),
        ask("the same again", series[1], 0, "SAME"),
        ask("an older one", series[0], 0, "CONFLICT"),
        ask("another one with the same number", sign_checkpoint(1, hashes[0], time_ns=1), one, "CONFLICT"),
        ask("the next, behind another", sign_checkpoint(2, hashes[0]), one, "CONFLICT"),
        ask("a proof from nothing", series[3], 0, "CONFLICT"),
        ask("a wrong proof", series[3], one, "NOT_CONSISTENT", consistency=[bytes(32).hex()] * 2),
        ask("other chunks", sign_checkpoint(3, hashes[2], root=other_root), one, "NOT_CONSISTENT"),
        ask("one left out", series[3], one, "ATTESTED"),
        ask("fewer chunks", sign_checkpoint(4, hashes[3], chunk_count=1, root=other_root), one, "CONFLICT"),
        ask("the last", series[4], three, "ATTESTED"),
    ]
