"""Where and when the figures were measured."""

import os
import platform
from pathlib import Path

from benchmarks.process import BenchmarkError, run


def describe_machine(directory: Path) -> dict[str, str]:
    """Processor, memory, kernel, and the disk that holds `directory`."""
    load = " ".join(f"{value:.2f}" for value in os.getloadavg())
    return {
        "processor": f"{_get_processor()}, {os.cpu_count()} cores",
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / (1 << 30):.1f} GiB",
        "disk": _describe_disk(directory),
        "system": f"{_get_distribution()}, Linux {platform.release()} {platform.machine()}",
        "Python": platform.python_version(),
        "load before": load,
    }


def describe_programs() -> dict[str, str]:
    """Versions of the programs that we are compared with."""
    commands = (
        ["restic", "version"],
        ["borg", "--version"],
        ["script", "--version"],
        ["asciinema", "--version"],
    )
    return {command[0]: _get_first_line(command) for command in commands}


def get_commit(directory: Path) -> str:
    """The commit that is measured, marked if files differ from it."""
    return _get_first_line(["git", "-C", str(directory), "describe", "--always", "--dirty", "--abbrev=12"])


def _get_first_line(command: list[str]) -> str:
    try:
        lines = run(command, os.environ).output.splitlines()
    except (OSError, BenchmarkError):
        return "not found"
    return lines[0] if lines else "unknown"


def _get_processor() -> str:
    """The model; arm64 kernels tell it in the device tree."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.lower().startswith("model name"):
            return line.partition(":")[2].strip()
    model = Path("/proc/device-tree/model")
    return model.read_text().rstrip("\0\n") if model.exists() else platform.machine()


def _get_distribution() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return "unknown distribution"


def _describe_disk(directory: Path) -> str:
    """Device and file system of the longest mount point above `directory`."""
    place = directory.resolve()
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    above = [fields for fields in mounts if place.is_relative_to(fields[1].replace("\\040", " "))]
    device, _, kind, *_ = max(above, key=lambda fields: len(fields[1]))
    return f"{Path(device).name} ({kind})"
