"""The owner root as 24 words: BIP-39 entropy, English list, 8 bits of checksum.

The words stand for the 32 bytes themselves: BIP-39's stretching to a seed (and its optional passphrase) is
for wallets and has no part here. Errors name the place of a wrong word, never a word: they may be logged.
"""

from functools import cache

from mnemonic import Mnemonic

from kernel.errors import UsageError
from kernel.keys import ROOT_BYTES

WORDS = 24
MAX_CHARACTERS = 1024


@cache
def _get_list() -> Mnemonic:
    return Mnemonic("english")


def encode_phrase(root: bytes) -> str:
    """The 24 words of 32 bytes, with single spaces between them.

    Raises:
        ValueError: `root` has another length.
    """
    if len(root) != ROOT_BYTES:
        raise ValueError(f"a root has {ROOT_BYTES} bytes, not {len(root)}")
    return str(_get_list().to_mnemonic(root))


def decode_phrase(text: str) -> bytes:
    """The 32 bytes of 24 words. Case, and how the words are spaced, do not matter.

    Raises:
        UsageError: a word too many or too few, one that is not in the list, or a wrong checksum.
    """
    words = text.lower().split() if len(text) <= MAX_CHARACTERS else []
    if len(words) != WORDS:
        raise UsageError(f"a recovery phrase has {WORDS} words, not {len(words)}")
    known = frozenset(_get_list().wordlist)
    wrong = [str(place) for place, word in enumerate(words, start=1) if word not in known]
    if wrong:
        message = f"not in the list of words: number {', '.join(wrong)}"
        hint = "Look for a typing error; the first four letters tell the words of the list apart."
        raise UsageError(message, hint=hint)
    try:
        return bytes(_get_list().to_entropy(words))
    except ValueError as error:
        hint = "A word is wrong, or two stand in each other's place."
        raise UsageError("the checksum of the recovery phrase is wrong", hint=hint) from error
