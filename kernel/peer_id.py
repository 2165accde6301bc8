"""Node IDs: libp2p peer IDs of Ed25519 keys (libp2p specs, peer-ids), as text "12D3KooW…".

    bytes = 0x00 0x24 (identity multihash of 36 bytes) ‖ 0x08 0x01 0x12 0x20 (Ed25519, 32 bytes) ‖ key
    text  = base58btc of the 38 bytes: always 52 characters

One key has one text: whatever would not encode to itself again is refused.
"""

from kernel.errors import InvalidRecord, Reason
from kernel.signing import PUBLIC_KEY_BYTES

TEXT_CHARACTERS = 52
_PREFIX = bytes.fromhex("0024 08011220")
_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_DIGITS = {character: value for value, character in enumerate(_ALPHABET)}


def encode_peer_id_bytes(public_key: bytes) -> bytes:
    """The binary form of the peer ID of an Ed25519 public key.

    Raises:
        ValueError: the key has not 32 bytes.
    """
    if len(public_key) != PUBLIC_KEY_BYTES:
        raise ValueError(f"an Ed25519 key has {PUBLIC_KEY_BYTES} bytes, not {len(public_key)}")
    return _PREFIX + public_key


def encode_peer_id(public_key: bytes) -> str:
    """The peer ID of an Ed25519 public key.

    Raises:
        ValueError: the key has not 32 bytes.
    """
    number = int.from_bytes(encode_peer_id_bytes(public_key), "big")
    text = ""
    while number:
        number, digit = divmod(number, len(_ALPHABET))
        text = _ALPHABET[digit] + text
    return "1" + text  # the prefix begins with one zero byte


def decode_peer_id(text: str) -> bytes:
    """The Ed25519 public key of a peer ID.

    Raises:
        InvalidRecord: it is no peer ID of an Ed25519 key.
    """
    if len(text) != TEXT_CHARACTERS or text[0] != "1" or not _DIGITS.keys() >= set(text):
        raise _no_peer_id()
    number = 0
    for character in text:
        number = number * len(_ALPHABET) + _DIGITS[character]
    # 51 digits after the "1" are less than 2^299: they fit into the 38 bytes.
    decoded = number.to_bytes(len(_PREFIX) + PUBLIC_KEY_BYTES, "big")
    if not decoded.startswith(_PREFIX):
        raise _no_peer_id()
    return decoded[len(_PREFIX) :]


def _no_peer_id() -> InvalidRecord:
    hint = f"A node ID has {TEXT_CHARACTERS} characters and begins with 12D3KooW."
    return InvalidRecord(Reason.MALFORMED, "this is no node ID of an Ed25519 key", hint=hint)
