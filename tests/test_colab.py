"""The notebook that leaves home, run where digitlib is not installed."""

import json
import os
import re
import subprocess
import venv
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import nbformat
import papermill
import pytest
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from packaging.requirements import Requirement

from digitlib.errors import ParameterError
from digitlib.handin import colab


def closure(names):
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
def python(tmp_path_factory):
    """A fresh environment like Colab's: packages and a kernel, but no digitlib, no papermill.

    Installing torch anew takes a minute or more, so packages are linked from this Python's.
    """
    folder = tmp_path_factory.mktemp("colab") / "venv"
    venv.create(folder, with_pip=False, symlinks=True)
    site = next(folder.glob("lib/python*/site-packages"))
    names = [Requirement(need).name for need in colab._needs()]
    for dist in closure([*names, "ipykernel", "ipywidgets", "pip"]).values():
        for top in {Path(str(file)).parts[0] for file in dist.files} - {"..", "__pycache__"}:
            if not (site / top).exists():
                (site / top).symlink_to(dist.locate_file(top))
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def notebook(tmp_path_factory):
    return colab.build(tmp_path_factory.mktemp("dist"))


def test_the_notebook_runs_where_nothing_is_installed(python, notebook, tmp_path, monkeypatch):
    class Manager(AsyncKernelManager):
        @property
        def kernel_spec(self):
            argv = [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
            return KernelSpec(argv=argv, display_name="Python 3", language="python")

    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    book = nbformat.read(notebook, as_version=4)
    asked = {"epochs": "1", "splits": "2", "seed": "5", "source": '"sklearn"'}
    (cell,) = (one for one in book.cells if "parameters" in one.metadata.get("tags", ()))
    for name, value in asked.items():
        cell.source = re.sub(rf"^{name} = .*$", f"{name} = {value}", cell.source, flags=re.M)
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(book, timeout=280, kernel_manager_class=Manager, resources=resources).execute()
    info = json.loads((tmp_path / "reports" / "lab" / "run.json").read_text())
    assert info["parameters"]["seed"] == 5 and info["commit"] is None


def test_a_package_that_cannot_be_installed_stops_the_first_cell(python, notebook):
    source = nbformat.read(notebook, as_version=4).cells[0].source
    source = source.replace('"torch>=2.6"', '"torch>=2.6", "no-such-package-of-digits>=1"')
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["PIP_NO_INDEX"] = "1"
    words = {"env": environment, "cwd": "/", "capture_output": True, "text": True}
    done = subprocess.run([python, "-"], input=source, **words)
    assert done.returncode == 1
    assert "pip could not install no-such-package-of-digits>=1: ERROR: No matching" in done.stderr


def test_the_notebook_is_small_valid_and_open_to_papermill(notebook, tmp_path):
    assert notebook.stat().st_size < 1_000_000
    nbformat.validate(nbformat.read(notebook, as_version=4))
    inferred = papermill.inspect_notebook(str(notebook))
    assert {"source", "recipe", "seed", "splits", "epochs", "scaling", "run"} <= set(inferred)
    # Nothing is written above the working directory.
    assert inferred["run"]["default"] == '"reports/lab"'
    assert colab.build(tmp_path).read_bytes() == notebook.read_bytes()


def test_repo_gives_a_git_install(tmp_path):
    path = colab.build(tmp_path, repo="ada/digits")
    source = nbformat.read(path, as_version=4).cells[0].source
    assert "git+https://github.com/ada/digits" in source and path.stat().st_size < 100_000
    for repo in ("ada", 'ada/digits" + evil', "https://github.com/ada/digits"):
        with pytest.raises(ParameterError, match="takes owner/name"):
            colab.build(tmp_path, repo=repo)
