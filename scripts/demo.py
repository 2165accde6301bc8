"""The demo: a recording survives the death of its node, then the loss of its disk.

Everything happens in a temporary folder, with the real command line and real daemons on this machine. Part
one: one node is killed while it records, nothing is lost. Part two: five nodes; machines are lost, and
everything comes back from 24 words.
"""

import argparse
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, metavar="MIB", help="of the big files (default: 128, then 200)")
    parser.add_argument("--part", choices=["one", "two"], help="tell this part alone")
    parser.add_argument("--keep", action="store_true", help="leave the folder behind, for a look")
    options = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda got, _: sys.exit(128 + got))
    stage = Stage(Path(tempfile.mkdtemp(prefix="lucid-demo-")))
    begin = time.monotonic()
    try:
        say("Lucid: recordings that nobody can change unseen, and that outlive the machine")
        if options.part != "two":
            tell_recording(stage, options.size or 128)
        if options.part != "one":
            tell_network(stage, options.size or 200)
        say("Figures")
        for what, figure in stage.figures:
            show(f"{what:48} {figure}")
        show(f"{'the whole demo':48} {time.monotonic() - begin:.0f} s")
    except LucidError as error:
        sys.exit(f"the demo failed: {error}")
    finally:
        if options.keep:
            show(f"left in {stage.folder}")
        else:
            shutil.rmtree(stage.folder)


if __name__ == "__main__":
    main()
