"""Golden bytes of a recorded session: its frames, checkpoints, policy, metadata, ending and manifest."""

import json
import struct
from typing import Any

import rfc8785
from blake3 import blake3

from kernel import aead, merkle
from kernel.checkpoint import compute_checkpoint_hash
from kernel.domains import NETWORKS, Domain, Label, Network
from kernel.kdf import derive
from kernel.signing import SigningKey
from lucid.v1 import identity_pb2, session_pb2
from session import checkpoint, control_policy, live_tail, manifest
from session.access import MAX_ENCRYPTED_BYTES, encrypt_message
from session.merkle_builder import build_session_tree
from tests.vectors.session_chunk_vectors import PIECES, SECRET, SESSION, Case, draw, make_chunks

NETWORK = NETWORKS["dev"]
DEVICE = SigningKey.from_seed(bytes(range(0x40, 0x60)))
OWNER = SigningKey.from_seed(bytes(range(0x60, 0x80)))
STARTED_NS = 1_795_000_000_123_456_789


def encode(message: identity_pb2.Signed) -> str:
    """A signed payload as hex of its message."""
    return message.SerializeToString(deterministic=True).hex()


def make_frames() -> list[list[bytes]]:
    """The encrypted frames, by chunk."""
    key = live_tail.derive_frame_key(SECRET, SESSION)
    return [
        [
            live_tail.encrypt_frame(key, SESSION, index, number, draw(f"frame {index} {number}"), piece)
            for number, piece in enumerate(pieces)
        ]
        for index, pieces in enumerate(PIECES)
    ]


def digest_tail(counts: dict[int, int]) -> tuple[int, bytes]:
    """Bytes and hash of a tail that has so many frames of these chunks."""
    digests = []
    for index, count in counts.items():
        hasher, frames = blake3(), make_frames()[index][:count]
        for frame in frames:
            checkpoint.hash_frame(hasher, frame)
        digests.append((index, sum(map(len, frames)), hasher.digest()))
    return sum(size for _, size, _ in digests), checkpoint.compute_tail_hash(digests)


TAILS: list[dict[int, int]] = [{0: 2}, {1: 1}, {1: 2, 2: 1}, {}, {}]
COUNTS = [0, 1, 1, 3, 4]
"""What the five checkpoints cover: frames by chunk, and sealed chunks."""


def build_frame() -> Case:
    """frame.json."""
    key, frames = live_tail.derive_frame_key(SECRET, SESSION), make_frames()
    first = frames[0][0]
    return {
        "secret": SECRET.hex(),
        "session_id": SESSION.hex(),
        "frame_key": key.hex(),
        "valid": [
            {"index": index, "number": number, "piece": piece.hex(), "frame": frames[index][number].hex()}
            for index, pieces in enumerate(PIECES)
            for number, piece in enumerate(pieces)
        ],
        "tails": [
            {
                "frames": list(map(list, tail.items())),
                "tail_bytes": digest_tail(tail)[0],
                "tail_hash": digest_tail(tail)[1].hex(),
            }
            for tail in TAILS
        ],
        "refused": [
            {"name": name, "index": index, "number": number, "frame": frame.hex(), "reason": reason}
            for name, index, number, frame, reason in (
                ("another chunk", 1, 0, first, "NOT_DECRYPTABLE"),
                ("another number", 0, 1, first, "NOT_DECRYPTABLE"),
                ("changed", 0, 0, first[:-1] + bytes([first[-1] ^ 1]), "NOT_DECRYPTABLE"),
                ("cut", 0, 0, first[:-1], "NOT_DECRYPTABLE"),
                ("shorter than nonce and tag", 0, 0, first[:39], "MALFORMED"),
                ("empty", 0, 0, b"", "MALFORMED"),
            )
        ],
    }


def make_checkpoints() -> list[identity_pb2.Signed]:
    """The honest series."""
    series: list[identity_pb2.Signed] = []
    for sequence in range(len(COUNTS)):
        previous = compute_checkpoint_hash(series[-1].payload) if series else b""
        series.append(sign_checkpoint(sequence, previous))
    return series


def sign_checkpoint(
    place: int,
    previous: bytes,
    signer: SigningKey = DEVICE,
    domain: Domain = Domain.CHECKPOINT,
    network: Network = NETWORK,
    **lie: Any,
) -> identity_pb2.Signed:
    """Checkpoint number `place`, honest but for `lie`."""
    ids = [bytes.fromhex(chunk["chunk_id"]) for chunk in make_chunks()]
    tail_bytes, tail_hash = digest_tail(TAILS[place])
    fields: Case = {
        "session_id": SESSION,
        "sequence": place,
        "chunk_count": COUNTS[place],
        "root": build_session_tree(ids[: COUNTS[place]]).root(),
        "tail_bytes": tail_bytes,
        "tail_hash": tail_hash,
        "time_ns": STARTED_NS + place * 5_000_000_000,
        "previous": previous,
    }
    message = session_pb2.Checkpoint(**{**fields, **lie})
    return signer.sign(domain, network, message.SerializeToString(deterministic=True))


def build_checkpoint() -> Case:
    """checkpoint.json."""
    honest = make_checkpoints()
    ids = [chunk["chunk_id"] for chunk in make_chunks()]
    hashes = [compute_checkpoint_hash(signed.payload) for signed in honest]
    smaller = sign_checkpoint(3, hashes[2], chunk_count=0, root=merkle.EMPTY_ROOT)
    root = session_pb2.Checkpoint.FromString(honest[1].payload).root
    fewer = sign_checkpoint(2, hashes[1], chunk_count=0, root=root)
    more = sign_checkpoint(2, hashes[1], chunk_count=2, root=root)
    unsigned = identity_pb2.Signed.FromString(honest[0].SerializeToString())
    unsigned.signature = unsigned.signature[:-1] + bytes([unsigned.signature[-1] ^ 1])
    short = identity_pb2.Signed(payload=honest[0].payload, public_key=b"x", signature=honest[0].signature)
    stranger = sign_checkpoint(0, b"", OWNER)
    other_net = sign_checkpoint(0, b"", network=Network("other", bytes(32)))
    too_large = DEVICE.sign(Domain.CHECKPOINT, NETWORK, bytes(1025))
    no_message = DEVICE.sign(Domain.CHECKPOINT, NETWORK, b"\xff\xff")

    def case(name: str, reason: str, *series: identity_pb2.Signed, chunk_ids: list[str] = ids) -> Case:
        return {"name": name, "series": list(map(encode, series)), "chunk_ids": chunk_ids, "reason": reason}

    return {
        "network_id": NETWORK.id.hex(),
        "fork_version": NETWORK.fork_version,
        "device": DEVICE.public_key.hex(),
        "session_id": SESSION.hex(),
        "chunk_ids": ids,
        "series": [
            {
                "signed": encode(signed),
                "hash": hashes[sequence].hex(),
                "chunk_count": COUNTS[sequence],
                "tail": sequence,
            }
            for sequence, signed in enumerate(honest)
        ],
        "refused": [
            case("public key of one byte", "MALFORMED", short),
            case("too large", "TOO_LARGE", too_large),
            case("another signer", "WRONG_SIGNER", stranger),
            case("signature changed", "BAD_SIGNATURE", unsigned),
            case("another domain", "BAD_SIGNATURE", sign_checkpoint(0, b"", domain=Domain.POLICY)),
            case("another network", "BAD_SIGNATURE", other_net),
            case("no message", "MALFORMED", no_message),
            case("another session", "WRONG_SESSION", sign_checkpoint(0, b"", session_id=bytes(16))),
            case("root of 31 bytes", "MALFORMED", sign_checkpoint(0, b"", root=bytes(31))),
            case("tail hash of 33 bytes", "MALFORMED", sign_checkpoint(0, b"", tail_hash=bytes(33))),
            case("first is not number 0", "NOT_CONSISTENT", honest[1]),
            case("first names one before", "NOT_CONSISTENT", sign_checkpoint(0, bytes(32))),
            case("one is missing", "NOT_CONSISTENT", honest[0], honest[2]),
            case("one twice", "NOT_CONSISTENT", honest[0], honest[0]),
            case("two in another order", "NOT_CONSISTENT", honest[0], honest[2], honest[1]),
            case("another number", "NOT_CONSISTENT", honest[0], sign_checkpoint(1, hashes[0], sequence=2)),
            case("fork", "NOT_CONSISTENT", honest[0], sign_checkpoint(1, bytes(32))),
            case("fewer chunks than before", "NOT_CONSISTENT", *honest[:3], smaller),
            case("fewer chunks, the same root", "NOT_CONSISTENT", *honest[:2], fewer),
            case("more chunks, the same root", "NOT_CONSISTENT", *honest[:2], more, chunk_ids=ids[:1]),
            case("more chunks than there are", "NOT_CONSISTENT", *honest, chunk_ids=ids[:3]),
            case("chunks swapped", "NOT_CONSISTENT", *honest, chunk_ids=[ids[1], ids[0], *ids[2:]]),
            case("another root", "NOT_CONSISTENT", sign_checkpoint(0, b"", root=bytes(32))),
        ],
    }


METADATA = session_pb2.Metadata(
    name="nightly build",
    tags=["ci", "Größe"],
    kind=session_pb2.SOURCE_KIND_TERMINAL,
    command=["make", "all"],
    user="ann",
    host="builder",
    tty="/dev/pts/3",
    columns=80,
    rows=24,
    uid=1000,
    term="xterm-256color",
)
ENDING = session_pb2.Ending(ended_ns=STARTED_NS + 21_000_000_000, exit_status=2, has_exit_status=True)
MESSAGES = {"metadata": (Label.METADATA, METADATA), "ending": (Label.ENDING, ENDING)}


def encrypt_named(name: str) -> bytes:
    """Metadata or ending of the session, encrypted."""
    label, message = MESSAGES[name]
    return encrypt_message(SECRET, label, SESSION, draw(name), message)


def build_metadata() -> Case:
    """metadata.json."""
    key = derive(SECRET, Label.METADATA, SESSION)
    good = encrypt_named("metadata")

    def lie(name: str, reason: str, padded: bytes) -> Case:
        nonce = draw(name)
        return {
            "name": name,
            "encrypted": (nonce + aead.encrypt(key, nonce, padded, SESSION)).hex(),
            "reason": reason,
        }

    return {
        "secret": SECRET.hex(),
        "session_id": SESSION.hex(),
        "valid": [
            {
                "label": label,
                "key": derive(SECRET, label, SESSION).hex(),
                "nonce": draw(name).hex(),
                "message": message.SerializeToString(deterministic=True).hex(),
                "encrypted": encrypt_named(name).hex(),
                "hash": blake3(encrypt_named(name)).hexdigest(),
            }
            for name, (label, message) in MESSAGES.items()
        ],
        # All as metadata.
        "refused": [
            {"name": "too large", "zeros": MAX_ENCRYPTED_BYTES + 1, "reason": "MALFORMED"},
            {"name": "a nonce alone", "encrypted": good[:24].hex(), "reason": "MALFORMED"},
            {"name": "shorter than its tag", "encrypted": good[:39].hex(), "reason": "MALFORMED"},
            {"name": "cut", "encrypted": good[:-1].hex(), "reason": "NOT_DECRYPTABLE"},
            {"name": "the ending", "encrypted": encrypt_named("ending").hex(), "reason": "NOT_DECRYPTABLE"},
            lie("no length", "MALFORMED", b"\0\0\0"),
            lie("length beyond the end", "MALFORMED", struct.pack(">I", 253) + bytes(252)),
            lie("no message", "MALFORMED", struct.pack(">I", 2) + b"\xff\xff" + bytes(250)),
        ],
    }


def make_policy() -> bytes:
    """The session's control policy."""
    return control_policy.ControlPolicy(SESSION, ("input", "clipboard"), False, 1_900_000_000).encode()


def make_manifest() -> bytes:
    """The session's manifest."""
    ids = [bytes.fromhex(chunk["chunk_id"]) for chunk in make_chunks()]
    return manifest.Manifest(
        session_id=SESSION,
        network=NETWORK.id,
        recorder="lucid-node/1",
        device=DEVICE.public_key,
        owner=OWNER.public_key,
        session_key=SigningKey.from_seed(derive(SECRET, Label.SESSION, SESSION)).public_key,
        started_ms=STARTED_NS // 1_000_000,
        chunk_count=len(ids),
        root=build_session_tree(ids).root(),
        gaps=(2,),
        policy_hash=control_policy.compute_policy_hash(make_policy()),
        metadata_hash=blake3(encrypt_named("metadata")).digest(),
        ending_hash=blake3(encrypt_named("ending")).digest(),
        checkpoint_hash=compute_checkpoint_hash(make_checkpoints()[-1].payload),
        checkpoint_count=len(COUNTS),
    ).encode()


def refuse_documents(document: bytes, max_bytes: int, lies: list[tuple[str, object]]) -> list[Case]:
    """What no reader of canonical JSON may take, and documents with one value that lies."""
    parsed = json.loads(document)
    without = {key: value for key, value in parsed.items() if key != "session_id"}
    raw = {
        "spaces": json.dumps(parsed, sort_keys=True).encode(),
        "keys in another order": json.dumps(dict(reversed(parsed.items())), separators=(",", ":")).encode(),
        "a newline behind": document + b"\n",
        "a byte order mark": b"\xef\xbb\xbf" + document,
        "a key twice": document[:-1] + b',"version":1}',
        "version as 1.0": document.replace(b'"version":1', b'"version":1.0'),
        "an escape that is not needed": document.replace(b'"version"', b'"\\u0076ersion"'),
        "no JSON": document[:-1],
        "no UTF-8": document[:-2] + b'\xff"}',
        "an array": b"[]",
        "nothing": b"",
        "a key is missing": rfc8785.dumps(without),
        "an unknown key": rfc8785.dumps({**parsed, "zz": 1}),
    }
    cases = [{"name": name, "document": text.hex(), "reason": "MALFORMED"} for name, text in raw.items()]
    for version in (2, 0, True, "1"):
        text = rfc8785.dumps({**parsed, "version": version})
        cases.append({"name": f"version {version!r}", "document": text.hex(), "reason": "WRONG_VERSION"})
    for key, value in lies:
        text = rfc8785.dumps({**parsed, key: value})  # type: ignore[dict-item]
        cases.append({"name": f"{key} = {value!r}", "document": text.hex(), "reason": "MALFORMED"})
    # So many spaces.
    return [*cases, {"name": "too large", "spaces": max_bytes + 1, "reason": "TOO_LARGE"}]


def build_policy() -> Case:
    """policy.json."""
    lies: list[tuple[str, object]] = [
        ("session_id", "00"),
        ("session_id", SESSION.hex().upper()),
        ("default", "allow"),
        ("allows", ["everything"]),
        ("allows", "input"),
        ("records_input", 1),
        ("retain_until_s", -1),
        ("retain_until_s", True),
        ("retain_until_s", "0"),
        ("retain_until_s", 0.5),
    ]
    return build_document(make_policy(), Domain.POLICY, control_policy.MAX_POLICY_BYTES, lies)


def build_manifest() -> Case:
    """manifest.json."""
    people = json.loads(make_manifest())["participants"]
    lies: list[tuple[str, object]] = [
        ("session_id", "00"),
        ("root", "00"),
        ("root", "AB" * 32),
        ("root", None),
        ("network", 1),
        ("chunk_count", -1),
        ("chunk_count", True),
        ("chunk_count", 2),
        ("checkpoint_count", "5"),
        ("gaps", [4]),
        ("gaps", ["2"]),
        ("gaps", 2),
        ("codec", {**manifest.CODEC, "hash": "md5"}),
        ("codec", {**manifest.CODEC, "leaf_bytes": 1024}),
        ("participants", {key: people[key] for key in ("device", "owner")}),
        ("participants", {**people, "x": ""}),
        ("recorder", 1),
        ("started_ms", 0.5),
    ]
    return build_document(make_manifest(), Domain.MANIFEST, manifest.MAX_MANIFEST_BYTES, lies)


def build_document(document: bytes, domain: Domain, max_bytes: int, lies: list[tuple[str, object]]) -> Case:
    """A document, its hash, its signature, and what must be refused in its place."""
    return {
        "network_id": NETWORK.id.hex(),
        "fork_version": NETWORK.fork_version,
        "domain": domain,
        "device": DEVICE.public_key.hex(),
        "document": document.decode(),
        "hash": blake3(document).hexdigest(),
        "signed": encode(DEVICE.sign(domain, NETWORK, document)),
        "max_bytes": max_bytes,
        "refused": refuse_documents(document, max_bytes, lies),
    }
