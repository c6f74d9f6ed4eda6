"""The commands that ``make`` calls: ``python -m digitlib``."""

import os
import signal
import sys

import click

import digitlib
from digitlib.errors import DigitlibError, NotebookFailed
from digitlib.recipes import RECIPES

# A command imports its room when it is called: help and bad input are answered without torch.


@click.group(no_args_is_help=False, help=digitlib.__doc__)
@click.version_option(digitlib.__version__, prog_name="digitlib", message="%(prog)s %(version)s")
def main_group():
    """Handwritten-digit recognition with reports that can be recomputed."""


def _option(name, default=None, **attributes):
    shown = {"show_default": default is not None} | attributes
    return click.option(f"--{name}", default=default, **shown)


@main_group.command()
@_option("name", metavar="NAME", help="Folder under reports/ (the recipe's name if not given).")
@_option("recipe", "coursework", metavar="RECIPE", help=f"One of {', '.join(RECIPES)}.")
@_option("seed", "0", metavar="N", help="Seed of weights, order and dropout.")
@_option("splits", "4", metavar="N", help="Folds.")
@_option("epochs", metavar="N", help="Passes over the training images (else the recipe's).")
@_option("source", "bundled", metavar="SOURCE", help="bundled, uci, sklearn or a CSV file.")
@_option("scaling", "train", metavar="ROWS", help="Rows for the scaler: train, or all (leaky).")
@click.option("--compare", is_flag=True, help="Also competitors, new writers, learning curve.")
def report(name, compare, **parameters):
    """Run the notebooks and write reports/NAME/."""
    from digitlib.reporting import report as reports

    name = parameters["recipe"] if name is None else name
    folder = reports.make_report(name, reports.check_parameters(**parameters), compare=compare)
    click.echo(reports.summary(folder))
    click.echo(f"open {folder / 'index.html'}")


@main_group.command()
@click.argument("folder")
@click.option("--all", "everything", is_flag=True, help="Also with data; writes checks.json.")
def check(folder, everything):
    """Check a finished report from its own files."""
    from digitlib import checks

    results = checks.check_folder(folder, everything=everything)
    click.echo("\n".join(map(str, results)))
    if everything:
        checks.write(folder, results)
    return int(not all(result.passed for result in results))


@main_group.command()
@_option("run", metavar="FOLDER", help="A finished report to set against the others.")
@_option("recipes", "quick", metavar="NAMES", help="quick, all, or names with commas between.")
@_option("source", metavar="SOURCE", help="As for report (the run's, else bundled).")
def compare(run, recipes, source):
    """Measure recipes and competitors on the same rows."""
    from digitlib import compare as comparisons
    from digitlib import load_digits, runs

    run = None if run is None else runs.load(run)
    source = source or ("bundled" if run is None else run.info["data"]["source"])
    comparison = comparisons.compare(load_digits(source), run, recipes)
    lines = [comparisons.as_text(comparison), *comparisons.conclude(comparison)]
    click.echo("\n".join(lines))


@main_group.command()
@_option("name", required=True, metavar="NAME", help="Folder under reports/.")
@_option("browser", metavar="PATH", help="Chromium or Chrome (searched for if not given).")
@click.option("--code", is_flag=True, help="Print the code too.")
def pdf(name, browser, code):
    """Print a finished report as reports/NAME/NAME.pdf."""
    from digitlib.reporting import pdf as printing

    click.echo(printing.make_pdf(name, browser=browser, code=code))


@main_group.command()
@click.argument("pictures", nargs=-1)
@_option("run", metavar="FOLDER", help="The run, such as reports/best (the newest if not given).")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@_option("images", metavar="FILE", help="A labelled set in MNIST's format, with --labels.")
@_option("labels", metavar="FILE", help="Its labels.")
def predict(**options):
    """Read handwritten digits in PICTURES: PNG, JPEG, ..., one digit or several in a line."""
    from digitlib import reading

    reading.predict(**options)


@main_group.command()
@_option("out", "dist/colab", metavar="FOLDER", help="Where to write them.")
@_option("repo", metavar="OWNER/NAME", help="Install from this GitHub repository, with badges.")
def colab(out, repo):
    """Write notebooks that carry digitlib with them: for Colab, Kaggle, any Jupyter."""
    from digitlib.handin import colab as carried

    for path in carried.build(out, repo):
        click.echo(f"{path}  {path.stat().st_size:,} bytes")


@main_group.command()
@_option("name", required=True, metavar="NAME", help="Folder under reports/.")
@_option("authors", required=True, metavar="AUTHORS", help="As they shall stand on the title page.")
@_option("course", required=True, metavar="COURSE", help="The course.")
@_option("title", required=True, metavar="TITLE", help="The title.")
@_option("out", "dist", metavar="FOLDER", help="Where to write it.")
@click.option("--any-code", is_flag=True, help="Although the code is not what is committed.")
def submission(name, out, any_code, **title_page):
    """Pack reports/NAME into one file to hand in."""
    from digitlib.handin import submission as packing

    path, notes = packing.make_submission(name, title_page, out=out, any_code=any_code)
    click.echo("\n".join([*(f"note: {note}" for note in notes), f"hand in {path}"]))


@main_group.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE.zip...")
@click.option("--retrain", is_flag=True, help="Train again with the recorded seeds, and compare.")
@_option("csv", metavar="MARKS.csv", help="Write one line per submission.")
@_option("out", ".", metavar="FOLDER", help="Where verdict.html and verdict.json go.")
@_option("jobs", type=int, metavar="N", help="Submissions at once (one per core if not given).")
def verify(files, retrain, csv, out, jobs):
    """Tell graders whether what a submission claims holds."""
    from digitlib.handin import verify as verdicts

    return verdicts.verify_files(files, retrain=retrain, marks=csv, out=out, jobs=jobs)


def main(arguments=None):
    """Run one command and end the process.

    Exit code 0; 1: a run failed; 2: bad input; 130: interrupted; 141: nobody reads the output.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # `kill` cleans up as Ctrl-C does
    words = sys.argv[1:] if arguments is None else list(arguments)
    code, said = 2, None
    try:
        with main_group.make_context("digitlib", words) as context:
            code = main_group.invoke(context)
    except click.exceptions.Exit as end:  # of --help and --version
        code = end.exit_code
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "digitlib"
        said = f"{error.format_message().rstrip('.')} (see {command} --help)"
    except DigitlibError as error:
        said = error
    except NotebookFailed as error:
        code, said = 1, error
    except KeyboardInterrupt:
        code = 130
        said = "interrupted; finished folds are kept, the same command goes on from them"
    except BrokenPipeError:  # whoever read the output has gone; what a shell calls SIGPIPE
        os._exit(141)
    if said is not None:
        print(f"digitlib: {said}", file=sys.stderr)
    sys.exit(code)
