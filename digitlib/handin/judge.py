"""One hand-in judged: everything is computed again from its data, then compared with what it says.

A report of our own is made from the data. Their pages are never parsed; their notebooks are read as
JSON; nothing of the student's is run, unless `run_code` allows it, and then in another process.
"""

import ast
import base64
import difflib
import hashlib
import html
import itertools
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

import bleach
import numpy as np
import torch
from jinja2 import Environment, PackageLoader
from nbconvert.filters import markdown2html
from packaging.version import InvalidVersion, Version
from safetensors import safe_open

import digitlib
from digitlib import checks, provenance, runs
from digitlib.classifier import DigitClassifier
from digitlib.crossval import FOLDS, cross_validate
from digitlib.data import load_digits
from digitlib.errors import DigitlibError, NotebookFailed, RunError
from digitlib.handin import cells, submission
from digitlib.handin.evidence import Unsafe, plain, unpack
from digitlib.recipes import from_dict
from digitlib.reporting import draw, index, kernels, render

RELEASES = (digitlib.__version__,)  # that there are, the last one is this
# The whole hand-in is judged by the worst of its lines: the word for it.
VERDICTS = {
    "holds": "holds",
    "cannot be checked": "holds in part",
    "does not hold": "does not hold",
}
# Where rows may be from, and which of ours are the same. A file of the student's is never opened.
SOURCES = {"bundled": "bundled", "uci": "bundled", "sklearn": "sklearn"}
OWN = {"network": "the student's own network", "estimator": "the student's own classifier"}
COLUMNS = ["row", "fold", "label", "predicted", *(f"p{digit}" for digit in range(10))]
NEEDS_CODE = ("DL001", "DL003", "DL009", "DL015")  # checks that would run a model of the student's
# Line of the verdict -> the checks that it rests on.
RESTS_ON = {
    "data": ["DL008"],
    "folds": ["DL002", "DL004"],
    "predictions": ["DL005", "DL011"],
    "accuracy": ["DL010"],
    "confusion matrix": ["DL016"],
    "recipe": ["DL012"],
    "weights": ["DL013"],
    "history": ["DL014"],
    "probabilities": ["DL015"],
    "training rows": ["DL003"],
}
# Sources that decide what weights give on an image, and the lines that rest on those alone.
DECISIVE = ("model", "training", "classifier", "recipes", "scaling", "augmentation", "strokes")
DECISIVE += ("normalisation", "crossval", "data")
BY_CODE = ("recipe", "weights", "probabilities", "training rows", "history", "retraining")
BY_PAGES = ("outputs", "pages", "checks", "complete notebook")
# Rounding grows in training: plain reruns on other machines differ by up to 0.23 points.
RETRAINED_ACCURACY, RETRAINED_DIGITS = 0.005, 0.98
BY_HAND = 0.02  # another machine's rounding reaches nearly all weights; fewer were changed by hand
STUDENT_SECONDS, STUDENT_BYTES = 120, 8 * 2**30  # for the student's own code, if it may run
ALLOWED = {*re.findall(r"\w+", "p h1 h2 h3 h4 ul ol li em strong code pre blockquote br hr")}
ALLOWED |= {"table", "thead", "tbody", "tr", "th", "td"}  # of a student's prose, no attribute
POLICY = (
    '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:;'
    " style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; script-src 'sha256-{}'\">"
)


class DoesNotHold(Exception):
    """What was computed again is another; the message gives both."""


class CannotBeChecked(Exception):
    """What would be needed to check the line is not there."""


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
        self.manifest, self.sources = (
            self._object(submission.MANIFEST),
            self._object("sources.json"),
        )
        self.run, self.fault, self.digits, self.results = None, None, None, {}
        try:
            self.run = runs.load(self.ours, consistent=False)
            with open(self.ours / "predictions.csv", encoding="utf-8") as file:
                if file.readline().strip().split(",") != COLUMNS:
                    raise RunError("predictions.csv: has other columns than row ... p9")
            if not np.array_equal(self.run.row, np.arange(len(self.run.row))):
                raise RunError("predictions.csv: its rows are not in order")
            if not np.isfinite(self.run.probabilities).all():
                raise RunError("predictions.csv: a probability is no number")
        except RunError as error:
            self.run = None
            self.fault = str(error).replace(f"{self.ours}: ", "").split("; make")[0]
            return
        source = self.run.info["data"]["source"]
        self.digits = load_digits(SOURCES[source]) if source in SOURCES else None

    def _object(self, name):
        try:
            found = json.loads((self.files / name).read_bytes())
        except (OSError, ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

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
        newer = version not in RELEASES and _newer(version)
        return version if newer or version in RELEASES[:-1] else ""

    @cached_property
    def changed(self):
        """Names of the sources that are not this package's."""
        ours, theirs = provenance.sources(), self.sources
        return sorted(n for n in ours.keys() | theirs.keys() if ours.get(n) != theirs.get(n))

    def check(self):
        """Run the checks on the data; write what they gave."""
        if self.run is None or self.digits is None:
            return
        found = checks.check_run(self.run, self.digits, NEEDS_CODE if self.run.own else ())
        checks.write(self.ours, found)
        self.results = {result.code: result for result in found}

    def report(self):
        """Run our 3_evaluate on the data."""
        if self.run is None or self.digits is None:
            return
        kernels.prepare_environment(self.folder, "fork")
        book = kernels.notebook_folder() / "3_evaluate.ipynb"
        try:
            kernels.run(book, self.ours / book.name, {"run": "."}, self.ours)
        except NotebookFailed as error:
            self.fault = f"no report can be made of its data: {error}"


# ---- the lines of the verdict --------------------------------------------------------------------


def _manifest(it):
    listed, present = it.manifest.get("files"), it.listed.keys() - {submission.MANIFEST}
    if not isinstance(listed, dict):
        raise DoesNotHold("MANIFEST.json lists no files")
    if missing := sorted((set(listed) | set(submission.REQUIRED) | _models(it)) - present):
        raise DoesNotHold(f"{', '.join(map(str, missing))} missing")
    if extra := sorted(present - set(listed)):
        raise DoesNotHold(f"{', '.join(extra)} not listed")
    if changed := [name for name in sorted(listed) if listed[name] != it.listed[name]]:
        raise DoesNotHold(f"changed after the manifest was written: {', '.join(changed)}")
    notes = [note for note in it.manifest.get("notes") or [] if isinstance(note, str)]
    return "; noted: ".join([f"{len(listed)} files", *notes])


def _models(it):
    """Names of the files of fitted models that there must be."""
    if it.run is None or it.run.unkept:
        return set()
    ending = "skops" if it.run.kind == "estimator" else "safetensors"
    return {f"fold-{n}.{ending}" for n in range(1, it.run.info["parameters"]["splits"] + 1)}


def _metadata(it):
    made, said = it.info["versions"]["digitlib"], it.manifest
    for what, one, other in (
        ("digitlib", said.get("digitlib"), made),
        ("commit", said.get("commit"), it.info.get("commit")),
    ):
        if one != other:
            raise DoesNotHold(f"{what}: the manifest says {one}, run.json {other}")
    if "code" in it.info and it.sources:
        texts = {name: str(text) for name, text in it.sources.items()}
        if provenance.hash_sources(texts) != it.info["code"]["sha256"]:
            raise DoesNotHold("sources.json is not the code that run.json says was run")
    other = [
        n for n in _books(it) if it.sources and _code_of(it, n) != it.sources.get(f"notebooks/{n}")
    ]
    if other:
        raise DoesNotHold(f"{', '.join(other)} ran other code than sources.json says")
    if it.release:
        raise CannotBeChecked(f"made with digitlib {it.release}, here is {digitlib.__version__}")
    if made not in RELEASES:
        raise DoesNotHold(f"there is no release {made} of digitlib")
    return f"digitlib {made}, commit {str(it.info.get('commit'))[:9]}"


def _books(it):
    ours = {path.name for path in kernels.notebook_folder().glob("*.ipynb")}
    return sorted(name for name in it.listed if name in ours)


def _code_of(it, name):
    try:
        return provenance.notebook_code((it.files / name).read_text("utf-8"))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DoesNotHold(f"{name}: not a readable notebook ({type(error).__name__})") from error


def _run(it):
    if it.run is None:
        raise DoesNotHold(it.fault)
    if it.digits is None:
        raise CannotBeChecked("its data is a file of the student's own, which is not here")
    if it.fault:
        raise DoesNotHold(it.fault)
    return f"{len(it.run.y):,} rows; our report was made of them"


def _code(it):
    if not it.sources:
        raise CannotBeChecked("made with a version that did not hand in its code")
    if it.changed:
        raise CannotBeChecked(f"changed, see the differences: {', '.join(it.changed)}")
    if it.info["code"]["sha256"] != provenance.code_hash():
        raise DoesNotHold("run.json names other code than was handed in")
    if other := [
        n for n in _books(it) if _code_of(it, n) != provenance.sources()[f"notebooks/{n}"]
    ]:
        raise CannotBeChecked(f"cells of the student's own or changed ones: {', '.join(other)}")
    return "the same as here"


def _rests_on(name):
    """The function for a line that follows from checks of the run folder."""

    def judged(it):
        kind, wanted = it.info["model"]["kind"], RESTS_ON[name]
        if not it.results:
            raise CannotBeChecked(f"because of the run: {it.fault or 'its data is not here'}")
        if name == "probabilities" and it.run.own and it.run_code:
            return _by_student_code(it)
        if kind in OWN and (
            set(wanted) & set(NEEDS_CODE) or (kind == "estimator" and name in BY_CODE)
        ):
            raise CannotBeChecked(OWN[kind])
        if it.run.unkept and name in BY_CODE:
            raise CannotBeChecked("the run says that its models were not kept")
        if name == "training rows" and it.info["parameters"]["scaling"] == "all":
            raise CannotBeChecked("the scaler saw all rows, as the run states: the published leak")
        if wrong := [it.results[code].detail for code in wanted if not it.results[code].passed]:
            raise DoesNotHold("; ".join(wrong))
        return "; ".join(it.results[code].detail for code in wanted)

    return judged


def _notebooks(it):
    names = [n for n in sorted(it.listed) if n.endswith(".ipynb") and n != _complete_name()]
    found = [submission.notebook_faults((it.files / name).read_bytes(), name) for name in names]
    if faults := list(itertools.chain(*found)):
        raise DoesNotHold("; ".join(faults))
    return f"{len(names)} ran in order, without an error"


def _outputs(it):
    """What their 3_evaluate shows, cell by cell, against ours."""
    if not (it.ours / "3_evaluate.html").exists():
        raise CannotBeChecked("our report could not be made")
    name = "3_evaluate.ipynb"
    compared = cells.compare(_json(it.files / name), _json(it.ours / name))
    same_libraries = it.info["versions"] == runs.provenance()["versions"]
    faults = compared.faults + (compared.pictures if same_libraries else [])
    if faults:
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise DoesNotHold(f"{name}: {'; '.join(faults[:3])}{more}")
    rounding = len(compared.rounding) + len(compared.pictures)
    what = f"; {rounding} differ as another machine's rounding does" if rounding else ""
    if compared.theirs:
        what += f"; {compared.theirs} cells of the student's own are no proof"
    others = ", ".join(other for other in _books(it) if other != name)
    told = f"{compared.same} of our cells in {name} show what the files give{what}"
    return f"{told} (not run again: {others})"


def _json(path):
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise CannotBeChecked(f"{path.name}: not readable ({type(error).__name__})") from error


def _pages(it):
    """Their pages, byte for byte against what our renderer makes of their notebooks."""
    ours, other = it.folder / "reports" / "pages", []  # the index names such a folder
    ours.mkdir(parents=True)
    pages = sorted(name for name in it.listed if name.endswith(".html"))
    title_page = {field: str(it.manifest.get(field, "")) for field in submission.TITLE_PAGE}
    for name in it.listed:
        if name.endswith((".ipynb", ".json", ".csv", ".safetensors")) and name != _complete_name():
            shutil.copyfile(it.files / name, ours / name)
    for name in pages:
        made = b""
        try:
            if name == "index.html":
                path = index.write_index(ours, str(it.manifest.get("name")))
            elif name == "draw.html":
                path = draw.write_page(ours)
            else:
                path = render.write_page(ours / f"{name.removesuffix('.html')}.ipynb")
            made = submission.add_title_page(path.read_text("utf-8"), title_page).encode()
        except Exception:  # whatever a hostile notebook provokes: then it is not this page
            made = b""
        if made != (it.files / name).read_bytes():
            other.append(name)
    if other and it.info["versions"] == runs.provenance()["versions"]:
        raise DoesNotHold(f"not what our renderer makes of their files: {', '.join(other)}")
    if other:
        raise CannotBeChecked(f"made by other versions of libraries than here: {', '.join(other)}")
    return f"{len(pages)} pages are, byte for byte, what our renderer makes of their files"


def _checks(it):
    """The student's checks.json against the checks made here."""
    try:
        stated = {
            one["code"]: (one["title"], one["passed"]) for one in _json(it.files / "checks.json")
        }
    except (TypeError, KeyError) as error:
        raise DoesNotHold(f"checks.json: damaged ({type(error).__name__})") from error
    found = {code: (result.title, result.passed) for code, result in it.results.items()}
    if other := sorted(code for code in found if stated.get(code) != found[code]):
        raise DoesNotHold(f"checks.json says otherwise: {', '.join(other)}")
    failed = [code for code, (_, passed) in sorted(found.items()) if not passed]
    return (
        f"{len(found)} checks give what checks.json says; not passed: {', '.join(failed) or 'none'}"
    )


def _complete_name():
    return f"{submission.colab.COMPLETE}.ipynb"


def _complete(it):
    try:
        ours = submission.complete_notebook(it.info, it.folder)
    except DigitlibError as error:
        raise CannotBeChecked(str(error)) from error
    name = _complete_name()
    if name not in it.listed or (it.files / name).read_bytes() != ours.read_bytes():
        raise DoesNotHold(f"{name} is not the one that digitlib makes for this run")
    return "the one that digitlib makes for this run"


def _lock(it):
    theirs = it.files / "requirements.lock"
    ours = submission.colab.ROOT / theirs.name
    pair = [path.read_text("utf-8", "replace").splitlines() for path in (ours, theirs)]
    if lines := [line[:60] for line in difflib.ndiff(*pair) if line[:2] == "+ "]:
        raise CannotBeChecked(f"{len(lines)} lines are other ones, such as {lines[0][2:]}")
    return "the same as here"


def _retraining(it):
    """Our own code, with the recorded settings and seeds: does it end where the hand-in does?"""
    info, digits = it.info, it.digits
    if own := OWN.get(info["model"]["kind"]):
        raise CannotBeChecked(own)
    parameters = info["parameters"]
    if (
        digits is None
        or not it.results["DL012"].passed
        or parameters.get("folds", "kfold") not in FOLDS
    ):
        raise CannotBeChecked("its data, recipe or folds are not ours")
    again = cross_validate(
        DigitClassifier(from_dict(info["recipe"]), random_state=parameters["seed"]),
        digits.data,
        digits.target,
        n_splits=parameters["splits"],
        random_state=parameters["split_seed"],
        folds=parameters.get("folds", "kfold"),
        scaling=parameters["scaling"],
        progress="off",
    )
    pairs = [
        (_weights(ours), _weights(it.run.fitted(n))) for n, ours in enumerate(again.estimators, 1)
    ]
    differ = np.concatenate([ours != theirs for ours, theirs in pairs])
    same = np.array_equal(
        again.probabilities.astype(np.float32), it.run.probabilities.astype(np.float32)
    )
    if same and not differ.any():
        kept, found = again.history.to_numpy(float), it.run.history.to_numpy(float)
        if kept.shape != found.shape or not np.allclose(kept, found, rtol=1e-6, equal_nan=True):
            raise DoesNotHold("the same bits, but another history of training")
        return f"the same bits: {differ.size:,} weights and all probabilities"
    if 0 < differ.sum() < BY_HAND * differ.size or not differ.any():
        many = f"{differ.sum():,} of {differ.size:,} weights"
        raise DoesNotHold(f"not this run: all is the same but {many} or some probabilities")
    agree = (again.predicted == it.run.predicted).mean()
    claimed = (it.run.y == it.run.predicted).mean()
    accuracies = f"accuracy {100 * again.accuracy:.2f} % (claimed {100 * claimed:.2f} %)"
    said = f"{accuracies}, {100 * agree:.2f} % of digits the same"
    if abs(again.accuracy - claimed) > RETRAINED_ACCURACY or agree < RETRAINED_DIGITS:
        allowed = f"{100 * RETRAINED_ACCURACY:g} points and {100 * RETRAINED_DIGITS:g} %"
        raise DoesNotHold(f"not this run: {said}; allowed are {allowed}")
    raise CannotBeChecked(f"not the same bits, as another machine's rounding may do: {said}")


def _weights(classifier):
    return np.concatenate(
        [w.detach().numpy().ravel() for w in classifier.network_.state_dict().values()]
    )


def _by_student_code(it):
    """Out-of-fold probabilities as the student's model.py gives them, in a process of its own.

    It is given no stored probabilities, and has limits on time and memory; it is not shut off from
    files and network.
    """
    folder, out = it.folder / "own", it.folder / "own.npy"
    shutil.copytree(it.ours, folder)
    shutil.copyfile(it.files / "model.py", folder / "model.py")
    header, *rows = (folder / "predictions.csv").read_text().splitlines()
    rows = [",".join([*row.split(",")[:4], *["0.1"] * 10]) for row in rows]
    (folder / "predictions.csv").write_text("\n".join([header, *rows, ""]))
    command = [sys.executable, "-m", "digitlib.handin.judge", str(folder), str(out)]
    try:
        done = subprocess.run(command, timeout=STUDENT_SECONDS, capture_output=True, text=True)
    except subprocess.TimeoutExpired:
        raise CannotBeChecked(f"its code took more than {STUDENT_SECONDS} s") from None
    if done.returncode or not out.is_file():
        said = [*done.stderr.strip().splitlines(), "no word"][-1 if done.stderr.strip() else 0]
        raise CannotBeChecked(f"its code ended with {done.returncode}: {said[:200]}")
    off = np.abs(np.load(out, allow_pickle=False) - it.run.probabilities).max()
    if not off <= checks.SAME_PROBABILITY:
        raise DoesNotHold(f"the student's own code gives others, by up to {off:.3g}")
    return f"the student's own code gives the same, to {off:.1g}"


def _student_process(folder, out):
    import resource  # of Unix; a grader on another system leaves student code alone

    resource.setrlimit(resource.RLIMIT_AS, (STUDENT_BYTES, STUDENT_BYTES))
    run = runs.load(folder, consistent=False, run_code=True)
    X = load_digits(SOURCES[run.info["data"]["source"]]).data
    given = np.zeros_like(run.probabilities)
    for number in np.unique(run.folds):
        rows = run.folds == number
        given[rows] = run.fitted(int(number)).predict_proba(X[run.row[rows]])
    np.save(out, given)


LINES = {"manifest": _manifest, "metadata": _metadata, "run": _run, "code": _code}
LINES |= {name: _rests_on(name) for name in RESTS_ON}
LINES |= {"checks": _checks, "notebooks": _notebooks, "outputs": _outputs, "pages": _pages}
LINES |= {"complete notebook": _complete, "lock file": _lock, "retraining": _retraining}


def _line(name, it):
    """ "holds", "does not hold" or "cannot be checked"; and why, in one line."""
    word, affected = "does not hold", name in BY_CODE or name in BY_PAGES
    try:
        return "holds", LINES[name](it)
    except CannotBeChecked as error:
        word, said = "cannot be checked", str(error)
    except DoesNotHold as error:
        said = str(error).replace(f"{it.folder}/", "")
    except Exception as error:
        # A stranger's file may provoke anything; it must not end the verdict, nor count as held.
        said = f"a file is damaged ({type(error).__name__}: {str(error)[:120]})"
    if affected and it.release:
        return "cannot be checked", f"made with digitlib {it.release}: {said}"
    names = [n for n in it.changed if name in BY_PAGES or Path(n).stem in DECISIVE]
    names = [n for n in names if it.sources and _does_something_else(it, n)]
    if affected and names and word == "does not hold":
        return "cannot be checked", f"the student changed {', '.join(names)}: {said}"
    return word, said


def _does_something_else(it, name):
    """Whether a source of ours was changed in more than comments and layout."""
    ours, theirs = provenance.sources().get(name), it.sources.get(name)
    if ours is None or not name.endswith(".py"):
        return ours is not None
    try:
        return ast.dump(ast.parse(ours)) != ast.dump(ast.parse(str(theirs)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return True


def _newer(version):
    try:
        return Version(version) > Version(digitlib.__version__)
    except InvalidVersion:
        return False


# ---- the verdict and our report ------------------------------------------------------------------


def judge(archive, inside="", out=None, retrain=False, run_code=False, **given):
    """The verdict on one hand-in; with `out`, also our report of it, in ``<out>/report``.

    Parameters
    ----------
    archive, inside
        As for :func:`digitlib.handin.evidence.unpack`.
    out : Path or None
    retrain, run_code : bool
    **given
        More facts for the verdict: ``student``, ``student_id``, ``path``.

    Returns
    -------
    dict, dict of str to ndarray
        The verdict, see :func:`digitlib.handin.verify.verify`; and what copies are found by:
        ``p`` probabilities and ``w`` some of the weights.
    """
    start, archive = time.perf_counter(), Path(archive)
    torch.set_num_threads(1)  # before torch is used: a kernel is a copy of this process
    left = {"retraining"} if not retrain else set()
    if not (submission.colab.ROOT / "pyproject.toml").is_file():
        left |= {"complete notebook", "lock file"}  # a checkout has what they are compared with
    names = [name for name in LINES if name not in left]
    it, near, report = None, {}, None
    with tempfile.TemporaryDirectory() as scratch:
        files = Path(scratch) / "files"
        files.mkdir()
        try:
            listed = unpack(archive, inside, files)
            it = HandIn(Path(scratch), listed, run_code)
            it.report()  # first: torch must not have worked in this process when it is copied
            it.check()
            report = _report(it, out)
            lines = [("archive", "holds", f"{len(listed)} plain files")]
            lines += [(name, *_line(name, it)) for name in names]
            near = _near(it)
        except Unsafe as error:
            lines = [("archive", "does not hold", str(error))]
            lines += [(name, "cannot be checked", "the archive was not opened") for name in names]
        worst = max((verdict for _, verdict, _ in lines), key=list(VERDICTS).index)
        run, manifest = (it.run, it.manifest) if it else (None, {})
        verdict = {
            "file": plain(Path(inside or archive).name),
            "student": "",
            "student_id": "",
            "path": str(archive),
            **given,
            "sha256": "" if inside else _digest(archive),
            **{f: plain(str(manifest.get(f, "")))[:200] for f in submission.TITLE_PAGE},
            "verdict": VERDICTS[worst] if it else "unreadable",
            "claims": [{"claim": c, "verdict": v, "why": plain(w)} for c, v, w in lines],
            "code": _changes(it),
            "model": plain(runs.label(run.info)) if run else "",
            "accuracy": float((run.y == run.predicted).mean()) if run else None,
            "stated": plain(_stated(run)),
            "settings": _settings(it),
            "report": report,
            "identical_to": [],
            "retrained": retrain,
            "digitlib": digitlib.__version__,
            "checked": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(time.perf_counter() - start, 1),
        }
    return verdict, near


def _digest(path):
    if path.is_dir():
        return ""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _changes(it):
    """What the student changed in the code, as a diff made here; empty if nothing."""
    if it is None or not it.sources:
        return ""
    before = {name: provenance.sources().get(name, "") for name in it.changed}
    made = provenance.diff(before, {name: str(text) for name, text in it.sources.items()})
    return "\n".join(plain(line.expandtabs(), 1000) for line in made[:1_000_000].splitlines())


def _stated(run):
    """What nobody can check: a sentence."""
    if run is None:
        return ""
    machine = ", ".join(str(value) for value in run.info["machine"].values())
    seconds = run.info["seconds"]["cross_validation"]
    return f"made {run.info['created']} on {machine} (cores), trained in {seconds:.1f} s"


def _settings(it):
    """Digest of all that decides a run: two honest runs with the same are the same run."""
    if it is None or it.run is None:
        return ""
    info, code = it.info, it.info.get("code", {}).get("sha256")
    facts = [
        info["recipe"],
        info["parameters"],
        info["data"]["sha256"],
        info["model"].get("sha256"),
        code,
    ]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _near(it):
    """What near copies are found by: probabilities, and numbers spread over the weights."""
    if it.run is None:
        return {}
    flat = [np.empty(0, np.float32)]
    for path in sorted(it.ours.glob("fold-*.safetensors")):
        try:
            with safe_open(path, "np") as file:
                names = sorted(file.keys())
                flat += [file.get_tensor(name).astype(np.float32).ravel() for name in names]
        except Exception:  # its own line says what is wrong with it
            continue
    weights = np.concatenate(flat)
    digest = np.frombuffer(hashlib.sha256(weights.tobytes()).digest(), np.uint8)
    step = max(1, len(weights) // 50_000)
    return {"p": it.run.probabilities.astype(np.float32), "w": weights[::step], "digest": digest}


def _report(it, out):
    """Write our report of the data, and the student's own words; the address of its first page."""
    if not (it.ours / "3_evaluate.ipynb").exists() or it.fault:
        return None
    render.write_page(it.ours / "3_evaluate.ipynb")
    index.write_index(it.ours, "Recomputed")
    if out is None:
        return None
    with suppress(Exception):  # weights that are no network have lines of their own
        if it.run.undrawn is None:
            draw.write_page(it.ours)
    report = Path(out) / "report"
    shutil.rmtree(report, ignore_errors=True)
    report.mkdir(parents=True)
    for page in sorted(it.ours.glob("*.html")):
        write_page(report / page.name, page.read_text("utf-8"))
    for name in ("3_evaluate.ipynb", "checks.json"):
        shutil.copyfile(it.ours / name, report / name)
    books = [
        (name, cells.own(it.files / name, kernels.notebook_folder() / name)) for name in _books(it)
    ]
    words = [(name, [_shown(cell) for cell in found]) for name, found in books if found]
    write_page(report / "student.html", template("student.html.j2", words=words))
    return "report/index.html"


def _shown(cell):
    """A cell of the student's, made harmless: prose without attributes, code and text escaped."""
    if cell.kind == "markdown":
        safe = bleach.clean(markdown2html(cell.source), tags=ALLOWED, attributes={}, strip=True)
        return {"kind": "text", "html": safe}
    shown = "".join(f"<pre>{html.escape(text)}</pre>" for text in cell.texts)
    return {"kind": "code", "html": f"<pre>{html.escape(cell.source)}</pre>{shown}"}


def template(name, **facts):
    """The HTML of a template of this folder; everything in `facts` is escaped."""
    return _TEMPLATES.get_template(name).render(**facts)


_TEMPLATES = Environment(loader=PackageLoader("digitlib.handin", "template"), autoescape=True)


def write_page(path, text):
    """Write a page of ours under a policy that lets no script run but its own last one."""
    script = text.rpartition("<script>")[2].partition("</script>")[0] if "<script>" in text else ""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    head, found, rest = text.partition('<meta charset="utf-8">')
    runs.write_text(path, head + found + POLICY.format(digest) + rest)


if __name__ == "__main__":
    _student_process(*sys.argv[1:])
