"""Which numbers does a page show a reader, and which scripts could change them? Parsed as text,
never opened in a browser.
"""

import json
import re
from functools import cache
from importlib.resources import files

import numpy as np

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


# ---- what could change a page after it was read
# ------------------------------------------------------------------------


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
        (Path(scratch) / "run.json").write_text(json.dumps(facts), encoding="utf-8")
        nbformat.write(
            nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Empty")]), notebook
        )
        texts = [render.write_page(notebook).read_text(encoding="utf-8")]
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
