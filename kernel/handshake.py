"""The handshake: two nodes prove to each other who they are, and at which address they met.

Rules: docs/spec/09-handshake.md. Both sides sign the same facts, each under its own role. The address that
the client dialled is one of them: a proof that somebody in the middle forwards names *his* address, at which
the server does not listen. A proof holds for one pair of nonces, so none is good twice.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from kernel.domains import Domain, Network
from kernel.errors import Conflict, InvalidRecord, Reason
from kernel.multiaddr import MAX_TEXT
from kernel.signing import PUBLIC_KEY_BYTES, SigningKey, read_signed
from lucid.v1 import identity_pb2, node_pb2
from lucid.v1.node_pb2 import HANDSHAKE_ROLE_CLIENT, HANDSHAKE_ROLE_SERVER

VERSIONS = (1,)
"""Versions of the protocol between nodes that this software speaks."""
NONCE_BYTES = 32
MAX_PROOF_BYTES = 512


@dataclass(frozen=True, slots=True)
class Handshake:
    """What both sides of a handshake know.

    Attributes:
        client: Ed25519 key of the node that dialled.
        server: Ed25519 key of the node that was dialled.
        client_nonce: 32 fresh random bytes of the client.
        server_nonce: 32 fresh random bytes of the server.
        version: of the protocol, that both chose.
    """

    client: bytes
    server: bytes
    client_nonce: bytes
    server_nonce: bytes
    version: int


def choose_version(ours: Sequence[int], theirs: Sequence[int]) -> int:
    """The highest version of the protocol that both sides speak.

    Raises:
        Conflict: there is none.
    """
    common = set(ours) & set(theirs)
    if not common:
        raise Conflict(
            f"no common version of the protocol: this node speaks {_list(ours)}, the other {_list(theirs)}",
            hint="Update the older of the two.",
        )
    return max(common)


def check_nonce(nonce: bytes) -> None:
    """Checks the length of a nonce.

    Raises:
        InvalidRecord: it is wrong.
    """
    if len(nonce) != NONCE_BYTES:
        raise InvalidRecord(Reason.MALFORMED, f"a nonce of {len(nonce)} bytes instead of {NONCE_BYTES}")


def sign_proof(
    key: SigningKey,
    network: Network,
    handshake: Handshake,
    role: node_pb2.HandshakeRole.ValueType,
    dialled: str,
) -> identity_pb2.Signed:
    """The proof of the side that `role` names; `key` is its identity, `dialled` the text of the multiaddr."""
    proof = node_pb2.HandshakeProof(
        role=role,
        client=handshake.client,
        server=handshake.server,
        client_nonce=handshake.client_nonce,
        server_nonce=handshake.server_nonce,
        dialled=dialled,
        version=handshake.version,
    )
    return key.sign(Domain.HANDSHAKE, network, proof.SerializeToString(deterministic=True))


def open_proof(signed: identity_pb2.Signed, network: Network) -> node_pb2.HandshakeProof:
    """The proof in `signed`, if the side that it speaks for signed it. What it says is yet to be checked.

    Raises:
        InvalidRecord: it did not.
    """
    proof = read_signed(signed, Domain.HANDSHAKE, network, node_pb2.HandshakeProof, max_bytes=MAX_PROOF_BYTES)
    if len(proof.client) != PUBLIC_KEY_BYTES or len(proof.server) != PUBLIC_KEY_BYTES:
        raise InvalidRecord(Reason.MALFORMED, "a key in the handshake proof has an impossible length")
    if len(proof.dialled) > MAX_TEXT:
        raise InvalidRecord(Reason.TOO_LARGE, "the address in the handshake proof is too long")
    check_nonce(proof.client_nonce)
    check_nonce(proof.server_nonce)
    signers = {HANDSHAKE_ROLE_CLIENT: proof.client, HANDSHAKE_ROLE_SERVER: proof.server}
    if signers.get(proof.role) != signed.public_key:
        raise InvalidRecord(Reason.WRONG_SIGNER, "the handshake proof is signed by another than its side")
    return proof


def check_proof(
    proof: node_pb2.HandshakeProof,
    handshake: Handshake,
    role: node_pb2.HandshakeRole.ValueType,
    addresses: Collection[str],
) -> None:
    """Checks that an opened proof is the other side's, of this handshake, and made for this place.

    Args:
        proof: from `open_proof`.
        handshake: what this side knows.
        role: of the side that must have signed.
        addresses: texts of the multiaddrs that may have been dialled.

    Raises:
        InvalidRecord: it is not.
    """
    said = Handshake(proof.client, proof.server, proof.client_nonce, proof.server_nonce, proof.version)
    if proof.role != role or said != handshake:
        raise InvalidRecord(Reason.WRONG_HANDSHAKE, "the handshake proof belongs to another handshake")
    if proof.dialled not in addresses:
        raise InvalidRecord(
            Reason.WRONG_ADDRESS,
            f"the handshake was meant for {_printable(proof.dialled)}, not for this node: it was forwarded",
            hint="Somebody stands between the two nodes, or the address is written in another way.",
        )


def _list(versions: Sequence[int]) -> str:
    return ", ".join(map(str, sorted(set(versions)))) or "none"


def _printable(text: str) -> str:
    return repr(text) if not text.isprintable() else text
