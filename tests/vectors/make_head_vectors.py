"""Writes the golden bytes of objects and heads: `python -m tests.vectors.make_head_vectors`.

What the files hold: tests/vectors/FORMAT.md.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from dht.fact_copies import encode_facts
from dht.head_content import seal_content
from dht.objects import count_parts, derive_object_lease_key, seal_object
from kernel.domains import NETWORKS
from kernel.head_grants import sign_head_grant
from kernel.keys import DeviceKeys, OwnerKeys
from kernel.sealing import compute_x25519_public
from lucid.v1 import chunk_pb2

Case = dict[str, Any]

HERE = Path(__file__).parent
OWNER = OwnerKeys.from_root(bytes(range(0x10, 0x30)))
DEVICE = DeviceKeys.from_root(bytes(range(0x60, 0x80)))


class NamedEntropy:
    """Bytes that are the same each time, and a list of them."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.drawn: list[bytes] = []

    def draw(self, size_bytes: int) -> bytes:
        seed = f"{self._name} {len(self.drawn)}".encode()
        self.drawn.append(hashlib.shake_128(seed).digest(size_bytes))
        return self.drawn[-1]


def build_object() -> Case:
    """Objects of several lengths, and what must be refused."""
    valid = []
    for name, content in (("empty", b""), ("facts", encode_facts([b"one", b"", b"three" * 100]))):
        entropy = NamedEntropy(name)
        key = entropy.draw(32)
        nonces = [entropy.draw(24) for _ in range(count_parts(len(content)))]
        reference, blobs = seal_object(content, key, nonces)
        valid.append(
            {
                "name": name,
                "content": content.hex(),
                "key": key.hex(),
                "nonces": [nonce.hex() for nonce in nonces],
                "blobs": [blob.hex() for blob in blobs],
                "reference": reference.SerializeToString(deterministic=True).hex(),
                "lease_key": derive_object_lease_key(reference).public_key.hex(),
            }
        )
    lengths = [0, 1, 16_376, 16_377, 524_288, (8 << 20) - 8, 8 << 20, 100 << 20]
    facts = [b"one", b"", b"three" * 100]
    return {
        "parts": [[length, count_parts(length)] for length in lengths],
        "stretch": {"facts": [fact.hex() for fact in facts], "content": encode_facts(facts).hex()},
        "valid": valid,
    }


def build_head_content() -> Case:
    """The sealed content of a head, and the grant of its device."""
    locator = OWNER.head_locator
    entropy = NamedEntropy("head")
    index = chunk_pb2.ObjectRef(key=b"k" * 32)
    index.parts.add(chunk_id=b"c" * 32, size_bytes=16_424)
    content = chunk_pb2.HeadContent(index=index, sessions=3)
    head = chunk_pb2.Head(
        locator=locator.public_key, device=DEVICE.identity.public_key, sequence=1_790_000_000
    )
    seal_key = OWNER.seal(0)
    sealed = seal_content(content, head, compute_x25519_public(seal_key), entropy)
    grant = sign_head_grant(locator, NETWORKS["dev"], DEVICE.identity.public_key)
    names = ("content_key", "content_nonce", "ephemeral_private", "key_nonce")
    return {
        "locator": locator.public_key.hex(),
        "device": head.device.hex(),
        "sequence": head.sequence,
        "seal_private": seal_key.hex(),
        "grant": grant.SerializeToString(deterministic=True).hex(),
        **{name: drawn.hex() for name, drawn in zip(names, entropy.drawn, strict=True)},
        "content": content.SerializeToString(deterministic=True).hex(),
        "sealed": sealed.hex(),
    }


def render(document: Case) -> str:
    """The text of a file."""
    return json.dumps(document, indent=2) + "\n"


BUILDERS = {"object.json": build_object, "head_content.json": build_head_content}

if __name__ == "__main__":
    for file_name, build in BUILDERS.items():
        (HERE / file_name).write_text(render(build()))
