"""Writes the golden bytes of identity: `python tests/vectors/make_identity_vectors.py`.

Everything is drawn from fixed secrets, so the files come out the same each time. The vectors of others (RFCs,
papers) stand in files of their own. What the files hold: tests/vectors/FORMAT.md.
"""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from blake3 import blake3
from nacl import bindings

from kernel import aead
from kernel.domains import NETWORKS, Domain, Label, Network
from kernel.grants import sign_grant_list
from kernel.kdf import derive
from kernel.keys import DeviceKeys, OwnerKeys
from kernel.peer_id import encode_peer_id
from kernel.sealing import compute_x25519_public, seal
from kernel.signing import SigningKey, compute_digest
from lucid.v1.identity_pb2 import ROLE_READ, ROLE_RECORD, ROLE_WORK, Grant, KeystoreFile, Signed
from node.identity.keystore import CHECKSUM_BYTES, MAGIC, Argon2Cost, create_keystore, describe_public
from node.identity.phrase import encode_phrase

Case = dict[str, Any]

DEV = NETWORKS["dev"]
OTHER = Network("other", bytes([0xAA]) * 32, 7)
OWNER_ROOT, DEVICE_ROOT = bytes(range(0x10, 0x30)), bytes(range(0x60, 0x80))
OWNER, DEVICE = OwnerKeys.from_root(OWNER_ROOT), DeviceKeys.from_root(DEVICE_ROOT)
OTHER_DEVICE = SigningKey.from_seed(bytes(range(32))).public_key
PASSPHRASE = b"correct horse battery staple"
SECRET, SESSION = bytes(range(32)), bytes(range(3, 19))

# What `derive` takes beside the label; nothing for the others.
CONTEXTS: dict[Label, bytes] = {
    Label.SEAL: bytes(4),
    Label.ONION: bytes([0, 0, 0, 1]),
    Label.SEALING: bytes(range(1, 33)) + bytes(range(2, 34)) + SESSION,
    Label.CHUNK: SESSION + bytes([0, 0, 0, 5]),
    Label.METADATA: SESSION,
    Label.ENDING: SESSION,
    Label.FRAME: SESSION,
    Label.SESSION: SESSION,
}
OWNER_KEYS = [
    (Label.OWNER, b"", "ed25519"),
    (Label.SEAL, bytes(4), "x25519"),
    (Label.SEAL, bytes([0, 0, 0, 1]), "x25519"),
    (Label.SEAL, bytes([255]) * 4, "x25519"),
    (Label.CHAIN, b"", "secp256k1"),
    (Label.TRON, b"", "secp256k1"),
    (Label.HEAD_LOCATOR, b"", "ed25519"),
]
DEVICE_KEYS = [
    (Label.IDENTITY, b"", "ed25519"),
    (Label.ONION, bytes(4), "ed25519"),
    (Label.ONION, bytes([0, 0, 0, 1]), "ed25519"),
    (Label.VRF, b"", "ed25519"),
    (Label.BOX, b"", "x25519"),
]


class FixedEntropy:
    """Bytes that look random and are always the same."""

    def __init__(self) -> None:
        self._draws = 0

    def draw(self, size_bytes: int) -> bytes:
        """See `kernel.ports.Entropy`."""
        self._draws += 1
        return blake3(b"identity vectors" + bytes([self._draws])).digest(size_bytes)


def encode(signed: Signed) -> str:
    """A signed payload as hex of its message."""
    return signed.SerializeToString(deterministic=True).hex()


def make_derivation(secret: bytes, label: Label, context: bytes, size_bytes: int) -> Case:
    """One call of `derive`."""
    return {
        "secret": secret.hex(),
        "label": label,
        "context": context.hex(),
        "size_bytes": size_bytes,
        "output": derive(secret, label, context, size_bytes=size_bytes).hex(),
    }


def build_kdf() -> Case:
    """kdf.json: every label, and every interesting length."""
    cases = [make_derivation(SECRET, label, CONTEXTS.get(label, b""), 32) for label in Label]
    longer = bytes(range(9, 57))
    cases += [make_derivation(longer, Label.CHUNK, bytes(20), size) for size in (1, 16, 64, 65, 200)]
    return {"cases": cases}


def make_signature(domain: Domain, network: Network, payload: bytes) -> Case:
    """One signature, with all that it is made of."""
    seed = bytes(range(7, 39))
    key = SigningKey.from_seed(seed)
    signed = key.sign(domain, network, payload)
    return {
        "seed": seed.hex(),
        "public_key": key.public_key.hex(),
        "domain": domain,
        "network_id": network.id.hex(),
        "fork_version": network.fork_version,
        "payload": payload.hex(),
        "digest": compute_digest(domain, network, payload).hex(),
        "signature": signed.signature.hex(),
        "signed": encode(signed),
    }


def build_signing() -> Case:
    """signing.json."""
    payloads = (b"", b"payload", bytes(range(256)) + b"and more")
    return {
        "networks": {
            name: {"id": network.id.hex(), "fork_version": network.fork_version}
            for name, network in NETWORKS.items()
        },
        "cases": [
            make_signature(domain, network, payload)
            for domain in Domain
            for network in (DEV, OTHER)
            for payload in payloads
        ],
    }


def make_sealed(number: int, entropy: FixedEntropy) -> Case:
    """One sealed secret, with all that it is made of."""
    secret, session_id, ephemeral, nonce = (entropy.draw(size) for size in (32, 16, 32, 24))
    reader_private = OWNER.seal(number)
    reader = compute_x25519_public(reader_private)
    sealed = seal(secret, reader, session_id, ephemeral, nonce)
    shared = bindings.crypto_scalarmult(ephemeral, reader)
    return {
        "secret": secret.hex(),
        "reader_private": reader_private.hex(),
        "reader_public": reader.hex(),
        "session_id": session_id.hex(),
        "ephemeral_private": ephemeral.hex(),
        "ephemeral_public": sealed.ephemeral.hex(),
        "nonce": nonce.hex(),
        "shared": shared.hex(),
        "key": derive(shared, Label.SEALING, sealed.ephemeral, reader, session_id).hex(),
        "associated": (b"\x01" + session_id + reader).hex(),
        "ciphertext": sealed.ciphertext.hex(),
        "sealed": sealed.SerializeToString(deterministic=True).hex(),
    }


def build_sealing() -> Case:
    """sealing.json."""
    entropy = FixedEntropy()
    prime = 2**255 - 19
    # The points of order 1, 2, 4 and 8 of curve and twist (RFC 7748, section 6.1), and p and p + 1.
    order_8 = (
        325606250916557431795983626356110631294008115727848805560023387167927233504,
        39382357235489614581723060781553021112529911719440698176882885853963445705823,
    )
    points = [0, 1, *order_8, prime - 1, prime, prime + 1]
    return {
        "valid": [make_sealed(number, entropy) for number in range(3)],
        "low_order_points": [point.to_bytes(32, "little").hex() for point in points],
    }


def make_key(root: bytes, label: Label, context: bytes, kind: str) -> Case:
    """One key of a root."""
    private = derive(root, label, context)
    key: Case = {"label": label, "context": context.hex(), "kind": kind, "private": private.hex()}
    if kind == "ed25519":
        key["public"] = SigningKey.from_seed(private).public_key.hex()
    if kind == "x25519":
        key["public"] = compute_x25519_public(private).hex()
    return key


def make_grant_list() -> tuple[Signed, Case]:
    """The owner's first grant list."""
    grants = [
        Grant(device=DEVICE.identity.public_key, roles=[ROLE_RECORD, ROLE_READ, ROLE_WORK]),
        Grant(device=OTHER_DEVICE, roles=[ROLE_RECORD], until_s=1_800_000_000),
    ]
    seal_public_key = compute_x25519_public(OWNER.seal(0))
    signed = sign_grant_list(OWNER.identity, DEV, 1, grants, 0, seal_public_key)
    return signed, {
        "sequence": 1,
        "grants": [
            {"device": grant.device.hex(), "roles": list(grant.roles), "until_s": grant.until_s}
            for grant in grants
        ],
        "seal_index": 0,
        "seal_public_key": seal_public_key.hex(),
        "payload": signed.payload.hex(),
        "signature": signed.signature.hex(),
        "signed": encode(signed),
    }


def make_keystore(grants: Signed) -> Case:
    """A keystore file, with all that it is made of."""
    identity = describe_public(DEV, DEVICE.identity.public_key, grants)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "keystore"
        create_keystore(
            path,
            PASSPHRASE,
            identity=identity,
            device_root=DEVICE_ROOT,
            seal_keys={0: OWNER.seal(0)},
            entropy=FixedEntropy(),
        )
        contents = path.read_bytes()
    file = KeystoreFile.FromString(contents[len(MAGIC) : -CHECKSUM_BYTES])
    tail = KeystoreFile(ciphertext=file.ciphertext).SerializeToString()
    associated = contents[: -CHECKSUM_BYTES - len(tail)]
    cost = Argon2Cost()
    key = bindings.crypto_pwhash_alg(
        aead.KEY_BYTES,
        PASSPHRASE,
        file.salt,
        cost.passes,
        cost.memory_kib << 10,
        bindings.crypto_pwhash_ALG_ARGON2ID13,
    )
    return {
        "passphrase": PASSPHRASE.hex(),
        "network": DEV.name,
        "device_root": DEVICE_ROOT.hex(),
        "seal_keys": {"0": OWNER.seal(0).hex()},
        "grants": encode(grants),
        "salt": file.salt.hex(),
        "memory_kib": file.memory_kib,
        "passes": file.passes,
        "nonce": file.nonce.hex(),
        "key": key.hex(),
        "associated": associated.hex(),
        "plaintext": aead.decrypt(key, file.nonce, file.ciphertext, associated).hex(),
        "ciphertext": file.ciphertext.hex(),
        "file": contents.hex(),
    }


def build_identity() -> Case:
    """identity.json."""
    signed, grant_list = make_grant_list()
    peers = (bytes(32), bytes([255]) * 32, bytes(range(32)), OTHER_DEVICE)
    return {
        "owner": {
            "root": OWNER_ROOT.hex(),
            "words": encode_phrase(OWNER_ROOT),
            "keys": [make_key(OWNER_ROOT, *key) for key in OWNER_KEYS],
        },
        "device": {
            "root": DEVICE_ROOT.hex(),
            "peer_id": encode_peer_id(DEVICE.identity.public_key),
            "keys": [make_key(DEVICE_ROOT, *key) for key in DEVICE_KEYS],
        },
        "peer_ids": [{"public_key": key.hex(), "peer_id": encode_peer_id(key)} for key in peers],
        "grant_list": grant_list,
        "keystore": make_keystore(signed),
    }


BUILDERS: dict[str, Callable[[], Case]] = {
    "kdf.json": build_kdf,
    "signing.json": build_signing,
    "sealing.json": build_sealing,
    "identity.json": build_identity,
}


def render(document: Case) -> str:
    """The text of a file."""
    return json.dumps(document, indent=2) + "\n"


if __name__ == "__main__":
    for name, build in BUILDERS.items():
        (Path(__file__).parent / name).write_text(render(build()))
