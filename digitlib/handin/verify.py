"""The verdict on one hand-in: each line is computed again from its files, in the current folder.

Nothing of the student's is run, and no page or text of the student's is shown as it is.
"""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd

from digitlib import checks, own, runs
from digitlib.crossval import FOLDS, cross_validate
from digitlib.data import SOURCES, load_digits
from digitlib.errors import DigitlibError, NotebookFailed, RunError, plain
from digitlib.files import write_text
from digitlib.handin import render
from digitlib.handin.unpack import FACTS, Unreadable, unpack
from digitlib.handin.verdict import HOLDS, NOT_REPEATED, STATED, WRONG, blank, write_page
from digitlib.metrics import row_losses
from digitlib.provenance import code_hash, notebook_folder
from digitlib.recipes import KERNEL, RECIPES
from digitlib.report import forks, index, kernels, page

COLUMNS = ["row", "fold", "label", "predicted", *(f"p{digit}" for digit in range(10))]
BOOK = "3_evaluate.ipynb"  # the notebook that our page is made with
LINKED = (BOOK, "run.json", "predictions.csv", "history.csv")  # by our pages; we wrote them, too
# The same training on other processors, thread numbers and kernels of torch (docs/grader.md has
# what was measured): how far the weights may be from ours, as a share of their length; how far the
# mean loss, in standard errors; and, of all rows, the share that rounding may change, and by how
# many standard deviations of that the number of right ones may differ.
MOST_DRIFT, MOST_OTHER_LOSS, CHANGED_ROWS, MOST_OTHER_ROWS = 0.35, 4.0, 0.002, 3.0


def judge(slot, out=None, found="found.npy"):
    """The verdict on a hand-in but for its training, as a dictionary: see :func:`.verdict.blank`.

    Pages are written into the folder `out`, the hand-in's probabilities into the file `found`.
    """
    try:
        run = load(slot)
        digits = our_rows(run.info)
        source = out is not None and show_source(run, out)
        pages = out is not None and digits is not None and write_pages(run, digits, out)
    except (Unreadable, RunError, NotebookFailed) as error:
        return blank(slot, _brief(error))
    info, right = run.info, run.y == run.predicted
    lines = {"file": [HOLDS, f"{len(right):,} rows, {info['parameters']['splits']} folds"]}
    lines |= {"data": _line(_data, run, digits), "model": _line(_model, run, digits)}
    repeatable = not run.own and lines["data"][0] == HOLDS and lines["model"][0] != WRONG
    why = "it was left out" if repeatable else "it cannot be repeated here"
    lines |= {"training": [NOT_REPEATED, why], "code": _line(_code, run), "copy": [HOLDS, ""]}
    np.save(found, run.probabilities.astype(np.float32))
    verdict = blank(slot, "") | _title_page(run.path) | {"accuracy": right.mean(), "lines": lines}
    if digits is not None and len(digits.writers) == len(right):
        verdict["writers"] = right[digits.writers == "test"].mean()
    verdict |= {"pages": pages, "source": source, "repeatable": repeatable}
    return verdict | {"model": plain(own.label(info), 200), "settings": _settings(info)}


def load(slot):
    """The run in a slot, its files unpacked into a new folder."""
    folder = Path.cwd() / "files"
    folder.mkdir()
    unpack(slot, folder)
    run = runs.load(folder)
    with open(folder / "predictions.csv", encoding="utf-8") as file:
        if file.readline().strip().split(",") != COLUMNS:
            raise RunError("predictions.csv: has other columns than row ... p9")
    if not np.array_equal(run.row, np.arange(len(run.row))):
        raise RunError("predictions.csv: its rows are not in order")
    try:
        own.label(run.info)
    except (DigitlibError, TypeError) as error:
        raise RunError(f"run.json: its settings are none of a recipe ({error})") from None
    return run


def our_rows(info):
    """Our copy of the data with the stated hash; None if we have no such data."""
    known = (load_digits("bundled"), load_digits("sklearn"))
    return next((d for d in known if d.sha256 == info["data"]["sha256"]), None)


def _brief(error):
    """An error without our folders and without a remedy that is no grader's."""
    return str(error).replace(f"{Path.cwd()}/", "").split("; make")[0]


def _title_page(folder):
    """What the student's title page states: three texts, perhaps empty."""
    try:
        found = json.loads((folder / FACTS).read_bytes())
        return {
            name: plain(str(found.get(name, "")), 200) for name in ("authors", "course", "title")
        }
    except (OSError, ValueError, RecursionError, AttributeError):
        return {}


def _settings(info):
    """A digest of all that decides a run: two runs with the same are the same by design."""
    facts = {name: value for name, value in info["recipe"].items() if name != "summary"}
    facts |= {name: info["parameters"].get(name) for name in ("seed", "splits", "split_seed")}
    facts |= {name: info["parameters"].get(name) for name in ("scaling", "folds")}
    facts |= {"data": info["data"]["sha256"], "source": info["model"].get("sha256")}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


# ---- the lines -----------------------------------------------------------------------------------


def _line(judge, *given):
    """Word and reason; a stranger's file may provoke anything, and must not count as held."""
    try:
        word, why = judge(*given)
    except Exception as error:
        word, why = WRONG, f"a file is damaged ({type(error).__name__}: {_brief(error)})"
    return [word, plain(_brief(why), 300)]


def _failed(codes, run, digits):
    """What the first check that does not pass has found; empty if all pass."""
    results = (checks.CHECKS[code].result(run, digits) for code in codes)
    return next((result.detail for result in results if not result.passed), "")


def _data(run, digits):
    source, ours = run.info["data"]["source"], _our_folds(run)
    if source in SOURCES and (digits is None or digits.source not in (source, "bundled")):
        return WRONG, f"the data is said to be {source}, its hash is that of other rows"
    if digits is None:
        return STATED, "made of rows of the student's own, which are not here"
    if len(run.row) != len(digits.target):
        return WRONG, f"{len(run.row):,} rows; the data has {len(digits.target):,}"
    if fault := _failed(("DL011", "DL002") if ours else ("DL011",), run, digits):
        return WRONG, fault
    right = f"{(run.y == run.predicted).sum():,} of {len(run.y):,} read correctly"
    return HOLDS if ours else STATED, right if ours else f"{right}; folds of the student's own kind"


def _our_folds(run):
    return run.info["parameters"].get("folds", "kfold") in FOLDS


def _model(run, digits):
    info, kernel = run.info, run.info["recipe"]["name"] == KERNEL
    if run.own:
        return STATED, f"the student's own {info['model']['kind']}, whose code is not run"
    if digits is None:
        return STATED, "its data is not here"
    ending, leaky = "skops" if kernel else "safetensors", info["parameters"]["scaling"] == "all"
    wanted = [f"fold-{number + 1}.{ending}" for number in range(info["parameters"]["splits"])]
    if info["model"]["files"] != wanted:
        return WRONG, "there is no file of weights for each fold, as a recipe writes"
    if kernel:  # such a file can hold any object, so it is not opened
        return NOT_REPEATED, "this recipe's model is shown by its training alone"
    if fault := _failed(("DL015",) if leaky else ("DL015", "DL003"), run, digits):
        other = "cannot be read" in fault and info["code"]["sha256"] != code_hash()
        return (STATED, "weights of another network: changed code") if other else (WRONG, fault)
    if leaky and checks.scaler_distance(run, digits, leaky=True) > checks.SAME_SCALER:
        return WRONG, "the scalers are not those of all rows, as the run states"
    if leaky:
        return STATED, "the scalers saw all rows, as the run states: the published leak"
    return HOLDS, "the weights give these probabilities; the scalers saw training rows alone"


def _code(run):
    code = run.info["code"]
    if code["sha256"] == code_hash():
        return HOLDS, "the same as here"
    files = f"; changed were {', '.join(code['changed'])}" if code["changed"] else ""
    return STATED, f"other than here, of digitlib {run.info['versions']['digitlib']}{files}"


def by_student_code(slot):
    """The model line, where the student's own model.py may run: it does, in this process.

    It is not shut off from files and network, so that what comes out is its word, not ours.
    """
    run = load(slot)
    run.run_code = True
    fault = _failed(("DL015",), run, our_rows(run.info))
    return [WRONG if fault else STATED, fault or "the student's code, run here, gives the same"]


# ---- the training --------------------------------------------------------------------------------


def repeat(slot, jobs=1):
    """The training line, by training again with our code and the stated settings."""
    run = load(slot)
    return _line(lambda: compare(_trained(run, our_rows(run.info), jobs), run))


def _trained(run, digits, jobs):
    given, X, y = run.info["parameters"], digits.data, digits.target
    split = {"n_splits": given["splits"], "random_state": given["split_seed"]}
    split |= {"folds": given.get("folds", "kfold"), "scaling": given["scaling"]}
    return cross_validate(run.classifier(), X, y, **split, n_jobs=jobs, progress=False)


def compare(again, run):
    """Is what was trained here the run that was handed in? Word and reason."""
    drift = 0.0
    if run.info["recipe"]["name"] != KERNEL:
        ours = _weights(again.estimators)
        theirs = _weights(run.fitted(number + 1) for number in range(len(again.estimators)))
        drift = np.linalg.norm(ours - theirs) / np.linalg.norm(ours)
    pair = [one.probabilities.astype(np.float32) for one in (again, run)]
    if np.array_equal(*pair) and drift == 0:
        return HOLDS, "the same bits"
    losses = (row_losses(run.y, p, again.classes)["log-loss"] for p in pair)
    saved = np.subtract(*losses)
    more = int((run.predicted == run.y).sum()) - int((again.predicted == run.y).sum())
    rows = more / (CHANGED_ROWS * len(saved)) ** 0.5
    less = saved.mean() / max(saved.std() / len(saved) ** 0.5, 1e-9)
    said = f"weights {100 * drift:.2g} % from ours, {more:+d} rows right"
    if drift <= MOST_DRIFT and abs(less) <= MOST_OTHER_LOSS and abs(rows) <= MOST_OTHER_ROWS:
        return HOLDS, f"the same but for another machine's rounding: {said}"
    said += f", loss {less:+.1f} standard errors better"
    return WRONG, f"not this run: {said}; here {100 * again.accuracy:.2f} % are right"


def _weights(classifiers):
    tensors = [w for one in classifiers for w in one.network_.parameters()]
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


def write_pages(run, digits, out):
    """Make our first page and our evaluation of the run's predictions in `out`; True.

    They are made in a new folder, which gets no file of a student's.
    """
    ours = Path.cwd() / "ours"
    ours.mkdir()
    columns = [run.row, run.folds, run.y, run.predicted, *run.probabilities.T]
    table = pd.DataFrame(dict(zip(COLUMNS, columns, strict=True)))
    table.to_csv(ours / "predictions.csv", index=False, float_format="%.9g")
    write_text(ours / "history.csv", ",".join(runs.NO_HISTORY) + "\n")  # nobody can check it
    write_text(ours / "run.json", json.dumps(_shown(run.info, digits)))
    forks.prepare_environment(ours.parent, "fork")
    kernels.run(notebook_folder() / BOOK, ours / BOOK, {"run": "."}, ours)
    shown = runs.load(ours)
    found = [checks.CHECKS[code].result(shown, digits) for code in ("DL002", "DL011")]
    checks.write(ours, [*found, *checks.check_run(shown, leave=("DL017", "DL020"))])
    page.write_page(ours / BOOK)
    index.write_index(ours, "Recomputed")
    for name in ("index.html", "3_evaluate.html"):
        write_page(out / name, (ours / name).read_text("utf-8"))
    for name in LINKED:
        shutil.copyfile(ours / name, out / name)
    return True


def _shown(info, digits):
    """``run.json`` for our pages, without prose of a student's; the lines judge the whole."""
    summary = getattr(RECIPES.get(info["recipe"]["name"]), "summary", "")
    known = runs.SCHEMA["properties"]["parameters"]["properties"]
    parameters = {name: value for name, value in info["parameters"].items() if name in known}
    model = {"kind": info["model"]["kind"], "name": info["model"]["name"], "files": []}
    data = {"source": digits.source, "sha256": digits.sha256, "rows": len(digits.target)}
    shown = {"recipe": info["recipe"] | {"summary": summary}, "data": data}
    shown |= {"model": model | {"unkept": "the verdict judges the weights"}}
    return info | shown | {"parameters": parameters}
