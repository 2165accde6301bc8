import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[3] / "vectors" / "make_identity_vectors.py"


@pytest.mark.parametrize("name", ["identity", "kdf", "sealing", "signing"])
def test_the_script_makes_the_files_that_are_there(name: str, load_vectors: Callable[[str], Any]) -> None:
    spec = importlib.util.spec_from_file_location("make_identity_vectors", SCRIPT)
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert f"{name}.json" in script.BUILDERS and len(script.BUILDERS) == 4
    built = script.BUILDERS[f"{name}.json"]()
    assert script.render(built) == (SCRIPT.parent / f"{name}.json").read_text()
    assert built == load_vectors(name)
