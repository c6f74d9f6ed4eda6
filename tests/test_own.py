"""Your own model: any network, any classifier, any setting, told truthfully on every page."""

import html
import json
import os
import re
import shlex
import shutil
from functools import cache
from importlib.resources import files

import nbformat
import numpy as np
import pytest
import skops.io
import torch
from numpy.f2py.crackfortran import myeval
from sklearn.calibration import CalibratedClassifierCV
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.gaussian_process.kernels import RBF, WhiteKernel
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier
from torch import nn

from digitlib import DigitClassifier, cli, cross_validate, load_digits, own, runs
from digitlib.compare.competitors import HardVotes
from digitlib.compare.kernel import FilterKernel
from digitlib.errors import ParameterError, RunError
from digitlib.provenance import notebook_folder
from digitlib.report import forks, index, kernels

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
SETTINGS = DigitClassifier("accurate", 0, changes={"layers": "8p 8p"}, epochs=1)


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


# ---- settings ------------------------------------------------------------------------------------


def test_what_was_run_is_named():
    facts = own.facts(SETTINGS)
    assert facts["model"]["kind"] == "recipe"
    assert own.changed(facts) == {"epochs": (1, 9), "layers": ("8p 8p", "16 32p 64 64p")}
    assert own.label(facts) == "accurate, changed: epochs 1 (9), layers 8p 8p (16 32p 64 64p)"
    assert own.summary(facts) != facts["recipe"]["summary"]
    assert own.label(own.facts(FilterKernel(3))) == "kernel"
    other = own.facts(make_pipeline(StandardScaler(), FilterKernel(gamma=1)))
    assert own.label(other) == "own classifier StandardScaler + FilterKernel"


def test_parameters_of_a_network_count_those_that_are_in_no_layer_of_their_own():
    class Token(nn.Module):
        def __init__(self, side, n_classes):
            super().__init__()
            self.token, self.last = nn.Parameter(torch.zeros(7)), nn.Linear(side**2, n_classes)

        def forward(self, x):
            return self.last(x.flatten(1)) + self.token[0]

    table = own.layers(DigitClassifier(network=Token))
    assert table["parameters"].sum() == 7 + 650


def test_a_parameter_that_the_network_does_not_use_is_left_alone(digits):
    class Spare(nn.Sequential):
        def __init__(self, side, n_classes):
            super().__init__(nn.Flatten(), nn.Linear(side**2, n_classes))
            self.spare = nn.ParameterList([nn.Parameter(torch.ones(3))])

        def forward(self, x):
            return self[1](self[0](x))

    classifier = DigitClassifier("coursework", 0, network=Spare, epochs=1)
    assert len(classifier.fit(digits.data[:200], digits.target[:200]).history_) == 1


# ---- any classifier ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run_of(digits, file, tmp_path_factory):
    """Folder and result of a run of a kind of model, made once each; do not change it."""

    @cache
    def made(kind):
        spec = file(NETWORK if kind == "network" else CLASSIFIER)
        classifier, how = own.from_file(spec, 0), {"n_splits": 2, "folds": "stratified"}
        result = cross_validate(classifier, digits.data, digits.target, **how, progress=False)
        folder, source = tmp_path_factory.mktemp(kind) / "run", own.source_of(spec)
        return runs.save(result, digits, folder, seed=0, source=source), result

    return made


@pytest.mark.parametrize("kind", ["classifier", "network"])
def test_kept_models_give_the_same_predictions_when_read_back(digits, run_of, kind):
    folder, result = run_of(kind)
    info = json.loads((folder / "run.json").read_text())
    assert (folder / "model.py").read_text() == (NETWORK if kind == "network" else CLASSIFIER)
    assert info["model"]["kind"] == ("network" if kind == "network" else "estimator")
    again = runs.load(folder, run_code=True).fitted(1).predict_proba(digits.data[:50])
    assert np.array_equal(again, result.estimators[0].predict_proba(digits.data[:50]))


def test_code_beside_a_run_is_not_executed_unasked(run_of, tmp_path):
    folder = shutil.copytree(run_of("network")[0], tmp_path / "run")
    (folder / "model.py").write_text("raise SystemExit('it ran')")
    with pytest.raises(RunError, match=r"own code, model\.py; if you trust it, .*--run-code"):
        runs.load_model(folder)


def test_a_hostile_classifier_runs_no_code_unasked(run_of, tmp_path, command):
    """Trusted estimators around a helper of NumPy that executes text."""
    folder = shutil.copytree(run_of("classifier")[0], tmp_path / "run")
    ran = tmp_path / "ran"
    text = {"fill_value": f"__import__('pathlib').Path({str(ran)!r}).touch() or 1", "dtype": "U200"}
    steps = (
        FunctionTransformer(np.full_like, kw_args=text),
        FunctionTransformer(np.vectorize(myeval)),
    )
    hostile = make_pipeline(*steps)
    hostile.transform(np.zeros((1, 64)))
    assert ran.exists(), "it would run"
    ran.unlink()
    for path in folder.glob("fold-*.skops"):
        skops.io.dump(hostile, path)
    with pytest.raises(RunError, match=r"holds numpy\.f2py\.crackfortran\.myeval, .*--run-code"):
        runs.load_model(folder)
    picture = files("digitlib") / "drawings" / "three.png"
    code, _, said = command("predict", picture, "--run", folder)
    assert code == 2 and "which could run code" in said
    assert command("check", folder, "--all")[0] == 1
    assert not ran.exists()


def test_a_fitted_classifier_of_each_honest_kind_loads_unasked(digits, tmp_path):
    tree, line = DecisionTreeClassifier(max_depth=3), LogisticRegression(max_iter=20)
    pair = [("tree", tree), ("line", line)]
    kinds = (
        *(tree, line, GaussianNB(), LinearDiscriminantAnalysis(), MLPClassifier(max_iter=2)),
        *(RandomForestClassifier(2), ExtraTreesClassifier(2), BaggingClassifier(tree, 2)),
        *(AdaBoostClassifier(n_estimators=2), HistGradientBoostingClassifier(max_iter=1)),
        *(GradientBoostingClassifier(n_estimators=1), HardVotes(SVC())),
        *(KNeighborsClassifier(algorithm="kd_tree"), KNeighborsClassifier(metric="cosine")),
        *(
            KNeighborsClassifier(algorithm="ball_tree", metric=m)
            for m in ("manhattan", "chebyshev")
        ),
        *(CalibratedClassifierCV(tree), CalibratedClassifierCV(tree, method="isotonic")),
        *(VotingClassifier(pair, voting="soft"), StackingClassifier(pair)),
        *(GridSearchCV(tree, {"max_depth": [2]}, cv=KFold(2)), OneVsRestClassifier(line)),
        GaussianProcessClassifier(RBF(3.0) + WhiteKernel(), optimizer=None, max_iter_predict=1),
        make_pipeline(StandardScaler(), PCA(5), line),
    )
    X, y = digits.data[:100], digits.target[:100]
    for number, kind in enumerate(kinds, 1):
        fitted = kind.fit(X, y)
        name, reason = own.keep(fitted, tmp_path / f"fold-{number}")
        assert reason is None, kind
        again = own.load_fold(tmp_path / name, runs.Run(*[None] * 8))
        assert np.array_equal(again.predict_proba(X), fitted.predict_proba(X)), kind


NET = "from torch import nn\nfrom digitlib import DigitClassifier\nNet = nn.Linear(64, 10)\n"
WRONG = {
    "def model(seed)\n    pass": "line 1: SyntaxError",
    "def other(seed):\n    return 1": "has no function model",
    "def model(seed):\n    return 1 / 0": "line 2: ZeroDivisionError: division by zero",
    "def model(seed):\n    return 1": r"model\(seed\) returned int; it takes a classifier",
    "def model(seed):\n    1": r"model\(seed\) returned nothing: is a return missing\?",
    "import no_such_module\ndef model(seed): pass": "line 1: ModuleNotFoundError",
    f"{NET}def model(seed):\n    return Net": r'goes into DigitClassifier\("cou',
    f"{NET}def model(seed):\n    return DigitClassifier(network=Net)": r"not Linear\(\.\.\.\)",
}


@pytest.mark.parametrize("text", WRONG)
def test_a_file_that_gives_no_classifier_gets_one_line_with_file_and_line(file, text):
    spec = file(text)
    with pytest.raises(ParameterError, match=WRONG[text]) as caught:
        own.from_file(spec, 0)
    assert str(caught.value).startswith(spec) and "\n" not in str(caught.value)


class Unkept(KNeighborsClassifier):
    """Of a test, and with a part that has no name."""

    def fit(self, X, y):
        self.part = lambda: 0
        return super().fit(X, y)


def test_a_model_that_cannot_be_kept_is_a_run_that_says_so(digits, tmp_path):
    result = cross_validate(Unkept(1), digits.data, digits.target, n_splits=2, progress=False)
    run = runs.load(runs.save(result, digits, tmp_path / "run", seed=0))
    assert run.info["model"]["files"] == [] and "<lambda>" in run.info["model"]["unkept"]
    with pytest.raises(RunError, match="its models could not be kept"):
        run.ensemble()


# ---- reports, made by the command on the page of a run, handed in and judged --------------------


@pytest.fixture(scope="module")
def report(run_of, tmp_path_factory):
    """A run of an own network; the report that the command on that run's page makes."""
    run, folder = run_of("network")[0], tmp_path_factory.mktemp("network")
    again = shutil.copytree(run, folder / "reports" / "mine")
    page = index.write_index(again, "mine").read_text()
    command = re.search(r'class="command"><code>python -m digitlib (.*?)</code>', page)[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(os, "environ", os.environ.copy())
        with pytest.raises(SystemExit) as end:
            cli.main(shlex.split(html.unescape(command)))
    assert end.value.code in (0, None)
    assert command in (again / "index.html").read_text()
    return run, again


WORDS = "own network Residual, trained as coursework, changed: epochs 1 (10)"


def test_the_command_on_the_page_makes_the_same_predictions_and_pages_that_say_of_what(report):
    run, again = report
    name = "predictions.csv"
    assert (again / name).read_bytes() == (run / name).read_bytes()
    pages = sorted(again.glob("*.html"))
    assert len(pages) == 5  # to draw takes a network of ours
    assert all(WORDS in one.read_text() for one in [*pages, again.parent / "index.html"])


# ---- in a notebook -------------------------------------------------------------------------------


def run_notebook(folder, *cells):
    """2_train with these cells in place of the one tagged "model", run by a real kernel."""
    book = nbformat.read(notebook_folder() / "2_train.ipynb", 4)
    at = next(i for i, c in enumerate(book.cells) if "model" in c.metadata.get("tags", ()))
    book.cells[at : at + 1] = [nbformat.v4.new_code_cell(cell.strip()) for cell in cells]
    nbformat.write(book, folder / "2_train.ipynb")
    forks.prepare_environment(folder)
    values = {"source": "sklearn", "splits": 2, "seed": 5, "run": "run"}
    kernels.run(folder / "2_train.ipynb", folder / "done.ipynb", values, folder)
    return runs.load(folder / "run", run_code=True)


def test_a_model_written_in_the_notebook_is_kept_as_a_file_that_makes_it(digits, tmp_path):
    definitions, line = NETWORK.split("def model(seed):")
    last = "classifier.set_params(epochs=2)  # belongs to the cell"
    run = run_notebook(tmp_path, definitions, line.replace("    return", "classifier =") + last)
    assert (run.info["model"]["kind"], run.info["model"]["name"]) == ("network", "Residual")
    assert run.info["model"]["differs"] is None and run.info["recipe"]["epochs"] == 2
    classifier = own.from_file(str(tmp_path / "run" / "model.py"), 5)
    again = cross_validate(classifier, digits.data, digits.target, n_splits=2, progress=False)
    assert np.allclose(again.probabilities, run.probabilities, atol=1e-8)


def test_a_model_that_a_later_cell_changes_is_found_to_differ(tmp_path):
    made = (
        "from sklearn.neighbors import KNeighborsClassifier\nclassifier = KNeighborsClassifier(1)"
    )
    run = run_notebook(tmp_path, made, "classifier.set_params(n_neighbors=9)")
    assert run.info["model"]["differs"] == "n_neighbors is 1 there, 9 was used"
    page = (tmp_path / "done.ipynb").read_text()
    assert "does not make the model that was used" in page
