"""How does a notebook leave home? With the package inside its first cell, so that it runs where
nothing is installed.
"""

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
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from digitlib.errors import ParameterError
from digitlib.reporting import kernels

COMPLETE = "digits_complete"
STORY = ("1_eda", "2_train", "3_evaluate")  # the notebooks that make up the complete one
MAX_BYTES = 1_000_000  # of a finished notebook: more is slow to open in a browser
# What only the paper wing and source="uci" import. Everything else that pyproject.toml names must
# be there to run a notebook.
NOT_NEEDED = {
    "beautifulsoup4",
    "hatchling",
    "ipykernel",
    "jupyterlab",
    "nbconvert",
    "papermill",
    "pygments",
    "ucimlrepo",
}
# No other notebook shall wait for the installation of these.
ONLY_FOR = {"captum": "5_predict", "ipycanvas": "5_predict", "scikit-image": "5_predict"}
REPO = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9_.-]+")

# The first cell. Installed packages are constrained to the version they have, so pip either leaves
# numpy and torch as they are or fails.
_INSTALL = """
import base64, hashlib, pathlib, subprocess, sys, tempfile
from importlib.metadata import PackageNotFoundError, version

from packaging.requirements import Requirement

@CARRIED@

def pip(*words):
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-color", "--disable-pip-version-check", *map(str, words)]
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
            print(f"note: {need.name} {installed[need.name]} is here, digitlib was made for {need}; it is left as it is")
    except PackageNotFoundError:
        missing.append(str(need))
folder = pathlib.Path(tempfile.mkdtemp())
if missing:
    keep = folder / "constraints.txt"
    keep.write_text("".join(f"{name}=={found}\\n" for name, found in installed.items()))
    pip("--constraint", keep, *missing)
@PACKAGE@
import digitlib

print(f"digitlib {digitlib.__version__} is installed" + (f", and {', '.join(missing)}" if missing else "; everything else was there"))
"""
_EMBEDDED = """
content = base64.b64decode(WHEEL)
if hashlib.sha256(content).hexdigest() != SHA256:
    raise RuntimeError("the package in this cell is damaged (wrong SHA-256); fetch the notebook again")
wheel = folder / NAME
wheel.write_bytes(content)
pip("--no-deps", "--no-index", "--force-reinstall", wheel)
"""
_FROM_GIT = 'pip("--no-deps", "--force-reinstall", SOURCE)\n'

# For a notebook that reads a run where there may be none yet.
_MAKE_RUN = """# Without a finished run there is nothing to read: make one with the published recipe (well under a minute).
from pathlib import Path

from digitlib import DigitClassifier, cross_validate, load_digits, runs

if not (Path(run) / "run.json").is_file():
    digits = load_digits()
    result = cross_validate(DigitClassifier(random_state=0), digits.data, digits.target)
    runs.save(result, digits, run, seed=0)
"""


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
    written = [
        _write(folder, stem, _alone(cells), install_cell(stem, carried), repo)
        for stem, cells in books.items()
    ]
    return [
        *written,
        _write(
            folder, COMPLETE, _story(books, values or {}), install_cell(COMPLETE, carried), repo
        ),
    ]


def install_cell(stem, carried):
    """Source of the first cell of the notebook `stem`, as text; `carried`: what brings the package."""
    project = tomllib.loads((_root() / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = {need: re.match(r"[\w.-]+", need)[0] for need in project["dependencies"]}
    needs = [
        need
        for need, name in names.items()
        if name not in NOT_NEEDED and ONLY_FOR.get(name, stem) == stem
    ]
    title = '# @title Run this cell first: it installs digitlib {display-mode: "form"}'
    cell = _INSTALL.replace("@PACKAGE@\n", _EMBEDDED if carried.startswith("NAME") else _FROM_GIT)
    return title + cell.replace("@CARRIED@", f"NEEDS = {json.dumps(needs)}\n{carried}")


def _carried(repo):
    """The wheel, or the address of the repository, as Python."""
    if repo is not None:
        return f'SOURCE = "git+https://github.com/{repo}"\n'
    name, content = build_wheel()
    block = "\n".join(textwrap.wrap(base64.b64encode(content).decode(), 4000))
    return (
        f'NAME, SHA256 = {name!r}, "{hashlib.sha256(content).hexdigest()}"\nWHEEL ='
        f' """\n{block}\n"""\n'
    )


def build_wheel():
    """The package as a wheel, built from this checkout: file name, bytes."""
    from hatchling.builders.wheel import WheelBuilder

    with tempfile.TemporaryDirectory() as scratch:
        wheel = Path(
            next(WheelBuilder(str(_root())).build(directory=scratch, versions=["standard"]))
        )
        return wheel.name, wheel.read_bytes()


def _root():
    root = Path(__file__).parents[2]
    if not (root / "pyproject.toml").is_file():
        raise ParameterError(
            f"{root}: no pyproject.toml, so no source to pack; run this in a checkout of digitlib"
        )
    return root


# ---- cells ---------------------------------------------------------------------------------------


def _alone(cells):
    """One notebook by itself; if it reads a run and makes none, a cell that makes one."""
    cells, at = copy.deepcopy(cells), _parameters(cells)
    if at is None:
        return cells
    cells[at].source = _at_home(cells[at].source)
    names = _names(cells[at].source)
    if "run" in names and "recipe" not in names:
        cells.insert(at + 1, new_code_cell(_MAKE_RUN))
    return cells


def _story(books, values):
    """Exploration, training and evaluation in one, with a single cell of parameters."""
    lines, prose, acts = {}, [], []
    for stem in STORY:
        cells = copy.deepcopy(books[stem])
        at = _parameters(cells)
        for line in _at_home(cells[at].source).splitlines():
            lines.setdefault(line.split("=")[0].strip(), line)
        first = at - 1 if at and re.match(r"#+ Parameters", cells[at - 1].source) else at
        prose += [cell.source.split("\n", 1)[-1].strip() for cell in cells[first:at]]
        acts += map(_demoted, cells[:first] + cells[at + 1 :])
    for name in values.keys() & lines.keys():
        lines[name] = re.sub(
            r"=.*?(?=\s*#|$)",
            lambda _, value=values[name]: f"= {json.dumps(value)}",
            lines[name],
            count=1,
        )
    title = (
        "# Handwritten digits: the data, the training, the verdict\n\nOne notebook, from a first"
        " look to the evaluation."
    )
    parameters = new_code_cell("\n".join(lines.values()), metadata={"tags": ["parameters"]})
    return [
        new_markdown_cell(title),
        new_markdown_cell("## Parameters\n\n" + "\n\n".join(dict.fromkeys(prose))),
        parameters,
        *acts,
    ]


def _demoted(cell):
    if cell.cell_type == "markdown":
        cell.source = re.sub(r"^(?=#+ )", "#", cell.source, flags=re.MULTILINE)
    return cell


def _parameters(cells):
    return next(
        (n for n, cell in enumerate(cells) if "parameters" in cell.metadata.get("tags", ())), None
    )


def _at_home(source):
    """Folders beside the notebook: above it there may be nothing one may write to."""
    return source.replace('"../', '"')


def _names(source):
    return {line.split("=")[0].strip() for line in source.splitlines() if "=" in line}


def _write(folder, stem, cells, install, repo):
    first = new_code_cell(
        install, metadata={"cellView": "form", "jupyter": {"source_hidden": True}}
    )
    badges = [] if repo is None else [new_markdown_cell(_badges(repo, folder, stem))]
    cells = [*badges, first, *cells]
    for number, cell in enumerate(cells):
        cell.id = (  # nbformat would draw them at random: the same source gives the same file
            f"cell-{number:02}"
        )
    book = new_notebook(cells=cells)
    book.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        "colab": {"name": f"{stem}.ipynb"},
    }
    text = nbformat.writes(book)
    if len(text.encode()) > MAX_BYTES:
        raise ParameterError(
            f"{stem}.ipynb would have {len(text.encode()):,} bytes, more than {MAX_BYTES:,}; make"
            " the package smaller"
        )
    path = folder / f"{stem}.ipynb"
    path.write_text(text + "\n", encoding="utf-8")
    return path


def _badges(repo, folder, stem):
    page = f"{repo}/blob/main/{folder.as_posix()}/{stem}.ipynb"
    colab = (
        "[![Open in"
        f" Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/{page})"
    )
    kaggle = (
        "[![Open in"
        f" Kaggle](https://kaggle.com/static/images/open-in-kaggle.svg)](https://kaggle.com/kernels/welcome?src=https://github.com/{page})"
    )
    return f"{colab} {kaggle}"
