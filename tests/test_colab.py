"""The notebooks that leave home, run where digitlib is not installed."""

import json
import os
import re
import subprocess
import tomllib
import venv
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import nbformat
import pandas as pd
import papermill
import pytest
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from packaging.requirements import Requirement

from digitlib import DigitClassifier, cross_validate, load_digits
from digitlib.errors import ParameterError
from digitlib.handin import colab

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
CORE = PROJECT["dependencies"]
PICTURE = PROJECT["optional-dependencies"]["picture"]


def _closure(names):
    """Distributions that `names` need, themselves included."""
    found, waiting = {}, list(names)
    while waiting:
        name = waiting.pop().lower().replace("_", "-")
        if name in found:
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            continue  # wanted on another system only
        for need in map(Requirement, found[name].requires or ()):
            if need.marker is None or need.marker.evaluate({"extra": ""}):
                waiting.append(need.name)
    return found


@pytest.fixture(scope="module")
def colab_python(tmp_path_factory):
    """A fresh environment like Colab's: packages, a kernel, a stub ``google.colab``.

    digitlib, papermill and nbconvert are not in it. Installing torch anew takes a minute or more,
    so the packages are linked, file by file of their records, from this Python's.
    """
    folder = tmp_path_factory.mktemp("colab") / "venv"
    venv.create(folder, with_pip=False, symlinks=True)
    site = next(folder.glob("lib/python*/site-packages"))
    names = [Requirement(need).name for need in CORE + PICTURE]
    for dist in _closure([*names, "ipykernel", "ipywidgets", "pip"]).values():
        for top in {Path(str(file)).parts[0] for file in dist.files} - {"..", "__pycache__"}:
            if not (site / top).exists():
                (site / top).symlink_to(dist.locate_file(top))
    (site / "google" / "colab").mkdir(parents=True)
    (site / "google" / "colab" / "__init__.py").write_text("")
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def notebooks(tmp_path_factory):
    return {path.stem: path for path in colab.build(tmp_path_factory.mktemp("dist"))}


@pytest.fixture(scope="module")
def first_cell(notebooks):
    """Source of the cell that installs the package."""
    return nbformat.read(notebooks["1_eda"], as_version=4).cells[0].source


def _python(python, source, **variables):
    """Run `source`; what this process has on its path must not help it."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.run(
        [python, "-"],
        input=source,
        env={**environment, "PIP_NO_INDEX": "1", **variables},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )


def test_complete_notebook_runs_where_nothing_is_installed(
    colab_python, notebooks, tmp_path, monkeypatch
):
    modules = ("torch", "google.colab", "digitlib", "papermill")
    find = f"from importlib.util import find_spec\nprint([m for m in {modules} if find_spec(m)])"
    assert _python(colab_python, find).stdout == "['torch', 'google.colab']\n"

    class Manager(AsyncKernelManager):
        @property
        def kernel_spec(self):
            argv = [str(colab_python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
            return KernelSpec(argv=argv, display_name="Python 3", language="python")

    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("DIGITLIB_PROGRESS", "log")
    book = nbformat.read(notebooks["digits_complete"], as_version=4)
    asked = {"epochs": "1", "splits": "2", "seed": "5", "source": '"sklearn"'}
    (cell,) = (one for one in book.cells if "parameters" in one.metadata.get("tags", ()))
    for name, value in asked.items():
        cell.source = re.sub(rf"^{name} = .*$", f"{name} = {value}", cell.source, flags=re.M)
    NotebookClient(
        book,
        timeout=280,
        kernel_manager_class=Manager,
        resources={"metadata": {"path": str(tmp_path)}},
    ).execute()
    info = json.loads((tmp_path / "reports" / "lab" / "run.json").read_text())
    X, y = load_digits("sklearn", return_X_y=True)
    classifier = DigitClassifier(random_state=5, epochs=1)
    here = cross_validate(classifier, X, y, n_splits=2, progress=False)
    table = pd.read_csv(tmp_path / "reports" / "lab" / "predictions.csv")
    assert (table["label"] == table["predicted"]).mean() == here.accuracy
    assert info["commit"] is None


def test_missing_package_that_cannot_be_installed_stops_the_first_cell(colab_python, first_cell):
    source = first_cell.replace('"torch>=2.6"', '"torch>=2.6", "no-such-package-of-digits>=1"')
    done = _python(colab_python, source)
    assert done.returncode == 1
    said = "pip could not install no-such-package-of-digits>=1: ERROR: No matching distribution"
    assert said in done.stderr


def test_damaged_package_is_not_installed(colab_python, first_cell):
    damaged = first_cell.replace('WHEEL = """\nUEsDBB', 'WHEEL = """\nUEsDBA')
    assert damaged != first_cell
    done = _python(colab_python, damaged)
    assert done.returncode == 1
    assert "damaged (wrong SHA-256)" in done.stderr


def test_installed_packages_are_constrained_to_the_version_they_have(
    colab_python, first_cell, tmp_path
):
    """By a pip that only says what it is asked for: the missing package, numpy and torch held."""
    (tmp_path / "pip").mkdir()
    (tmp_path / "pip" / "__init__.py").touch()
    (tmp_path / "pip" / "__main__.py").write_text(
        "import sys\nprint(sys.argv[1:])\nprint(open(sys.argv[6]).read())\nsys.exit(3)\n"
    )
    source = first_cell.replace('"torch>=2.6"', '"torch>=2.6", "no-such-package-of-digits"')
    done = _python(colab_python, source, PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    words, *constraints = done.stdout.splitlines()
    assert words.endswith("'no-such-package-of-digits']")
    assert f"numpy=={distribution('numpy').version}" in constraints
    assert f"torch=={distribution('torch').version}" in constraints
    assert "--upgrade" not in words


def test_every_notebook_is_small_valid_and_open_to_papermill(notebooks):
    assert {"1_eda", "2_train", "3_evaluate", "digits_complete"} <= set(notebooks)
    for path in notebooks.values():
        assert path.stat().st_size < colab.MAX_BYTES
        nbformat.validate(nbformat.read(path, as_version=4))
    inferred = papermill.inspect_notebook(str(notebooks["digits_complete"]))
    assert {"source", "recipe", "seed", "splits", "epochs", "scaling", "run"} <= set(inferred)
    # Nothing is written above the working directory.
    assert inferred["run"]["default"] == '"reports/lab"'
    assert inferred["seed"]["help"] == '@param {type:"integer"}'


def test_only_notebooks_that_read_pictures_wait_for_what_only_they_need(notebooks):
    for stem, path in notebooks.items():
        source = nbformat.read(path, as_version=4).cells[0].source
        needs = json.loads(re.search(r"^NEEDS = (.*)$", source, re.MULTILINE)[1])
        assert needs == [*CORE, *(PICTURE if stem in ("5_predict", "digits_complete") else [])]


def test_repo_gives_badges_and_a_git_install(tmp_path):
    paths = {path.stem: path for path in colab.build(tmp_path, repo="ada/digits")}
    book = nbformat.read(paths["2_train"], as_version=4)
    assert "https://colab.research.google.com/github/ada/digits/blob/main/" in book.cells[0].source
    assert 'SOURCE = "git+https://github.com/ada/digits"' in book.cells[1].source
    assert paths["2_train"].stat().st_size < 40_000  # no wheel inside


@pytest.mark.parametrize(
    "repo", ["ada", "ada/digits/x", 'ada/digits" + evil', "https://github.com/ada/digits"]
)
def test_repo_that_is_none(tmp_path, repo):
    with pytest.raises(ParameterError, match="takes owner/name"):
        colab.build(tmp_path, repo=repo)
