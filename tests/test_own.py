"""Your own model: any network, any classifier, any setting, told truthfully on every page."""

import json
import shlex
import shutil

import nbformat
import numpy as np
import pytest
from conftest import judged_line
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold, StratifiedKFold, cross_val_predict
from torch import nn

from digitlib import DigitClassifier, cross_validate, load_digits, own, provenance, runs
from digitlib.errors import ParameterError, RunError
from digitlib.handin import submission, verify

CLASSIFIER = """
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def model(seed):
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=200, random_state=seed))
"""
NETWORK = """
import torch
from torch import nn

from digitlib import DigitClassifier


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.one, self.two = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))

    def forward(self, x):
        return torch.relu(x + self.two(torch.relu(self.one(x))))


class Residual(nn.Sequential):
    def __init__(self, side, n_classes):
        first, last = nn.Conv2d(1, 8, 3, padding=1), nn.Linear(8 * (side // 2) ** 2, n_classes)
        super().__init__(first, Block(8), nn.MaxPool2d(2), nn.Dropout(0.3), nn.Flatten(), last)


def model(seed):
    return DigitClassifier("coursework", seed, network=Residual, epochs=1)
"""
TITLE_PAGE = {"authors": "Ada Lovelace", "course": "Learning 1", "title": "Digits, read"}


@pytest.fixture(scope="module")
def digits():
    return load_digits("sklearn")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Write a model file; returns its path as text."""

    def write(text, name="mine.py"):
        path = tmp_path_factory.mktemp("model") / name
        path.write_text(text)
        return str(path)

    return write


def flat(side, n_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(side * side, n_classes))


# ---- settings ------------------------------------------------------------------------------------


def test_settings_of_a_recipe_are_changed_and_named(digits, tmp_path):
    changes = {"dropout": 0.3, "schedule": "one-cycle"}
    classifier = DigitClassifier("coursework", 0, changes=changes, epochs=1)
    result = cross_validate(classifier, digits.data, digits.target, n_splits=2, progress="off")
    info = runs.load(runs.save(result, digits, tmp_path / "run", seed=0)).info
    assert info["model"]["kind"] == "settings"
    assert info["model"]["changed"]["dropout"] == [0.3, 0.5]
    assert runs.label({**info, "code": {}}) == (
        "coursework, changed: epochs 1 (10), schedule one-cycle (step), dropout 0.3 (0.5)"
    )
    assert runs.summary(info) != info["recipe"]["summary"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"dropuot": 0.3}, "setting 'dropuot' is unknown; those that can be changed are: network"),
        ({"dropout": 2}, "dropout=2: takes a number 0..0.95"),
        ({"filters": 8}, "filters=8 has no effect on recipe coursework"),
        ({"network": "own"}, "network='own' needs a function"),
    ],
)
def test_changes_that_cannot_be_get_one_line(changes, says):
    with pytest.raises(ParameterError, match=says):
        DigitClassifier("coursework", changes=changes).settings()


# ---- networks ------------------------------------------------------------------------------------


def test_an_own_network_has_the_same_bits_however_many_folds_run_at_once(digits, file):
    classifier = own.from_file(file(NETWORK), 3)
    one, two, four = (
        cross_validate(classifier, digits.data, digits.target, n_jobs=n, progress="off")
        for n in (1, 2, 4)
    )
    assert np.array_equal(one.probabilities, two.probabilities)
    assert np.array_equal(one.probabilities, four.probabilities)
    assert one.accuracy > 0.2, "far above chance, after one epoch"
    other = cross_validate(own.from_file(file(NETWORK), 4), digits.data, digits.target)
    assert not np.array_equal(one.probabilities, other.probabilities)


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (
            lambda side, n: nn.Sequential(nn.Flatten(), nn.Linear(9, n)),
            r"layer 1 \(Linear\).*2, 64",
        ),
        (lambda side, n: flat(side, 7), r"gave \(2, 7\) for 2 images; takes \(2, 10\)"),
        (lambda side, n: nn.Flatten(), "no parameters that can be learned"),
        (lambda side, n: "net", "gave str, not a torch.nn.Module"),
    ],
    ids=["wrong_layer", "wrong_output", "nothing_to_learn", "no_module"],
)
def test_a_network_that_cannot_work_gets_one_line(digits, build, says):
    with pytest.raises(ParameterError, match=says) as caught:
        DigitClassifier("coursework", 0, network=build).fit(digits.data[:99], digits.target[:99])
    assert "\n" not in str(caught.value)


def test_a_parameter_that_the_network_does_not_use_is_left_alone(digits):
    class Spare(nn.Module):
        def __init__(self, side, n_classes):
            super().__init__()
            self.used, self.spare = flat(side, n_classes), nn.Linear(3, 3)

        def forward(self, x):
            return self.used(x)

    classifier = DigitClassifier("coursework", 0, network=Spare, epochs=1)
    assert len(classifier.fit(digits.data[:200], digits.target[:200]).history_) == 1


def test_a_loss_that_is_no_number_any_more_is_told(digits):
    class Exploding(nn.Module):
        def __init__(self, side, n_classes):
            super().__init__()
            self.flat = flat(side, n_classes)

        def forward(self, x):
            return self.flat(x) * (float("nan") if self.training else 1)

    classifier = DigitClassifier("coursework", 0, network=Exploding)
    with pytest.raises(ParameterError, match=r"the loss became nan in epoch 1.*learning_rate"):
        classifier.fit(digits.data[:99], digits.target[:99])


def test_a_recipe_that_trains_no_network_takes_none():
    with pytest.raises(ParameterError, match="recipe instant trains no network"):
        DigitClassifier("instant", network=flat).settings()


# ---- any classifier ------------------------------------------------------------------------------


@pytest.mark.parametrize("folds", ["kfold", "stratified"])
def test_predictions_are_those_of_scikit_learn_row_by_row(digits, folds):
    classifier = RandomForestClassifier(30, random_state=1)
    ours = cross_validate(classifier, digits.data, digits.target, folds=folds, progress="off")
    cv = {"kfold": KFold, "stratified": StratifiedKFold}[folds](4, shuffle=True, random_state=30)
    options = {"cv": cv, "method": "predict_proba"}
    theirs = cross_val_predict(classifier, digits.data, digits.target, **options)
    assert np.array_equal(ours.probabilities, theirs)


def test_a_splitter_that_holds_a_row_out_twice_is_refused(digits):
    twice = [(np.arange(900, 1797), np.arange(900))] * 2
    splitter = type("Twice", (), {"split": lambda *_: iter(twice)})()
    with pytest.raises(ParameterError, match=r"holds out row 0 2 times"):
        cross_validate(LogisticRegression(), digits.data, digits.target, cv=splitter)


@pytest.mark.parametrize("text", [CLASSIFIER, NETWORK], ids=["classifier", "network"])
def test_kept_models_give_the_same_predictions_when_read_back(digits, file, tmp_path, text):
    spec = file(text)
    classifier = own.from_file(spec, 0)
    result = cross_validate(classifier, digits.data, digits.target, n_splits=2, progress="off")
    source = own.source_of(spec)
    folder = runs.save(result, digits, tmp_path / "run", seed=0, source=source)
    info = json.loads((folder / "run.json").read_text())
    assert (folder / "model.py").read_text() == text
    assert info["model"]["kind"] == ("estimator" if text == CLASSIFIER else "network")
    again = runs.load_model(folder, run_code=True).estimators[0].predict_proba(digits.data[:50])
    assert np.array_equal(again, result.estimators[0].predict_proba(digits.data[:50]))


def test_code_beside_a_run_is_not_executed_unasked(digits, file, tmp_path):
    classifier = own.from_file(file(NETWORK), 0)
    result = cross_validate(classifier, digits.data, digits.target, n_splits=2, progress="off")
    folder = runs.save(result, digits, tmp_path / "run", seed=0, source=NETWORK)
    (folder / "model.py").write_text("raise SystemExit('it ran')")
    with pytest.raises(RunError, match=r"would run that code; if you trust it, .*--run-code"):
        runs.load_model(folder)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("def model(seed)\n    pass", "line 1: not Python"),
        ("def other(seed):\n    return 1", "has no function model"),
        ("def model(seed):\n    return 1 / 0", "line 2: ZeroDivisionError: division by zero"),
        ("def model(seed):\n    return 1", r"model\(seed\) returned int, not a classifier"),
        ("import no_such_module\ndef model(seed): pass", "line 1: ModuleNotFoundError"),
    ],
)
def test_a_file_that_gives_no_classifier_gets_one_line(file, text, says):
    with pytest.raises(ParameterError, match=says) as caught:
        own.from_file(file(text), 0)
    assert "\n" not in str(caught.value)


def test_the_command_line_refuses_what_it_can_before_anything_starts(digitlib_command, tmp_path):
    (tmp_path / "bad.py").write_text("x = 1\n")
    for words, says in (
        (("--model", "none.py"), "no such file"),
        (("--model", "bad.py"), "has no function model"),
        (("--model", "bad.txt"), "takes my_model.py or my_model.py:function"),
        (("--set", "dropout"), "takes setting=value, such as dropout=0.3"),
        (("--set", "dropout=0.3", "--model", "bad.py"), "set has no effect beside model"),
        (("--folds", "leave-one-out"), "takes kfold or stratified"),
    ):
        done = digitlib_command("report", *words, cwd=tmp_path)
        assert done.returncode == 2 and says in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "reports").exists()


# ---- reports, made again from their own page, handed in and judged -----------------------------


@pytest.fixture(scope="module", params=["classifier", "network", "settings"])
def report(request, digitlib_command, tmp_path_factory):
    """A finished report of each kind of model, its working folder and its name."""
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "mine.py").write_text(NETWORK if request.param == "network" else CLASSIFIER)
    words = ("--model", "mine.py") if request.param != "settings" else ("--set", "layers=8p 8p")
    if request.param == "settings":
        words = ("--recipe", "balanced", "--name", "mine", *words, "--set", "epochs=1")
    done = digitlib_command(
        "report",
        *words,
        "--source",
        "sklearn",
        "--splits",
        "3",
        "--folds",
        "stratified",
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    return request.param, folder


WORDS = {
    "classifier": "own classifier StandardScaler + LogisticRegression",
    "network": "own network Residual, trained as coursework, changed: epochs 1 (10)",
    "settings": "balanced, changed: layers 8p 8p (16 32p 64), epochs 1 (3)",
}


def test_every_page_says_what_was_run(report):
    kind, folder = report
    pages = sorted((folder / "reports" / "mine").glob("*.html"))
    # A page to draw on takes a network of ours.
    assert len(pages) == (6 if kind == "settings" else 5)
    assert all(WORDS[kind] in page.read_text() for page in pages)
    assert WORDS[kind] in (folder / "reports" / "index.html").read_text()


def test_the_command_on_the_page_makes_the_same_predictions(report, digitlib_command):
    _, folder = report
    page = (folder / "reports" / "mine" / "index.html").read_text()
    command = page.split('<pre class="command"><code>')[1].split("</code>")[0]
    words = command.replace("&#39;", "'").removeprefix("python -m digitlib ")
    before = (folder / "reports" / "mine" / "predictions.csv").read_bytes()
    done = digitlib_command(*shlex.split(words), cwd=folder)
    assert done.returncode == 0, done.stderr
    assert (folder / "reports" / "mine" / "predictions.csv").read_bytes() == before


def test_the_verdict_says_what_can_be_checked(report, tmp_path):
    kind, folder = report
    reports = folder / "reports"
    packed, notes = submission.make_submission("mine", TITLE_PAGE, reports, tmp_path, any_code=True)
    verdict = verify.verify(packed)
    lines = {line["claim"]: (line["verdict"], line["why"]) for line in verdict["claims"]}
    assert not [one for one in lines.items() if one[1][0] == "does not hold"]
    if kind == "settings":
        assert verdict["verdict"] == "holds"
        return
    assert verdict["verdict"] == "holds in part"
    assert "the student's own" in lines["probabilities"][1]
    judged = judged_line(packed, "probabilities", tmp_path / "it", run_code=True)
    assert judged[0] == "holds", judged
    assert any("your own" in note for note in notes)


def test_changed_code_is_shown_not_called_damaged(small_report, tmp_path, monkeypatch):
    """The student typed 5x5 kernels into model.py; the grader's digitlib has 3x3."""
    copy = shutil.copytree(small_report, tmp_path / "reports" / "small")
    ours = provenance.sources()
    theirs = {**ours, "digitlib/model.py": ours["digitlib/model.py"] + "KERNEL = 5\n"}
    weights = copy / "fold-1.safetensors"
    wide = DigitClassifier("coursework", 0, changes={"network": "compact", "layers": "8"}, epochs=1)
    data = load_digits("sklearn")
    header = json.loads((copy / "run.json").read_text())
    fitted = wide.fit(data.data[:200], data.target[:200])
    fitted.recipe_ = DigitClassifier.load(weights).recipe_
    facts = {"fold": 1, "seed": 3, "split_seed": 30, "data": header["data"]["sha256"]}
    fitted.history_ = DigitClassifier.load(weights).history_
    fitted.save(weights, **facts)
    header["code"] |= {"sha256": provenance.hash_sources(theirs), "changed": ["digitlib/model.py"]}
    (copy / "run.json").write_text(json.dumps(header))
    monkeypatch.setattr(provenance, "sources", lambda: theirs)
    packed, _ = submission.make_submission(
        "small", TITLE_PAGE, tmp_path / "reports", tmp_path, any_code=True
    )
    monkeypatch.undo()
    found, why = judged_line(packed, "code", tmp_path / "one")
    assert found == "cannot be checked" and "digitlib/model.py" in why
    found, why = judged_line(packed, "probabilities", tmp_path / "two")
    assert found == "cannot be checked" and why.startswith(
        "the student changed digitlib/model.py: "
    )
    verdict = verify.verify(packed)
    assert "+KERNEL = 5" in verdict["code"]
    assert verdict["verdict"] == "holds in part"


# ---- in a notebook -------------------------------------------------------------------------------


def test_a_model_written_in_the_notebook_is_kept_as_a_file_that_makes_it(tmp_path, monkeypatch):
    """2_train with the line replaced and a class in a cell before it, run by a real kernel."""
    from digitlib.reporting import kernels

    book = nbformat.read(kernels.notebook_folder() / "2_train.ipynb", 4)
    at = next(i for i, c in enumerate(book.cells) if "model" in c.metadata.get("tags", ()))
    definitions, line = NETWORK.split("def model(seed):")
    book.cells[at].source = line.strip().replace("return", "classifier =")
    book.cells.insert(at, nbformat.v4.new_code_cell(definitions.strip()))
    nbformat.write(book, tmp_path / "2_train.ipynb")
    for name in (*kernels.ENVIRONMENT, "IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "PYTHONPATH"):
        monkeypatch.setenv(name, "")
    kernels.prepare_environment(tmp_path)
    values = {"source": "sklearn", "splits": 2, "seed": 5, "run": "run"}
    kernels.run(tmp_path / "2_train.ipynb", tmp_path / "done.ipynb", values, tmp_path)
    run = runs.load(tmp_path / "run", run_code=True)
    assert (run.kind, run.info["model"]["name"]) == ("network", "Residual")
    digits = load_digits("sklearn")
    again = cross_validate(
        own.from_file(str(tmp_path / "run" / "model.py"), 5),
        digits.data,
        digits.target,
        n_splits=2,
        progress="off",
    )
    assert np.allclose(again.probabilities, run.probabilities, atol=1e-8)


def test_saved_outputs_and_the_line_of_ones_own_are_no_changed_code():
    text = json.dumps(
        {
            "cells": [
                {"cell_type": "code", "metadata": {}, "source": "a = 1", "outputs": []},
                {
                    "cell_type": "code",
                    "metadata": {"tags": ["model"]},
                    "source": "mine",
                    "outputs": [],
                },
                {"cell_type": "markdown", "metadata": {}, "source": "words"},
            ]
        }
    )
    ran = text.replace('"outputs": []', '"outputs": [1]').replace("mine", "SVC()")
    assert provenance.notebook_code(ran) == provenance.notebook_code(text) == "a = 1\n"
    assert provenance.notebook_code(text.replace("a = 1", "a = 2")) != "a = 1\n"


def test_notebooks_without_a_run_say_what_to_do_in_a_notebook(tmp_path):
    with pytest.raises(RunError, match=r"run 2_train.ipynb first, or set `run`$"):
        runs.newest_run(tmp_path, notebook=True)
