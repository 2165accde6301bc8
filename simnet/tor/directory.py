"""Reads what nodes keep in their data directories: who uploaded a descriptor, what a consensus says. Pure.

Formats: dir-spec, sections 2.1 and 3.4.1.
"""

import base64
import binascii
import re
from dataclasses import dataclass

# What a node needs to be every hop of an onion service's circuits. Not Stable: some node always is below the
# median of the first minute.
NEEDED_FLAGS = frozenset({"Fast", "Guard", "HSDir", "Running", "V2Dir", "Valid"})


@dataclass(frozen=True, slots=True)
class Entry:
    """A node in a consensus.

    Attributes:
        fingerprint: of its identity.
        flags: what the authorities agreed on.
        bandwidth: its weight in path choice.
    """

    fingerprint: str
    flags: frozenset[str]
    bandwidth: int


def parse_descriptors(text: str) -> set[str]:
    """Fingerprints of the nodes whose descriptors stand in a text."""
    found = re.findall(r"^(?:opt )?fingerprint ((?:[0-9A-F]{4} ){9}[0-9A-F]{4})$", text, re.MULTILINE)
    return {fingerprint.replace(" ", "") for fingerprint in found}


def parse_consensus(text: str) -> list[Entry]:
    """The nodes in a consensus; what is not understood is left out."""
    entries = []
    for part in re.split(r"^r ", text, flags=re.MULTILINE)[1:]:
        words = part.split("\n", 1)[0].split(" ")
        flags = re.search(r"^s (.*)$", part, re.MULTILINE)
        weight = re.search(r"^w Bandwidth=(\d{1,10})\b", part, re.MULTILINE)
        try:
            fingerprint = base64.b64decode(words[1] + "=").hex().upper()
        except (LookupError, binascii.Error):
            continue
        entries.append(
            Entry(
                fingerprint,
                frozenset(flags[1].split() if flags else ()),
                int(weight[1]) if weight else 0,
            )
        )
    return entries


def explain_entry(entry: Entry | None) -> str:
    """Why circuits cannot go through a node; empty if they can."""
    if entry is None:
        return "is not in the consensus"
    if missing := NEEDED_FLAGS - entry.flags:
        return f"has no flag {', '.join(sorted(missing))}"
    return "" if entry.bandwidth else "has no bandwidth"
