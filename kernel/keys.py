"""The keys that grow from the two roots. What each derives: docs/spec/01-identity.md.

The owner root (32 bytes, on paper as 24 words) speaks for a person; the device root (32 bytes, in the
keystore) for one node. The owner signs grants alone, so its root may stay offline.
"""

from dataclasses import dataclass

from kernel.domains import Label
from kernel.kdf import derive
from kernel.onion import OnionKey
from kernel.signing import SigningKey

ROOT_BYTES = 32


def _check_root(root: bytes) -> None:
    if len(root) != ROOT_BYTES:
        raise ValueError(f"a root has {ROOT_BYTES} bytes, not {len(root)}")


@dataclass(frozen=True, slots=True, repr=False)
class OwnerKeys:
    """What an owner root gives.

    Attributes:
        identity: signs grant lists.
        head_locator: names where the owner's heads are found, and signs who may write them.
    """

    _root: bytes
    identity: SigningKey
    head_locator: SigningKey

    @classmethod
    def from_root(cls, root: bytes) -> "OwnerKeys":
        """The keys of a 32-byte owner root.

        Raises:
            ValueError: the root has another length.
        """
        _check_root(root)
        identity, locator = (derive(root, label) for label in (Label.OWNER, Label.HEAD_LOCATOR))
        return cls(root, SigningKey.from_seed(identity), SigningKey.from_seed(locator))

    def seal(self, index: int) -> bytes:
        """X25519 private key number `index`, to which session secrets are sealed."""
        return derive(self._root, Label.SEAL, index.to_bytes(4, "big"))

    def __repr__(self) -> str:
        return f"OwnerKeys({self.identity!r})"


@dataclass(frozen=True, slots=True, repr=False)
class DeviceKeys:
    """What a device root gives.

    Attributes:
        identity: signs what the device says; its public key is the node ID.
        box: X25519 private key; others seal to its public key, which stands in the node's card.
    """

    _root: bytes
    identity: SigningKey
    box: bytes

    @classmethod
    def from_root(cls, root: bytes) -> "DeviceKeys":
        """The keys of a 32-byte device root.

        Raises:
            ValueError: the root has another length.
        """
        _check_root(root)
        return cls(root, SigningKey.from_seed(derive(root, Label.IDENTITY)), derive(root, Label.BOX))

    def onion(self, index: int) -> OnionKey:
        """Key number `index` of the node's onion service; the next number replaces it."""
        return OnionKey(derive(self._root, Label.ONION, index.to_bytes(4, "big")))

    def __repr__(self) -> str:
        return f"DeviceKeys({self.identity!r})"
