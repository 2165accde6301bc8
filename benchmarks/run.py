"""`make bench`: measures what targets were set for, beside the programs that it is compared with.

Everything happens in one run and on one file system, below .cache/bench: the corpus stays there for the next
run, all else is removed. Whole processes are measured, in interleaved rounds. A missed target is a result
and no failure: the exit status is 1 only if something could not be measured.
"""

import argparse
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.bulk import SUBJECTS, measure_bulk
from benchmarks.corpus import ensure_corpus
from benchmarks.kills import measure_kills
from benchmarks.lucid_node import is_installed
from benchmarks.machine import describe_machine, describe_programs, get_commit
from benchmarks.measures import Figure, Value
from benchmarks.memory import measure_memory, measure_startup
from benchmarks.network import measure_network
from benchmarks.onion import measure_onion
from benchmarks.peers import find_missing
from benchmarks.process import BenchmarkError
from benchmarks.proof import measure_proof
from benchmarks.report import Context, render_json, render_text, write_docs
from benchmarks.terminal import measure_terminal
from benchmarks.tor import measure_tor
from benchmarks.transfer import measure_transfer
from benchmarks.world import measure_world
from kernel.errors import LucidError

OURS = "lucid-node"
ROOT = Path(__file__).resolve().parent.parent
PEERS = ["restic", "borg", "script", "asciinema"]
NAMES = ["bulk", "memory", "terminal", "startup", "proof", "transfer", "network", "onion", "world"]
LONG_NAMES = ["kills", "tor"]  # half an hour and more: only where they are asked for
CACHE = ROOT / ".cache" / "bench"
PAGE = ROOT / "docs" / "benchmarks.md"
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def parse_size(text: str) -> int:
    """A size such as 512M or 1G, in bytes."""
    number, unit = (text[:-1], text[-1].upper()) if text[-1:].upper() in _UNITS else (text, "")
    if not number.isdecimal() or int(number) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write 64M or 1G")
    return int(number) * _UNITS.get(unit, 1)


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line, with the sizes that follow from --quick filled in."""
    parser = argparse.ArgumentParser(prog="make bench ARGS=…", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--only", action="append", choices=NAMES + LONG_NAMES, help="measure this alone; repeatable"
    )
    parser.add_argument("--subjects", help=f"of {', '.join([OURS, *PEERS, 'cp'])}: these alone, by commas")
    parser.add_argument(
        "--size", type=parse_size, help="of the recorded file; memory also takes ten times that [1G]"
    )
    parser.add_argument("--rounds", type=int, help="interleaved rounds [3; terminal 5]")
    parser.add_argument("--keys", type=int, help="keystrokes per round [200]")
    parser.add_argument("--kills", type=int, help="of nodes, at random instants [500]")
    parser.add_argument("--starts", type=int, help="of Tor networks, and kills of a Tor [30]")
    parser.add_argument("--soak", type=int, help="seconds of calls through Tor [600]")
    parser.add_argument("--hours", type=int, help="of virtual time in the simulated world [24]")
    parser.add_argument("--quick", action="store_true", help="64M, 1 round, 50 keys: does it run at all?")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument("--write-docs", action="store_true", help="put them into docs/benchmarks.md")
    options = parser.parse_args(arguments)
    if options.write_docs and (options.subjects or options.quick):
        parser.error("--write-docs wants figures at full size, with all subjects")
    known = [OURS, *PEERS, "cp"]
    options.subjects = options.subjects.split(",") if options.subjects else known
    if unknown := [subject for subject in options.subjects if subject not in known]:
        parser.error(f"unknown subject {unknown[0]!r}; there are {', '.join(known)}")
    options.only = options.only or NAMES
    options.size = options.size or (64 << 20 if options.quick else 1 << 30)
    options.terminal_rounds = options.rounds or (1 if options.quick else 5)
    options.rounds = options.rounds or (1 if options.quick else 3)
    options.keys = options.keys or (50 if options.quick else 200)
    options.hours = options.hours or (1 if options.quick else 24)
    options.starts = options.starts or (2 if options.quick else 30)
    options.soak = options.soak or (30 if options.quick else 600)
    options.kills = options.kills or (6 if options.quick else 500)
    return options


def measure(options: argparse.Namespace, scratch: Path) -> tuple[list[Figure], list[str]]:
    """All figures that were asked for, and the names of those that could not be measured."""
    figures: list[Figure] = []
    failed: list[str] = []
    with_us = OURS in options.subjects

    def measure_bulk_figures() -> list[Figure]:
        if not any(subject in SUBJECTS for subject in options.subjects):
            return []
        report(f"corpus of {options.size / (1 << 20):,.0f} MiB")
        return measure_bulk(
            ensure_corpus(CACHE, options.size), scratch, options.subjects, options.rounds, report
        )

    steps: dict[str, Callable[[], list[Figure]]] = {
        "bulk": measure_bulk_figures,
        "memory": lambda: [measure_memory(scratch, options.size, options.rounds, report)] if with_us else [],
        "terminal": lambda: [
            measure_terminal(scratch, options.subjects, options.terminal_rounds, options.keys, report)
        ],
        "startup": lambda: [measure_startup(scratch, options.rounds, report)] if with_us else [],
        "proof": lambda: [measure_proof(report)] if with_us else [],
        "network": lambda: measure_network(scratch, options.size, report) if with_us else [],
        "kills": lambda: [measure_kills(scratch, options.kills, report)] if with_us else [],
        "transfer": lambda: [measure_transfer(scratch, options.rounds, report)] if with_us else [],
        "tor": lambda: [measure_tor(scratch, options.starts, options.soak, report)] if with_us else [],
        "onion": lambda: [measure_onion(scratch, 4 * options.rounds, report)] if with_us else [],
        "world": lambda: [measure_world(options.hours, report)] if with_us else [],
    }
    for name in [name for name in steps if name in options.only]:
        try:
            figures += steps[name]()
        except (BenchmarkError, LucidError, OSError, ValueError, LookupError) as error:
            report(f"{name} FAILED: {type(error).__name__}: {error}")
            failed.append(name)
    return figures, failed


def report(line: str) -> None:
    """Progress, on standard error."""
    print(f"bench: {line}", file=sys.stderr, flush=True)


def describe_context(options: argparse.Namespace) -> Context:
    """When, where, of what and against what."""
    settings: dict[str, Value] = {
        "MiB": options.size >> 20,
        "rounds": options.rounds,
        "terminal rounds": options.terminal_rounds,
        "keys": options.keys,
    }
    return Context(
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        commit=get_commit(ROOT),
        machine=describe_machine(CACHE),
        programs={name: text for name, text in describe_programs().items() if name in options.subjects},
        settings=settings,
    )


def main() -> int:
    """Measures, prints, writes; the exit status."""
    options = parse_arguments()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda got, _: sys.exit(128 + got))
    if missing := find_missing([peer for peer in PEERS if peer in options.subjects]):
        report(f"not installed: {', '.join(missing)}; run scripts/setup.sh bench")
        return 1
    if OURS in options.subjects and not is_installed():
        report("no lucid-node beside this Python; run make bench")
        return 1
    CACHE.mkdir(parents=True, exist_ok=True)
    context = describe_context(options)
    with tempfile.TemporaryDirectory(prefix="w", dir=CACHE) as scratch:
        figures, failed = measure(options, Path(scratch))
    print(render_text(context, figures))
    if options.json:
        options.json.write_text(render_json(context, figures))
    if options.write_docs:
        write_docs(PAGE, context, figures)
    if failed:
        report(f"not measured: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
