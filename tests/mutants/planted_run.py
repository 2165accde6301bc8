"""Runs a scenario with a defect in the code: `python -m tests.mutants.planted_run NAME SCENARIO SEEDS`.

It is a process of its own, so nothing of the defect is left behind. Prints a JSON object for each seed, up to
the first that fails; NAME "none" plants nothing.
"""

import importlib.machinery
import importlib.util
import json
import sys
from collections.abc import Mapping, Sequence
from importlib.abc import MetaPathFinder
from pathlib import Path
from types import CodeType, ModuleType

from tests.mutants.catalogue import MUTANTS, Edit

ROOT = Path(__file__).resolve().parents[2]


class PlantedLoader(importlib.machinery.SourceFileLoader):
    """Loads a module from a changed text; caches nothing."""

    def __init__(self, name: str, path: str, text: str) -> None:
        super().__init__(name, path)
        self._text = text

    def get_code(self, fullname: str) -> CodeType:
        code: CodeType = compile(self._text, self.path, "exec", dont_inherit=True)
        return code


class Planter(MetaPathFinder):
    """Finds the modules that were changed before anybody else does."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        """`texts`: by file."""
        self._texts = {file[:-3].replace("/", "."): (file, text) for file, text in texts.items()}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in self._texts:
            return None
        file, text = self._texts[fullname]
        place = str(ROOT / file)
        return importlib.util.spec_from_file_location(
            fullname, place, loader=PlantedLoader(fullname, place, text)
        )


def change(edits: Sequence[Edit]) -> dict[str, str]:
    """The texts of the files that edits change.

    Raises:
        ValueError: an old text does not stand there once.
    """
    texts: dict[str, str] = {}
    for file, old, new in edits:
        text = texts.get(file) or (ROOT / file).read_text(encoding="utf-8")
        if text.count(old) != 1:
            raise ValueError(f"{file} has {text.count(old)} times: {old!r}")
        texts[file] = text.replace(old, new)
    return texts


def main(name: str, scenario: str, seeds: int) -> None:
    """Runs it."""
    edits = {mutant.name: mutant.edits for mutant in MUTANTS} | {"none": ()}
    sys.meta_path.insert(0, Planter(change(edits[name])))
    from simnet.scenarios import SCENARIOS
    from simnet.world.run import run_scenario

    for seed in range(seeds):
        outcome = run_scenario(SCENARIOS[scenario], seed)
        found = {"seed": seed, "hash": outcome.trace_hash, "failures": outcome.failures}
        print(json.dumps(found), flush=True)
        if outcome.failures:
            return


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
