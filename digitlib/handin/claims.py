"""Claims of a hand-in, each recomputed: one function for each line of the verdict."""

import re
import tempfile
from functools import cache
from pathlib import Path

import nbformat
import numpy as np
from bs4 import BeautifulSoup

from digitlib import metrics, provenance
from digitlib.handin import colab, trained
from digitlib.handin.evidence import CannotBeChecked, DoesNotHold, Unreadable
from digitlib.handin.submission import MANIFEST, REQUIRED, TITLE_PAGE, describe, notebook_faults
from digitlib.reporting import render

# ---- the archive and its pages -------------------------------------------------------------------


def manifest(evidence):
    """Every file is listed with its size and SHA-256, and nothing is missing."""
    listed, present = evidence.manifest.get("files"), evidence.files.keys() - {MANIFEST}
    if not isinstance(listed, dict):
        raise Unreadable(MANIFEST, "lists no files")
    if missing := sorted((set(listed) | set(REQUIRED)) - present):
        raise DoesNotHold(f"{', '.join(map(str, missing))} missing")
    if extra := sorted(present - set(listed)):
        raise DoesNotHold(f"{', '.join(extra)} not listed")
    found = {name: describe(evidence.files[name]) for name in sorted(listed)}
    if changed := [name for name in found if listed[name] != found[name]]:
        raise DoesNotHold(f"changed after the manifest was written: {', '.join(changed)}")
    notes = [note for note in evidence.manifest.get("notes") or [] if isinstance(note, str)]
    return "; noted: ".join([f"{len(listed)} files", *notes])


def title_page(evidence):
    """Authors, course and title stand on every page as plain text, the same as in the manifest."""
    for name, page in evidence.pages.items():
        for field in TITLE_PAGE:
            found, text = page.select(f'[data-title-page="{field}"]'), evidence.manifest.get(field)
            if len(found) != 1:
                raise DoesNotHold(f"{name} has {len(found)} {field} on its title page")
            if inner := found[0].find(True):
                raise DoesNotHold(f"{name}: {field} is not plain text but holds <{inner.name}>")
            if (shown := found[0].get_text()) != text:
                manifest = f"in the manifest {str(text)[:60]!r}"
                raise DoesNotHold(f"{name}: {field} is {shown[:60]!r}, {manifest}")
    return f"the same on {len(evidence.pages)} pages"


def active_content(evidence):
    """No page has a script, a handler or a frame that digitlib does not put there.

    It could change what is read.
    """
    allowed = known_scripts()
    for name, page in evidence.pages.items():
        if found := active_parts(page, allowed):
            raise DoesNotHold(f"{name}: {found[0]}")
    return f"nothing foreign on {len(evidence.pages)} pages"


def notebooks(evidence):
    """Each executed notebook ran from top to bottom without an error."""
    books = [name for name in sorted(evidence.files) if name.endswith(".ipynb")]
    books = [name for name in books if name != f"{colab.COMPLETE}.ipynb"]
    faults = [fault for name in books for fault in notebook_faults(evidence.files[name], name)]
    if faults:
        raise DoesNotHold("; ".join(faults))
    return f"{len(books)} ran in order, without an error"


# ---- the run -------------------------------------------------------------------------------------


def _same(what, claimed, recomputed):
    if claimed != recomputed:
        raise DoesNotHold(f"{what}: claimed {claimed}, recomputed {recomputed}")


def code(evidence):
    """The package's sources and the notebooks' code are the grader's own."""
    if "sources.json" not in evidence.files:
        raise CannotBeChecked("made with a version that did not hand in its code")
    recorded = evidence.stated("code", "sha256", kind=str)
    if changed := evidence.changed_code:
        raise CannotBeChecked(f"changed, see the differences: {', '.join(changed)}")
    _same("SHA-256 of the sources", recorded, provenance.code_hash())
    try:
        books = {n: c.decode() for n, c in evidence.files.items() if n.endswith(".ipynb")}
        other = provenance.ran_other_code(books)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Unreadable("a notebook", f"cannot be read ({type(error).__name__})") from error
    if other:
        raise CannotBeChecked(f"cells of the student's own or changed ones: {', '.join(other)}")
    return "the same as here"


def data(evidence):
    """The run used the published rows."""
    X, _, sha256 = evidence.digits
    _same("SHA-256 of the data", evidence.stated("data", "sha256", kind=str), sha256)
    _same("rows", evidence.stated("data", "rows", kind=int), len(X))
    return f"{len(X):,} rows, SHA-256 {sha256[:12]}..."


def folds(evidence):
    """Each row was held out in the fold in which the claimed split puts it."""
    expected = np.zeros(len(evidence.digits[1]), dtype=np.int64)
    for number, (_, test) in enumerate(evidence.splits, 1):
        expected[test] = number
    if not np.array_equal(evidence.table["row"], np.arange(len(expected))):
        raise DoesNotHold("predictions.csv does not hold each row once, in order")
    if len(moved := np.flatnonzero(evidence.table["fold"] != expected)):
        many = f"{len(moved):,} rows are in another fold than the split says"
        raise DoesNotHold(f"{many}, first row {moved[0]}")
    return f"{len(evidence.splits)} folds, split seed {evidence.stated('parameters', 'split_seed')}"


def predictions(evidence):
    """Labels are published, probabilities sum to 1, the digit is the most probable one."""
    table, y = evidence.table, evidence.digits[1]
    if len(wrong := np.flatnonzero(table["label"] != y)):
        raise DoesNotHold(f"{len(wrong):,} labels are not the published ones, first row {wrong[0]}")
    if (table["p"] < 0).any() or np.abs(table["p"].sum(axis=1) - 1).max() > 1e-4:
        raise DoesNotHold("there are rows whose probabilities do not sum to 1")
    digit = table["predicted"].clip(0, 9)
    stated = table["p"][np.arange(len(digit)), digit]
    outside = table["predicted"] != digit
    if len(wrong := np.flatnonzero((stated < table["p"].max(axis=1)) | outside)):
        many = f"the digit is not the most probable one in {len(wrong):,} rows"
        raise DoesNotHold(f"{many}, first row {wrong[0]}")
    return f"{len(y):,} rows"


def accuracy(evidence):
    """The scores of ``run.json`` follow from the predictions."""
    hits = evidence.hits
    _same("correct", evidence.stated("scores", "correct", kind=int), int(hits.sum()))
    _same("total", evidence.stated("scores", "total", kind=int), len(hits))
    whole = evidence.stated("scores", "accuracy")
    shares = evidence.stated("scores", "fold_accuracies", kind=list)
    claimed = np.array([whole, *shares], dtype=float)
    recomputed = [hits.mean(), *(hits[test].mean() for _, test in evidence.splits)]
    if len(claimed) != len(recomputed) or not np.allclose(claimed, recomputed, rtol=0, atol=1e-9):
        raise DoesNotHold(f"accuracy: claimed {whole} (folds {shares}), recomputed {hits.mean()}")
    return f"{hits.sum():,} of {len(hits):,}, {100 * hits.mean():.2f} %, and each fold's"


def confusion(evidence):
    """The confusion matrix of ``run.json`` follows from the predictions."""
    matrix = _confusion_counts(evidence).to_numpy()
    if evidence.stated("scores", "confusion", kind=list) != matrix.tolist():
        raise DoesNotHold("run.json has another matrix than the predictions give")
    return f"100 cells, {matrix.sum() - matrix.trace()} errors"


def _confusion_counts(evidence):
    return metrics.confusion_counts(evidence.digits[1], evidence.table["predicted"])


# ---- figures that a reader sees in the pages -----------------------------------------------------

NUMBER = r"(\d[\d,]*)"
# "5,514 of 5,620 correct: 98.11 %" and its kin; the share may be missing.
COUNT = re.compile(
    rf"{NUMBER} of {NUMBER}(?: digits| images| rows)?(?: were)?(?: read)?"
    r" correct(?:ly)?\b(?:\s?[:,(]\s?(\d+(?:\.\d+)?)\s?%?)?"
)
SHARE = re.compile(rf"(\d+\.\d+)\s?% of (?:{NUMBER} )?(?:digits|images|rows) read correctly")
FOLD = re.compile(r"fold (\d+)/\d+: accuracy (\d+\.\d+) %")


def figures(evidence):
    """The figures that a reader sees in the pages follow from the predictions."""
    faults, found = [], {}
    for what, shown in _shown(evidence).items():
        found[what] = 0
        for where, claimed, recomputed in shown:
            found[what] += 1
            if not agrees(claimed, recomputed):
                faults.append(f"{where} shows {claimed[:20]}, recomputed {recomputed:.6g}")
    if faults:
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise DoesNotHold("; ".join(faults[:3]) + more)
    if unseen := [what for what, count in found.items() if not count]:
        raise CannotBeChecked(f"not found in the pages: {', '.join(unseen)}")
    return f"{sum(found.values())} figures: {', '.join(found)}"


def _shown(evidence):
    """Figures by kind; of each, where it is shown, the text that stands there, its true value."""
    return {
        "headline": _headline(evidence),
        "confusion cells": _confusion_cells(evidence),
        "training": _sentences(evidence, "2_train.html"),
        "evaluation": _sentences(evidence, "3_evaluate.html"),
        "per-fold table": _per_fold(evidence),
        "per-class table": _per_class(evidence),
    }


def agrees(text, value):
    """Is `text` the number `value` at the precision in which it is written?

    Such as "5,514", "0.97" or "98.11 %".
    """
    match = re.fullmatch(r"(-?\d[\d,]*(?:\.(\d+))?)\s?(%?)", text.strip())
    if not match:
        return False
    if match[3]:
        value = 100 * value
    return abs(float(match[1].replace(",", "")) - value) <= 0.5 * 10 ** -len(match[2] or "") + 1e-9


def _headline(evidence):
    hits = evidence.hits
    values = {"accuracy": hits.mean(), "correct": hits.sum(), "total": len(hits)}
    for element in evidence.page("index.html").select("[data-claim]"):
        claim, text = element["data-claim"], element.get_text(" ", strip=True)
        if claim in values:
            unit = " %" if claim == "accuracy" and "%" not in text else ""
            yield f"index.html, {claim},", text + unit, values[claim]
    yield from _sentences(evidence, "index.html")


def _confusion_cells(evidence):
    page, counts = evidence.page("index.html"), _confusion_counts(evidence)
    for cell in page.select('[data-claim="confusion"] [data-true][data-predicted]'):
        true, predicted = int(cell["data-true"]), int(cell["data-predicted"])
        text = re.sub(r"[^\d,]", "", cell.get_text())
        yield f"index.html, {true} read as {predicted},", text, counts.loc[true, predicted]


def _sentences(evidence, name):
    """Counts and shares in running text: of all rows, or, if it is that many rows, of some fold."""
    text, hits = evidence.visible(name), evidence.hits
    folds = [hits[test] for _, test in evidence.splits]
    for correct, total, share in COUNT.findall(text):
        rows = _closest(correct, [hits, *(fold for fold in folds if f"{len(fold):,}" == total)])
        yield f"{name}, correct,", correct, rows.sum()
        yield f"{name}, total,", total, len(rows)
        if share:
            yield f"{name}, accuracy,", f"{share} %", rows.mean()
    for share, total in SHARE.findall(text):
        yield f"{name}, accuracy,", f"{share} %", hits.mean()
        if total:
            yield f"{name}, total,", total, len(hits)
    for number, share in FOLD.findall(text):
        if 1 <= int(number) <= len(folds):
            fold = folds[int(number) - 1]
            yield f"{name}, accuracy of fold {number},", f"{share} %", fold.mean()


def _closest(correct, candidates):
    return next((rows for rows in candidates if f"{rows.sum():,}" == correct), candidates[-1])


def _per_fold(evidence):
    for row, cells in _table(evidence.page("3_evaluate.html"), {"correct", "total", "accuracy"}):
        if row != "all" and not row.isdigit():
            continue  # a line of means or intervals
        chosen = slice(None) if row == "all" else evidence.table["fold"] == int(row)
        hits = evidence.hits[chosen]
        values = {"correct": hits.sum(), "total": len(hits), "accuracy": hits.mean()}
        for column, value in values.items():
            yield f"3_evaluate.html, {column} of fold {row},", cells[column], value


def _per_class(evidence):
    names = ["precision", "recall", "F1", "support"]
    values = metrics.per_class(evidence.digits[1], evidence.table["predicted"])[names]
    for row, cells in _table(evidence.page("3_evaluate.html"), set(names)):
        for column, value in values.loc[int(row)].items():
            yield f"3_evaluate.html, {column} of digit {row},", cells[column], value


def _table(page, wanted):
    """Rows of every table that has the columns `wanted`: first heading, cells by column."""
    for table in page.find_all("table"):
        rows = table.find_all("tr")
        columns = _cells(rows[0]) if rows else []
        if not wanted <= set(columns):
            continue
        for row in rows[1:]:
            cells = _cells(row)
            if row.find("td") and len(cells) == len(columns):
                yield cells[0], dict(zip(columns, cells, strict=True))


def _cells(row):
    return [cell.get_text(strip=True) for cell in row.find_all(["th", "td"])]


# ---- what could change a page after it was read --------------------------------------------------

HANDLER = re.compile(r"on[a-z]+")
FRAMES = ("iframe", "object", "embed", "base", "frame", "applet")
NOT_RUN = ("application/json", "application/ld+json", "application/vnd.jupyter.widget-state+json")


def active_parts(page, allowed):
    """What of a parsed page is active and not among the `allowed`, one line each.

    Scripts, handlers and frames.
    """
    foreign = sorted(_scripts(page) - allowed)
    found = [f"a script that digitlib did not write: {text[:60]!r}" for text in foreign]
    for element in page.find_all(True):
        refresh = "refresh" in str(element.get("http-equiv", "")).lower()
        if element.name in FRAMES or (element.name == "meta" and refresh):
            found.append(f"<{element.name}> brings in another page")
        for name, value in element.attrs.items():
            if HANDLER.fullmatch(name.lower()) and f"{name}={value}" not in allowed:
                found.append(f"<{element.name} {name}=...> runs a script")
            if "javascript:" in re.sub(r"\s", "", str(value)).lower():
                found.append(f"<{element.name} {name}> is a script")
    return found


def _scripts(page):
    """Text of each script that a browser would run, with where it is fetched from."""
    scripts = [s for s in page.find_all("script") if str(s.get("type", "")).lower() not in NOT_RUN]
    texts = {" ".join([s.get("src", ""), *s.get_text().split()]).strip() for s in scripts}
    return texts - {""}


@cache
def known_scripts():
    """The scripts and handlers in pages that digitlib itself makes.

    Those of an empty notebook, and those of the templates.
    """
    templates = [path for path in render.TEMPLATES.iterdir() if path.suffix in (".j2", ".html")]
    texts = [_empty_page(), *(path.read_text(encoding="utf-8") for path in templates)]
    found = set()
    for page in [BeautifulSoup(text, "html.parser") for text in texts]:
        found |= _scripts(page)
        for tag in page.find_all(True):
            found |= {f"{name}={value}" for name, value in tag.attrs.items() if name[:2] == "on"}
    return frozenset(found)


def _empty_page():
    """HTML of a notebook that holds nothing but a heading."""
    facts = {
        "model": {"kind": "recipe", "name": "", "changed": {}},
        "recipe": {"name": ""},
        "parameters": {"seed": 0},
        "data": {"sha256": ""},
        "created": "",
        "versions": {"digitlib": ""},
    }
    heading = nbformat.v4.new_markdown_cell("# Empty")
    with tempfile.TemporaryDirectory() as scratch:
        notebook = Path(scratch) / "empty.ipynb"
        nbformat.write(nbformat.v4.new_notebook(cells=[heading]), notebook)
        return render.write_page(notebook, info=facts).read_text(encoding="utf-8")


# ---- the verdict ---------------------------------------------------------------------------------

# Line of the verdict -> check, and the parts (pattern of names) whose damage is this line's fault.
CLAIMS = {
    "manifest": (manifest, MANIFEST),
    "title page": (title_page, None),
    "active content": (active_content, None),
    "notebooks": (notebooks, None),
    "code": (code, r"sources\.json"),
    "data": (data, None),
    "recipe": (trained.recipe, r"run\.json"),
    "folds": (folds, None),
    "predictions": (predictions, r"predictions\.csv"),
    "accuracy": (accuracy, r"run\.json"),
    "confusion matrix": (confusion, r"run\.json"),
    "figures in the pages": (figures, r".*\.html"),
    "weights": (trained.weights, r"fold-\d+\.safetensors"),
    "probabilities": (trained.probabilities, None),
    "training rows": (trained.training_rows, None),
    "history": (trained.history, r"history\.csv"),
    "retraining": (trained.retraining, None),
}


def judge(name, evidence):
    """One line of the verdict.

    Returns
    -------
    str, str
        "holds", "does not hold" or "cannot be checked"; and why, in one line.
    """
    function, owned = CLAIMS[name]
    try:
        return "holds", function(evidence)
    except DoesNotHold as error:
        return "does not hold", str(error)
    except CannotBeChecked as error:
        return "cannot be checked", str(error)
    except Unreadable as error:
        its_own = owned and re.fullmatch(owned, error.part)
        return "does not hold" if its_own else "cannot be checked", str(error)
    except Exception as error:
        # A stranger's file may provoke anything; it must not end the verdict, nor count as held.
        return "does not hold", f"a file is damaged ({type(error).__name__}: {str(error)[:120]})"
