"""What the nodes of the demo reach each other over: Tor, or loopback where there is none, which it says."""

from dataclasses import dataclass

from kernel.errors import Unavailable, UsageError
from node.transport.tor.program import find_program
from scripts.demo_stage import say, show
from simnet.tor.programs import find_tor

VARIABLE = "TRANSPORT"


@dataclass(frozen=True)
class Way:
    """What carries the second part.

    Attributes:
        name: "tor" or "loopback".
        why: that it is not Tor; empty if it is.
        hint: what to do about that.
        default_mib: size of the file; through Tor each byte is encrypted many times, all on this machine.
        patience_s: longest wait for something that other nodes are to do.
    """

    name: str
    why: str = ""
    hint: str = ""

    @property
    def default_mib(self) -> int:
        return 32 if self.name == "tor" else 200

    @property
    def patience_s(self) -> int:
        return 600 if self.name == "tor" else 120

    @property
    def shown(self) -> str:
        return "over Tor" if self.name == "tor" else "over loopback, NOT Tor"

    @property
    def mark(self) -> str:
        """Stands behind every heading, so that no screen is taken for what it is not."""
        return "" if self.name == "tor" else f"  [{self.shown}]"


def choose_way(wanted: str) -> Way:
    """Tor if it is installed, unless something else is wanted.

    Raises:
        UsageError: there is no such transport.
        Unavailable: Tor is wanted, and not there.
    """
    if wanted == "loopback":
        return Way("loopback", f"{VARIABLE}=loopback asks for it")
    if wanted not in ("", "tor"):
        raise UsageError(f'{VARIABLE} is "{wanted}"', hint="It may be tor or loopback.")
    try:
        find_tor()
        find_program("tor-gencert")
    except Unavailable as error:
        if wanted:
            raise
        return Way("loopback", str(error), error.hint)
    return Way("tor")


def tell_way(way: Way) -> None:
    """Tells what the second part goes over, and what that means."""
    if way.name == "tor":
        show("The nodes reach each other over Tor: each has a Tor and an onion service of its own, in a Tor")
        show("network of 8 processes that is started now, on this machine. It speaks to nobody else, and")
        show("makes nobody anonymous: that takes the public network.")
        return
    say(f"NOT OVER TOR: {way.why}")
    show("Nodes are meant to reach each other over Tor. What follows goes over loopback instead: the same")
    show("nodes and the same protocol, without Tor between them.")
    if way.hint:
        show(f"To see it over Tor, follow this line, and start the demo again:\n\n      {way.hint}")
