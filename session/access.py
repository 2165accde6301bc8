"""Who can read a session: its secret, sealed for readers; what only readers learn.

The session secret is 32 random bytes, sealed for each reader before chunk 0. Metadata and ending are
encrypted with keys of the session and padded to 256 bytes, so that names do not show by their lengths.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from kernel import aead
from kernel.domains import Label, Network
from kernel.errors import InvalidRecord, Locked, LucidError, Reason, StoreDamaged, StoreError, UsageError
from kernel.kdf import derive
from kernel.ports import Entropy, Journal
from kernel.sealing import seal, unseal
from kernel.signing import SigningKey
from lucid.v1 import identity_pb2, session_pb2
from session import tables

SECRET_BYTES = 32
MAX_ENCRYPTED_BYTES = 128 << 10
_PADDING_BYTES = 256
_LENGTH_BYTES = 4
MAX_MESSAGE_BYTES = MAX_ENCRYPTED_BYTES - aead.NONCE_BYTES - aead.TAG_BYTES - _PADDING_BYTES - _LENGTH_BYTES

M = TypeVar("M", bound=Message)


@dataclass(frozen=True, slots=True)
class RecorderKeys:
    """The keys with which a device records and reads.

    Attributes:
        network: where signatures hold.
        device: signs checkpoints, policies and manifests.
        owner: Ed25519 public key of the owner.
        reader: X25519 public key to which session secrets are sealed.
        reading: X25519 private keys by public key; empty on a device that may only record.
        others: Ed25519 keys of the owner's other devices that may, or might, record; may grow.
        grants: the owner's grant list, as signed; None where nothing needs to be proven to strangers.
    """

    network: Network
    device: SigningKey
    owner: bytes
    reader: bytes
    reading: Mapping[bytes, bytes] = field(repr=False)
    others: set[bytes] = field(default_factory=set)
    grants: identity_pb2.Signed | None = None

    def check_recorder(self, device: bytes) -> None:
        """Checks that a device may record for this owner.

        Raises:
            InvalidRecord: it is a stranger's.
        """
        if device != self.device.public_key and device not in self.others:
            raise InvalidRecord(Reason.WRONG_SIGNER, "the recording is not signed by a device of the owner")


def derive_session_key(secret: bytes, session_id: bytes) -> SigningKey:
    """The session's own key pair."""
    return SigningKey.from_seed(derive(secret, Label.SESSION, session_id))


def seal_for_owner(
    keys: RecorderKeys, session_id: bytes, secret: bytes, entropy: Entropy
) -> session_pb2.SealedSecret:
    """The session secret, readable by the owner's reading devices."""
    return seal(secret, keys.reader, session_id, entropy.draw(32), entropy.draw(aead.NONCE_BYTES))


async def keep_secret(journal: Journal, session_id: bytes, *sealed: session_pb2.SealedSecret) -> None:
    """Makes the sealed secret of a new session durable."""
    stream = tables.secret_stream(session_id)
    await journal.append(stream, [session_pb2.SealedSecrets(secrets=sealed).SerializeToString()])
    await journal.sync(stream)


async def load_secret(journal: Journal, keys: RecorderKeys, session_id: bytes) -> bytes:
    """The session secret, by the first intact sealed copy that one of our keys opens.

    Raises:
        Locked: none of our keys opens it.
        InvalidRecord: the only copy for one of our keys is damaged.
        StoreDamaged: no sealed copy is left.
    """
    copies = await _read_copies(journal, session_id)
    if not copies:
        raise StoreDamaged(f"the sealed secret of session {session_id.hex()} is gone")
    failure: LucidError = Locked(
        "this device holds no key that reads this recording",
        hint="read it on a device with the role `read`",
    )
    for sealed in copies:
        private = keys.reading.get(sealed.reader)
        if private is None:
            continue
        try:
            return unseal(sealed, private, session_id)
        except InvalidRecord as error:
            failure = error
    raise failure


async def _read_copies(journal: Journal, session_id: bytes) -> list[session_pb2.SealedSecret]:
    """From the stream of the secret; if that is damaged, from the facts."""
    copies: list[session_pb2.SealedSecret] = []
    with suppress(StoreError, DecodeError):
        for _, payload in (await journal.read(tables.secret_stream(session_id))).records:
            copies += session_pb2.SealedSecrets.FromString(payload).secrets
    if not copies:
        for _, payload in (await journal.read(tables.facts_stream(session_id))).records:
            with suppress(DecodeError):
                fact = session_pb2.Fact.FromString(payload)
                copies += (*fact.opened.secrets, *fact.adopted.secrets)
    return copies


def encrypt_message(secret: bytes, label: Label, session_id: bytes, nonce: bytes, message: Message) -> bytes:
    """A message for readers.

    nonce ‖ XChaCha20-Poly1305 of (length, 4 bytes ‖ message ‖ zeros), associated data: the session ID.

    Raises:
        UsageError: the message is longer than readers accept.
    """
    encoded = message.SerializeToString()
    if len(encoded) > MAX_MESSAGE_BYTES:
        what = type(message).__name__
        raise UsageError(f"{len(encoded)} bytes of {what} are more than {MAX_MESSAGE_BYTES}")
    padded = len(encoded).to_bytes(4, "big") + encoded
    padded += bytes(-len(padded) % _PADDING_BYTES)
    return nonce + aead.encrypt(derive(secret, label, session_id), nonce, padded, session_id)


def decrypt_message(secret: bytes, label: Label, session_id: bytes, encrypted: bytes, kind: type[M]) -> M:
    """Undoes `encrypt_message`.

    Raises:
        InvalidRecord: too large, damaged, or of another session.
    """
    if not aead.NONCE_BYTES < len(encrypted) <= MAX_ENCRYPTED_BYTES:
        raise InvalidRecord(Reason.MALFORMED, f"{len(encrypted)} bytes are no encrypted {kind.__name__}")
    nonce, ciphertext = encrypted[: aead.NONCE_BYTES], encrypted[aead.NONCE_BYTES :]
    padded = aead.decrypt(derive(secret, label, session_id), nonce, ciphertext, session_id)
    size = int.from_bytes(padded[:4], "big")
    if size > len(padded) - 4:
        raise InvalidRecord(Reason.MALFORMED, f"the length of the {kind.__name__} is wrong")
    try:
        return kind.FromString(padded[4 : 4 + size])
    except DecodeError as error:
        raise InvalidRecord(Reason.MALFORMED, f"the {kind.__name__} cannot be decoded") from error
