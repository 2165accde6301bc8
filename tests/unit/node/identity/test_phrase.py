from collections.abc import Callable
from typing import Any

import pytest

from kernel.errors import UsageError
from node.identity.phrase import decode_phrase, encode_phrase

ROOT = bytes(range(32))
WORDS = encode_phrase(ROOT).split()


def test_vectors(load_vectors: Callable[[str], Any]) -> None:
    for case in load_vectors("bip39")["cases"]:
        assert encode_phrase(bytes.fromhex(case["entropy"])) == case["words"]
        assert decode_phrase(case["words"]).hex() == case["entropy"]
    owner = load_vectors("identity")["owner"]
    assert encode_phrase(bytes.fromhex(owner["root"])) == owner["words"]


def test_spacing_and_case_do_not_matter() -> None:
    assert decode_phrase("\n  " + " \t\n".join(WORDS).upper() + " ") == ROOT


@pytest.mark.parametrize("count", [0, 1, 12, 23, 25])
def test_another_number_of_words_is_named(count: int) -> None:
    with pytest.raises(UsageError, match=f"24 words, not {count}"):
        decode_phrase(" ".join((WORDS * 2)[:count]))


def test_the_place_of_a_wrong_word_is_named_and_no_word_is() -> None:
    words = [*WORDS]
    words[4] = "lucidd"
    words[20] = "xyzzy"
    with pytest.raises(UsageError, match=r"number 5, 21$") as caught:
        decode_phrase(" ".join(words))
    text = f"{caught.value} {caught.value.hint}"
    assert "xyzzy" not in text and not set(WORDS) & set(text.split())


def test_a_wrong_checksum_is_named() -> None:
    for place in range(24):
        words = [*WORDS]
        words[place] = "zoo" if words[place] != "zoo" else "abandon"
        try:
            assert decode_phrase(" ".join(words)) != ROOT  # one in 256 fits by chance
        except UsageError as error:
            assert "checksum" in str(error)
    swapped = " ".join([WORDS[1], WORDS[0], *WORDS[2:]])
    with pytest.raises(UsageError, match="checksum") as caught:
        decode_phrase(swapped)
    assert caught.value.__context__ is not None


@pytest.mark.parametrize("text", ["", "é" * 24, "\0" * 100, "a " * 1_000_000, "abandon " * 23 + "\ud800"])
def test_what_is_no_phrase_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        decode_phrase(text)


@pytest.mark.parametrize("size", [0, 16, 31, 33])
def test_a_root_of_another_length_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="root"):
        encode_phrase(bytes(size))
