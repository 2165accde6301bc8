"""The errors of the house.

Every error that leaves a module is a `LucidError`. Its message says what happened and why; `hint` says what
to do about it. Nothing secret ever stands in either.

    LucidError
    ├── LocalError          our fault or the user's
    │   ├── UsageError      the request makes no sense as it stands
    │   ├── NotFound        what was named does not exist here
    │   ├── Conflict        the state of things does not allow it now
    │   ├── Locked          a key or passphrase that was given does not open it
    │   └── Unavailable     the daemon or a needed service does not answer
    ├── PeerFault           a peer broke the rules; alone costs reputation
    ├── StoreError          the disk or the store failed (`permanent` or not)
    │   ├── StoreFull       no space or no quota left; goes away when there is space
    │   ├── StoreDamaged    stored bytes are not what was written
    │   └── StoreTooNew     written by a newer version of the software
    └── InvalidRecord       bytes break a format or a signature, with a `Reason`
"""

from enum import Enum


class LucidError(Exception):
    """Base of all errors that are part of an interface.

    Attributes:
        hint: what the reader can do about it; empty if nothing.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class LocalError(LucidError):
    """Our own fault, or the user's."""


class UsageError(LocalError):
    """The request makes no sense as it stands."""


class NotFound(LocalError):
    """What was named does not exist here."""


class Conflict(LocalError):
    """The present state does not allow it."""


class Locked(LocalError):
    """The passphrase or key that was given does not open it."""


class Unavailable(LocalError):
    """The daemon, or a service that is needed, does not answer."""


class PeerFault(LucidError):
    """A peer broke the rules of the protocol; alone costs reputation."""


class StoreError(LucidError):
    """The disk or the store failed.

    Attributes:
        permanent: True if trying again cannot help.
    """

    permanent = False


class StoreFull(StoreError):
    """No space on the disk, or none left of the quota."""


class StoreDamaged(StoreError):
    """Stored bytes are not what was written."""

    permanent = True


class StoreTooNew(StoreError):
    """The store was written by a newer version of the software."""

    permanent = True


class Reason(Enum):
    """Why bytes were refused."""

    MALFORMED = "malformed"
    TOO_LARGE = "too large"
    BAD_SIGNATURE = "bad signature"
    WRONG_SIGNER = "wrong signer"
    WRONG_SESSION = "wrong session"
    WRONG_INDEX = "wrong index"
    WRONG_HASH = "wrong hash"
    WRONG_HOLDER = "meant for another node"
    WRONG_VERSION = "unknown version"
    NOT_DECRYPTABLE = "cannot be decrypted"
    WRONG_ADDRESS = "meant for another address"
    WRONG_HANDSHAKE = "belongs to another handshake"
    NOT_GRANTED = "not granted by its owner"
    EXPIRED = "no longer valid"
    NOT_CONSISTENT = "contradicts what was signed before"


class InvalidRecord(LucidError):
    """Bytes break a format, a hash or a signature.

    Attributes:
        reason: which rule was broken.
    """

    def __init__(self, reason: Reason, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.reason = reason
