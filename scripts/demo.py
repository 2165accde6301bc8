"""The demo: a recording survives the death of its node, then the loss of its disk.

Everything happens in a temporary folder, with the real command line and real daemons on this machine. Part
one: one node is killed while it records, nothing is lost. Part two: five nodes that reach each other over a
private Tor network; machines are lost, and everything comes back from 24 words. Without tor, part two goes
over loopback, and says so; TRANSPORT=tor or TRANSPORT=loopback in the environment forces one.
"""

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from kernel.errors import LucidError
from scripts.demo_network import tell_network
from scripts.demo_recording import tell_recording
from scripts.demo_stage import Stage, say, show
from scripts.demo_transport import VARIABLE, choose_way


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--size",
        type=int,
        metavar="MIB",
        help="of the big files (default: 128; then 32 over Tor, 200 over loopback)",
    )
    parser.add_argument("--part", choices=["one", "two"], help="tell this part alone")
    parser.add_argument("--keep", action="store_true", help="leave the folder behind, for a look")
    options = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda got, _: sys.exit(128 + got))
    stage = Stage(Path(tempfile.mkdtemp(prefix="lucid-demo-")))
    begin = time.monotonic()
    try:
        way = choose_way(os.environ.get(VARIABLE, ""))  # before part one: what is wrong is told at once
        say("Lucid: recordings that nobody can change unseen, and that outlive the machine")
        if options.part != "two":
            tell_recording(stage, options.size or 128)
        if options.part != "one":
            tell_network(stage, way, options.size or way.default_mib)
        say("Figures")
        for what, figure in stage.figures:
            show(f"{what:60} {figure}")
        show(f"{'the whole demo':60} {time.monotonic() - begin:.0f} s")
    except LucidError as error:
        sys.exit(f"the demo failed: {error}\n{error.hint}".strip())
    finally:
        if options.keep:
            show(f"left in {stage.folder}")
        else:
            shutil.rmtree(stage.folder)


if __name__ == "__main__":
    main()
