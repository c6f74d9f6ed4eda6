"""Notebooks for Colab: each carries the package in its first cell and installs it from there."""

import base64
import copy
import hashlib
import json
import re
import tempfile
import textwrap
import tomllib
from pathlib import Path

import nbformat
from hatchling.builders.wheel import WheelBuilder
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

import digitlib
from digitlib.errors import ParameterError
from digitlib.reporting import kernels

COMPLETE = "digits_complete"
STORY = ("1_eda", "2_train", "3_evaluate")  # the notebooks that make up the complete one
MAX_BYTES = 1_000_000  # of a finished notebook: more is slow to open in a browser
# Extras of pyproject.toml that a notebook needs beside the core, so that no other waits for them.
EXTRAS = {"5_predict": ["picture"]}
ROOT = Path(digitlib.__file__).parents[1]
REPO = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9_.-]+")

# The first cell. Installed packages are constrained to the version they have, so pip either leaves
# numpy and torch as they are or fails.
_INSTALL = """
import base64, hashlib, pathlib, subprocess, sys, tempfile
from importlib.metadata import PackageNotFoundError, version

from packaging.requirements import Requirement

@CARRIED@

def pip(*words):
    quiet = ["--quiet", "--no-color", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "install", *quiet, *map(str, words)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    print(done.stdout, end="")
    if done.returncode:
        last = (done.stdout.strip() or "pip said nothing").splitlines()[-1]
        raise RuntimeError(f"pip could not install {words[-1]}: {last}")

installed, missing = {}, []
for need in map(Requirement, NEEDS):
    try:
        installed[need.name] = version(need.name)
        if not need.specifier.contains(installed[need.name], prereleases=True):
            here = f"{need.name} {installed[need.name]} is here"
            print(f"note: {here}, digitlib was made for {need}; it is left as it is")
    except PackageNotFoundError:
        missing.append(str(need))
folder = pathlib.Path(tempfile.mkdtemp())
if missing:
    keep = folder / "constraints.txt"
    keep.write_text("".join(f"{name}=={found}\\n" for name, found in installed.items()))
    pip("--constraint", keep, *missing)
@PACKAGE@
import digitlib

others = f", and {', '.join(missing)}" if missing else "; everything else was there"
print(f"digitlib {digitlib.__version__} is installed{others}")
"""
_EMBEDDED = """
content = base64.b64decode(WHEEL)
if hashlib.sha256(content).hexdigest() != SHA256:
    damage = "the package in this cell is damaged (wrong SHA-256)"
    raise RuntimeError(f"{damage}; fetch the notebook again")
wheel = folder / NAME
wheel.write_bytes(content)
pip("--no-deps", "--no-index", "--force-reinstall", wheel)
"""
_FROM_GIT = 'pip("--no-deps", "--force-reinstall", SOURCE)\n'

# For a notebook that reads a run where there may be none yet.
_MAKE_RUN = """\
# Without a finished run there is nothing to read: make one with the published recipe (well under a
# minute).
from pathlib import Path

from digitlib import DigitClassifier, cross_validate, load_digits, runs

if not (Path(run) / "run.json").is_file():
    digits = load_digits()
    result = cross_validate(DigitClassifier(random_state=0), digits.data, digits.target)
    runs.save(result, digits, run, seed=0)
"""
_TITLE = """\
# Handwritten digits: the data, the training, the verdict

One notebook, from a first look to the evaluation."""


def build(folder="dist/colab", repo=None, values=None):
    """Write every notebook, and the complete one, so that they run where digitlib is not installed.

    Parameters
    ----------
    folder : str or path-like
        Made if missing.
    repo : str or None
        ``owner/name`` on GitHub: install from there, with badges, in place of the package inside
        the notebook.
    values : dict or None
        Parameters of the complete notebook in place of their defaults.

    Returns
    -------
    list of Path

    Raises
    ------
    ParameterError
        `repo` is no ``owner/name``, there is no source to build the package from, or a notebook
        would pass 1 MB.
    """
    if repo is not None and not REPO.fullmatch(repo):
        raise ParameterError(f"repo={repo!r}: takes owner/name of a GitHub repository")
    carried = _carried(repo)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    sources = sorted(kernels.notebook_folder().glob("*.ipynb"))
    books = {path.stem: nbformat.read(path, as_version=4).cells for path in sources}
    notebooks = {stem: _alone(cells) for stem, cells in books.items()}
    notebooks[COMPLETE] = _story(books, values or {})
    return [
        _write(folder, stem, cells, install_cell(stem, carried), repo)
        for stem, cells in notebooks.items()
    ]


def install_cell(stem, carried):
    """Source of the first cell of the notebook `stem`; `carried` is what brings the package."""
    project = tomllib.loads((_root() / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needs = list(project["dependencies"])
    for extra in EXTRAS.get(stem, ()):
        needs += project["optional-dependencies"][extra]
    title = '# @title Run this cell first: it installs digitlib {display-mode: "form"}'
    cell = _INSTALL.replace("@PACKAGE@\n", _EMBEDDED if carried.startswith("NAME") else _FROM_GIT)
    return title + cell.replace("@CARRIED@", f"NEEDS = {json.dumps(needs)}\n{carried}")


def _carried(repo):
    """The wheel, or the address of the repository, as Python."""
    if repo is not None:
        return f'SOURCE = "git+https://github.com/{repo}"\n'
    name, content = build_wheel()
    sha256 = hashlib.sha256(content).hexdigest()
    block = "\n".join(textwrap.wrap(base64.b64encode(content).decode(), 4000))
    return f'NAME, SHA256 = {name!r}, "{sha256}"\nWHEEL = """\n{block}\n"""\n'


def build_wheel():
    """The package as a wheel, built from this checkout: file name, bytes."""
    with tempfile.TemporaryDirectory() as scratch:
        built = WheelBuilder(str(_root())).build(directory=scratch, versions=["standard"])
        wheel = Path(next(built))
        return wheel.name, wheel.read_bytes()


def _root():
    """The checkout that this package is in."""
    if not (ROOT / "pyproject.toml").is_file():
        remedy = "run this in a checkout of digitlib"
        raise ParameterError(f"{ROOT}: no pyproject.toml, so no source to pack; {remedy}")
    return ROOT


# ---- cells ---------------------------------------------------------------------------------------


def _alone(cells):
    """One notebook by itself; if it reads a run and makes none, a cell that makes one."""
    cells, at = copy.deepcopy(cells), _parameters(cells)
    if at is None:
        return cells
    cells[at].source = _at_home(cells[at].source)
    names = set(_assignments(cells[at].source))
    if "run" in names and "recipe" not in names:
        cells.insert(at + 1, new_code_cell(_MAKE_RUN))
    return cells


def _story(books, values):
    """Exploration, training and evaluation in one, with a single cell of parameters."""
    lines, prose, acts = {}, [], []
    for stem in STORY:
        cells = copy.deepcopy(books[stem])
        at = _parameters(cells)
        for name, line in _assignments(_at_home(cells[at].source)).items():
            lines.setdefault(name, line)
        first = at - 1 if at and re.match(r"#+ Parameters", cells[at - 1].source) else at
        prose += [cell.source.split("\n", 1)[-1].strip() for cell in cells[first:at]]
        acts += map(_demoted, cells[:first] + cells[at + 1 :])
    for name in values.keys() & lines.keys():
        comment = re.search(r"\s*#.*$|$", lines[name])[0]
        lines[name] = f"{name} = {json.dumps(values[name])}{comment}"
    return [
        new_markdown_cell(_TITLE),
        new_markdown_cell("## Parameters\n\n" + "\n\n".join(dict.fromkeys(prose))),
        new_code_cell("\n".join(lines.values()), metadata={"tags": ["parameters"]}),
        *acts,
    ]


def _demoted(cell):
    """The cell, its headings one level lower."""
    if cell.cell_type == "markdown":
        cell.source = re.sub(r"^(?=#+ )", "#", cell.source, flags=re.MULTILINE)
    return cell


def _parameters(cells):
    """Number of the cell of parameters, or None."""
    tagged = (n for n, cell in enumerate(cells) if "parameters" in cell.metadata.get("tags", ()))
    return next(tagged, None)


def _at_home(source):
    """Folders beside the notebook: above it there may be nothing one may write to."""
    return source.replace('"../', '"')


def _assignments(source):
    """The lines of a cell of parameters, by the name that each sets."""
    return {line.split("=")[0].strip(): line for line in source.splitlines() if "=" in line}


def _write(folder, stem, cells, install, repo):
    form = {"cellView": "form", "jupyter": {"source_hidden": True}}
    badges = [] if repo is None else [new_markdown_cell(_badges(repo, folder, stem))]
    cells = [*badges, new_code_cell(install, metadata=form), *cells]
    for number, cell in enumerate(cells):
        cell.id = f"cell-{number:02}"  # not drawn at random: the same source gives the same file
    metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        "colab": {"name": f"{stem}.ipynb"},
    }
    path = folder / f"{stem}.ipynb"
    text = nbformat.writes(new_notebook(cells=cells, metadata=metadata))
    if (size := len(text.encode())) > MAX_BYTES:
        too_large = f"{path.name} would have {size:,} bytes, more than {MAX_BYTES:,}"
        raise ParameterError(f"{too_large}; make the package smaller")
    path.write_text(text + "\n", encoding="utf-8")
    return path


def _badges(repo, folder, stem):
    page = f"{repo}/blob/main/{folder.as_posix()}/{stem}.ipynb"
    colab, kaggle = "https://colab.research.google.com", "https://kaggle.com"
    badge, link = f"{colab}/assets/colab-badge.svg", f"{colab}/github/{page}"
    in_colab = f"[![Open in Colab]({badge})]({link})"
    badge = f"{kaggle}/static/images/open-in-kaggle.svg"
    link = f"{kaggle}/kernels/welcome?src=https://github.com/{page}"
    return f"{in_colab} [![Open in Kaggle]({badge})]({link})"
