"""Control policy and manifest: canonical, exact, and nothing else."""

import json
from dataclasses import replace

import pytest
import rfc8785

from kernel.errors import InvalidRecord, Reason
from session.control_policy import MAX_POLICY_BYTES, ControlPolicy, decode_policy
from session.manifest import CODEC, Manifest, decode_manifest

SESSION = bytes(range(16))
POLICY = ControlPolicy(SESSION, ("clipboard", "input"), True, 1_800_000_000)
MANIFEST = Manifest(
    session_id=SESSION,
    network=b"n" * 32,
    recorder="lucid-node/1",
    device=b"d" * 32,
    owner=b"o" * 32,
    session_key=b"s" * 32,
    started_ms=1_790_000_000_123,
    chunk_count=9,
    root=b"r" * 32,
    gaps=(3, 8),
    policy_hash=b"p" * 32,
    metadata_hash=b"m" * 32,
    ending_hash=b"e" * 32,
    checkpoint_hash=b"c" * 32,
    checkpoint_count=12,
)


def change(document: bytes, key: str, value: object) -> bytes:
    return rfc8785.dumps({**json.loads(document), key: value})  # type: ignore[dict-item]


def test_round_trips() -> None:
    assert decode_policy(POLICY.encode()) == POLICY
    assert decode_manifest(MANIFEST.encode()) == MANIFEST


def test_only_the_canonical_form_is_accepted() -> None:
    for document, decode in ((POLICY.encode(), decode_policy), (MANIFEST.encode(), decode_manifest)):
        parsed = json.loads(document)
        for variant in (
            json.dumps(parsed).encode(),
            json.dumps(parsed, indent=1).encode(),
            document + b"\n",
            document.replace(b'"version":1', b'"version":1.0'),
            document[:-1] + b',"version":1}',
            b"\xef\xbb\xbf" + document,
        ):
            with pytest.raises(InvalidRecord):
                decode(variant)


@pytest.mark.parametrize("bad", [b"", b"[]", b"1", b"null", b"{", b"\xff", b'{"version":1}', b"[" * 100_000])
def test_other_json_is_refused(bad: bytes) -> None:
    for decode in (decode_policy, decode_manifest):
        with pytest.raises(InvalidRecord):
            decode(bad)


def test_unknown_keys_and_versions_are_refused() -> None:
    for document, decode in ((POLICY.encode(), decode_policy), (MANIFEST.encode(), decode_manifest)):
        with pytest.raises(InvalidRecord):
            decode(change(document, "extra", 1))
        for version in (2, True, "1"):
            with pytest.raises(InvalidRecord):
                decode(change(document, "version", version))


def test_oversized_policy_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(InvalidRecord) as caught:
        decode_policy(b" " * (MAX_POLICY_BYTES + 1))
    assert caught.value.reason == Reason.TOO_LARGE


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("session_id", "00"),
        ("session_id", "z" * 32),
        ("session_id", "AB" * 16),
        ("default", "allow"),
        ("allows", ["everything"]),
        ("allows", "input"),
        ("records_input", 1),
        ("retain_until_s", -1),
        ("retain_until_s", True),
        ("retain_until_s", "0"),
    ],
)
def test_policy_with_a_wrong_value_is_refused(key: str, value: object) -> None:
    with pytest.raises(InvalidRecord):
        decode_policy(change(POLICY.encode(), key, value))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("session_id", "00"),
        ("root", "00"),
        ("root", "AB" * 32),
        ("root", None),
        ("chunk_count", -1),
        ("chunk_count", True),
        ("chunk_count", 8),
        ("gaps", [9]),
        ("gaps", ["1"]),
        ("gaps", 1),
        ("codec", {**CODEC, "hash": "md5"}),
        ("participants", {"device": "00" * 32, "owner": "00" * 32}),
        ("participants", {"device": "00" * 32, "owner": "00" * 32, "session": "00" * 32, "x": ""}),
        ("recorder", 1),
        ("started_ms", 0.5),
    ],
)
def test_manifest_with_a_wrong_value_is_refused(key: str, value: object) -> None:
    with pytest.raises(InvalidRecord):
        decode_manifest(change(MANIFEST.encode(), key, value))


def test_manifest_does_not_tell_plaintext_sizes() -> None:
    assert b"plaintext" not in MANIFEST.encode()
    assert len(replace(MANIFEST, gaps=()).encode()) < 1500
