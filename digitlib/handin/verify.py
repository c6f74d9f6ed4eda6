"""The verdict on one hand-in: six lines, each computed again from its files.

Nothing of the student's is run, and no page or text of the student's is shown as it is.
"""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd

from digitlib import checks, own, provenance, runs
from digitlib.crossval import FOLDS, cross_validate
from digitlib.data import SOURCES, load_digits
from digitlib.errors import NotebookFailed, RunError, plain
from digitlib.files import write_text
from digitlib.handin import render
from digitlib.handin.unpack import FACTS, Unreadable, unpack
from digitlib.handin.verdict import HOLDS, NOT_REPEATED, STATED, WRONG, blank, write_page
from digitlib.recipes import KERNEL, RECIPES, CompactRecipe
from digitlib.report import index, kernels, page

COLUMNS = ["row", "fold", "label", "predicted", *(f"p{digit}" for digit in range(10))]
BOOK = "3_evaluate.ipynb"  # the notebook that our page is made with
PAGES = ("index.html", "3_evaluate.html")
BESIDE = (BOOK, "run.json", "predictions.csv", "history.csv")  # what those link to, written by us
# Of the parts of run.json that may hold more, what our pages show.
SHOWN = {"recipe": ("name", "summary", *CompactRecipe.settings())}
SHOWN |= {"versions": ("digitlib", "python", *provenance.LIBRARIES)}
SHOWN |= {"machine": ("system", "processor", "cores", "engine")}
SHOWN |= {"parameters": runs.SCHEMA["properties"]["parameters"]["properties"]}
# Of the same training on other processors, thread numbers and kernels of torch (docs/grader.md has
# what was measured): the distance of the weights as a share of their length, and how many more rows
# may be right than here, in standard deviations of what chance gives.
MOST_DRIFT, MOST_GAIN = 0.1, 3.0


def judge(slot, out=None):
    """The verdict on a hand-in, all but the training; works in the current folder.

    Parameters
    ----------
    slot : Slot
    out : Path or None
        Where our pages go.

    Returns
    -------
    dict
        See :func:`digitlib.handin.verdict.blank`. Its probabilities lie in ``found.npy``.
    """
    here = Path.cwd()
    try:
        run = load(slot, here / "files")
        digits = our_rows(run.info)
        source = out is not None and show_source(run, out)
        pages = out is not None and digits is not None and write_pages(run, digits, here, out)
    except (Unreadable, RunError, NotebookFailed) as error:
        return blank(slot, _brief(error))
    info, right = run.info, run.y == run.predicted
    lines = {"file": [HOLDS, f"{len(run.y):,} rows, {info['parameters']['splits']} folds"]}
    lines |= {"data": _line(_data, run, digits), "model": _line(_model, run, digits)}
    again = not run.own and _our_folds(info) and lines["data"][0] == HOLDS
    why = "it was left out" if again else "this cannot be repeated here"
    lines |= {"training": [NOT_REPEATED, why], "code": _line(_code, run), "copy": [HOLDS, ""]}
    np.save("found.npy", run.probabilities.astype(np.float32))
    verdict = blank(slot, "") | _stated(run.path) | {"lines": lines, "accuracy": right.mean()}
    if digits is not None and len(digits.writers) == len(right):
        verdict["writers"] = right[digits.writers == "test"].mean()
    verdict |= {"pages": pages, "source": source, "model": plain(own.label(info), 200)}
    return verdict | {
        "settings": _settings(info),
        "repeatable": again and lines["model"][0] != WRONG,
    }


def load(slot, folder):
    """The run in a slot, its files unpacked into `folder`."""
    folder.mkdir()
    unpack(slot, folder)
    run = runs.load(folder)
    with open(folder / "predictions.csv", encoding="utf-8") as file:
        if file.readline().strip().split(",") != COLUMNS:
            raise RunError("predictions.csv: has other columns than row ... p9")
    if not np.array_equal(run.row, np.arange(len(run.row))):
        raise RunError("predictions.csv: its rows are not in order")
    return run


def our_rows(info):
    """Our copy of the data with the stated hash; None if we have no such data."""
    known = (load_digits("bundled"), load_digits("sklearn"))
    return next((d for d in known if d.sha256 == info["data"]["sha256"]), None)


def _brief(error):
    """An error without our folders and without a remedy that is no grader's."""
    return str(error).replace(f"{Path.cwd()}/", "").split("; make")[0]


def _stated(folder):
    """What the title page says: three texts, perhaps empty."""
    try:
        found = json.loads((folder / FACTS).read_bytes())
        texts = {name: found.get(name, "") for name in ("authors", "course", "title")}
    except (OSError, ValueError, RecursionError, AttributeError):
        texts = dict.fromkeys(("authors", "course", "title"), "")
    texts = {
        name: plain(text, 200) if isinstance(text, str) else "" for name, text in texts.items()
    }
    return {"name": texts.pop("authors"), **texts}


def _settings(info):
    """A digest of all that decides a run: two runs with the same are the same by design."""
    recipe = {name: value for name, value in info["recipe"].items() if name != "summary"}
    split = {name: info["parameters"].get(name) for name in SHOWN["parameters"]}
    facts = [recipe, split, info["data"]["sha256"], info["model"].get("sha256")]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


# ---- the lines -----------------------------------------------------------------------------------


def _line(judge, *given):
    """Word and reason; a stranger's file may provoke anything, and must not count as held."""
    try:
        word, why = judge(*given)
    except Exception as error:
        word, why = WRONG, f"a file is damaged ({type(error).__name__}: {_brief(error)})"
    return [word, plain(why, 300)]


def _data(run, digits):
    source = run.info["data"]["source"]
    if source in SOURCES and (digits is None or digits.source not in (source, "bundled")):
        return WRONG, f"the data is said to be {source}, its hash is of other rows"
    if digits is None:
        return STATED, "made of rows of the student's own, which are not here"
    if len(run.row) != len(digits.target):
        return WRONG, f"{len(run.row):,} rows; the data has {len(digits.target):,}"
    codes = ("DL011", "DL002") if _our_folds(run.info) else ("DL011",)
    for result in (checks.CHECKS[code].result(run, digits) for code in codes):
        if not result.passed:
            return WRONG, result.detail
    right = f"{(run.y == run.predicted).sum():,} of {len(run.y):,} read correctly"
    if not _our_folds(run.info):
        return STATED, f"{right}; the folds are of a kind of the student's own"
    return HOLDS, right


def _our_folds(info):
    return info["parameters"].get("folds", "kfold") in FOLDS


def _model(run, digits):
    kind, files = run.info["model"]["kind"], run.info["model"]["files"]
    if run.own:
        return STATED, f"the student's own {kind}, whose code is not run"
    if digits is None:
        return STATED, "its data is not here"
    ending = "skops" if run.info["recipe"]["name"] == KERNEL else "safetensors"
    if files != [f"fold-{k + 1}.{ending}" for k in range(run.info["parameters"]["splits"])]:
        return WRONG, "there is no file of weights for each fold, as a recipe writes"
    if ending == "skops":  # a file that can hold any object, so it is not opened
        return NOT_REPEATED, "this recipe's model is shown by its training alone"
    results = [checks.CHECKS[code].result(run, digits) for code in ("DL015", "DL003")]
    if run.info["parameters"]["scaling"] == "all" and results[0].passed:  # the published leak
        off = checks.scaler_distance(run, digits, leaky=True)
        same = (
            "as the run states"
            if off <= checks.SAME_SCALER
            else f"and not those of all, {off:.1g} away"
        )
        return STATED if off <= checks.SAME_SCALER else WRONG, f"the scalers saw all rows, {same}"
    if not results[0].passed and _said_changed(run.info) and "cannot be read" in results[0].detail:
        return STATED, "its weights are of another network than ours: the code was changed"
    for result in results:
        if not result.passed:
            return WRONG, result.detail
    return HOLDS, "; ".join(result.detail for result in results)


def _said_changed(info):
    return info["code"]["sha256"] != provenance.code_hash()


def _code(run):
    if not _said_changed(run.info):
        return HOLDS, "the same as here"
    stated = run.info["versions"]["digitlib"]
    files = ", ".join(run.info["code"]["changed"] or ())
    differ = f"; changed were {files}" if files else ""
    return STATED, f"made with other code than is here, digitlib {stated}{differ}"


def by_student_code(slot):
    """The model line, where the student's own model.py may run: it does, in this process.

    It is not shut off from files and network, so that what comes out is its word, not ours.
    """
    run = load(slot, Path.cwd() / "files")
    run.run_code, digits = True, our_rows(run.info)
    result = checks.CHECKS["DL015"].result(run, digits)
    return [STATED if result.passed else WRONG, f"the student's code, run here: {result.detail}"]


# ---- the training --------------------------------------------------------------------------------


def repeat(slot, jobs=1):
    """Train again with our code and the stated settings; word and reason of the line."""
    run = load(slot, Path.cwd() / "files")
    return _line(_repeat, run, our_rows(run.info), jobs)


def _repeat(run, digits, jobs):
    given, classifier = run.info["parameters"], run.classifier()
    split = {"n_splits": given["splits"], "random_state": given["split_seed"]}
    split |= {"folds": given.get("folds", "kfold"), "scaling": given["scaling"]}
    again = cross_validate(
        classifier, digits.data, digits.target, **split, n_jobs=jobs, progress=False
    )
    return compare(again, run)


def compare(again, run):
    """Is what was trained here the run that was handed in? Word and reason."""
    same = np.array_equal(*(one.probabilities.astype(np.float32) for one in (again, run)))
    drift = 0.0
    if run.info["recipe"]["name"] != KERNEL:
        theirs = [run.fitted(number + 1) for number in range(len(again.estimators))]
        ours, theirs = _weights(again.estimators), _weights(theirs)
        drift = float(np.linalg.norm(ours - theirs) / np.linalg.norm(ours))
        same = same and np.array_equal(ours, theirs)
    if same:
        return HOLDS, "the same bits"
    right, wrong = ((one.predicted == run.y) for one in (run, again))
    more, fewer = (right & ~wrong).sum(), (wrong & ~right).sum()
    gain = (more - fewer) / max(np.sqrt(more + fewer), 1)
    said = f"weights {100 * drift:.2g} % apart, {more} more rows right and {fewer} fewer than here"
    if drift <= MOST_DRIFT and gain <= MOST_GAIN:
        return HOLDS, f"not the same bits, as on another machine: {said}"
    return WRONG, f"not this run: {said}; accuracy here {100 * again.accuracy:.2f} %"


def _weights(classifiers):
    tensors = [w for one in classifiers for w in one.network_.state_dict().values()]
    return np.concatenate([w.detach().numpy().ravel() for w in tensors]).astype(float)


# ---- our pages -----------------------------------------------------------------------------------


def show_source(run, out):
    """Show the student's model.py as escaped plain text, if there is one; whether there is."""
    if not (run.path / "model.py").is_file():
        return False
    lines = (run.path / "model.py").read_text("utf-8", errors="replace").splitlines()
    text = "\n".join(plain(line.expandtabs(), 2000) for line in lines)
    write_page(out / "model.html", render("model.html.j2", text=text))
    return True


def write_pages(run, digits, here, out):
    """Make our first page and our evaluation of the run's predictions in `out`; True.

    They are made in a new folder in `here`, which gets no file of a student's.
    """
    ours = here / "ours"
    ours.mkdir()
    columns = [run.row, run.folds, run.y, run.predicted, *run.probabilities.T]
    table = pd.DataFrame(dict(zip(COLUMNS, columns, strict=True)))
    table.to_csv(ours / "predictions.csv", index=False, float_format="%.9g")
    write_text(ours / "history.csv", ",".join(runs.NO_HISTORY) + "\n")  # nobody can check it
    write_text(ours / "run.json", json.dumps(_shown(run.info, digits)))
    kernels.prepare_environment(here, "fork")
    kernels.run(kernels.notebook_folder() / BOOK, ours / BOOK, {"run": "."}, ours)
    shown = runs.load(ours)
    codes = ("DL002", "DL006", "DL008", "DL011", "DL018", "DL019")
    found = [checks.CHECKS[code] for code in codes]
    checks.write(ours, [c.result(*[shown, digits][: 1 + c.needs_data]) for c in found])
    page.write_page(ours / BOOK)
    index.write_index(ours, "Recomputed")
    for name in PAGES:
        write_page(out / name, (ours / name).read_text("utf-8"))
    for name in BESIDE:
        shutil.copyfile(ours / name, out / name)
    return True


def _shown(info, digits):
    """``run.json`` for our pages, without prose of a student's; the lines judge the whole."""
    shown = {part: info[part] for part in ("seconds", "created")} | {"commit": info.get("commit")}
    changed = info["code"]["changed"]
    shown["code"] = {"sha256": info["code"]["sha256"], "changed": changed and changed[:20]}
    shown |= {part: {n: info[part][n] for n in SHOWN[part] if n in info[part]} for part in SHOWN}
    known = RECIPES.get(info["recipe"]["name"])
    shown["recipe"]["summary"] = known.summary if known else ""
    kept = {"files": [], "unkept": "the weights are judged in the verdict"}
    shown["model"] = {"kind": info["model"]["kind"], "name": info["model"]["name"], **kept}
    shown["data"] = {"source": digits.source, "sha256": digits.sha256, "rows": info["data"]["rows"]}
    return shown
