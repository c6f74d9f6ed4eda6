"""The house stays small, and its rooms know of one another in one direction only."""

import ast
import sys

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "tools"))
import size

CORE = (
    *("errors", "files", "data", "scaling", "model", "recipes", "augmentation", "training"),
    *("classifier", "crossval", "metrics", "provenance", "runs"),
)
# What a room may import beside itself. Inside the core: what stands before.
MAY = {
    "own": {*CORE, "compare"},
    "plots": {*CORE, "own"},
    "compare": {*CORE, "own"},
    "handwriting": {*CORE, "own"},
    "checks": {*CORE, "own", "compare"},
    "report": {*CORE, "own", "compare", "plots", "checks", "handwriting"},
    "handin": {*CORE, "own", "compare", "plots", "checks", "handwriting", "report"},
}
# The core names what it only looks up: a run's own model, a recipe's way to widen the training set.
LOOKED_UP = {"runs": {"own"}, "augmentation": {"handwriting"}}


def imports(text):
    """First names under ``digitlib`` that a module imports, at its top or in functions."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "digitlib":
            parts = node.module.split(".")[1:2]
            yield from parts or [alias.name for alias in node.names]


@pytest.mark.parametrize("name", size.CAPS)
def test_what_is_capped_stays_below_its_cap(name):
    assert size.measured()[1][name] <= size.CAPS[name]


def test_imports_run_one_way():
    wrong = []
    for path, text in size.written("digitlib", "*.py").items():
        room = path.with_suffix("").parts[1]
        if room in ("__init__", "__main__", "cli"):
            continue
        before = CORE[: CORE.index(room)] if room in CORE else MAY[room]
        allowed = {*before, room, "__version__"} | LOOKED_UP.get(room, set())
        wrong += [f"{path}: {name}" for name in imports(text) if name not in allowed]
    assert wrong == []
