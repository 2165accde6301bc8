"""A node's identity to try things on, with an Argon2id cheap enough to run thousands of times."""

import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kernel.domains import NETWORKS
from kernel.grants import sign_grant_list
from kernel.keys import DeviceKeys, OwnerKeys
from kernel.sealing import compute_x25519_public
from lucid.v1.identity_pb2 import ROLE_READ, ROLE_RECORD, Grant
from node.identity.keystore import Argon2Cost, NodeIdentity, create_keystore, describe_public

VECTORS = Path(__file__).parents[3] / "vectors"


class CountingEntropy:
    """Never the same bytes twice, and the same in every run."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)

    def draw(self, size_bytes: int) -> bytes:
        return next(self._numbers).to_bytes(size_bytes, "big")


@dataclass(frozen=True)
class Someone:
    """An owner with one device."""

    owner: OwnerKeys
    device_root: bytes
    identity: NodeIdentity

    def create(self, path: Path, passphrase: bytes = b"passphrase", **changes: Any) -> Path:
        fields: dict[str, Any] = {
            "identity": self.identity,
            "device_root": self.device_root,
            "seal_keys": {0: self.owner.seal(0)},
            "entropy": CountingEntropy(),
            "cost": Argon2Cost(memory_kib=8, passes=1),
        }
        create_keystore(path, passphrase, **(fields | changes))
        return path


def make_someone(number: int) -> Someone:
    owner = OwnerKeys.from_root(bytes([number]) * 32)
    device_root = bytes([number + 100]) * 32
    device = DeviceKeys.from_root(device_root).identity.public_key
    grant = Grant(device=device, roles=[ROLE_RECORD, ROLE_READ])
    dev = NETWORKS["dev"]
    grants = sign_grant_list(owner.identity, dev, 1, [grant], 0, compute_x25519_public(owner.seal(0)))
    return Someone(owner, device_root, describe_public(dev, device, grants))


@pytest.fixture(scope="session")
def someone() -> Someone:
    return make_someone(1)


@pytest.fixture(scope="session")
def stranger() -> Someone:
    return make_someone(2)


@pytest.fixture
def entropy() -> CountingEntropy:
    return CountingEntropy()


@pytest.fixture
def passphrase_file(tmp_path: Path) -> Callable[..., Path]:
    def write(contents: bytes = b"passphrase\n", mode: int = 0o600, name: str = "passphrase-file") -> Path:
        path = tmp_path / name
        path.write_bytes(contents)
        path.chmod(mode)
        return path

    return write


@pytest.fixture(scope="session")
def load_vectors() -> Callable[[str], Any]:
    def load(name: str) -> Any:
        return json.loads((VECTORS / f"{name}.json").read_text())

    return load
