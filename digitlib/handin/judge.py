"""One hand-in judged: each line of the verdict compares what it says with what its data gives.

Pages and notebooks of the student's are never shown, and nothing of the student's is run.
"""

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch

import digitlib
from digitlib import checks, own, provenance, runs
from digitlib.crossval import FOLDS, cross_validate
from digitlib.data import SOURCES, load_digits
from digitlib.errors import NotebookFailed, RunError, plain
from digitlib.files import write_text
from digitlib.handin import submission, verdicts
from digitlib.handin.evidence import MANIFEST, TITLE_PAGE, Unsafe, unpack
from digitlib.handin.verdicts import write_page
from digitlib.provenance import LIBRARIES
from digitlib.recipes import RECIPES, CompactRecipe
from digitlib.report import draw, index, kernels
from digitlib.report import page as render

OWN = {"network": "the student's own network", "estimator": "the student's own classifier"}
# Line of the verdict -> the checks that it rests on.
RESTS_ON = {
    "data": ["DL008"],
    "folds": ["DL002"],
    "labels": ["DL011"],
    "probabilities": ["DL015"],
    "training rows": ["DL003"],
}
NEEDS_CODE = ("DL001", "DL003", "DL015")  # checks that would run a model of the student's
COLUMNS = ["row", "fold", "label", "predicted", *(f"p{digit}" for digit in range(10))]
BOOK = "3_evaluate.ipynb"  # the notebook that our report is made with
# Of the parts of run.json that may hold more, what our pages show.
SHOWN = {"recipe": ("name", "summary", *CompactRecipe.settings())}
SHOWN |= {"versions": ("digitlib", "python", *LIBRARIES)}
SHOWN |= {"parameters": runs.SCHEMA["properties"]["parameters"]["properties"]}
# Rounding grows in training: plain reruns on other machines differ by up to 0.23 points.
RETRAINED_ACCURACY, RETRAINED_DIGITS = 0.005, 0.98
BY_HAND = 0.02  # another machine's rounding reaches nearly all weights; fewer were changed by hand
STUDENT_SECONDS = 120  # for the student's own code, if it may run


class CannotBeChecked(Exception):
    """What would be needed to check a line is not there."""


class DoesNotHold(Exception):
    """What was computed again is another; the message gives both."""


def _holds(claim, otherwise):
    """What must be true of the hand-in; if it is not, `otherwise` says so."""
    if not claim:
        raise DoesNotHold(otherwise)


def _needs(given, otherwise):
    """What must be there so that a line can be checked."""
    if not given:
        raise CannotBeChecked(otherwise)


class HandIn:
    """The files of a hand-in, in a folder of ours, and what was computed from them.

    Parameters
    ----------
    folder : Path
        Scratch; the files lie in ``files``, the data that is used again in ``run``.
    listed : list of str
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
        self.manifest = self._manifest()
        self.run, self.fault, self.digits, self.results = None, None, None, {}
        try:
            self.run = self._read_run()
            self._strip()
            self.digits = our_digits(self.run.info)
        except RunError as error:
            self.fault = str(error).replace(f"{self.ours}: ", "").split("; make")[0]

    def _manifest(self):
        try:
            found = json.loads((self.files / MANIFEST).read_bytes())
        except (OSError, ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    def _read_run(self):
        run = runs.load(self.ours)
        with open(self.ours / "predictions.csv", encoding="utf-8") as file:
            if file.readline().strip().split(",") != COLUMNS:
                raise RunError("predictions.csv: has other columns than row ... p9")
        if not np.array_equal(run.row, np.arange(len(run.row))):
            raise RunError("predictions.csv: its rows are not in order")
        return run

    def _strip(self):
        """Leave in our copy of ``run.json``, of which our pages are made, no prose of a student's.

        The checks are made of the whole.
        """
        info = json.loads(json.dumps(self.run.info))
        for part, names in SHOWN.items():
            info[part] = {name: info[part][name] for name in info[part] if name in names}
        known = RECIPES.get(info["recipe"]["name"])
        info["recipe"]["summary"] = known.summary if known else ""
        info["model"]["unkept"] = "as the run says" if info["model"]["unkept"] else None
        info["model"].pop("differs", None)
        if info["data"]["source"] == "uci":  # the same rows, and no request leaves
            info["data"]["source"] = "bundled"
        write_text(self.ours / "run.json", json.dumps(info))

    @property
    def info(self):
        """``run.json``."""
        if self.run is None:
            raise CannotBeChecked(f"because of the run: {self.fault}")
        return self.run.info

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

    def render(self):
        """Write the pages of our report beside the data; whether there is one."""
        if self.fault or not (self.ours / BOOK).exists():
            return False
        render.write_page(self.ours / BOOK)
        index.write_index(self.ours, "Recomputed")
        with suppress(Exception):  # weights that are no network have lines of their own
            draw.write_page(self.ours)
        return True

    def write_report(self, report):
        """Write our report into the folder `report`."""
        shutil.rmtree(report, ignore_errors=True)
        report.mkdir(parents=True)
        for name in ("index.html", "3_evaluate.html", "draw.html"):
            if (self.ours / name).exists():
                write_page(report / name, (self.ours / name).read_text("utf-8"))
        for name in (BOOK, "checks.json"):
            shutil.copyfile(self.ours / name, report / name)


def our_digits(info):
    """Our own copy of the data of a run; None if that is a file of the student's."""
    source = {"uci": "bundled"}.get(info["data"]["source"], info["data"]["source"])
    return load_digits(source) if source in SOURCES else None


# ---- the lines of the verdict --------------------------------------------------------------------


def _run(it):
    _holds(it.run is not None, it.fault)
    _needs(it.digits is not None, "its data is a file of the student's own, which is not here")
    _holds(it.fault is None, it.fault)
    return f"{len(it.run.y):,} rows; our report was made of them"


def _code(it):
    stated = it.info.get("code", {})
    _needs(stated, "the run does not say which code it was made with")
    if stated["sha256"] != provenance.code_hash():
        changed = f": {', '.join(stated['changed'])}" if stated["changed"] else ""
        raise CannotBeChecked(f"made with other code than is here{changed}")
    return "the same as here"


def _rests_on(name, it):
    """What follows from checks of the run folder."""
    kind, wanted = it.info["model"]["kind"], RESTS_ON[name]
    _needs(it.results, f"because of the run: {it.fault or 'its data is not here'}")
    if name == "probabilities" and it.run.own and it.run_code:
        return _by_student_code(it)
    if not {*wanted}.isdisjoint(NEEDS_CODE):
        _needs(kind not in OWN, OWN.get(kind))
        _needs(not it.info["model"]["unkept"], "the run says that its models were not kept")
    leak = name == "training rows" and it.info["parameters"]["scaling"] == "all"
    _needs(not leak, "the scaler saw all rows, as the run states: the published leak")
    results = [it.results[code] for code in wanted]
    wrong = [result.detail for result in results if not result.passed]
    _holds(not wrong, "; ".join(wrong))
    return "; ".join(result.detail for result in results)


def _notebooks(it):
    names = [name for name in sorted(it.listed) if name.endswith(".ipynb")]
    found = [submission.notebook_faults((it.files / name).read_bytes(), name) for name in names]
    faults = [fault for each in found for fault in each]
    _holds(not faults, "; ".join(faults))
    return f"{len(names)} ran in order, without an error"


def _retraining(it):
    """Our own code, with the recorded settings and seeds: does it end where the hand-in does?"""
    kind, folds = it.info["model"]["kind"], it.info["parameters"].get("folds", "kfold")
    _needs(kind not in OWN, OWN.get(kind))
    _needs(it.digits is not None and folds in FOLDS, "its data or folds are not ours")
    again, run = _trained_again(it, folds), it.run
    theirs = [run.fitted(number) for number in range(1, len(again.estimators) + 1)]
    differ = _weights(again.estimators) != _weights(theirs)
    probabilities = (one.probabilities.astype(np.float32) for one in (again, run))
    if np.array_equal(*probabilities) and not differ.any():
        return f"the same bits: {differ.size:,} weights and all probabilities"
    many = f"{differ.sum():,} of {differ.size:,} weights"
    by_hand = f"not this run: all is the same but {many} or some probabilities"
    _holds(differ.sum() >= BY_HAND * differ.size, by_hand)
    agree, claimed = (again.predicted == run.predicted).mean(), (run.y == run.predicted).mean()
    accuracies = f"accuracy {100 * again.accuracy:.2f} % (claimed {100 * claimed:.2f} %)"
    said = f"{accuracies}, {100 * agree:.2f} % of digits the same"
    near = abs(again.accuracy - claimed) <= RETRAINED_ACCURACY and agree >= RETRAINED_DIGITS
    allowed = f"{100 * RETRAINED_ACCURACY:g} points and {100 * RETRAINED_DIGITS:g} %"
    _holds(near, f"not this run: {said}; allowed are {allowed}")
    raise CannotBeChecked(f"not the same bits, as another machine's rounding may do: {said}")


def _trained_again(it, folds):
    given, classifier = it.info["parameters"], it.run.classifier()
    split = {"n_splits": given["splits"], "random_state": given["split_seed"], "folds": folds}
    X, y = it.digits.data, it.digits.target
    return cross_validate(classifier, X, y, **split, scaling=given["scaling"], progress=False)


def _weights(classifiers):
    tensors = [w for one in classifiers for w in one.network_.state_dict().values()]
    return np.concatenate([w.detach().numpy().ravel() for w in tensors])


def _by_student_code(it):
    """Out-of-fold probabilities as the student's model.py gives them, in a process of its own.

    It is given no stored probabilities, and has limits on time and memory; it is not shut off from
    files and network.
    """
    folder, out = it.folder / "own", it.folder / "own.npy"
    shutil.copytree(it.ours, folder)
    shutil.copyfile(it.files / "model.py", folder / "model.py")
    table = pd.read_csv(folder / "predictions.csv")
    hidden = table.assign(**dict.fromkeys(table.filter(regex=r"^p\d$"), 0.1))
    hidden.to_csv(folder / "predictions.csv", index=False)
    command = [sys.executable, "-m", "digitlib.handin.student", str(folder), str(out)]
    try:
        done = subprocess.run(command, timeout=STUDENT_SECONDS, capture_output=True, text=True)
    except subprocess.TimeoutExpired:
        raise CannotBeChecked(f"its code took more than {STUDENT_SECONDS} s") from None
    said = (done.stderr.strip() or "no word").splitlines()[-1]
    given = not done.returncode and out.is_file()
    _needs(given, f"its code ended with {done.returncode}: {said[:200]}")
    off = np.abs(np.load(out, allow_pickle=False) - it.run.probabilities).max()
    same = off <= checks.SAME_PROBABILITY  # NaN is not
    _holds(same, f"the student's own code gives others, by up to {off:.3g}")
    return f"the student's own code gives the same, to {off:.1g}"


LINES = {"run": _run, "code": _code}
LINES |= {name: partial(_rests_on, name) for name in RESTS_ON}
LINES |= {"notebooks": _notebooks, "retraining": _retraining}


def _line(name, it):
    """ "holds", "does not hold" or "cannot be checked"; and why, in one line."""
    word = "does not hold"
    try:
        return "holds", LINES[name](it)
    except CannotBeChecked as error:
        word, said = "cannot be checked", str(error)
    except DoesNotHold as error:
        said = str(error)
    except Exception as error:
        # A stranger's file may provoke anything; it must not end the verdict, nor count as held.
        said = f"a file is damaged ({type(error).__name__}: {str(error)[:200]})"
    return word, said.replace(f"{it.folder}/", "")


# ---- the verdict ---------------------------------------------------------------------------------


def judge(slot, out=None, retrain=False, run_code=False):
    """The verdict on one hand-in; with `out`, also our report of it, in ``<out>/report``.

    Parameters
    ----------
    slot : Submitted
        From :func:`digitlib.handin.systems.find`.
    out : Path or None
    retrain, run_code : bool

    Returns
    -------
    dict, ndarray or None
        The verdict, see :func:`digitlib.handin.verdicts.make`; and its probabilities, by which
        copies are found.
    """
    start, archive = time.perf_counter(), Path(slot.archive)
    torch.set_num_threads(1)  # before torch is used: a kernel is a copy of this process
    names = [name for name in LINES if retrain or name != "retraining"]
    facts, found = {}, None
    with tempfile.TemporaryDirectory() as scratch:
        files = Path(scratch) / "files"
        files.mkdir()
        try:
            listed = unpack(archive, slot.inside, files)
            it = HandIn(Path(scratch), listed, run_code)
            it.evaluate()  # first: torch must not have worked in this process when it is copied
            it.check()
            if it.render() and out is not None:
                it.write_report(Path(out) / "report")
                facts["report"] = "report/index.html"
            lines = [("archive", "holds", f"{len(listed)} plain files")]
            lines += [(name, *_line(name, it)) for name in names]
            facts |= _facts(it)
            found = it.run.probabilities.astype(np.float32) if it.run else None
        except Unsafe as error:
            lines = [("archive", "does not hold", str(error))]
            lines += [(name, "cannot be checked", "the archive was not opened") for name in names]
    if archive.is_file() and not slot.inside:
        with open(archive, "rb") as file:
            facts["sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
    facts |= {"retrained": retrain, "digitlib": digitlib.__version__}
    facts["checked"] = datetime.now(UTC).isoformat(timespec="seconds")
    facts["seconds"] = round(time.perf_counter() - start, 1)
    return verdicts.make(lines, slot, **facts), found


def _facts(it):
    """What the verdict says beside its lines."""
    facts = {field: plain(str(it.manifest.get(field, "")))[:200] for field in TITLE_PAGE}
    if it.run:
        label, stated = own.label(it.run.info), _stated(it.run.info)
        facts |= {"model": plain(label), "stated": plain(stated), "settings": it.settings()}
        facts |= it.accuracies()
    return facts


def _stated(info):
    """What nobody can check: a sentence."""
    machine = ", ".join(str(value) for value in info["machine"].values())
    seconds = info["seconds"]
    return f"made {info['created']} on {machine} (cores), trained in {seconds:.1f} s"
