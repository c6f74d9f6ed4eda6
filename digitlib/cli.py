"""The commands that ``make`` calls: ``python -m digitlib``."""

import argparse
import os
import signal
import sys

import digitlib
from digitlib.errors import DigitlibError, NotebookFailed, ParameterError
from digitlib.recipes import RECIPES


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, where argparse would print the usage as well."""

    def error(self, message):
        raise ParameterError(f"{message} (see {self.prog} --help)")


def _parser():
    parser = _Parser(prog="digitlib", description=digitlib.__doc__, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"digitlib {digitlib.__version__}")
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", parser_class=_Parser
    )

    report = commands.add_parser(
        "report", help="run the notebooks and write reports/NAME/", allow_abbrev=False
    )
    report.add_argument(
        "--name", metavar="NAME", help="folder under reports/ (default: the recipe's name)"
    )
    report.add_argument(
        "--recipe",
        default="coursework",
        metavar="RECIPE",
        help=f"{', '.join(RECIPES)} (default: %(default)s)",
    )
    report.add_argument(
        "--seed",
        default="0",
        metavar="N",
        help="seed of weights, order and dropout (default: %(default)s)",
    )
    report.add_argument("--splits", default="4", metavar="N", help="folds (default: %(default)s)")
    report.add_argument(
        "--epochs", metavar="N", help="passes over the training images (default: the recipe's)"
    )
    report.add_argument(
        "--source",
        default="bundled",
        metavar="SOURCE",
        help="bundled, uci, sklearn or a CSV file (default: %(default)s)",
    )
    report.add_argument(
        "--scaling",
        default="train",
        metavar="ROWS",
        help="rows the scaler may see: train, or all (leaky; default: %(default)s)",
    )
    report.add_argument(
        "--compare",
        action="store_true",
        help="also run 4_compare: competitors, new writers, learning curve",
    )
    report.set_defaults(run=_report)

    check = commands.add_parser(
        "check", help="check a finished report from its own files", allow_abbrev=False
    )
    check.add_argument("folder", metavar="FOLDER", help="such as reports/coursework")
    check.add_argument(
        "--all",
        action="store_true",
        help="also what needs data and a little training; writes checks.json",
    )
    check.set_defaults(run=_check)

    compare = commands.add_parser(
        "compare", help="recipes and competitors on the same rows", allow_abbrev=False
    )
    compare.add_argument(
        "--run", dest="folder", metavar="FOLDER", help="a finished report to set against the others"
    )
    compare.add_argument(
        "--recipes",
        default="quick",
        metavar="NAMES",
        help="quick, all, or names with commas between (default: %(default)s)",
    )
    compare.add_argument(
        "--source", metavar="SOURCE", help="as for report (default: the run's, else bundled)"
    )
    compare.set_defaults(run=_compare)

    pdf = commands.add_parser(
        "pdf", help="print a finished report as reports/NAME/NAME.pdf", allow_abbrev=False
    )
    pdf.add_argument("--name", required=True, metavar="NAME", help="folder under reports/")
    pdf.add_argument("--browser", metavar="PATH", help="Chromium or Chrome (default: searched for)")
    pdf.add_argument("--code", action="store_true", help="print the code too")
    pdf.set_defaults(run=_pdf)

    predict = commands.add_parser(
        "predict", help="read handwritten digits in pictures", allow_abbrev=False
    )
    predict.add_argument(
        "pictures",
        nargs="*",
        metavar="PICTURE",
        help="PNG, JPEG, ...: one digit, or several in a line",
    )
    predict.add_argument(
        "--run",
        dest="run_folder",
        metavar="FOLDER",
        help="the run, such as reports/best (default: the newest)",
    )
    predict.add_argument("--json", action="store_true", help="print JSON")
    predict.add_argument(
        "--images",
        metavar="FILE",
        help="a labelled set in MNIST's format, with --labels: accuracy and confusions",
    )
    predict.add_argument("--labels", metavar="FILE", help="its labels")
    predict.set_defaults(run=_predict)

    _add_colab(commands)
    _add_submission(commands)
    _add_verify(commands)
    return parser


def _add_colab(commands):
    colab = commands.add_parser(
        "colab",
        help="write notebooks that carry digitlib with them: Colab, Kaggle, any Jupyter",
        allow_abbrev=False,
    )
    colab.add_argument(
        "--out",
        default="dist/colab",
        metavar="FOLDER",
        help="where to write them (default: %(default)s)",
    )
    colab.add_argument(
        "--repo",
        metavar="OWNER/NAME",
        help="install from this GitHub repository instead, with badges",
    )
    colab.set_defaults(run=_colab)


def _colab(arguments):
    from digitlib.handin import colab

    for path in colab.build(arguments.out, arguments.repo):
        print(f"{path}  {path.stat().st_size:,} bytes")


def _add_submission(commands):
    submission = commands.add_parser(
        "submission", help="pack reports/NAME into one file to hand in", allow_abbrev=False
    )
    submission.add_argument("--name", required=True, metavar="NAME", help="folder under reports/")
    for field, help_ in (
        ("authors", "as they shall stand on the title page"),
        ("course", "the course"),
        ("title", "the title"),
    ):
        submission.add_argument(f"--{field}", required=True, metavar=field.upper(), help=help_)
    submission.add_argument(
        "--out", default="dist", metavar="FOLDER", help="where to write it (default: %(default)s)"
    )
    submission.add_argument(
        "--any-code",
        action="store_true",
        help="hand in although the run's code is not what is committed; the manifest notes it",
    )
    submission.set_defaults(run=_submission)


def _submission(arguments):
    from digitlib.handin import submission

    title_page = {field: getattr(arguments, field) for field in submission.TITLE_PAGE}
    path, notes = submission.make_submission(
        arguments.name, title_page, out=arguments.out, any_code=arguments.any_code
    )
    for note in notes:
        print(f"note: {note}")
    print(f"hand in {path}")


def _add_verify(commands):
    verify = commands.add_parser(
        "verify", help="does what a submission claims hold? for graders", allow_abbrev=False
    )
    verify.add_argument("files", nargs="+", metavar="FILE.zip", help="submissions")
    verify.add_argument(
        "--retrain",
        action="store_true",
        help="train again with our own code and the recorded seeds, and compare",
    )
    verify.add_argument("--csv", metavar="MARKS.csv", help="write one line per submission")
    verify.add_argument(
        "--out",
        default=".",
        metavar="FOLDER",
        help="where verdict.html and verdict.json go (default: here)",
    )
    verify.add_argument(
        "--jobs", type=int, metavar="N", help="submissions at once (default: one per core)"
    )
    verify.set_defaults(run=_verify)


def _verify(arguments):
    from digitlib.handin import verify

    return verify.verify_files(
        arguments.files,
        retrain=arguments.retrain,
        marks=arguments.csv,
        out=arguments.out,
        jobs=arguments.jobs,
    )


def _report(arguments):
    from digitlib.reporting import report

    names = ("recipe", "seed", "splits", "epochs", "source", "scaling")
    parameters = report.check_parameters(**{name: getattr(arguments, name) for name in names})
    name = arguments.recipe if arguments.name is None else arguments.name
    folder = report.make_report(name, parameters, compare=arguments.compare)
    print(report.verdict(folder))
    print(report.checks_summary(folder))
    print(f"open {folder / 'index.html'}")


def _check(arguments):
    from digitlib import checks

    results = checks.check_folder(arguments.folder, everything=arguments.all)
    print(*results, sep="\n")
    if arguments.all:
        checks.write(arguments.folder, results)
    return int(not all(result.passed for result in results))


def _compare(arguments):
    from digitlib import compare, load_digits, runs

    run = None if arguments.folder is None else runs.load(arguments.folder)
    source = arguments.source or ("bundled" if run is None else run.info["data"]["source"])
    comparison = compare.compare(load_digits(source), run, arguments.recipes)
    print(compare.as_text(comparison), *compare.conclude(comparison), sep="\n")


def _pdf(arguments):
    from digitlib.reporting import pdf

    print(pdf.make_pdf(arguments.name, browser=arguments.browser, code=arguments.code))


def _predict(arguments):
    from digitlib import reading

    reading.predict(
        arguments.pictures,
        run=arguments.run_folder,
        as_json=arguments.json,
        images=arguments.images,
        labels=arguments.labels,
    )


def main(arguments=None):
    """Run one command; exit code 0, 1 (a run failed), 2 (bad input), 130 (interrupted) or 141
    (nobody reads the output).
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # `kill` cleans up as Ctrl-C does
    try:
        parsed = _parser().parse_args(arguments)
        sys.exit(parsed.run(parsed))
    except DigitlibError as error:
        print(f"digitlib: {error}", file=sys.stderr)
        sys.exit(2)
    except NotebookFailed as error:
        print(f"digitlib: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print(
            "digitlib: interrupted; finished folds are kept, the same command goes on from them",
            file=sys.stderr,
        )
        sys.exit(130)
    except BrokenPipeError:  # whoever read the output has gone; what a shell calls SIGPIPE
        os._exit(141)
