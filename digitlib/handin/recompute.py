"""What a hand-in's data gives, computed again: its run, the checks, a report of our own.

Their pages are never parsed; their notebooks are read as JSON; nothing of the student's is run.
"""

import hashlib
import json
import os
import shutil
from contextlib import suppress
from unittest import mock

import bleach
import numpy as np
from nbconvert.filters import markdown2html
from packaging.version import InvalidVersion, Version

import digitlib
from digitlib import checks, provenance, runs
from digitlib.data import SOURCES, load_digits
from digitlib.errors import NotebookFailed, RunError
from digitlib.files import write_text
from digitlib.handin import cells, render
from digitlib.handin.evidence import MANIFEST
from digitlib.handin.submission import SOURCES as CODE
from digitlib.handin.verdicts import write_page
from digitlib.provenance import LIBRARIES
from digitlib.recipes import RECIPES, RETIRED, SETTINGS
from digitlib.reporting import draw, index, kernels
from digitlib.reporting import render as rendering

RELEASES = ("0.1.0", "0.2.0")  # that there are, the last one is this
COLUMNS = ["row", "fold", "label", "predicted", *(f"p{digit}" for digit in range(10))]
NEEDS_CODE = ("DL001", "DL003", "DL009", "DL015")  # checks that would run a model of the student's
BOOK = "3_evaluate.ipynb"  # the notebook that our report is made with
# Of the parts of run.json that may hold more, what our pages show.
SHOWN = {"recipe": ("name", "summary", *SETTINGS), "versions": ("digitlib", "python", *LIBRARIES)}
SHOWN |= {"parameters": runs.SCHEMA["properties"]["parameters"]["properties"]}
# Of a student's prose, no attribute.
ALLOWED = {"p", "h1", "h2", "h3", "h4", "ul", "ol", "li", "em", "strong", "code", "pre", "br", "hr"}
ALLOWED |= {"blockquote", "table", "thead", "tbody", "tr", "th", "td"}


class CannotBeChecked(Exception):
    """What would be needed to check a line is not there."""


class HandIn:
    """The files of a hand-in, in a folder of ours, and what was computed from them.

    Parameters
    ----------
    folder : Path
        Scratch; the files lie in ``files``, the data that is used again in ``run``.
    listed : dict
        From :func:`digitlib.handin.evidence.unpack`.
    run_code : bool
    """

    def __init__(self, folder, listed, run_code):
        self.folder, self.listed, self.run_code = folder, listed, run_code
        self.files, self.ours = folder / "files", folder / "run"
        self.ours.mkdir()
        for name in listed:
            if name in ("run.json", "predictions.csv", "history.csv") or name.startswith("fold-"):
                shutil.copyfile(self.files / name, self.ours / name)
        self.manifest, self.sources = self._object(MANIFEST), self._object(CODE)
        self.run, self.fault, self.digits, self.results = None, None, None, {}
        try:
            self.run = self._read_run()
            self._strip()
            self.digits = our_digits(self.run.info)
        except RunError as error:
            self.fault = str(error).replace(f"{self.ours}: ", "").split("; make")[0]

    def _object(self, name):
        try:
            found = json.loads((self.files / name).read_bytes())
        except (OSError, ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    def _read_run(self):
        run = runs.load(self.ours, consistent=False)
        with open(self.ours / "predictions.csv", encoding="utf-8") as file:
            if file.readline().strip().split(",") != COLUMNS:
                raise RunError("predictions.csv: has other columns than row ... p9")
        if not np.array_equal(run.row, np.arange(len(run.row))):
            raise RunError("predictions.csv: its rows are not in order")
        if not np.isfinite(run.probabilities).all():
            raise RunError("predictions.csv: a probability is no number")
        return run

    def _strip(self):
        """Leave in our copy of ``run.json``, of which our pages are made, no prose of a student's.

        The checks are made of the whole.
        """
        info = json.loads(json.dumps(self.run.info))
        for part, names in SHOWN.items():
            info[part] = {name: info[part][name] for name in info[part] if name in names}
        known = (RECIPES | RETIRED).get(info["recipe"]["name"])
        info["recipe"]["summary"] = known.summary if known else ""
        info["model"]["kept"] = "as the run says" if self.run.unkept else None
        write_text(self.ours / "run.json", json.dumps(info))

    @property
    def info(self):
        """``run.json``."""
        if self.run is None:
            raise CannotBeChecked(f"because of the run: {self.fault}")
        return self.run.info

    @property
    def release(self):
        """The version of digitlib that made it, if that is not this one; else an empty text."""
        version = self.run.info["versions"]["digitlib"] if self.run else digitlib.__version__
        try:
            newer = Version(version) > Version(digitlib.__version__)
        except InvalidVersion:
            newer = False
        return version if newer or version in RELEASES[:-1] else ""

    @property
    def books(self):
        """Names of the notebooks that are also ours."""
        ours = {path.name for path in kernels.notebook_folder().glob("*.ipynb")}
        return sorted(ours & self.listed.keys())

    @property
    def changed(self):
        """Names of the sources that are not this package's."""
        ours, theirs = provenance.sources(), self.sources
        return sorted(n for n in ours.keys() | theirs.keys() if ours.get(n) != theirs.get(n))

    # ---- what is computed ------------------------------------------------------------------------

    def check(self):
        """Run the checks on the data; write what they gave."""
        if self.digits is not None:
            found = checks.check_run(self.run, self.digits, NEEDS_CODE if self.run.own else ())
            checks.write(self.ours, found)
            self.results = {result.code: result for result in found}

    def evaluate(self):
        """Run our 3_evaluate on the data."""
        if self.digits is None:
            return
        kernels.prepare_environment(self.folder, "fork")
        book = kernels.notebook_folder() / BOOK
        try:
            with mock.patch.dict(os.environ, DIGITLIB_UCI_URL=""):  # no request leaves
                kernels.run(book, self.ours / BOOK, {"run": "."}, self.ours)
        except NotebookFailed as error:
            self.fault = f"no report can be made of its data: {error}"

    def accuracies(self):
        """Share of rows read correctly: of all, and, as ``writers``, of the test writers' rows."""
        right = self.run.y == self.run.predicted
        found = {"accuracy": float(right.mean())}
        if self.digits is not None and len(self.digits.writers) == len(right):
            found["writers"] = float(right[self.digits.writers == "test"].mean())
        return found

    def settings(self):
        """Digest of all that decides a run: two honest runs with the same are the same run."""
        facts = [self.info["recipe"], self.info["parameters"]]
        facts += [self.info.get(part, {}).get("sha256") for part in ("data", "model", "code")]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    # ---- our report ------------------------------------------------------------------------------

    def render(self):
        """Write the pages of our report beside the data; whether there is one."""
        if self.fault or not (self.ours / BOOK).exists():
            return False
        rendering.write_page(self.ours / BOOK)
        index.write_index(self.ours, "Recomputed")
        with suppress(Exception):  # weights that are no network have lines of their own
            draw.write_page(self.ours)
        return True

    def write_report(self, report):
        """Write our report, and apart from it the student's own words, into the folder `report`."""
        shutil.rmtree(report, ignore_errors=True)
        report.mkdir(parents=True)
        for page in sorted(self.ours.glob("*.html")):
            write_page(report / page.name, page.read_text("utf-8"))
        for name in (BOOK, "checks.json"):
            shutil.copyfile(self.ours / name, report / name)
        words = {name: self._words(name) for name in self.books}
        write_page(report / "student.html", render("student.html.j2", words=words))

    def _words(self, name):
        """Cells of the student's own, prose as HTML without attributes; all else is escaped."""
        try:
            found = cells.own(self.files / name, kernels.notebook_folder() / name)
            for cell in (cell for cell in found if cell["kind"] == "markdown"):
                prose = markdown2html(cell["source"])
                cell["html"] = bleach.clean(prose, tags=ALLOWED, attributes={}, strip=True)
            return found
        except Exception:  # a damaged notebook has none; a line of the verdict says what is wrong
            return []


def our_digits(info):
    """Our own copy of the data of a run; None if that is a file of the student's."""
    source = {"uci": "bundled"}.get(info["data"]["source"], info["data"]["source"])
    return load_digits(source) if source in SOURCES else None
