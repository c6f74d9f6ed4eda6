"""How does a report get on paper? Its pages, one after another, printed by an installed Chromium or
Chrome.
"""

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from digitlib.errors import DigitlibError, ParameterError, RunError
from digitlib.reporting.report import check_name

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
MAC_BROWSERS = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
TIME_LIMIT = 120  # seconds
MAIN = re.compile(r"<main\b.*?</main>", re.DOTALL)
ANCHOR = re.compile(
    r'\b(id|aria-labelledby|href)="(#?)(?!T_)([\w.%-]+)"'
)  # T_: styled tables, whose style sheets name them


def find_browser(given=None):
    """Path of a Chromium or Chrome.

    Parameters
    ----------
    given : str or None
        What the user named: a path or a command. None: the first one found on PATH, or in a Mac's
        applications.

    Returns
    -------
    str

    Raises
    ------
    ParameterError
        There is none.
    """
    if given:
        found = shutil.which(given)
        if not found:
            raise ParameterError(
                f"browser={given!r}: no such program; give the path of Chromium or Chrome, or leave"
                " it out to have it searched"
            )
        return found
    for name in (*BROWSERS, *MAC_BROWSERS):
        if found := shutil.which(name):
            return found
    raise ParameterError(
        f"no browser found to print with (looked for {', '.join(BROWSERS)}); install Chromium "
        "(apt install chromium, brew install --cask chromium) or name one: --browser PATH"
    )


def make_pdf(name, reports="reports", browser=None, code=False):
    """Print ``reports/<name>/`` as one PDF with outline, page numbers and text that can be
    searched.

    Parameters
    ----------
    name : str
        Of a finished report.
    reports : str or path-like
    browser : str or None
        See :func:`find_browser`.
    code : bool
        Print the notebooks' code too.

    Returns
    -------
    Path
        ``reports/<name>/<name>.pdf``.

    Raises
    ------
    ParameterError, RunError
        No browser, no such report.
    DigitlibError
        The browser failed or took too long.
    """
    folder = Path(reports).resolve() / check_name(name)
    if not (folder / "index.html").is_file():
        raise RunError(f"{folder}: no finished report; make it first: make report NAME={name}")
    program = find_browser(browser)
    target = folder / f"{name}.pdf"
    with tempfile.TemporaryDirectory() as scratch:
        page, part = Path(scratch, "report.html"), Path(scratch, "report.pdf")
        page.write_text(_one_document(folder, code), encoding="utf-8")
        _print(program, page, part, scratch)
        shutil.copyfile(part, target.with_name(f".{target.name}.part"))
        os.replace(target.with_name(f".{target.name}.part"), target)
    return target


def _one_document(folder, code):
    """All pages' text in one HTML document: names made unique, links between pages turned into
    links inside it.
    """
    stems = ["index", *sorted(path.stem for path in folder.glob("[0-9]_*.html"))]
    texts = []
    for stem in stems:
        text = (folder / f"{stem}.html").read_text(encoding="utf-8")

        def rename(match, stem=stem):
            attribute, mark, name = match.groups()
            if attribute != "href":
                return f'{attribute}="{stem}-{name}"'
            if mark:
                return f'href="#{stem}-{name}"'
            other = name.removesuffix(".html")
            return (
                f'href="#{other}-main"' if other in stems and name.endswith(".html") else match[0]
            )

        texts.append(ANCHOR.sub(rename, MAIN.search(text)[0]))
        if stem == "index":
            head = text[: text.index("<body>")]
    body = "\n".join(texts)
    if code:
        body = body.replace('<details class="code">', '<details class="code" open>')
    return f'{head}<body><div class="frame">{body}</div></body></html>'


def _print(program, page, target, scratch):
    command = [
        program,
        "--headless",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--disable-quic",
        f"--user-data-dir={scratch}/profile",
        "--no-pdf-header-footer",
        "--generate-pdf-document-outline",
        f"--print-to-pdf={target}",
        page.as_uri(),
    ]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.insert(
            2, "--no-sandbox"
        )  # Chromium does not start as root, as in a container, with its sandbox
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIME_LIMIT)
    except subprocess.TimeoutExpired:
        raise DigitlibError(
            f"{program}: no PDF within {TIME_LIMIT} s; close other programs and try again, or name"
            " another browser"
        ) from None
    except OSError as error:
        raise ParameterError(
            f"browser={program!r}: cannot be started ({error.strerror}); give the path of Chromium"
            " or Chrome"
        ) from error
    if not target.is_file() or not target.read_bytes().startswith(b"%PDF"):
        said = done.stderr.strip().splitlines()
        raise DigitlibError(
            f"{program}: printed no PDF"
            f" ({said[-1][:200] if said else f'exit code {done.returncode}'}); name another browser"
        )
