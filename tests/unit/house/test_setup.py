"""scripts/setup.sh on a bare machine: it says the one thing that is missing, or does nothing at all."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TOOLS = ["sh", "dirname", "cut", "cat", "sha256sum"]


class Machine:
    """A checkout and a PATH that hold only what a test puts there."""

    def __init__(self, folder: Path, root: Path) -> None:
        self.checkout = folder / "checkout"
        self.programs = folder / "programs"
        (self.checkout / "scripts").mkdir(parents=True)
        self.programs.mkdir()
        for name in ("scripts/setup.sh", "pyproject.toml", "constraints.txt"):
            shutil.copy(root / name, self.checkout / name)
        for tool in TOOLS:
            (self.programs / tool).symlink_to(str(shutil.which(tool)))
        self.install("id", "echo 1000")
        self.install("apt-get", 'echo "apt-get $*" >>"$0.log"')

    def install(self, name: str, script: str) -> None:
        program = self.programs / name
        program.write_text(f"#!{shutil.which('sh')}\n{script}\n")
        program.chmod(0o755)

    def set_up(self, profile: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [shutil.which("sh") or "sh", "scripts/setup.sh", profile],
            cwd=self.checkout,
            env={"PATH": str(self.programs)},
            capture_output=True,
            text=True,
            check=False,
        )

    def installed(self) -> str:
        log = self.programs / "apt-get.log"
        return log.read_text() if log.exists() else ""


@pytest.fixture
def machine(tmp_path: Path, root: Path) -> Machine:
    return Machine(tmp_path, root)


def test_old_python_is_refused_by_name(machine: Machine) -> None:
    machine.install("python3", '[ "$1" = -V ] && echo Python 3.9.2; exit 1')
    outcome = machine.set_up("runtime")
    assert outcome.returncode == 1
    assert "Python 3.11 or newer is needed, python3 is Python 3.9.2" in outcome.stderr
    assert not (machine.checkout / ".venv").exists()


def test_missing_packages_are_one_line_to_run(machine: Machine) -> None:
    machine.install("python3", f'case "$2" in *ensurepip*) exit 1;; esac; exec {sys.executable} "$@"')
    machine.install("gcc", "")
    outcome = machine.set_up("bench")
    assert outcome.returncode == 1
    (line,) = [line for line in outcome.stderr.splitlines() if "apt-get" in line]
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    packages = f"python{version}-venv tor restic borgbackup asciinema bsdutils"
    assert line.strip() == f"sudo apt-get update && sudo apt-get install -y {packages}"
    assert machine.installed() == ""
    assert not (machine.checkout / ".venv").exists()


def test_root_installs_what_is_missing_and_only_that(machine: Machine) -> None:
    machine.install("python3", f'case "$1" in -m) exit 7;; esac; exec {sys.executable} "$@"')
    machine.install("id", "echo 0")
    machine.install("gcc", "")
    machine.install("restic", "")
    machine.install("script", "")
    machine.install("tor", "")  # without tor-gencert it is not all of the package
    assert machine.set_up("bench").returncode == 7  # our python3 makes no venv
    assert machine.installed().splitlines() == [
        "apt-get update -qq -o DPkg::Lock::Timeout=120",
        "apt-get install -y -qq --no-install-recommends -o DPkg::Lock::Timeout=120 tor borgbackup asciinema",
    ]


def test_every_profile_needs_a_compiler(machine: Machine) -> None:
    machine.install("python3", f'case "$1" in -m) exit 7;; esac; exec {sys.executable} "$@"')
    outcome = machine.set_up("runtime")
    assert (outcome.returncode, "gcc libc6-dev libgmp-dev" in outcome.stderr) == (1, True)
    machine.install("gcc", "")
    assert machine.set_up("runtime").returncode == 7


def test_who_only_runs_it_can_go_on_without_tor(machine: Machine) -> None:
    machine.install("python3", f'case "$1" in -m) exit 7;; esac; exec {sys.executable} "$@"')
    machine.install("gcc", "")
    outcome = machine.set_up("runtime")
    assert outcome.returncode == 7  # it went on to the venv
    (line,) = [line for line in outcome.stderr.splitlines() if "tor is missing" in line]
    assert line.endswith("sudo apt-get install -y tor")
    assert machine.installed() == ""
    machine.install("id", "echo 0")
    assert machine.set_up("runtime").returncode == 7
    assert machine.installed().splitlines()[1].endswith(" tor")
    machine.install("tor", "")
    machine.install("tor-gencert", "")
    machine.install("id", "echo 1000")
    assert "tor is missing" not in machine.set_up("runtime").stderr


def test_installs_once_and_again_when_the_pins_change(machine: Machine) -> None:
    machine.install("python3", f'exec {sys.executable} "$@"')
    machine.install("gcc", "")
    # A venv whose python notes what it is asked to install.
    machine.install("noting", f'[ "$1" = -m ] || exec {sys.executable} "$@"; echo "$*" >>installs')
    (machine.checkout / ".venv/bin").mkdir(parents=True)
    (machine.checkout / ".venv/bin/python").symlink_to(machine.programs / "noting")
    (machine.checkout / ".venv/bin/pip").symlink_to(machine.programs / "noting")

    def count_installs() -> int:
        outcome = machine.set_up("runtime")
        assert outcome.returncode == 0, outcome.stderr
        return (machine.checkout / "installs").read_text().count("--use-pep517 --editable .\n")

    assert count_installs() == 1
    assert count_installs() == 1
    (machine.checkout / "constraints.txt").write_text("blake3==0\n")
    assert count_installs() == 2


def test_unknown_profile_is_refused(machine: Machine) -> None:
    machine.install("python3", f'exec {sys.executable} "$@"')
    assert machine.set_up("everything").returncode == 2
