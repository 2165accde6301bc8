"""One table of everything that tells uses of a key apart: signing domains, derivation labels, networks.

A signature names its domain and its network, so it means one thing in one place (kernel/signing.py). A
derived key names its label, so no two uses share a key (kernel/kdf.py). Both are ASCII, at most 255 bytes,
and unique: a test checks it. An entry is never renamed or reused; a new meaning gets a new entry.
"""

from dataclasses import dataclass
from enum import StrEnum, unique

from blake3 import blake3

from kernel.errors import UsageError

NETWORK_ID_BYTES = 32


@unique
class Domain(StrEnum):
    """What a signature is about."""

    GRANT_LIST = "lucid grant-list"
    POLICY = "lucid policy"
    CHECKPOINT = "lucid checkpoint"
    MANIFEST = "lucid manifest"
    PEER_CARD = "lucid peer-card"
    HANDSHAKE = "lucid handshake"
    LEASE = "lucid lease"
    RECEIPT = "lucid receipt"
    RELEASE = "lucid release"
    HEAD_GRANT = "lucid head-grant"
    HEAD = "lucid head"
    HEAD_RECEIPT = "lucid head-receipt"
    ATTESTATION = "lucid attestation"


@unique
class Label(StrEnum):
    """What a derived key is for; context is what `derive` takes beside the label."""

    # From the owner root.
    OWNER = "lucid owner"  # Ed25519 seed
    SEAL = "lucid seal"  # X25519 private key; context: index as u32be
    CHAIN = "lucid chain"  # secp256k1 seed
    TRON = "lucid tron"  # secp256k1 seed
    HEAD_LOCATOR = "lucid head-locator"  # Ed25519 seed

    # From the device root.
    IDENTITY = "lucid identity"  # Ed25519 seed
    ONION = "lucid onion"  # Ed25519 seed; context: index as u32be
    VRF = "lucid vrf"  # Ed25519 seed
    BOX = "lucid box"  # X25519 private key

    # From an X25519 shared secret.
    SEALING = "lucid sealing"  # context: ephemeral public ‖ reader public ‖ session ID

    # From a session secret.
    CHUNK = "lucid chunk"  # context: session ID ‖ index as u32be
    CHUNK_COMMITMENT = "lucid chunk-commitment"  # from a chunk key
    METADATA = "lucid metadata"  # context: session ID
    ENDING = "lucid ending"  # context: session ID
    FRAME = "lucid frame"  # context: session ID
    SESSION = "lucid session"  # Ed25519 seed; context: session ID
    SESSION_LEASE = "lucid session-lease"  # Ed25519 seed; context: session ID
    FACTS = "lucid facts"  # context: session ID


@dataclass(frozen=True, slots=True)
class Network:
    """A network that nodes agree to be on.

    Attributes:
        name: what users call it.
        id: 32 bytes; the hash of the genesis, until there is one a constant per preset.
        fork_version: version of the rules in force.
    """

    name: str
    id: bytes
    fork_version: int = 0

    def __post_init__(self) -> None:
        if len(self.id) != NETWORK_ID_BYTES or not 0 <= self.fork_version < 1 << 32:
            raise ValueError("a network ID has 32 bytes, a fork version 32 bits")


NETWORKS: dict[str, Network] = {"dev": Network("dev", blake3(b"lucid network dev").digest())}
"""Presets by name."""


def get_network(name: str) -> Network:
    """The network of this name.

    Raises:
        UsageError: this version of the software knows none.
    """
    network = NETWORKS.get(name)
    if network is None:
        raise UsageError(f"there is no network {name!r}", hint=f"Known are: {', '.join(NETWORKS)}.")
    return network
