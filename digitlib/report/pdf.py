"""Print a report as one PDF: its pages one after another, by an installed Chromium or Chrome."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from digitlib import files
from digitlib.errors import DigitlibError, ParameterError, RunError
from digitlib.report.make import check_name

BROWSERS = (
    *("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"),
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
TIME_LIMIT = 120  # seconds
PRINTED = Path(__file__).with_name("template") / "print.css"
SWITCHES = ("--headless", "--disable-gpu", "--no-first-run", "--disable-background-networking")
SWITCHES += ("--no-pdf-header-footer", "--generate-pdf-document-outline")


def find_browser(given=None):
    """Path of a Chromium or Chrome: the one `given` by path or name, or the first one found.

    Raises
    ------
    ParameterError
        There is none.
    """
    program = next(filter(None, map(shutil.which, [given] if given else BROWSERS)), None)
    if program is None and given:
        raise ParameterError(
            f"browser={given!r}: no such program; give the path of Chromium or Chrome, or leave it"
            " out to have it searched"
        )
    if program is None:
        raise ParameterError(
            f"no browser found to print with (looked for {', '.join(BROWSERS[:5])}); install"
            " Chromium (apt install chromium, brew install --cask chromium) or name one: --browser"
            " PATH"
        )
    return program


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
    with tempfile.TemporaryDirectory(dir=files.scratch(), ignore_cleanup_errors=True) as scratch:
        page, part = Path(scratch, "report.html"), Path(scratch, "report.pdf")
        page.write_text(_one_document(folder, code), encoding="utf-8")
        target = [f"--user-data-dir={scratch}/profile", f"--print-to-pdf={part}", page.as_uri()]
        # As root, as in a container, Chromium does not start with its sandbox.
        as_root = ["--no-sandbox"] * (os.geteuid() == 0)
        try:
            subprocess.run(
                [program, *as_root, *SWITCHES, *target], capture_output=True, timeout=TIME_LIMIT
            )
            made = part.is_file() and part.read_bytes().startswith(b"%PDF")
        except (OSError, subprocess.TimeoutExpired):
            made = False
        if not made:
            raise DigitlibError(
                f"{program}: printed no PDF within {TIME_LIMIT} s; close other programs and try"
                " again, or name another browser: --browser PATH"
            )
        with files.replacing(folder / f"{name}.pdf") as whole:
            shutil.copyfile(part, whole)
    return folder / f"{name}.pdf"


def _one_document(folder, code):
    """The text of all pages in one HTML document; links between them lead within it."""
    stems = ["index", *sorted(path.stem for path in folder.glob("[0-9]_*.html"))]
    pages = {stem: (folder / f"{stem}.html").read_text(encoding="utf-8") for stem in stems}
    head = pages["index"].partition("<body>")[0]
    body = ""
    for stem, text in pages.items():
        text = text.partition("<main ")[2].partition("</main>")[0]
        text = text.replace('id="main"', f'id="{stem}"', 1)
        body += f"<main {text}</main>\n"
    for stem in stems:
        body = body.replace(f'href="{stem}.html"', f'href="#{stem}"')
    if code:
        body = body.replace('<details class="code">', '<details class="code" open>')
    style = f"<style>{PRINTED.read_text('utf-8')}</style>"
    head = head.replace("</head>", f"{style}</head>")
    return f'{head}<body><div class="frame">{body}</div></body></html>'
