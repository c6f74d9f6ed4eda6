"""Your own model: from a file or a notebook's cells to a classifier, and back from a run folder.

A run that was made with code of the user's keeps that code beside it as ``model.py``: a file whose
function takes a seed and returns the classifier. Reading a run never executes it unless asked to.
"""

import ast
import hashlib
import importlib.util
import sys
import traceback
from pathlib import Path

import pandas as pd

from digitlib import model
from digitlib.classifier import DigitClassifier
from digitlib.errors import ParameterError, RunError, plain
from digitlib.provenance import FUNCTION, defined_in, split_spec

# What a kept classifier may hold beside the types that skops itself trusts: classes of honest
# models of scikit-learn, and our own. Never functions: some of those in NumPy execute text.
SAFE = {
    f"{module}.{name}"
    for module, names in {
        "digitlib.compare": "HardVotes",
        "sklearn.calibration": "_CalibratedClassifier _SigmoidCalibration _TemperatureScaling",
        "sklearn.ensemble._hist_gradient_boosting.predictor": "TreePredictor",
        "sklearn.gaussian_process._gpc": "_BinaryGaussianProcessClassifierLaplace",
        "sklearn.gaussian_process.kernels": "CompoundKernel ConstantKernel DotProduct"
        " ExpSineSquared Exponentiation Matern Product RBF RationalQuadratic Sum WhiteKernel",
        "sklearn.metrics._dist_metrics": "ChebyshevDistance64 EuclideanDistance64"
        " HammingDistance64 ManhattanDistance64 MinkowskiDistance64 SEuclideanDistance64",
        "sklearn.metrics._scorer": "_PassthroughScorer",
        "sklearn.model_selection._search_successive_halving": "HalvingGridSearchCV"
        " HalvingRandomSearchCV",
        "sklearn.model_selection._split": "GroupKFold KFold LeaveOneOut PredefinedSplit"
        " RepeatedKFold RepeatedStratifiedKFold ShuffleSplit StratifiedKFold"
        " StratifiedShuffleSplit",
        "sklearn.neighbors._ball_tree": "BallTree BallTree64",
        "sklearn.neighbors._kd_tree": "KDTree KDTree64",
        "sklearn.neural_network._stochastic_optimizers": "AdamOptimizer SGDOptimizer",
        "sklearn.tree._tree": "Tree",
        "sklearn.utils._bunch": "Bunch",
    }.items()
    for name in names.split()
}


def from_file(spec, seed):
    """The classifier that the function of a user's file returns for `seed`; runs the file.

    Parameters
    ----------
    spec : str
        ``"my_model.py"`` or ``"my_model.py:name"``.
    seed : int

    Raises
    ------
    ParameterError
        The file or its function fails, or what it returns is no classifier with probabilities.
    """
    path, name = split_spec(spec)
    try:
        classifier = getattr(_module(path), name)(seed)
    except Exception as error:
        frames = [
            f
            for f in traceback.extract_tb(error.__traceback__)
            if f.filename == str(path.resolve())
        ]
        line = f", line {frames[-1].lineno}" if frames else ""
        said = [*str(error).splitlines(), ""][0]
        raise ParameterError(f"{path}{line}: {type(error).__name__}: {said}") from error
    if isinstance(classifier, type) or not hasattr(classifier, "fit"):
        raise ParameterError(
            f"{path}: {name}(seed) returned {type(classifier).__name__}, not a classifier with fit"
            " and predict_proba"
        )
    return classifier


def _module(path):
    """The module in a file, under a name that follows from its text."""
    name = f"model_{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}"
    if name not in sys.modules:
        where = importlib.util.spec_from_file_location(name, path.resolve())
        module = importlib.util.module_from_spec(where)
        sys.modules[name] = module  # as import does: what it defines can be found again by name
        try:
            where.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]


# ---- what a notebook defines ---------------------------------------------------------------------


def source_of(spec="", variable="classifier"):
    """Text of the file that makes the classifier: the user's file, or written from a notebook.

    Of the cells that were run, the last line that assigns `variable` is taken, with all that it
    needs: imports, functions, classes, simple assignments.

    Parameters
    ----------
    spec : str
        As for :func:`from_file`; empty: from the notebook that runs this.
    variable : str

    Returns
    -------
    str or None
        None outside a notebook.
    """
    if spec:
        path, name = split_spec(spec)
        text = path.read_text(encoding="utf-8")
        return text if name == FUNCTION else f"{text}\n\n{FUNCTION} = {name}\n"
    # Where nothing has imported IPython, this is no notebook; to import it here takes a while.
    shell = "IPython" in sys.modules and sys.modules["IPython"].get_ipython()
    if not shell:
        return None
    defined, text = {}, {}
    for cell in shell.user_ns.get("In", ()):
        try:
            tree = ast.parse(shell.transform_cell(cell))
        except SyntaxError:
            continue
        lines = shell.transform_cell(cell).splitlines()
        for name, node in defined_in(tree).items():
            defined[name] = node
            first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))])
            text[name] = "\n".join(lines[first - 1 : node.end_lineno])
    if variable not in defined:
        return None
    needed = _needed(defined, defined.pop(variable), {"seed"})
    parts = list(dict.fromkeys(text[name] for name in defined if name in needed))
    made = text[variable].replace("\n", "\n    ")
    return "\n".join(
        [*parts, "", "", f"def {FUNCTION}(seed):", f"    {made}", f"    return {variable}", ""]
    )


def _needed(defined, node, known):
    """Names among `defined` that a statement needs, directly or through others."""
    found, waiting = set(), [node]
    while waiting:
        for part in ast.walk(waiting.pop()):
            name = part.id if isinstance(part, ast.Name) else None
            if name in defined and name not in found | known:
                found.add(name)
                waiting.append(defined[name])
    return found


# ---- fitted classifiers on disk ------------------------------------------------------------------


def _skops():
    # Takes over half a second to import, and only classifiers of other libraries need it.
    import skops.io

    return skops.io


def keep(estimator, path):
    """Write a fitted classifier of any library as ``path`` with the ending skops.

    Returns
    -------
    str or None
        Why it could not be kept in a form that can be read back; None if it was.
    """
    path = Path(path).with_suffix(".skops")
    try:
        _skops().dump(estimator, path)
        _skops().load(path, trusted=_skops().get_untrusted_types(file=path))
    except Exception as error:
        path.unlink(missing_ok=True)
        return f"{type(error).__name__}: {[*str(error).splitlines(), ''][0][:200]}"
    return None


def made_by(folder, seed, run_code=False):
    """The classifier, not fitted, that the ``model.py`` of a run folder makes for `seed`."""
    if not run_code:
        raise _refused(folder)
    return from_file(str(folder / "model.py"), seed)


def _refused(folder):
    return RunError(
        f"{folder}: its model is the user's own (model.py), and reading it would run that code; if"
        " you trust it, allow it: run_code=True, on the command line --run-code"
    )


def load_fold(folder, number, seed, kind, run_code=False):
    """The fitted classifier of a fold of a run that was made with the user's own model.

    Raises
    ------
    RunError
        It was not kept, is damaged, or needs the code in ``model.py`` and `run_code` is False.
    """
    path = folder / f"fold-{number}.{'safetensors' if kind == 'network' else 'skops'}"
    if not path.is_file():
        raise RunError(f"{path}: not there: this model could not be kept; train again to have it")
    if kind == "network":
        return DigitClassifier.load(path, network=made_by(folder, seed, run_code).network)
    try:
        types = _skops().get_untrusted_types(file=path)
        if strange := sorted(set(types) - SAFE):
            if not run_code:
                raise RunError(
                    f"{path}: holds {plain(', '.join(strange), 200)}, which could run code; if you"
                    " trust it, allow it: run_code=True, on the command line --run-code"
                )
            if (folder / "model.py").is_file():
                _module(folder / "model.py")
        return _skops().load(path, trusted=types)
    except RunError:
        raise
    except Exception as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise RunError(f"{path}: cannot be read ({said}); train again") from error


# ---- for the pages -------------------------------------------------------------------------------


def describe(classifier):
    """A sentence on a classifier that is not fitted."""
    if not isinstance(classifier, DigitClassifier):
        return f"Own classifier: {classifier!r}."
    recipe = classifier.settings()
    changed = [f"{name} {value} ({usual})" for name, (value, usual) in recipe.changes().items()]
    words = f"{recipe.name}, changed: {', '.join(changed)}." if changed else recipe.name + ":"
    if classifier.network is not None:
        name = getattr(classifier.network, "__name__", type(classifier.network).__name__)
        return f"Own network {name}, trained as {words.rstrip(':')}"
    return words if changed else f"{words} {recipe.summary}"


def settings_table(classifier):
    """Settings of a classifier and their values: a DataFrame."""
    if isinstance(classifier, DigitClassifier):
        settings = classifier.settings().as_dict().items()
    else:
        settings = sorted(classifier.get_params().items())
    shown = [(name, v if isinstance(v, str) else repr(v)) for name, v in settings]
    rows = [pair for pair in shown if pair[0] not in ("name", "summary")]
    return pd.DataFrame(rows, columns=["setting", "value"]).set_index("setting")


def layers(classifier, side=8, n_classes=10):
    """Layers of a classifier's network with output shapes and parameters; None if it has none."""
    if not isinstance(classifier, DigitClassifier):
        return None
    table = model.parameter_table(classifier.blank_network(side, n_classes), side)
    return pd.DataFrame(table).set_index("layer")
