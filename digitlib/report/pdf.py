"""Print a report as one PDF: its pages one after another, by an installed Chromium or Chrome."""

import os
import re
import shutil
import subprocess
import tempfile
from functools import partial
from pathlib import Path

from digitlib import files
from digitlib.errors import DigitlibError, ParameterError, RunError
from digitlib.report.make import check_name

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
MAC_BROWSERS = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
TIME_LIMIT = 120  # seconds
CODE = re.compile(r'<details class="code">.*?</details>', re.DOTALL)
MAIN = re.compile(r"<main\b.*?</main>", re.DOTALL)
# Not T_...: styled tables, whose style sheets name them.
ANCHOR = re.compile(r'\b(id|aria-labelledby|href)="(#?)(?!T_)([\w.%-]+)"')
PRINTED = Path(__file__).with_name("template") / "print.css"
SWITCHES = (
    "--headless",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
    "--no-pdf-header-footer",
    "--generate-pdf-document-outline",
)


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
    found = filter(None, map(shutil.which, [given] if given else (*BROWSERS, *MAC_BROWSERS)))
    if program := next(found, None):
        return program
    if given:
        raise ParameterError(
            f"browser={given!r}: no such program; give the path of Chromium or Chrome, or leave it"
            " out to have it searched"
        )
    raise ParameterError(
        f"no browser found to print with (looked for {', '.join(BROWSERS)}); install Chromium "
        "(apt install chromium, brew install --cask chromium) or name one: --browser PATH"
    )


def make_pdf(name, reports="reports", browser=None, code=False):
    """Print ``reports/<name>/`` as one PDF: outline, page numbers, text that can be searched.

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
    with tempfile.TemporaryDirectory(dir=files.scratch(), ignore_cleanup_errors=True) as scratch:
        page, part = Path(scratch, "report.html"), Path(scratch, "report.pdf")
        page.write_text(_one_document(folder, code), encoding="utf-8")
        _print(program, page, part, scratch)
        with files.replacing(target) as whole:
            shutil.copyfile(part, whole)
    return target


def _one_document(folder, code):
    """All pages' text in one HTML document, with names made unique and links between pages kept."""
    stems = ["index", *sorted(path.stem for path in folder.glob("[0-9]_*.html"))]
    pages = {stem: (folder / f"{stem}.html").read_text(encoding="utf-8") for stem in stems}
    head, _ = pages["index"].split("<body>", 1)
    body = "\n".join(
        ANCHOR.sub(partial(_rename, stem, stems), MAIN.search(text)[0])
        for stem, text in pages.items()
    )
    if code:
        body = body.replace('<details class="code">', '<details class="code" open>')
    else:  # gone, or it would stand between a heading and its figure
        body = CODE.sub("", body)
    head = head.replace("</head>", f"<style>{PRINTED.read_text('utf-8')}</style></head>")
    return f'{head}<body><div class="frame">{body}</div></body></html>'


def _rename(stem, stems, match):
    """A name or a link with the page it belongs to; a link to a page leads to its start."""
    attribute, mark, name = match.groups()
    if attribute != "href" or mark:
        return f'{attribute}="{mark}{stem}-{name}"'
    page = name.removesuffix(".html")
    return f'href="#{page}-main"' if name.endswith(".html") and page in stems else match[0]


def _print(program, page, target, scratch):
    profile = f"--user-data-dir={scratch}/profile"
    command = [program, *SWITCHES, profile, f"--print-to-pdf={target}", page.as_uri()]
    if os.geteuid() == 0:  # as root, as in a container, Chromium does not start with its sandbox
        command.insert(1, "--no-sandbox")
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
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise DigitlibError(f"{program}: printed no PDF ({said[-1][:200]}); name another browser")
