"""One hand-in judged: each line of the verdict compares what it says with what its data gives."""

import ast
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch

import digitlib
from digitlib import checks, provenance, runs
from digitlib.crossval import FOLDS, cross_validate
from digitlib.errors import plain
from digitlib.handin import cells, colab, copies, submission, verdicts
from digitlib.handin.evidence import MANIFEST, TITLE_PAGE, Unsafe, unpack
from digitlib.handin.recompute import BOOK, NEEDS_CODE, RELEASES, CannotBeChecked, HandIn
from digitlib.reporting import card, draw, index, render

OWN = {"network": "the student's own network", "estimator": "the student's own classifier"}
COMPLETE = f"{colab.COMPLETE}.ipynb"
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
STATED = ("title", "passed", "kind")  # of each check, in checks.json
# Rounding grows in training: plain reruns on other machines differ by up to 0.23 points.
RETRAINED_ACCURACY, RETRAINED_DIGITS = 0.005, 0.98
BY_HAND = 0.02  # another machine's rounding reaches nearly all weights; fewer were changed by hand
STUDENT_SECONDS = 120  # for the student's own code, if it may run


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


def _none(names, words, error=DoesNotHold):
    """Of these there may be none; those that there are stand for the braces in the words."""
    if names:
        raise error(words.format(", ".join(sorted(names))))


# ---- the lines of the verdict --------------------------------------------------------------------


def _manifest(it):
    listed, present = it.manifest.get("files"), it.listed.keys() - {MANIFEST}
    _holds(isinstance(listed, dict), "MANIFEST.json lists no files")
    models = it.run.model_files if it.run else []
    _none({*listed, *submission.REQUIRED, *models} - present, "{} missing")
    _none(present - set(listed), "{} not listed")
    changed = [name for name in listed if listed[name] != it.listed[name]]
    _none(changed, "changed after the manifest was written: {}")
    notes = [note for note in it.manifest.get("notes") or [] if isinstance(note, str)]
    return "; noted: ".join([f"{len(listed)} files", *notes])


def _metadata(it):
    made, said = it.info["versions"]["digitlib"], it.manifest
    for what, here in (("digitlib", made), ("commit", it.info.get("commit"))):
        both = f"{what}: the manifest says {said.get(what)}, run.json {here}"
        _holds(said.get(what) == here, both)
    if it.sources:
        ran = provenance.hash_sources(it.sources)
        stated = it.info.get("code", {}).get("sha256", ran)
        _holds(ran == stated, "sources.json is not the code that run.json says was run")
        _none(_ran_other_code(it, it.sources), "{} ran other code than sources.json says")
    _needs(not it.release, f"made with digitlib {it.release}, here is {digitlib.__version__}")
    _holds(made in RELEASES, f"there is no release {made} of digitlib")
    return f"digitlib {made}, commit {str(it.info.get('commit'))[:9]}"


def _ran_other_code(it, stated=None):
    books = {name: (it.files / name).read_text("utf-8") for name in it.books}
    return provenance.ran_other_code(books, stated)


def _run(it):
    _holds(it.run is not None, it.fault)
    _needs(it.digits is not None, "its data is a file of the student's own, which is not here")
    _holds(it.fault is None, it.fault)
    return f"{len(it.run.y):,} rows; our report was made of them"


def _code(it):
    _needs(it.sources, "made with a version that did not hand in its code")
    _none(it.changed, "changed, see the differences: {}", CannotBeChecked)
    same = it.info["code"]["sha256"] == provenance.code_hash()
    _holds(same, "run.json names other code than was handed in")
    _none(_ran_other_code(it), "cells of the student's own or changed ones: {}", CannotBeChecked)
    return "the same as here"


def _rests_on(name, it):
    """What follows from checks of the run folder."""
    kind, wanted = it.info["model"]["kind"], RESTS_ON[name]
    _needs(it.results, f"because of the run: {it.fault or 'its data is not here'}")
    if name == "probabilities" and it.run.own and it.run_code:
        return _by_student_code(it)
    if not {*wanted}.isdisjoint(NEEDS_CODE) or (kind == "estimator" and name in BY_CODE):
        _needs(kind not in OWN, OWN.get(kind))
    _needs(not it.run.unkept or name not in BY_CODE, "the run says that its models were not kept")
    leak = name == "training rows" and it.info["parameters"]["scaling"] == "all"
    _needs(not leak, "the scaler saw all rows, as the run states: the published leak")
    results = [it.results[code] for code in wanted]
    wrong = [result.detail for result in results if not result.passed]
    _holds(not wrong, "; ".join(wrong))
    return "; ".join(result.detail for result in results)


def _notebooks(it):
    names = [n for n in sorted(it.listed) if n.endswith(".ipynb") and n != COMPLETE]
    found = [submission.notebook_faults((it.files / name).read_bytes(), name) for name in names]
    faults = [fault for each in found for fault in each]
    _holds(not faults, "; ".join(faults))
    return f"{len(names)} ran in order, without an error"


def _same_libraries(it):
    return it.info["versions"] == runs.provenance()["versions"]


def _outputs(it):
    """What their 3_evaluate shows, cell by cell, against ours."""
    _needs((it.ours / "3_evaluate.html").exists(), "our report could not be made")
    compared = cells.compare(*(json.loads((at / BOOK).read_bytes()) for at in (it.files, it.ours)))
    faults = compared.faults + (compared.pictures if _same_libraries(it) else [])
    more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
    _holds(not faults, f"{BOOK}: {'; '.join(faults[:3])}{more}")
    told = f"{compared.same} of our cells in {BOOK} show what the files give"
    if rounding := len(compared.rounding) + len(compared.pictures):
        told += f"; {rounding} differ as another machine's rounding does"
    if compared.theirs:
        told += f"; {compared.theirs} cells of the student's own are no proof"
    others = ", ".join(name for name in it.books if name != BOOK)
    return f"{told}; what others show was not computed again: {others}" if others else told


def _pages(it):
    """Their pages, byte for byte against what our renderer makes of their files."""
    folder = it.folder / "reports" / "pages"  # the index names such a folder
    shutil.copytree(it.files, folder, ignore=shutil.ignore_patterns("*.html", "*.md", COMPLETE))
    pages = sorted(name for name in it.listed if name.endswith(".html") or name == "card.md")
    other = [name for name in pages if not _is_our_page(it, folder, name)]
    if _same_libraries(it):
        _none(other, "not what our renderer makes of their files: {}")
    _none(other, "made by other versions of libraries than here: {}", CannotBeChecked)
    return f"{len(pages)} pages are, byte for byte, what our renderer makes of their files"


def _is_our_page(it, folder, name):
    title_page = {field: str(it.manifest.get(field, "")) for field in TITLE_PAGE}
    try:
        if name == "index.html":
            made = index.write_index(folder, str(it.manifest.get("name")))
        elif name == "draw.html":
            made = draw.write_page(folder)
        elif name == "card.md":  # without a title page
            return card.write_card(folder).read_bytes() == (it.files / name).read_bytes()
        else:
            made = render.write_page((folder / name).with_suffix(".ipynb"))
        page = submission.add_title_page(made.read_text("utf-8"), title_page)
    except Exception:  # whatever a hostile notebook provokes: then it is not this page
        return False
    return page.encode() == (it.files / name).read_bytes()


def _checks(it):
    """The student's checks.json against the checks made here."""
    stated = {one["code"]: [one[field] for field in STATED] for one in checks.read(it.files)}
    _needs(stated, "checks.json was not handed in")
    found = {code: [getattr(one, field) for field in STATED] for code, one in it.results.items()}
    if it.release:  # which had fewer checks
        found = {code: found[code] for code in found.keys() & stated}
    other = [code for code in found if stated.get(code) != found[code]]
    _none(other, "checks.json says otherwise: {}")
    failed = ", ".join(code for code in sorted(found) if not it.results[code].passed)
    return f"{len(found)} checks give what checks.json says; not passed: {failed or 'none'}"


def _complete(it):
    ours = submission.complete_notebook(it.info, it.folder)
    same = COMPLETE in it.listed and (it.files / COMPLETE).read_bytes() == ours.read_bytes()
    _holds(same, f"{COMPLETE} is not the one that digitlib makes for this run")
    return "the one that digitlib makes for this run"


def _lock(it):
    ours, theirs = (
        (folder / "requirements.lock").read_text("utf-8", "replace").splitlines()
        for folder in (colab.checkout(), it.files)
    )
    other = [line[:58] for line in theirs if line not in ours]
    _needs(not other, f"{len(other)} lines are other ones, such as {''.join(other[:1])}")
    return "the same as here"


def _retraining(it):
    """Our own code, with the recorded settings and seeds: does it end where the hand-in does?"""
    kind, folds = it.info["model"]["kind"], it.info["parameters"].get("folds", "kfold")
    _needs(kind not in OWN, OWN.get(kind))
    ours = it.digits is not None and it.results["DL012"].passed and folds in FOLDS
    _needs(ours, "its data, recipe or folds are not ours")
    again, run = _trained_again(it, folds), it.run
    theirs = [run.fitted(number) for number in range(1, len(again.estimators) + 1)]
    differ = _weights(again.estimators) != _weights(theirs)
    probabilities = (one.probabilities.astype(np.float32) for one in (again, run))
    if np.array_equal(*probabilities) and not differ.any():
        kept, found = again.history.to_numpy(float), run.history.to_numpy(float)
        same = kept.shape == found.shape and np.allclose(kept, found, rtol=1e-6, equal_nan=True)
        _holds(same, "the same bits, but another history of training")
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
    return cross_validate(classifier, X, y, **split, scaling=given["scaling"], progress="off")


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


LINES = {"manifest": _manifest, "metadata": _metadata, "run": _run, "code": _code}
LINES |= {name: partial(_rests_on, name) for name in RESTS_ON}
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
        said = str(error)
    except Exception as error:
        # A stranger's file may provoke anything; it must not end the verdict, nor count as held.
        said = f"a file is damaged ({type(error).__name__}: {str(error)[:200]})"
    said = said.replace(f"{it.folder}/", "")
    if affected and it.release:
        return "cannot be checked", f"made with digitlib {it.release}: {said}"
    if affected and word == "does not hold" and it.sources:
        names = [n for n in it.changed if name in BY_PAGES or Path(n).stem in DECISIVE]
        if names := ", ".join(n for n in names if _does_something_else(it, n)):
            return "cannot be checked", f"the student changed {names}: {said}"
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
    dict, dict of str to ndarray
        The verdict, see :func:`digitlib.handin.verdicts.make`; and what copies are found by, see
        :func:`digitlib.handin.copies.fingerprint`.
    """
    start, archive = time.perf_counter(), Path(slot.archive)
    torch.set_num_threads(1)  # before torch is used: a kernel is a copy of this process
    names = [name for name in LINES if retrain or name != "retraining"]
    facts, found = {}, {}
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
            found = copies.fingerprint(it.run) if it.run else {}
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
    if it.sources:
        facts["code"] = _changes(it)
    if it.run:
        label, stated = runs.label(it.run.info), _stated(it.run.info)
        facts |= {"model": plain(label), "stated": plain(stated), "settings": it.settings()}
        facts |= it.accuracies()
    return facts


def _changes(it):
    """What the student changed in the code, as a diff made here; empty if nothing."""
    ours = provenance.sources()
    before = {name: ours.get(name, "") for name in it.changed}
    made = provenance.diff(before, {name: str(text) for name, text in it.sources.items()})
    return "\n".join(plain(line.expandtabs(), 1000) for line in made[:1_000_000].splitlines())


def _stated(info):
    """What nobody can check: a sentence."""
    machine = ", ".join(str(value) for value in info["machine"].values())
    seconds = info["seconds"]["cross_validation"]
    return f"made {info['created']} on {machine} (cores), trained in {seconds:.1f} s"
