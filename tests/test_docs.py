"""What the documents promise: types, examples that run, measured figures, a whole site."""

import doctest
import inspect
import re
import sys

import pandas as pd
import pytest
from conftest import ROOT

import digitlib
from digitlib import checks, recipes

DOCS = ROOT / "docs"
README = (ROOT / "README.md").read_text()
PUBLIC = [name for name in digitlib.__all__ if name != "__version__"]
WITH_EXAMPLES = [page.name for page in sorted(DOCS.glob("*.md")) if ">>> " in page.read_text()]


def test_type_checkers_see_every_public_name_and_each_function_has_types():
    seen = re.findall(r"import (\w+) as \1\n", (ROOT / "digitlib" / "__init__.pyi").read_text())
    assert sorted(seen) == sorted(PUBLIC)
    fitted = digitlib.DigitClassifier
    functions = [getattr(digitlib, name) for name in PUBLIC if name != fitted.__name__]
    functions += [fitted.fit, fitted.predict, fitted.predict_proba]
    for function in functions:
        facts = inspect.signature(function)
        untyped = [
            name
            for name, one in facts.parameters.items()
            if one.annotation is one.empty and name != "self"
        ]
        assert not untyped and facts.return_annotation is not facts.empty, function.__qualname__


@pytest.fixture
def beside_a_report(small_report, monkeypatch):
    """Examples read reports/small."""
    monkeypatch.chdir(small_report.parents[1])


@pytest.mark.parametrize("name", PUBLIC)
@pytest.mark.usefixtures("beside_a_report")
def test_every_public_name_has_an_example_that_runs(name):
    thing = getattr(digitlib, name)
    examples = doctest.DocTestFinder(recurse=False).find(thing, name, globs={})
    assert sum(len(one.examples) for one in examples) > 1
    for one in examples:
        assert doctest.DocTestRunner().run(one).failed == 0


@pytest.mark.parametrize("page", WITH_EXAMPLES)
@pytest.mark.usefixtures("beside_a_report")
def test_examples_of_a_page_run_as_they_stand(page):
    assert doctest.testfile(str(DOCS / page), module_relative=False).failed == 0


# ---- figures -------------------------------------------------------------------------------------


def rows_of(table):
    """Cells of a table in Markdown by its first column."""
    lines = re.findall(r"^\| (.*) \|$", table, re.MULTILINE)
    return {cells[0].strip("`"): cells[1:] for cells in (line.split(" | ") for line in lines[1:])}


def test_the_table_of_the_readme_is_made_from_the_benchmark():
    told = README.split("<!-- bench: start -->\n")[1].split("\n<!-- bench: end -->")[0]
    sys.path.insert(0, str(ROOT / "benchmarks"))
    import bench

    measured = pd.read_csv(ROOT / "benchmarks" / "bench.csv")
    assert {*recipes.RECIPES, recipes.KERNEL} <= {*measured["name"]}
    assert told == bench.readme_table(measured)


def test_the_reference_lists_every_check_with_its_title():
    listed = rows_of((DOCS / "reference.md").read_text().split("## Checks")[1].split("\n## ")[0])
    known = {code: [check.title, check.kind] for code, check in checks.CHECKS.items()}
    assert {code: cells[:2] for code, cells in listed.items()} == known
