"""Golden vectors: tests/vectors/FORMAT.md says what each file holds."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

VECTORS = Path(__file__).parents[2] / "vectors"


@pytest.fixture(scope="session")
def load_vectors() -> Callable[[str], Any]:
    def load(name: str) -> Any:
        return json.loads((VECTORS / f"{name}.json").read_text())

    return load
