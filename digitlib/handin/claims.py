"""Claims of a hand-in, each recomputed: one function for each line of the verdict."""

import re
from functools import cache
from importlib.resources import files

import numpy as np

from digitlib.handin import trained
from digitlib.handin.evidence import CannotBeChecked, DoesNotHold, Unreadable
from digitlib.handin.evidence import faults as notebook_faults
from digitlib.handin.submission import MANIFEST, REQUIRED, TITLE_PAGE, describe


def _same(what, claimed, recomputed):
    if claimed != recomputed:
        raise DoesNotHold(f"{what}: claimed {claimed}, recomputed {recomputed}")


def manifest(evidence):
    """Every file is listed with its size and SHA-256, and nothing is missing."""
    listed, present = evidence.manifest.get("files"), evidence.files.keys() - {MANIFEST}
    if not isinstance(listed, dict):
        raise Unreadable(MANIFEST, "lists no files")
    if missing := sorted((set(listed) | set(REQUIRED)) - present):
        raise DoesNotHold(f"{', '.join(map(str, missing))} missing")
    if extra := sorted(present - set(listed)):
        raise DoesNotHold(f"{', '.join(extra)} not listed")
    if changed := [
        name for name in sorted(listed) if listed[name] != describe(evidence.files[name])
    ]:
        raise DoesNotHold(f"changed after the manifest was written: {', '.join(changed)}")
    notes = evidence.manifest.get("notes") or []
    return f"{len(listed)} files" + "".join(
        f"; noted: {note}" for note in notes if isinstance(note, str)
    )


def title_page(evidence):
    """Authors, course and title stand on every page as plain text, the same as in the manifest."""
    for name, page in evidence.pages.items():
        for field in TITLE_PAGE:
            found, text = page.select(f'[data-title-page="{field}"]'), evidence.manifest.get(field)
            if len(found) != 1:
                raise DoesNotHold(f"{name} has {len(found)} {field} on its title page")
            if found[0].find(True) is not None:
                raise DoesNotHold(
                    f"{name}: {field} is not plain text but holds <{found[0].find(True).name}>"
                )
            if found[0].get_text() != text:
                raise DoesNotHold(
                    f"{name}: {field} is {found[0].get_text()[:60]!r}, in the manifest"
                    f" {str(text)[:60]!r}"
                )
    return f"the same on {len(evidence.pages)} pages"


def active_content(evidence):
    """No page has a script, a handler or a frame that digitlib does not put there: it could change
    what is read.
    """
    allowed = known_scripts()
    for name, page in evidence.pages.items():
        if found := active_parts(page, allowed):
            raise DoesNotHold(f"{name}: {found[0]}")
    return f"nothing foreign on {len(evidence.pages)} pages"


def notebooks(evidence):
    """Each executed notebook ran from top to bottom without an error."""
    books = [
        name
        for name in sorted(evidence.files)
        if name.endswith(".ipynb") and name != "digits_complete.ipynb"
    ]
    if faults := [fault for name in books for fault in notebook_faults(evidence.files[name], name)]:
        raise DoesNotHold("; ".join(faults))
    return f"{len(books)} ran in order, without an error"


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
        raise DoesNotHold(
            f"{len(moved):,} rows are in another fold than the split says, first row {moved[0]}"
        )
    return f"{len(evidence.splits)} folds, split seed {evidence.stated('parameters', 'split_seed')}"


def predictions(evidence):
    """Labels are the published ones, probabilities are probabilities, the digit is the most
    probable.
    """
    table, y = evidence.table, evidence.digits[1]
    if len(wrong := np.flatnonzero(table["label"] != y)):
        raise DoesNotHold(f"{len(wrong):,} labels are not the published ones, first row {wrong[0]}")
    if (table["p"] < 0).any() or np.abs(table["p"].sum(axis=1) - 1).max() > 1e-4:
        raise DoesNotHold("there are rows whose probabilities do not sum to 1")
    best = table["p"].max(axis=1)
    stated = np.take_along_axis(table["p"], table["predicted"].clip(0, 9)[:, None], axis=1)[:, 0]
    if len(
        wrong := np.flatnonzero(
            (stated < best) | (table["predicted"] != table["predicted"].clip(0, 9))
        )
    ):
        raise DoesNotHold(
            f"the digit is not the most probable one in {len(wrong):,} rows, first row {wrong[0]}"
        )
    return f"{len(y):,} rows"


def accuracy(evidence):
    """The scores of ``run.json`` follow from the predictions."""
    hits = evidence.hits
    _same("correct", evidence.stated("scores", "correct", kind=int), int(hits.sum()))
    _same("total", evidence.stated("scores", "total", kind=int), len(hits))
    shares = evidence.stated("scores", "fold_accuracies", kind=list)
    claimed, recomputed = (
        [evidence.stated("scores", "accuracy"), *shares],
        [hits.mean(), *(hits[test].mean() for _, test in evidence.splits)],
    )
    if len(claimed) != len(recomputed) or not np.allclose(
        np.array(claimed, dtype=float), recomputed, rtol=0, atol=1e-9
    ):
        raise DoesNotHold(
            f"accuracy: claimed {claimed[0]} (folds {shares}), recomputed {hits.mean()}"
        )
    return f"{hits.sum():,} of {len(hits):,}, {100 * hits.mean():.2f} %, and each fold's"


def confusion(evidence):
    """The confusion matrix of ``run.json`` follows from the predictions."""
    matrix = np.zeros((10, 10), dtype=int)
    np.add.at(matrix, (evidence.digits[1], evidence.table["predicted"].clip(0, 9)), 1)
    claimed = evidence.stated("scores", "confusion", kind=list)
    if claimed != matrix.tolist():
        raise DoesNotHold("run.json has another matrix than the predictions give")
    return f"100 cells, {matrix.sum() - matrix.trace()} errors"


def figures(evidence):
    """The figures that a reader sees in the pages follow from the predictions."""
    faults, found = compare(evidence)
    if faults:
        raise DoesNotHold(
            "; ".join(faults[:3]) + (f" and {len(faults) - 3} more" if len(faults) > 3 else "")
        )
    if unseen := [what for what, count in found.items() if not count]:
        raise CannotBeChecked(f"not found in the pages: {', '.join(unseen)}")
    return f"{sum(found.values())} figures: {', '.join(found)}"


# Line of the verdict -> check, and the parts (pattern of names) whose damage is this line's fault.
CLAIMS = {
    "manifest": (manifest, MANIFEST),
    "title page": (title_page, None),
    "active content": (active_content, None),
    "notebooks": (notebooks, None),
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


def check(name, evidence):
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
        return (
            "does not hold" if owned and re.fullmatch(owned, error.part) else "cannot be checked"
        ), str(error)
    except Exception as error:  # a stranger's file may provoke anything; it must not end the verdict, nor count as held
        return "does not hold", f"a file is damaged ({type(error).__name__}: {str(error)[:120]})"


NUMBER = r"(\d[\d,]*)"
# "5,514 of 5,620 correct: 98.11 %" and its kin; the share may be missing.
_COUNT = re.compile(
    rf"{NUMBER} of {NUMBER}(?: digits| images| rows)?(?: were)?(?: read)?"
    r" correct(?:ly)?\b(?:\s?[:,(]\s?(\d+(?:\.\d+)?)\s?%)?"
)
_SHARE = re.compile(rf"(\d+\.\d+)\s?% of (?:{NUMBER} )?(?:digits|images|rows) read correctly")
_FOLD = re.compile(r"fold (\d+)/\d+: accuracy (\d+\.\d+) %")
_HANDLER = re.compile(r"on[a-z]+")
_FRAMES = ("iframe", "object", "embed", "base", "frame", "applet")


def compare(evidence):
    """Figures shown in ``index.html``, ``2_train.html`` and ``3_evaluate.html``, against recomputed
    ones.

    Returns
    -------
    list of str, dict
        What differs; and what was found, with its count.
    """
    faults, found = [], {}
    for what, check in (
        ("headline", _headline),
        ("confusion cells", _confusion_cells),
        ("training", _sentences("2_train.html")),
        ("evaluation", _sentences("3_evaluate.html")),
        ("per-fold table", _per_fold),
        ("per-class table", _per_class),
    ):
        found[what] = 0
        for where, claimed, recomputed in check(evidence):
            found[what] += 1
            if not agrees(claimed, recomputed):
                faults.append(f"{where} shows {claimed[:20]}, recomputed {recomputed:.6g}")
    return faults, found


def agrees(text, value):
    """Is `text`, such as "5,514", "0.97" or "98.11 %", the number `value` at the precision in which
    it is written?
    """
    match = re.fullmatch(r"(-?\d[\d,]*(?:\.(\d+))?)\s?(%?)", text.strip())
    if not match:
        return False
    if match[3]:
        value = 100 * value
    return abs(float(match[1].replace(",", "")) - value) <= 0.5 * 10 ** -len(match[2] or "") + 1e-9


def _headline(evidence):
    values = {
        "accuracy": evidence.hits.mean(),
        "correct": evidence.hits.sum(),
        "total": len(evidence.hits),
    }
    for element in evidence.page("index.html").select("[data-claim]"):
        if element["data-claim"] in values:
            text = element.get_text(" ", strip=True)
            share = element["data-claim"] == "accuracy" and "%" not in text
            yield (
                f"index.html, {element['data-claim']},",
                f"{text} %" if share else text,
                values[element["data-claim"]],
            )
    yield from _sentences("index.html")(evidence)


def _confusion_cells(evidence):
    table = evidence.page("index.html").select_one('[data-claim="confusion"]')
    for cell in table.select("[data-true][data-predicted]") if table else ():
        true, predicted = int(cell["data-true"]), int(cell["data-predicted"])
        count = ((evidence.digits[1] == true) & (evidence.table["predicted"] == predicted)).sum()
        yield (
            f"index.html, {true} read as {predicted},",
            re.sub(r"[^\d,]", "", cell.get_text()),
            count,
        )


def _sentences(name):
    """Counts and shares in running text: of all rows, or, if it is that many rows, of some fold."""

    def found(evidence):
        text, hits = evidence.visible(name), evidence.hits
        folds = [hits[test] for _, test in evidence.splits]
        for correct, total, share in _COUNT.findall(text):
            rows = _closest(correct, [hits, *(fold for fold in folds if f"{len(fold):,}" == total)])
            yield f"{name}, correct,", correct, rows.sum()
            yield f"{name}, total,", total, len(rows)
            if share:
                yield f"{name}, accuracy,", f"{share} %", rows.mean()
        for share, total in _SHARE.findall(text):
            yield f"{name}, accuracy,", f"{share} %", hits.mean()
            if total:
                yield f"{name}, total,", total, len(hits)
        for number, share in _FOLD.findall(text):
            if 1 <= int(number) <= len(folds):
                yield (
                    f"{name}, accuracy of fold {number},",
                    f"{share} %",
                    folds[int(number) - 1].mean(),
                )

    return found


def _closest(correct, candidates):
    return next((rows for rows in candidates if f"{rows.sum():,}" == correct), candidates[-1])


def _per_fold(evidence):
    for row, cells in _table(evidence.page("3_evaluate.html"), {"correct", "total", "accuracy"}):
        if row != "all" and not row.isdigit():
            continue  # a line of means or intervals
        chosen = (
            evidence.hits if row == "all" else evidence.hits[evidence.table["fold"] == int(row)]
        )
        values = {"correct": chosen.sum(), "total": len(chosen), "accuracy": chosen.mean()}
        for column in values:
            yield f"3_evaluate.html, {column} of fold {row},", cells[column], values[column]


def _per_class(evidence):
    from sklearn.metrics import precision_recall_fscore_support

    names = ("precision", "recall", "F1", "support")
    values = precision_recall_fscore_support(
        evidence.digits[1], evidence.table["predicted"], labels=np.arange(10), zero_division=0
    )
    for row, cells in _table(evidence.page("3_evaluate.html"), set(names)):
        for column, of_digit in zip(names, values, strict=True):
            yield f"3_evaluate.html, {column} of digit {row},", cells[column], of_digit[int(row)]


def _table(page, wanted):
    """Rows of every table that has the columns `wanted`: first heading, cells by column."""
    for table in page.find_all("table"):
        columns = (
            [cell.get_text(strip=True) for cell in table.find("tr").find_all(["th", "td"])]
            if table.find("tr")
            else []
        )
        if not wanted <= set(columns):
            continue
        for row in table.find_all("tr")[1:]:
            cells = [cell.get_text(strip=True) for cell in row.find_all(["th", "td"])]
            if row.find("td") and len(cells) == len(columns):
                yield cells[0], dict(zip(columns, cells, strict=True))


# ---- what could change a page after it was read --------------------------------------------------


def active_parts(page, allowed):
    """Scripts, handlers and frames of a parsed page that are not among the `allowed`, one line
    each.
    """
    found = [
        f"a script that digitlib did not write: {text[:60]!r}"
        for text in sorted(_scripts(page) - allowed)
    ]
    for element in page.find_all(True):
        if element.name in _FRAMES or (
            element.name == "meta" and "refresh" in str(element.get("http-equiv", "")).lower()
        ):
            found.append(f"<{element.name}> brings in another page")
        for name, value in element.attrs.items():
            if _HANDLER.fullmatch(name.lower()) and f"{name}={value}" not in allowed:
                found.append(f"<{element.name} {name}=...> runs a script")
            if "javascript:" in re.sub(r"\s", "", str(value)).lower():
                found.append(f"<{element.name} {name}> is a script")
    return found


def _scripts(page):
    """Text of each script that a browser would run, with where it is fetched from."""
    data = ("application/json", "application/ld+json", "application/vnd.jupyter.widget-state+json")
    scripts = [
        script
        for script in page.find_all("script")
        if str(script.get("type", "")).lower() not in data
    ]
    return {
        " ".join([script.get("src", ""), *script.get_text().split()]).strip() for script in scripts
    } - {""}


@cache
def known_scripts():
    """The scripts and handlers in pages that digitlib itself makes: those of an empty notebook, and
    those of the templates.
    """
    import tempfile
    from pathlib import Path

    import nbformat
    from bs4 import BeautifulSoup

    from digitlib.reporting import render

    with tempfile.TemporaryDirectory() as scratch:
        notebook = Path(scratch) / "empty.ipynb"
        facts = {
            "recipe": {"name": ""},
            "parameters": {"seed": 0},
            "data": {"sha256": ""},
            "created": "",
            "versions": {"digitlib": ""},
        }
        nbformat.write(
            nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Empty")]), notebook
        )
        texts = [render.write_page(notebook, info=facts).read_text(encoding="utf-8")]
    templates = [
        path
        for path in (files("digitlib.reporting") / "template").iterdir()
        if path.name.endswith((".j2", ".html"))
    ]
    pages = [
        BeautifulSoup(text, "html.parser")
        for text in [*texts, *(path.read_text(encoding="utf-8") for path in templates)]
    ]
    handlers = {
        f"{name}={value}"
        for page in pages
        for tag in page.find_all(True)
        for name, value in tag.attrs.items()
        if name.startswith("on")
    }
    return frozenset(handlers.union(*map(_scripts, pages)))
