"""The keystore: the device root of this node, encrypted under a passphrase. Format: docs/spec/01-identity.md.

    file       = "LUCIDKEY" ‖ KeystoreFile (canonical protobuf) ‖ BLAKE3 of all before
    key        = Argon2id(passphrase, salt, memory, passes, 1 lane), 32 bytes
    ciphertext = XChaCha20-Poly1305(key, nonce, KeystoreSecret), associated data = "LUCIDKEY" ‖ KeystoreFile
                 with an empty ciphertext

The checksum tells damage from a wrong passphrase. Whoever changes the file on purpose can remake the
checksum, and that shows as a wrong passphrase: the two cannot be told apart. Every bound is checked before
Argon2 takes memory. The public part is readable, and its grant list verified, without the passphrase; that it
belongs to the secret part is certain only once the passphrase has opened the file.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3
from google.protobuf.message import DecodeError
from nacl import bindings
from nacl.exceptions import RuntimeError as SodiumError

from kernel import aead
from kernel.domains import Network, get_network
from kernel.errors import (
    InvalidRecord,
    LocalError,
    Locked,
    NotFound,
    Reason,
    StoreDamaged,
    StoreTooNew,
    UsageError,
)
from kernel.grants import verify_grant_list
from kernel.head_grants import verify_head_grant
from kernel.keys import ROOT_BYTES, DeviceKeys
from kernel.peer_id import encode_peer_id
from kernel.ports import Entropy
from kernel.sealing import X25519_BYTES, compute_x25519_public
from kernel.signing import PUBLIC_KEY_BYTES
from lucid.v1 import identity_pb2
from node.identity.secret_file import create_file, read_regular_file, replace_file

MAGIC = b"LUCIDKEY"
VERSION = 1
MAX_FILE_BYTES = 64 << 10
MAX_PASSPHRASE_BYTES = 4096
MAX_NETWORK_CHARACTERS = 64
SALT_BYTES = 16
CHECKSUM_BYTES = 32
_COPY = "Put back a copy of the file."


@dataclass(frozen=True, slots=True)
class Argon2Cost:
    """What one guess at the passphrase costs.

    Attributes:
        memory_kib: 8 KiB to 256 MiB.
        passes: 1 to 16.
    """

    memory_kib: int = 64 << 10
    passes: int = 3

    def __post_init__(self) -> None:
        if not (8 <= self.memory_kib <= 256 << 10 and 1 <= self.passes <= 16):
            raise ValueError("Argon2 takes 8 KiB to 256 MiB and 1 to 16 passes")


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """What everybody may know of a node.

    Attributes:
        network: the network it is on.
        device: Ed25519 public key of the node.
        owner: Ed25519 public key of its owner.
        grants: the newest grant list, as signed.
        grant_list: the same, verified and decoded.
        head_grant: lets the node write heads; None in keystores of before there were heads.
    """

    network: Network
    device: bytes
    owner: bytes
    grants: identity_pb2.Signed
    grant_list: identity_pb2.GrantList
    head_grant: identity_pb2.Signed | None = None

    @property
    def peer_id(self) -> str:
        """The node ID, "12D3KooW…"."""
        return encode_peer_id(self.device)

    @property
    def owner_id(self) -> str:
        """The owner's public key in hexadecimal."""
        return self.owner.hex()


@dataclass(frozen=True, slots=True, repr=False)
class Keystore:
    """What an opened keystore holds.

    Attributes:
        identity: the public part.
        device: the keys of the node.
        seal_keys: X25519 private keys of the owner by index; empty on a device without the role `read`.
    """

    identity: NodeIdentity
    device: DeviceKeys
    seal_keys: Mapping[int, bytes]

    def __repr__(self) -> str:
        return f"Keystore({self.identity.peer_id})"


def create_keystore(
    path: Path,
    passphrase: bytes,
    *,
    identity: NodeIdentity,
    device_root: bytes,
    seal_keys: Mapping[int, bytes],
    entropy: Entropy,
    cost: Argon2Cost | None = None,
    before_name: Callable[[], None] = lambda: None,
) -> None:
    """Writes a new keystore, durably.

    Args:
        path: where; its directory exists.
        passphrase: 1 to 4096 bytes.
        identity: the public part, of the device whose root this is.
        device_root: 32 fresh random bytes.
        seal_keys: X25519 private keys of the owner by index, for a device with the role `read`.
        entropy: for salt, nonce and temporary name.
        cost: of Argon2id; the default where None.
        before_name: called when everything is on disk and only the name is missing; if it raises, there is no
            keystore.

    Raises:
        Conflict: there is a keystore; it is left as it is.
        InvalidRecord: grant list and keys do not fit into a keystore.
        UsageError: the passphrase is empty or too long.
        StoreError: the disk is full or failed.
    """
    public = identity_pb2.KeystorePublic(
        network=identity.network.name,
        device=identity.device,
        owner=identity.owner,
        grants=identity.grants,
        head_grant=identity.head_grant,
    )
    secret = identity_pb2.KeystoreSecret(device_root=device_root, seal_keys=seal_keys)
    create_file(path, _encrypt(public, secret, passphrase, entropy, cost), entropy, before_name)


def describe_public(
    network: Network,
    device: bytes,
    grants: identity_pb2.Signed,
    head_grant: identity_pb2.Signed | None = None,
) -> NodeIdentity:
    """The public part of a device whose owner signed `grants`, and the owner's locator `head_grant`.

    Raises:
        InvalidRecord: a grant is not valid, or `device` is no key.
    """
    if len(device) != PUBLIC_KEY_BYTES:
        raise InvalidRecord(Reason.MALFORMED, "the key of the device has an impossible length")
    if head_grant is not None:
        verify_head_grant(head_grant, network, device=device)
    grant_list = verify_grant_list(grants, network)
    return NodeIdentity(network, device, grants.public_key, grants, grant_list, head_grant)


def read_public(path: Path) -> NodeIdentity:
    """The public part of a keystore: no passphrase, no Argon2, and no proof that the passphrase fits.

    Raises:
        NotFound: there is no keystore.
        StoreDamaged: its bytes are not what was written.
        StoreTooNew: it was written by a newer version of the software.
    """
    file, _ = _decode(_read(path))
    return _check_public(file.public)


def open_keystore(path: Path, passphrase: bytes) -> Keystore:
    """Opens a keystore. Takes about 0.1 s and 64 MiB.

    Raises:
        NotFound: there is no keystore.
        Locked: the passphrase does not open it.
        StoreDamaged: its bytes are not what was written.
        StoreTooNew: it was written by a newer version of the software.
        UsageError: the passphrase is empty or too long.
    """
    file, associated = _decode(_read(path))
    identity = _check_public(file.public)
    secret = _decrypt(file, associated, passphrase)
    if len(secret.device_root) != ROOT_BYTES or any(
        len(key) != X25519_BYTES for key in secret.seal_keys.values()
    ):
        raise StoreDamaged("the keystore holds keys of an impossible length")
    device = DeviceKeys.from_root(secret.device_root)
    if device.identity.public_key != identity.device:
        raise StoreDamaged("the keystore names another device than its secret part")
    current = secret.seal_keys.get(identity.grant_list.seal_index)
    if current is not None and compute_x25519_public(current) != identity.grant_list.seal_public_key:
        raise StoreDamaged("the keystore holds another seal key than its grant list names")
    return Keystore(identity, device, dict(secret.seal_keys))


def change_passphrase(
    path: Path, old: bytes, new: bytes, entropy: Entropy, cost: Argon2Cost | None = None
) -> None:
    """Encrypts the keystore under another passphrase, with a fresh salt and nonce, in one atomic step.

    Copies of the old file still open with the old passphrase.

    Raises:
        LucidError: as `open_keystore` and `create_keystore`; the old keystore is there.
    """
    file, associated = _decode(_read(path))
    secret = _decrypt(file, associated, old)
    replace_file(path, _encrypt(file.public, secret, new, entropy, cost), entropy)


def check_passphrase(passphrase: bytes) -> None:
    """Raises UsageError if a passphrase is empty or too long."""
    if not passphrase:
        raise UsageError("the passphrase is empty")
    if len(passphrase) > MAX_PASSPHRASE_BYTES:
        raise UsageError(f"the passphrase is longer than {MAX_PASSPHRASE_BYTES} bytes")


def _read(path: Path) -> bytes:
    try:
        return read_regular_file(path, MAX_FILE_BYTES)[0]
    except NotFound as error:
        raise NotFound(str(error), hint="Make one with `lucid-node init`.") from error
    except UsageError as error:
        raise StoreDamaged(f"this is no keystore: {error}") from error


def _derive_key(passphrase: bytes, salt: bytes, cost: Argon2Cost) -> bytes:
    check_passphrase(passphrase)
    try:
        return bindings.crypto_pwhash_alg(
            aead.KEY_BYTES,
            passphrase,
            salt,
            cost.passes,
            cost.memory_kib << 10,
            bindings.crypto_pwhash_ALG_ARGON2ID13,
        )
    except SodiumError as error:
        message = f"there is no memory for Argon2id: it takes {cost.memory_kib} KiB"
        raise LocalError(message, hint="Free some memory, and try again.") from error


def _encrypt(
    public: identity_pb2.KeystorePublic,
    secret: identity_pb2.KeystoreSecret,
    passphrase: bytes,
    entropy: Entropy,
    cost: Argon2Cost | None,
) -> bytes:
    cost = cost or Argon2Cost()
    file = identity_pb2.KeystoreFile(
        version=VERSION,
        public=public,
        salt=entropy.draw(SALT_BYTES),
        memory_kib=cost.memory_kib,
        passes=cost.passes,
        nonce=entropy.draw(aead.NONCE_BYTES),
    )
    associated = MAGIC + file.SerializeToString(deterministic=True)
    key = _derive_key(passphrase, file.salt, cost)
    plaintext = secret.SerializeToString(deterministic=True)
    file.ciphertext = aead.encrypt(key, file.nonce, plaintext, associated)
    contents = MAGIC + file.SerializeToString(deterministic=True)
    if len(contents) + CHECKSUM_BYTES > MAX_FILE_BYTES:
        raise InvalidRecord(Reason.TOO_LARGE, "grant list and keys do not fit into a keystore")
    return contents + blake3(contents).digest()


def _decode(raw: bytes) -> tuple[identity_pb2.KeystoreFile, bytes]:
    """The file, and its associated data: the exact bytes that stand before the ciphertext."""
    contents, checksum = raw[:-CHECKSUM_BYTES], raw[-CHECKSUM_BYTES:]
    if not contents.startswith(MAGIC):
        raise StoreDamaged("this is no keystore", hint=_COPY)
    if blake3(contents).digest() != checksum:
        raise StoreDamaged("the keystore is damaged: its checksum is wrong", hint=_COPY)
    body = contents[len(MAGIC) :]
    try:
        file = identity_pb2.KeystoreFile.FromString(body)
    except DecodeError as error:
        raise StoreDamaged("the keystore cannot be decoded") from error
    if file.version > VERSION:
        message = f"the keystore has version {file.version}, known is {VERSION}"
        raise StoreTooNew(message, hint="Use a newer version of the software.")
    tail = identity_pb2.KeystoreFile(ciphertext=file.ciphertext).SerializeToString(deterministic=True)
    head = identity_pb2.KeystoreFile()
    head.CopyFrom(file)
    head.ClearField("ciphertext")
    associated = head.SerializeToString(deterministic=True)
    if file.version != VERSION or associated + tail != body:
        raise StoreDamaged("the keystore is not in its canonical form")
    return file, MAGIC + associated


def _check_public(public: identity_pb2.KeystorePublic) -> NodeIdentity:
    if len(public.network) > MAX_NETWORK_CHARACTERS:
        raise StoreDamaged("the keystore names no network")
    try:
        head_grant = public.head_grant if public.HasField("head_grant") else None
        identity = describe_public(get_network(public.network), public.device, public.grants, head_grant)
    except UsageError as error:
        hint = "Use a newer version of the software."
        raise StoreTooNew(f"the keystore is for another network: {error}", hint=hint) from error
    except InvalidRecord as error:
        raise StoreDamaged(f"the public part of the keystore is not valid: {error}") from error
    if identity.owner != public.owner:
        raise StoreDamaged("the keystore names another owner than its grant list")
    return identity


def _decrypt(
    file: identity_pb2.KeystoreFile, associated: bytes, passphrase: bytes
) -> identity_pb2.KeystoreSecret:
    try:
        cost = Argon2Cost(file.memory_kib, file.passes)
    except ValueError as error:
        raise StoreDamaged(f"the keystore asks for too much or too little work: {error}") from error
    if len(file.salt) != SALT_BYTES:
        raise StoreDamaged("the salt of the keystore has an impossible length")
    key = _derive_key(passphrase, file.salt, cost)
    try:
        plaintext = aead.decrypt(key, file.nonce, file.ciphertext, associated)
        return identity_pb2.KeystoreSecret.FromString(plaintext)
    except InvalidRecord as error:
        if error.reason is not Reason.NOT_DECRYPTABLE:
            raise StoreDamaged(f"the keystore is damaged: {error}") from error
        hint = "Try again. If the passphrase is right, somebody altered the file: put back a copy of it."
        raise Locked("the passphrase does not open the keystore", hint=hint) from error
    except DecodeError as error:
        raise StoreDamaged("the secret part of the keystore cannot be decoded") from error
