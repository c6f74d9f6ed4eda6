"""The commands that ``make`` calls: ``python -m digitlib``."""

import importlib
import os
import signal
import sys
import tempfile
from pathlib import Path

import click

import digitlib
from digitlib.errors import DigitlibError, NotebookFailed, ParameterError, plain
from digitlib.recipes import KERNEL, RECIPES

# What remains of a command that was interrupted.
KEPT = {"verify": "; what was judged until now is written"}
# Extras of pyproject.toml that modules are from; of all others, report.
EXTRAS = {"skimage": "picture", "distributed": "cluster"}
SIGNALS = [getattr(signal, name, signal.SIGINT) for name in ("SIGINT", "SIGTERM", "SIGHUP")]


def _room(name):
    """The module ``digitlib.<name>``, imported when a command needs it: help need not wait."""
    return importlib.import_module(f"digitlib.{name}")


def _option(flag, metavar, text, default=None, **settings):
    """An option whose value stays text: whoever uses it checks it and names what is allowed."""
    if default is not None:
        settings |= {"default": default, "show_default": True}
    return click.option(flag, metavar=metavar, help=text, **settings)


def _flag(flag, text, name=None, **settings):
    """An option without a value."""
    return click.option(flag, *[name][: name is not None], is_flag=True, help=text, **settings)


_run_code = _flag("--run-code", "let the run's own model.py be executed, if you trust it")


@click.group(help=digitlib.__doc__, no_args_is_help=False)
@click.version_option(digitlib.__version__, message="digitlib %(version)s")
def commands():
    """All commands, for click."""


@commands.command(help="Run the notebooks and write reports/NAME/.")
@_option("--name", "NAME", "folder under reports/ (default: the recipe's name)")
@_option("--recipe", "RECIPE", ", ".join([*RECIPES, KERNEL]), "coursework")
@_option("--seed", "N", "seed of weights, order and dropout", "0")
@_option("--splits", "N", "folds", "4")
@_option("--folds", "KIND", "how folds are made: kfold or stratified", "kfold")
@_option("--set", "SETTING=VALUE", "change a setting; as often as you like", multiple=True)
@_option("--model", "FILE.py[:NAME]", "a function of yours that takes seed, returns a classifier")
@_option("--epochs", "N", "passes over the training images (default: the recipe's)")
@_option("--source", "SOURCE", "bundled, uci, sklearn or a CSV file", "bundled")
@_option("--scaling", "ROWS", "rows the scaler may see: train, or all (leaky)", "train")
@_option("--engine", "ENGINE", "where folds run: dask://HOST:PORT (default: here)")
@_flag("--compare", "also run 4_compare: competitors, new writers, learning curve")
def report(name, compare, set, engine, **parameters):
    """Check the parameters, make the report, say what came out."""
    making = _room("report.make")
    if engine:
        with _room("report.cluster").engine(engine):  # that it answers
            os.environ[_room("report.cluster").ENGINE] = engine
    checked = making.check_parameters(changes=set, **parameters)
    usual = Path((parameters["model"] or parameters["recipe"]).split(":")[0]).stem
    name = usual if name is None else name
    folder = making.make_report(name, checked, compare=compare, say=print)
    print(plain(f"open {folder / 'index.html'}"))


@commands.command(help="Check a finished report from its own files, such as reports/coursework.")
@click.argument("folder", metavar="FOLDER")
@_flag("--all", "also what needs the data; without --ignore, writes checks.json", "everything")
@_option("--ignore", "CODE", "leave out a check; as often as you like", multiple=True)
@_run_code
def check(folder, everything, ignore, run_code):
    """Print one line for each check; 1 if one did not pass."""
    checks = _room("checks")
    results = checks.check_folder(folder, everything, run_code, ignore)
    lines = {code: f"{code} ignored: {checks.CHECKS[code].title}" for code in ignore}
    lines |= {result.code: str(result) for result in results}
    print(*(lines[code] for code in sorted(lines)), sep="\n")
    if everything and not ignore:
        checks.write(folder, results)
    return int(any(result.passed is False for result in results))


@commands.command(help="Print a finished report as reports/NAME/NAME.pdf.")
@_option("--name", "NAME", "folder under reports/", required=True)
@_option("--browser", "PATH", "Chromium or Chrome (default: searched for)")
@_flag("--code", "print the code too")
def pdf(name, browser, code):
    """Print where the PDF is."""
    print(_room("report.pdf").make_pdf(name, browser=browser, code=code))


@commands.command(help="Read handwritten digits in pictures: one, or some in a line.")
@click.argument("pictures", nargs=-1, metavar="[PICTURE]...")
@_option("--run", "FOLDER", "the run (default: the newest of handwriting, else the newest)")
@_flag("--json", "print JSON", "as_json")
@_option("--show", "FILE.png", "write the picture with boxes, readings and what was left out")
@_run_code
def predict(pictures, show, **options):
    """Print what was read. What cannot be read is told before torch is loaded."""
    handwriting = _room("handwriting.find")
    if not pictures:
        raise ParameterError("no picture given; try `digitlib predict photo.jpg`")
    if show is not None and len(pictures) != 1:
        raise ParameterError(f"--show takes one picture, not {len(pictures)}; name one")
    found = [(path, handwriting.find_digits(path)) for path in pictures]
    _room("handwriting.read").predict(found, picture=show, **options)


@commands.command(help="Write one notebook that carries digitlib: Colab, Kaggle, any Jupyter.")
@_option("--out", "FOLDER", "where to write it", "dist/colab")
@_option("--repo", "OWNER/NAME", "install from this GitHub repository instead")
def colab(out, repo):
    """Print what was written."""
    path = _room("handin.colab").build(out, repo)
    print(f"{path}  {path.stat().st_size:,} bytes")


@commands.command(help="Pack reports/NAME into one file to hand in.")
@_option("--name", "NAME", "folder under reports/", required=True)
@_option("--authors", "AUTHORS", "as they shall stand on the title page", required=True)
@_option("--course", "COURSE", "the course", required=True)
@_option("--title", "TITLE", "the title", required=True)
@_option("--out", "FOLDER", "where to write it", "dist")
def submission(name, out, **title_page):
    """Print what is to be known of the file, and where it is."""
    path, notes = _room("handin.pack").pack(name, title_page, out=out)
    for note in notes:
        print(f"note: {note}")
    print(f"hand in {path}")


@commands.command(help="Does what a hand-in claims hold? For graders: files, folders, downloads.")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@_option("--csv", "MARKS.csv", "write one line per hand-in")
@_option("--out", "FOLDER", "where verdicts and pages go", ".")
@_option("--against", "FOLDER", "earlier hand-ins, to find copies of them")
@_option("--jobs", "N", "hand-ins at once (default: one per core)", type=int)
@_option("--timeout", "SECONDS", "for one hand-in, beside its training", 120, type=float)
@_flag("--retrain/--no-retrain", "repeat trainings for any time, or not at all", default=None)
@_flag("--run-student-code", "let a student's own model.py run, within limits", "run_code")
def verify(paths, csv, **options):
    """Judge each hand-in; the exit code is the judge's."""
    return _room("handin.grade").verify(paths, marks=csv, **options)


def main(arguments=None):
    """Run one command and exit.

    Exit codes: 0; 1, a run failed; 2, bad input; 130, interrupted; 141, nobody reads the output.
    """
    _open_what_is_closed()
    if sys.flags.optimize > 1:
        _fail(2, "python -OO removes texts that libraries need; leave out -OO (PYTHONOPTIMIZE)")
    _speak_utf8(arguments)
    for number in SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup does
            signal.signal(number, _interrupt)
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        # Not commands.main(), which has its own words and exit codes for errors and interrupts.
        with commands.make_context("digitlib", arguments) as context:
            code = commands.invoke(context)
        sys.exit(code)
    except click.exceptions.Exit as done:  # --help, --version
        sys.exit(done.exit_code)
    except click.UsageError as error:  # without a context: a command's option lacks its value
        path = error.ctx.command_path if error.ctx else f"digitlib {arguments[0]}"
        _fail(2, f"{_one_line(error)} (see {path} --help)")
    except DigitlibError as error:
        _fail(2, error)
    except NotebookFailed as error:
        _fail(1, error)
    except KeyboardInterrupt:
        _fail(130, f"interrupted{KEPT.get(*arguments[:1], '')}")
    except ModuleNotFoundError as error:
        _fail(1, _missing((error.name or "").split(".")[0]))
    except BrokenPipeError:  # whoever read the output has gone; what a shell calls SIGPIPE
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes at its end
        sys.exit(141)
    except OSError as error:  # a full disk, a folder that may not be written
        _fail(1, _room("files").trouble(error, Path("reports"), tempfile.gettempdir()))


def _interrupt(number, frame):
    """Stop, and clean up in peace: a second Ctrl-C shall not leave half of it undone."""
    for each in SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


def _open_what_is_closed():
    """Give input and outputs that whoever called has closed a place where nothing happens."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # the next file to be opened would take its number
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 - as long as we live


def _speak_utf8(arguments):
    """Begin anew in UTF-8 where the locale would not take names and pages as they are."""
    if arguments is None and sys.getfilesystemencoding() != "utf-8" and os.name == "posix":
        os.environ["PYTHONUTF8"] = "1"
        # As it began: -m would import from the current folder, perhaps an unpacked hand-in.
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    if arguments is None:  # PYTHONIOENCODING may say otherwise: a star in a title ends nothing
        sys.stdout.reconfigure(errors="backslashreplace")


def _fail(code, message):
    print(f"digitlib: {plain(str(message))}", file=sys.stderr)
    sys.exit(code)


def _missing(module):
    """What to do where `module` is not there: one of an extra, or of Unix."""
    if module in ("fcntl", "resource"):
        return f"this needs Linux or macOS (Python has no {module} here)"
    extra = EXTRAS.get(module, "report")
    return f"{module} is not installed; in the project's folder: pip install -e '.[{extra}]'"


def _one_line(error):
    """Click's words in the style of our own: one line, a small letter first, no full stop."""
    words = " ".join(error.format_message().split()).removesuffix(".")
    return words[:1].lower() + words[1:]
